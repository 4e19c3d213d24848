"""The wire of server-sent events: one answer that goes on, its heartbeat, and the end of readers who take nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any

from skerry.errors import SkerryError
from skerry_registry.http.answer import Header, encode
from skerry_registry.identities.refusals import AuthenticationFailed

if TYPE_CHECKING:
    from litestar.types import Receive, Send

    from skerry_registry.http.request import Request
    from skerry_registry.identities.logins import Identities

HEADERS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
"""The last one: a proxy in front shall not hold events back."""
HEARTBEAT = b"data:\n\n"
"""Ditto's: an event without data, not a comment."""
BEAT = 1.0
"""Seconds of silence after which there is one."""
PARTS = 20
"""The streams are asked a part at a time, so that thousands of heartbeats do not hold up the loop together."""
HELD_BEATS = 5
"""Every so many beats it is asked whether the login still holds."""
WAITING_MAX = 1_048_576
"""Bytes that may wait for a reader beyond those that the connection has taken."""


def is_asked(request: Request) -> bool:
    """Whether the request wants server-sent events: a GET that accepts them by name (`*/*` does not)."""
    accept = request.ditto.get("accept", "")
    if not ("event-stream" in accept or "text/*" in accept) or request.method != "GET":
        return False
    ranges = (part.partition(";")[0].strip().lower() for part in accept.split(","))
    return any(media in {"text/event-stream", "text/*"} for media in ranges)


async def still_holds(identities: Identities, request: Request) -> bool:
    """Whether who has begun a stream would still be let in, as the same."""
    try:
        caller = await identities.identify(request.edge, None, request.client)
    except SkerryError as error:
        return error.status != AuthenticationFailed.status
    return caller is not None and request.caller is not None and caller.subjects == request.caller.subjects


def event(data: str | bytes, *, name: str = "", id: str = "") -> bytes:  # noqa: A002 - the field's name
    """One event as it goes over the wire; several lines of data are several `data` fields."""
    text = data.encode("utf-8", "replace") if isinstance(data, str) else data
    if b"\n" in text or b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata:")
    return b"".join(
        (
            b"data:",
            text,
            f"\nevent:{name}".encode("utf-8", "replace") if name else b"",
            f"\nid:{id}".encode("utf-8", "replace") if id else b"",
            b"\n\n",
        )
    )


def place(number: int) -> bytes:
    """What tells a reader how far it has come, and is no event to it."""
    return b"id:%d\n\n" % number


class Heart:
    """Lets all streams beat with one timer, each once in `BEAT` seconds."""

    def __init__(self) -> None:
        self._parts: list[set[Stream]] = [set() for _ in range(PARTS)]
        self._next = 0
        self._at = 0
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def streams(self) -> int:
        """How many streams there are."""
        return self._count

    def join(self, stream: Stream) -> Callable[[], None]:
        """Take a stream up; returns what lets go of it."""
        part = self._parts[self._next]
        self._next = (self._next + 1) % PARTS
        part.add(stream)
        self._count += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BEAT / PARTS, self._beat)

        def leave() -> None:
            if stream in part:
                part.remove(stream)
                self._count -= 1

        return leave

    def _beat(self) -> None:
        if not self._count:
            self._timer = None
            return
        self._timer = asyncio.get_running_loop().call_later(BEAT / PARTS, self._beat)
        self._at = (self._at + 1) % PARTS
        for stream in tuple(self._parts[self._at]):
            stream.beat()


class Stream:
    """One answer of server-sent events: what is put is sent as the reader takes it, up to a bound; beyond it the reader is let go."""

    def __init__(self, request: Request, send: Send, heart: Heart, *, holds: Callable[[], Awaitable[bool]]) -> None:
        """`holds`: whether the login is still good."""
        self._request = request
        self._send = send
        self._heart = heart
        self._holds = holds
        self.place: Callable[[], int] | None = None
        """How far the reader has come when nothing waits; heartbeats tell it, so that a quiet reader need not go far back."""
        self._told = 0
        self._waiting: list[bytes] = []
        self._size = 0
        self._ended = False
        self._late = False
        self._sending = False
        self._quiet = False
        self._beats = 0
        self._wake: asyncio.Future[None] | None = None
        self._taken: asyncio.Future[None] | None = None
        self._task: asyncio.Task[Any] | None = None

    def put(self, chunk: bytes) -> None:
        """Send this, after what waits already."""
        if self._ended:
            return
        self._waiting.append(chunk)
        self._size += len(chunk)
        self._quiet = False
        if self._size > WAITING_MAX:
            self._let_go()
        else:
            self._go_on()

    def end(self) -> None:
        """Send what waits, and no more."""
        self._ended = True
        self._go_on()

    async def room(self) -> None:
        """Until nothing waits any more."""
        if self._waiting:
            if self._taken is None:
                self._taken = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._taken)

    def beat(self) -> None:
        """A second has gone by: a heartbeat if it was a quiet one."""
        self._beats += 1
        if self._quiet and not self._waiting and not self._ended:
            self._waiting.append(self._heartbeat())
        self._quiet = True
        self._go_on()

    def _heartbeat(self) -> bytes:
        number = self._told if self.place is None else self.place()
        if number == self._told:
            return HEARTBEAT
        self._told = number
        return b"data:\nid:%d\n\n" % number

    async def run(self, source: Coroutine[Any, Any, None] | None = None) -> None:
        """Send until it ends, the reader is gone or the login holds no more; `source` puts events in meanwhile.

        A SkerryError of `source` is the last event.
        """
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._request.begun = perf_counter()
        leave = self._heart.join(self)
        others = [loop.create_task(self._watch(self._request.receive))]
        if source is not None:
            others.append(loop.create_task(self._feed(source)))
        try:
            await self._send({"type": "http.response.start", "status": 200, "headers": [*HEADERS]})
            await self._send({"type": "http.response.body", "body": b"", "more_body": True})
            await self._send_all()
        except asyncio.CancelledError:
            if not self._late or self._task is None:
                raise
            self._task.uncancel()
        finally:
            self._ended = True
            leave()
            for task in others:
                task.cancel()
            await self._close()
            await asyncio.wait(others)
        for task in others:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _send_all(self) -> None:
        beats = self._beats
        while True:
            if self._waiting:
                chunk = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
                self._waiting.clear()
                self._size = 0
                message: Any = {"type": "http.response.body", "body": chunk, "more_body": True}
                self._sending = True
                await self._send(message)
                self._sending = False
                if not self._waiting and self._taken is not None:
                    self._taken.set_result(None)
                    self._taken = None
            elif self._ended:
                return
            elif self._beats - beats >= HELD_BEATS:
                beats = self._beats
                if not await self._holds():
                    return
            else:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake

    async def _close(self) -> None:
        """The end of the answer; a reader who has not taken the rest is not waited for: the connection ends with the call."""
        if not self._sending:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _feed(self, source: Coroutine[Any, Any, None]) -> None:
        try:
            await source
        except SkerryError as error:
            self.put(event(encode(error.payload())))
            self.end()
        except Exception:
            self.end()
            raise

    async def _watch(self, receive: Receive) -> None:
        """End when the reader is gone."""
        while True:
            message: Any = await receive()
            if message["type"] == "http.disconnect":
                break
        self._waiting.clear()
        self.end()

    def _go_on(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _let_go(self) -> None:
        """End now: the reader does not keep up."""
        self._ended = self._late = True
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
