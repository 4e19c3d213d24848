"""What only the embedded store has to get right: the disk, the lock, the schema, SIGKILL."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Protocol

import apsw
import pytest

from skerry.errors import SkerryError
from skerry.signals import Command, Event, Held
from skerry_registry.journal.replay import replay
from skerry_registry.ports import StoreUnavailable
from skerry_registry.registry import Registry
from skerry_registry.stores.folder import FolderInUse, FolderUnusable
from skerry_registry.stores.opening import DatabaseCorrupt, SchemaTooNew, schema
from skerry_registry.stores.sqlite import SqliteStore

WRITER = """
import asyncio, sys
from pathlib import Path
from skerry.signals import Event
from skerry_registry.stores.sqlite import SqliteStore

async def write(store, thing):
    held = await store.load("thing", thing)
    revision = held.revision
    while True:
        revision += 1
        event = Event(kind="thing", id=thing, action="created" if revision == 1 else "merged", revision=revision,
                      timestamp=revision, path=() if revision == 1 else ("attributes",),
                      value={"thingId": thing, "policyId": thing} if revision == 1 else {"n": revision})
        await store.append([event])
        sys.stdout.write(f"{event.number} {thing} {revision}\\n")
        sys.stdout.flush()
        if revision % 50 == 0:
            await store.save([await store.load("thing", thing)], 0)

async def main():
    async with SqliteStore(Path(sys.argv[1])) as store:
        print("ready", flush=True)
        await asyncio.gather(*(write(store, f"demo:T{n}") for n in range(8)))

asyncio.run(main())
"""


def event(revision: int, thing: str = "demo:T1", size: int = 10) -> Event:
    value = {"thingId": thing, "policyId": thing, "attributes": {"n": revision, "text": "x" * size}}
    return Event(
        kind="thing",
        id=thing,
        action="created" if revision == 1 else "modified",
        revision=revision,
        timestamp=revision,
        value=value,
    )


class Disk(Protocol):
    """Where the store is, and how it gets full."""

    place: Path

    def fill(self) -> None: ...
    def empty(self) -> None: ...


class SmallDisk:
    """A file system of two megabytes."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def fill(self) -> None:
        with (self.place / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(b"x" * 4096)

    def empty(self) -> None:
        (self.place / "filler").unlink()


class LimitedDisk:
    """Files may not grow any more."""

    def __init__(self, place: Path, limits: tuple[int, int]) -> None:
        self.place = place
        self.limits = limits

    def fill(self) -> None:
        size = (self.place / "journal.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, self.limits[1]))

    def empty(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)


def write_and_die(folder: Path, lines: int) -> list[str]:
    """What a writing process acknowledged before it was killed, some time after so many acknowledgements."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        told = [writer.stdout.readline() for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        return told + writer.stdout.readlines()


async def test_sigkill_loses_nothing_that_was_acknowledged_and_leaves_no_gap(tmp_path: Path):
    folder = tmp_path / "data"
    acknowledged: set[tuple[int, str, int]] = set()
    for lines in (200, 333, 90):
        told = await asyncio.to_thread(write_and_die, folder, lines)
        for line in told:
            if line.endswith("\n"):
                number, thing, revision = line.split()
                acknowledged.add((int(number), thing, int(revision)))
        async with SqliteStore(folder) as store:
            events = await store.read(0, 100_000)
            assert [each.number for each in events] == list(range(1, len(events) + 1))
            assert acknowledged <= {(each.number, each.id, each.revision) for each in events}
            for thing in {each.id for each in events}:
                mine = [each for each in events if each.id == thing]
                assert [each.revision for each in mine] == list(range(1, len(mine) + 1))
                assert await store.load("thing", thing) == replay(Held(kind="thing", id=thing), mine)
            await store.save(await store.recover(), await store.last())
    assert len(acknowledged) >= 600


async def test_a_second_server_on_the_folder_is_refused_by_name_and_pid(tmp_path: Path):
    async with SqliteStore(tmp_path):
        with pytest.raises(FolderInUse) as refused:
            async with SqliteStore(tmp_path):
                pytest.fail("opened twice")
        assert str(tmp_path) in refused.value.text
        assert f"process {os.getpid()}" in refused.value.text
    async with SqliteStore(tmp_path) as store:
        assert await store.last() == 0


async def test_a_folder_that_cannot_be_is_refused_by_name(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(FolderUnusable) as refused:
        async with SqliteStore(file / "data"):
            pytest.fail("opened")
    assert str(file) in refused.value.text
    await asyncio.to_thread((tmp_path / "taken" / "journal.db").mkdir, parents=True)
    with pytest.raises(FolderUnusable, match=r"journal\.db"):
        async with SqliteStore(tmp_path / "taken"):
            pytest.fail("opened")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that cannot be written, not even by root."""
    if os.geteuid():
        tmp_path.chmod(0o500)
        yield tmp_path
        tmp_path.chmod(0o700)
        return
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("root without the right to mount: run as another user")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


async def test_a_read_only_folder_is_refused_by_name(read_only: Path):
    with pytest.raises(FolderUnusable, match=r"permission denied|read-only") as refused:
        async with SqliteStore(read_only):
            pytest.fail("opened")
    assert str(read_only) in refused.value.text


async def test_a_database_that_cannot_be_written_is_refused(tmp_path: Path):
    async with SqliteStore(tmp_path) as store:
        await store.append([event(1)])
    connection = apsw.Connection(str(tmp_path / "journal.db"))
    connection.pragma("journal_mode", "delete")
    connection.close()
    header = tmp_path / "journal.db"
    content = bytearray(header.read_bytes())
    content[18] = 3  # a file format version that this SQLite may only read
    header.write_bytes(content)
    with pytest.raises(FolderUnusable):
        async with SqliteStore(tmp_path):
            pytest.fail("opened")


async def test_a_newer_schema_is_refused_untouched(tmp_path: Path):
    async with SqliteStore(tmp_path):
        pass
    connection = apsw.Connection(str(tmp_path / "journal.db"))
    connection.pragma("user_version", len(schema()) + 1)
    connection.close()
    with pytest.raises(
        SchemaTooNew, match=f"version {len(schema()) + 1}; this Skerry knows versions up to {len(schema())}"
    ):
        async with SqliteStore(tmp_path):
            pytest.fail("opened")


@pytest.mark.parametrize("content", [b"this is not a database, by far", b"SQLite format 3\0" + b"\xff" * 5_000])
async def test_a_damaged_database_is_refused_by_name(tmp_path: Path, content: bytes):
    (tmp_path / "journal.db").write_bytes(content * 100)
    with pytest.raises((DatabaseCorrupt, FolderUnusable), match=r"journal\.db"):
        async with SqliteStore(tmp_path):
            pytest.fail("opened")


async def test_concurrent_appends_share_a_commit(tmp_path: Path):
    async with SqliteStore(tmp_path) as store:
        await store.append([event(1, f"demo:T{n}") for n in range(200)])
        wal = tmp_path / "journal.db-wal"
        before = wal.stat().st_size
        await store.append([event(2, "demo:T0")])
        one = wal.stat().st_size - before
        await asyncio.gather(*(store.append([event(2, f"demo:T{n}")]) for n in range(1, 200)))
        assert wal.stat().st_size - before < 30 * one


async def append_until_full(store: SqliteStore) -> int:
    """Append two events at a time until they are refused; answers the last revision that was taken."""
    revision = 1
    while True:
        try:
            await store.append([event(revision + 1, size=3_000), event(revision + 2, size=3_000)])
        except StoreUnavailable:
            return revision
        revision += 2


@pytest.fixture(params=["full disk", "file size limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    """A place that can be filled up and emptied: a small disk of its own (as root), or a limit of the process."""
    if request.param == "full disk":
        place = tmp_path / "disk"
        place.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("no right to mount a small disk: run as root")
        yield SmallDisk(place)
        subprocess.run(["umount", place], check=True)
    else:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        yield LimitedDisk(tmp_path, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_a_full_disk_refuses_whole_appends_and_room_cures_it_without_a_restart(disk: Disk):
    async with SqliteStore(disk.place) as store:
        await store.append([event(1)])
        disk.fill()
        revision = await append_until_full(store)
        assert await store.last() == revision
        assert (await store.load("thing", "demo:T1")).revision == revision
        with pytest.raises(StoreUnavailable):
            await store.append([event(1, f"demo:N{n}", size=90_000) for n in range(4)])
        assert await store.count("thing") == 1
        disk.empty()
        more = [event(revision + 1, size=3_000), event(1, "demo:N0")]
        await store.append(more)
        assert [each.number for each in more] == [revision + 1, revision + 2]
        assert [each.number for each in await store.read(0, 1_000)] == list(range(1, revision + 3))
    async with SqliteStore(disk.place) as store:
        assert await store.last() == revision + 2
        assert [each.number for each in await store.read(0, 1_000)] == list(range(1, revision + 3))


async def test_the_registry_answers_503_while_the_disk_is_full_and_goes_on_with_room(disk: Disk):
    def put(n: int) -> Command:
        value = {"n": n, "text": "x" * 3_000}
        return Command(verb="modify", id="demo:T1", subjects=("nginx:anne",), path=("attributes",), value=value)

    ticks = count(1)
    store = SqliteStore(disk.place)
    async with Registry(store, lambda: next(ticks), lambda: "id", snapshot_events=5) as registry:
        await registry.handle(Command(verb="modify", id="demo:T1", subjects=("nginx:anne",), value={}))
        disk.fill()
        answers = [(await registry.handle_all([put(n)]))[0] for n in range(100)]
        failed = [answer for answer in answers if isinstance(answer, SkerryError)]
        assert failed
        assert {error.status for error in failed} == {503}
        disk.empty()
        assert (await registry.handle(put(999))).revision == 100 - len(failed) + 2
        read = Command(verb="retrieve", id="demo:T1", subjects=("nginx:anne",), path=("attributes", "n"))
        assert (await registry.handle(read)).value == 999
        assert registry.journal.last == 100 - len(failed) + 3


async def test_trimming_gives_the_room_back(tmp_path: Path):
    async with SqliteStore(tmp_path) as store:
        await store.append([event(n, size=2_000) for n in range(1, 2_001)])
        await store.save([await store.load("thing", "demo:T1")], 2_000)
        before = await store.size()
        await store.trim(2_001)
        assert await store.size() < before / 10
    assert (tmp_path / "journal.db").stat().st_size < before / 10
