"""The seam between the wire of a WebSocket (RFC 6455, `http/server.py` hands the connection over) and the session on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from msgspec import Struct

FRAME_MAX = 262_144
"""Bytes of one message in either direction."""


class Limits(Struct, frozen=True, kw_only=True):
    """How long the server waits, in seconds, and for how many.

    `head`: for a request's head, and between two requests; `take`: for a client to take anything of an answer; `ask`: for a word
    on a WebSocket until the client is asked whether it is there, `silence`: until it is given up, `close`: for it to close its side;
    `tick`: how often is looked; `connections`: None goes by the limit of open files.
    """

    head: float = 30.0
    take: float = 60.0
    ask: float = 30.0
    silence: float = 75.0
    close: float = 5.0
    tick: float = 1.0
    connections: int | None = None


class Handshake(Struct, frozen=True, kw_only=True):
    """A client's wish to open a WebSocket: raw path, query and headers (lower-case, doubled ones as they came), its address."""

    path: bytes
    query_string: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    client: str


class Refusal(Struct, frozen=True, kw_only=True):
    """The HTTP answer to a handshake that comes to nothing."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Wire(Protocol):
    """What a session may do with its connection."""

    @property
    def waiting(self) -> int:
        """Bytes that the client has not taken yet."""
        ...

    def send(self, frame: bytes) -> None:
        """Send a complete frame (`frame` makes one, to be shared); what is sent in one turn of the loop leaves together."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Send what waits, then the close frame (reason: at most 123 bytes), and end; `Listener.closed` comes when it has."""
        ...

    def abort(self) -> None:
        """End now: the client takes nothing any more."""
        ...

    def pause(self) -> None:
        """Read no more frames until `resume`."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...


class Listener(Protocol):
    """The session, as the wire knows it. The calls must not raise."""

    def opened(self, wire: Wire) -> None:
        """The handshake is done."""
        ...

    def received(self, text: str) -> None:
        """One text message, whole. Binary ones are passed over; too large ones close the connection (1009)."""
        ...

    def drained(self) -> None:
        """`waiting` has fallen to little."""
        ...

    def closed(self) -> None:
        """The connection is gone, whoever ended it; also where it was before `opened` could be called."""
        ...


Open: TypeAlias = Callable[[Handshake], Awaitable["Listener | Refusal"]]
"""Decides on a handshake."""


def frame(text: bytes) -> bytes:
    """A whole text message as a frame from the server: unmasked, so that one serves any number of clients."""
    size = len(text)
    if size < 126:
        return bytes((0x81, size)) + text
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2) + text
    return b"\x81\x7f" + size.to_bytes(8) + text
