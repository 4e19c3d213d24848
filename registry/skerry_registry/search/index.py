"""The index in memory: every thing with its slot, its guard and the columns that were asked for, as of the last commit."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np

from skerry_registry.search.columns import SLICE, Columns
from skerry_registry.search.guards import Guards, strip
from skerry_registry.search.slots import Slots, grown

if TYPE_CHECKING:
    from skerry.signals import Held, Kind
    from skerry_registry.heads import Commit
    from skerry_registry.ports import Store
    from skerry_registry.registry import Registry

IDS = 100_000
"""Ids that are asked for at a time."""


class Index:
    """Follows a registry's commits from its making on; complete when `load` has returned."""

    def __init__(self, registry: Registry, store: Store) -> None:
        self._registry = registry
        self._store = store
        self.slots = Slots(self._grow)
        self.guard = np.zeros(self.slots.capacity, np.int32)
        self.guards = Guards(roots=registry.rights.has_roots)
        self.columns = Columns(self.slots, store, registry.memory.unsaved)
        self._early: dict[tuple[Kind, str], Held] | None = {}
        self._fresh: set[tuple[Kind, str]] | None = set()
        registry.on_settled(self._note)

    async def load(self) -> None:
        """Learn what there is. Raises StoreUnavailable, and may be called once more then."""
        if self._early is not None:
            ids: list[str] = []
            while page := await self._store.ids("thing", ids[-1] if ids else "", IDS):
                ids.extend(page)
            early, self._early = self._early, None
            self.slots.fill(ids)
            for held in early.values():
                self._take(held)
            for held in self._registry.memory.unsaved():
                self._take(held)
        await self._load_policies()
        await self._load_guards()
        self._fresh = None
        self._sweep()

    async def _load_policies(self) -> None:
        """Learn what the policies say."""
        fresh, of, ids = self._fresh, self.slots.of, self.slots.ids
        assert fresh is not None
        place: int | None = 0
        while place is not None:
            found = await self._store.texts("policy", place, SLICE)
            for policy_id, text in zip(found.ids, found.documents, strict=True):
                if ("policy", policy_id) not in fresh:
                    slot = of.get(policy_id)
                    self.guards.put(policy_id if slot is None else ids[slot], strip(policy_id, text))
            place = found.next

    async def _load_guards(self) -> None:
        """Learn which policy guards which thing."""
        fresh, of = self._fresh, self.slots.of
        assert fresh is not None
        place: int | None = 0
        while place is not None:
            found = await self._store.scan([("policyId",)], place, SLICE)
            for thing_id, values in zip(found.ids, found.values[0], strict=True):
                slot = of.get(thing_id)
                if slot is not None and ("thing", thing_id) not in fresh:
                    self.guard[slot] = self.guards.guard(values[0], thing_id.partition(":")[0])
            place = found.next

    def _note(self, commit: Commit) -> None:
        """A commit became visible."""
        if self._early is not None:
            for entry, _, _ in commit.changes:
                self._early[entry.key] = entry.held
            return
        of, columns, fresh = self.slots.of, self.columns, self._fresh
        for event, (entry, _, _) in zip(commit.events, commit.changes, strict=True):
            held = entry.held
            if event.kind != "thing":
                self._take(held)
                continue
            slot = of.get(event.id)
            if slot is None or fresh is not None or not event.path or event.path[0] == "policyId":
                slot = self._take(held)
                if slot is None:
                    continue
            columns.note(event, held, slot)

    def _take(self, held: Held) -> int | None:
        """Learn the newest state of an entity, but for its columns; answers the slot of a thing that is there."""
        if self._fresh is not None:
            self._fresh.add((held.kind, held.id))
        document = held.document
        if held.kind == "policy":
            self.guards.put_document(held.id, document)
            if self._fresh is None:
                self._sweep()
            return None
        slot = self.slots.of.get(held.id)
        if document is None:
            if slot is not None:
                self.slots.drop(held.id)
                self.columns.clear(slot)
            return None
        if slot is None:
            slot = self.slots.add(held.id)
        self.guard[slot] = self.guards.guard(document["policyId"], held.id.partition(":")[0])
        return slot

    def _sweep(self) -> None:
        """Forget what belongs to policies that are no more."""
        if self.guards.is_littered:
            slots = np.flatnonzero(self.slots.alive[: self.slots.used])
            self.guards.sweep(np.unique(self.guard[slots]).tolist())

    def _grow(self, capacity: int) -> None:
        self.guard = grown(self.guard, capacity)
        self.columns.grow(capacity)


async def turn(since: float) -> float:
    """Let others have their turn when this one was long; answers when the current one began."""
    if time.perf_counter() - since < 0.003:
        return since
    await asyncio.sleep(0)
    return time.perf_counter()
