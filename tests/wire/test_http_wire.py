"""HTTP/1.1 on our own connections: requests in any pieces, in a row, too slow, too large, given up, and answers of every kind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from skerry_registry.http import run_http
from skerry_registry.http.connection import QUEUE_MAX, Connection, Shared
from skerry_registry.settings import Settings
from skerry_registry.ws.wire import Limits

PATIENCE = 20
GET = b"GET /a?x=%2F HTTP/1.1\r\nHost: x\r\n\r\n"
PUT = b"PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"


async def body_of(receive: Any) -> bytes | None:
    pieces: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        pieces.append(message["body"])
        if not message["more_body"]:
            return b"".join(pieces)


async def answer(send: Any, body: bytes, *, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = await body_of(receive)
    if body is not None:
        names = b",".join(name for name, _ in scope["headers"])
        target = scope["raw_path"] + b"?" + scope["query_string"]
        await answer(send, b" ".join((scope["method"].encode(), target, names, body)))


class Place:
    def __init__(self, port: int, stop: Callable[[], object]) -> None:
        self.port = port
        self.stop = stop

    @asynccontextmanager
    async def connection(self, sent: bytes = b"") -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(sent)
                yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def whole(self, sent: bytes) -> bytes:
        """What comes until the server closes."""
        async with self.connection(sent) as (reader, _):
            return await reader.read()


@asynccontextmanager
async def place(app: Any, limits: Limits | None = None) -> AsyncIterator[Place]:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    settings = structs.replace(Settings(), http_host="127.0.0.1", http_port=0)
    running = run_http(app, settings, lambda _, number: port.set_result(number), limits=limits or Limits())
    serving = asyncio.create_task(running)
    try:
        yield Place(await port, serving.cancel)
    finally:
        serving.cancel()
        await asyncio.wait({serving})


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return int(head.split()[1]), await reader.readexactly(int(lines[0].split(b":")[1])) if lines else b""


WANTED = [
    (200, b"GET /a?x=%2F host "),
    (200, b"PUT /b? host,content-length hello"),
    (200, b"POST /c? host,transfer-encoding abcde"),
]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, len(GET + PUT + CHUNKED) - 1), max_size=8, unique=True))
def test_requests_in_a_row_are_answered_in_order_however_they_are_cut(run: Any, cuts: list[int]):
    async def once() -> None:
        async with place(echo) as server, server.connection() as (reader, writer):
            sent = GET + PUT + CHUNKED
            edges = [0, *sorted(cuts), len(sent)]
            for start, stop in pairwise(edges):
                writer.write(sent[start:stop])
                await writer.drain()
                await asyncio.sleep(0)
            assert [await read_answer(reader) for _ in WANTED] == WANTED

    run(once())


@settings(max_examples=60, deadline=None)
@given(garbage=st.one_of(st.binary(min_size=1, max_size=200), st.sampled_from([GET, PUT, CHUNKED]).flatmap(
    lambda whole: st.tuples(st.just(whole), st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=3)).map(
        lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + 1 :]))))  # fmt: skip
def test_no_bytes_whatever_break_the_server(garbage: bytes):
    async def once() -> None:
        async with place(echo) as server:
            async with server.connection(garbage) as (reader, writer):
                writer.write_eof()
                await reader.read()
            async with server.connection(GET) as (reader, _):
                assert await read_answer(reader) == WANTED[0]

    asyncio.run(once())


async def test_a_slow_answer_keeps_its_turn():
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["raw_path"] == b"/slow":
            await gate.wait()
        await answer(send, scope["raw_path"])

    async with place(app) as server, server.connection(GET.replace(b"/a", b"/slow") + GET + GET) as (reader, writer):
        writer.write(GET)
        asyncio.get_running_loop().call_later(0.05, gate.set)
        assert [(await read_answer(reader))[1] for _ in range(4)] == [b"/slow", b"/a", b"/a", b"/a"]


async def test_of_very_many_requests_in_a_row_the_first_are_answered():
    async with place(echo) as server:
        told = await server.whole(GET * 2_000)
        assert 100 <= told.count(b"HTTP/1.1 200") < 2_000
        assert told.count(b"connection: close") == 1


async def test_a_body_in_the_smallest_pieces_is_read():
    pieces = (
        b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 200_000 + b"0\r\n\r\n"
    )
    async with place(echo) as server, server.connection(pieces) as (reader, _):
        status, body = await read_answer(reader)
        assert (status, len(body.rsplit(b" ", 1)[1])) == (200, 200_000)


async def test_the_client_may_ask_before_it_sends_the_body():
    head = b"PUT /b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    async with place(echo) as server, server.connection(head) as (reader, writer):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert (await read_answer(reader))[0] == 200

    async def unwilling(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, b"", status=413, headers=((b"connection", b"close"),))

    async with place(unwilling) as server:
        assert (await server.whole(head)).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ],
)
async def test_who_wants_to_be_done_is(request_: bytes):
    async with place(echo) as server:
        told = await server.whole(request_)
        assert b"\r\nconnection: close\r\n" in told
        assert told.endswith(b"\r\n\r\n") == request_.startswith(b"HEAD")


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\nX: y\0z\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_could_be_read_in_two_ways_is_refused(request_: bytes):
    async with place(echo) as server:
        told = await server.whole(request_ + GET)
        assert told.startswith(b"HTTP/1.1 400 ")
        assert told.count(b"HTTP/1.1") == 1


async def test_heads_have_a_bound():
    async with place(echo) as server:
        told = await server.whole(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 300_000)
        assert told.startswith(b"HTTP/1.1 431 ")


async def test_heads_and_silence_have_their_time_and_answers_take_theirs():
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["raw_path"] == b"/b":
            await gate.wait()
        await answer(send, b"done")

    async with place(app, Limits(head=0.2, tick=0.02)) as server:
        assert await server.whole(b"GET / HT") == b""
        async with server.connection(GET) as (reader, _):
            assert await read_answer(reader) == (200, b"done")
            assert await reader.read() == b""
        async with server.connection(PUT) as (reader, _):
            assert await server.whole(b"") == b""
            gate.set()
            assert await read_answer(reader) == (200, b"done")


async def test_who_takes_nothing_of_an_answer_is_let_go():
    gone = asyncio.Event()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
        finally:
            gone.set()

    async with place(app, Limits(take=0.2, tick=0.02)) as server, server.connection(GET):
        await gone.wait()


async def test_a_body_waits_until_it_is_asked_for():
    begun, gate = asyncio.Event(), asyncio.Event()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await gate.wait()
        body = await body_of(receive)
        await answer(send, b"%d" % len(body or b""))

    size = 32_000_000
    head = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    async with place(app) as server, server.connection(head) as (reader, writer):
        writer.write(b"x" * size)
        await begun.wait()
        await asyncio.wait({asyncio.create_task(writer.drain())}, timeout=0.3)
        assert writer.transport.get_write_buffer_size() > 0
        gate.set()
        assert await read_answer(reader) == (200, b"%d" % size)


async def flood(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"x" * 10_000)
        await writer.drain()


async def test_a_rest_that_nobody_wants_ends_the_connection_when_it_is_long():
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, b"early")

    head = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    async with place(app) as server:
        async with server.connection(head % 1_000) as (reader, writer):
            assert await read_answer(reader) == (200, b"early")
            writer.write(b"x" * 1_000 + GET)
            assert await read_answer(reader) == (200, b"early")
        async with server.connection(head % 1_000_000_000) as (reader, writer):
            assert await read_answer(reader) == (200, b"early")
            with pytest.raises(ConnectionError):
                await flood(writer)


async def test_answers_without_a_length_come_in_chunks_or_end_with_the_connection():
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"one", b"", b"two"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with place(app) as server:
        told = await server.whole(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert told.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        assert (await server.whole(b"GET / HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\nonetwo")


async def test_whoever_answers_is_told_when_nobody_waits_any_more():
    begun, told = asyncio.Event(), asyncio.Event()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        assert await body_of(receive) == b"hello"
        begun.set()
        assert (await receive())["type"] == "http.disconnect"
        await answer(send, b"to nobody")
        told.set()

    async with place(app) as server:
        async with server.connection(PUT):
            await begun.wait()
        async with asyncio.timeout(PATIENCE):
            await told.wait()


async def test_an_answer_that_fails_or_would_break_the_head_is_a_500(caplog: pytest.LogCaptureFixture):
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["raw_path"] == b"/b":
            raise ZeroDivisionError
        await answer(send, b"", headers=((b"x", b"a\r\nset-cookie: b"),))

    async with place(app) as server:
        for request in (GET, PUT):
            told = await server.whole(request)
            assert told.startswith(b"HTTP/1.1 500 ")
            assert b"set-cookie" not in told
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 2


async def test_a_broken_request_does_not_take_the_answer_from_the_one_before():
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await echo(scope, receive, send)

    async with place(app) as server, server.connection(GET + b"\x00\r\n\r\n") as (reader, _):
        gate.set()
        assert await read_answer(reader) == WANTED[0]
        assert await reader.read() == b""


async def test_more_connections_than_there_is_room_for_wait():
    async with place(echo, Limits(connections=2)) as server:
        async with server.connection(GET) as (one, _), server.connection(GET) as (two, _):
            for reader in (one, two):
                assert await read_answer(reader) == WANTED[0]
            waiting, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(GET)
            done, _ = await asyncio.wait({reading := asyncio.create_task(read_answer(waiting))}, timeout=0.2)
            assert not done
        async with asyncio.timeout(PATIENCE):
            assert await reading == WANTED[0]
        writer.close()
        await writer.wait_closed()


async def test_streams_are_told_of_the_end_and_what_is_being_answered_is_answered():
    begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["raw_path"] == b"/b":
            await body_of(receive)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            assert (await receive())["type"] == "http.disconnect"
            await send({"type": "http.response.body", "body": b"last", "more_body": False})
        else:
            begun.set()
            await asyncio.sleep(0.05)
            await echo(scope, receive, send)

    async with place(app) as server, server.connection(PUT) as (stream, _), server.connection(GET) as (reader, _):
        await stream.readuntil(b"first\r\n")
        await begun.wait()
        server.stop()
        assert await stream.read() == b"4\r\nlast\r\n0\r\n\r\n"
        assert await read_answer(reader) == WANTED[0]
        assert await reader.read() == b""


@pytest.mark.parametrize("end", [b"0\r\nX-Endless: ", b"2;endless="])
async def test_a_body_has_no_endless_trailers(end: bytes):
    head = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    async with place(echo) as there, there.connection(head + end) as (reader, writer):
        found = asyncio.create_task(reader.readline())
        with contextlib.suppress(ConnectionError):
            while not found.done():
                writer.write(b"x" * 65_536)
                await writer.drain()
        assert (await found).startswith(b"HTTP/1.1 431 ")


async def test_a_long_body_in_many_pieces_with_trailers_is_none_too_many():
    body = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    sent = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    async with place(echo) as there:
        found = await there.whole(sent + body * 10 + b"0\r\nX-Trailer: " + b"y" * 10_000 + b"\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 200")
    assert found.endswith(b"x" * 65_536)


class Counted(Connection):
    """A connection that counts how often it writes a head without its wish for another protocol."""

    heads = 0

    def _without_upgrade(self) -> bytes:
        self.heads += 1
        return super()._without_upgrade()


async def test_wishes_for_other_protocols_in_great_number_cost_little():
    sent = b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n" * 4_000
    shared = Shared(echo, None, ("127.0.0.1", 0), Limits())
    connection = Counted(shared, ("127.0.0.1", 0))
    async with await shared.loop.create_server(lambda: connection, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with Place(port, listening.close).connection(sent) as (reader, _):
            with contextlib.suppress(ConnectionError):
                while await reader.read(1_000_000):
                    pass
    await shared.emptied()
    assert 0 < connection.heads <= 2 * QUEUE_MAX
