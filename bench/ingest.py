"""MQTT ingest through Mosquitto: QoS 1, 10 values per message, acknowledged after commit, everything in history.

Prints messages/s from the first publish until all are committed, and until all are in history; the latency of probes from publish
to readable over HTTP; the peak memory of the server; and the ratio to a do-nothing subscriber on the same broker.
Run: .venv/bin/python bench/ingest.py [--messages 100000] [--things 1000] [--entries 20]
[--embedded]
"""

from __future__ import annotations

import argparse
import base64
import json
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

from measure import LeanClient, counters, cpu, free_port, memory, mosquitto, percentiles, publish_packet, server

LOGIN = {"Authorization": "Basic " + base64.b64encode(b"ditto:ditto").decode(), "Content-Type": "application/json"}
NAMES = [
    "power",
    "wind",
    "windDirection",
    "rotorSpeed",
    "pitch",
    "yaw",
    "generatorTemperature",
    "ambientTemperature",
    "voltage",
    "current",
]


def call(connection: HTTPConnection, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    """One request on a kept connection."""
    connection.request(method, path, None if body is None else json.dumps(body), LOGIN)
    answer = connection.getresponse()
    return answer.status, answer.read()


def make_packets(messages: int, things: int) -> list[bytes]:
    """QoS 1 publishes, round robin over the things, each with its own time and values."""
    start = int(time.time() * 1000) - messages
    packets = []
    for n in range(messages):
        values = {name: round(100 + (n * 7 + k * 13) % 1000 / 7, 2) for k, name in enumerate(NAMES)}
        payload = json.dumps({"ts": start + n, **values}, separators=(",", ":")).encode()
        packets.append(publish_packet(f"telemetry/bench/T{n % things:04d}/scada", payload, n % 65000 + 1))
    return packets


def samples(connection: HTTPConnection, things: int, stamp: int, per_thing: int) -> bool:
    """Whether the last message of the last things is in history."""
    wanted = range(max(0, things - 5), things)
    for n in wanted:
        path = f"/api/2/timeseries/things/bench:T{n:04d}/features/scada/properties/power?from={stamp}&to=now%2B1d&step=3650d&agg=count&timeFormat=ms"
        status, body = call(connection, "GET", path)
        if status != 200:
            raise SystemExit(f"history: {status} {body!r}")
        if sum(row["v"] or 0 for row in json.loads(body)[0]["data"]) < per_thing:
            return False
    return True


def probe(port: int, broker: int, stop: threading.Event, login: tuple[str, str], taken: list[float]) -> None:
    """Publish a value, poll until HTTP shows it, ten times a second."""
    connection = HTTPConnection("127.0.0.1", port)
    client = LeanClient(broker, "probe", *login)
    n = 0
    while not stop.wait(0.1):
        n += 1
        start = time.perf_counter()
        client.socket.sendall(
            publish_packet("telemetry/bench/PROBE/probe", json.dumps({"n": n}).encode(), n % 65000 + 1)
        )
        while not stop.is_set():
            status, body = call(connection, "GET", "/api/2/things/bench:PROBE/features/probe/properties/n")
            if status == 200 and json.loads(body) == n:
                taken.append((time.perf_counter() - start) * 1000)
                break
            time.sleep(0.001)


def yardstick(port: int, packets: list[bytes]) -> float:
    """Messages/s that a do-nothing subscriber drains from the same broker, published by the same generator."""
    client = LeanClient(port, "yardstick")
    client.subscribe("telemetry/#")
    publisher = LeanClient(port, "generator")
    thread = threading.Thread(target=publisher.publish_all, args=(packets,))
    thread.start()
    seconds = client.drain(len(packets))
    thread.join()
    client.close()
    publisher.close()
    return len(packets) / seconds


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--things", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=2000.0, help="messages/s of the latency run")
    parser.add_argument("--entries", type=int, default=0, help="entries of each thing's policy; 0: the implicit one")
    parser.add_argument("--embedded", action="store_true", help="through the embedded broker instead of Mosquitto")
    options = parser.parse_args()
    packets = make_packets(options.messages, options.things)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with mosquitto(folder) as (broker, _):
            lean = yardstick(broker, packets)
            print(f"yardstick: a do-nothing subscriber drains {lean:,.0f} messages/s from the same broker")
            settings: dict[str, object] = {"log_level": "WARNING"}
            if options.embedded:
                ingress = settings["mqtt_port"] = free_port()
            else:
                ingress = broker
                settings["mqtt_url"] = f"mqtt://127.0.0.1:{broker}"
            with server(folder, **settings) as (port, process):
                measure(options, packets, lean, port, ingress, process.pid)


def policy(n: int, entries: int) -> dict[str, object]:
    """A policy: the first entry is the devices' subject's, every fifth takes something from him, the others are strangers'."""
    everything = {"grant": ["READ", "WRITE"], "revoke": []}
    found = {"owner": entry("nginx:ditto", {"thing:/": everything, "policy:/": everything, "message:/": everything})}
    for i in range(1, entries):
        key = f"thing:/features/f{i}/properties/p{n % 100}"
        if i % 5 == 0:
            found[f"entry{i}"] = entry("nginx:ditto", {key: {"grant": [], "revoke": ["WRITE"]}})
        else:
            found[f"entry{i}"] = entry(f"nginx:user{i}", {key: {"grant": ["READ"], "revoke": []}})
    return {"entries": found}


def entry(subject: str, resources: dict[str, object]) -> dict[str, object]:
    """One entry of a policy."""
    return {"subjects": {subject: {"type": "bench"}}, "resources": resources}


def measure(options: argparse.Namespace, packets: list[bytes], lean: float, port: int, broker: int, pid: int) -> None:
    """The run itself."""
    login = ("ditto", "ditto") if options.embedded else ("", "")
    connection = HTTPConnection("127.0.0.1", port)
    for n in range(options.things):
        status, body = call(connection, "PUT", f"/api/2/things/bench:T{n:04d}", {"attributes": {"n": n}})
        if status not in {201, 204}:
            raise SystemExit(f"create: {status} {body!r}")
        if options.entries:
            call(connection, "PUT", f"/api/2/policies/bench:T{n:04d}", policy(n, options.entries))
    call(connection, "PUT", "/api/2/things/bench:PROBE", {})
    before = counters(connection)
    peak = [memory(pid)]
    stop = threading.Event()

    def watch_memory() -> None:
        while not stop.wait(0.5):
            peak[0] = max(peak[0], memory(pid))

    watcher = threading.Thread(target=watch_memory)
    watcher.start()
    publisher = LeanClient(broker, "generator2", *login)
    stamp = int(time.time()) - 86400
    begin = time.perf_counter()
    used = cpu(pid)
    thread = threading.Thread(target=publisher.publish_all, args=(packets,))
    thread.start()
    target = before["skerry_journal_number"] + len(packets)
    while (now := counters(connection))["skerry_journal_number"] < target:
        time.sleep(0.1)
        if time.perf_counter() - begin > 300:
            raise SystemExit(f"not all committed: {now}")
    committed = time.perf_counter() - begin
    while counters(connection)["skerry_series_number"] < target:
        time.sleep(0.05)
    stored = time.perf_counter() - begin
    thread.join()
    used = cpu(pid) - used
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stamp))
    if not samples(connection, options.things, since, len(packets) // options.things):
        raise SystemExit("history is not complete")
    rate = len(packets) / committed
    print(
        f"ingest: {len(packets):,} messages of {len(NAMES)} values over {options.things:,} things, QoS 1, acknowledged after commit"
    )
    print(
        f"  committed: {rate:,.0f} messages/s   in history: {len(packets) / stored:,.0f} messages/s ({len(packets) * len(NAMES) / stored:,.0f} values/s)"
    )
    print(f"  ratio to the yardstick: {rate / lean:.2f}   server CPU: {used / len(packets) * 1e6:.0f} us per message")
    taken: list[float] = []
    prober = threading.Thread(target=probe, args=(port, broker, stop, login, taken))
    prober.start()
    later = make_packets(int(options.rate * 10), options.things)
    waits = publisher.publish_all(later, rate=options.rate)
    stop.set()
    prober.join()
    watcher.join()
    print(
        f"  at {options.rate:,.0f} messages/s, publish to readable over HTTP: {percentiles(taken)} ({len(taken)} probes)"
    )
    if options.embedded:
        print(
            f"  at {options.rate:,.0f} messages/s, publish to PUBACK (after commit): {percentiles([w * 1000 for w in waits])}"
        )
    print(f"  peak memory of the server (Pss, whole tree): {peak[0]:,.0f} MB")


if __name__ == "__main__":
    main()
