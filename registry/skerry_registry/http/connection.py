"""One connection of a client: requests in, one after the other, and answers out; or the way to a WebSocket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

from httptools import (
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
    parse_url,
)

from skerry.errors import SkerryError
from skerry.headers import HeadersTooLarge
from skerry_registry.http.answer import Answer, of_error
from skerry_registry.http.call import AHEAD, BODILESS, LET_GO, LINES, Call
from skerry_registry.http.errors import RequestInvalid
from skerry_registry.ws.connection import Outgoing, WebSocket, greet
from skerry_registry.ws.wire import Handshake, Refusal

if TYPE_CHECKING:
    from litestar.types import ASGIApp

    from skerry_registry.ws.wire import Limits, Listener, Open

log = logging.getLogger(__name__)

QUEUE_MAX = 100
"""Requests that wait for the answers to those before them."""
LINGER = 2.0
"""Seconds for a client to read why its request is refused."""
HEAD_MAX = 262_144
"""Bytes of a head; also those between two pieces of a body, and after the last (extensions of chunks, trailers)."""
ASGI = {"version": "3.0", "spec_version": "2.3"}


class Kept(Protocol):
    """A connection as the server keeps it."""

    def tick(self, now: float) -> None:
        """A second has passed."""
        ...

    def stop(self) -> None:
        """End as soon as what is under way has ended."""
        ...

    def abort(self) -> None:
        """End now."""
        ...


class Shared:
    """What the connections of one server share. `freed` is called when one has ended."""

    def __init__(self, app: ASGIApp, opening: Open | None, server: tuple[str, int], limits: Limits) -> None:
        """`opening` decides on WebSockets; without it there are none."""
        self.app = app
        self.opening = opening
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.outgoing = Outgoing(self.loop, limits)
        self.connections: set[Kept] = set()
        self.calls: set[Call] = set()
        self.date = b""
        self.limits = limits
        self.freed: Callable[[], None] = lambda: None
        self._ended: asyncio.Event | None = None
        self.tell_time()

    def tell_time(self) -> None:
        """Set the time that answers carry."""
        self.date = b"date: %b\r\n" % formatdate(usegmt=True).encode()

    def forget(self, connection: Kept) -> None:
        """It is gone."""
        self.connections.discard(connection)
        self.freed()
        self._look()

    def drop(self, call: Call) -> None:
        """It has ended."""
        self.calls.discard(call)
        self._look()

    async def emptied(self) -> None:
        """Wait until nothing is left."""
        self._ended = asyncio.Event()
        self._look()
        await self._ended.wait()

    def _look(self) -> None:
        if self._ended is not None and not self.connections and not self.calls:
            self._ended.set()


class Connection(asyncio.Protocol):
    """Speaks HTTP/1.1 to one client."""

    __slots__ = (
        "_call",
        "_deaf",
        "_drained",
        "_early",
        "_expects",
        "_head_size",
        "_headers",
        "_in_head",
        "_incoming",
        "_lingers",
        "_opening",
        "_parser",
        "_paused",
        "_queue",
        "_since",
        "_stopping",
        "_transport",
        "_unsent",
        "_upgrading",
        "_url",
        "client",
        "full",
        "shared",
    )

    def __init__(self, shared: Shared, client: tuple[str, int]) -> None:
        """`client`: its address and port."""
        self.shared = shared
        self.client = client
        self.full = False
        self._parser: Any = HttpRequestParser(self)
        self._transport: Any = None
        self._call: Call | None = None
        self._incoming: Call | None = None
        self._queue: list[Call] = []
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = True
        self._expects = False
        self._head_size = 0
        self._since = shared.loop.time()
        self._paused = False
        self._stopping = False
        self._deaf = self._lingers = False
        self._unsent = 0
        self._drained: asyncio.Future[None] | None = None
        self._upgrading = False
        self._opening: asyncio.Task[None] | None = None
        self._early = b""

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = transport
        self.shared.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """It is gone, and with it whoever waited for answers."""
        for call in (self._call, self._incoming, *self._queue):
            if call is not None:
                call.leave()
        self._queue.clear()
        self.resume_writing()
        self._parser = None
        self.shared.forget(self)

    def eof_received(self) -> None:
        """The client has closed its side: as most servers take it, it is gone."""

    def pause_writing(self) -> None:
        """The client takes answers more slowly than they come."""
        self.full = True

    def resume_writing(self) -> None:
        """It has taken them."""
        self.full = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def data_received(self, data: bytes) -> None:
        """Read what there is of requests."""
        if self._upgrading:
            self._early += data
            return
        if self._deaf:
            return
        self._head_size += len(data)
        while data and not self._deaf:
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                if self._upgrading:
                    self._open_websocket(data)
                    return
                head = self._without_upgrade()
                if not head:
                    self._refuse(RequestInvalid(problem="this is no proxy"))
                    return
                data = head + data
                continue
            except HttpParserError as error:
                self._refuse(RequestInvalid(problem=str(error.__context__ or error).rstrip(".").lower()))
                return
            break
        if self._head_size > HEAD_MAX:
            self._refuse(HeadersTooLarge(size=self._head_size, limit=HEAD_MAX))

    # What the parser calls.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers = []
        self._in_head = True
        self._expects = False
        self._since = self.shared.loop.time()

    def on_url(self, url: bytes) -> None:
        """A piece of its target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers of a body are passed over."""
        if self._in_head:
            name = name.lower()
            if name == b"expect":
                self._expects = value.lower() == b"100-continue"
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._head_size = 0
        if self._deaf:
            return
        if len(self._queue) >= QUEUE_MAX:
            self._deaf = True
            self._queue[-1].keep = False  # who sends more in a row has to send the rest again
            return
        parser = self._parser
        if parser.should_upgrade():
            self._upgrading = self._call is None and self.shared.opening is not None and _wants_websocket(self._headers)
            return
        version = parser.get_http_version()
        method = parser.get_method().decode()
        path, query = _target(self._url)
        text = path.decode("ascii")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": ASGI,
            "http_version": version,
            "method": method,
            "scheme": "http",
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self._headers,
            "state": {},
            "client": self.client,
            "server": self.shared.server,
        }
        keep = version == "1.1" and not self._stopping and parser.should_keep_alive()
        call = self._incoming = Call(self, scope, keep=keep, expects=self._expects and version == "1.1")
        if self._call is None:
            self._start(call)
        else:
            self._queue.append(call)
            self._pause()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._head_size = 0
        call = self._incoming
        if call is None:
            return
        if call.feed(body) > AHEAD:
            self._pause()
        elif call.over > LET_GO:
            self._deaf = True
            self._close()

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._incoming is not None:
            self._incoming.finish()
            self._incoming = None
        self._in_head = True
        self._head_size = 0

    # What calls need.

    def write(self, data: bytes) -> None:
        """Send."""
        self._transport.write(data)

    def go_on(self) -> None:
        """Tell the client to send the body."""
        self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def read_on(self) -> None:
        """There is room for more."""
        if self._paused and not self._queue and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    async def drain(self) -> None:
        """Wait until the client has taken what it was sent, or is gone."""
        if self._drained is None:
            self._drained = self.shared.loop.create_future()
        await asyncio.shield(self._drained)

    def answered(self, call: Call) -> None:
        """The answer is whole: on to the next request."""
        self._call = None
        if not call.keep or self._transport.is_closing():
            self._close()
            return
        self._since = self.shared.loop.time()
        if self._queue:
            self._start(self._queue.pop(0))
        elif self._stopping:
            self._close()
            return
        self.read_on()

    def fail(self, call: Call) -> None:
        """There will be no whole answer; who does not take what there is of it is not waited for."""
        if not call.begun and not call.gone:
            self._write_answer(of_error(SkerryError()))
        self._close()
        if call.begun and self.full:
            self._transport.abort()

    # What the server asks.

    def tick(self, now: float) -> None:
        """End what takes too long: heads, silence between requests, answers that are not taken."""
        if self._opening is not None:
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent, self._since = unsent, now
        waited = now - self._since
        if ((unsent or self._transport.is_closing()) and waited > self.shared.limits.take) or (
            self._lingers and waited > LINGER
        ):
            self.abort()
        elif self._call is None and waited > self.shared.limits.head:
            self._close()

    def stop(self) -> None:
        """Take no more requests; close when the last one is answered."""
        self._stopping = True
        if self._opening is not None:
            self._opening.cancel()
        elif self._call is None:
            self._close()
        else:
            self._call.stop()

    def abort(self) -> None:
        """End now, with what is being answered."""
        if self._opening is not None:
            self._opening.cancel()
        if self._call is not None:
            self._call.cancel()
        self._transport.abort()

    def _start(self, call: Call) -> None:
        self._call = call
        call.start(self.shared)

    def _pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _close(self) -> None:
        self._since = self.shared.loop.time()
        self._transport.close()

    def _refuse(self, error: SkerryError) -> None:
        """What came is no HTTP, or too much of it: requests before it are still answered."""
        self._deaf = True
        broken, self._incoming = self._incoming, None
        if broken is not None:
            broken.leave()
        before = [call for call in (self._call, *self._queue) if call is not None and call is not broken]
        if before:
            self._queue = before[1:]
            before[-1].keep = False
            return
        if broken is None or not broken.begun:
            self._write_answer(of_error(error))
            self._linger()
        else:
            self._close()

    def _linger(self) -> None:
        """Close our side and let go of what still comes: a reset would hide the answer from who is sending."""
        self._lingers = True
        self._since = self.shared.loop.time()
        self._transport.write_eof()

    def _write_answer(self, answer: Answer) -> None:
        """An answer that ends the connection."""
        parts = [LINES[answer.status]]
        for name, value in answer.headers:
            parts += (name, b": ", value, b"\r\n")
        if answer.status not in BODILESS:
            parts.append(b"content-length: %d\r\n" % len(answer.body))
        parts += (b"connection: close\r\n", self.shared.date, b"\r\n", answer.body)
        self._transport.write(b"".join(parts))

    def _without_upgrade(self) -> bytes:
        """The head once more, without its wish for something that we do not know (HTTP/2 of Java's client, for one); none of CONNECT."""
        if not any(name == b"upgrade" for name, _ in self._headers):
            return b""
        version = self._parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self._parser.get_method(), self._url, version)]
        lines += [name + b": " + value for name, value in self._headers if name != b"upgrade"]
        self._parser = HttpRequestParser(self)
        return b"\r\n".join((*lines, b"", b""))

    def _open_websocket(self, early: bytes) -> None:
        """The client asks for a WebSocket; nothing is read until it is decided."""
        self._early = early
        self._pause()
        self._opening = self.shared.loop.create_task(
            self._decide(self._parser.get_method().decode(), self._parser.get_http_version())
        )

    async def _decide(self, method: str, version: str) -> None:
        path, query = _target(self._url)
        handshake = Handshake(path=path, query_string=query, headers=tuple(self._headers), client=self.client[0])
        found: Listener | Refusal | None = None
        try:
            greeting = greet(handshake, method, version)
            found = greeting if isinstance(greeting, Refusal) else await self._ask(handshake)
        finally:
            self._parser = None
            if found is None or isinstance(found, Refusal):
                self._opening = None
                if found is not None and not self._transport.is_closing():
                    self._write_answer(Answer(found.status, found.body, found.headers))
                self._close()
        if not isinstance(found, Refusal) and not isinstance(greeting, Refusal):
            self._hand_over(found, greeting)

    async def _ask(self, handshake: Handshake) -> Listener | Refusal:
        assert self.shared.opening is not None
        try:
            async with asyncio.timeout(self.shared.limits.head):
                return await self.shared.opening(handshake)
        except Exception as error:
            if not isinstance(error, SkerryError):
                log.exception("handshake failed")
            answer = of_error(error if isinstance(error, SkerryError) else SkerryError())
            return Refusal(status=answer.status, body=answer.body, headers=answer.headers)

    def _hand_over(self, listener: Listener, greeting: bytes) -> None:
        """The connection is a WebSocket from now on."""
        transport, shared = self._transport, self.shared
        if transport.is_closing():
            listener.closed()
            return
        websocket = WebSocket(listener, shared.outgoing, shared.forget)
        shared.connections.discard(self)
        shared.connections.add(websocket)
        transport.write(greeting)
        transport.set_protocol(websocket)
        websocket.begin(transport, self._early)


def _wants_websocket(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"upgrade" and value.lower() == b"websocket" for name, value in headers)


def _target(url: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request's target."""
    if url[:1] == b"/" and b"#" not in url:
        path, _, query = url.partition(b"?")
        return path, query
    parsed = parse_url(url)
    return parsed.path or b"/", parsed.query or b""
