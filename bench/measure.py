"""What the benchmarks share: percentiles, memory of a process tree, a server to measure, a lean MQTT client."""

from __future__ import annotations

import base64
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent


def percentiles(values: Sequence[float]) -> str:
    """'p50 1.2  p95 3.4  p99 5.6' of values in milliseconds."""
    if not values:
        return "no samples"
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return f"p50 {at(0.50):.1f} ms  p95 {at(0.95):.1f} ms  p99 {at(0.99):.1f} ms"


def memory(pid: int) -> float:
    """Pss in MB over the process and its children (shared pages counted once)."""
    total = 0
    parent = psutil.Process(pid)
    for process in [parent, *parent.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 1e6


def cpu(pid: int) -> float:
    """CPU seconds that the process and its children have used."""
    parent = psutil.Process(pid)
    times = [process.cpu_times() for process in [parent, *parent.children(recursive=True)]]
    return sum(t.user + t.system for t in times)


def counters(connection: HTTPConnection) -> dict[str, float]:
    """The server's measures at /metrics that have no labels."""
    connection.request(
        "GET", "/metrics", None, {"Authorization": "Basic " + base64.b64encode(b"devops:foobar").decode()}
    )
    answer = connection.getresponse()
    body = answer.read().decode()
    if answer.status != 200:
        raise SystemExit(f"metrics: {answer.status} {body}")
    found = {}
    for line in body.splitlines():
        if line.startswith("skerry_") and "{" not in line:
            name, _, value = line.partition(" ")
            found[name] = float(value)
    return found


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 15) -> None:
    """Until something listens there."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


@contextmanager
def mosquitto(folder: Path, inflight: int = 1000) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A Mosquitto of our own on loopback, set up for load."""
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages {inflight}\n"
        "max_queued_messages 2000000\nmax_packet_size 1000000\nset_tcp_nodelay true\npersistence false\nlog_type error\n"
    )
    binary = next((p for p in ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto") if Path(p).exists()), "mosquitto")
    process = subprocess.Popen([binary, "-c", str(config)])
    try:
        wait_for_port(port)
        yield port, process
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def server(folder: Path, **settings: object) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """`skerry serve` with Ditto's accounts on free ports; yields the HTTP port and the process."""
    port = free_port()
    env = {
        **os.environ,
        "SKERRY_DATA_DIR": str(folder / "data"),
        "SKERRY_HTTP_PORT": str(port),
        "SKERRY_MQTT_PORT": "0",
    }
    env |= {f"SKERRY_{name.upper()}": str(value) for name, value in settings.items()}
    log = (folder / "server.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "skerry_registry", "serve", "--config", str(ROOT / "compose" / "ditto-defaults.toml")],
        env=env,
        stdout=log,
        stderr=log,
    )
    try:
        wait_for_port(port, 30)
        yield port, process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


def packet(head: int, body: bytes) -> bytes:
    """One MQTT control packet."""
    length, size = b"", len(body)
    while True:
        size, digit = divmod(size, 128)
        length += bytes([digit | (0x80 if size else 0)])
        if not size:
            return bytes([head]) + length + body


def text(value: str) -> bytes:
    """An MQTT string."""
    encoded = value.encode()
    return len(encoded).to_bytes(2) + encoded


def publish_packet(topic: str, payload: bytes, mid: int) -> bytes:
    """A PUBLISH at QoS 1."""
    return packet(0x32, text(topic) + mid.to_bytes(2) + payload)


class LeanClient:
    """An MQTT 3.1.1 client that does nothing but move bytes: the load generator and the yardstick."""

    def __init__(self, port: int, client_id: str, user: str = "", password: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flags = 0x02 | (0xC0 if user else 0)
        body = text("MQTT") + bytes([4, flags]) + (600).to_bytes(2) + text(client_id)
        if user:
            body += text(user) + text(password)
        try:
            self.socket.sendall(packet(0x10, body))
            answer = self.socket.recv(4)
            if len(answer) < 4 or answer[3] != 0:
                message = f"broker refused: {answer!r}"
                raise ConnectionError(message)
        except OSError:
            self.socket.close()
            raise
        self.rest = b""

    def subscribe(self, topic: str) -> None:
        """Subscribe at QoS 1 and wait for the answer."""
        self.socket.sendall(packet(0x82, (1).to_bytes(2) + text(topic) + b"\x01"))
        self.socket.recv(5)

    def publish_all(self, packets: Sequence[bytes], window: int = 1000, rate: float | None = None) -> list[float]:
        """Send QoS 1 packets with at most `window` unacknowledged, as fast as that allows (or `rate` per second).

        Answers the seconds from send to PUBACK of each, in order (brokers acknowledge in order).
        """
        sent = acked = 0
        total = len(packets)
        times: list[float] = [0.0] * total
        taken: list[float] = [0.0] * total
        start = time.perf_counter()
        half = b""
        while acked < total:
            room = min(window - (sent - acked), total - sent)
            if rate is not None:
                room = min(room, int((time.perf_counter() - start) * rate) - sent)
            if room > 0:
                room = min(room, 100)
                now = time.perf_counter()
                self.socket.sendall(b"".join(packets[sent : sent + room]))
                for index in range(sent, sent + room):
                    times[index] = now
                sent += room
            wait = 0.0 if room > 0 else 0.005
            if select.select([self.socket], [], [], wait)[0]:
                data = half + self.socket.recv(65536)
                count = len(data) // 4
                half = data[count * 4 :]
                now = time.perf_counter()
                for index in range(acked, acked + count):
                    taken[index] = now - times[index]
                acked += count
        return taken

    def drain(self, count: int, seconds: float = 120) -> float:
        """Receive and acknowledge `count` QoS 1 messages; answers the seconds from the first to the last."""
        seen = 0
        start = 0.0
        rest = b""
        self.socket.settimeout(seconds)
        while seen < count:
            chunk = self.socket.recv(262144)
            start = start or time.perf_counter()
            data = rest + chunk
            position, acks = 0, []
            size = len(data)
            while True:
                if size - position < 2:
                    break
                length, shift, cursor = 0, 0, position + 1
                complete = False
                while cursor < size:
                    digit = data[cursor]
                    length |= (digit & 0x7F) << shift
                    cursor += 1
                    shift += 7
                    if digit < 128:
                        complete = True
                        break
                if not complete or cursor + length > size:
                    break
                if data[position] & 0xF0 == 0x30:
                    topic = int.from_bytes(data[cursor : cursor + 2])
                    acks.append(b"\x40\x02" + data[cursor + 2 + topic : cursor + 4 + topic])
                position = cursor + length
            rest = data[position:]
            seen += len(acks)
            self.socket.sendall(b"".join(acks))
        return time.perf_counter() - start

    def close(self) -> None:
        """Leave politely."""
        self.socket.sendall(b"\xe0\x00")
        self.socket.close()
