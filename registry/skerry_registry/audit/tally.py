"""Telemetry in the audit trail, summed up: how many messages of whom changed which thing, hour by hour."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from skerry_registry.audit.record import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skerry.signals import Clock, Command, Micros
    from skerry_registry.audit.trail import Trail

EVERY = 3_600.0
SENDERS = 50_000
"""Different senders and things that are counted; with more of them the sums are written early."""
Sender: TypeAlias = tuple[str, tuple[str, ...], str]


class Tally:
    """Counts what is taken in; enter the sums into the trail with `write`."""

    def __init__(self, trail: Trail, clock: Clock) -> None:
        self._trail = trail
        self._clock = clock
        self._counts: dict[Sender, int] = {}
        self._since: Micros = clock()

    def count(self, commands: Sequence[Command]) -> None:
        """These were committed."""
        counts = self._counts
        for command in commands:
            sender = (command.id, command.subjects, command.origin)
            counts[sender] = counts.get(sender, 0) + 1
        if len(counts) > SENDERS:
            self.write()

    def write(self) -> None:
        """Enter the sums so far, and begin anew."""
        now = self._clock()
        for (thing, subjects, origin), count in self._counts.items():
            record = Record(
                time=self._since,
                until=now,
                outcome="changed",
                action="telemetry",
                kind="thing",
                entity=thing,
                subject=subjects[0] if subjects else "",
                origin=origin,
                count=count,
            )
            self._trail.note(record)
        self._counts = {}
        self._since = now

    async def run(self) -> None:
        """Every hour, and at the end."""
        try:
            while True:
                await asyncio.sleep(EVERY)
                self.write()
        finally:
            self.write()
