"""A trace of system calls: the journal is on disk before the answer leaves."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from kill import LOGIN, Victim, put_thing
from measure import LeanClient, publish_packet
from servers import executable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def traced(tmp_path: Path):
    """A running server and the file that its system calls are written to from now on."""
    strace = executable("strace")
    victim = Victim(tmp_path)
    victim.start()
    put_thing(victim.http, "kill:T1")
    assert victim.process is not None
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,sendto,sendmsg,write,writev"
    tracer = subprocess.Popen(
        [strace, "-f", "-ttt", "-y", "-s", "80", "-e", calls, "-o", trace, "-p", str(victim.process.pid)],
        stderr=subprocess.PIPE,
    )
    assert tracer.stderr is not None
    if b"attached" not in tracer.stderr.readline():
        victim.stop()
        pytest.skip("NOT TESTED: this user may not trace its own processes (ptrace)")
    yield victim, trace
    tracer.send_signal(signal.SIGINT)
    tracer.wait(10)
    tracer.stderr.close()
    victim.stop()


def lines_until(trace: Path, pattern: str) -> list[str]:
    """The trace's lines up to the first that matches; waits for it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        lines = trace.read_text(errors="replace").splitlines() if trace.exists() else []
        for place, line in enumerate(lines):
            if re.search(pattern, line):
                return lines[: place + 1]
    message = f"no system call matches {pattern}"
    raise AssertionError(message)


def test_the_journal_is_synced_before_http_answers(traced) -> None:
    victim, trace = traced
    connection = HTTPConnection("127.0.0.1", victim.http)
    connection.request("PUT", "/api/2/things/kill:T1/attributes/n", "1", LOGIN)
    assert connection.getresponse().status == 201
    connection.close()

    lines = lines_until(trace, r"HTTP/1\.1 201")

    assert any(re.search(r"f(data)?sync\(.*-wal>", line) for line in lines), "\n".join(lines)


def test_the_journal_is_synced_before_mqtt_acknowledges(traced) -> None:
    victim, trace = traced
    client = LeanClient(victim.mqtt, "traced", "ditto", "ditto")
    client.socket.sendall(publish_packet("telemetry/kill/T1/scada", b'{"power": 1}', 258))
    assert client.socket.recv(4) == b"\x40\x02\x01\x02"
    client.close()

    lines = lines_until(trace, r'"@\\2\\1\\2"')

    assert any(re.search(r"f(data)?sync\(.*-wal>", line) for line in lines), "\n".join(lines)
