"""The demo: a server with Ditto's public accounts on the loopback, and a simulated farm beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs
from rich.console import Console
from rich.panel import Panel

from skerry_registry.cli import serving
from skerry_registry.cli.given import settings_of
from skerry_registry.settings import Settings, users_path
from skerry_registry.users import Users

if TYPE_CHECKING:
    from skerry_registry.app import Running

ACCOUNTS = (("ditto", "ditto", ()), ("devops", "foobar", ("devops",)))
HISTORY = 900


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

    def ready(running: Running) -> None:
        children.append(_simulator(running, settings, turbines, seed, HISTORY if fresh else 0))
        console.print(_screen(running, settings, turbines))

    try:
        serving.run(settings, ready)
    finally:
        for child in children:
            _end(child)
    console.print("Stopped. The farm's history is kept; `skerry demo` goes on with it.", highlight=False)


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


def _screen(running: Running, settings: Settings, turbines: int) -> Panel:
    port = running.http_url.rpartition(":")[2]
    login = "--user ditto --password ditto"
    elsewhere = f" --url {running.http_url}" if port != "8080" else ""
    lines = [
        f"The farm        [link={running.http_url}]{running.http_url}[/]   {turbines} turbines, one record a second each",
        f"MQTT            {running.mqtt_url}",
        "Log in as       [bold]ditto[/] / [bold]ditto[/]      operations: [bold]devops[/] / [bold]foobar[/]",
        "                [yellow]demo credentials, known to everybody: loopback only[/]",
        "",
        "Try next",
        f"  curl -u ditto:ditto {running.http_url}/api/2/things/demo:T01",
        f"  curl -u ditto:ditto '{running.http_url}/api/2/timeseries/things/demo:T01/features/scada/properties/power?from=now-15m&step=1m&agg=avg'",
        f"  skerry watch {login}{elsewhere}",
        f"  {running.http_url}/apidoc   the HTTP API",
        "",
        f"Data in {settings.data_dir}, the simulator's log in {Path(settings.data_dir) / 'simulator.log'}. Ctrl-C stops everything.",
    ]
    return Panel("\n".join(lines), title="Skerry", title_align="left", border_style="cyan", expand=False)
