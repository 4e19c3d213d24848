"""`skerry mqtt` and `skerry audit`: their options and their help."""

# ruff: noqa: PLC0415, PLR0917 - a command imports what it needs, so that --help is quick; its parameters are its options

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skerry_registry.cli.options import Config, DataDir, LoginPassword, LoginUser, Url

mqtt_app = typer.Typer(no_args_is_help=True, help="MQTT brokers other than the embedded one.")


@mqtt_app.callback()
def mqtt() -> None:
    """MQTT brokers other than the embedded one."""


@mqtt_app.command("acl")
def mqtt_acl(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it there instead of printing it.")
    ] = None,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Print an ACL file for Mosquitto with the rights that policies give at the embedded broker.

    It is made from the users, policies and things of the data folder, beside a running server or without one. Make it
    again when one of them changes, and have Mosquitto read it again (SIGHUP).

    [bold]Examples[/]

      skerry mqtt acl --data-dir data

      skerry mqtt acl --config skerry.toml --out /etc/mosquitto/acl && pkill -HUP mosquitto
    """
    from skerry_registry.cli import mqtt as acls
    from skerry_registry.cli.given import settings_of

    acls.acl(settings_of(config, data_dir=data_dir), out)


def audit(
    thing: Annotated[str | None, typer.Option("--thing", metavar="ID", help="Only of this thing.")] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="ID", help="Only what was decided under this policy.")
    ] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Only of this subject, as nginx:ditto.")] = None,
    outcome: Annotated[str | None, typer.Option("--outcome", help="Only what was changed, or refused.")] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From then on: now-1d, RFC 3339.")] = None,
    before: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before then.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many, the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Lines of JSON.")] = False,
    config: Config = None,
    url: Url = None,
    user: LoginUser = None,
    password: LoginPassword = None,
) -> None:
    """Who changed or was refused what, when, from where: of the entities whose policies you may write; devops sees all.

    [bold]Examples[/]

      skerry audit --thing demo:T01 --user ditto --password ditto

      skerry audit --outcome refused --from now-1d --json --user devops
    """
    from skerry_registry.cli import audit as trail
    from skerry_registry.cli.given import client_of, settings_of

    asked = {"thing": thing, "policy": policy, "subject": subject, "outcome": outcome, "from": since, "to": before}
    settings = settings_of(config, login_user=user, login_password=password)
    trail.show(client_of(settings, url), {name: text for name, text in asked.items() if text}, limit, as_json=as_json)
