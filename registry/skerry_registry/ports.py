# ruff: noqa: N818 - errors are rows of a table
"""What the registry asks of the outside, and what it hands to the edges: structural protocols, no code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

from msgspec import Struct

from skerry.errors import SkerryError
from skerry.rql.predicate import Field
from skerry.signals import Event, Held, Json, Kind, Micros


class RevisionConflict(Exception):
    """Another writer has changed the entity: load it again and decide anew."""

    def __init__(self, kind: Kind, id: str) -> None:  # noqa: A002
        """Name the entity."""
        super().__init__(f"{kind} {id} was changed by another writer")
        self.kind = kind
        self.id = id


class StoreUnavailable(SkerryError):
    """Nothing was stored: the disk is full, the store is away. Cured without a restart."""

    code = "store.unavailable"
    status = 503
    message = "The change was not stored: {reason}"
    description = "Nothing was changed. Try again; the operator finds the cause in the log and under /health."


class EventNotStorable(SkerryError):
    """The change holds something that is no JSON text: half a surrogate pair, nesting without end."""

    code = "store.event.invalid"
    status = 400
    message = "The change of '{id}' cannot be written as JSON: {problem}."
    description = "Send valid Unicode, nested at most 100 levels deep."


class Scanned(Struct, frozen=True):
    """Some things, and for each field what stands there in each of them, as `rql.evaluate.ValueOf` has it; then the next place."""

    ids: list[str]
    values: list[list[list[Json]]]
    next: int | None


class Texts(Struct, frozen=True):
    """Some entities, the JSON texts of their documents, and the next place (None: these were the last)."""

    ids: list[str]
    documents: list[str]
    next: int | None


class Store(Protocol):
    """The journal and the snapshots of one data directory or database. Every contract test runs on each implementation.

    Entering opens (migrates, locks out a second writer), leaving closes.
    """

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def append(self, events: Sequence[Event]) -> None:
        """Store all events durably in one transaction, or none; then each has its `number`, gap-free, in order.

        Concurrent calls share one commit (group commit). Raises RevisionConflict when an event's revision is not the
        entity's newest + 1, EventNotStorable when one is no JSON, StoreUnavailable when nothing could be written.
        """
        ...

    async def load(self, kind: Kind, id: str) -> Held:  # noqa: A002
        """The newest state: snapshot plus the events after it. Revision 0 and no document for what never was."""
        ...

    async def save(self, held: Sequence[Held], upto: int) -> None:
        """Write snapshots; promise that every entity changed by events numbered <= `upto` has a current one."""
        ...

    async def recover(self) -> list[Held]:
        """The entities whose snapshot lags, brought up to date from the journal (at the start, after a crash)."""
        ...

    async def last(self) -> int:
        """The newest event's number; 0 for an empty journal."""
        ...

    async def oldest(self) -> int:
        """The number of the oldest event that is kept; last() + 1 when none is."""
        ...

    async def read(self, after: int, limit: int) -> list[Event]:
        """Events numbered > `after`, in order, at most `limit`."""
        ...

    async def history(self, kind: Kind, id: str, first: int, last: int) -> list[Event]:  # noqa: A002
        """The kept events of one entity with revisions first..last, in order."""
        ...

    async def past(self, kind: Kind, id: str, revision: int) -> Held | None:  # noqa: A002
        """The state at a revision; None where the kept events do not tell it any more.

        For that `save` keeps what it replaces, some hundred revisions or some hours apart, as long as events follow on it.
        """
        ...

    async def revision_at(self, kind: Kind, id: str, time: Micros) -> int:  # noqa: A002
        """The newest revision from before a time; where all kept events are later, the revision before the oldest of them."""
        ...

    async def ids(self, kind: Kind, after: str, limit: int) -> list[str]:
        """Ids of existing (not deleted) entities > `after`, sorted, at most `limit`; includes what `save` has not yet seen."""
        ...

    async def scan(self, fields: Sequence[Field], after: int, limit: int) -> Scanned:
        """What stands at fields of existing things as `save` has seen them last; from place `after` (0: the beginning) on.

        `_revision`, `_created` and `_modified` as numbers. Each thing comes once; what is saved meanwhile may be seen.
        """
        ...

    async def documents(self, ids: Sequence[str]) -> dict[str, bytes]:
        """The newest documents of existing things among these, as JSON, without those whose newest `save` has not yet seen."""
        ...

    async def texts(self, kind: Kind, after: int, limit: int) -> Texts:
        """The documents of existing entities, likewise."""
        ...

    async def count(self, kind: Kind) -> int:
        """How many entities of the kind exist."""
        ...

    async def seen(self, keys: Sequence[tuple[Micros, int]]) -> set[tuple[Micros, int]]:
        """Which of these (observed, digest) pairs a kept event already carries."""
        ...

    async def deliveries(self, limit: int) -> list[int]:
        """The newest digests of events without an observed time, newest last."""
        ...

    async def cursor(self, name: str) -> int:
        """Where the named consumer stands: the number of the last event it has dealt with (0 at first)."""
        ...

    async def move_cursor(self, name: str, number: int) -> None:
        """Remember it durably."""
        ...

    async def cursors(self) -> dict[str, int]:
        """Where all named consumers stand."""
        ...

    async def size(self) -> int:
        """Bytes that journal and snapshots take."""
        ...

    async def trim(self, before: int) -> int:
        """Forget events numbered < `before` (never those that a snapshot still needs); answers how many."""
        ...
