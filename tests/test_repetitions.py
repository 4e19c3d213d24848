"""Repeated, late and marked deliveries at the one door."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from registry_door import (
    T1,
    SlowStore,
    delete,
    events,
    get,
    merge,
    put,
    serving,
    telemetry,
)
from skerry_registry.ports import StoreUnavailable
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with serving() as registry:
        yield registry


async def test_a_delivery_with_a_time_counts_once(registry):
    await registry.handle(put())
    first = await registry.handle(telemetry(100, 1, power=1.0))
    again = await registry.handle(telemetry(100, 1, power=1.0))
    assert (first.status, again.status, again.revision) == (204, 204, 2)
    await registry.handle(telemetry(200, 2, power=2.0))
    assert (await registry.handle(telemetry(100, 1, power=1.0))).revision == 3
    assert registry.journal.last == 4


async def test_the_same_delivery_twice_in_one_batch_counts_once(registry):
    await registry.handle(put())
    answers = await registry.handle_all(
        [
            telemetry(100, 1, power=1.0),
            telemetry(100, 1, power=1.0),
            telemetry(101, 2, power=2.0),
            telemetry(100, 1, power=1.0),
        ]
    )
    assert [answer.status for answer in answers] == [204, 204, 204, 204]
    assert registry.journal.last == 4


async def test_other_values_for_the_same_time_are_no_repetition(registry):
    await registry.handle(put())
    await registry.handle(telemetry(100, 1, power=1.0))
    assert (await registry.handle(telemetry(100, 2, wind=7.0))).revision == 3


async def test_a_repetition_of_a_delivery_in_flight_is_acknowledged_only_when_that_is_durable():
    store = SlowStore()
    async with serving(store) as registry:
        await registry.handle(put())
        store.close()
        store.failures = [StoreUnavailable(reason="the disk is full.")]
        first = asyncio.ensure_future(registry.handle(telemetry(100, 1, power=1.0)))
        again = asyncio.ensure_future(registry.handle(telemetry(100, 1, power=1.0)))
        await store.entered.wait()
        assert not again.done()
        store.open.set()
        with pytest.raises(StoreUnavailable):
            await first
        assert (await again).revision == 2, "the first is not stored, so this one has to be"
        assert registry.journal.last == 3


async def test_repetitions_are_known_after_a_restart():
    store = MemoryStore()
    async with serving(store) as registry:
        await registry.handle(put())
        await registry.handle_all([telemetry(100, 1, power=1.0), put(1, "attributes", "a", digest=5)])
    async with serving(store) as registry:
        assert (await registry.handle(telemetry(100, 1, power=1.0))).revision == 3
        assert (await registry.handle(put(1, "attributes", "a", digest=5, redelivered=True))).revision == 3
        assert registry.journal.last == 4


@pytest.mark.parametrize(
    "change",
    [
        [delete("features", "scada", "properties", "power")],
        [delete("features", "scada")],
        [put({"attributes": {}})],
        [merge({"features": None})],
        [telemetry(100, 9, power=None)],
        [delete(), put({"policyId": T1})],
    ],
    ids=["property", "feature", "thing replaced", "features patched away", "by telemetry", "thing made anew"],
)
async def test_repetitions_are_known_after_what_they_brought_was_removed(change):
    store = MemoryStore()
    sent = [telemetry(100, 1, power=1.0), telemetry(50, 2, power=2.0, wind=7.0)]
    async with serving(store) as registry:
        await registry.handle(put())
        for command in [*sent, *change]:
            await registry.handle(command)
        last = registry.journal.last
        await registry.handle_all([*sent, *(command for command in change if command.digest is not None)])
        assert registry.journal.last == last
    async with serving(store) as registry:
        await registry.handle_all(sent)
        assert registry.journal.last == last
        await registry.handle(telemetry(101, 3, power=1.0))
        assert registry.journal.last == last + 1


async def test_without_a_time_only_what_the_broker_marks_is_a_repetition(registry):
    await registry.handle(put())
    await registry.handle(put(1, "attributes", "a", digest=5))
    assert (await registry.handle(put(1, "attributes", "a", digest=5))).revision == 3
    assert (await registry.handle(put(1, "attributes", "a", digest=5, redelivered=True))).revision == 3
    assert (await registry.handle(put(2, "attributes", "a", digest=6, redelivered=True))).revision == 4


async def test_late_telemetry_goes_to_history_and_not_to_the_twin(registry):
    await registry.handle(put())
    await registry.handle_all([telemetry(200, 1, power=2.0), telemetry(100, 2, power=1.0, wind=7.0)])
    assert (await registry.handle(get("features", "scada", "properties"))).value == {"power": 2.0, "wind": 7.0}
    late = (await events(registry))[-1]
    assert (late.value, late.late) == ({"properties": {"wind": 7.0}}, {"properties": {"power": 1.0}})


async def test_a_batch_of_late_and_repeated_telemetry_is_sorted_out_by_the_store():
    store = MemoryStore()
    async with serving(store) as registry:
        await registry.handle(put())
        await registry.handle_all([telemetry(n, n, power=float(n)) for n in range(1, 50, 2)])
    async with serving(store) as registry:
        await registry.handle_all([telemetry(n, n, power=float(n)) for n in range(1, 50)])
        kept = [event.observed for event in await events(registry, 2)]
        assert sorted(kept) == list(range(1, 50))
        assert (await registry.handle(get("features", "scada", "properties", "power"))).value == 49.0
