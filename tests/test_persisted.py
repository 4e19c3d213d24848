"""What happened to an entity is read from the journal: spans of revisions and times, by the rights of the moment."""

import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_door import ANNE, BOB, OWNER, T1, delete, entry, merge, put, put_policy, serving, telemetry
from skerry.errors import SkerryError
from skerry.signals import Command
from skerry_registry.identities.caller import Caller
from skerry_registry.identities.namespaces import NamespaceRule, NamespaceRules
from skerry_registry.live.event_filter import parse
from skerry_registry.live.persisted import PAGE, Persisted, Span
from skerry_registry.live.sender import Sender
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore
from skerry_registry.stores.sqlite import SqliteStore

READER = Sender(subjects=BOB)
WRITER = Sender(subjects=ANNE)


@pytest.fixture(params=["memory", "sqlite"])
async def registry(request, tmp_path) -> AsyncIterator[Registry]:
    store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path)
    async with serving(store, historical_headers=["correlation-id"]) as registry:
        yield registry


async def told(registry: Registry, sender: Sender = WRITER, kind="thing", thing: str = T1, **span) -> list:
    stream = await Persisted(registry).events(kind, thing, sender, Span(**span))
    return [change async for change in stream]


async def revisions(registry: Registry, sender: Sender = WRITER, **span) -> list[int]:
    return [change.event.revision for change in await told(registry, sender, **span)]


async def written(registry: Registry, count: int = 5) -> None:
    await registry.handle(put({"attributes": {"a": 0}}))
    for value in range(1, count):
        await registry.handle(put(value, "attributes", "a"))


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"first": 2}, [2, 3, 4, 5]),
        ({"last": 2}, [1, 2]),
        ({"first": 2, "last": 3}, [2, 3]),
        ({"first": 5, "last": 2}, []),
        ({"first": -1}, [5]),
        ({"first": -2}, [4, 5]),
        ({"first": -99}, [1, 2, 3, 4, 5]),
        ({"last": 0}, [1, 2, 3, 4, 5]),
        ({"last": -1}, [1, 2, 3, 4]),
        ({"last": -9}, []),
        ({"first": 99}, []),
        ({"path": ("attributes", "a", "deep")}, [1, 2, 3, 4, 5]),
        ({"path": ("features",)}, [1]),
        ({"filter": parse("gt(attributes/a,2)", 0)}, [4, 5]),
        ({"filter": parse("lt(_revision,3)", 0)}, [1, 2]),
    ],
)
async def test_a_span_names_revisions_paths_and_values(registry, span, expected):
    await written(registry)
    assert await revisions(registry, **span) == expected


async def test_times_are_excluded_at_both_ends(registry):
    await written(registry)
    times = [change.event.timestamp for change in await told(registry)]
    assert await revisions(registry, after=times[1], before=times[4]) == [3, 4]
    assert await revisions(registry, after=times[4]) == []
    assert await revisions(registry, before=times[0]) == []
    assert await revisions(registry, after=times[0] - 1, first=-2) == [4, 5]


@given(data=st.data())
async def test_a_span_is_what_its_bounds_say(data):
    async with serving() as registry:
        count = data.draw(st.integers(1, 12))
        await written(registry, count)
        whole = [(change.event.revision, change.event.timestamp) for change in await told(registry)]
        bound = st.integers(-count - 1, count + 1)
        moment = st.none() | st.sampled_from([time + shift for _, time in whole for shift in (-1, 0, 1)])
        first, last, after, before = (data.draw(one) for one in (bound, bound, moment, moment))
        lowest = first if first >= 0 else count + first + 1
        highest = last if last > 0 else count + last
        wanted = [
            revision
            for revision, time in whole
            if lowest <= revision <= highest and (after is None or time > after) and (before is None or time < before)
        ]
        assert await revisions(registry, first=first, last=last, after=after, before=before) == wanted


async def test_what_retention_has_taken_is_not_told():
    store = MemoryStore()
    async with serving(store) as registry:
        await written(registry)
        await store.save([await store.load("thing", T1)], registry.journal.last)
        await store.trim(4)  # the first event is the policy's
        assert await revisions(registry) == [3, 4, 5]
        assert await revisions(registry, first=2, last=3) == [3]


async def test_many_revisions_come_in_order(registry):
    await written(registry, 2 * PAGE + 3)
    assert await revisions(registry) == list(range(1, 2 * PAGE + 4))


async def test_of_headers_only_what_is_kept_for_history_is_told(registry):
    await registry.handle(put({}, headers={"correlation-id": "mine", "other": "x"}))
    (change,) = await told(registry)
    assert json.loads(change.event.headers["historical-headers"]) == {"correlation-id": "mine"}
    assert change.event.headers.keys() == {"historical-headers"}


async def test_events_are_filtered_leaf_by_leaf(registry):
    await registry.handle(put_policy("demo:p", {"o": OWNER, "r": entry("nginx:bob", thing={"/attributes/a": "R"})}))
    await registry.handle(put({"policyId": "demo:p", "attributes": {"a": 1, "b": 2}}))
    await registry.handle(put(3, "attributes", "b"))
    await registry.handle(merge({"attributes": {"a": 4, "b": 5}}))
    await registry.handle(delete("attributes", "b"))
    await registry.handle(delete("attributes", "a"))
    seen = await told(registry, READER)
    assert [change.event.revision for change in seen] == [1, 3, 5]
    assert seen[0].value == {"thingId": T1, "attributes": {"a": 1}}
    assert seen[1].value == {"attributes": {"a": 4}}
    with pytest.raises(SkerryError) as error:
        await told(registry, READER, path=("features",))
    assert error.value.code == "things:thing.notfound"


async def test_rights_are_those_of_the_moment_of_reading(registry):
    await registry.handle(put_policy("demo:p", {"o": OWNER, "r": entry("nginx:bob", thing={"/": "R"})}))
    await registry.handle(put({"policyId": "demo:p"}))
    for value in range(5):
        await registry.handle(put(value, "attributes", "a"))
    stream = await Persisted(registry).events("thing", T1, READER, Span())
    assert [(await anext(stream)).event.revision for _ in range(2)] == [1, 2]
    await registry.handle(put_policy("demo:p", {"o": OWNER, "r": entry("nginx:bob", thing={"/attributes/b": "R"})}))
    assert [change async for change in stream] == []


async def test_a_stream_ends_where_its_thing_does(registry):
    await written(registry)
    stream = await Persisted(registry).events("thing", T1, WRITER, Span())
    await anext(stream)
    await registry.handle(delete())
    await registry.handle(put({"policyId": T1}))
    assert [change async for change in stream] == []


@pytest.mark.parametrize(("kind", "code"), [("thing", "things:thing.notfound"), ("policy", "policies:policy.notfound")])
async def test_what_is_not_there_or_hidden_is_not_found(registry, kind, code):
    noted = []
    registry.on_refused(lambda command, error: noted.append((command.id, error.code)))
    await registry.handle(put({}))
    for thing, sender in (("demo:none", WRITER), (T1, READER)):
        with pytest.raises(SkerryError) as error:
            await told(registry, sender, kind, thing)
        assert error.value.code == code
    assert noted == [(T1, code)]


async def test_out_of_reach_is_out_of_reach(registry):
    await registry.handle(put({}))
    rules = NamespaceRules([NamespaceRule(allowed_namespaces=("other",))], registry.clock)
    reach = rules.reach(Caller(name="anne", subjects=ANNE), lambda _: None)
    with pytest.raises(SkerryError) as error:
        await told(registry, Sender(subjects=ANNE, reach=reach))
    assert error.value.status == 403


async def test_a_former_life_is_told_by_the_policy_that_guarded_it(registry):
    await registry.handle(put_policy("demo:old", {"o": OWNER}))
    await registry.handle(put_policy("demo:new", {"o": OWNER, "r": entry("nginx:bob", thing={"/": "R"})}))
    await registry.handle(put({"policyId": "demo:old", "attributes": {"a": 1}}))
    await registry.handle(put(2, "attributes", "a"))
    await registry.handle(delete())
    await registry.handle(put({"policyId": "demo:new"}))
    await registry.handle(put(3, "attributes", "a"))
    assert await revisions(registry, READER) == [4, 5]
    assert await revisions(registry, WRITER) == [1, 2, 3, 4, 5]
    assert await revisions(registry, WRITER, first=2) == [2, 3, 4, 5]


async def test_the_history_of_a_thing_that_is_gone_is_told_by_its_last_policy(registry):
    await registry.handle(put_policy("demo:p", {"o": OWNER, "r": entry("nginx:bob", thing={"/attributes/a": "R"})}))
    await registry.handle(put({"policyId": "demo:p", "attributes": {"a": 1, "b": 1}}))
    await registry.handle(put(2, "attributes", "b"))
    await registry.handle(delete())
    assert await revisions(registry) == [1, 2, 3]
    assert await revisions(registry, READER) == [1, 3]
    await registry.handle(put_policy("demo:p", {"o": OWNER}))
    with pytest.raises(SkerryError) as error:
        await told(registry, READER)
    assert error.value.code == "things:thing.notfound"
    await registry.handle(Command(verb="delete", kind="policy", id="demo:p", subjects=ANNE))
    with pytest.raises(SkerryError) as error:
        await told(registry)
    assert error.value.code == "things:thing.notfound"


async def test_of_what_came_too_late_for_the_twin_nothing_is_told(registry):
    await registry.handle(put({}))
    for observed, value in ((9_000_000, 1), (8_000_000, 2)):
        await registry.handle(telemetry(observed, observed, power=value))
    assert registry.journal.last == 4  # the implicit policy is the first
    assert await revisions(registry) == [1, 2]


async def test_policies_have_a_history_too(registry):
    await registry.handle(put_policy("demo:p", {"o": OWNER}))
    await registry.handle(put_policy("demo:p", {"o": OWNER, "r": entry("nginx:bob", policy={"/entries/r": "R"})}))
    assert [change.event.revision for change in await told(registry, WRITER, "policy", "demo:p")] == [1, 2]
    seen = await told(registry, READER, "policy", "demo:p")
    assert [list(change.value["entries"]) for change in seen] == [["r"]]
