"""Import, export and backup of things of 2 kB, each with a policy of its own; the yardstick is the same rows sent at once by one request.

Run: .venv/bin/python bench/bulk.py [--things 20000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import msgspec

from measure import server
from scale import turbine
from skerry_registry.cli import backups, transfer
from skerry_registry.cli.client import Client


def rows(namespace: str, things: int) -> bytes:
    """The things as rows of commands."""
    return b"".join(
        msgspec.json.encode(
            {"topic": f"{namespace}/T{n:06d}/things/twin/commands/modify", "path": "/", "value": turbine(n)}
        )
        + b"\n"
        for n in range(things)
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--things", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with server(folder, log_level="WARNING") as (port, _):
            client = Client(f"http://127.0.0.1:{port}", "ditto", "ditto")
            body = rows("whole", options.things)
            began = time.perf_counter()
            with client.answer("POST", "/api/2/bulk", body, transfer.NDJSON) as answer:
                done = answer.read().count(b'"status":201')
            whole = options.things / (time.perf_counter() - began)
            print(f"one request: {whole:,.0f} things/s, {done:,} created")
            (folder / "in.ndjson").write_bytes(rows("bench", options.things))
            report = transfer.import_(client, folder / "in.ndjson", quiet=True)
            print(
                f"import: {report.rate:,.0f} things/s, {report.failed} refused; {report.rate / whole:.2f} of one request"
            )
            report = transfer.export(client, folder / "out.ndjson", namespaces="bench", quiet=True)
            print(f"export: {report.rate:,.0f} things/s with {report.policies:,} policies")
            began = time.perf_counter()
            operator = Client(f"http://127.0.0.1:{port}", "devops", "foobar")
            manifest = backups.backup(operator, folder / "saved.tar", folder / "none", lambda: time.time_ns() // 1000)
            size = sum(kept.bytes for kept in manifest.files)
            print(f"backup: {size / 1e6:,.0f} MB in {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
