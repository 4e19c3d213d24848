"""A store in memory: for tests, trials and as the plainest statement of the contract. Nothing survives the process."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import TYPE_CHECKING, Self, TypeAlias

from msgspec import json

from skerry.rql.evaluate import ValueOf, lookup_in
from skerry.rql.predicate import Field
from skerry.signals import Event, Held, Kind, Micros
from skerry_registry.journal.replay import FAR, LONG, apply, rebuild
from skerry_registry.ports import EventNotStorable, RevisionConflict, Scanned, Texts

if TYPE_CHECKING:
    from collections.abc import Sequence

Key: TypeAlias = tuple[Kind, str]


def _lookup(held: Held) -> ValueOf:
    """What stands at fields of a thing, times and revision as numbers."""
    numbers = {("_revision",): held.revision, ("_created",): held.created, ("_modified",): held.modified}
    value_of = lookup_in(held)
    return lambda field: [numbers[field]] if field in numbers else value_of(field)


class MemoryStore:
    """Journal and entities as plain lists and dicts; the same object may be left and entered again, like a reopened file."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._first = 1
        self._held: dict[Key, Held] = {}
        self._saved: dict[Key, Held] = {}
        self._bases: dict[Key, list[Held]] = {}
        self._ids: dict[Kind, list[str]] = {"thing": [], "policy": []}
        self._checkpoint = 0
        self._cursors: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    async def append(self, events: Sequence[Event]) -> None:
        """Take all or none."""
        revisions: dict[Key, int] = {}
        for event in events:
            try:
                json.encode(event)
            except (UnicodeEncodeError, RecursionError) as error:
                raise EventNotStorable(id=event.id, problem=error) from error
            key = (event.kind, event.id)
            before = revisions.get(key)
            if before is None:
                before = self._held[key].revision if key in self._held else 0
            if event.revision != before + 1:
                raise RevisionConflict(event.kind, event.id)
            revisions[key] = event.revision
        held: dict[Key, Held] = {}
        number = await self.last()
        for event in events:
            key = (event.kind, event.id)
            number += 1
            event.number = number
            held[key] = apply(held.get(key) or self._held.get(key) or Held(kind=event.kind, id=event.id), event)
        self._events.extend(events)
        for key, after in held.items():
            known = self._held.get(key)
            existed, exists = known is not None and known.document is not None, after.document is not None
            if exists and not existed:
                insort(self._ids[key[0]], key[1])
            elif existed and not exists:
                self._ids[key[0]].remove(key[1])
            self._held[key] = after

    async def load(self, kind: Kind, id: str) -> Held:  # noqa: A002 - the port's word
        """The newest state."""
        return self._held.get((kind, id)) or Held(kind=kind, id=id)

    async def save(self, held: Sequence[Held], upto: int) -> None:
        """Remember how far snapshots reach, and what they replace where that is long gone; states are kept current by append."""
        for after in held:
            key = (after.kind, after.id)
            saved = self._saved.get(key)
            if saved is None or saved.revision < after.revision:
                self._saved[key] = after
            if saved is not None and saved.revision < after.revision:
                bases = self._bases.setdefault(key, [])
                revision, modified = (bases[-1].revision, bases[-1].modified) if bases else (0, after.created)
                if after.revision - revision >= FAR or after.modified - modified >= LONG:
                    bases.append(saved)
        self._checkpoint = max(self._checkpoint, upto)

    async def recover(self) -> list[Held]:
        """What changed since the last save."""
        changed = {(event.kind, event.id) for event in await self.read(self._checkpoint, len(self._events))}
        return [self._held[key] for key in sorted(changed)]

    async def last(self) -> int:
        """The newest number."""
        return self._first + len(self._events) - 1

    async def oldest(self) -> int:
        """The oldest number kept."""
        return self._first

    async def read(self, after: int, limit: int) -> list[Event]:
        """A page of the journal."""
        start = max(0, after + 1 - self._first)
        return self._events[start : start + limit]

    async def history(self, kind: Kind, id: str, first: int, last: int) -> list[Event]:  # noqa: A002
        """One entity's events."""
        return [e for e in self._events if e.kind == kind and e.id == id and first <= e.revision <= last]

    async def past(self, kind: Kind, id: str, revision: int) -> Held | None:  # noqa: A002
        """An earlier state."""
        known = [*self._bases.get((kind, id), ()), self._saved.get((kind, id)), self._held.get((kind, id))]
        usable = [base for base in known if base is not None and base.revision <= revision]
        held = max(usable, key=lambda base: base.revision, default=None)
        after = held.revision if held is not None else 0
        held = rebuild(held, await self.history(kind, id, after + 1, revision))
        return held if held is not None and held.revision == revision else None

    async def revision_at(self, kind: Kind, id: str, time: Micros) -> int:  # noqa: A002
        """The revision at a time."""
        events = [event for event in self._events if event.kind == kind and event.id == id]
        if not events:
            return (await self.load(kind, id)).revision
        return max((event.revision for event in events if event.timestamp < time), default=events[0].revision - 1)

    async def ids(self, kind: Kind, after: str, limit: int) -> list[str]:
        """A page of ids."""
        ids = self._ids[kind]
        start = bisect_right(ids, after)
        return ids[start : start + limit]

    async def scan(self, fields: Sequence[Field], after: int, limit: int) -> Scanned:
        """A slice of things."""
        ids = self._ids["thing"][after : after + limit]
        found = [_lookup(self._held["thing", id_]) for id_ in ids]
        values = [[list(value_of(field)) for value_of in found] for field in fields]
        return Scanned(ids, values, after + limit if len(ids) == limit else None)

    async def documents(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Documents by id."""
        held = [self._held.get(("thing", id_)) for id_ in ids]
        return {one.id: json.encode(one.document) for one in held if one and one.document is not None}

    async def texts(self, kind: Kind, after: int, limit: int) -> Texts:
        """A slice of documents."""
        ids = self._ids[kind][after : after + limit]
        documents = [json.encode(self._held[kind, id_].document).decode() for id_ in ids]
        return Texts(ids, documents, after + limit if len(ids) == limit else None)

    async def count(self, kind: Kind) -> int:
        """How many exist."""
        return len(self._ids[kind])

    async def seen(self, keys: Sequence[tuple[Micros, int]]) -> set[tuple[Micros, int]]:
        """Which keys kept events carry."""
        kept = {(e.observed, e.digest) for e in self._events if e.observed is not None and e.digest is not None}
        return kept.intersection(keys)

    async def deliveries(self, limit: int) -> list[int]:
        """Digests without observed times."""
        digests = [e.digest for e in self._events if e.observed is None and e.digest is not None]
        return digests[max(0, len(digests) - limit) :]

    async def cursor(self, name: str) -> int:
        """A consumer's place."""
        return self._cursors.get(name, 0)

    async def move_cursor(self, name: str, number: int) -> None:
        """Remember it."""
        self._cursors[name] = number

    async def cursors(self) -> dict[str, int]:
        """All consumers' places."""
        return dict(self._cursors)

    async def size(self) -> int:
        """Bytes as JSON, roughly."""
        return 400 * len(self._events) + 2_000 * len(self._held)

    async def trim(self, before: int) -> int:
        """Forget old events."""
        dropped = max(0, min(before - 1, self._checkpoint) - self._first + 1)
        for event in self._events[:dropped]:
            bases = self._bases.get((event.kind, event.id))
            if bases and bases[0].revision < event.revision:
                del bases[0]
        del self._events[:dropped]
        self._first += dropped
        return dropped
