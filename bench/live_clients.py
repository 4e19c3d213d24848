# ruff: noqa: D102 - what asyncio calls
"""The clients of bench/live.py, each kind in a process of its own: they do nothing but move bytes and look at the clock.

What is measured carries the time at which it was sent as `"sent":<nanoseconds of the monotonic clock>`, which all processes share.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

import uvloop

from measure import LeanClient, packet, publish_packet, text

SENT = b'"sent":'


def fail(reason: str) -> NoReturn:
    """End at once: an exception would only end a callback of the loop."""
    print(reason, file=sys.stderr, flush=True)
    os._exit(1)


class Lean(asyncio.Protocol):
    """A WebSocket client: opens, says what it is told to, hands texts on."""

    def __init__(self, user: str, say: list[bytes], take: Callable[[Lean, bytes], None], number: int) -> None:
        self.user, self.say, self.take, self.number = user, say, take, number
        self.rest = b""
        self.open = False
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(
            b"GET /ws/2 HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nx-ditto-pre-authenticated: %b\r\n\r\n" % self.user.encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if self.number >= 0:
            fail(f"connection {self.number} is gone: {exc}")

    def send(self, text: bytes) -> None:
        """A text message; the mask is zero, which is one too."""
        size = len(text)
        head = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2)
        self.transport.write(b"\x81" + head + b"\0\0\0\0" + text)

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        if not self.open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self.rest = head
                return
            if b" 101 " not in head[:20]:
                fail(head.decode())
            self.open = True
            for text in self.say:
                self.send(text)
            if not self.say:
                self.take(self, b":ACK")
        place, size = 0, len(data)
        while size - place >= 2:
            length, start = data[place + 1], place + 2
            if length == 126:
                length, start = int.from_bytes(data[start : start + 2]), start + 2
            elif length == 127:
                length, start = int.from_bytes(data[start : start + 8]), start + 8
            if start + length > size:
                break
            if data[place] == 0x81:
                self.take(self, data[start : start + length])
            elif data[place] == 0x89:
                self.transport.write(b"\x8a\x80\0\0\0\0")
            elif data[place] == 0x88:
                fail(f"closed: {data[start + 2 : start + length]!r}")
            place = start + length
        self.rest = data[place:]


def number_at(text: bytes, place: int) -> int:
    """The whole number behind `"sent":`."""
    stop = start = place + len(SENT)
    while 48 <= text[stop] <= 57:
        stop += 1
    return int(text[start:stop])


async def subscribers(port: int, count: int, users: list[str], say: list[str], samples: int) -> None:
    """Connect and print `ready`; after a line of input print what has come.

    The first `samples` keep the latency of every frame; without samples a line tells when all have had an event.
    """
    loop = asyncio.get_running_loop()
    ready, frames = 0, 0
    everybody, step = asyncio.Event(), asyncio.Semaphore(100)
    taken: list[float] = []
    seen: dict[int, int] = {}

    def take(client: Lean, text: bytes) -> None:
        nonlocal ready, frames
        place = text.find(SENT)
        if place < 0:
            if not text.endswith(b":ACK"):
                fail(f"unexpected: {text!r}")
            ready += 1
            if ready % max(1, len(say)) == 0:
                step.release()
            if ready == count * max(1, len(say)):
                everybody.set()
            return
        frames += 1
        now = time.monotonic_ns()
        if client.number < samples:
            taken.append((now - number_at(text, place)) / 1e6)
        elif not samples:
            sent = number_at(text, place)
            seen[sent] = seen.get(sent, 0) + 1
            if seen[sent] == count:
                del seen[sent]
                print(json.dumps({"sent": sent, "last": now}), flush=True)

    texts = [text.encode() for text in say]
    for number in range(count):
        await step.acquire()
        client = Lean(users[number % len(users)], texts, take, number)
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
    await everybody.wait()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps({"frames": frames, "taken": taken, "cpu": time.process_time()}), flush=True)


async def device(port: int, user: str) -> None:
    """Answers every message that comes."""

    def take(client: Lean, text: bytes) -> None:
        if text.endswith(b":ACK"):
            print("ready", flush=True)
            return
        message = json.loads(text)
        correlation = {"correlation-id": message["headers"]["correlation-id"], "content-type": "application/json"}
        answer = {"topic": message["topic"], "path": message["path"], "headers": correlation, "status": 200, "value": 1}
        client.send(json.dumps(answer).encode())

    client = Lean(user, [b"START-SEND-MESSAGES"], take, 0)
    await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", port)
    await asyncio.to_thread(sys.stdin.readline)


class Asker(asyncio.Protocol):
    """Sends one request after the other over one connection."""

    def __init__(self, request: bytes, taken: list[float]) -> None:
        self.request, self.taken = request, taken
        self.sent = 0.0
        self.data = b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, end, body = self.data.partition(b"\r\n\r\n")
        if not end:
            return
        place = head.lower().find(b"content-length:")
        length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place > 0 else 0
        if len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 20"):
            fail(f"{head!r} {body!r}")
        self.taken.append((time.perf_counter() - self.sent) * 1000)
        self.data = b""
        self.ask()


async def askers(port: int, request: str, connections: int, seconds: float) -> None:
    """So many connections ask for so long."""
    taken: list[float] = []
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Asker(request.encode(), taken), "127.0.0.1", port)
    await asyncio.sleep(0.5)
    before = len(taken)
    await asyncio.sleep(seconds)
    print(json.dumps({"count": len(taken) - before, "taken": taken[before:]}), flush=True)


def publisher(port: int, rate: float, seconds: float, things: int) -> None:
    """Telemetry at an even rate, QoS 1, with the time in it; PUBACKs are read and let go."""
    client = LeanClient(port, "bench-publisher", "ditto", "ditto")
    client.socket.setblocking(False)
    begin = time.monotonic()
    n, total = 0, int(rate * seconds)
    while n < total:
        due = min(total, int((time.monotonic() - begin) * rate))
        packets = []
        while n < due:
            payload = b'{"ts":%d,"power":2150.3,"wind":9.8,"status":"operating","sent":%d}' % (
                time.time_ns() // 1_000_000,
                time.monotonic_ns(),
            )
            packets.append(publish_packet(f"telemetry/bench/T{n % things:04d}/scada", payload, n % 65_000 + 1))
            n += 1
        if packets:
            client.socket.setblocking(True)
            client.socket.sendall(b"".join(packets))
            client.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.socket.recv(65_536)
        time.sleep(0.001)
    client.socket.setblocking(True)
    print(json.dumps({"sent": n, "seconds": time.monotonic() - begin}), flush=True)
    sys.stdin.readline()
    client.close()


def listener(port: int, count: int) -> None:
    """The yardstick of MQTT: as many messages as told, as another MQTT client gets them from the broker."""
    client = LeanClient(port, "bench-listener")
    client.socket.sendall(packet(0x82, (1).to_bytes(2) + text("telemetry/#") + b"\x00"))
    client.socket.recv(5)
    print("ready", flush=True)
    taken: list[float] = []
    rest = b""
    while len(taken) < count:
        rest += client.socket.recv(65_536)
        now = time.monotonic_ns()
        while (place := rest.find(SENT)) >= 0 and (end := rest.find(b"}", place)) >= 0:
            taken.append((now - int(rest[place + len(SENT) : end])) / 1e6)
            rest = rest[end + 1 :]
    print(json.dumps(taken), flush=True)


async def bare(port: int, count: int, rate: float, seconds: float) -> None:
    """The yardstick of fan-out: a loop that writes ready-made frames of an event's size to so many sockets, and knows nothing."""
    transports: list[Any] = []
    everybody = asyncio.Event()

    class Each(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: Any = transport
            self.open = False

        def data_received(self, _: bytes) -> None:
            if not self.open:
                self.open = True
                self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            transports.append(self.transport)
            if len(transports) == count:
                everybody.set()

    server = await asyncio.get_running_loop().create_server(Each, "127.0.0.1", port)
    print("ready", flush=True)
    await everybody.wait()
    sys.stdin.readline()
    begin = time.monotonic()
    n = 0
    while n < rate * seconds:
        while n < (time.monotonic() - begin) * rate:
            body = b'{"topic":"bench/T0001/things/twin/events/merged",%b"sent":%d}' % (b" " * 300, time.monotonic_ns())
            data = b"\x81\x7e" + len(body).to_bytes(2) + body
            for transport in transports:
                transport.write(data)
            n += 1
        await asyncio.sleep(0.001)
    print(json.dumps({"cpu": time.process_time(), "seconds": time.monotonic() - begin}), flush=True)
    await asyncio.sleep(60)
    server.close()


ROLES = {"subscribers": subscribers, "device": device, "askers": askers, "bare": bare}

if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    role, arguments = sys.argv[1], json.loads(sys.argv[2])
    if role in {"publisher", "listener"}:
        (publisher if role == "publisher" else listener)(*arguments)
    else:
        uvloop.run(ROLES[role](*arguments))
