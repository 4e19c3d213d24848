"""What a commit that failed should have brought is not there, and a repetition is carried out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest

from skerry.signals import Command, Event
from skerry_registry.ports import StoreUnavailable
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore

ANNE = ("nginx:anne",)
T1 = "demo:T1"


class Failing(MemoryStore):
    """A memory store whose appends fail as often as it is told."""

    failures = 0

    async def append(self, events: Sequence[Event]) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable(reason="the disk is full.")
        await super().append(events)


def telemetry(value: int, digest: int, observed: int | None) -> Command:
    return Command(
        verb="merge",
        id=T1,
        subjects=ANNE,
        path=("features", "scada"),
        value={"properties": {"power": value}},
        observed=observed,
        digest=digest,
        redelivered=True,
    )


@pytest.mark.parametrize("observed", [None, 4])
async def test_a_delivery_that_failed_is_carried_out_when_it_comes_again(observed: int | None) -> None:
    store, ticks = Failing(), count(1_000_000)
    async with Registry(store, lambda: next(ticks), lambda: "id") as registry:
        await registry.handle(Command(verb="modify", id=T1, subjects=ANNE, value={}))
        await registry.handle(telemetry(1, 1, observed and observed + 1))
        store.failures = 1
        with pytest.raises(StoreUnavailable):
            await registry.handle(telemetry(2, 2, observed))

        assert (await registry.handle(telemetry(2, 2, observed))).revision == 3
        assert (await registry.handle(telemetry(2, 2, observed))).revision == 3
        assert registry.journal.last == 4


async def test_a_creation_that_failed_can_be_made_again_and_leaves_nothing_behind() -> None:
    store, ticks = Failing(), count(1_000_000)
    async with Registry(store, lambda: next(ticks), lambda: "id") as registry:
        create = Command(verb="create", id=T1, subjects=ANNE, value={"attributes": {"a": 1}})
        store.failures = 1
        with pytest.raises(StoreUnavailable):
            await registry.handle(create)

        assert (await registry.handle(create)).status == 201
        change = Command(verb="modify", id=T1, subjects=ANNE, path=("attributes", "a"), value=2)
        delete = Command(verb="delete", id=T1, subjects=ANNE, path=("attributes", "a"))
        for command, status in ((change, 204), (delete, 204)):
            store.failures = 1
            with pytest.raises(StoreUnavailable):
                await registry.handle(command)
            assert (await registry.handle(command)).status == status
        assert registry.journal.last == 4
