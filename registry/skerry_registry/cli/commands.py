"""What the command line offers: every command, its options and its help."""

# ruff: noqa: PLC0415, PLR0917 - a command imports what it needs, so that --help is quick; its parameters are its options

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skerry_registry.cli.moving_commands import moving_app
from skerry_registry.cli.mqtt_commands import audit, mqtt_app
from skerry_registry.cli.options import (
    Config,
    DataDir,
    HttpHost,
    HttpPort,
    LoginPassword,
    LoginUser,
    MqttPort,
    MqttUrl,
    Roles,
    Url,
)
from skerry_registry.cli.policy_commands import policy_app
from skerry_registry.cli.token_commands import token_app

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Digital twins of wind farms, compatible with Eclipse Ditto.\n\nTry [bold]skerry demo[/] first: a live farm on this machine.",
)
user_app = typer.Typer(no_args_is_help=True, help="The users who may log in over HTTP and MQTT.")
dead_app = typer.Typer(
    no_args_is_help=True, help="MQTT messages that could not be taken in: list them, send them again."
)
app.add_typer(user_app, name="user")
app.add_typer(token_app, name="token")
app.add_typer(policy_app, name="policy")
app.add_typer(dead_app, name="dead-letters")
app.add_typer(moving_app)
app.add_typer(mqtt_app, name="mqtt")


@app.command()
def serve(
    config: Config = None,
    data_dir: DataDir = None,
    http_host: HttpHost = None,
    http_port: HttpPort = None,
    mqtt_port: MqttPort = None,
    mqtt_url: MqttUrl = None,
) -> None:
    """Run the server until Ctrl-C.

    It needs a user first: [bold]skerry user add NAME[/].

    [bold]Examples[/]

      skerry serve --config compose/ditto-defaults.toml

      SKERRY_HTTP_PORT=9000 skerry serve --data-dir /var/lib/skerry
    """
    from skerry_registry.cli import serving
    from skerry_registry.cli.given import settings_of

    serving.serve(
        settings_of(
            config, data_dir=data_dir, http_host=http_host, http_port=http_port, mqtt_port=mqtt_port, mqtt_url=mqtt_url
        )
    )


@app.command()
def demo(
    config: Config = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="FOLDER", help="The demo's own data folder; ./data/demo otherwise."),
    ] = None,
    http_port: HttpPort = None,
    mqtt_port: MqttPort = None,
    turbines: Annotated[int, typer.Option("--turbines", "-n", min=1, max=5000, help="How many turbines.")] = 25,
    seed: Annotated[int, typer.Option(help="The weather's seed.")] = 1,
) -> None:
    """A live wind farm on this machine: a server with Ditto's demo accounts, and a simulator that publishes over MQTT.

    Loopback only, because everybody knows its passwords. Ctrl-C ends it, and nothing stays running.

    [bold]Examples[/]

      skerry demo

      skerry demo --turbines 200 --http-port 9090 --mqtt-port 2883
    """
    from skerry_registry.cli import demo as demonstration

    demonstration.demo(
        config, data_dir=data_dir, http_port=http_port, mqtt_port=mqtt_port, turbines=turbines, seed=seed
    )


@app.command()
def simulate(
    config: Config = None,
    turbines: Annotated[int, typer.Option("--turbines", "-n", min=1, max=5000, help="How many turbines.")] = 25,
    interval: Annotated[float, typer.Option("--interval", min=0.01, help="Seconds between a turbine's records.")] = 1.0,
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=0.0001, max=100, help="Records per second and turbine, instead of --interval."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed and start give the same records.")] = 1,
    duration: Annotated[float | None, typer.Option(min=0.01, help="Seconds to simulate; for ever otherwise.")] = None,
    speed: Annotated[
        float,
        typer.Option(
            min=0.001, help="Simulated seconds per second; above 1 it ends at the present and needs --duration."
        ),
    ] = 1.0,
    history: Annotated[float, typer.Option(min=0, help="Seconds of the past to send first, as fast as it goes.")] = 0.0,
    start: Annotated[
        str | None,
        typer.Option(help="The first record's time, ISO 8601 (UTC where it names no zone); now otherwise."),
    ] = None,
    namespace: Annotated[str, typer.Option(help="Namespace of the turbines' ids.")] = "demo",
    farm: Annotated[str, typer.Option(help="The farm's name.")] = "Skerry Bank",
    model: Annotated[str, typer.Option(help="Reference turbine: iea-3.4, nrel-5, iea-10 or iea-15.")] = "iea-3.4",
    mean_wind: Annotated[float, typer.Option(min=0, max=40, help="Mean wind, m/s.")] = 7.5,
    wind_direction: Annotated[float, typer.Option(min=0, max=360, help="Prevailing wind direction, degrees.")] = 250.0,
    faults: Annotated[float, typer.Option(min=0, help="Faults per turbine and day.")] = 2.0,
    outages: Annotated[
        float, typer.Option(min=0, help="Link outages per turbine and day; their records come late.")
    ] = 2.0,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share of records that are sent twice.")] = 0.001,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what was sent, and how, as lines of JSON.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the summary.")] = False,
    mqtt_url: MqttUrl = None,
    user: LoginUser = None,
    password: LoginPassword = None,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Simulate a wind farm that publishes over MQTT, as real turbines would.

    A seeded wind blows over published reference turbines with wakes, faults, link outages, late and duplicate records.
    The things are made first. Server and login come from the same settings as [bold]skerry serve[/].

    [bold]Examples[/]

      skerry simulate --user ditto --password ditto

      skerry simulate --turbines 5000 --truth truth.jsonl --duration 60

      skerry simulate --duration 86400 --interval 60 --speed 1000 --model iea-15
    """
    from skerry_adapters.farm.simulate import Scene
    from skerry_registry.cli import farm as farming
    from skerry_registry.cli.given import settings_of

    scene = Scene(
        turbines=turbines,
        seed=seed,
        namespace=namespace,
        farm=farm,
        model=model,
        interval=1 / rate if rate else interval,
        duration=duration,
        history=history,
        speed=speed,
        mean_wind=mean_wind,
        wind_direction=wind_direction,
        faults_per_day=faults,
        outages_per_day=outages,
        duplicates=duplicates,
    )
    settings = settings_of(config, mqtt_url=mqtt_url, login_user=user, login_password=password)
    farming.simulate(scene, settings, start=start, truth=truth, quiet=quiet, parent=parent)


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv|zip", help="A wide SCADA file, or a zip of them.")],
    config: Config = None,
    preset: Annotated[str | None, typer.Option(help="How the columns are named: flasc, or none and --pattern.")] = None,
    pattern: Annotated[str, typer.Option(help="A turbine's columns, where there is no preset.")] = "{signal}_{turbine}",
    signal: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PROPERTY",
            help="What a signal is called as a property; repeatable. Only these are turbines' signals then.",
        ),
    ] = None,
    time_column: Annotated[str, typer.Option(help="The column of UTC times.")] = "time",
    speed: Annotated[
        str, typer.Option(metavar="max|FACTOR", help="As fast as it is acknowledged, or so many times real time.")
    ] = "max",
    namespace: Annotated[str | None, typer.Option(help="Namespace of the ids; the preset's name otherwise.")] = None,
    farm: Annotated[str | None, typer.Option(help="The farm's name; the file's otherwise.")] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew instead of where the last run stopped.")
    ] = False,
    window: Annotated[
        int, typer.Option(min=1, max=10000, help="How many records may wait for their acknowledgement.")
    ] = 500,
    data_dir: DataDir = None,
    mqtt_url: MqttUrl = None,
    user: LoginUser = None,
    password: LoginPassword = None,
) -> None:
    """Publish a wide SCADA file over MQTT, each record at its own time, into the history of its turbines.

    The farm's things are made first. Ctrl-C or a crash keeps the place (in the data folder); the same command goes on there.

    [bold]Examples[/]

      skerry replay raw_artificial_data.zip --preset flasc --speed max

      skerry replay scada.csv --pattern "{turbine}.{signal}" --signal P=power --signal V=wind --speed 60
    """
    from skerry_registry.cli import farm as farming
    from skerry_registry.cli.given import settings_of

    settings = settings_of(config, data_dir=data_dir, mqtt_url=mqtt_url, login_user=user, login_password=password)
    farming.replay(
        file,
        farming.preset_of(preset, pattern, signal or [], time_column),
        settings,
        speed=speed,
        namespace=namespace,
        farm=farm,
        restart=restart,
        window=window,
    )


@app.command()
def watch(
    config: Config = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "--namespaces", help="Only things of this namespace; several by commas."),
    ] = None,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two drawings of the table.")] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print one table and leave, as is done where the output is no terminal.")
    ] = False,
    events: Annotated[bool, typer.Option("--events", "-e", help="Print a line for each change instead.")] = False,
    rql: Annotated[
        str | None, typer.Option("--filter", metavar="RQL", help="Only changes for which this holds; a line for each.")
    ] = None,
    extra: Annotated[
        str | None,
        typer.Option(
            "--extra-fields",
            metavar="FIELDS",
            help="What else of the thing to tell with each change; a filter sees it too.",
        ),
    ] = None,
    messages: Annotated[bool, typer.Option("--messages", help="Messages to and from the things as well.")] = False,
    after: Annotated[
        int | None, typer.Option(min=0, help="Begin after this number of the journal; 0 is the oldest that is kept.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Each line as it came: an envelope of the Ditto Protocol.")
    ] = False,
    count: Annotated[int | None, typer.Option(min=1, help="Leave after so many lines.")] = None,
    url: Url = None,
    user: LoginUser = None,
    password: LoginPassword = None,
) -> None:
    """A live table of the farm in the terminal: power, wind, status and age of each turbine. Or a line for each change.

    It follows over the WebSocket. A connection that breaks is opened again, and the lines go on where they were.

    [bold]Examples[/]

      skerry watch --user ditto --password ditto

      skerry watch --once --namespace flasc

      skerry watch --filter 'gt(features/scada/properties/power,3000)' --extra-fields features/scada/properties

      skerry watch --messages --json
    """
    from skerry_registry.cli import happenings
    from skerry_registry.cli import watch as watching
    from skerry_registry.cli.following import Wish
    from skerry_registry.cli.given import client_of, settings_of

    client = client_of(settings_of(config, login_user=user, login_password=password), url)
    if events or messages or as_json or count is not None or any(text is not None for text in (rql, extra, after)):
        wish = Wish(namespaces=namespace, filter=rql, extra=extra, messages=messages, after=after)
        happenings.tell(client, wish, as_json=as_json, count=count)
    else:
        watching.watch(client, namespaces=namespace, interval=interval, once=once)


@app.command()
def check(
    config: Config = None,
    data_dir: DataDir = None,
    docs: Annotated[bool, typer.Option("--docs", help="Print docs/configuration.md instead.")] = False,
) -> None:
    """Check settings and files without starting anything; exits with 2 where [bold]serve[/] would refuse.

    [bold]Examples[/]

      skerry check --config skerry.toml

      skerry check --docs > docs/configuration.md
    """
    from skerry_registry.cli import check as checking
    from skerry_registry.cli.given import settings_of

    if docs:
        typer.echo(checking.document(), nl=False)
    else:
        checking.check(settings_of(config, data_dir=data_dir), config)


@app.command()
def routes() -> None:
    """The HTTP routes that the server answers."""
    from skerry_registry.cli import tables

    tables.routes()


@app.command()
def errors() -> None:
    """The errors that callers may see: status, code, message."""
    from skerry_registry.cli import tables

    tables.errors()


@app.command()
def version() -> None:
    """The version, and those of Python and the stores."""
    from skerry_registry.cli import tables

    tables.version()


Name = Annotated[str, typer.Argument(help="The user's name.")]
UserFile = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="The users file; from the settings otherwise.")
]
Stdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]
NewPassword = Annotated[
    str | None,
    typer.Option(
        "--password", "-p", help="The password. Other users of the machine may see it; better be asked for it."
    ),
]


@user_app.command("add")
def user_add(
    name: Name,
    password: NewPassword = None,
    password_stdin: Stdin = False,
    role: Roles = None,
    config: Config = None,
    data_dir: DataDir = None,
    file: UserFile = None,
) -> None:
    """Add a user, whose subject is then nginx:NAME; asks for the password.

    [bold]Examples[/]

      skerry user add ditto

      pass show skerry | skerry user add ops --role devops --password-stdin
    """
    from skerry_registry.cli import users

    users.tell_folder(config, data_dir, file)
    users.add(users.users_of(config, data_dir, file), name, users.secret(password, password_stdin), [*(role or [])])


@user_app.command("password")
def user_password(
    name: Name,
    password: NewPassword = None,
    password_stdin: Stdin = False,
    config: Config = None,
    data_dir: DataDir = None,
    file: UserFile = None,
) -> None:
    """Give a user a new password; roles stay.

    [bold]Example[/]: skerry user password ditto
    """
    from skerry_registry.cli import users

    users.change(users.users_of(config, data_dir, file), name, lambda: users.secret(password, password_stdin))


@user_app.command("role")
def user_role(
    name: Name, role: Roles = None, config: Config = None, data_dir: DataDir = None, file: UserFile = None
) -> None:
    """Give a user these roles and no others, none without --role; the password stays.

    [bold]Example[/]: skerry user role ops --role devops --role status
    """
    from skerry_registry.cli import users

    users.give_roles(users.users_of(config, data_dir, file), name, [*(role or [])])


@user_app.command("remove")
def user_remove(name: Name, config: Config = None, data_dir: DataDir = None, file: UserFile = None) -> None:
    """Remove a user; a running server notices.

    [bold]Example[/]: skerry user remove ditto
    """
    from skerry_registry.cli import users

    users.tell_folder(config, data_dir, file)
    users.remove(users.users_of(config, data_dir, file), name)


@user_app.command("list")
def user_list(config: Config = None, data_dir: DataDir = None, file: UserFile = None) -> None:
    """List the users and their roles.

    [bold]Example[/]: skerry user list --config compose/ditto-defaults.toml
    """
    from skerry_registry.cli import users

    users.show(users.users_of(config, data_dir, file))


Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many, the newest.")]


@dead_app.command("list")
def dead_letters_list(
    config: Config = None,
    data_dir: DataDir = None,
    limit: Limit = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Lines of JSON, with the payloads.")] = False,
) -> None:
    """List the dead letters: time, topic, reason.

    [bold]Example[/]: skerry dead-letters list --data-dir data
    """
    from skerry_registry.cli import dead_letters
    from skerry_registry.cli.given import settings_of

    dead_letters.show(settings_of(config, data_dir=data_dir), limit, as_json=as_json)


@dead_app.command("replay")
def dead_letters_replay(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Which; all otherwise.")] = None,
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Ask the server, running or to be started, to take dead letters in again.

    [bold]Examples[/]

      skerry dead-letters replay

      skerry dead-letters replay 17 18
    """
    from skerry_registry.cli import dead_letters
    from skerry_registry.cli.given import settings_of

    dead_letters.replay(settings_of(config, data_dir=data_dir), ids or [])


app.command("audit")(audit)
