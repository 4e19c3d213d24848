"""`skerry watch` over the WebSocket: what it prints, how it filters, and how it goes on after the server was away."""

from __future__ import annotations

import json
import os
import pty
import queue
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from servers import free_port, skerry_command
from skerry_process import Skerry, skerry_in
from skerry_registry.cli.happenings import line
from skerry_registry.cli.watch import Farm

PATIENCE = 30.0
PATH = "/api/2/things/farm:T1"


class Watching:
    """A running `skerry watch`, line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: queue.Queue[str] = queue.Queue()
        self.complaints: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        assert process.stderr is not None
        self._threads = [
            threading.Thread(target=self._read, args=(process.stdout, self.lines)),
            threading.Thread(target=self._read, args=(process.stderr, self.complaints)),
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _read(stream: Iterator[str], into: queue.Queue[str]) -> None:
        for text in stream:
            into.put(text.rstrip("\n"))

    def take(self, count: int) -> list[str]:
        """The next lines."""
        return [self.lines.get(timeout=PATIENCE) for _ in range(count)]

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@contextmanager
def watching(server: Skerry, *words: str) -> Iterator[Watching]:
    """Watch until the block ends, from the beginning of the journal."""
    process = subprocess.Popen(
        [skerry_command(), "watch", "--url", server.url, "-u", "ditto", "-p", "ditto", "--after", "0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    found = Watching(process)
    try:
        yield found
    finally:
        found.end()


def put(client: httpx.Client, path: str, value: object) -> None:
    assert client.put(f"{PATH}{path}", json=value).is_success


@pytest.mark.timeout(120)
def test_it_prints_a_line_for_each_change_and_message(tmp_path: Path) -> None:
    with skerry_in(tmp_path) as server, server.client() as client, watching(server, "--messages") as watch:
        put(client, "", {"attributes": {"a": 1}})
        created = watch.take(1)[0].split("  ")
        assert created[1:4] == ["farm:T1", "created", "/"]
        client.patch(PATH, json={"attributes": {"b": 2}}, headers={"content-type": "application/merge-patch+json"})
        assert watch.take(1)[0].split("  ")[1:] == ["farm:T1", "merged", "/", '{"attributes":{"b":2}}']
        sent = client.post(
            f"{PATH}/inbox/messages/ask/why?timeout=0", content="now", headers={"content-type": "text/plain"}
        )
        assert sent.status_code == 202
        assert watch.take(1)[0].split("  ")[1:] == ["farm:T1", "message", "/inbox/messages/ask/why", '"now"']
        client.delete(PATH)
        assert watch.take(1)[0].split("  ")[1:] == ["farm:T1", "deleted", "/"]


@pytest.mark.timeout(120)
def test_filters_namespaces_and_extra_fields_are_the_server_s(tmp_path: Path) -> None:
    words = ("--filter", "gt(attributes/n,1)", "--extra-fields", "attributes/name", "--namespace", "farm", "--json")
    with skerry_in(tmp_path) as server, server.client() as client, watching(server, *words) as watch:
        put(client, "", {"attributes": {"name": "north"}})
        assert client.put("/api/2/things/other:T1", json={"attributes": {"n": 5}}).status_code == 201
        for number in (1, 2, 0, 3):
            put(client, "/attributes/n", number)
        found = [json.loads(text) for text in watch.take(2)]
        assert [envelope["value"] for envelope in found] == [2, 3]
        assert found[0]["topic"] == "farm/T1/things/twin/events/modified"
        assert found[0]["extra"] == {"attributes": {"name": "north"}}


@pytest.mark.timeout(180)
def test_it_goes_on_where_it_was_when_the_server_comes_back(tmp_path: Path) -> None:
    with skerry_in(tmp_path) as server, server.client() as client, watching(server, "--json") as watch:
        put(client, "", {})
        for number in range(10):
            put(client, "/attributes/n", number)
        first = watch.take(11)
        for number in range(10, 20):
            put(client, "/attributes/n", number)
        server.process.kill()
        complaint = watch.complaints.get(timeout=PATIENCE)
        assert ("has ended" in complaint, "Trying again" in complaint) == (True, True)
        server.process.start()
        for number in range(20, 30):
            put(client, "/attributes/n", number)
        texts = first[1:] + watch.take(20)
        while "Trying again" in (complaint := watch.complaints.get(timeout=PATIENCE)):
            pass
        assert complaint.startswith("Following http")
        assert [json.loads(text)["value"] for text in texts] == list(range(30))
        assert watch.lines.empty()


@pytest.mark.timeout(120)
def test_it_leaves_after_so_many_lines_and_says_what_a_server_refuses(tmp_path: Path) -> None:
    with skerry_in(tmp_path) as server, server.client() as client:
        put(client, "", {})
        put(client, "/attributes/n", 1)
        done = server.run("watch", "--after", "0", "--count", "2")
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 2
        wrong = server.run("watch", "--filter", "gt(attributes/n")
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert "400" in wrong.stderr
        nobody = server.run("watch", "--events", "--password", "wrong")
        assert (nobody.returncode, "401" in nobody.stderr) == (2, True)
        away = server.run("watch", "--events", "--url", f"http://127.0.0.1:{free_port()}")
        assert (away.returncode, "No server answers" in away.stderr) == (2, True)


def test_lines_are_safe_for_a_terminal() -> None:
    envelope = {"topic": "a/b/things/live/messages/x/y", "path": "/inbox/messages/x/y", "value": "\x1b[2J"}
    assert line(envelope, 0.0) == '1970-01-01T00:00:00Z  a:b  message  /inbox/messages/x/y  "\\u001b[2J"'
    strange = {"topic": "a/b\x1b[1m/things/twin/events/modified", "path": "/", "timestamp": "t", "value": 1}
    assert "\x1b" not in line(strange, 0.0)


def event(name: str, at: str, path: str = "/features/scada/properties/power", **more: object) -> dict[str, object]:
    return {"topic": f"farm/{name}/things/twin/events/modified", "path": path, "timestamp": at, **more}


def test_the_table_follows_events_and_passes_over_those_it_knows() -> None:
    farm = Farm()
    extra = {"attributes": {"kind": "turbine"}, "features": {"scada": {"properties": {"power": 2.0, "status": "idle"}}}}
    farm.take(event("T2", "2026-01-01T00:00:02Z", value=2, extra=extra))
    farm.take(event("T1", "2026-01-01T00:00:01Z", value=1, extra={"attributes": {"kind": "mast"}}))
    now = datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC).timestamp()
    assert [(row.id, row.power, row.status, row.age) for row in farm.shown(now)] == [
        ("farm:T1", None, "mast", 4.0),
        ("farm:T2", 2.0, "idle", 3.0),
    ]
    farm.take(event("T2", "2026-01-01T00:00:01Z", value=9, extra={}))
    assert farm.shown(now)[1].power == 2.0
    farm.take(event("T2", "2026-01-01T00:00:03Z", path="/"))
    assert [row.id for row in farm.shown(now)] == ["farm:T1"]


@pytest.mark.timeout(120)
def test_the_table_is_drawn_anew_in_a_terminal(tmp_path: Path) -> None:
    with skerry_in(tmp_path) as server, server.client() as client:
        put(client, "", {"attributes": {"kind": "turbine"}, "features": {"scada": {"properties": {"power": 1111}}}})
        ours, theirs = pty.openpty()
        words = ["watch", "--interval", "0.2", "--url", server.url, "-u", "ditto", "-p", "ditto"]
        process = subprocess.Popen(
            [skerry_command(), *words],
            stdout=theirs,
            stdin=theirs,
            stderr=subprocess.PIPE,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "20"},
        )
        os.close(theirs)
        try:
            assert b"1,111" in drawn_until(ours, b"1,111")
            put(client, "/features/scada/properties/power", 2222)
            assert b"2,222" in drawn_until(ours, b"2,222")
        finally:
            process.send_signal(signal.SIGINT)
            end = time.monotonic() + PATIENCE
            while process.poll() is None and time.monotonic() < end:
                drawn(ours)  # a terminal that nobody reads would keep it from ending
            if process.poll() is None:
                process.kill()
            _, complaints = process.communicate(timeout=PATIENCE)
            os.close(ours)
        assert (process.returncode, complaints) == (0, b"")


def drawn_until(terminal: int, wanted: bytes) -> bytes:
    """What was drawn until this appeared, or time was up."""
    seen, end = b"", time.monotonic() + PATIENCE
    while wanted not in seen and time.monotonic() < end:
        seen += drawn(terminal, 1.0)
    return seen


def drawn(terminal: int, patience: float = 0.1) -> bytes:
    """What has been drawn meanwhile."""
    try:
        return os.read(terminal, 65_536) if select.select([terminal], [], [], patience)[0] else b""
    except OSError:  # the other side is closed
        return b""
