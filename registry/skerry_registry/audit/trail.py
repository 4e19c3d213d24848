"""Keeping the audit trail: changes read from the journal, refusals as they happen, written in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeVar

from msgspec import Struct

from skerry.times import DAY
from skerry_registry.audit.book import AuditUnavailable, Book, Wish
from skerry_registry.audit.record import Record, of_event
from skerry_registry.journal import EventsForgotten

if TYPE_CHECKING:
    from pathlib import Path

    from skerry.signals import Clock
    from skerry_registry.journal import Journal

T = TypeVar("T")
log = logging.getLogger(__name__)

WRITE_EVERY = 0.5
PLACE_EVERY = 20
"""How many empty writes may pass before the place alone is written."""
TRIM_EVERY = 3_600
KINDS_OF_REFUSALS = 10_000
"""Different refusals that may wait for one write; more are counted only."""
STRANGERS = 200
"""Different refusals in one write from which on failed logins are told apart by their origin only: names are free to make up."""
TRIM_AFTER = 50_000
"""Records written after which the bound in bytes is looked at, whatever the time."""
WAITING_CHANGES = 20_000
"""Changes that may wait for the disk; beyond it the journal keeps them for us."""


class TrailStatus(Struct, frozen=True, kw_only=True):
    """How the trail stands. `place`: the newest event it has; `lost`: refusals that found no room; `error`: why it cannot write."""

    place: int
    lost: int
    error: str | None = None


class Trail:
    """Enter to keep the trail, leave to write what waits. Changes are complete: the place in the journal is kept with them.

    Refusals that differ in nothing but their time become one record with a count: those of one write, and those that the
    book has of the last minute; what the last write has not covered is lost when the process is killed.
    """

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        clock: Clock,
        *,
        retention_days: float = 0,
        max_bytes: int = 0,
    ) -> None:
        """Zero days or bytes: no bound of that sort."""
        self._folder = folder
        self._journal = journal
        self._clock = clock
        self._days = retention_days
        self._max_bytes = max_bytes
        self._book: Book
        self._thread: ThreadPoolExecutor
        self._asking: ThreadPoolExecutor
        self._changes: list[Record] = []
        self._refusals: dict[tuple[Any, ...], Record] = {}
        self._read = 0
        self._kept = 0
        self._lost = 0
        self._unsaid = 0
        self._empty = 0
        self._written = 0
        self._error: str | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._room = asyncio.Event()
        self._writing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Open the file, go on where the last run stood; a fresh trail begins now."""
        self._book = Book(self._folder)
        place = self._book.place()
        if place < 0:
            place = self._journal.last
            self._book.add([], place)
        self._read = self._kept = min(place, self._journal.last)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit")
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="audit-asked")
        self._journal.spare("audit", lambda: self._kept)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._follow()), loop.create_task(self._keep())]
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Write what waits."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._write(place_too=True)
        await asyncio.to_thread(self._thread.shutdown)
        await asyncio.to_thread(self._asking.shutdown)
        self._book.close()

    def note(self, record: Record) -> None:
        """Note what is in no journal, a refusal above all; returns at once."""
        if record.action == "login" and len(self._refusals) >= STRANGERS:
            record.user = record.path = ""
        key = record.likeness
        known = self._refusals.get(key)
        if known is not None:
            known.count += record.count
            known.until = record.until or record.time
        elif len(self._refusals) < KINDS_OF_REFUSALS:
            self._refusals[key] = record
        else:
            self._lost += 1
            self._unsaid += 1

    def status(self) -> TrailStatus:
        """How it stands now."""
        return TrailStatus(place=self._kept, lost=self._lost, error=self._error)

    async def find(self, wish: Wish, limit: int) -> list[Record]:
        """The newest records first, with all that has happened until now. Raises AuditUnavailable."""
        await self._settle()
        return await self._aside(self._asking, lambda: self._book.find(wish, limit))

    async def _settle(self) -> None:
        """Until what has happened so far is written, as far as it can be."""
        wanted = self._journal.last
        while self._error is None:
            await self._write()
            if self._read >= wanted:
                break
            await asyncio.sleep(0)
        await self._write()

    async def _follow(self) -> None:
        """Pick the changes out of the journal."""
        while True:
            try:
                async for events in self._journal.follow(self._read):
                    self._changes.extend(of_event(event) for event in events if event.by and event.by.origin)
                    self._read = events[-1].number
                    if len(self._changes) > WAITING_CHANGES:
                        self._room.clear()
                        await self._room.wait()
            except EventsForgotten as error:
                oldest = int(error.facts["oldest"])
                log.warning("changes lost to the audit trail", extra={"first": self._read + 1, "last": oldest - 1})
                self._read = oldest - 1

    async def _keep(self) -> None:
        """Write now and then; forget what is old."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self._write()
            if loop.time() >= due or self._written >= TRIM_AFTER:
                due = loop.time() + TRIM_EVERY
                self._written = 0
                await self._trim()
            await asyncio.sleep(WRITE_EVERY)

    async def _trim(self) -> None:
        before = self._clock() - int(self._days * DAY) if self._days else 0
        try:
            gone = await self._aside(self._thread, lambda: self._book.trim(before, self._max_bytes))
        except AuditUnavailable as error:
            log.warning("no audit records forgotten", extra={"reason": error.facts["reason"]})
            return
        if gone:
            log.info("old audit records forgotten", extra={"records": gone})

    async def _write(self, *, place_too: bool = False) -> None:
        """Commit what waits; after a failure it waits for the next time."""
        async with self._writing:
            place, count, refusals = self._read, len(self._changes), self._refusals
            if not (count or refusals):
                self._empty += 1
                if place == self._kept or not (place_too or self._empty >= PLACE_EVERY):
                    return
            records = [*self._changes[:count], *refusals.values()]
            records.sort(key=lambda record: record.time)
            self._refusals = {}
            try:
                await self._aside(self._thread, lambda: self._book.add(records, place))
            except AuditUnavailable as error:
                if self._error is None:
                    log.warning("audit trail cannot be written", extra={"reason": error.facts["reason"]})
                self._error = error.text
                for record in refusals.values():
                    self.note(record)
                return
            self._error = None
            self._empty = 0
            self._kept = place
            self._written += len(records)
            del self._changes[:count]
            self._room.set()
            if self._unsaid:
                log.warning("audit records lost", extra={"records": self._unsaid})
                self._unsaid = 0

    async def _aside(self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
