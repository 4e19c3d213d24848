"""Commands that are carried out together or not at all, and rehearsals that change nothing."""

import asyncio

import pytest

from registry_door import ANNE, BOB, SlowStore, entry, events, get, merge, put, put_policy, serving
from skerry.errors import SkerryError
from skerry.signals import Response
from skerry_registry.ports import RevisionConflict, StoreUnavailable
from skerry_registry.stores.memory import MemoryStore


def statuses(answers) -> list[int]:
    return [answer.status for answer in answers]


async def test_all_of_them_are_one_commit_and_the_later_ones_rest_on_the_earlier():
    store = SlowStore()
    async with serving(store) as registry:
        answers = await registry.handle_together(
            [
                put(thing="a:1"),
                put(1, "attributes", "x", thing="a:1"),
                put({"policyId": "a:1"}, thing="a:2"),
                get("attributes", thing="a:1"),
            ]
        )
        assert statuses(answers) == [201, 201, 201, 200]
        assert answers[3].value == {"x": 1}
        assert store.appends == 1


async def test_one_refusal_leaves_everything_as_it_was_and_says_whose_it_is():
    async with serving() as registry:
        await registry.handle_all([put({"attributes": {"n": 0}}), put(thing="b:1", who=BOB)])
        last = registry.journal.last
        answers = await registry.handle_together(
            [
                put(1, "attributes", "n"),
                put(1, "attributes", "n", thing="b:1"),
                put(thing="a:new"),
                get("attributes", "n"),
            ]
        )
        assert statuses(answers) == [424, 403, 424, 424]
        assert answers[1].code == "things:attribute.notmodifiable"
        assert registry.journal.last == last
        assert (await registry.handle(get("attributes", "n"))).value == 0
        assert (await registry.handle(put(2, "attributes", "n"))).revision == 2
        with pytest.raises(SkerryError):
            await registry.handle(get(thing="a:new"))


async def test_what_is_undone_leaves_the_changes_of_others_that_are_being_committed():
    store = SlowStore()
    async with serving(store) as registry:
        await registry.handle(put({"attributes": {"n": 0}}))
        store.close()
        other = asyncio.create_task(registry.handle(put(1, "attributes", "n")))
        await store.entered.wait()
        undone = asyncio.create_task(
            registry.handle_together([put(2, "attributes", "n"), put(0, "features", "f", "properties", "p")])
        )
        store.open.set()
        assert statuses(await undone) == [424, 404]
        assert (await other).revision == 2
        assert (await registry.handle(put(3, "attributes", "n"))).revision == 3
        assert [event.revision for event in await events(registry) if event.kind == "thing"] == [1, 2, 3]


async def test_entities_that_are_only_in_the_store_are_fetched_and_decided_in_order():
    store = MemoryStore()
    async with serving(store) as registry:
        await registry.handle_all([put(thing=f"a:{number}") for number in range(5)])
    async with serving(store) as registry:
        answers = await registry.handle_together(
            [put(number, "attributes", "n", thing=f"a:{number}") for number in range(5)]
            + [get("attributes", thing="a:4")]
        )
        assert statuses(answers) == [201] * 5 + [200]
    async with serving(store) as registry:
        answers = await registry.handle_together(
            [merge({"attributes": {"n": 9}}, thing=f"a:{number}") for number in range(5)] + [put(1, thing="x")]
        )
        assert statuses(answers) == [424] * 5 + [400]
        assert (await registry.handle(get("attributes", "n", thing="a:3"))).value == 3


@pytest.mark.parametrize(
    ("failure", "wanted"), [(StoreUnavailable(reason="full."), 503), (RevisionConflict("thing", "a:1"), 201)]
)
async def test_a_commit_that_fails_fails_for_all_and_one_that_was_overtaken_is_decided_anew(failure, wanted: int):
    store = SlowStore()
    async with serving(store) as registry:
        store.failures.append(failure)
        assert statuses(await registry.handle_together([put(thing="a:1"), put(thing="a:2")])) == [wanted, wanted]
        assert len(await events(registry)) == (4 if wanted == 201 else 0)


async def test_who_cannot_be_written_is_to_blame_alone():
    async with serving() as registry:
        answers = await registry.handle_together([put(thing="a:1"), put({"attributes": {"x": "\ud800"}}, thing="a:2")])
        assert all(isinstance(answer, SkerryError) for answer in answers)
        assert registry.journal.last == 0


async def test_a_rehearsal_answers_as_the_real_thing_and_changes_nothing():
    store = MemoryStore()
    rows = [
        put_policy("p:1", {"owner": entry("nginx:anne", thing={"/": "RW"}, policy={"/": "RW"})}),
        put({"policyId": "p:1"}, thing="a:1"),
        put(1, "attributes", "x", thing="a:1"),
        put(1, "attributes", "x", thing="a:1", who=BOB),
        put(2, thing="a:2"),
        get("attributes", thing="a:1", who=ANNE),
    ]
    async with serving(store) as registry:
        tried = await registry.rehearse(rows)
        assert registry.journal.last == 0
        assert not isinstance(await registry.rehearse(rows[:1]), Response)
        done = await registry.handle_all(rows)
        assert statuses(tried) == statuses(done) == [201, 201, 201, 403, 400, 200]
        assert statuses(await registry.rehearse(rows)) == [204, 204, 201, 403, 400, 200]


async def test_deliveries_that_were_undone_are_not_taken_for_known():
    async with serving() as registry:
        refused = [put(thing="a:1", digest=7, redelivered=True), put(1, thing="bad")]
        assert statuses(await registry.handle_together(refused)) == [424, 400]
        assert statuses(await registry.handle_together(refused[:1])) == [201]
        assert statuses(await registry.handle_together(refused[:1])) == [204]
        assert len(await events(registry)) == 2
