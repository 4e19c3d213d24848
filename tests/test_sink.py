"""The series sink: exactly once, in order, and patient."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import duckdb
import pytest

from skerry.errors import SkerryError
from skerry.signals import Event
from skerry_adapters.series.duckdb import DuckSeries
from skerry_adapters.series.ports import Page, Query, Sample, Samples, Series, SeriesUnavailable
from skerry_adapters.series.sink import Sink

PATH = "/features/f/properties/x"


class Forgotten(SkerryError):  # noqa: N818 - a row, like the journal's
    """As the journal says it."""

    code = "test.forgotten"
    message = "It starts at {oldest}."


class Events:
    """A journal of numbered events with something to follow."""

    def __init__(self, oldest: int = 1) -> None:
        self.oldest = oldest
        self.last = oldest - 1
        self.more = asyncio.Condition()

    async def add(self, count: int) -> None:
        async with self.more:
            self.last += count
            self.more.notify_all()

    async def follow(self, after: int) -> AsyncIterator[list[Event]]:
        if after + 1 < self.oldest:
            raise Forgotten(oldest=self.oldest)
        while True:
            async with self.more:
                while self.last <= after:
                    await self.more.wait()
            upto = min(self.last, after + 500)
            yield [event(number) for number in range(after + 1, upto + 1)]
            after = upto


def event(number: int) -> Event:
    path = ("features", "f", "properties", "x")
    return Event(
        kind="thing",
        id="a:b",
        action="modified",
        revision=number,
        timestamp=number,
        path=path,
        value=number,
        number=number,
    )


class Shaky:
    """A series in memory that is away when told so."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.upto = 0
        self.away = False
        self.refused = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None: ...

    def answer(self) -> None:
        if self.away:
            self.refused.set()
            raise SeriesUnavailable(reason="the disk is full")

    async def write(self, samples: Samples, upto: int) -> None:
        self.answer()
        self.samples += samples
        self.upto = upto

    async def cursor(self) -> int:
        self.answer()
        return self.upto

    async def query(self, query: Query) -> Page:
        raise AssertionError(query)

    async def trim(self, before: int) -> None: ...


@asynccontextmanager
async def running(events: Events, series: Series, **settings: float) -> AsyncIterator[Sink]:
    sink = Sink(events.follow, series, lambda: 77, **settings)  # type: ignore[arg-type]
    task = asyncio.create_task(sink.run())
    try:
        yield sink
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def arrival(sink: Sink, number: int) -> None:
    """Wait until queries see the event, though the store be away at first."""
    async with asyncio.timeout(20):
        while not await sink.reach(number, 1):  # noqa: ASYNC110 - reach answers at once while the store is away
            await asyncio.sleep(0.005)


async def test_every_event_becomes_a_sample_once_across_restarts(tmp_path: Path) -> None:
    events = Events()
    await events.add(1200)
    async with DuckSeries(tmp_path / "s.duckdb") as series:
        async with running(events, series, batch=300) as sink:
            assert await sink.reach(700, 10)
        async with running(events, series, batch=300) as sink:
            await events.add(300)
            assert await sink.reach(1500, 10)
            assert sink.status.cursor == 1500
        page = await series.query(Query(thing="a:b", path=PATH, start=0, end=9999, step=9999, agg="count"))
        assert page.rows == [(0, 1500)]


async def test_a_query_that_waits_does_not_wait_for_the_interval() -> None:
    events, series = Events(), Shaky()
    async with running(events, series, interval=3600) as sink:
        assert await sink.reach(0, 1)
        await events.add(3)
        assert await sink.reach(3, 10)
        assert series.upto == 3


async def test_a_store_that_is_away_costs_nothing_but_time() -> None:
    events, series = Events(), Shaky()
    series.away = True
    async with running(events, series, longest_pause=0.01, interval=0.01) as sink:
        await asyncio.wait_for(series.refused.wait(), 10)
        assert not await sink.reach(1, 1)
        assert (sink.status.error, sink.status.since) == ("the disk is full", 77)
        series.away = False
        await events.add(10)
        await arrival(sink, 10)
        assert sink.status.error is None
        series.away = True
        series.refused.clear()
        await events.add(5000)
        await asyncio.wait_for(series.refused.wait(), 10)
        assert not await sink.reach(5010, 10)
        series.away = False
        await events.add(1)
        await arrival(sink, 5011)
    assert [sample.value for sample in series.samples] == list(range(1, 5012))


async def test_what_waits_in_memory_is_bounded_while_the_store_is_away() -> None:
    events, series = Events(), Shaky()
    async with running(events, series, longest_pause=0.01, batch=1000) as sink:
        await events.add(1)
        await arrival(sink, 1)
        series.away = True
        await events.add(100_000)
        await asyncio.wait_for(series.refused.wait(), 10)
        for _ in range(5_000):
            await asyncio.sleep(0)
        assert 4_000 <= sink.status.taken <= 10_000
        series.away = False
        await arrival(sink, 100_001)
    assert len(series.samples) == 100_001


async def test_events_that_the_journal_has_forgotten_are_passed_over() -> None:
    events, series = Events(oldest=50), Shaky()
    await events.add(10)
    async with running(events, series) as sink:
        assert await sink.reach(59, 10)
    assert [sample.value for sample in series.samples] == list(range(50, 60))


async def test_an_embedded_store_in_use_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "s.duckdb").mkdir()
    with pytest.raises(SeriesUnavailable) as refused:
        async with DuckSeries(tmp_path / "s.duckdb"):
            pass
    assert "s.duckdb" in refused.value.facts["reason"]


async def test_a_killed_process_leaves_each_sample_once_and_the_cursor_with_it(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from pathlib import Path
from skerry_adapters.series.duckdb import DuckSeries
from skerry_adapters.series.ports import Sample, Samples

async def main():
    async with DuckSeries(Path(sys.argv[1])) as series:
        upto = await series.cursor()
        while True:
            upto += 500
            new = range(upto - 500, upto)
            await series.write(Samples.of(Sample("a:b", "/features/f/properties/x", n, n, n * 1.1) for n in new), upto)
            print(upto, flush=True)

asyncio.run(main())
"""
    path = tmp_path / "s.duckdb"
    query = Query(thing="a:b", path=PATH, start=0, end=10**12, step=10**12, agg="count")
    for commits in (3, 17, 40):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(path), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        told = 0
        for _ in range(commits):
            told = int(await asyncio.wait_for(process.stdout.readline(), 30))
        process.kill()
        rest = await process.stdout.read()
        await process.wait()
        told = int((rest.splitlines() or [str(told).encode()])[-1])
        async with DuckSeries(path) as series:
            upto = await series.cursor()
            assert upto in {told, told + 500}
            assert (await series.query(query)).rows == [(0, upto)]
            async with duckdb_count(path) as rows:
                assert rows == upto


@asynccontextmanager
async def duckdb_count(path: Path) -> AsyncIterator[int]:
    """The rows of the table itself, duplicates included, seen by a second connection of this process."""
    connection = duckdb.connect(str(path), config=DuckSeries(path).config)
    try:
        ((count,),) = connection.execute("SELECT count(*) FROM samples").fetchall()
        yield count
    finally:
        connection.close()


async def test_a_full_disk_is_cured_by_room_alone(tmp_path: Path) -> None:
    script = """
import asyncio, resource, sys
from pathlib import Path
from skerry_adapters.series.duckdb import DuckSeries
from skerry_adapters.series.ports import Query, Sample, Samples, SeriesUnavailable

PATH = "/features/f/properties/x"

def batch(number):
    return Samples.of(Sample("a:b", PATH, n, n, n * 1.1234567) for n in range(number * 2000, number * 2000 + 2000))

async def main():
    folder = Path(sys.argv[1])
    async with DuckSeries(folder / "s.duckdb") as series:
        await series.write(batch(0), 1)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, unlimited[1]))
        for _ in range(3):
            try:
                await series.write(batch(1), 2)
            except SeriesUnavailable as error:
                assert "too large" in error.facts["reason"], error.facts
            else:
                raise AssertionError("a write without room")
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        await series.write(batch(1), 2)
        page = await series.query(Query(thing="a:b", path=PATH, start=0, end=10**9, step=10**9, agg="count"))
        assert page.rows == [(0, 4000)], page
        assert await series.cursor() == 2

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path))
    assert await asyncio.wait_for(process.wait(), 60) == 0
