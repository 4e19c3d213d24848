"""One WebSocket on a connection that HTTP has handed over (RFC 6455; what the frames mean is `websockets`' business)."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN, SERVER, Protocol
from websockets.server import ServerProtocol

from skerry_registry.ws.wire import FRAME_MAX, Handshake, Limits, Refusal

if TYPE_CHECKING:
    from skerry_registry.ws.wire import Listener

log = logging.getLogger(__name__)

AT_ONCE = 200
"""Sockets that are written to in one turn of the loop."""
SLICE = 16_384
"""Bytes of what a client has sent that are looked at in one turn: they may be thousands of tiny frames."""
HIGH, LOW = 65_536, 16_384
"""Bytes waiting: `Listener.drained` comes when there were more than the one and are less than the other."""
REASON_MAX = 123
GOING_AWAY, TOO_BIG, INVALID_TEXT = 1001, 1009, 1007


def greet(handshake: Handshake, method: str, version: str) -> bytes | Refusal:
    """The answer to a handshake, so far as its form goes: what opens the WebSocket, or a refusal."""
    headers = Headers([(name.decode(), value.decode("latin-1")) for name, value in handshake.headers])
    target = (handshake.path + b"?" + handshake.query_string).decode("latin-1")
    request = Request(target, headers, method=method, protocol=f"HTTP/{version}")
    response = ServerProtocol().accept(request)
    if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
        return response.serialize()
    kept = [(name.lower().encode(), value.encode()) for name, value in response.headers.raw_items()]
    hidden = {b"date", b"connection", b"content-length"}
    return Refusal(
        status=response.status_code,
        body=bytes(response.body or b""),
        headers=tuple((name, value) for name, value in kept if name not in hidden),
    )


class Outgoing:
    """Sends what sockets have to say: once in a turn of the loop, however many frames that is, and to so many sockets that nobody else waits long."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        """Nobody has anything to say yet."""
        self.loop = loop
        self.limits = limits
        self._waiting: deque[WebSocket] = deque()

    def add(self, socket: WebSocket) -> None:
        """It has something to say."""
        if not self._waiting:
            self.loop.call_soon(self._send)
        self._waiting.append(socket)

    def _send(self) -> None:
        waiting = self._waiting
        for _ in range(min(AT_ONCE, len(waiting))):
            waiting.popleft().flush()
        if waiting:
            self.loop.call_soon(self._send)


class WebSocket(asyncio.Protocol):
    """The wire that a session has (`ws.wire.Wire`)."""

    __slots__ = (
        "_asked",
        "_blocked",
        "_closing",
        "_due",
        "_forget",
        "_full",
        "_heard",
        "_held",
        "_listener",
        "_loop",
        "_out",
        "_outgoing",
        "_parts",
        "_paused",
        "_pending",
        "_protocol",
        "_size",
        "_transport",
        "_unread",
        "_unsent",
    )

    def __init__(self, listener: Listener, outgoing: Outgoing, forget: Callable[[Any], None]) -> None:
        """`forget` is told when it has ended."""
        self._listener = listener
        self._loop = loop = outgoing.loop
        self._outgoing = outgoing
        self._out: list[bytes] = []
        self._size = 0
        self._full = self._blocked = False
        self._forget = forget
        self._protocol = Protocol(SERVER, state=OPEN, max_size=FRAME_MAX)
        self._parts: list[bytes] | None = None
        self._pending: deque[str] = deque()
        self._paused = False
        self._held = True
        self._unread = b""
        self._due = False
        self._unsent = 0
        self._heard = loop.time()
        self._asked = self._heard
        self._closing = 0.0
        self._transport: Any = None

    def begin(self, transport: asyncio.Transport, early: bytes) -> None:
        """It is open; `early` is what the client has already sent."""
        self._transport = transport
        transport.set_write_buffer_limits(HIGH, LOW)
        self._listener.opened(self)
        self._unread = early
        self._go_on()

    # What the session asks.

    @property
    def waiting(self) -> int:
        """Bytes that the client has not taken yet."""
        size: int = self._size + self._transport.get_write_buffer_size()
        if size > HIGH:
            self._full = True
        return size

    def send(self, frame: bytes) -> None:
        """Send a complete frame."""
        if self._closing:
            return
        if not self._out:
            self._outgoing.add(self)
        self._out.append(frame)
        self._size += len(frame)

    def close(self, code: int, reason: str) -> None:
        """Send what waits, then the close frame, and end."""
        if self._closing:
            return
        if self._protocol.state is OPEN:
            cut = reason.encode()[:REASON_MAX].decode(errors="ignore")
            self._protocol.send_close(code, cut)
        self._pending.clear()
        self._write_out()

    def abort(self) -> None:
        """End now."""
        self._closing = self._closing or self._loop.time()
        self._out.clear()
        self._transport.abort()

    def pause(self) -> None:
        """Read no more."""
        self._paused = True
        self._go_on()

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._read_on)

    # What the server asks.

    def flush(self) -> None:
        """Write what was sent."""
        out, self._out, self._size = self._out, [], 0
        if out and not self._transport.is_closing():
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))
            if self._full and not self._blocked:
                self._ease()

    def tick(self, now: float) -> None:
        """Ask clients that say nothing whether they are there; end those that are not."""
        limits = self._outgoing.limits
        if self._closing:
            if now - self._closing > limits.close:
                self.abort()
        elif self._blocked:
            unsent = self._transport.get_write_buffer_size()
            if unsent != self._unsent:
                self._unsent, self._heard = unsent, now
            elif now - self._heard > limits.take:
                log.info("client takes nothing", extra={"bytes": unsent})
                self.abort()
        elif self._paused:
            self._heard = now
        elif now - self._heard > limits.silence:
            log.info("client silent", extra={"seconds": int(now - self._heard)})
            self.abort()
        elif now - max(self._heard, self._asked) > limits.ask:
            self._asked = now
            self._protocol.send_ping(b"")
            self._write_out()

    def stop(self) -> None:
        """The server ends."""
        self.close(GOING_AWAY, "the server stops")

    # What asyncio calls.

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """It is gone."""
        self._closing = self._closing or self._loop.time()
        self._pending.clear()
        self._out.clear()
        self._forget(self)
        self._listener.closed()

    def eof_received(self) -> None:
        """The client has closed its side."""

    def pause_writing(self) -> None:
        """The client takes less than it is sent; what it sends meanwhile, pings for one, would only add to that."""
        self._blocked = True
        self._go_on()

    def resume_writing(self) -> None:
        """The client has taken what waited."""
        self._blocked = False
        self._heard = self._loop.time()
        self._ease()
        self._go_on()

    def _ease(self) -> None:
        self._full = False
        if not self._closing:
            self._listener.drained()

    def data_received(self, data: bytes) -> None:
        """Frames, whole or in part."""
        self._heard = self._loop.time()
        self._unread = self._unread + data if self._unread else data
        self._read()

    def _read(self) -> None:
        """Take a slice of what has come."""
        self._due = False
        if self._closing and self._transport.is_closing():
            return
        data, self._unread = self._unread[:SLICE], self._unread[SLICE:]
        protocol = self._protocol
        if data:
            protocol.receive_data(data)
            for frame in protocol.events_received():
                if isinstance(frame, Frame):
                    self._take(frame)
        self._deliver()
        self._reply()
        self._go_on()

    def _go_on(self) -> None:
        """Have more come, unless there is something to do or to take before."""
        if self._transport.is_closing():
            return
        waits = not self._closing and (self._paused or self._blocked)
        hold = waits or bool(self._unread)
        if hold != self._held:
            self._held = hold
            if hold:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
        if self._unread and not waits and not self._due:
            self._due = True
            self._loop.call_soon(self._read)

    def _take(self, frame: Frame) -> None:
        """Put messages together; binary ones are passed over."""
        opcode = frame.opcode
        if opcode is Opcode.CONT:
            if self._parts is not None:
                if frame.data:  # of empty ones there is no end
                    self._parts.append(bytes(frame.data))
                if frame.fin:
                    whole, self._parts = b"".join(self._parts), None
                    self._told(whole)
        elif opcode is Opcode.TEXT:
            if frame.fin:
                self._told(frame.data)
            else:
                self._parts = [bytes(frame.data)]

    def _told(self, data: Any) -> None:
        try:
            self._pending.append(str(data, "utf-8"))
        except UnicodeDecodeError as error:
            self._protocol.fail(INVALID_TEXT, f"{error.reason} at position {error.start}")

    def _deliver(self) -> None:
        pending = self._pending
        while pending and not self._paused and not self._closing:
            self._listener.received(pending.popleft())

    def _reply(self) -> None:
        """Say what the protocol has to; the answer to a close frame would end what came before it and is not taken yet."""
        if self._protocol.writes and not self._pending:
            self._write_out()

    def _read_on(self) -> None:
        self._deliver()
        self._reply()
        self._go_on()

    def _write_out(self) -> None:
        """Send what the protocol has to say, after what was sent before; an empty piece closes our side."""
        self.flush()
        for piece in self._protocol.data_to_send():
            if piece:
                self._transport.write(piece)
            elif self._transport.can_write_eof():
                self._transport.write_eof()
        if self._protocol.close_expected() and not self._closing:
            self._closing = self._loop.time()
            self._go_on()
