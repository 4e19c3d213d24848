"""One request on a connection and the way of its answer: what ASGI calls scope, receive and send."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from skerry_registry.http.connection import Connection, Shared

log = logging.getLogger(__name__)

AHEAD = 65_536
"""Bytes of a body that are read before somebody asks for them."""
LET_GO = 65_536
"""Bytes of an unread body that are passed over after the answer, for the sake of the connection."""
PHRASES = {status.value: status.phrase for status in HTTPStatus}
LINES = {status: f"HTTP/1.1 {status} {PHRASES.get(status, '')}\r\n".encode() for status in range(100, 600)}
BODILESS = {204, 304}


class HeadInvalid(Exception):  # noqa: N818 - a fact for the log
    """An answer's header would break out of its line."""


class Call:
    """One request. `complete`: its body is; `begun`, `done`: the answer; `gone`: nobody waits for it any more; `over`: bytes of the body that nobody took."""

    __slots__ = (
        "_body",
        "_chunked",
        "_connection",
        "_expects",
        "_head",
        "_left",
        "_silent",
        "_size",
        "_stopped",
        "_task",
        "_told",
        "_waiter",
        "begun",
        "complete",
        "done",
        "gone",
        "keep",
        "over",
        "scope",
    )

    def __init__(self, connection: Connection, scope: dict[str, Any], *, keep: bool, expects: bool) -> None:
        """`keep`: the connection stays open afterwards; `expects`: the client waits for a 100 before it sends the body."""
        self.scope = scope
        self.keep = keep
        self._task: asyncio.Task[None] | None = None
        self.begun = False
        self.complete = False
        self.done = False
        self.gone = False
        self.over = 0
        self._connection = connection
        self._silent = scope["method"] == "HEAD"
        self._expects = expects
        self._body: list[bytes] = []
        self._size = 0
        self._stopped = False
        self._told = False
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._chunked = False
        self._left = -1

    def start(self, shared: Shared) -> None:
        """Have it answered; what is not answered whole ends the connection."""
        shared.calls.add(self)
        self._task = shared.loop.create_task(self._run(shared))

    def cancel(self) -> None:
        """End it now."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, shared: Shared) -> None:
        try:
            await shared.app(cast("Any", self.scope), cast("Any", self.receive), cast("Any", self.send))
        except Exception:
            log.exception("request failed")
        finally:
            if not self.done:
                self._connection.fail(self)
            shared.drop(self)
            self.scope = {}  # the request in it knows this call: leave no cycles to the garbage collector

    def feed(self, body: bytes) -> int:
        """A piece of the body; how much waits to be taken now."""
        if self.done:
            self.over += len(body)
            return 0
        self._body.append(body)
        self._size += len(body)
        self._wake()
        return self._size

    def finish(self) -> None:
        """The body is whole."""
        self.complete = True
        self._wake()

    def leave(self) -> None:
        """The client is gone."""
        self.gone = True
        self._wake()

    def stop(self) -> None:
        """The server stops: whoever waits for the client to go, because the answer has no end, is told that it has."""
        self.keep = False
        self._stopped = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> dict[str, Any]:
        """The next piece of the body; once that is whole: wait until the client is gone."""
        if self._expects and not self.gone:
            self._expects = False
            self._connection.go_on()
        while not (self._body or (self.complete and not self._told) or self._over()):
            self._connection.read_on()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._over():
            return {"type": "http.disconnect"}
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._size = 0
        self._told = self.complete
        return {"type": "http.request", "body": body, "more_body": not self.complete}

    def _over(self) -> bool:
        return self.gone or self.done or (self._stopped and self._told)

    async def send(self, message: dict[str, Any]) -> None:
        """Send the head (it leaves with the first piece of the body) or a piece of the body. What nobody waits for is let go."""
        connection = self._connection
        if connection.full and not self.gone:
            await connection.drain()
        if self.gone or self.done:
            return
        if message["type"] == "http.response.start":
            self._start(message["status"], message["headers"])
            return
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if self._silent:
            body = b""
        elif self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else body
            body = body if more else body + b"0\r\n\r\n"
        else:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                self.keep = False
        if not self.begun:
            self.begun = True
            body = self._head + body
            self._head = b""
        connection.write(body)
        if not more:
            self.done = True
            self._wake()
            connection.answered(self)

    def _start(self, status: int, headers: Any) -> None:
        self._expects = False
        parts = [LINES[status]]
        closes = False
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                self._left = int(value)
            elif name == b"connection":
                closes = b"close" in value.lower()
                self.keep = self.keep and not closes
        if self._left < 0:
            if status in BODILESS or self._silent:
                self._left = 0
            elif self.scope["http_version"] == "1.1":
                self._chunked = True
                parts.append(b"transfer-encoding: chunked\r\n")
            else:
                self._left, self.keep = 1 << 62, False
        if not self.keep and not closes:
            parts.append(b"connection: close\r\n")
        lines = len(headers) + 3 + self._chunked + (not self.keep and not closes)
        parts.append(self._connection.shared.date)
        parts.append(b"\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != lines or head.count(b"\r") != lines:
            raise HeadInvalid
        self._head = head
