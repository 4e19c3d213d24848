"""Searches over things of 2 kB while 10,000 of them change every second: in one process, and through HTTP beside GET.

Needs `wrk` for the second part. Run: .venv/bin/python bench/search.py [--things 100000] [--changes 10000] [--seconds 5] [--folder DIR]
A folder that was filled before is used again.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import psutil
import uvloop

import scale
from http_requests import DONE, LOGIN
from measure import LeanClient, counters, free_port, memory, percentiles, publish_packet, server, wait_for_port
from skerry.rql.parse import parse
from skerry.signals import Command
from skerry_registry.app import COLLECT_EVERY, now
from skerry_registry.registry import Registry
from skerry_registry.search.query import Metric, Sort
from skerry_registry.search.search import Search
from skerry_registry.stores.sqlite import SqliteStore

USER = ("nginx:ditto",)
POWER = ("features", "scada", "properties", "power")


class Changes:
    """Writes telemetry of as many things as there are changes in a second: each of them changes once a second."""

    def __init__(self, registry: Registry, things: int, rate: int) -> None:
        self._registry = registry
        self._things = things
        self._rate = rate
        self.made = 0

    async def run(self) -> None:
        """Until cancelled."""
        chance = random.Random(1)
        changing = min(self._things, self._rate)
        begin = time.perf_counter()
        while True:
            due = min(200, int((time.perf_counter() - begin) * self._rate) - self.made)
            if due < 50:
                await asyncio.sleep(0.003)
                continue
            await self._registry.handle_all(
                [
                    Command(
                        verb="merge",
                        id=f"bench:T{(self.made + n) % changing:06d}",
                        path=("features", "scada"),
                        value={"properties": {"power": chance.random() * 3_000, "value01": chance.random()}},
                        subjects=USER,
                    )
                    for n in range(due)
                ]
            )
            self.made += due


async def measure(name: str, ask: Callable[[int], Awaitable[object]], seconds: float) -> None:
    """Ask one after the other, and print."""
    begin = time.perf_counter()
    await ask(0)
    first = time.perf_counter() - begin
    times: list[float] = []
    begin, cpu = time.perf_counter(), time.process_time()
    while not times or time.perf_counter() - begin < seconds:
        asked = time.perf_counter()
        await ask(len(times) + 1)
        times.append(1e3 * (time.perf_counter() - asked))
        await asyncio.sleep(0)  # as a server would, which has more to do than this
    rate = len(times) / (time.perf_counter() - begin)
    share = 1e3 * (time.process_time() - cpu) / len(times)
    print(
        f"  {name:<44} {rate:8,.0f}/s  {percentiles(times)}  first {1e3 * first:.0f} ms  cpu {share:.2f} ms", flush=True
    )


def questions(search: Search, things: int) -> dict[str, Callable[[int], Awaitable[object]]]:
    """The searches, by name; each is asked with other values every time."""

    def find(text: str, *sort: Sort) -> Awaitable[object]:
        return search.find(USER, parse(text, now()), sort=sort)

    three = 'and(eq(attributes/farm,"farm{}"),gt(features/scada/properties/power,1500),like(attributes/name,"T*"))'
    wide = 'and(eq(attributes/kind,"turbine"),gt(features/scada/properties/power,{}),like(attributes/name,"T0*"))'
    figures = [Metric("n", "count"), Metric("mean", "avg", POWER), Metric("p95", "percentile", POWER, 95.0)]
    return {
        "eq(thingId)": lambda n: find(f'eq(thingId,"bench:T{n * 7919 % things:06d}")'),
        "eq of a text that one thing has": lambda n: find(f'eq(attributes/name,"T{n * 7919 % things:06d}")'),
        "eq of a text that 1 % have": lambda n: find(f'eq(attributes/farm,"farm{n % 100}")'),
        "eq of a number": lambda n: find(f"eq(attributes/position/x,{n % things * 1.5})"),
        "three terms (0.5 %), sorted by a live value": lambda n: find(
            three.format(n % 100), Sort(POWER, descending=True)
        ),
        "three terms (50 %), sorted by a live value": lambda n: find(wide.format(n % 3_000), Sort(POWER)),
        "count of 10 %": lambda _: search.count(USER, parse('like(attributes/farm,"farm1?")', now())),
        "like on distinct texts, each time another": lambda n: find(f'like(attributes/name,"*{n % 1000:03d}")'),
        "like on a text of a feature": lambda n: find(f'like(features/scada/properties/status,"*{n}*")'),
        "a number never asked for before": lambda n: find(f"eq(features/scada/properties/value40,{n})"),
        "groups of 100 farms, mean and percentile": lambda _: search.aggregate(
            USER, by=[("attributes", "farm")], metrics=figures
        ),
    }


async def in_process(folder: Path, things: int, rate: int, seconds: float) -> None:
    """Searches beside changes on one loop."""
    process = psutil.Process()

    def tell(what: str, begin: float) -> None:
        print(f"{what} after {time.perf_counter() - begin:.2f} s; memory {process.memory_info().rss / 1e6:,.0f} MB")

    ids = iter(range(10**9))
    begin = time.perf_counter()
    store = SqliteStore(folder / "data")
    async with Registry(store, now, lambda: str(next(ids))) as registry, Search(registry, store) as search:
        gc.freeze()
        gc.set_threshold(*COLLECT_EVERY)
        tell("opened", begin)
        await search.ready()
        tell("index ready", begin)
        await search.warm()
        tell("columns of attributes ready", begin)
        changes = Changes(registry, things, rate)
        changing = asyncio.create_task(changes.run())
        begin = time.perf_counter()
        try:
            for name, ask in questions(search, things).items():
                await measure(name, ask, seconds)
        finally:
            changing.cancel()
            await asyncio.wait({changing})
        made = changes.made / (time.perf_counter() - begin)
        print(f"changes meanwhile: {made:,.0f}/s; memory {process.memory_info().rss / 1e6:,.0f} MB")
        for column in sorted(search.index.columns, key=lambda column: -column.size)[:4]:
            print(f"  column {'/'.join(column.field)}: {column.size / things:.0f} bytes a thing")


def requests(port: int, template: str, things: int, seconds: float) -> tuple[float, str]:
    """GETs of paths with other things' numbers in the place of @, by 16 connections."""
    script = f"""{DONE}
math.randomseed(1)
function request()
  return wrk.format("GET", (("{template}"):gsub("@", string.format("%06d", math.random(0, {things - 1})))))
end
"""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        headers = [part for name, value in LOGIN.items() for part in ("-H", f"{name}: {value}")]
        command = [
            "wrk",
            "-t1",
            "-c16",
            f"-d{max(1, int(seconds))}s",
            *headers,
            "-s",
            file.name,
            f"http://127.0.0.1:{port}/",
        ]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None or "Non-2xx" in output:
        raise SystemExit(output)
    return float(found[1]), "  ".join(re.findall(r"^latency (.*)$", output, re.MULTILINE))


def publish(port: int, things: int, rate: int, ended: threading.Event) -> None:
    """Telemetry over MQTT, of each of so many things once a second."""
    chance = random.Random(1)
    client = LeanClient(port, "bench", "ditto", "ditto")
    with suppress(OSError):
        while not ended.is_set():
            packets = [
                publish_packet(
                    f"telemetry/bench/T{n % things:06d}/scada",
                    json.dumps({"power": chance.random() * 3_000, "value01": chance.random()}).encode(),
                    n + 1,
                )
                for n in range(rate)
            ]
            client.publish_all(packets, rate=rate)
    client.close()


def events(port: int) -> float:
    """The number of the newest event."""
    connection = HTTPConnection("127.0.0.1", port)
    number = counters(connection)["skerry_journal_number"]
    connection.close()
    return number


def wait_for_index(port: int) -> None:
    """Until a search is answered, which it is not in time while the index of many things is being filled."""
    connection = HTTPConnection("127.0.0.1", port)
    status = 0
    while status != 200:
        connection.request("GET", "/api/2/search/things/count?filter=like(attributes/farm,%22*%22)", headers=LOGIN)
        answer = connection.getresponse()
        answer.read()
        status = answer.status
        if status not in {200, 408}:
            raise SystemExit(f"search: {status}")
    connection.close()


def wait_for_series(port: int) -> None:
    """Until history shows what the journal has: `fill` writes things past it, which it takes in after the start."""
    connection = HTTPConnection("127.0.0.1", port)
    while counters(connection)["skerry_series_behind"] > 0:
        time.sleep(0.5)
    connection.close()


def over_http(folder: Path, things: int, rate: int, seconds: float) -> None:
    """The same through the door that clients use, telemetry coming in by MQTT."""
    mqtt, ended = free_port(), threading.Event()
    begin = time.perf_counter()
    with server(folder, mqtt_port=mqtt, log_level="WARNING") as (port, process):
        print(f"server listens after {time.perf_counter() - begin:.2f} s")
        wait_for_port(mqtt)
        wait_for_index(port)
        print(f"searches are answered after {time.perf_counter() - begin:.2f} s")
        wait_for_series(port)
        print(f"history has caught up after {time.perf_counter() - begin:.2f} s")
        feeding = threading.Thread(target=publish, args=(mqtt, things, rate, ended))
        if rate:
            feeding.start()
        get = 0.0
        try:
            for name, template in {
                "GET of a thing": "/api/2/things/bench:T@",
                "eq(thingId)": "/api/2/search/things?filter=eq(thingId,%22bench:T@%22)",
                "eq of a text that one thing has": "/api/2/search/things?filter=eq(attributes/name,%22T@%22)",
                "three terms, sorted, page of 25": "/api/2/search/things?filter=and(eq(attributes/farm,%22farm7%22),gt(features/"
                "scada/properties/power,1500),like(attributes/name,%22T*%22))&option=sort(-features/scada/properties/power)",
                "count of 10 %": "/api/2/search/things/count?filter=like(attributes/farm,%22farm1%3F%22)",
            }.items():
                if "search" in template:
                    requests(port, template, things, 2)  # the first one has the columns made
                before, began = events(port), time.perf_counter()
                each, latency = requests(port, template, things, seconds)
                changes = (events(port) - before) / (time.perf_counter() - began)
                get = get or each
                print(
                    f"  {name:<44} {each:8,.0f}/s  {latency}  ratio to GET {each / get:.2f}  beside {changes:,.0f} changes/s",
                    flush=True,
                )
            print(f"memory {memory(process.pid):,.0f} MB (Pss, whole tree)")
        finally:
            ended.set()
            if rate:
                feeding.join()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--things", type=int, default=100_000)
    parser.add_argument("--changes", type=int, default=10_000, help="per second")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each kind of search")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder: Path = options.folder or Path(name)
        if not (folder / "data").exists():
            print(f"filled in {asyncio.run(scale.fill(folder, options.things)):.1f} s")
        print("in one process")
        uvloop.run(in_process(folder, options.things, options.changes, options.seconds))
        if shutil.which("wrk") is None:
            print("wrk is not installed: nothing measured over HTTP")
            return
        print("over HTTP, 16 connections, changes by MQTT")
        over_http(folder, options.things, options.changes, options.seconds)


if __name__ == "__main__":
    main()
