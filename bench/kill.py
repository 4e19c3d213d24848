"""Kill the server with SIGKILL, again and again, under MQTT and HTTP load, and compare what it acknowledged with what it kept.

After every kill the server starts on the same folder and the load goes on. At the end: no acknowledged change is missing, none is
applied twice, journal numbers and revisions have no gap, and the series has each sample once.
With --mosquitto the messages come through a Mosquitto that lives on: its persistent session must carry what we had not stored.
Run: .venv/bin/python bench/kill.py [--kills 200] [--mosquitto]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from measure import ROOT, LeanClient, free_port, mosquitto, publish_packet
from skerry_registry.stores.sqlite import SqliteStore

LOGIN = {"Authorization": "Basic " + base64.b64encode(b"ditto:ditto").decode(), "Content-Type": "application/json"}


class HttpWriter(threading.Thread):
    """PUTs 1, 2, 3 … to an attribute of its own thing; never the same number twice."""

    def __init__(self, port: int, name: str, stop: threading.Event) -> None:
        super().__init__()
        self.port, self.thing, self.done = port, f"kill:{name}", stop
        self.tried = 0
        self.acknowledged: list[int] = []

    def run(self) -> None:
        """Write until told to stop."""
        connection: HTTPConnection | None = None
        while not self.done.is_set():
            try:
                connection = connection or HTTPConnection("127.0.0.1", self.port, timeout=10)
                self.tried += 1
                connection.request("PUT", f"/api/2/things/{self.thing}/attributes/n", str(self.tried), LOGIN)
                answer = connection.getresponse()
                answer.read()
                if answer.status in {201, 204}:
                    self.acknowledged.append(self.tried)
            except (OSError, HTTPException):
                if connection is not None:
                    connection.close()
                    connection = None
                self.done.wait(0.02)
        if connection is not None:
            connection.close()


class MqttWriter(threading.Thread):
    """Publishes 1, 2, 3 … at QoS 1, with a time each if `timed`; what is not acknowledged is sent again, marked, as MQTT asks for."""

    def __init__(self, port: int, name: str, stop: threading.Event, *, timed: bool = True, rest: float = 0.0) -> None:
        """`rest`: seconds between bursts, where a broker that acknowledges before the server would only pile them up."""
        super().__init__()
        self.port, self.name, self.thing, self.done, self.window = port, name, f"kill:{name}", stop, 50
        self.timed, self.rest = timed, rest
        self.tried = 0
        self.acknowledged: list[int] = []
        self.waiting: dict[int, int] = {}
        self.start_time = int(time.time() * 1000)

    def message(self, n: int, again: bool) -> bytes:
        """The PUBLISH of one number; `again` marks it as sent before."""
        time = {"ts": self.start_time + n} if self.timed else {}
        payload = json.dumps({**time, "n": n, "power": n * 0.5}).encode()
        packet = publish_packet(f"telemetry/kill/{self.name}/scada", payload, n % 65000 + 1)
        return bytes([packet[0] | (0x08 if again else 0)]) + packet[1:]

    def run(self) -> None:
        """Publish until told to stop, over as many connections as it takes."""
        while not self.done.is_set():
            try:
                client = LeanClient(self.port, self.name, "ditto", "ditto")
            except OSError:
                self.done.wait(0.02)
                continue
            try:
                self.talk(client)
            except OSError:
                pass
            finally:
                client.socket.close()

    def talk(self, client: LeanClient) -> None:
        """Publish and take acknowledgements on one connection."""
        if self.waiting:
            client.socket.sendall(b"".join(self.message(n, again=True) for n in sorted(self.waiting.values())))
        half = b""
        while not self.done.is_set():
            if self.rest:
                self.done.wait(self.rest)
            while len(self.waiting) < self.window:
                self.tried += 1
                self.waiting[self.tried % 65000 + 1] = self.tried
                client.socket.sendall(self.message(self.tried, again=False))
            if select.select([client.socket], [], [], 0.1)[0]:
                data = half + client.socket.recv(65536)
                if not data:
                    raise ConnectionResetError
                whole = len(data) // 4 * 4
                half = data[whole:]
                for at in range(0, whole, 4):
                    n = self.waiting.pop(int.from_bytes(data[at + 2 : at + 4]), None)
                    if n is not None:
                        self.acknowledged.append(n)


class Victim:
    """The server that is killed."""

    def __init__(self, folder: Path, external: int | None = None) -> None:
        """`external`: the port of a broker that devices and server share, in place of the embedded one."""
        self.folder, self.http, self.mqtt = folder, free_port(), external or free_port()
        self.broker = "SKERRY_MQTT_PORT" if external is None else "SKERRY_MQTT_URL"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; answers the seconds until it was ready."""
        begin = time.perf_counter()
        env = {**os.environ, "SKERRY_DATA_DIR": str(self.folder / "data"), "SKERRY_HTTP_PORT": str(self.http)}
        where = f"mqtt://127.0.0.1:{self.mqtt}" if self.broker == "SKERRY_MQTT_URL" else str(self.mqtt)
        env |= {self.broker: where, "SKERRY_LOG_LEVEL": "WARNING"}
        config = ROOT / "compose" / "ditto-defaults.toml"
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "skerry_registry", "serve", "--config", str(config)],
                env=env,
                stdout=log,
                stderr=log,
            )
        while not self.ready():
            if self.process.poll() is not None or time.perf_counter() - begin > 30:
                raise SystemExit(f"the server did not start again:\n{(self.folder / 'server.log').read_text()[-3000:]}")
            time.sleep(0.02)
        return time.perf_counter() - begin

    def ready(self) -> bool:
        """Whether /ready answers 200."""
        connection = HTTPConnection("127.0.0.1", self.http, timeout=2)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and wait."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def get(port: int, path: str) -> tuple[int, bytes]:
    """GET with Ditto's login."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, None, LOGIN)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def put_thing(port: int, thing: str) -> None:
    """Create the thing that a writer writes to."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", f"/api/2/things/{thing}", "{}", LOGIN)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 201:
        raise SystemExit(f"create {thing}: {answer.status}")


def sample_count(port: int, thing: str, start: int) -> int:
    """How many samples of `n` history has, raw rows counted page by page."""
    seen, cursor = 0, ""
    while True:
        path = f"/api/2/timeseries/things/{thing}/features/scada/properties/n?from={start - 1000}&to=now%2B1d&limit=1000&timeFormat=ms{cursor}"
        status, body = get(port, path)
        if status != 200:
            raise SystemExit(f"history of {thing}: {status} {body!r}")
        page = json.loads(body)[0]
        seen += len(page["data"])
        if not page["result"]["hasMore"]:
            return seen
        cursor = "&cursor=" + page["result"]["nextCursor"]


def wait_for(port: int, thing: str, n: int, seconds: float = 60.0) -> None:
    """Until the thing shows the number, or one after it: the broker delivers in order."""
    deadline = time.monotonic() + seconds
    while (shown := json.loads(get(port, f"/api/2/things/{thing}/features/scada/properties/n")[1])) < n:
        if time.monotonic() > deadline:
            raise SystemExit(f"{thing} shows {shown}, the broker has acknowledged {n}")
        time.sleep(0.05)


async def journal_of(folder: Path) -> tuple[list[int], dict[str, list[int]], dict[str, list[int]]]:
    """Numbers, and per thing the revisions and the values of n, read from the stopped server's folder."""
    numbers: list[int] = []
    revisions: dict[str, list[int]] = defaultdict(list)
    values: dict[str, list[int]] = defaultdict(list)
    async with SqliteStore(folder / "data") as store:
        after = 0
        while events := await store.read(after, 10_000):
            for event in events:
                numbers.append(event.number)
                if event.kind == "thing":
                    revisions[event.id].append(event.revision)
                    if event.path == ("attributes", "n"):
                        values[event.id].append(event.value)
                    for patch in (event.value, event.late):
                        if (
                            event.path == ("features", "scada")
                            and isinstance(patch, dict)
                            and "n" in patch.get("properties", {})
                        ):
                            values[event.id].append(patch["properties"]["n"])
            after = events[-1].number
    return numbers, revisions, values


def run(
    folder: Path, kills: int, seed: int = 1, pause: tuple[float, float] = (0.2, 1.5), *, external: bool = False
) -> dict[str, object]:
    """Load, kill, start again, compare. Answers the figures; raises AssertionError with what is wrong.

    `external`: the messages come through a Mosquitto that is not killed.
    """
    with ExitStack() as stack:
        port = stack.enter_context(mosquitto(folder))[0] if external else None
        return _run(folder, kills, random.Random(seed), pause, port)


def _run(
    folder: Path, kills: int, chance: random.Random, pause: tuple[float, float], external: int | None
) -> dict[str, object]:
    victim = Victim(folder, external)
    victim.start()
    stop = threading.Event()
    names = [f"H{n}" for n in range(4)]
    http = [HttpWriter(victim.http, name, stop) for name in names]
    mqtt = [MqttWriter(victim.mqtt, f"M{n}", stop, timed=n < 2, rest=0.05 if external else 0.0) for n in range(4)]
    for writer in [*http, *mqtt]:
        put_thing(victim.http, writer.thing)
    for writer in [*http, *mqtt]:
        writer.start()
    starts = []
    try:
        for _ in range(kills):
            time.sleep(chance.uniform(*pause))
            victim.kill()
            starts.append(victim.start())
        time.sleep(1.0)
    finally:
        stop.set()
        for writer in [*http, *mqtt]:
            writer.join()
    for writer in mqtt:
        wait_for(victim.http, writer.thing, max(writer.acknowledged, default=0))
    counts = {writer.thing: sample_count(victim.http, writer.thing, writer.start_time) for writer in mqtt}
    victim.stop()
    numbers, revisions, values = asyncio.run(journal_of(folder))
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "journal numbers have a gap"
    acknowledged = 0
    for writer in [*http, *mqtt]:
        kept = Counter(values[writer.thing])
        twice = [n for n, times in kept.items() if times > 1]
        missing = [n for n in writer.acknowledged if n not in kept]
        acknowledged += len(writer.acknowledged)
        assert not missing, f"{writer.thing}: {len(missing)} acknowledged changes are missing, {missing[:5]}"
        assert not twice, f"{writer.thing}: {len(twice)} changes were applied twice, {twice[:5]}"
        assert revisions[writer.thing] == list(range(1, len(revisions[writer.thing]) + 1)), (
            f"{writer.thing}: revisions have a gap"
        )
        assert writer.acknowledged, f"{writer.thing}: nothing was acknowledged"
    for writer in mqtt:
        assert counts[writer.thing] == len(values[writer.thing]), (
            f"{writer.thing}: {counts[writer.thing]} samples for {len(values[writer.thing])} changes"
        )
    return {
        "kills": kills,
        "acknowledged": acknowledged,
        "events": len(numbers),
        "slowest start": round(max(starts), 2),
    }


def main() -> None:
    """Kill many times and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mosquitto", action="store_true", help="messages come through a Mosquitto that lives on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = run(Path(name), options.kills, options.seed, external=options.mosquitto)
    print("no acknowledged change missing, none twice, no gap, each sample once:", figures)


if __name__ == "__main__":
    main()
