"""The demo: a server with Ditto's public accounts on the loopback, and a simulated farm beside it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from msgspec import structs
from rich.console import Console

from skerry.errors import SkerryError
from skerry_adapters.broker.server import BrokerNotListening
from skerry_adapters.farm.layout import names_of
from skerry_registry.cli import serving
from skerry_registry.cli.given import called, settings_of
from skerry_registry.http.server import PortTaken
from skerry_registry.settings import Settings, users_path
from skerry_registry.users import Users

if TYPE_CHECKING:
    from skerry_registry.app import Running

ACCOUNTS = (("ditto", "ditto", ()), ("devops", "foobar", ("devops",)))
HISTORY = 900


class DemoPortTaken(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """A port that the demo wants is another program's."""

    code: ClassVar[str] = "demo.port.taken"
    status: ClassVar[int] = 500
    message: ClassVar[str] = "{reason}"
    description: ClassVar[str | None] = (
        "Stop what listens there (another demo?), or take other ports: skerry demo --http-port 9090 --mqtt-port 2883"
    )


def demo(
    config: Path | None,
    *,
    data_dir: Path | None,
    http_port: int | None,
    mqtt_port: int | None,
    turbines: int,
    seed: int,
) -> None:
    """Run server and simulator until Ctrl-C or SIGTERM; the simulator does not outlive us."""
    console = Console()
    settings = settings_of(config, data_dir=data_dir, http_port=http_port, mqtt_port=mqtt_port)
    if settings.data_dir == Settings().data_dir:
        settings = structs.replace(settings, data_dir=str(Path(settings.data_dir) / "demo"))
    settings = structs.replace(
        settings,
        http_host="127.0.0.1",
        mqtt_host="127.0.0.1",
        mqtt_url=None,
        users_file=None,
        login_user=ACCOUNTS[0][0],
        login_password=ACCOUNTS[0][1],
        log_level="WARNING" if settings.log_level == "INFO" else settings.log_level,
    )
    fresh = not Path(settings.data_dir).exists()
    users = Users.load(users_path(settings))
    for name, password, roles in ACCOUNTS:
        if name not in users.names():
            users.add(name, password, roles)
    console.print(f"Starting a farm of {turbines} turbines; data in {settings.data_dir} …", highlight=False)
    children: list[subprocess.Popen[bytes]] = []
    minding: list[asyncio.Task[None]] = []

    def ready(running: Running) -> None:
        children.append(_simulator(running, settings, turbines, seed, HISTORY if fresh else 0))
        minding.append(asyncio.get_running_loop().create_task(_mind(children[0], console, settings)))
        console.print(_screen(running, settings, turbines), highlight=False, soft_wrap=True)

    def end() -> None:
        for task in minding:
            task.get_loop().call_soon_threadsafe(task.cancel)
        for child in children:
            _end(child)

    try:
        serving.run(settings, ready, before_stop=end)
    except (PortTaken, BrokerNotListening) as error:
        raise DemoPortTaken(reason=error.text) from error
    finally:
        for child in children:
            _end(child)
    console.print("Stopped. The farm's history is kept; the same command goes on with it.", highlight=False)


async def _mind(child: subprocess.Popen[bytes], console: Console, settings: Settings) -> None:
    """Say so when the simulator ends before we do."""
    while child.poll() is None:  # noqa: ASYNC110 - the end of a process is no event on this loop
        await asyncio.sleep(1)
    log = Path(settings.data_dir) / "simulator.log"
    console.print(f"[red]The simulator ended with {child.returncode}, so the farm stands still; see {log}.[/]")


def _simulator(running: Running, settings: Settings, turbines: int, seed: int, history: int) -> subprocess.Popen[bytes]:
    """`skerry simulate` as a child, in a session of its own so that Ctrl-C reaches us first."""
    options = ["--turbines", str(turbines), "--seed", str(seed), "--history", str(history), "--quiet"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SKERRY_")}
    environ |= {
        "SKERRY_MQTT_URL": running.mqtt_url,
        "SKERRY_LOGIN_USER": settings.login_user or "",
        "SKERRY_LOGIN_PASSWORD": settings.login_password or "",
    }
    with (Path(settings.data_dir) / "simulator.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "skerry_registry", "simulate", *options, "--parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environ,
            start_new_session=True,
        )


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _screen(running: Running, settings: Settings, turbines: int) -> str:
    """What to know and what to try; every line that is to be copied stands alone."""
    url = running.http_url
    elsewhere = "" if url.endswith(":8080") else f" --url {url}"
    first = f"demo:{names_of(turbines)[0]}"
    series = f"{url}/api/2/timeseries/things/{first}/features/scada/properties/power?from=now-15m&step=1m&agg=avg"
    return f"""
[bold cyan]Skerry: a farm of {turbines} turbines, each telling of itself every second[/]

  The farm    [bold]{url}[/]
  MQTT        {running.mqtt_url}
  Log in as   [bold]ditto[/] / [bold]ditto[/]    for operations: [bold]devops[/] / [bold]foobar[/]
              [yellow]Demo credentials, known to everybody: this server listens on the loopback only.[/]

Try next
  {called()} watch --user ditto --password ditto{elsewhere}
  curl -u ditto:ditto {url}/api/2/things/{first}
  curl -N -u ditto:ditto -H 'Accept: text/event-stream' '{url}/api/2/things?ids={first}'
  curl -u ditto:ditto '{series}'
  {url}/apidoc    the HTTP API, to browse

Data in {settings.data_dir}, the simulator's log in {Path(settings.data_dir) / "simulator.log"}.
[bold]Ctrl-C stops everything.[/]
"""
