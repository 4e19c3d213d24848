"""Snapshots written in the background: they lag behind the journal by a bounded time and number of events."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from skerry_registry.ports import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skerry.signals import Held
    from skerry_registry.heads import Entry
    from skerry_registry.journal import Journal
    from skerry_registry.ports import Store

log = logging.getLogger(__name__)

SLICE = 200
"""Entities per write, so that commits are not held up."""


class Snapshots:
    """Saves what has changed: every `seconds`, after `events` events or `entities` changed entities.

    Writers wait (`full`) when it falls back to four times that. `saved` is told each time what was.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        saved: Callable[[Sequence[Entry]], None],
        *,
        seconds: float,
        events: int,
        entities: int,
    ) -> None:
        self._saved = saved
        self._entities = entities
        self.full = False
        self._store = store
        self._journal = journal
        self._seconds = seconds
        self._events = events
        self._behind = 0
        self._lagging: list[Entry] = []
        self._saving: list[Entry] = []
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._upto = 0
        self._task: asyncio.Task[None] | None = None

    def start(self, upto: int) -> None:
        """Begin, everything up to the number being saved."""
        self._upto = upto
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Save what is left and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        try:
            await self._save_all()
        except StoreUnavailable as error:
            log.warning("snapshots not saved; the next start replays the journal", extra={"reason": error.text})

    def note(self, entries: Iterable[Entry], events: int) -> None:
        """These entities lag from now on; so many events were committed."""
        self._lagging.extend(entries)
        self._behind += events
        if self._behind >= self._events or len(self._lagging) >= self._entities:
            self._wake.set()
            if self._is_full():
                self._room.clear()
                self.full = True

    def unsaved(self) -> list[Held]:
        """The newest states of all whose snapshots may lag."""
        return [entry.held for entries in (self._saving, self._lagging) for entry in entries]

    def _is_full(self) -> bool:
        """Whether writers have to wait."""
        return self._behind >= 4 * self._events or len(self._lagging) >= 4 * self._entities

    async def wait(self) -> None:
        """Until the snapshots have caught up."""
        await self._room.wait()

    async def save(self, held: Sequence[Held], upto: int) -> None:
        """Write these, then promise `upto`."""
        for start in range(0, len(held), SLICE):
            await self._store.save(held[start : start + SLICE], self._upto)
        await self._store.save((), upto)
        self._upto = upto

    async def _run(self) -> None:
        """Save again and again."""
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self._save_all()
            except StoreUnavailable as error:
                log.warning("snapshots not saved", extra={"reason": error.text})
                self._let_in()
                await asyncio.sleep(1.0)

    async def _save_all(self) -> None:
        """Save every entity that lags, as it is now."""
        upto, behind = self._journal.last, self._behind
        entries, self._lagging = self._lagging, []
        if not entries and upto == self._upto:
            return
        for entry in entries:
            entry.lagging = False
        self._saving = entries
        try:
            for start in range(0, len(entries), SLICE):
                part = entries[start : start + SLICE]
                await self._store.save([entry.held for entry in part], self._upto)
            await self._store.save((), upto)
        except BaseException:
            for entry in entries:
                if not entry.lagging:
                    entry.lagging = True
                    self._lagging.append(entry)
            raise
        finally:
            self._saving = []
        self._upto = upto
        self._behind -= behind
        if not self._is_full():
            self._let_in()
        self._saved(entries)

    def _let_in(self) -> None:
        """Let writers go on."""
        self.full = False
        self._room.set()
