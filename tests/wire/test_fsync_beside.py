"""A trace of system calls: what is kept beside the journal is on disk in time, and so are the folders' entries."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from kill import Victim, put_thing
from measure import LeanClient, packet, publish_packet, text
from servers import executable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RETAINED = 0x33


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[tuple[Victim, Path]]:
    """A running server and the file that its system calls are written to from now on."""
    strace = executable("strace")
    victim = Victim(tmp_path)
    victim.start()
    put_thing(victim.http, "kill:T1")
    assert victim.process is not None
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,sendto,sendmsg,write,writev,read,readv,recvfrom,recvmsg"
    tracer = subprocess.Popen(
        [strace, "-f", "-y", "-s", "80", "-e", calls, "-o", trace, "-p", str(victim.process.pid)],
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


def lines_between(trace: Path, first: str, last: str) -> list[str]:
    """The trace's lines between the ones that match; waits for them."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        lines = trace.read_text(errors="replace").splitlines() if trace.exists() else []
        starts = [place for place, line in enumerate(lines) if re.search(first, line)]
        ends = [place for place, line in enumerate(lines) if re.search(last, line)]
        if starts and ends:
            return lines[starts[0] : ends[0]]
    message = f"no system calls match {first} and {last}"
    raise AssertionError(message)


@pytest.mark.parametrize(
    ("publishes", "log"),
    [
        ([publish_packet("telemetry/kill/T1/scada", b"no JSON", mid) for mid in (257, 258)], "dead-letters.sqlite-wal"),
        (
            [
                packet(RETAINED, text("telemetry/kill/T1/scada") + mid.to_bytes(2) + b'{"power": 1}')
                for mid in (257, 258)
            ],
            "broker.db-wal",
        ),
    ],
)
def test_what_a_publish_leaves_beside_the_journal_is_synced_before_its_acknowledgement(
    traced: tuple[Victim, Path], publishes: list[bytes], log: str
) -> None:
    victim, trace = traced
    client = LeanClient(victim.mqtt, "traced", "ditto", "ditto")
    for publish, answer in zip(publishes, (b"\x40\x02\x01\x01", b"\x40\x02\x01\x02"), strict=True):
        client.socket.sendall(publish)
        assert client.socket.recv(4) == answer
        put_thing(victim.http, f"kill:after-{answer[3]}")
    client.close()

    # The first write to a fresh log is synced in weaker modes too: what counts is the second.
    lines = lines_between(trace, r"(read|recv).*kill/T1/scada\\1\\2", r'"@\\2\\1\\2"')

    assert any(re.search(rf"f(data)?sync\(.*{re.escape(log)}>", line) for line in lines), "\n".join(lines)


OPEN = """
import asyncio, sys
from pathlib import Path
from skerry_registry.stores.sqlite import SqliteStore

async def main():
    async with SqliteStore(Path(sys.argv[1])):
        pass

asyncio.run(main())
"""


def test_new_folders_and_the_new_database_are_entered_in_their_folders_for_good(tmp_path: Path) -> None:
    trace, folder = tmp_path / "trace", tmp_path / "new" / "data"
    strace = executable("strace")
    done = subprocess.run(
        [strace, "-f", "-y", "-e", "trace=fsync", "-o", trace, sys.executable, "-c", OPEN, folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("NOT TESTED: this user may not trace its own processes (ptrace)")
    assert done.returncode == 0, done.stderr

    synced = re.findall(r"fsync\(\d+<(.*?)>", trace.read_text(errors="replace"))

    assert {str(place) for place in (tmp_path, folder.parent, folder)} <= set(synced)


ADD = """
import sys
from pathlib import Path
from skerry_registry.users import Users

Users.load(Path(sys.argv[1])).add("anne", "a password of hers")
"""


def test_the_users_are_on_disk_before_they_replace_the_old_ones(tmp_path: Path) -> None:
    trace, users = tmp_path / "trace", tmp_path / "users.json"
    strace = executable("strace")
    calls = "trace=fsync,fdatasync,rename,renameat,renameat2"
    command = [strace, "-f", "-y", "-e", calls, "-o", trace, sys.executable, "-c", ADD, users]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("NOT TESTED: this user may not trace its own processes (ptrace)")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    replaced = next(place for place, line in enumerate(lines) if "rename" in line and "users.json" in line)

    assert any(re.search(r"f(data)?sync\(.*users\.json.*\.new>", line) for line in lines[:replaced]), "\n".join(lines)
