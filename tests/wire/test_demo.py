from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from servers import free_port, wait_until
from skerry.errors import SkerryError
from skerry_registry.cli.client import Client

T01 = "/api/2/things/demo:T01/features/scada/properties"
POWER = "/api/2/timeseries/things/demo:T01/features/scada/properties/power?from=now-1h"


class Demo:
    """`skerry demo` on free ports, as a person would start it."""

    def __init__(self, folder: Path) -> None:
        self.http, self.mqtt = free_port(), free_port()
        command = [sys.executable, "-m", "skerry_registry", "demo", "--data-dir", str(folder / "data"), "-n", "3"]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SKERRY_")}
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--http-port", str(self.http), "--mqtt-port", str(self.mqtt)],
                env=environ,
                stdout=log,
                stderr=log,
            )
        self.client = Client(f"http://127.0.0.1:{self.http}", "ditto", "ditto")

    def look(self) -> dict[str, object] | None:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return dict(self.client.get(T01)[0])
        except SkerryError:
            return None

    def changes(self) -> bool:
        values = self.look()
        if values is None:
            return False
        self.seen.append(values)
        return self.seen[0] != values

    def wait_for_a_change(self) -> None:
        self.seen: list[dict[str, object]] = []
        wait_until(self.changes, what="a value that changes")

    def children(self) -> list[psutil.Process]:
        return list(psutil.Process(self.process.pid).children(recursive=True))


@contextmanager
def demo(folder: Path) -> Iterator[Demo]:
    running = Demo(folder)
    try:
        yield running
    finally:
        running.client.close()
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait(10)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_farm_lives_within_seconds_and_stops_clean(tmp_path: Path, how: signal.Signals) -> None:
    began = time.monotonic()
    with demo(tmp_path) as running:
        running.wait_for_a_change()
        assert time.monotonic() - began < 30
        screen = running.log.read_text()
        for words in (
            f"http://127.0.0.1:{running.http}",
            f":{running.mqtt}",
            "ditto",
            "devops",
            "foobar",
            "loopback only",
        ):
            assert words in screen
        wait_until(
            lambda: len(running.client.get(POWER)[0][0]["data"]) > 50, what="the minutes before the start in history"
        )
        children = running.children()
        assert children
        running.process.send_signal(how)
        assert running.process.wait(15) == 0
        assert not [child for child in children if child.is_running()]
        assert "Traceback" not in running.log.read_text()


def test_no_child_survives_a_demo_that_is_killed_and_the_next_one_goes_on(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        running.wait_for_a_change()
        children = running.children()
        before = len(running.client.get(POWER)[0][0]["data"])
        running.process.kill()
        running.process.wait(10)
        wait_until(lambda: not any(child.is_running() for child in children), what="the end of the children")
    with demo(tmp_path) as again:
        again.wait_for_a_change()
        assert len(again.client.get(POWER)[0][0]["data"]) >= before
        again.process.send_signal(signal.SIGINT)
        assert again.process.wait(15) == 0


def test_a_taken_port_is_named_with_the_option_that_takes_another(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        running.wait_for_a_change()
        for option in ("--http-port", "--mqtt-port"):
            taken, other = (running.http, "--mqtt-port") if option == "--http-port" else (running.mqtt, "--http-port")
            command = [sys.executable, "-m", "skerry_registry", "demo", "--data-dir", str(tmp_path / "other")]
            done = subprocess.run(
                [*command, option, str(taken), other, "0"], capture_output=True, text=True, timeout=20, check=False
            )
            assert done.returncode == 2
            assert str(taken) in done.stderr
            assert option in done.stderr
            assert "Traceback" not in done.stderr
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(15) == 0
