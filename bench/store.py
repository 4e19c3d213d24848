"""Measures the embedded store and the registry over it: `python bench/store.py [commits] [commands] [load] [scale]`."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from skerry.errors import SkerryError
from skerry.signals import Command, Event
from skerry_registry.app import COLLECT_EVERY
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore
from skerry_registry.stores.sqlite import SqliteStore

SUBJECTS = ("nginx:ditto",)


def now() -> int:
    return time.time_ns() // 1_000


def thing(name: str) -> dict[str, object]:
    return {
        "attributes": {
            "kind": "turbine",
            "name": name,
            "farm": "bench",
            "position": {"x": 1.0, "y": 2.0},
            "text": "x" * 600,
        },
        "features": {"scada": {"properties": {f"p{i}": float(i) for i in range(10)}}},
    }


def telemetry(name: str, observed: int, number: int) -> Command:
    return Command(
        verb="merge",
        id=f"bench:{name}",
        subjects=SUBJECTS,
        path=("features", "scada"),
        value={"properties": {f"p{i}": number * 1.1 + i for i in range(10)}},
        observed=observed,
        digest=hash((name, observed, number)) & (2**64 - 1),
    )


def rss() -> float:
    with Path("/proc/self/smaps_rollup").open() as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024


async def commits(folder: Path) -> None:
    for callers in (1, 32, 1000):
        async with SqliteStore(folder / f"commits{callers}") as store:
            counts = [0]
            stop = time.perf_counter() + 3

            async def write(caller: int, counts=counts, stop=stop, store=store) -> None:
                revision = 0
                while time.perf_counter() < stop:
                    revision += 1
                    await store.append(
                        [
                            Event(
                                kind="thing",
                                id=f"bench:T{caller}",
                                action="merged" if revision > 1 else "created",
                                revision=revision,
                                timestamp=now(),
                                path=("features", "scada"),
                                value={"properties": {f"p{i}": revision * 1.1 for i in range(10)}},
                            )
                        ]
                    )
                    counts[0] += 1

            started, cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(write(caller) for caller in range(callers)))
            taken = time.perf_counter() - started
            each = (time.process_time() - cpu) / counts[0] * 1e6
            print(f"store, {callers:4} callers: {counts[0] / taken:9,.0f} durable appends/s, {each:.1f} us CPU each")


async def commands(folder: Path) -> None:
    for name, store in (("memory", MemoryStore()), ("sqlite", SqliteStore(folder / "commands"))):
        async with Registry(store, now, lambda: "id") as registry:
            names = [f"T{n:04}" for n in range(1_000)]
            made = await registry.handle_all(
                [Command(verb="modify", id=f"bench:{n}", subjects=SUBJECTS, value=thing(n)) for n in names]
            )
            assert all(answer.status == 201 for answer in made), made[0]
            for ahead in (1, 4):
                done, number = 0, 0
                waits: list[float] = []
                limit = asyncio.Semaphore(ahead)
                stop = time.perf_counter() + 5
                started, cpu = time.perf_counter(), time.process_time()

                async def batch(batch_of: list[Command], waits=waits, limit=limit) -> None:
                    begun = time.perf_counter()
                    answers = await registry.handle_all(batch_of)
                    waits.append(time.perf_counter() - begun)
                    assert not any(isinstance(answer, SkerryError) for answer in answers)
                    limit.release()

                tasks = set()
                while time.perf_counter() < stop:
                    await limit.acquire()
                    begun = time.perf_counter()
                    observed = now()
                    many = [telemetry(names[(number * 100 + i) % 1000], observed, number) for i in range(100)]
                    started += time.perf_counter() - begun
                    number += 1
                    done += 100
                    task = asyncio.create_task(batch(many))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                await asyncio.gather(*tasks)
                taken = time.perf_counter() - started
                waits.sort()
                print(
                    f"registry on {name}, batches of 100, {ahead} at once: {done / taken:9,.0f} telemetry merges/s,"
                    f" {(time.process_time() - cpu) / done * 1e6:.0f} us CPU each,"
                    f" p50 {waits[len(waits) // 2] * 1e3:.1f} ms, p99 {waits[int(len(waits) * 0.99)] * 1e3:.1f} ms"
                )


async def scale(folder: Path) -> None:
    place = folder / "scale"
    started = time.perf_counter()
    async with Registry(SqliteStore(place), now, lambda: "id") as registry:
        for start in range(0, 100_000, 1_000):
            names = [f"T{n:06}" for n in range(start, start + 1_000)]
            await registry.handle_all(
                [Command(verb="modify", id=f"bench:{n}", subjects=SUBJECTS, value=thing(n)) for n in names]
            )
        print(f"100,000 things created in {time.perf_counter() - started:.1f} s, {rss():.0f} MB")
    del registry
    started = time.perf_counter()
    async with Registry(SqliteStore(place), now, lambda: "id") as registry:
        print(f"started over 100,000 things in {time.perf_counter() - started:.2f} s, {rss():.0f} MB")
        started = time.perf_counter()
        for start in range(0, 100_000, 997):
            await registry.handle(Command(verb="retrieve", id=f"bench:T{start:06}", subjects=SUBJECTS))
        print(f"cold reads: {(time.perf_counter() - started) / 101 * 1e6:.0f} us each")
        number, started = 0, time.perf_counter()
        while time.perf_counter() - started < 10:
            many = [telemetry(f"T{(number * 100 + i) * 7919 % 100_000:06}", now(), number) for i in range(100)]
            await registry.handle_all(many)
            number += 1
        taken = time.perf_counter() - started
        print(f"merges all over 100,000 things: {number * 100 / taken:,.0f}/s, {rss():.0f} MB")
        os.sync()


async def main() -> None:
    wanted = set(sys.argv[1:]) or {"commits", "commands", "scale"}
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_EVERY)
    folder = Path(tempfile.mkdtemp(prefix="skerry-bench-", dir=os.environ.get("SKERRY_BENCH_DIR")))
    try:
        for name, run in (("scale", scale), ("commits", commits), ("commands", commands)):
            if name in wanted:
                await run(folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    uvloop.run(main())
