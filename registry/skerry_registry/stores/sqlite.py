"""The embedded store: one SQLite database in the data folder, one thread that writes, three that read."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from skerry_registry.stores import past, reader, scanning
from skerry_registry.stores.folder import Folder
from skerry_registry.stores.lane import Lane
from skerry_registry.stores.opening import open_reader, open_writer
from skerry_registry.stores.writer import Append, Move, Save, Shrink, Trim, Writer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from skerry.rql.predicate import Field
    from skerry.signals import Event, Held, Kind, Micros
    from skerry_registry.ports import Scanned, Texts

SLICE = 2_000
"""Events that one transaction of trimming forgets, so that commits are not held up."""

SPARE = 100
"""Pages that may stay unused; more are given back to the file system, so many at a time."""


class SqliteStore:
    """Durable when `append` returns (WAL, synchronous=FULL). Entering locks the folder and migrates the database.

    Raises FolderInUse, FolderUnusable, SchemaTooNew, DatabaseCorrupt on entering, StoreUnavailable later on.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = Folder(folder)
        self._file = folder / "journal.db"
        self._stack = AsyncExitStack()
        self._writing: Lane[Append | Save | Move | Trim | Shrink]
        self._loading: Lane[reader.Task]
        self._paging: Lane[reader.Task]
        self._scanning: Lane[reader.Task]

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(self._folder.take)
            stack.callback(self._folder.release)
            connection = await asyncio.to_thread(open_writer, self._file)
            stack.callback(connection.close)
            self._writing = Lane("store-writer", connection, Writer(connection).work)
            self._writing.start()
            stack.push_async_callback(self._writing.stop)
            for name in ("loading", "paging", "scanning"):
                connection = await asyncio.to_thread(open_reader, self._file)
                stack.callback(connection.close)
                lane = Lane(f"store-{name}", connection, reader.work)
                lane.start()
                stack.push_async_callback(lane.stop)
                setattr(self, f"_{name}", lane)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def append(self, events: Sequence[Event]) -> None:
        """Commit events together with whatever else waits."""
        if events:
            await self._writing.do(Append(events))

    async def load(self, kind: Kind, id: str) -> Held:  # noqa: A002 - the port's word
        """The newest state."""
        held: Held = await self._loading.do(reader.Load(kind, id))
        return held

    async def save(self, held: Sequence[Held], upto: int) -> None:
        """Write snapshots."""
        await self._writing.do(Save(held, upto))

    async def recover(self) -> list[Held]:
        """States newer than their snapshots."""
        held: list[Held] = await self._paging.do(reader.recover)
        return held

    async def last(self) -> int:
        """The newest number."""
        number: int = await self._paging.do(reader.last)
        return number

    async def oldest(self) -> int:
        """The oldest number kept."""
        number: int = await self._paging.do(reader.oldest)
        return number

    async def read(self, after: int, limit: int) -> list[Event]:
        """A page of the journal."""
        events: list[Event] = await self._paging.do(lambda connection: reader.page(connection, after, limit))
        return events

    async def history(self, kind: Kind, id: str, first: int, last: int) -> list[Event]:  # noqa: A002
        """One entity's events."""
        events: list[Event] = await self._paging.do(
            lambda connection: reader.history(connection, kind, id, first, last)
        )
        return events

    async def past(self, kind: Kind, id: str, revision: int) -> Held | None:  # noqa: A002
        """An earlier state."""
        held: Held | None = await self._paging.do(lambda connection: past.at(connection, kind, id, revision))
        return held

    async def revision_at(self, kind: Kind, id: str, time: Micros) -> int:  # noqa: A002
        """The revision at a time."""
        revision: int = await self._paging.do(lambda connection: past.revision_at(connection, kind, id, time))
        return revision

    async def ids(self, kind: Kind, after: str, limit: int) -> list[str]:
        """A page of ids."""
        found: list[str] = await self._paging.do(lambda connection: reader.ids(connection, kind, after, limit))
        return found

    async def scan(self, fields: Sequence[Field], after: int, limit: int) -> Scanned:
        """A slice of things."""
        found: Scanned = await self._scanning.do(lambda connection: scanning.things(connection, fields, after, limit))
        return found

    async def documents(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Documents by id."""
        found: dict[str, bytes] = await self._loading.do(reader.Documents(ids))
        return found

    async def texts(self, kind: Kind, after: int, limit: int) -> Texts:
        """A slice of documents."""
        found: Texts = await self._scanning.do(lambda connection: scanning.texts(connection, kind, after, limit))
        return found

    async def count(self, kind: Kind) -> int:
        """How many exist."""
        number: int = await self._paging.do(lambda connection: reader.count(connection, kind))
        return number

    async def seen(self, keys: Sequence[tuple[Micros, int]]) -> set[tuple[Micros, int]]:
        """Which keys kept events carry."""
        found: set[tuple[Micros, int]] = await self._loading.do(lambda connection: reader.seen(connection, keys))
        return found

    async def deliveries(self, limit: int) -> list[int]:
        """Digests without observed times."""
        digests: list[int] = await self._paging.do(lambda connection: reader.deliveries(connection, limit))
        return digests

    async def cursor(self, name: str) -> int:
        """A consumer's place."""
        number: int = await self._paging.do(lambda connection: reader.cursor(connection, name))
        return number

    async def move_cursor(self, name: str, number: int) -> None:
        """Remember it."""
        await self._writing.do(Move(name, number))

    async def cursors(self) -> dict[str, int]:
        """All consumers' places."""
        places: dict[str, int] = await self._paging.do(reader.cursors)
        return places

    async def size(self) -> int:
        """Bytes of the database in use."""
        number: int = await self._paging.do(reader.size)
        return number

    async def trim(self, before: int) -> int:
        """Forget old events in small transactions and give their room back."""
        before = min(before, await self._paging.do(reader.checkpoint) + 1)
        start = await self.oldest()
        forgotten = 0
        while start < before:
            upto = min(start + SLICE, before)
            forgotten += await self._writing.do(Trim(start, upto))
            start = upto
        while forgotten and await self._writing.do(Shrink(SPARE)) > SPARE:
            pass
        return forgotten
