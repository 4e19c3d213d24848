"""`skerry policy`: its commands, their options and their help."""

# ruff: noqa: PLC0415, PLR0917 - a command imports what it needs, so that --help is quick; its parameters are its options

from __future__ import annotations

from typing import Annotated

import typer

from skerry_registry.cli.options import Config, LoginPassword, LoginUser, Url

policy_app = typer.Typer(
    no_args_is_help=True, help="Who may do what on a running server, why, and what a change would change."
)
PolicyId = Annotated[str, typer.Argument(metavar="POLICY", help="Id of the policy, namespace:name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the server's answer as it is.")]


@policy_app.command("explain")
def policy_explain(
    policy: PolicyId,
    permission: Annotated[str, typer.Argument(metavar="PERMISSION", help="READ, WRITE, EXECUTE or READ_TS.")],
    resource: Annotated[str, typer.Argument(metavar="RESOURCE", help="Such as thing:/attributes/x or policy:/.")],
    subjects: Annotated[
        list[str], typer.Argument(metavar="SUBJECT...", help="All subjects of the caller in question.")
    ],
    thing: Annotated[
        str | None,
        typer.Option("--thing", metavar="ID", help="Which thing it is about, where entries are for some namespaces."),
    ] = None,
    json: AsJson = False,
    config: Config = None,
    url: Url = None,
    user: LoginUser = None,
    password: LoginPassword = None,
) -> None:
    """Say whether somebody may do something under a policy, which entry decides, what is missing and who could give it.

    Exits with 1 where it is not granted.

    [bold]Examples[/]

      skerry policy explain demo:fleet WRITE thing:/features/scada nginx:operator

      skerry policy explain demo:fleet READ policy:/ ditto:user2 ditto:group-7 --json
    """
    from skerry_registry.cli import policy as asking
    from skerry_registry.cli.given import client_of, settings_of

    client = client_of(settings_of(config, login_user=user, login_password=password), url)
    asked = asking.asked(subjects, resource, permission, thing)
    if not asking.explain(client, policy, asked, as_json=json):
        raise typer.Exit(1)


@policy_app.command("simulate")
def policy_simulate(
    policy: PolicyId,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The policy as it would be, JSON; - for standard input.")],
    json: AsJson = False,
    config: Config = None,
    url: Url = None,
    user: LoginUser = None,
    password: LoginPassword = None,
) -> None:
    """Say who would gain or lose what, on which things, if a policy were as a file says. Nothing is changed.

    [bold]Examples[/]

      skerry policy simulate demo:fleet changed.json

      curl -su ditto:ditto localhost:8080/api/2/policies/demo:fleet | jq 'del(.entries.guests)' | skerry policy simulate demo:fleet -
    """
    from skerry_registry.cli import policy as asking
    from skerry_registry.cli.given import client_of, settings_of

    client = client_of(settings_of(config, login_user=user, login_password=password), url)
    asking.simulate(client, policy, asking.document(file), as_json=json)


@policy_app.command("access")
def policy_access(
    thing: Annotated[str, typer.Argument(metavar="THING", help="Id of the thing, namespace:name.")],
    json: AsJson = False,
    config: Config = None,
    url: Url = None,
    user: LoginUser = None,
    password: LoginPassword = None,
) -> None:
    """Every subject with what it may do with a thing.

    [bold]Example[/]: skerry policy access demo:T01 --user ditto --password ditto
    """
    from skerry_registry.cli import policy as asking
    from skerry_registry.cli.given import client_of, settings_of

    asking.access(client_of(settings_of(config, login_user=user, login_password=password), url), thing, as_json=json)


@policy_app.command("list")
def policy_list(
    namespace: Annotated[list[str] | None, typer.Option("--namespace", "-n", help="Only these; repeatable.")] = None,
    subject: Annotated[
        str | None,
        typer.Option("--subject", "-s", help="Only policies that name it; * and ? stand for any characters."),
    ] = None,
    resource: Annotated[
        str | None, typer.Option("--resource", "-r", help="Only policies that speak of it or of anything below.")
    ] = None,
    json: AsJson = False,
    config: Config = None,
    url: Url = None,
    user: LoginUser = None,
    password: LoginPassword = None,
) -> None:
    """The policies that you may read: all, or those that are sought.

    [bold]Examples[/]

      skerry policy list --subject "nginx:*"

      skerry policy list --namespace demo --resource thing:/features/scada
    """
    from skerry_registry.cli import policy as asking
    from skerry_registry.cli.given import client_of, settings_of

    client = client_of(settings_of(config, login_user=user, login_password=password), url)
    asking.listing(client, namespace or [], subject, resource, as_json=json)
