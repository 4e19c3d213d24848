"""The parts of a server that tell what happens, together."""

from __future__ import annotations

from typing import Self

from msgspec import Struct

from skerry_registry.announcements import Announcements
from skerry_registry.live.acks import Acks
from skerry_registry.live.changes import Changes
from skerry_registry.live.channel import Live
from skerry_registry.live.desired import Desired
from skerry_registry.registry import Registry


class Streams(Struct, frozen=True, kw_only=True):
    """What edges subscribe to."""

    changes: Changes
    live: Live
    acks: Acks
    announcements: Announcements
    desired: Desired

    @classmethod
    def of(cls, registry: Registry, *, message_max_bytes: int = 256_000) -> Self:
        """Those of a registry, with nobody listening yet."""
        announcements = Announcements()
        acks = Acks(announcements)
        registry.on_settled(acks.settled)  # before Changes tells of the commit
        return cls(
            changes=Changes(registry, acks),
            live=Live(registry, acks, message_max_bytes=message_max_bytes),
            acks=acks,
            announcements=announcements,
            desired=Desired(registry),
        )
