"""GET a thing (1.4 kB) and PUT a property (durable) with 32 connections, beside the same server with a constant Litestar handler.

Needs `wrk` (a package of most Linux distributions). Run: .venv/bin/python bench/http_requests.py [--seconds 8] [--connections 32]
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import shutil
import subprocess
import sys
import tempfile
from http.client import HTTPConnection
from pathlib import Path

from measure import cpu, free_port, memory, server, wait_for_port

LOGIN = {"Authorization": "Basic " + base64.b64encode(b"ditto:ditto").decode(), "Content-Type": "application/json"}

DONE = """
function done(summary, latency, requests)
  for _, share in pairs({50, 95, 99}) do
    io.write(string.format("latency p%d %.1f ms\\n", share, latency:percentile(share) / 1000))
  end
end
"""
PUT = """
wrk.method = "PUT"
wrk.headers["Content-Type"] = "application/json"
local n = 0
local thread = 0
function setup(t) thread = thread + 1; t:set("id", thread) end
function request()
  n = n + 1
  return wrk.format("PUT", string.format("%s", PATH:gsub("@", tostring(n % 100))), nil, tostring(n))
end
"""


def thing() -> dict[str, object]:
    """A turbine of 1.4 kB."""
    properties = {f"value{k:02d}": 1000.5 + k for k in range(46)}
    return {
        "attributes": {
            "kind": "turbine",
            "name": "T01",
            "farm": "bench",
            "position": {"x": 1200.5, "y": 800.25},
            "model": "IEA 3.4 MW 130 m",
        },
        "features": {
            "scada": {"properties": {"power": 2150.3, "wind": 9.8, "status": "operating", **properties}},
            "nacelle": {"properties": {"yaw": 3.5, "x" * 10: "y" * 200}},
        },
    }


def wrk(port: int, path: str, seconds: int, connections: int, put: bool = False) -> tuple[float, str]:
    """Requests/s and the latencies that wrk measured."""
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: it is the load generator of this benchmark")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    for name, value in LOGIN.items():
        command += ["-H", f"{name}: {value}"]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(DONE + (f'PATH = "{path}"\n{PUT}' if put else ""))
        script.flush()
        command += ["-s", script.name, f"http://127.0.0.1:{port}{path.replace('@', '0')}"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output:
        sys.exit(output)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
    latency = "  ".join(re.findall(r"^latency (.*)$", output, re.MULTILINE))
    return rate, latency


CONSTANT = """
import sys, uvloop
from litestar import Litestar, Request, get, put
from msgspec import structs
from skerry_registry.http.server import run_http
from skerry_registry.settings import Settings
@get("/x")
async def read() -> dict[str, str]:
    return {"thingId": "bench:T0", "text": "z" * 1300}
@put("/x", status_code=204)
async def write(request: Request) -> None:
    await request.body()
app = Litestar([read, write], openapi_config=None)
settings = structs.replace(Settings(), http_host="127.0.0.1", http_port=int(sys.argv[1]))
uvloop.run(run_http(app, settings, lambda *_: None))
"""


def constant(seconds: int, connections: int) -> tuple[float, float]:
    """GET/s and PUT/s of a Litestar application that does nothing, on the same server."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", CONSTANT, str(port)], stderr=subprocess.DEVNULL) as process:
        wait_for_port(port)
        reads, _ = wrk(port, "/x", seconds, connections)
        writes, _ = wrk(port, "/x", seconds, connections, put=True)
        process.kill()
    return reads, writes


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    reads, writes = constant(options.seconds, options.connections)
    print(f"yardstick: a constant Litestar handler answers {reads:,.0f} GET/s, {writes:,.0f} PUT/s")
    with tempfile.TemporaryDirectory() as name, server(Path(name), log_level="WARNING") as (port, process):
        connection = HTTPConnection("127.0.0.1", port)
        for n in range(100):
            body = json.dumps(thing())
            connection.request("PUT", f"/api/2/things/bench:T{n}", body, LOGIN)
            answer = connection.getresponse()
            answer.read()
            if answer.status not in {201, 204}:
                sys.exit(f"create: {answer.status}")
        peak = memory(process.pid)
        for title, path, put, base in (
            (f"GET thing ({len(body)} bytes)", "/api/2/things/bench:T1", False, reads),
            ("GET property", "/api/2/things/bench:T1/features/scada/properties/power", False, reads),
            ("PUT property, durable", "/api/2/things/bench:T@/features/scada/properties/power", True, writes),
            (
                "PUT property, durable, one hot thing",
                "/api/2/things/bench:T1/features/scada/properties/power",
                True,
                writes,
            ),
        ):
            used = cpu(process.pid)
            rate, latency = wrk(port, path, options.seconds, options.connections, put)
            used = (cpu(process.pid) - used) / (rate * options.seconds) * 1e6
            print(f"{title}: {rate:,.0f}/s  {latency}  ratio {rate / base:.2f}  server CPU {used:.0f} us per request")
            peak = max(peak, memory(process.pid))
        print(f"peak memory of the server (Pss, whole tree): {peak:,.0f} MB")


if __name__ == "__main__":
    main()
