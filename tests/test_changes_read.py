"""Changes read from the journal by those who come back: no gap, no double, nothing that is not theirs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from listening import Listener
from registry_door import ANNE, BOB, T1, delete, entry, merge, put, put_policy, serving
from skerry.errors import SkerryError
from skerry_registry.journal import EventsForgotten, EventsUnknown
from skerry_registry.live.acks import Acks
from skerry_registry.live.backlog import BLOCK
from skerry_registry.live.changes import Changes, Wanted
from skerry_registry.stores.memory import MemoryStore

EVERYTHING = Wanted(subjects=ANNE)
OWNER = entry("nginx:anne", thing={"/": "RW"}, policy={"/": "RW"})


async def collected(changes: Changes, wanted: Wanted, limit: int = 7) -> list[int]:
    """The numbers that a reader gets page by page."""
    found: list[int] = []
    after = 0
    while True:
        page, after = await changes.read(wanted, after, limit)
        found += [told.number for told in page]
        if after >= changes.told:
            return found


async def test_pages_follow_each_other_across_what_is_in_memory_and_what_is_not():
    store = MemoryStore()
    async with serving(store) as registry:
        await registry.handle(put({}))
        await registry.handle_all([put(number, "attributes", "a") for number in range(2 * BLOCK)])
    async with serving(store) as registry:
        changes = Changes(registry, Acks())
        await registry.handle_all([put(number, "attributes", "b") for number in range(10)])
        last = registry.journal.last
        assert await collected(changes, EVERYTHING, 1_000) == list(range(2, last + 1))
        assert await collected(changes, EVERYTHING, 100) == list(range(2, last + 1))
        page, after = await changes.read(EVERYTHING, last - 3, 2)
        assert [told.number for told in page] == [last - 2, last - 1]
        assert after == last - 1
        assert await changes.read(EVERYTHING, last, 2) == ([], last)


async def test_who_resumes_while_others_write_misses_nothing_and_is_told_nothing_twice():
    async with serving() as registry:
        changes = Changes(registry, Acks())
        await registry.handle(put({}))
        await registry.handle_all([put(number, "attributes", "a") for number in range(300)])
        listeners = [Listener() for _ in range(5)]

        async def write():
            for number in range(200):
                await registry.handle_all([put(number, "attributes", "b"), put(number, "attributes", "c")])

        writing = asyncio.create_task(write())
        leaves = await asyncio.gather(
            *(changes.resume(EVERYTHING, 40 * place, one.take, one.room) for place, one in enumerate(listeners))
        )
        await writing
        for place, one in enumerate(listeners):
            assert one.numbers == list(range(max(40 * place + 1, 2), registry.journal.last + 1))
        for leave in leaves:
            leave()
        await registry.handle(put(5, "attributes", "a"))
        assert listeners[0].numbers[-1] == registry.journal.last - 1


async def test_who_resumes_is_told_no_more_than_he_has_room_for():
    async with serving() as registry:
        changes, slow = Changes(registry, Acks()), Listener()
        await registry.handle(put({}))
        await registry.handle_all([put(number, "attributes", "a") for number in range(500)])
        gate = asyncio.Semaphore(1)
        resuming = asyncio.create_task(changes.resume(EVERYTHING, 0, slow.take, gate.acquire))
        turns = 0
        while not slow.told or turns < 50:
            turns += 1
            await asyncio.sleep(0)
        few = len(slow.told)
        assert 0 < few < 100
        for _ in range(10):
            gate.release()
        await resuming
        assert slow.numbers == list(range(2, 503))


async def test_a_session_that_resumes_is_not_told_what_it_has_caused_itself():
    async with serving() as registry:
        changes, mine = Changes(registry, Acks()), Listener()
        await registry.handle(put({}, origin="ws 1"))
        await registry.handle(put({}, "attributes", origin="ws 2"))
        await changes.resume(EVERYTHING, 0, mine.take, mine.room, session="ws 1")
        await registry.handle(put({}, "attributes", origin="ws 1"))
        assert mine.numbers == [3]


async def test_numbers_that_are_forgotten_or_never_were_are_told_plainly():
    store = MemoryStore()
    async with serving(store) as registry:
        await registry.handle(put({}))
        await registry.handle_all([put(number, "attributes", "a") for number in range(20)])
    await store.trim(10)
    async with serving(store) as registry:
        changes, anne = Changes(registry, Acks()), Listener()
        for ask in (
            changes.read(EVERYTHING, 5, 10),
            changes.resume(EVERYTHING, 5, anne.take, anne.room),
            changes.check(5),
        ):
            with pytest.raises(EventsForgotten) as error:
                await ask
            assert error.value.payload()["oldest"] == 10
            assert error.value.payload()["after"] == 5
        with pytest.raises(EventsUnknown):
            await changes.read(EVERYTHING, 23, 10)
        await changes.check(9)
        assert await collected(changes, EVERYTHING) == list(range(10, 23))


async def test_rights_are_those_at_the_time_of_reading():
    async with serving() as registry:
        changes, bobs = Changes(registry, Acks()), Wanted(subjects=BOB)
        await registry.handle(put({"attributes": {"a": 1, "b": 2}}))
        assert await changes.read(bobs, 0, 10) == ([], 2)
        reading = entry("nginx:bob", thing={"/attributes/a": "R"})
        await registry.handle(put_policy(T1, {"owner": OWNER, "bob": reading}))
        page, after = await changes.read(bobs, 0, 10)
        assert [told.value for told in page] == [{"thingId": T1, "attributes": {"a": 1}}]
        assert after == 3
        await registry.handle(put_policy(T1, {"owner": OWNER}))
        assert await changes.read(bobs, 0, 10) == ([], 4)


async def test_what_is_left_of_a_deleted_thing_is_told_by_the_policy_that_it_had_and_not_to_who_has_its_id_now():
    async with serving() as registry:
        changes = Changes(registry, Acks())
        reading = entry("nginx:bob", thing={"/attributes": "R"})
        await registry.handle(put_policy("demo:old", {"owner": OWNER, "bob": reading}))
        await registry.handle(put({"policyId": "demo:old", "attributes": {"a": 1}}))
        await registry.handle(put(2, "attributes", "a"))
        await registry.handle(delete())
        assert await collected(changes, Wanted(subjects=BOB)) == [2, 3, 4]
        carol = ("nginx:carol",)
        await registry.handle(put({}, who=carol))
        await registry.handle(put({"a": 4}, "attributes", who=carol))
        assert await collected(changes, Wanted(subjects=carol)) == [6, 7]
        assert await collected(changes, Wanted(subjects=BOB)) == [2, 3, 4]
        page, _ = await changes.read(Wanted(subjects=BOB, extra={"attributes": None}), 0, 10)
        assert [told.extra for told in page] == [UNSET, UNSET, {"attributes": {"a": 2}}]
        await registry.handle(delete(who=carol))
        await registry.handle(put({"policyId": "demo:old"}))
        assert await collected(changes, Wanted(subjects=carol)) == [6, 7, 8]
        assert await collected(changes, Wanted(subjects=BOB)) == [2, 3, 4]
        await registry.handle(put_policy("demo:old", {"owner": OWNER}))
        assert await collected(changes, Wanted(subjects=BOB)) == []


async def test_a_policy_that_was_made_anew_opens_nothing_of_what_stood_under_the_old_one():
    async with serving() as registry:
        changes = Changes(registry, Acks())
        await registry.handle(put({"attributes": {"a": 1}}))
        await registry.handle(delete())
        gone = put_policy(T1, None)
        await registry.handle(type(gone)(verb="delete", kind="policy", id=T1, subjects=ANNE))
        await registry.handle(put({}, thing="demo:T2"))
        assert await collected(changes, EVERYTHING) == [6]
        bobs = entry("nginx:bob", thing={"/": "RW"}, policy={"/": "RW"})
        await registry.handle(put_policy(T1, {"bob": bobs}, who=BOB))
        assert await collected(changes, Wanted(subjects=BOB)) == []


async def test_waiting_ends_with_the_first_change_that_is_wanted_or_with_the_time():
    async with serving() as registry:
        changes = Changes(registry, Acks())
        await registry.handle(put({}))
        only = Wanted(subjects=ANNE, ids=frozenset({"demo:T2"}))
        assert await changes.wait(only, 1, 20) == 1
        assert await changes.wait(only, 2, 0.001) == 2
        waiting = asyncio.create_task(changes.wait(only, 2, 20))
        await asyncio.sleep(0)
        await registry.handle(put(1, "attributes", "a"))
        await registry.handle(put({}, thing="demo:T2"))
        assert await waiting == 4
        page, after = await changes.read(only, 4, 10)
        assert [told.number for told in page] == [5]
        assert after == 5


LEAVES = [
    ("attributes", "a"),
    ("attributes", "b"),
    ("features", "f", "properties", "x"),
    ("features", "f", "properties", "y"),
]
STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(LEAVES), st.integers(0, 3)),
    st.tuples(st.just("merge"), st.sampled_from(LEAVES), st.none() | st.integers(0, 3)),
    st.tuples(st.just("delete"), st.sampled_from([(), *LEAVES, ("attributes",)]), st.none()),
    st.tuples(st.just("whole"), st.just(()), st.integers(0, 3)),
)
GRANTS = st.dictionaries(
    st.sampled_from(["/", "/attributes", "/attributes/a", "/features/f", "/features/f/properties/x"]),
    st.sampled_from(["R", "r"]),
    min_size=1,
)


def command(step: tuple[str, tuple[str, ...], Any]):
    how, path, value = step
    if how == "delete":
        return delete(*path)
    if how == "merge":
        patch: Any = value
        for segment in reversed(path):
            patch = {segment: patch}
        return merge({"policyId": "demo:p", **patch})
    if how == "whole":
        return put(
            {"policyId": "demo:p", "attributes": {"a": value, "b": 1}, "features": {"f": {"properties": {"x": 1}}}}
        )
    return put(value, *path)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=12), GRANTS, st.integers(0, 12))
async def test_who_listens_who_resumes_and_who_reads_are_told_the_same(steps, grants, late):
    async with serving() as registry:
        changes = Changes(registry, Acks())
        bobs = entry("nginx:bob", thing=grants)
        await registry.handle(put_policy("demo:p", {"owner": OWNER, "bob": bobs}))
        wanted = Wanted(subjects=BOB)
        live, resumed = Listener(), Listener()
        changes.subscribe(wanted, live.take)
        resuming = None
        for place, step in enumerate([("whole", (), 1), *steps]):
            if place == late:
                resuming = asyncio.create_task(changes.resume(wanted, 0, resumed.take, resumed.room))
            try:
                await registry.handle(command(step))
            except SkerryError:
                continue
        if resuming is not None:
            await resuming
        else:
            await changes.resume(wanted, 0, resumed.take, resumed.room)
        read, _ = await changes.read(wanted, 0, 1_000)
        texts = [told.text for told in live.told]
        assert [told.text for told in resumed.told] == texts
        assert [told.text for told in read] == texts
