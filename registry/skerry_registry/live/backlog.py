"""What the journal has of changes, for those who come back: pages shared by all readers, each event with the rights on it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from skerry import values
from skerry.signals import Held
from skerry_registry.journal import EventsForgotten
from skerry_registry.live.views import at_its_end, is_told
from skerry_registry.runs import Lacking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skerry.signals import Event
    from skerry_policies.enforcer import Permits
    from skerry_registry.heads import Key
    from skerry_registry.live.audience import Reader
    from skerry_registry.registry import Registry

BLOCK = 256
"""Events that are read together."""
BYTES = 32_000_000
"""About how many bytes of JSON all blocks together may have that are kept."""
TOGETHER = 64
"""Events whose things are in memory at a time, and that are judged before others get their turn."""
STEP = 500
"""Events of one thing that are looked through at a time for the end of an earlier life."""
LIVES = 10_000
"""Things of which earlier lives are remembered."""

Readable: TypeAlias = "tuple[Event, Held, Permits, Held | None]"
"""An event, its thing as it is now (without a document: it is gone), the reader's rights on it; of a deletion, the thing before."""


class Backlog:
    """The journal of one registry, as readers of changes go through it."""

    def __init__(self, registry: Registry) -> None:
        """Nothing is read yet."""
        self._registry = registry
        self._blocks: OrderedDict[int, tuple[Sequence[Event], int]] = OrderedDict()
        self._size = 0
        self._reading: dict[int, asyncio.Task[Sequence[Event]]] = {}
        self._ends: OrderedDict[str, list[tuple[int, Event]]] = OrderedDict()

    async def after(self, number: int) -> Sequence[Event]:
        """The next events after a number below the journal's last, some at least. Raises EventsForgotten."""
        journal = self._registry.journal
        block, done = divmod(number, BLOCK)
        if journal.last < (block + 1) * BLOCK:
            events: Sequence[Event] = await journal.read(number, BLOCK - done)
        else:
            events = await self._block(block)
        begin = next((place for place, event in enumerate(events) if event.number > number), None)
        if begin is None or events[begin].number != number + 1:
            raise EventsForgotten(after=number, oldest=await journal.beginning() + 1)
        return events[begin:]

    async def readable(self, events: Sequence[Event], reader: Reader) -> list[Readable]:
        """The changes among some events, TOGETHER at most, that concern a reader of whose things he may read anything."""
        subjects = reader.wanted.subjects
        wanted = [event for event in events if is_told(event) and reader.concerns(event)]
        if not wanted:
            return []
        things = await self._registry.memory.known(lambda: self._things({event.id for event in wanted}, subjects))
        found: list[Readable] = []
        for event in wanted:
            held, permits = things[event.id]
            if held.document is None or (held.earlier and event.timestamp < held.created):
                permits = await self._permits_before(event, held, subjects)
                held = Held(kind="thing", id=event.id, revision=held.revision)
            if permits is not None and permits.may_partly("thing", (), "READ"):
                found.append((event, held, permits, await self._before(event, reader)))
        return found

    async def _before(self, event: Event, reader: Reader) -> Held | None:
        """Of a thing's deletion, the thing as it was, where extra fields are wanted and the journal still tells."""
        if reader.wanted.extra is None or event.action != "deleted" or event.path:
            return None
        return at_its_end(event, await self._registry.past.state("thing", event.id, event.revision - 1))

    async def _block(self, block: int) -> Sequence[Event]:
        """All events of a block that is complete; it is read once, however many wait for it."""
        known = self._blocks.get(block)
        if known is not None:
            self._blocks.move_to_end(block)
            return known[0]
        reading = self._reading.get(block)
        if reading is None:
            reading = self._reading[block] = asyncio.get_running_loop().create_task(self._read(block))
        return await asyncio.shield(reading)

    async def _read(self, block: int) -> Sequence[Event]:
        try:
            events = await self._registry.journal.read(block * BLOCK, BLOCK)
            if len(events) == BLOCK:
                size = len(values.encode(events))
                self._blocks[block] = events, size
                self._size += size
                while self._size > BYTES:
                    self._size -= self._blocks.popitem(last=False)[1][1]
            return events
        finally:
            del self._reading[block]

    def _things(self, ids: set[str], subjects: tuple[str, ...]) -> dict[str, tuple[Held, Permits | None]]:
        """Things and the rights on them, as they are now. Raises Lacking for all that are not in memory."""
        registry = self._registry
        lacking: set[Key] = set()
        found: dict[str, tuple[Held, Permits | None]] = {}
        for id_ in ids:
            try:
                held = registry.memory.held("thing", id_)
                permits = None
                if held.document is not None:
                    namespace = id_.partition(":")[0]
                    permits = registry.rights.permits(None, held.document["policyId"], subjects, namespace)
                found[id_] = held, permits
            except Lacking as missing:
                lacking |= missing.keys
        if lacking:
            raise Lacking(lacking)
        return found

    async def _permits_before(self, event: Event, held: Held, subjects: tuple[str, ...]) -> Permits | None:
        """The rights on a thing that is gone, whoever has its id now: by the policy that it had at its end, if that is still the same."""
        end = await self._end(event, held.revision)
        if end is None or end.by is None or not end.by.policy_id:
            return None
        policy_id, registry = end.by.policy_id, self._registry

        def ask() -> Permits | None:
            guard = registry.memory.held("policy", policy_id)
            if guard.document is None or guard.created > end.timestamp:
                return None
            return registry.rights.permits(None, policy_id, subjects, event.id.partition(":")[0])

        return await registry.memory.known(ask)

    async def _end(self, event: Event, newest: int) -> Event | None:
        """The deletion with which the life ended that an event belongs to."""
        known = self._ends.setdefault(event.id, [])
        self._ends.move_to_end(event.id)
        if len(self._ends) > LIVES:
            self._ends.popitem(last=False)
        for first, end in known:
            if first <= event.revision <= end.revision:
                return end
        first = event.revision
        while first <= newest:
            for later in await self._registry.past.events("thing", event.id, first, min(newest, first + STEP - 1)):
                if later.action == "deleted" and not later.path:
                    known.append((event.revision, later))
                    return later
            first += STEP
        return None
