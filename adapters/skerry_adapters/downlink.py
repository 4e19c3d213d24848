"""What the server sends to devices, through its own broker or another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from msgspec import Struct

from skerry.signals import Path

DEVICE = "device"


class DownlinkBroken(OSError):  # noqa: N818 - a fact for whoever has something to send, never shown
    """The broker is away: nothing was sent."""


class Reading(Struct, frozen=True, kw_only=True):
    """The right to read a part of a thing, or messages of it, that whoever hears a message needs."""

    thing_id: str
    resource: str
    path: Path


class Outbound(Struct, frozen=True, kw_only=True):
    """One message of the server's own, never retained. `instead`: further topics, for clients that have not had it yet.

    `seconds`: how long it is of use to a client that is slow to take it; None: for ever. `correlation`: MQTT 5's.
    `reading`: what the client has to be allowed to read, beside the topic. `subjects`: only for clients that are these
    (None: for all). `origin`: the client that caused it and does not get it. Behind an external broker these three are for
    its access control to say.
    """

    topic: str
    payload: bytes
    instead: tuple[str, ...] = ()
    qos: int = 1
    seconds: int | None = None
    correlation: bytes | None = None
    reading: Reading | None = None
    subjects: tuple[str, ...] | None = None
    origin: str = ""


class Downlink(Protocol):
    """The way to the devices."""

    def hears(self, topic: str) -> bool:
        """Whether somebody may be listening; False only where it is known that nobody does."""
        ...

    def begins(self, name: str) -> bool:
        """The same of all topics with this first level."""
        ...

    def send(self, message: Outbound) -> None:
        """Send it on to those who listen now; let go of it where the broker is away."""
        ...

    async def keep(self, messages: Mapping[str, bytes]) -> None:
        """Retain payloads by topic, an empty one clearing it; returns when they are safe. Raises DownlinkBroken."""
        ...

    async def kept(self) -> Iterable[tuple[str, bytes]]:
        """What is retained of topics `device/{namespace}/{name}/desired`, as far as it is known."""
        ...

    async def returned(self) -> None:
        """Return when the broker may have lost what was retained."""
        ...


def device_topic(thing_id: str, last: str) -> str | None:
    """The topic `device/{namespace}/{name}/{last}`; None where the id cannot stand in a topic."""
    if "+" in thing_id or "#" in thing_id or "/" in thing_id:
        return None
    namespace, _, name = thing_id.partition(":")
    return f"{DEVICE}/{namespace}/{name}/{last}"


def thing_of(topic: str) -> str | None:
    """The thing of a topic `device/{namespace}/{name}/...`."""
    levels = topic.split("/", 3)
    return f"{levels[1]}:{levels[2]}" if len(levels) == 4 and levels[0] == DEVICE else None
