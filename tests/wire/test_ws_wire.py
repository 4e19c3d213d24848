"""The wire of a WebSocket: the handshake, frames in every form, bounds, slow and silent clients, the end of the server."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from msgspec import structs
from websockets.asyncio.client import ClientConnection, connect

from skerry_registry.http import run_http
from skerry_registry.settings import Settings
from skerry_registry.ws.connection import WebSocket
from skerry_registry.ws.wire import FRAME_MAX, Handshake, Limits, Listener, Refusal, Wire, frame

PATIENCE = 20
OPENING = b"GET /ws/2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
KEY = b"Sec-WebSocket-Key: " + base64.b64encode(b"0123456789abcdef") + b"\r\n"


class Echo:
    """A session that says what it hears; `told` is all that it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.gone = asyncio.Event()
        self.eased = asyncio.Event()
        self.wire: Wire

    def opened(self, wire: Wire) -> None:
        self.wire = wire

    def received(self, text: str) -> None:
        self.told.append(text)
        if text == "bye":
            self.wire.close(1000, "bye")
        elif text == "pause":
            self.wire.pause()
        else:
            self.wire.send(frame(text.encode()))

    def drained(self) -> None:
        self.eased.set()

    def closed(self) -> None:
        self.gone.set()


class Place:
    """A server with its sessions; `answer` is what handshakes come to."""

    def __init__(self) -> None:
        self.port = 0
        self.sessions: list[Echo] = []
        self.handshakes: list[Handshake] = []
        self.answer: Refusal | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self.opened = asyncio.Event()
        self.stop = asyncio.Event()

    async def open(self, handshake: Handshake) -> Listener | Refusal:
        self.handshakes.append(handshake)
        self.asked.set()
        await self.gate.wait()
        if self.answer is not None:
            return self.answer
        self.sessions.append(Echo())
        self.opened.set()
        return self.sessions[-1]

    def connect(self, path: str = "/ws/2", **more: Any) -> connect:
        return connect(f"ws://127.0.0.1:{self.port}{path}", open_timeout=PATIENCE, ping_interval=None, **more)

    @asynccontextmanager
    async def raw(self, request: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(request)
                yield reader, writer
        finally:
            writer.close()


async def app(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    told = f"{scope['method']} {scope['path']} ".encode() + body
    headers = [(b"content-length", b"%d" % len(told))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": told, "more_body": False})


@asynccontextmanager
async def serving(limits: Limits) -> AsyncIterator[Place]:
    made = Place()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    settings = structs.replace(Settings(), http_host="127.0.0.1", http_port=0)
    started = lambda _, number: port.set_result(number)  # noqa: E731
    running = asyncio.create_task(run_http(app, settings, started, open=made.open, limits=limits))  # type: ignore[arg-type]
    made.port = await port
    stopping = asyncio.create_task(made.stop.wait())
    stopping.add_done_callback(lambda _: running.cancel())
    try:
        yield made
    finally:
        made.stop.set()
        await asyncio.wait({running, stopping})


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with serving(Limits()) as made:
        yield made


def masked(opcode: int, data: bytes, *, fin: bool = True) -> bytes:
    """A frame as clients send them."""
    if len(data) < 126:
        size = bytes((0x80 | len(data),))
    elif len(data) < 65_536:
        size = b"\xfe" + len(data).to_bytes(2)
    else:
        size = b"\xff" + len(data).to_bytes(8)
    mask = os.urandom(4)
    return bytes((fin << 7 | opcode,)) + size + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))


async def heard(client: ClientConnection) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await client.recv()


async def test_texts_go_both_ways_up_to_the_bound(place: Place):
    async with place.connect("/ws/2?a=%2F", additional_headers={"X-Two": "ö"}, max_size=None) as client:
        for text in ("", "a", "ü" * 60, "x" * 126, "x" * 65_536, "x" * FRAME_MAX):
            await client.send(text)
            assert await heard(client) == text
    shake = place.handshakes[0]
    assert (shake.path, shake.query_string, shake.client) == (b"/ws/2", b"a=%2F", "127.0.0.1")
    assert dict(shake.headers)[b"upgrade"] == b"websocket"


async def test_what_is_sent_along_with_the_handshake_is_read(place: Place):
    request = OPENING + KEY + b"\r\n" + masked(1, b"early")
    async with place.raw(request) as (reader, _):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert await reader.readexactly(7) == frame(b"early")


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_frames_come_whole_however_they_are_cut(place: Place, size: int):
    texts = ["x" * length for length in (1, 125, 126, 300)]
    sent = b"".join(masked(1, text.encode()) for text in texts)
    async with place.raw(OPENING + KEY + b"\r\n") as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        for start in range(0, len(sent), size):
            writer.write(sent[start : start + size])
            await asyncio.sleep(0)
        wanted = b"".join(frame(text.encode()) for text in texts)
        assert await reader.readexactly(len(wanted)) == wanted


async def test_messages_in_fragments_are_put_together_with_pings_between(place: Place):
    parts = masked(1, b"one ", fin=False) + masked(9, b"there?") + masked(0, b"two ", fin=False) + masked(0, b"three")
    async with place.raw(OPENING + KEY + b"\r\n" + parts) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        pong, text = b"\x8a\x06there?", frame(b"one two three")
        assert await reader.readexactly(len(pong + text)) in {pong + text, text + pong}


async def test_fragments_with_nothing_in_them_take_no_room(place: Place):
    parts = masked(1, b"a", fin=False) + masked(0, b"", fin=False) * 20_000 + masked(0, b"b")
    async with place.raw(OPENING + KEY + b"\r\n" + parts) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(4) == frame(b"ab")
    async with place.raw(OPENING + KEY + b"\r\n" + parts[: -len(masked(0, b"b"))]) as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(masked(9, b"!"))
        assert await reader.readexactly(3) == b"\x8a\x01!"
        wire = place.sessions[-1].wire
        assert isinstance(wire, WebSocket)
        assert wire._parts == [b"a"]


async def test_who_does_not_take_the_answers_to_his_pings_is_not_read_on(place: Place):
    flood = masked(9, b"p" * 125) * 1_000
    async with place.raw(OPENING + KEY + b"\r\n") as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        wire = place.sessions[0].wire
        sent, taken = 0, True
        while taken and sent < 64_000_000:  # more than the sockets between hold
            writer.write(flood)
            sent += len(flood)
            try:
                async with asyncio.timeout(2):
                    await writer.drain()
            except TimeoutError:
                taken = False
        assert not taken
        assert wire.waiting < 1_000_000
        async with asyncio.timeout(PATIENCE):
            assert await reader.readexactly(127) == b"\x8a\x7d" + b"p" * 125
            while writer.transport.get_write_buffer_size():
                await reader.read(1_000_000)
            writer.write(masked(1, b"still there"))
            last = b""
            while frame(b"still there") not in last:
                last = last[-100:] + await reader.read(1_000_000)


async def test_tiny_frames_in_great_number_leave_others_their_turns(place: Place):
    turns = 0
    async with place.raw(OPENING + KEY + b"\r\n") as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        wire = place.sessions[0].wire
        assert isinstance(wire, WebSocket)
        wire.data_received(masked(2, b"") * 30_000 + masked(1, b"end"))
        while not place.sessions[0].told:
            turns += 1
            await asyncio.sleep(0)
        assert turns > 5
        assert await reader.readexactly(5) == frame(b"end")
        writer.write(masked(1, b"more"))
        assert await reader.readexactly(6) == frame(b"more")


async def test_binary_messages_are_passed_over(place: Place):
    parts = masked(2, b"\x00") + masked(2, b"a", fin=False) + masked(0, b"b") + masked(1, b"text")
    async with place.raw(OPENING + KEY + b"\r\n" + parts) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(6) == frame(b"text")
    assert place.sessions[0].told == ["text"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (masked(1, b"x" * (FRAME_MAX + 1)), 1009),
        (b"\x81\xff\x7f" + b"\xff" * 7, 1009),
        (masked(1, b"x" * FRAME_MAX, fin=False) + masked(0, b"y"), 1009),
        (masked(1, b"\xff"), 1007),
        (masked(3, b""), 1002),
        (b"\x81\x01a", 1002),
        (masked(0, b"x"), 1002),
        (b"\xc1\x81\x00\x00\x00\x00a", 1002),
        (masked(9, b"x", fin=False), 1002),
        (masked(8, b"\x03"), 1002),
    ],
)
async def test_frames_that_are_none_close_with_the_code_for_it(place: Place, sent: bytes, code: int):
    async with place.raw(OPENING + KEY + b"\r\n") as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        head = await reader.readexactly(4)
        assert head[0] == 0x88
        assert int.from_bytes(head[2:]) == code
        await reader.read()
    async with asyncio.timeout(PATIENCE):
        await place.sessions[0].gone.wait()


async def test_either_side_closes_in_the_manner_of_the_book(place: Place):
    async with place.connect() as client:
        await client.send("bye")
        with pytest.raises(websockets.ConnectionClosedOK) as closed:
            await heard(client)
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1000, "bye")
    async with place.connect() as client:
        await client.close(1001, "enough")
        assert client.close_code == 1001
    for session in place.sessions:
        async with asyncio.timeout(PATIENCE):
            await session.gone.wait()


async def test_a_long_reason_is_cut_between_letters(place: Place):
    async with place.connect() as client:
        await client.send("hello")
        await heard(client)
        place.sessions[0].wire.close(1008, "x" + "ü" * 100)
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await heard(client)
        assert closed.value.rcvd.reason == "x" + "ü" * 61


async def test_nothing_is_heard_while_reading_pauses(place: Place):
    parts = masked(1, b"one") + masked(1, b"pause") + masked(1, b"two") + masked(1, b"three")
    async with place.raw(OPENING + KEY + b"\r\n" + parts) as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(5) == frame(b"one")
        session = place.sessions[0]
        writer.write(masked(1, b"four"))
        assert session.told == ["one", "pause"]
        session.wire.resume()
        wanted = frame(b"two") + frame(b"three") + frame(b"four")
        assert await reader.readexactly(len(wanted)) == wanted


async def test_a_slow_reader_shows_in_what_waits_and_can_be_cut_off(place: Place):
    async with place.raw(OPENING + KEY + b"\r\n") as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(masked(1, b"."))
        await reader.readexactly(3)
        session = place.sessions[0]
        large = frame(b"x" * FRAME_MAX)
        for _ in range(64):
            session.wire.send(large)
        assert session.wire.waiting > 1_000_000
        assert not session.eased.is_set()
        await reader.readexactly(64 * len(large))
        await session.eased.wait()
        assert session.wire.waiting < 100_000
        session.eased.clear()
        for _ in range(64):
            session.wire.send(large)
        session.wire.abort()
        await session.gone.wait()
        session.wire.send(large)
        session.wire.close(1000, "")


async def test_whoever_was_seen_to_wait_is_told_when_nothing_does(place: Place):
    async with place.connect(max_size=None) as client:
        await client.send("hello")
        await heard(client)
        session = place.sessions[0]
        for _ in range(5):
            session.eased.clear()
            session.wire.send(frame(b"x" * 100_000))
            assert session.wire.waiting > 100_000
            async with asyncio.timeout(PATIENCE):
                await session.eased.wait()
                await client.recv()


async def test_whoever_closes_gets_what_was_sent_before(place: Place):
    async with place.raw(OPENING + KEY + b"\r\n") as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(masked(1, b"one") + masked(8, (1000).to_bytes(2)))
        assert await reader.read() == frame(b"one") + b"\x88\x02\x03\xe8"


async def test_a_close_waits_for_what_came_before_it_even_where_reading_pauses(place: Place):
    parts = masked(1, b"pause") + masked(1, b"two") + masked(8, (1000).to_bytes(2))
    async with place.raw(OPENING + KEY + b"\r\n" + parts) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        await place.opened.wait()
        place.sessions[0].wire.resume()
        assert await reader.read() == frame(b"two") + b"\x88\x02\x03\xe8"
    async with place.raw(OPENING + KEY + b"\r\n" + parts) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        place.sessions[1].wire.close(1008, "no more")
        assert await reader.read() == b"\x88\x02\x03\xe8"


async def test_what_waits_is_sent_before_the_end(place: Place):
    async with place.connect(max_size=None) as client:
        await client.send("hello")
        await heard(client)
        for _ in range(20):
            place.sessions[0].wire.send(frame(b"x" * FRAME_MAX))
        place.sessions[0].wire.close(1008, "enough")
        for _ in range(20):
            assert len(await heard(client)) == FRAME_MAX
        with pytest.raises(websockets.ConnectionClosedError):
            await heard(client)


async def test_a_refusal_is_an_http_answer(place: Place):
    place.answer = Refusal(status=401, body=b'{"status":401}', headers=((b"content-type", b"application/json"),))
    with pytest.raises(websockets.InvalidStatus) as refused:
        await place.connect()
    response = refused.value.response
    assert (response.status_code, bytes(response.body or b"")) == (401, b'{"status":401}')
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (OPENING + b"\r\n", 400),
        (OPENING.replace(b"13", b"8") + KEY + b"\r\n", 400),
        (OPENING + KEY + KEY + b"\r\n", 400),
        (OPENING + b"Sec-WebSocket-Key: short\r\n\r\n", 400),
        (OPENING.replace(b"GET", b"POST") + KEY + b"\r\n", 405),
    ],
)
async def test_a_handshake_in_the_wrong_form_is_refused(place: Place, request_: bytes, status: int):
    async with place.raw(request_) as (reader, _):
        assert int((await reader.readuntil(b"\r\n\r\n")).split()[1]) == status
    assert not place.handshakes


async def test_an_upgrade_to_something_else_is_passed_over_with_its_body_read(place: Place):
    head = (
        b"PUT /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
    )
    request = head + b"Content-Length: 4\r\n\r\nbody"
    async with place.raw(request + request + b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n") as (reader, _):
        for wanted in (b"PUT /a body", b"PUT /a body", b"GET /b "):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(wanted)) == wanted


async def test_this_is_no_proxy(place: Place):
    for request in (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"):
        async with place.raw(request) as (reader, _):
            assert int((await reader.readuntil(b"\r\n\r\n")).split()[1]) == 400


async def test_a_client_who_leaves_during_the_handshake_leaves_no_session(place: Place):
    place.gate.clear()
    async with place.raw(OPENING + KEY + b"\r\n"):
        await place.asked.wait()
    place.gate.set()
    async with asyncio.timeout(PATIENCE):
        await place.opened.wait()
        await place.sessions[0].gone.wait()


async def test_the_end_of_the_server_is_told(place: Place):
    async with place.connect() as client, place.raw(OPENING + KEY + b"\r\n") as (silent, _):
        await silent.readuntil(b"\r\n\r\n")
        place.stop.set()
        with pytest.raises(websockets.ConnectionClosedOK) as closed:
            await heard(client)
        assert closed.value.rcvd.code == 1001
        assert (await silent.read())[:4] == b"\x88" + bytes((len(closed.value.rcvd.reason) + 2,)) + b"\x03\xe9"
    for session in place.sessions:
        async with asyncio.timeout(PATIENCE):
            await session.gone.wait()


async def test_a_client_who_answers_pings_stays_and_one_who_is_silent_goes():
    async with serving(Limits(ask=0.05, silence=1.0, tick=0.02)) as place:
        async with place.raw(OPENING + KEY + b"\r\n") as (reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(30):
                assert await reader.readexactly(2) == b"\x89\x00"
                writer.write(masked(10, b""))
            assert not place.sessions[0].gone.is_set()
            while await reader.read(100):
                pass
        async with asyncio.timeout(PATIENCE):
            await place.sessions[0].gone.wait()


async def test_who_does_not_close_when_told_is_cut_off():
    async with serving(Limits(close=0.1, tick=0.02)) as place, place.raw(OPENING + KEY + b"\r\n") as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(masked(1, b"bye"))
        await place.sessions[0].gone.wait()
