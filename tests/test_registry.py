"""The one door: order, durability, failures, lists, the law of replay."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_door import (
    ANNE,
    OWNER,
    T1,
    SlowStore,
    delete,
    events,
    get,
    merge,
    put,
    put_policy,
    refused,
    serving,
    telemetry,
)
from skerry.errors import SkerryError
from skerry.signals import Command, Event, Held
from skerry_registry.journal.replay import replay
from skerry_registry.ports import RevisionConflict, StoreUnavailable
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with serving() as registry:
        yield registry


async def test_a_thing_and_its_implicit_policy_are_made_in_one_append():
    store = SlowStore()
    async with serving(store) as registry:
        response = await registry.handle(put({"attributes": {"a": 1}}))
        assert response.status == 201
        assert store.appends == 1
        assert (await registry.handle(get())).value == {"thingId": T1, "policyId": T1, "attributes": {"a": 1}}
        policy = await registry.handle(Command(verb="retrieve", kind="policy", id=T1, subjects=ANNE))
        default = policy.value["entries"]["DEFAULT"]
        assert default["subjects"] == {"nginx:anne": {"type": "generated"}}
        both = {"grant": ["READ", "WRITE"], "revoke": []}
        assert default["resources"] == {"thing:/": both, "policy:/": both, "message:/": both}
        assert [event.number for event in await events(registry)] == [1, 2]


async def test_what_does_not_exist_is_not_found(registry):
    for command in (get(), get("attributes"), put(1, "attributes", "a"), merge({"a": 1}, "attributes"), delete()):
        assert await refused(registry, command) == (404, "things:thing.notfound")


async def test_answers_stand_in_the_order_of_the_commands_and_errors_harm_no_other(registry):
    answers = await registry.handle_all(
        [put(), put(1, "attributes", "a", thing="demo:T2"), put(2, "attributes", "a"), get("attributes", "a")]
    )
    assert answers[0].status == 201
    assert isinstance(answers[1], SkerryError)
    assert answers[2].status == 201
    assert answers[3].value == 2


async def test_nothing_is_answered_or_shown_before_it_is_durable():
    store = SlowStore()
    async with serving(store) as registry:
        await registry.handle(put({"attributes": {"a": 0}}))
        store.close()
        writes = [asyncio.ensure_future(registry.handle(put(n, "attributes", "a"))) for n in (1, 2, 3)]
        await store.entered.wait()
        assert (await registry.handle(get("attributes", "a"))).value == 0
        assert not any(write.done() for write in writes)
        assert registry.journal.last == 2
        store.open.set()
        assert [(await write).revision for write in writes] == [2, 3, 4]
        assert (await registry.handle(get("attributes", "a"))).value == 3


async def test_an_error_decided_on_a_change_in_flight_waits_for_it():
    store = SlowStore()
    async with serving(store) as registry:
        await registry.handle(put())
        store.close()
        gone = asyncio.ensure_future(registry.handle(delete()))
        late = asyncio.ensure_future(registry.handle(put(1, "attributes", "a")))
        await store.entered.wait()
        assert not late.done()
        store.open.set()
        assert (await gone).status == 204
        with pytest.raises(SkerryError):
            await late


async def test_a_failed_commit_undoes_what_was_built_on_it_and_room_cures_it():
    store = SlowStore()
    async with serving(store) as registry:
        await registry.handle(put({"attributes": {"a": 0}}))
        store.close()
        store.failures = [StoreUnavailable(reason="the disk is full.")]
        first = asyncio.ensure_future(registry.handle(put(1, "attributes", "a")))
        second = asyncio.ensure_future(registry.handle(put(2, "attributes", "b")))
        store.open.set()
        with pytest.raises(StoreUnavailable):
            await first
        assert (await second).revision == 2
        assert (await registry.handle(get("attributes"))).value == {"a": 0, "b": 2}
        assert (await registry.handle(put(3, "attributes", "a"))).revision == 3
        assert [event.number for event in await events(registry)] == [1, 2, 3, 4]


async def test_what_another_writer_changed_is_loaded_and_decided_anew():
    store = MemoryStore()
    async with serving(store) as registry:
        await registry.handle(put({"attributes": {"a": 0}}))
        other = Event(
            kind="thing", id=T1, action="modified", revision=2, timestamp=5, path=("attributes", "b"), value=1
        )
        await store.append([other])
        assert (await registry.handle(put(3, "attributes", "a"))).revision == 3
        assert (await registry.handle(get("attributes"))).value == {"a": 3, "b": 1}


async def test_one_change_that_is_no_json_does_not_take_its_neighbours_along(registry):
    await registry.handle(put())
    bad = put("\ud800", "attributes", "c")
    answers = await registry.handle_all([put(1, "attributes", "a"), bad, put(2, "attributes", "b")])
    assert [answer.status for answer in answers] == [201, 400, 201]
    assert (await registry.handle(get("attributes"))).value == {"a": 1, "b": 2}


async def test_an_error_that_nobody_foresaw_is_a_500_and_the_next_command_works():
    store = SlowStore()
    async with serving(store) as registry:
        await registry.handle(put())
        store.failures = [ZeroDivisionError("unforeseen")]
        assert await refused(registry, put(1, "attributes", "a")) == (500, "internalerror")
        assert (await registry.handle(put(2, "attributes", "a"))).revision == 2


async def test_a_conflict_without_end_is_given_up():
    store = SlowStore()
    async with serving(store) as registry:
        await registry.handle(put())
        store.failures = [RevisionConflict("thing", T1) for _ in range(100)]
        assert await refused(registry, put(1, "attributes", "a")) == (503, "store.unavailable")


async def test_commands_on_one_thing_keep_their_order_while_others_load():
    store = SlowStore()
    async with serving(store) as registry:
        await registry.handle_all([put({"attributes": {"n": []}}, thing=f"demo:T{n}") for n in range(9)])
    async with serving(store, cache_things=2) as registry:
        store.loading.clear()
        runs = [
            asyncio.ensure_future(
                registry.handle_all([put(n, "attributes", "n"), put(n, "attributes", "n", thing=f"demo:T{2 + n % 7}")])
            )
            for n in range(40)
        ]
        store.loading.set()
        await asyncio.gather(*runs)
        told = [event.value for event in await store.history("thing", T1, 2, 99) if event.path == ("attributes", "n")]
        assert told == list(range(40))


async def test_a_cancelled_caller_leaves_no_trace_of_disorder():
    store = SlowStore()
    async with serving(store) as registry:
        await registry.handle(put({"attributes": {"a": 0}}))
        store.close()
        task = asyncio.ensure_future(registry.handle(put(1, "attributes", "a")))
        await store.entered.wait()
        task.cancel()
        await asyncio.wait([task])
        store.open.set()
        assert (await registry.handle(put(2, "attributes", "b"))).revision == 3
        assert (await registry.handle(get("attributes"))).value == {"a": 1, "b": 2}


async def test_a_small_cache_holds_many_things():
    store = MemoryStore()
    async with serving(store, cache_things=3, snapshot_events=5) as registry:
        names = [f"demo:T{n}" for n in range(30)]
        await registry.handle_all([put(thing=name) for name in names])
        for n in range(3):
            answers = await registry.handle_all([put(n, "attributes", "n", thing=name) for name in names])
            assert all(answer.revision == n + 2 for answer in answers)
        answers = await registry.handle_all([get("attributes", "n", thing=name) for name in names])
        assert [answer.value for answer in answers] == [2] * 30


@given(
    st.lists(
        st.one_of(
            st.builds(lambda v, k: put(v, "attributes", k), st.integers(), st.sampled_from("ab")),
            st.builds(
                lambda v: merge({"attributes": v}), st.dictionaries(st.sampled_from("abc"), st.none() | st.integers())
            ),
            st.builds(lambda o, d, v: telemetry(o, d, power=v), st.integers(0, 5), st.integers(0, 3), st.floats(0, 9)),
            st.just(delete()),
            st.just(put({"policyId": "demo:P"})),
        ),
        max_size=15,
    )
)
def test_replaying_the_events_gives_the_state(commands):
    async def run() -> None:
        store = MemoryStore()
        async with serving(store) as registry:
            await registry.handle(put_policy("demo:P", {"a": OWNER}))
            await registry.handle_all(commands)
            everything = await store.history("thing", T1, 1, 99)
            assert [event.revision for event in everything] == list(range(1, len(everything) + 1))
            state = replay(Held(kind="thing", id=T1), everything)
            assert state == await store.load("thing", T1)
            if state.document is not None:
                assert (await registry.handle(get())).value == state.document

    asyncio.run(run())
