"""The one door: order, durability, repetitions, rights, creation with a policy."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import SkerryError
from skerry.signals import Command, Event, Held
from skerry_registry.journal.replay import replay
from skerry_registry.ports import RevisionConflict, StoreUnavailable
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore

ANNE = ("nginx:anne",)
BOB = ("nginx:bob",)
T1 = "demo:T1"


class SlowStore(MemoryStore):
    """A memory store whose commits and loads wait for permission, and may be told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()
        self.loading = asyncio.Event()
        self.loading.set()
        self.failures: list[Exception] = []
        self.appends = 0

    async def append(self, events: Sequence[Event]) -> None:
        self.entered.set()
        await self.open.wait()
        self.appends += 1
        if self.failures:
            raise self.failures.pop(0)
        await super().append(events)

    def close(self) -> None:
        """Let commits wait from now on."""
        self.open.clear()
        self.entered.clear()

    async def load(self, kind, id):  # noqa: A002
        await self.loading.wait()
        return await super().load(kind, id)


@asynccontextmanager
async def serving(store=None, **settings) -> AsyncIterator[Registry]:
    ticks = count(1_000_000)
    async with Registry(store or MemoryStore(), lambda: next(ticks), lambda: "id", **settings) as registry:
        try:
            yield registry
        finally:  # a test that fails while the store is closed ends all the same
            if isinstance(store, SlowStore):
                store.open.set()
                store.loading.set()


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with serving() as registry:
        yield registry


def put(value=None, *path: str, thing: str = T1, who=ANNE, **more) -> Command:
    return Command(verb="modify", id=thing, subjects=who, path=path, value={} if value is None else value, **more)


def get(*path: str, thing: str = T1, who=ANNE, **headers: str) -> Command:
    return Command(verb="retrieve", id=thing, subjects=who, path=path, headers=headers)


def merge(value, *path: str, thing: str = T1, who=ANNE, **more) -> Command:
    return Command(verb="merge", id=thing, subjects=who, path=path, value=value, **more)


def delete(*path: str, thing: str = T1, who=ANNE) -> Command:
    return Command(verb="delete", id=thing, subjects=who, path=path)


def put_policy(policy_id: str, entries, who=ANNE) -> Command:
    return Command(verb="modify", kind="policy", id=policy_id, subjects=who, value={"entries": entries})


def entry(subject: str, **resources) -> dict:
    """`thing="/": "RW"` and so on; lower case letters revoke."""
    names = {"R": "READ", "W": "WRITE"}
    return {
        "subjects": {subject: {"type": "test"}},
        "resources": {
            f"{kind}:{path}": {
                "grant": [names[letter] for letter in letters if letter.isupper()],
                "revoke": [names[letter.upper()] for letter in letters if letter.islower()],
            }
            for kind, paths in resources.items()
            for path, letters in paths.items()
        },
    }


OWNER = entry("nginx:anne", thing={"/": "RW"}, policy={"/": "RW"})


def telemetry(observed: int, digest: int, thing: str = T1, **values) -> Command:
    return merge({"properties": values}, "features", "scada", thing=thing, observed=observed, digest=digest)


async def refused(registry: Registry, command: Command) -> tuple[int, str]:
    with pytest.raises(SkerryError) as error:
        await registry.handle(command)
    return error.value.status, error.value.code


async def events(registry: Registry, first: int = 0) -> list[Event]:
    found: list[Event] = []
    while registry.journal.last > (found[-1].number if found else first):
        async for page in registry.journal.follow(found[-1].number if found else first):
            found += page
            break
    return found


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


async def test_who_may_read_nothing_is_told_that_there_is_nothing(registry):
    await registry.handle(put({"attributes": {"a": 1}}))
    assert await refused(registry, get(who=BOB)) == (404, "things:thing.notfound")
    assert await refused(registry, get("attributes", who=BOB)) == (404, "things:thing.notfound")
    assert await registry.things(BOB, "", 10) == []


async def test_writes_without_the_right_are_forbidden_part_by_part(registry):
    await registry.handle(put({"features": {"f": {}}}))
    expected = {
        (): "thing.notmodifiable",
        ("policyId",): "policyId.notmodifiable",
        ("definition",): "definition.notmodifiable",
        ("attributes",): "attributes.notmodifiable",
        ("attributes", "a"): "attribute.notmodifiable",
        ("features",): "features.notmodifiable",
        ("features", "f"): "feature.notmodifiable",
        ("features", "f", "definition"): "feature.definition.notmodifiable",
        ("features", "f", "properties"): "feature.properties.notmodifiable",
        ("features", "f", "properties", "p"): "feature.property.notmodifiable",
        ("features", "f", "desiredProperties"): "feature.desiredProperties.notmodifiable",
        ("features", "f", "desiredProperties", "p"): "feature.desiredProperty.notmodifiable",
    }
    for path, code in expected.items():
        assert await refused(registry, put({}, *path, who=BOB)) == (403, f"things:{code}")
    assert await refused(registry, delete(who=BOB)) == (403, "things:thing.notdeletable")
    assert await refused(registry, merge({"a": 1}, "attributes", who=BOB)) == (403, "things:thing.notmodifiable")


async def share(registry: Registry) -> None:
    """A thing of which bob may read a part and write another."""
    bob = entry(
        "nginx:bob",
        thing={
            "/attributes": "R",
            "/attributes/secret": "r",
            "/features/f/properties": "RW",
            "/features/f/properties/x": "w",
        },
        policy={"/entries/b": "R"},
    )
    await registry.handle(put_policy("demo:P", {"a": OWNER, "b": bob}))
    value = {
        "policyId": "demo:P",
        "attributes": {"secret": 1, "open": 2},
        "features": {"f": {"properties": {"x": 1, "y": 2}}, "g": {"properties": {"z": 1}}},
    }
    assert (await registry.handle(put(value))).status == 201


async def test_a_reader_sees_its_part_only(registry):
    await share(registry)
    seen = {"thingId": T1, "attributes": {"open": 2}, "features": {"f": {"properties": {"x": 1, "y": 2}}}}
    assert (await registry.handle(get(who=BOB))).value == seen
    assert (await registry.handle(get("attributes", who=BOB))).value == {"open": 2}
    for path in (("attributes", "secret"), ("features", "g"), ("policyId",)):
        assert (await refused(registry, get(*path, who=BOB)))[0] == 404
    assert [held.document for held in await registry.things(BOB, "", 10)] == [seen]
    assert (await registry.permits(BOB, T1)).view((), {"attributes": {"secret": 1}}) == {"attributes": {}}


async def test_a_writer_writes_its_part_only(registry):
    await share(registry)
    properties = ("features", "f", "properties")
    assert (await registry.handle(put(3, *properties, "y", who=BOB))).status == 204
    assert await refused(registry, put(3, *properties, "x", who=BOB)) == (403, "things:feature.property.notmodifiable")
    assert await refused(registry, put({}, *properties, who=BOB)) == (403, "things:feature.properties.notmodifiable")
    patch = {"features": {"f": {"properties": {"y": 5, "new": {"deep": 1}}}}}
    assert (await registry.handle(merge(patch, who=BOB))).status == 204
    for refusal in ({"x": None}, {"x": 1, "y": 2}, {}, {"{{ ~.*~ }}": None}):
        assert await refused(registry, merge(refusal, *properties, who=BOB)) == (403, "things:thing.notmodifiable")


async def test_the_policy_comes_with_the_thing_when_asked_for(registry):
    await share(registry)
    full = (await registry.handle(get(fields="thingId,_policy"))).value
    assert set(full["_policy"]["entries"]) == {"a", "b"}
    part = (await registry.handle(get(fields="thingId,_policy", who=BOB))).value
    assert set(part["_policy"]["entries"]) == {"b"}


async def test_a_thing_whose_policy_is_gone_is_out_of_reach(registry):
    await registry.handle(put())
    await registry.handle(Command(verb="delete", kind="policy", id=T1, subjects=ANNE))
    assert await refused(registry, get()) == (404, "things:thing.notfound")
    assert await refused(registry, put(1, "attributes", "a")) == (403, "things:attribute.notmodifiable")


async def test_after_a_deletion_the_policy_stays_and_is_in_the_way(registry):
    await registry.handle(put())
    assert (await registry.handle(delete())).status == 204
    assert await refused(registry, put()) == (400, "things:thing.notcreatable")
    assert (await registry.handle(put({"policyId": T1}))).revision == 3


async def test_an_inline_policy_is_made_with_the_thing(registry):
    response = await registry.handle(put({"_policy": {"entries": {"mine": OWNER}}}))
    assert "_policy" not in response.value
    policy = await registry.handle(Command(verb="retrieve", kind="policy", id=T1, subjects=ANNE))
    assert list(policy.value["entries"]) == ["mine"]
    other = put({"policyId": "demo:P", "_policy": {"entries": {"mine": OWNER}}}, thing="demo:T2")
    assert (await registry.handle(other)).value["policyId"] == "demo:P"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"_policy": {"entries": {}}}, (400, "things:policy.invalid")),
        ({"_policy": "demo:P"}, (400, "things:policy.invalid")),
        ({"_policy": {"entries": {"a": OWNER}}, "_copyPolicyFrom": "demo:P"}, (400, "things:policy.conflicting")),
        ({"_policy": {"policyId": "demo:A", "entries": {}}, "policyId": "demo:B"}, (400, "things:policy.conflicting")),
        ({"_policy": {"entries": {"a": entry("nginx:anne", policy={"/": "RW"})}}}, (403, "things:thing.notmodifiable")),
        ({"_policy": {"entries": {"a": OWNER}}, "policyId": "demo:T0"}, (400, "things:thing.notcreatable")),
        ({"policyId": "demo:none"}, (404, "policies:policy.notfound")),
        ({"_copyPolicyFrom": "demo:none"}, (404, "policies:policy.notfound")),
        (
            {"_copyPolicyFrom": "{{ ref:things/demo:none/policyId }}"},
            (400, "placeholder:placeholder.reference.notsupported"),
        ),
        ({"_copyPolicyFrom": "{{ something }}"}, (400, "placeholder:placeholder.reference.notsupported")),
    ],
)
async def test_a_creation_that_comes_to_no_policy_makes_nothing(registry, value, expected):
    await registry.handle(put(thing="demo:T0"))
    assert await refused(registry, put(value)) == expected
    assert registry.journal.last == 2


@pytest.mark.parametrize("source", ["demo:T0", "{{ ref:things/demo:T0/policyId }}", "{{ref:things/demo:T0/policyId}}"])
async def test_a_policy_is_copied(registry, source):
    await registry.handle(put(thing="demo:T0"))
    response = await registry.handle(put({"_copyPolicyFrom": source}))
    assert response.value == {"thingId": T1, "policyId": T1}
    policy = await registry.handle(Command(verb="retrieve", kind="policy", id=T1, subjects=ANNE))
    assert policy.value["policyId"] == T1
    assert list(policy.value["entries"]) == ["DEFAULT"]


async def test_a_strangers_policy_cannot_be_used_or_copied(registry):
    await registry.handle(put(thing="demo:T0"))
    for value in ({"policyId": "demo:T0"}, {"_copyPolicyFrom": "demo:T0"}):
        assert await refused(registry, put(value, who=BOB)) == (404, "policies:policy.notfound")


async def test_a_policy_that_is_readable_but_lets_one_not_write_makes_no_thing(registry):
    await registry.handle(
        put_policy("demo:P", {"a": OWNER, "b": entry("nginx:bob", policy={"/": "R"}, thing={"/": "R"})})
    )
    assert await refused(registry, put({"policyId": "demo:P"}, who=BOB)) == (403, "things:thing.notmodifiable")


async def test_a_thing_may_be_pointed_to_a_policy_that_does_not_exist_with_a_warning(registry):
    await registry.handle(put())
    response = await registry.handle(put("demo:none", "policyId"))
    assert response.status == 204
    assert "demo:none" in response.headers["warning"]
    assert await refused(registry, get()) == (404, "things:thing.notfound")
    await registry.handle(put_policy("demo:none", {"a": OWNER}))
    assert (await registry.handle(get("policyId"))).value == "demo:none"


async def test_a_new_policy_takes_effect_at_once(registry):
    await registry.handle(put())
    assert (await refused(registry, get(who=BOB)))[0] == 404
    await registry.handle(put_policy(T1, {"a": OWNER, "b": entry("nginx:bob", thing={"/": "R"})}))
    assert (await registry.handle(get(who=BOB))).status == 200


async def test_things_are_listed_in_pages(registry):
    for n in range(7):
        await registry.handle(put(thing=f"demo:T{n}", who=ANNE if n % 2 else BOB))
    assert [held.id for held in await registry.things(ANNE, "", 2)] == ["demo:T1", "demo:T3"]
    assert [held.id for held in await registry.things(ANNE, "demo:T3", 2)] == ["demo:T5"]


async def test_a_small_cache_holds_many_things():
    store = MemoryStore()
    async with serving(store, cache_things=3, snapshot_events=5) as registry:
        names = [f"demo:T{n}" for n in range(30)]
        await registry.handle_all([put(thing=name) for name in names])
        for n in range(3):
            answers = await registry.handle_all([put(n, "attributes", "n", thing=name) for name in names])
            assert all(answer.revision == n + 2 for answer in answers)
        assert len(await registry.things(ANNE, "", 100)) == 30


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
