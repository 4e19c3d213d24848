"""The checkpoint, below which events may be forgotten, never promises a snapshot that is not there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

from skerry.signals import Command, Held
from skerry_registry.ports import StoreUnavailable
from skerry_registry.registry import Registry
from skerry_registry.snapshots import SLICE
from skerry_registry.stores.sqlite import SqliteStore

ANNE = ("nginx:anne",)


class Stopping(SqliteStore):
    """A store whose disk fails after the first slice of snapshots."""

    saved = 0

    async def save(self, held: Sequence[Held], upto: int) -> None:
        if self.saved:
            raise StoreUnavailable(reason="the disk is full.")
        self.saved += len(held)
        await super().save(held, upto)


async def test_snapshots_that_fail_half_way_leave_the_events_of_the_rest_to_be_replayed(tmp_path: Path) -> None:
    store, ticks = Stopping(tmp_path), count(1)
    names = [f"demo:T{number}" for number in range(SLICE)]
    async with Registry(store, lambda: next(ticks), lambda: "id") as registry:
        await registry.handle_all(
            [Command(verb="modify", kind="thing", id=name, subjects=ANNE, path=(), value={}) for name in names]
        )
    assert store.saved == SLICE

    async with SqliteStore(tmp_path) as again:
        recovered = await again.recover()
        await again.trim(await again.last() + 1)
        states = [await again.load("thing", name) for name in names]

    assert len(recovered) == 2 * len(names) - SLICE  # each thing has a policy of its own
    assert all(held.document is not None for held in states)
