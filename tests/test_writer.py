"""The writer's bookkeeping: which numbers events get when appends share a commit, fail, or fail to tell how it went."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import apsw
import pytest

from skerry.signals import Event
from skerry_registry.ports import RevisionConflict, StoreUnavailable
from skerry_registry.stores import reader
from skerry_registry.stores.lane import Job
from skerry_registry.stores.opening import schema
from skerry_registry.stores.writer import Append, Save, Task, Trim, Writer


class Wire(apsw.Connection):
    """A connection to a disk that does what it is told, then says that it failed, as often as `lies` tells."""

    lies: tuple[str, ...] = ()

    def execute(self, statements: str, *bindings: Any, **more: Any) -> apsw.Cursor:
        cursor = super().execute(statements, *bindings, **more)
        if self.lies and statements.startswith(self.lies[0]):
            self.lies = self.lies[1:]
            raise apsw.IOError("disk I/O error")
        return cursor


@pytest.fixture
def connection(tmp_path: Path):
    wire = Wire(str(tmp_path / "journal.db"))
    for version in schema():
        wire.execute(version)
    yield wire
    wire.close()


def event(thing: str, revision: int = 1) -> Event:
    value = {"thingId": thing, "policyId": thing}
    action = "created" if revision == 1 else "modified"
    return Event(kind="thing", id=thing, action=action, revision=revision, timestamp=revision, value=value)


def append(*events: Event) -> Job[Task]:
    return Job(Append(events), asyncio.get_running_loop().create_future())


def stored(connection: apsw.Connection) -> list[tuple[int, str]]:
    return [(found.number, found.id) for found in reader.page(connection, 0, 100)]


async def test_an_append_that_conflicts_leaves_no_gap_in_the_numbers_of_its_group(connection: Wire) -> None:
    writer = Writer(connection)
    jobs = [append(event("demo:A")), append(event("demo:B", 7)), append(event("demo:C"))]

    assert writer.work(connection, jobs) == jobs
    later = append(event("demo:D"))
    writer.work(connection, [later])

    assert [type(job.error) for job in jobs] == [type(None), RevisionConflict, type(None)]
    assert stored(connection) == [(1, "demo:A"), (2, "demo:C"), (3, "demo:D")]
    assert [job.task.events[0].number for job in (jobs[0], jobs[2], later)] == [1, 2, 3]


async def test_a_commit_that_succeeded_in_spite_of_its_error_counts(connection: Wire) -> None:
    writer = Writer(connection)
    connection.lies = ("COMMIT",)
    first, second = append(event("demo:A")), append(event("demo:B"))

    writer.work(connection, [first])
    writer.work(connection, [second])

    assert (first.error, second.error) == (None, None)
    assert stored(connection) == [(1, "demo:A"), (2, "demo:B")]
    assert [job.task.events[0].number for job in (first, second)] == [1, 2]


async def test_after_a_commit_of_unknown_end_the_next_append_looks_at_the_disk_first(connection: Wire) -> None:
    writer = Writer(connection)
    connection.lies = ("COMMIT", "SELECT coalesce")
    first, second = append(event("demo:A")), append(event("demo:B"))

    writer.work(connection, [first])
    writer.work(connection, [second])

    assert isinstance(first.error, StoreUnavailable)
    assert second.error is None
    assert stored(connection) == [(1, "demo:A"), (2, "demo:B")]


async def test_numbers_go_on_after_everything_was_trimmed(connection: Wire) -> None:
    writer = Writer(connection)
    writer.work(connection, [append(event("demo:A"), event("demo:A", 2))])
    writer.work(connection, [Job(Trim(1, 3), asyncio.get_running_loop().create_future())])

    later = append(event("demo:B"))
    Writer(connection).work(connection, [later])

    assert stored(connection) == [(3, "demo:B")]
    assert reader.oldest(connection) == 3


async def test_the_checkpoint_does_not_go_back(connection: Wire) -> None:
    writer = Writer(connection)
    for upto in (7, 3):
        writer.work(connection, [Job(Save((), upto), asyncio.get_running_loop().create_future())])
    assert reader.checkpoint(connection) == 7


async def test_what_has_left_the_bounded_memory_is_looked_up_on_disk(connection: Wire) -> None:
    writer = Writer(connection, cache=1)
    for thing in ("demo:A", "demo:B"):
        writer.work(connection, [append(event(thing))])
    connection.execute("UPDATE journal SET revision = 5 WHERE number = 1")  # nothing in memory says so

    repeated, later = append(event("demo:A", 2)), append(event("demo:A", 6))
    writer.work(connection, [repeated, later])

    assert [type(job.error) for job in (repeated, later)] == [RevisionConflict, type(None)]
