# ruff: noqa: N818 - errors are rows of a table
"""The journal: appends shared by everyone, and followers that miss nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from skerry.errors import SkerryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from skerry.signals import Event
    from skerry_registry.ports import Store


PAGE = 500
"""Events that a follower gets at a time: taking them out of their JSON holds up everybody else."""


class EventsForgotten(SkerryError):
    """A follower asked for events that retention has taken away."""

    code = "journal.events.forgotten"
    status = 410
    message = "The journal starts at number {oldest}; the events after {after} are no longer kept."
    description = "Start over from the current state, and keep events longer: the settings journal_retention_days and journal_max_bytes."
    extras = ("after", "oldest")


class EventsUnknown(SkerryError):
    """A follower says it has seen events that there never were: of another journal, or of one that was put back since."""

    code = "journal.events.unknown"
    status = 410
    message = "The journal ends with number {last}; there is no event {after} yet."
    description = (
        "Start over from the current state: the number is of another journal, or this one was restored from a backup."
    )
    extras = ("after", "last")


class Journal:
    """The events of one store: numbered without gaps, shown to followers only once they are durable."""

    def __init__(self, store: Store, *, keep: int = 8_000) -> None:
        """`keep`: how many of the newest events, and up to an eighth more, stay in memory for followers that are near the head."""
        self.last = 0
        self.places: dict[str, Callable[[], int]] = {}
        self._store = store
        self._keep = keep
        self._recent: list[Event] = []  # gap-free, ends with number `last`
        self._early: dict[int, Sequence[Event]] = {}  # committed, but an earlier commit has not reported yet
        self._waiting: set[asyncio.Future[None]] = set()

    async def open(self) -> None:
        """Stand at the store's newest event."""
        self.last = await self._store.last()

    def spare(self, consumer: str, place: Callable[[], int]) -> None:
        """Let retention ask a consumer that keeps its place elsewhere how far it has dealt with the events."""
        self.places[consumer] = place

    async def append(self, events: Sequence[Event]) -> None:
        """Make the events durable, all or none; when it returns they are numbered and on their way to the followers."""
        await self._store.append(events)
        if events:
            self._publish(events)

    def _publish(self, events: Sequence[Event]) -> None:
        """Let followers see the events, and any that waited for these."""
        if events[0].number != self.last + 1:
            self._early[events[0].number] = events
            return
        following: Sequence[Event] | None = events
        while following:
            self._recent.extend(following)
            self.last = following[-1].number
            following = self._early.pop(self.last + 1, None) if self._early else None
        if len(self._recent) > self._keep + self._keep // 8:
            del self._recent[: -self._keep]
        if self._waiting:
            for waiter in self._waiting:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiting.clear()

    async def follow(self, after: int, page: int = PAGE) -> AsyncIterator[list[Event]]:
        """Every event numbered > `after`, in order, in lists of at most `page`; waits for more at the end.

        Raises EventsForgotten when the journal no longer reaches back that far.
        """
        while True:
            if after >= self.last:
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.add(waiter)
                try:
                    await waiter
                finally:
                    self._waiting.discard(waiter)
                continue
            events = await self.read(after, page)
            if not events or events[0].number != after + 1:
                raise EventsForgotten(after=after, oldest=await self._store.oldest())
            after = events[-1].number
            yield events

    async def read(self, after: int, limit: int) -> list[Event]:
        """What is kept of the `limit` events that come after a number: from memory when they are there, else from the store."""
        start = len(self._recent) - (self.last - after)
        if start >= 0:
            return self._recent[start : start + limit]
        events = await self._store.read(after, min(limit, self.last - after))
        while events and events[-1].number > after + limit:
            events.pop()
        return events

    async def check(self, after: int) -> None:
        """Raise EventsForgotten unless all events after a number are kept (0: all that are), EventsUnknown for one to come."""
        if after > self.last:
            raise EventsUnknown(after=after, last=self.last)
        if after and after < self.last - len(self._recent) and after + 1 < (oldest := await self._store.oldest()):
            raise EventsForgotten(after=after, oldest=oldest)

    async def beginning(self) -> int:
        """The number after which the kept events begin."""
        return await self._store.oldest() - 1
