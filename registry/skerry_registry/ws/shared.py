"""What the sessions of a server have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from skerry.live import envelope_of
from skerry_registry.ws.wire import frame

if TYPE_CHECKING:
    from skerry.live import LiveSignal
    from skerry_registry.identities.logins import Identities
    from skerry_registry.live.changes import Told
    from skerry_registry.live.envelopes import Envelopes
    from skerry_registry.live.streams import Streams
    from skerry_registry.registry import Registry
    from skerry_registry.search.search import Search

encode = msgspec.json.Encoder().encode
RECHECK = 60.0
"""Seconds until it is asked again whether a login would still be granted."""


class Shared:
    """The parts that sessions work with, what is counted of them, and the last frame: one after the other sends the same.

    `frames_per_second`: what one session may send; 0: no bound. `recheck`: seconds until a login is asked again.
    """

    __slots__ = (
        "_frame",
        "_framed",
        "_labels",
        "counts",
        "envelopes",
        "frames_per_second",
        "identities",
        "recheck",
        "registry",
        "search",
        "streams",
    )

    def __init__(
        self,
        registry: Registry,
        *,
        identities: Identities,
        streams: Streams,
        envelopes: Envelopes,
        search: Search,
        frames_per_second: int = 0,
        recheck: float = RECHECK,
    ) -> None:
        """Nothing is counted yet."""
        self.registry = registry
        self.identities = identities
        self.streams = streams
        self.envelopes = envelopes
        self.search = search
        self.frames_per_second = frames_per_second
        self.recheck = recheck
        self.counts = Counts()
        self._framed: Told | LiveSignal | None = None
        self._labels: tuple[str, ...] = ()
        self._frame = b""

    def change(self, told: Told, session: str) -> bytes:
        """The frame that tells a session of a change."""
        labels = self.streams.acks.shown(session, told.event.headers) if told.event.headers else ()
        if told is not self._framed or labels != self._labels:
            self._frame = frame(told.text_for(labels) if labels else told.text)
            self._framed, self._labels = told, labels
        return self._frame

    def signal(self, signal: LiveSignal, session: str) -> bytes:
        """The frame that hands a session a live signal."""
        labels = self.streams.acks.shown(session, signal.headers)
        if signal is not self._framed or labels != self._labels:
            envelope = envelope_of(signal)
            if "requested-acks" in signal.headers:
                envelope["headers"]["requested-acks"] = list(labels)
            self._frame = frame(encode(envelope))
            self._framed, self._labels = signal, labels
        return self._frame


class Counts(Struct):
    """Sessions that are open, frames and what became of slow readers; `behind`: bytes that clients have not taken."""

    sessions: int = 0
    received: int = 0
    sent: int = 0
    slow: int = 0
    behind: int = 0


def framed(envelope: dict[str, Any]) -> bytes:
    """An envelope as a frame."""
    return frame(encode(envelope))
