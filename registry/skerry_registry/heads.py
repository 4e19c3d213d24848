"""What the registry keeps of entities in memory: durable states, heads that run ahead of the disk, and what is in flight."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from msgspec import structs
from msgspec.structs import force_setattr

from skerry import values
from skerry.signals import Kind
from skerry_policies import sharing

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from skerry.signals import Event, Held
    from skerry_registry.runs import Run

Key: TypeAlias = tuple[Kind, str]

PLACE = 4_096
"""Bytes of JSON that fit into one place of the cache."""


class Entry:
    """One entity: `held` is durable and what everybody may see, `head` includes changes that are being committed."""

    __slots__ = ("commit", "epoch", "head", "held", "key", "lagging", "looked", "pins", "places", "stale", "wanted")

    def __init__(self, held: Held) -> None:
        self.key: Key = (held.kind, held.id)
        self.held = held
        self.head = held
        self.commit: Commit | None = None  # the newest one in flight that changes this entity
        self.epoch = 0  # counts how often the head was thrown away
        self.looked = 0  # when it was last looked at, in arrivals of others
        self.pins = 0
        self.lagging = False  # its snapshot is older than `held`
        self.stale = False  # another writer is ahead of us
        self.wanted = False  # a change rested on it since it was last to be evicted
        self.places = 1 + (held.size or len(values.encode(held.document))) // PLACE


class Commit:
    """Events that go to the journal together, and what becomes of the entities when they are durable."""

    __slots__ = ("changes", "done", "ended", "error", "events", "keys", "owner")

    def __init__(self, owner: Run, done: asyncio.Future[None]) -> None:
        self.owner = owner
        self.events: list[Event] = []
        self.changes: list[tuple[Entry, Held, int]] = []
        self.ended: dict[int, Held] = {}  # what was there before a deletion, by its place among the events
        self.keys: list[tuple[int, int] | int] = []  # deliveries that count as known once this is durable
        self.done = done
        self.error: Exception | None = None

    def add(self, entry: Entry, event: Event, after: Held) -> None:
        """Let the head move on."""
        if after.document is None:
            self.ended[len(self.events)] = entry.head
        self.events.append(event)
        self.changes.append((entry, after, entry.epoch))
        entry.head = after
        entry.commit = self

    def settle(self) -> Iterable[Entry]:
        """It is durable: the states become visible. Answers the entries whose snapshots lag from now on."""
        lagging: list[Entry] = []
        for event, (entry, after, _) in zip(self.events, self.changes, strict=True):
            force_setattr(after, "number", event.number)
            if after.revision > entry.held.revision:
                entry.held = after
                if after.revision > entry.head.revision:
                    entry.head = after
            if entry.commit is self:
                entry.commit = None
            if not entry.lagging:
                entry.lagging = True
                lagging.append(entry)
        return lagging

    def drop(self, *, stale: bool) -> None:
        """It is not: the heads that were built on it go. `stale`: because the store knows newer states than we do."""
        for entry, _, epoch in self.changes:
            if entry.epoch == epoch:
                entry.head = entry.held
                entry.epoch += 1
                entry.commit = None
            entry.stale |= stale


class Heads:
    """A bounded cache of entries, least recently used first; those in flight, pinned or not yet saved are never evicted.

    `limit`: places, of which an entity takes one for each begun 4 KiB of JSON.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._arrivals = 0
        self._entries: OrderedDict[Key, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Key) -> Entry | None:
        """The entry, if it is here and not overtaken by another writer."""
        entry = self._entries.get(key)
        if entry is None or entry.stale:
            return None
        if entry.looked != self._arrivals:  # the order matters only when another one comes
            entry.looked = self._arrivals
            self._entries.move_to_end(key)
        return entry

    def want(self, key: Key) -> None:
        """Keep what changes rest upon for one more round, however many others are only looked at meanwhile."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.wanted = True

    def put(self, held: Held) -> Entry:
        """Take in what the store has; an entry that knows as much or more stays as it is."""
        key = (held.kind, held.id)
        entry = self._entries.get(key)
        if entry is None:
            if held.kind == "policy" and held.document is not None:
                held = structs.replace(held, document=sharing.share(held.document))
            entry = self._entries[key] = Entry(held)
            self._taken += entry.places
            self._arrivals += 1
            self._evict(entry)
        elif entry.stale:
            entry.stale = False
            if held.revision > entry.held.revision:
                entry.held = held
            entry.head = entry.held
            entry.epoch += 1
            entry.commit = None
        return entry

    def namespaces(self) -> dict[str, int]:
        """How many things of each namespace are here."""
        return Counter(
            id_.partition(":")[0]
            for (kind, id_), entry in self._entries.items()
            if kind == "thing" and entry.held.document is not None
        )

    def shrink(self, saved: Iterable[Entry]) -> None:
        """Weigh what was saved, as it may have grown, and evict what the bound leaves no room for."""
        for entry in saved:
            if entry.held.size and self._entries.get(entry.key) is entry:
                places = 1 + entry.held.size // PLACE
                self._taken += places - entry.places
                entry.places = places
        if self._taken > self._limit:
            for key, entry in list(self._entries.items()):
                if not (entry.pins or entry.lagging or entry.commit is not None):
                    del self._entries[key]
                    self._taken -= entry.places
                    if self._taken <= self._limit:
                        return

    def _evict(self, newest: Entry) -> None:
        """Make room, looking at a few of the oldest only: what must stay is asked again later."""
        tries = 32
        while self._taken > self._limit and tries:
            tries -= 1
            key, entry = self._entries.popitem(last=False)
            if entry.pins or entry.lagging or entry.commit is not None or entry is newest:
                self._entries[key] = entry
            elif entry.wanted:
                entry.wanted = False
                self._entries[key] = entry
            else:
                self._taken -= entry.places
