"""Real servers for tests, each in a folder of its own on a free loopback port, gone at the end of the `with` block.

    with mosquitto(tmp_path) as broker: ...      # broker.port, broker.url, broker.stop(), broker.kill(), broker.start()
    with influxd(tmp_path) as influx: ...        # influx.url, .token, .org, .bucket
    chromium()                                     # the path of a browser

A server that is not installed skips the test and says what would install it; one that SKERRY_TEST_REQUIRE_SERVERS names
(CI does: mosquitto,chromium,…) fails the test instead. SKERRY_TEST_MOSQUITTO, _INFLUXD and _CHROMIUM name a binary that is elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skerry-servers"
NAMES: Mapping[str, Sequence[str]] = {
    "mosquitto": ("mosquitto",),
    "influxd": ("influxd",),
    "chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "strace": ("strace",),
    "node": ("node",),
    "npm": ("npm",),
}
CURES: Mapping[str, str] = {
    "mosquitto": "install the package mosquitto (apt-get install mosquitto)",
    "influxd": f"put InfluxDB 2.7's influxd on the PATH or at {CACHE}/influxd",
    "chromium": "install the package chromium (apt-get install chromium)",
    "strace": "install the package strace (apt-get install strace)",
    "node": "install Node.js 18 or newer",
    "npm": "install Node.js 18 or newer with npm",
}
MISSING = "NOT TESTED, server missing"


def executable(server: str, environment: Mapping[str, str] = os.environ) -> str:
    """The path of a server's binary; skips the test, or fails it where servers are required, when there is none."""
    variable = f"SKERRY_TEST_{server.upper()}"
    wanted = environment.get(variable)
    if wanted and os.access(wanted, os.X_OK):
        return wanted
    folders = os.pathsep.join(
        (environment.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", str(CACHE))
    )
    for name in NAMES[server]:
        found = shutil.which(name, path=folders)
        if found and not wanted:
            return found
    return absent(server, f"To run this test {CURES[server]}, or set {variable} to the binary.", environment)


def absent(server: str, cure: str, environment: Mapping[str, str] = os.environ) -> NoReturn:
    """Skip the test and say what would help; fail it where the server is required."""
    reason = f"{MISSING}: {server}. {cure}"
    if server in environment.get("SKERRY_TEST_REQUIRE_SERVERS", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


def chromium() -> str:
    """The path of Chromium, where Playwright can drive it (its driver wants a library that bare systems lack)."""
    path = executable("chromium")
    driver = subprocess.run([sys.executable, "-m", "playwright", "--version"], capture_output=True, check=False)
    if driver.returncode:
        said = driver.stderr.decode(errors="replace").strip().splitlines()
        absent("chromium", f"Playwright's driver does not run here: {said[-1] if said else driver.returncode}")
    return path


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(ready: Callable[[], bool], *, what: str, seconds: float = 20.0) -> None:
    """Return as soon as `ready()` holds; fail the test, naming `what`, when the deadline has passed."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


class Process:
    """A server process that can be stopped, killed and started again on the same port and folder."""

    def __init__(
        self, command: Sequence[str], *, port: int, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = command
        self.port = port
        self.log = log
        self.environment = {**os.environ, **(environment or {})}
        self.running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )
        process = self.running

        def ready() -> bool:
            if process.poll() is not None:
                pytest.fail(
                    f"{self.command[0]} ended with {process.returncode}:\n{self.log.read_text(errors='replace')[-2000:]}"
                )
            return listens(self.port)

        wait_until(ready, what=f"{self.command[0]} on port {self.port}")

    def stop(self) -> None:
        """Ask it to end and wait for it."""
        self.end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.end(signal.SIGKILL)

    def end(self, how: signal.Signals) -> None:
        """Send a signal, wait, and kill what does not end within ten seconds."""
        if self.running is None:
            return
        for _ in range(10):
            self.running.send_signal(how)  # again, since Mosquitto forgets one that comes while it starts
            try:
                self.running.wait(1)
                break
            except subprocess.TimeoutExpired:
                continue
        else:
            self.running.kill()
            self.running.wait()
        self.running = None


class Mosquitto(Process):
    """An MQTT broker: 3.1.1 and 5, persistent, with room for load tests."""

    @property
    def url(self) -> str:
        """Its address, as SKERRY_MQTT_URL takes it."""
        return f"mqtt://127.0.0.1:{self.port}"


class Influx(Process):
    """An InfluxDB 2.7 that is set up: one organisation, one bucket, an all-access token."""

    token = "test-token"
    org = "test"
    bucket = "skerry"

    @property
    def url(self) -> str:
        """Its address, as SKERRY_INFLUX_URL takes it."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def mosquitto(
    tmp: Path, *, users: Mapping[str, str] | None = None, settings: Sequence[str] = ()
) -> Iterator[Mosquitto]:
    """A Mosquitto; anonymous, or only for `users` (name to password); `settings`: further lines of its configuration."""
    binary = executable("mosquitto")
    folder = tmp / "mosquitto"
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    lines = [
        f"listener {port} 127.0.0.1",
        "persistence true",
        f"persistence_location {folder}/",
        "autosave_interval 1",
        "max_inflight_messages 1000",
        "max_queued_messages 2000000",
        "set_tcp_nodelay true",
    ]
    if os.geteuid() == 0:
        lines.append("user root")
    if users:
        passwords = folder / "passwords"
        passwords.write_text("".join(f"{name}:{password}\n" for name, password in users.items()))
        passwords.chmod(0o600)
        tool = shutil.which("mosquitto_passwd") or str(Path(binary).with_name("mosquitto_passwd"))
        subprocess.run([tool, "-U", str(passwords)], check=True, capture_output=True)
        lines += ["allow_anonymous false", f"password_file {passwords}"]
    else:
        lines.append("allow_anonymous true")
    configuration = folder / "mosquitto.conf"
    configuration.write_text("\n".join([*lines, *settings]) + "\n")
    server = Mosquitto([binary, "-c", str(configuration)], port=port, log=folder / "log")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def influxd(tmp: Path) -> Iterator[Influx]:
    """An InfluxDB 2.7, set up and ready for writes."""
    binary = executable("influxd")
    folder = tmp / "influxd"
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [binary, "--reporting-disabled", "--http-bind-address", f"127.0.0.1:{port}", "--log-level", "warn"]
    command += [
        "--bolt-path",
        f"{folder}/influxd.bolt",
        "--sqlite-path",
        f"{folder}/influxd.sqlite",
        "--engine-path",
        f"{folder}/engine",
    ]
    server = Influx(
        command, port=port, log=folder / "log", environment={"HOME": str(folder), "INFLUXD_CONFIG_PATH": str(folder)}
    )
    try:
        server.start()
        setup = {
            "username": "test",
            "password": "test-password",
            "org": Influx.org,
            "bucket": Influx.bucket,
            "token": Influx.token,
        }
        request = urllib.request.Request(
            f"{server.url}/api/v2/setup", json.dumps(setup).encode(), {"Content-Type": "application/json"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=20) as response:
            response.read()
        yield server
    finally:
        server.stop()


def skerry_command() -> str:
    """The `skerry` command of the environment that runs the tests."""
    return str(Path(sys.executable).with_name("skerry"))
