"""What is told live, and how soon: WebSocket subscribers, idle sessions, messages that a device answers, MQTT to WebSocket.

Each part prints its figures beside the bound that it is to keep and a yardstick of the same run. Clients are processes of
their own (bench/live_clients.py); on a machine with two cores they take about as much of it as the server.
Run: .venv/bin/python bench/live.py [--parts one,many,idle,messages,mqtt] [--seconds 10]
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from measure import cpu, free_port, memory, mosquitto, percentiles, server

LOGIN = {"Authorization": "Basic " + base64.b64encode(b"ditto:ditto").decode(), "Content-Type": "application/json"}
OWNER = "nginx:ditto"
FULL = {"grant": ["READ", "WRITE"], "revoke": []}
READ = {"grant": ["READ"], "revoke": []}
THINGS = 100


class Client:
    """A process of bench/live_clients.py."""

    def __init__(self, role: str, *arguments: object) -> None:
        command = [sys.executable, str(Path(__file__).parent / "live_clients.py"), role, json.dumps(arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            sys.exit(f"a client has ended: {self.process.args!r}")
        return line

    def ready(self) -> None:
        """Wait until it is."""
        if (line := self.line()) != "ready":
            sys.exit(f"unexpected: {line}")

    def tell(self) -> None:
        """Give it the line of input that it waits for."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def result(self) -> Any:
        """What it found."""
        return json.loads(self.line())


@contextmanager
def client(role: str, *arguments: object) -> Iterator[Client]:
    """It, for as long as the block lasts."""
    made = Client(role, *arguments)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


def call(connection: HTTPConnection, method: str, path: str, body: object, **headers: str) -> None:
    """One request that must succeed."""
    connection.request(method, path, json.dumps(body), {**LOGIN, **headers})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 300:
        sys.exit(f"{method} {path}: {answer.status} {text!r}")


def entry(subject: str, **resources: object) -> dict[str, object]:
    return {"subjects": {subject: {"type": "bench"}}, "resources": resources}


def prepare(connection: HTTPConnection) -> None:
    """A thing that three subjects see differently, one with a device, and those of the telemetry."""
    views = {
        "owner": entry(OWNER, **{"thing:/": FULL, "policy:/": FULL, "message:/": FULL}),
        "one": entry("nginx:view1", **{"thing:/": READ}),
        "two": entry("nginx:view2", **{"thing:/features/a": READ}),
        "three": entry("nginx:view3", **{"thing:/features/b": READ, "thing:/attributes": READ}),
    }
    call(connection, "PUT", "/api/2/policies/bench:views", {"entries": views})
    features = {name: {"properties": {"sent": 0, "power": 2150.3, "status": "operating"}} for name in "abc"}
    call(connection, "PUT", "/api/2/things/bench:V", {"policyId": "bench:views", "features": features})
    call(connection, "PUT", "/api/2/things/bench:M", {})
    for n in range(THINGS):
        call(connection, "PUT", f"/api/2/things/bench:T{n:04d}", {"features": {"scada": {"properties": {}}}})


def one(connection: HTTPConnection, port: int, pid: int, events: int) -> None:
    """One event at a time to 1,000 subscribers with three views."""
    users = ["nginx:view1", "nginx:view2", "nginx:view3"]
    with client("subscribers", port, 1_000, users, ["START-SEND-EVENTS"], 0) as those:
        those.ready()
        last, answered, used = [], [], cpu(pid)
        for _ in range(events):
            sent = time.monotonic_ns()
            patch = {"features": {name: {"properties": {"sent": sent}} for name in "ab"}}
            call(
                connection, "PATCH", "/api/2/things/bench:V", patch, **{"Content-Type": "application/merge-patch+json"}
            )
            done = time.monotonic_ns()
            last.append((those.result()["last"] - sent) / 1e6)
            answered.append((done - sent) / 1e6)
        used = (cpu(pid) - used) / events * 1e3
    print("one event to 1,000 subscribers with three views (bound: last one served 100 ms after the commit)")
    print(f"  from the request to the last one served: {percentiles(last)}, most {max(last):.0f} ms")
    print(f"  from the request to its answer:          {percentiles(answered)}   server CPU {used:.1f} ms per event")


def many(port: int, mqtt: int, pid: int, seconds: float) -> None:
    """2,000 events/s to 50 subscribers, from telemetry."""
    rate, count = 2_000, 50
    used, total, taken, frames = streamed(port, mqtt, pid, rate, count, seconds)
    print(f"2,000 events/s to 50 subscribers for {seconds:.0f} s (bound: sustained, which is 100,000 frames/s)")
    print(
        f"  {frames:,} of {total * count:,} frames came, {frames / seconds:,.0f}/s; from publish to event: {percentiles(taken)}"
    )
    end = taken[-len(taken) // 10 :]
    print(
        f"  in the last tenth of the time: {percentiles(end)}   server CPU {used / seconds:.2f} cores, {used / frames * 1e6:.1f} us per frame"
    )
    bare = free_port()
    with client("bare", bare, count, rate, seconds) as yardstick:
        yardstick.ready()
        with client("subscribers", bare, count, [OWNER], [], 1) as those:
            those.ready()
            yardstick.tell()
            spent = yardstick.result()
            time.sleep(0.5)
            those.tell()
            found = those.result()
    print(
        f"  yardstick: a loop that writes ready-made frames to {count} sockets takes {spent['cpu'] / found['frames'] * 1e6:.1f} us"
        f" per frame; {percentiles(found['taken'])}"
    )


def streamed(
    port: int, mqtt: int, pid: int, rate: float, count: int, seconds: float
) -> tuple[float, int, list[float], int]:
    """Telemetry at a rate to so many subscribers: CPU seconds, messages, latencies of one of them, frames of all."""
    with client("subscribers", port, count, [OWNER], ["START-SEND-EVENTS"], 1) as those:
        those.ready()
        used = cpu(pid)
        with client("publisher", mqtt, rate, seconds, THINGS) as source:
            total = source.result()["sent"]
            time.sleep(1.0)
            used = cpu(pid) - used
            those.tell()
            found = those.result()
    return used, total, found["taken"], found["frames"]


def idle(port: int, pid: int, count: int) -> None:
    """Sessions that do nothing."""
    before = memory(pid)
    print(f"{count:,} idle sessions (bound: 300 MB); the server without them: {before:.0f} MB")
    for title, say in (
        ("open", []),
        ("that have subscribed to events and messages", ["START-SEND-EVENTS", "START-SEND-MESSAGES"]),
    ):
        begin = time.perf_counter()
        with client("subscribers", port, count, [OWNER], say, 1) as those:
            those.ready()
            took = time.perf_counter() - begin
            now = memory(pid)
            used = cpu(pid)
            time.sleep(5)
            used = (cpu(pid) - used) / 5
        print(
            f"  {title}: {now:.0f} MB, {(now - before) * 1e3 / count:.1f} kB each; opened in {took:.1f} s; {used * 100:.1f} % CPU while idle"
        )
        time.sleep(2)


def messages(port: int, pid: int, seconds: float) -> None:
    """HTTP messages that a device answers over its WebSocket."""
    head = "".join(f"{name}: {value}\r\n" for name, value in LOGIN.items())
    path = "/api/2/things/bench:M/inbox/messages/ask?timeout=10"
    request = f'POST {path} HTTP/1.1\r\nHost: bench\r\n{head}Content-Length: 7\r\n\r\n{{"a":1}}'
    plain = f"GET /api/2/things/bench:M HTTP/1.1\r\nHost: bench\r\n{head}\r\n"
    with client("device", port, OWNER) as answering:
        answering.ready()
        used = cpu(pid)
        with client("askers", port, request, 32, seconds) as asking:
            found = asking.result()
        used = (cpu(pid) - used) / (found["count"] * (seconds + 0.5) / seconds)
    with client("askers", port, plain, 32, seconds) as asking:
        base = asking.result()
    rate = found["count"] / seconds
    print("HTTP messages answered by a device over WebSocket, 32 at a time (bound: 1,500/s, p99 50 ms)")
    print(f"  {rate:,.0f} round trips/s  {percentiles(found['taken'])}   server CPU {used * 1e6:.0f} us each")
    print(f"  yardstick: the same client GETs {base['count'] / seconds:,.0f} things/s  {percentiles(base['taken'])}")


def through(port: int, mqtt: int, pid: int, seconds: float, folder: Path) -> None:
    """From MQTT publish to WebSocket event."""
    used, total, taken, frames = streamed(port, mqtt, pid, 2_000, 1, seconds)
    print("from MQTT publish to WebSocket event at 2,000 messages/s (bound: p50 15 ms, p99 60 ms)")
    print(f"  {frames:,} of {total:,} came: {percentiles(taken)}   server CPU {used / total * 1e6:.0f} us per message")
    with mosquitto(folder) as (broker, _), client("listener", broker, total) as other:
        other.ready()
        with client("publisher", broker, 2_000, seconds, THINGS) as source:
            source.result()
            print(f"  yardstick: another MQTT client gets them from Mosquitto {percentiles(other.result())}")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="one,many,idle,messages,mqtt")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--sessions", type=int, default=5_000)
    options = parser.parse_args()
    parts = options.parts.split(",")
    for part in parts:
        mqtt = free_port()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            settings = {"log_level": "WARNING", "mqtt_port": mqtt, "ws_frames_per_second": 0}
            with server(folder, **settings) as (port, process):
                connection = HTTPConnection("127.0.0.1", port)
                prepare(connection)
                if part == "one":
                    one(connection, port, process.pid, options.events)
                elif part == "many":
                    many(port, mqtt, process.pid, options.seconds)
                elif part == "idle":
                    idle(port, process.pid, options.sessions)
                elif part == "messages":
                    messages(port, process.pid, options.seconds)
                else:
                    through(port, mqtt, process.pid, options.seconds, folder)
                print(f"  memory of the server at the end (Pss): {memory(process.pid):,.0f} MB")


if __name__ == "__main__":
    main()
