"""The embedded series: samples a second from journal events, and how long queries take.

Run: .venv/bin/python bench/series.py [--samples 4000000] [--queries 50]

Yardstick: bare DuckDB in the same run, that is the same columns as ready arrays into one table, and one bare SELECT.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import numpy as np
from msgspec.structs import replace

from measure import memory, percentiles
from skerry.signals import Event
from skerry_adapters.series.duckdb import DuckSeries
from skerry_adapters.series.ports import Query
from skerry_adapters.series.sink import Sink

T0 = 1_769_904_000_000_000
THINGS = 1_000
VALUES = 10
LONG = 100_000
PATH = "/features/scada/properties/"


def events(count: int) -> list[Event]:
    """Telemetry of THINGS turbines, VALUES values each."""
    wind = random.Random(7)
    return [
        Event(
            kind="thing",
            id=f"bench:T{n % THINGS:04d}",
            action="merged",
            revision=n // THINGS + 1,
            timestamp=T0 + n * 1_000 + 20_000,
            observed=T0 + n * 1_000,
            path=("features", "scada"),
            value={"properties": {f"value{k}": round(wind.gauss(1000, 300), 2) for k in range(VALUES)}},
            number=n + 1,
        )
        for n in range(count)
    ]


def long_events(first: int) -> list[Event]:
    """One property with LONG samples."""
    path = ("features", "scada", "properties", "power")
    return [
        Event(
            kind="thing",
            id="bench:long",
            action="modified",
            revision=n + 1,
            timestamp=T0 + n * 40_000,
            path=path,
            value=n * 0.37,
            number=first + n,
        )
        for n in range(LONG)
    ]


async def ingest(series: DuckSeries, journal: list[Event]) -> tuple[float, float, float]:
    """Take the events in through the sink; answers seconds, CPU seconds and the longest time the loop was held up."""
    held_up = 0.0

    async def follow(after: int) -> AsyncIterator[list[Event]]:
        for start in range(after, len(journal), 1_000):
            yield journal[start : start + 1_000]
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    async def beat() -> None:
        nonlocal held_up
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(0.001)
            held_up = max(held_up, time.perf_counter() - begin - 0.001)

    sink = Sink(follow, series, lambda: 0)
    begin, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(sink.run()), tasks.create_task(beat())]
        while not await sink.reach(len(journal), 600):
            print(f"waiting: {sink.status}")
        seconds, used = time.perf_counter() - begin, time.process_time() - cpu
        for task in running:
            task.cancel()
    return seconds, used, held_up


def bare_ingest(folder: Path, samples: int) -> float:
    """Samples a second of DuckDB alone."""
    connection = duckdb.connect(str(folder / "bare.duckdb"), config={"threads": 2, "memory_limit": "512MB"})
    connection.execute("CREATE TABLE bare (series INTEGER, time BIGINT, learned BIGINT, number DOUBLE)")
    size = 20_000
    arrays = {
        "series": np.arange(size, dtype=np.int32),
        "time": np.arange(size, dtype=np.int64),
        "learned": np.arange(size, dtype=np.int64),
        "number": np.random.default_rng(7).normal(1000, 300, size),
    }
    begin = time.perf_counter()
    for _ in range(samples // size):
        connection.execute("INSERT INTO bare SELECT series, time, learned, number FROM arrays")
    seconds = time.perf_counter() - begin
    connection.close()
    assert len(arrays) == 4
    return samples // size * size / seconds


def bare_query(path: Path, repeat: int) -> list[float]:
    """Milliseconds of one SELECT over the same file, with nothing around it."""
    connection = duckdb.connect(str(path), read_only=True)
    sql = (
        f"SELECT (time - {T0}) // 4000000 AS step, avg(number) FROM samples WHERE thing ="
        " (SELECT no FROM things WHERE name = 'bench:long') GROUP BY step ORDER BY step"
    )
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        assert len(connection.execute(sql).fetchall()) == 1_000
        times.append((time.perf_counter() - begin) * 1000)
    connection.close()
    return times


async def measured(series: DuckSeries, query: Query, repeat: int, rows: int) -> list[float]:
    """Milliseconds of each answer."""
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        page = await series.query(query)
        times.append((time.perf_counter() - begin) * 1000)
        assert len(page.rows) == rows, len(page.rows)
    return times


async def run(folder: Path, samples: int, queries: int) -> None:
    """Measure and print."""
    count = samples // VALUES
    journal = events(count)
    journal += long_events(count + 1)
    gc.freeze()  # a server does not hold its whole journal in memory, so it has no such heap to look through
    total = count * VALUES + LONG
    path = folder / "series.duckdb"
    before = memory(os.getpid())
    async with DuckSeries(path) as series:
        seconds, used, held_up = await ingest(series, journal)
        rate = total / seconds
        print(
            f"ingest: {total:,} samples of {THINGS * VALUES + 1:,} properties in {seconds:.1f} s: {rate:,.0f} samples/s"
        )
        print(
            f"        {used / total * 1e6:.2f} us CPU per sample; the loop was held up for {held_up * 1000:.0f} ms at most"
        )
        print(f"        memory {memory(os.getpid()) - before:,.0f} MB more than before (Pss)")
        power = f"{PATH}power"
        end = T0 + LONG * 40_000
        long = Query(thing="bench:long", path=power, start=T0, end=end, step=4_000_000)
        steps = await measured(series, long, queries, 1_000)
        print(f"query:  {LONG:,} samples to 1,000 steps: {percentiles(steps)}")
        for agg in ("percentile", "derivative", "rate", "integral"):
            one = replace(long, agg=agg, percentile=95.0 if agg == "percentile" else None)
            print(f"        the same, {agg}: {percentiles(await measured(series, one, queries, 1_000))}")
            whole = replace(one, step=end - T0)
            print(f"        the same to one step: {percentiles(await measured(series, whole, queries, 1))}")
        raw = await measured(series, Query(thing="bench:long", path=power, start=T0, end=end), queries, 1_000)
        print(f"        the first 1,000 of {LONG:,} samples: {percentiles(raw)}")
        newest = Query(thing="bench:T0007", path=f"{PATH}value3", start=0, end=2 * T0, limit=1, order="desc")
        print(
            f"        the newest sample of another property: {percentiles(await measured(series, newest, queries, 1))}"
        )
    bare = bare_ingest(folder, samples)
    print(f"ingest: yardstick, bare DuckDB: {bare:,.0f} rows/s; ratio {rate / bare:.2f}")
    bare_times = bare_query(path, queries)
    ratio = sorted(steps)[len(steps) // 2] / sorted(bare_times)[len(bare_times) // 2]
    print(f"query:  yardstick, one bare SELECT: {percentiles(bare_times)}; ratio {ratio:.2f}")
    gc.unfreeze()  # or DuckDB's binding complains at the exit
    print(f"disk:   {path.stat().st_size / total:.1f} bytes per sample")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=4_000_000)
    parser.add_argument("--queries", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(run(Path(name), options.samples, options.queries))


if __name__ == "__main__":
    main()
