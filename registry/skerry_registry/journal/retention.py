"""Retention: what the journal forgets, so that it cannot fill a disk unnoticed."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from skerry.times import DAY
from skerry_registry.ports import StoreUnavailable

if TYPE_CHECKING:
    from skerry.signals import Clock
    from skerry_registry.journal.journal import Journal
    from skerry_registry.ports import Store

log = logging.getLogger(__name__)

STEP = 0.05
"""The share of the journal that goes at a time while it is too large."""


class Retention:
    """Forgets events older than `days` that every consumer has read, and the oldest, read or not, above `max_bytes`."""

    def __init__(self, store: Store, journal: Journal, clock: Clock, *, days: float, max_bytes: int) -> None:
        """Zero days or bytes: no bound of that sort. `days` may be changed while it runs, and `enabled`: whether age counts."""
        self._store = store
        self._journal = journal
        self._clock = clock
        self.days = days
        self.enabled = True
        self._max_bytes = max_bytes

    async def run(self, seconds: float) -> None:
        """Sweep every so often."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.warning("nothing forgotten", extra={"reason": error.text})

    async def sweep(self) -> None:
        """Forget what may go and what must go."""
        places = await self._store.cursors()
        places |= {name: place() for name, place in self._journal.places.items()}
        read = min(places.values(), default=self._journal.last)
        if self.enabled and self.days:
            young = await self._first_since(self._clock() - int(self.days * DAY))
            forgotten = await self._store.trim(min(young, read + 1))
            if forgotten:
                log.info("old events forgotten", extra={"events": forgotten})
        while self._max_bytes and await self._store.size() > self._max_bytes:
            oldest, last = await self._store.oldest(), self._journal.last
            before = oldest + max(1, int((last + 1 - oldest) * STEP))
            if not await self._store.trim(before):
                log.warning(
                    "data folder over its bound and no events left to forget",
                    extra={"bytes": await self._store.size(), "bound": self._max_bytes},
                )
                return
            behind = {name: place for name, place in places.items() if place < before - 1}
            if behind:
                log.warning(
                    "events lost to consumers: the journal reached its bound",
                    extra={"first": oldest, "last": before - 1, "consumers": behind, "bound": self._max_bytes},
                )

    async def _first_since(self, time: int) -> int:
        """The number of the first event with a timestamp >= `time`; by halving, as timestamps grow with numbers."""
        low, high = await self._store.oldest(), self._journal.last + 1
        while low < high:
            middle = (low + high) // 2
            found = await self._store.read(middle - 1, 1)
            if found and found[0].timestamp < time:
                low = middle + 1
            else:
                high = middle
        return low
