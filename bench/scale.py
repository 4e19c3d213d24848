"""100,000 things: time from start to ready, memory when idle and when every thing has been read once.

Run: .venv/bin/python bench/scale.py [--things 100000]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path

from measure import memory, server
from skerry.signals import Command
from skerry_registry.registry import Registry
from skerry_registry.stores.sqlite import SqliteStore

LOGIN = {"Authorization": "Basic " + base64.b64encode(b"ditto:ditto").decode()}


def turbine(n: int) -> dict[str, object]:
    """A thing of about 2 kB."""
    properties = {f"value{k:02d}": 1000.5 + k + n for k in range(48)}
    attributes = {
        "kind": "turbine",
        "name": f"T{n:06d}",
        "farm": f"farm{n % 100}",
        "position": {"x": n * 1.5, "y": n * 2.5},
        "note": "z" * 700,
    }
    return {
        "attributes": attributes,
        "features": {"scada": {"properties": {"power": 2150.3, "status": "operating", **properties}}},
    }


async def fill(folder: Path, things: int) -> float:
    """Create the things in the folder; answers the seconds it took."""
    begin = time.perf_counter()
    ids = iter(range(10**9))
    async with Registry(
        SqliteStore(folder / "data"), lambda: int(time.time() * 1e6), lambda: str(next(ids))
    ) as registry:
        for start in range(0, things, 500):
            commands = [
                Command(verb="modify", id=f"bench:T{n:06d}", value=turbine(n), subjects=("nginx:ditto",))
                for n in range(start, min(start + 500, things))
            ]
            for answer in await registry.handle_all(commands):
                if isinstance(answer, Exception):
                    raise answer
    return time.perf_counter() - begin


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--things", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = asyncio.run(fill(folder, options.things))
        size = sum(path.stat().st_size for path in (folder / "data").rglob("*") if path.is_file())
        print(f"created {options.things:,} things in {seconds:.1f} s; {size / 1e6:,.0f} MB on disk")
        begin = time.perf_counter()
        with server(folder, log_level="WARNING") as (port, process):
            connection = HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/ready")
            ready = connection.getresponse()
            ready.read()
            print(
                f"started: {time.perf_counter() - begin:.2f} s to /ready {ready.status}; memory {memory(process.pid):,.0f} MB"
            )
            begin = time.perf_counter()
            for n in range(options.things):
                connection.request("GET", f"/api/2/things/bench:T{n:06d}", headers=LOGIN)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise SystemExit(f"T{n}: {answer.status}")
            seconds = time.perf_counter() - begin
            print(
                f"read each once: {seconds:.1f} s on one connection; memory {memory(process.pid):,.0f} MB (Pss, whole tree)"
            )


if __name__ == "__main__":
    main()
