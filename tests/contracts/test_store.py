"""What every store does: this suite runs on each implementation."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from msgspec import json

from skerry.rql.evaluate import lookup_in
from skerry.signals import Event, Held
from skerry_registry.journal.replay import FAR, LONG, replay
from skerry_registry.ports import EventNotStorable, RevisionConflict, Store
from skerry_registry.stores.memory import MemoryStore
from skerry_registry.stores.sqlite import SqliteStore

THING = {"thingId": "demo:T1", "policyId": "demo:T1", "attributes": {"name": "T1"}}


@pytest.fixture(params=["memory", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    """Makes a store over the same data each time."""
    if request.param == "memory":
        store = MemoryStore()
        return lambda: store
    return lambda: SqliteStore(tmp_path / "data")


@pytest.fixture
async def store(reopen: Callable[[], Store]) -> AsyncIterator[Store]:
    async with reopen() as store:
        yield store


def created(name: str = "demo:T1", revision: int = 1, kind: str = "thing") -> Event:
    value = {**THING, "thingId": name} if kind == "thing" else {"policyId": name, "entries": {}}
    return Event(kind=kind, id=name, action="created", revision=revision, timestamp=1_000 + revision, value=value)


def merged(revision: int, name: str = "demo:T1", **more) -> Event:
    value = {"name": f"name {revision}"}
    return Event(
        kind="thing",
        id=name,
        action="merged",
        revision=revision,
        timestamp=1_000 + revision,
        path=("attributes",),
        value=value,
        **more,
    )


def telemetry(revision: int, observed: int, digest: int, name: str = "demo:T1") -> Event:
    return Event(
        kind="thing",
        id=name,
        action="merged",
        revision=revision,
        timestamp=1_000 + revision,
        path=("features", "scada"),
        value={"properties": {"power": float(revision)}},
        observed=observed,
        digest=digest,
    )


def deleted(revision: int, name: str = "demo:T1", path: tuple[str, ...] = ()) -> Event:
    return Event(kind="thing", id=name, action="deleted", revision=revision, timestamp=1_000 + revision, path=path)


async def test_an_empty_store_has_nothing(store):
    assert await store.last() == 0
    assert await store.oldest() == 1
    assert await store.load("thing", "demo:T1") == Held(kind="thing", id="demo:T1")
    assert await store.read(0, 10) == []
    assert await store.ids("thing", "", 10) == []
    assert await store.count("thing") == 0
    assert await store.recover() == []
    assert await store.deliveries(10) == []


async def test_events_get_gap_free_numbers_in_their_order(store):
    first = [created(), merged(2)]
    await store.append(first)
    second = [created("demo:T2"), merged(3)]
    await store.append(second)
    assert [event.number for event in first + second] == [1, 2, 3, 4]
    assert await store.last() == 4
    assert await store.read(0, 10) == first + second
    assert await store.read(1, 2) == [first[1], second[0]]


async def test_an_entity_is_what_its_events_make_it(store):
    events = [created(), merged(2), telemetry(3, 500, 7), merged(4)]
    await store.append(events[:2])
    await store.append(events[2:])
    held = await store.load("thing", "demo:T1")
    assert held == replay(Held(kind="thing", id="demo:T1"), events)
    assert held.revision == 4
    assert held.number == 4
    assert held.document["attributes"] == {"name": "name 4"}
    assert held.observed == {"scada": {"power": 500}}


@pytest.mark.parametrize("revision", [1, 2, 4])
async def test_a_revision_that_does_not_follow_is_refused_and_nothing_of_its_append_is_stored(store, revision):
    await store.append([created(), merged(2)])
    with pytest.raises(RevisionConflict) as refused:
        await store.append([created("demo:T9"), merged(revision)])
    assert refused.value.id == "demo:T1"
    assert await store.last() == 2
    assert (await store.load("thing", "demo:T9")).document is None
    await store.append([merged(3)])
    assert await store.last() == 3


async def test_what_is_no_json_is_refused_and_harms_nobody(store):
    await store.append([created()])
    endless: list = []
    for _ in range(3_000):
        endless = [endless]
    bad = [merged(2), merged(2)]
    bad[0].value = {"name": "\ud800"}
    bad[1].value = {"name": endless}
    results = await asyncio.gather(
        store.append([bad[0]]), store.append([bad[1]]), store.append([merged(2)]), return_exceptions=True
    )
    assert [type(result) for result in results] == [EventNotStorable, EventNotStorable, type(None)]
    assert [event.number for event in await store.read(0, 10)] == [1, 2]


async def test_a_thing_and_a_policy_may_have_the_same_id(store):
    await store.append([created(), created(kind="policy")])
    assert (await store.load("policy", "demo:T1")).document == {"policyId": "demo:T1", "entries": {}}
    assert await store.ids("policy", "", 10) == ["demo:T1"]
    assert await store.count("thing") == 1


async def test_concurrent_appends_all_get_in_with_gap_free_numbers(store):
    ids = [f"demo:T{n}" for n in range(50)]

    async def write(name: str) -> list[int]:
        numbers = []
        for revision in range(1, 5):
            event = created(name) if revision == 1 else merged(revision, name)
            await store.append([event])
            numbers.append(event.number)
        return numbers

    numbers = await asyncio.gather(*map(write, ids))
    assert sorted(number for of_one in numbers for number in of_one) == list(range(1, 201))
    assert all(of_one == sorted(of_one) for of_one in numbers)
    assert [event.number for event in await store.read(0, 1_000)] == list(range(1, 201))


async def test_of_concurrent_appends_only_those_that_conflict_fail(store):
    await store.append([created()])
    results = await asyncio.gather(
        store.append([merged(2)]),
        store.append([merged(2)]),
        store.append([created("demo:T2")]),
        store.append([merged(3)]),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), RevisionConflict, type(None), type(None)]
    assert [event.number for event in await store.read(0, 10)] == [1, 2, 3, 4]


async def test_a_cancelled_caller_harms_nobody(store):
    task = asyncio.get_running_loop().create_task(store.append([created()]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await store.append([created("demo:T2")])
    numbers = [event.number for event in await store.read(0, 10)]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_deleted_entities_are_gone_and_their_revisions_go_on(store):
    await store.append([created(), created("demo:T2"), deleted(2)])
    held = await store.load("thing", "demo:T1")
    assert (held.document, held.revision) == (None, 2)
    assert await store.ids("thing", "", 10) == ["demo:T2"]
    assert await store.count("thing") == 1
    with pytest.raises(RevisionConflict):
        await store.append([created(revision=1)])
    await store.append([created(revision=3)])
    assert await store.ids("thing", "", 10) == ["demo:T1", "demo:T2"]


async def test_an_entity_stays_when_a_part_of_it_is_deleted(store):
    await store.append([created(), merged(2), deleted(3, path=("attributes", "name"))])
    assert await store.ids("thing", "", 10) == ["demo:T1"]
    assert await store.count("thing") == 1


async def test_ids_come_sorted_in_pages(store):
    ids = ["a:z", "demo:T10", "demo:T2", "demo:ß", "demo:Ж", "Z:a", "demo:😀", "demo:\uffff"]
    await store.append([created(name) for name in ids])
    found, page = [], await store.ids("thing", "", 3)
    while page:
        found += page
        page = await store.ids("thing", page[-1], 3)
    assert found == sorted(ids)


async def test_the_history_of_an_entity_is_read_by_revision(store):
    await store.append([created(), created("demo:T2"), merged(2), merged(3), merged(2, "demo:T2")])
    assert [(e.revision, e.number) for e in await store.history("thing", "demo:T1", 2, 9)] == [(2, 3), (3, 4)]
    assert await store.history("thing", "demo:none", 1, 9) == []


async def test_every_state_is_made_of_its_events_again(store):
    events = [created(), merged(2), telemetry(3, 500, 7), deleted(4), created(revision=5), merged(6)]
    states = [Held(kind="thing", id="demo:T1")]
    for event in events:
        await store.append([event])
        states.append(await store.load("thing", "demo:T1"))
    await store.save([states[3]], 0)
    for revision in range(1, 7):
        assert await store.past("thing", "demo:T1", revision) == states[revision]
    assert await store.past("thing", "demo:T1", 7) is None
    assert await store.past("thing", "demo:T1", 0) is None
    assert await store.past("thing", "demo:none", 1) is None
    assert await store.past("policy", "demo:T1", 1) is None


async def test_a_time_has_a_revision(store):
    await store.append([created(), merged(2), merged(3)])
    found = [await store.revision_at("thing", "demo:T1", time) for time in (0, 1_001, 1_002, 1_003, 1_004, 9_999)]
    assert found == [0, 0, 1, 2, 3, 3]
    assert await store.revision_at("thing", "demo:none", 5) == 0


async def test_states_since_the_oldest_kept_event_outlive_what_is_trimmed(reopen):
    async with reopen() as store:
        await store.append([created(), created("demo:T2")])
        await store.append([merged(revision) for revision in range(2, FAR + 5)])
        early = await store.load("thing", "demo:T1")
        await store.save([early, await store.load("thing", "demo:T2")], FAR + 5)
        await store.append([merged(revision) for revision in range(FAR + 5, FAR + 10)])
        states = [early]
        for revision in range(FAR + 5, FAR + 9):
            found = await store.past("thing", "demo:T1", revision)
            assert found == replay(states[-1], await store.history("thing", "demo:T1", revision, revision))
            states.append(found)
        await store.save([await store.load("thing", "demo:T1")], FAR + 10)
        await store.trim(FAR + 6)
    async with reopen() as store:
        assert await store.oldest() == FAR + 6
        assert await store.past("thing", "demo:T1", FAR + 3) is None
        for state in states:
            assert await store.past("thing", "demo:T1", state.revision) == state
        assert await store.revision_at("thing", "demo:T1", 5) == FAR + 4
        assert await store.revision_at("thing", "demo:T2", 5) == 1
        assert await store.past("thing", "demo:T2", 1) == await store.load("thing", "demo:T2")
        await store.trim(FAR + 8)
        assert await store.past("thing", "demo:T1", early.revision) is None
        assert await store.past("thing", "demo:T1", FAR + 8) is None
        assert await store.past("thing", "demo:T1", FAR + 9) == await store.load("thing", "demo:T1")


async def test_what_was_replaced_after_a_long_time_is_kept_too(store):
    await store.append([created()])
    first = await store.load("thing", "demo:T1")
    await store.save([first], 1)
    event = merged(2)
    event.timestamp = first.modified + LONG
    await store.append([event])
    await store.save([await store.load("thing", "demo:T1")], 2)
    await store.trim(2)
    assert await store.past("thing", "demo:T1", 1) == first
    await store.trim(3)
    assert await store.past("thing", "demo:T1", 1) is None
    assert await store.past("thing", "demo:T1", 2) == await store.load("thing", "demo:T1")


async def test_everything_is_there_after_reopening(reopen):
    events = [created(), merged(2), telemetry(3, 500, 2**64 - 1), created("demo:T2"), deleted(2, "demo:T2")]
    async with reopen() as store:
        await store.append(events)
        await store.move_cursor("series", 3)
        held = await store.load("thing", "demo:T1")
    async with reopen() as store:
        assert await store.last() == 5
        assert await store.read(0, 10) == events
        assert await store.load("thing", "demo:T1") == held
        assert await store.cursor("series") == 3
        assert await store.seen([(500, 2**64 - 1)]) == {(500, 2**64 - 1)}
        assert await store.ids("thing", "", 10) == ["demo:T1"]
        more = [merged(4)]
        await store.append(more)
        assert more[0].number == 6


async def test_snapshots_may_lag_and_recover_finds_what_they_miss(reopen):
    async with reopen() as store:
        await store.append([created(), created("demo:T2"), created("demo:T3")])
        await store.save([await store.load("thing", name) for name in ("demo:T1", "demo:T2", "demo:T3")], 3)
        await store.append([merged(2), merged(2, "demo:T3"), merged(3)])
        await store.save([await store.load("thing", "demo:T1")], 3)
    async with reopen() as store:
        recovered = {held.id: held for held in await store.recover()}
        assert "demo:T3" in recovered
        assert "demo:T2" not in recovered
        assert recovered["demo:T3"].revision == 2
        assert (await store.load("thing", "demo:T1")).document["attributes"] == {"name": "name 3"}
        await store.save(list(recovered.values()), 6)
        assert await store.recover() == []


async def test_an_older_snapshot_never_replaces_a_newer_one(store):
    await store.append([created()])
    old = await store.load("thing", "demo:T1")
    await store.append([merged(2)])
    new = await store.load("thing", "demo:T1")
    await store.save([new], 2)
    await store.save([old], 2)
    await store.trim(3)
    assert await store.load("thing", "demo:T1") == new


async def test_seen_knows_the_pairs_of_kept_events(store):
    await store.append([created(), telemetry(2, 500, 7), telemetry(3, 501, 2**63), merged(4, digest=9)])
    wanted = [(500, 7), (500, 8), (501, 2**63), (501, 7)]
    assert await store.seen(wanted) == {(500, 7), (501, 2**63)}
    assert await store.seen([]) == set()


async def test_deliveries_are_the_newest_digests_without_a_time(store):
    await store.append([created(), *(merged(n, digest=2**64 - n) for n in range(2, 8)), telemetry(8, 500, 7)])
    assert await store.deliveries(3) == [2**64 - 5, 2**64 - 6, 2**64 - 7]
    assert len(await store.deliveries(100)) == 6


async def test_cursors_are_kept_by_name(store):
    assert await store.cursor("series") == 0
    await store.move_cursor("series", 5)
    await store.move_cursor("search", 2)
    await store.move_cursor("series", 9)
    assert await store.cursor("series") == 9
    assert await store.cursors() == {"series": 9, "search": 2}


async def test_trimming_forgets_old_events_but_no_state(reopen):
    async with reopen() as store:
        await store.append([created(), created("demo:T2"), merged(2), telemetry(3, 500, 7)])
        assert await store.trim(4) == 0, "no snapshot covers these"
        states = [await store.load("thing", "demo:T1"), await store.load("thing", "demo:T2")]
        await store.save(states, 4)
        assert await store.trim(4) == 3
        assert await store.oldest() == 4
        assert await store.trim(4) == 0
        assert await store.trim(99) == 1
        assert await store.oldest() == 5
        assert await store.last() == 4
        assert [await store.load("thing", "demo:T1"), await store.load("thing", "demo:T2")] == states
        assert await store.seen([(500, 7)]) == set()
    async with reopen() as store:
        assert await store.last() == 4
        with pytest.raises(RevisionConflict):
            await store.append([merged(2)])
        more = [merged(4)]
        await store.append(more)
        assert more[0].number == 5
        assert await store.load("thing", "demo:T1") == replay(states[0], more)
        assert await store.recover() == [replay(states[0], more)]


async def test_the_size_is_told(store):
    before = await store.size()
    await store.append([created(), *(merged(n) for n in range(2, 500))])
    assert await store.size() > before


ODD = {
    "thingId": "demo:T2",
    "policyId": "demo:P",
    "attributes": {
        "text": 'a "quoted" ü\n',
        "null": None,
        "yes": True,
        "whole": 2**60 + 1,
        "float": 1e300,
        "list": [{"x": 1}, {"x": [2, 3]}, {"y": 4}, 5],
        "deep": {"er": {"x": 1, "list": [{"z": "in"}]}},
        "it's": 1,
        'in "quotes"': {"x": 2},
        "back\\slash": 3,
        "dots.and[0]": 4,
    },
    "features": {
        "a": {"properties": {"x": 1, "s": {"t": 1}}},
        "b": {"properties": {"x": [2], "s": [{"t": 2}]}},
        "c": {},
        "d": None,
    },
}
FIELDS = [
    ("thingId",),
    ("policyId",),
    ("definition",),
    ("attributes",),
    ("features",),
    *(("attributes", name) for name in [*ODD["attributes"], "missing"]),
    ("attributes", "list", "x"),
    ("attributes", "list", "missing"),
    ("attributes", "deep", "er", "x"),
    ("attributes", "deep", "er", "list", "z"),
    ("attributes", "text", "x"),
    ("attributes", 'in "quotes"', "x"),
    ("attributes", "deep", 'no "way"'),
    ("features", "*"),
    ("features", "*", "properties"),
    ("features", "*", "properties", "x"),
    ("features", "*", "properties", "s", "t"),
    ("features", "b", "properties", "s", "t"),
    ("features", "a", "properties", "x"),
    ("_metadata", "attributes", "text", "by"),
]


async def test_a_scan_finds_what_stands_at_fields(store):
    odd = created("demo:T2")
    odd.value = ODD
    odd.metadata = {"attributes": {"text": {"by": "hand"}}}
    events = [created(), created("demo:P", kind="policy"), odd, created("demo:T3"), created("demo:T4")]
    gone = Event(kind="thing", id="demo:T3", action="deleted", revision=2, timestamp=2_000)
    await store.append([*events, gone])
    held = [await store.load(event.kind, event.id) for event in events]
    await store.save(held, 6)
    found = {}
    after = 0
    while after is not None:
        scanned = await store.scan(FIELDS, after, 2)
        for number, id_ in enumerate(scanned.ids):
            assert id_ not in found
            found[id_] = [values[number] for values in scanned.values]
        after = scanned.next
    assert found.keys() == {"demo:T1", "demo:T2", "demo:T4"}
    for state in (held[0], held[2], held[4]):
        value_of = lookup_in(state)
        for field, value in zip(FIELDS, found[state.id], strict=True):
            assert repr(value) == repr(list(value_of(field))), field
    times = await store.scan([("_revision",), ("_created",), ("_modified",)], 0, 1)
    assert times.values == [[[1]], [[1_001]], [[1_001]]]
    documents = await store.documents(["demo:T4", "demo:T3", "demo:P", "demo:none", "demo:T2"])
    assert {id_: json.decode(text) for id_, text in documents.items()} == {
        "demo:T4": held[4].document,
        "demo:T2": held[2].document,
    }
    assert await store.documents([]) == {}
    path = ("attributes", "n")
    await store.append(
        [Event(kind="thing", id="demo:T4", action="created", revision=2, timestamp=3_000, path=path, value=7)]
    )
    documents = await store.documents(["demo:T2", "demo:T4"])
    assert documents.pop("demo:T2")
    assert all(json.decode(text)["attributes"]["n"] == 7 for text in documents.values())
    await store.save([await store.load("thing", "demo:T4")], 7)
    assert json.decode((await store.documents(["demo:T4"]))["demo:T4"])["attributes"]["n"] == 7
    assert json.decode((await store.texts("policy", 0, 10)).documents[0]) == {"policyId": "demo:P", "entries": {}}
