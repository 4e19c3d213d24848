"""The search index: nothing lags, nobody learns what he may not read, pages are stable, memory is bounded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from registry_door import serving
from skerry.rql.parse import parse
from skerry.signals import Command
from skerry_registry.ports import StoreUnavailable
from skerry_registry.registry import Registry
from skerry_registry.search.columns import PLACE, Columns
from skerry_registry.search.query import (
    AggregateTooLarge,
    Group,
    IndexUnavailable,
    Metric,
    QueryTimeExceeded,
    SearchMemoryTaken,
    Sort,
)
from skerry_registry.search.search import Search
from skerry_registry.search.slots import Slots
from skerry_registry.stores.memory import MemoryStore
from skerry_registry.stores.sqlite import SqliteStore

ADMIN, BOB = ("x:admin",), ("x:bob",)
ALL = {"grant": ["READ", "WRITE"], "revoke": []}
READ = {"grant": ["READ"], "revoke": []}
POWER = ("features", "scada", "properties", "power")


def policy(bob: dict | None = None, **more) -> dict:
    entries = {"admin": {"subjects": {"x:admin": {"type": "t"}}, "resources": {"thing:/": ALL, "policy:/": ALL}}}
    if bob is not None:
        entries["bob"] = {"subjects": {"x:bob": {"type": "t"}}, "resources": bob, **more}
    return {"entries": entries}


async def write(
    registry: Registry, id_: str, value: object, *path: str, verb: str = "modify", kind: str = "thing"
) -> None:
    answer = (
        await registry.handle_all([Command(verb=verb, kind=kind, id=id_, path=path, value=value, subjects=ADMIN)])
    )[0]
    assert not isinstance(answer, Exception), answer


async def found(search: Search, text: str | None, subjects: tuple[str, ...] = ADMIN, **more) -> list[str]:
    predicate = None if text is None else parse(text, 1_000_000)
    ids = (await search.find(subjects, predicate, **more)).ids
    assert await search.count(subjects, predicate) == len(ids) or more
    return ids


@asynccontextmanager
async def searching(things: dict[str, dict], store=None, **settings) -> AsyncIterator[tuple[Registry, Search]]:
    store = store or MemoryStore()
    async with serving(store, **settings) as registry:
        await write(registry, "a:P", policy(), kind="policy")
        for id_, value in things.items():
            await write(registry, id_, {"policyId": "a:P", **value})
        async with Search(registry, store) as search:
            yield registry, search


def turbine(power: float, **attributes) -> dict:
    return {"attributes": attributes, "features": {"scada": {"properties": {"power": power}}}}


async def test_what_was_acknowledged_is_found_by_the_next_search():
    async with searching({"a:T1": turbine(1.0, farm="north")}) as (registry, search):
        assert await found(search, 'eq(attributes/farm,"north")') == ["a:T1"]
        await write(registry, "a:T2", {"policyId": "a:P", **turbine(5.0, farm="north")})
        assert await found(search, 'eq(attributes/farm,"north")') == ["a:T1", "a:T2"]
        await write(registry, "a:T1", "south", "attributes", "farm")
        assert await found(search, 'eq(attributes/farm,"north")') == ["a:T2"]
        await write(registry, "a:T2", {"properties": {"power": 7.5}}, "features", "scada", verb="merge")
        assert await found(search, "gt(features/scada/properties/power,7)") == ["a:T2"]
        await write(registry, "a:T2", None, "attributes", verb="delete")
        assert await found(search, "exists(attributes/farm)") == ["a:T1"]
        await write(registry, "a:T1", None, verb="delete")
        assert await found(search, None) == ["a:T2"]
        assert await found(search, 'eq(thingId,"a:T1")') == []


async def test_a_policy_change_is_seen_by_the_next_search():
    async with searching({"a:T1": turbine(1.0, farm="north")}) as (registry, search):
        question = 'eq(attributes/farm,"north")'
        assert await found(search, question, BOB) == []
        await write(registry, "a:P", policy({"thing:/": READ}), kind="policy")
        assert await found(search, question, BOB) == ["a:T1"]
        await write(registry, "a:P", policy({"thing:/features": READ}), kind="policy")
        assert await found(search, question, BOB) == []
        assert await found(search, None, BOB) == ["a:T1"]
        await write(registry, "a:Q", policy({"thing:/": READ}), kind="policy")
        await write(registry, "a:T1", "a:Q", "policyId")
        assert await found(search, question, BOB) == ["a:T1"]


async def test_what_a_policy_imports_counts_and_its_changes_too():
    async with searching({"a:T1": turbine(1.0, farm="north")}) as (registry, search):
        await write(registry, "a:Shared", policy(), kind="policy")
        await write(registry, "a:P", {**policy(), "imports": {"a:Shared": {}}}, kind="policy")
        assert await found(search, "exists(attributes/farm)", BOB) == []
        await write(registry, "a:Shared", policy({"thing:/": READ}, importable="implicit"), kind="policy")
        assert await found(search, "exists(attributes/farm)", BOB) == ["a:T1"]
        await write(registry, "a:Shared", policy(), kind="policy")
        assert await found(search, "exists(attributes/farm)", BOB) == []


async def test_entries_of_a_namespace_count_for_things_of_that_namespace_only():
    async with searching({"a:T1": turbine(1.0), "b:T1": turbine(1.0)}) as (registry, search):
        await write(registry, "a:P", policy({"thing:/": READ}, namespaces=["b"]), kind="policy")
        assert await found(search, None, BOB) == ["b:T1"]


async def test_what_may_not_be_read_neither_matches_nor_fails_nor_orders():
    things = {
        "a:T1": turbine(3.0, secret=1, open=1),
        "a:T2": turbine(2.0, secret=2, open=1),
        "a:T3": turbine(1.0, open=1),
    }
    async with searching(things) as (registry, search):
        await write(
            registry,
            "a:P",
            policy({"thing:/": READ, "thing:/attributes/secret": {"grant": [], "revoke": ["READ"]}}),
            kind="policy",
        )
        for hidden in (
            "eq(attributes/secret,1)",
            "gt(attributes/secret,0)",
            "ne(attributes/secret,1)",
            "exists(attributes/secret)",
            "not(empty(attributes/secret))",
            "in(attributes/secret,1,2)",
            'and(eq(attributes/open,1),like(attributes/secret,"*"))',
        ):
            assert await found(search, hidden, BOB) == [], hidden
        for absent in (
            "not(eq(attributes/secret,1))",
            "not(ne(attributes/secret,1))",
            "not(exists(attributes/secret))",
            "empty(attributes/secret)",
            "and(eq(attributes/open,1),not(in(attributes/secret,1)))",
        ):
            assert await found(search, absent, BOB) == sorted(things), absent
        assert await found(search, "or(eq(attributes/secret,1),eq(attributes/open,1))", BOB) == sorted(things)
        assert await found(search, "not(and(eq(attributes/secret,1),eq(attributes/open,2)))", BOB) == sorted(things)
        by_secret = [Sort(("attributes", "secret"), descending=True)]
        assert await found(search, None, BOB, sort=by_secret) == sorted(things)
        assert await found(search, None, ADMIN, sort=by_secret) == ["a:T2", "a:T1", "a:T3"]
        assert await search.aggregate(BOB, by=[("attributes", "secret")], metrics=[Metric("n", "count")]) == [
            Group((None,), {"n": 3})
        ]
        figures = [Metric("sum", "sum", ("attributes", "secret")), Metric("n", "count", ("attributes", "secret"))]
        assert await search.aggregate(BOB, metrics=figures) == [Group((), {"sum": None, "n": 0})]
        assert await search.aggregate(ADMIN, metrics=figures) == [Group((), {"sum": 3.0, "n": 2})]


async def test_any_feature_means_any_that_may_be_read():
    both = {"features": {"open": {"properties": {"x": 1}}, "shut": {"properties": {"x": 2}}}}
    async with searching({"a:T1": both}) as (registry, search):
        await write(registry, "a:P", policy({"thing:/features/open": READ}), kind="policy")
        assert await found(search, "eq(features/*/properties/x,1)", BOB) == ["a:T1"]
        assert await found(search, "eq(features/*/properties/x,2)", BOB) == []
        assert await found(search, "not(eq(features/*/properties/x,2))", BOB) == ["a:T1"]
        assert await found(search, "not(eq(features/*/properties/x,1))", BOB) == []
        assert await found(search, "and(empty(features/shut),not(empty(features/open)))", BOB) == ["a:T1"]
        assert await found(search, "eq(features/*/properties/x,2)", ADMIN) == ["a:T1"]


async def test_pages_go_on_behind_the_last_thing_whatever_changes_meanwhile():
    things = {f"a:T{n:02d}": turbine(float(n % 5)) for n in range(20)}
    async with searching(things) as (registry, search):
        sort = [Sort(POWER, descending=True)]
        page = await search.find(ADMIN, sort=sort, size=7)
        assert page.ids == ["a:T04", "a:T09", "a:T14", "a:T19", "a:T03", "a:T08", "a:T13"]
        await write(registry, "a:T13", None, verb="delete")
        await write(registry, "a:T04", {"properties": {"power": 0.5}}, "features", "scada", verb="merge")
        page = await search.find(ADMIN, sort=sort, size=7, after=page.next)
        assert page.ids == ["a:T18", "a:T02", "a:T07", "a:T12", "a:T17", "a:T01", "a:T06"]
        assert (await search.find(ADMIN, sort=sort, size=7, skip=18)).ids == ["a:T15"]


async def test_figures_are_told_by_group():
    things = {f"a:T{n}": turbine(float(n), farm="north" if n < 4 else "south") for n in range(1, 7)}
    async with searching({**things, "b:X": {}}) as (_, search):
        metrics = [
            Metric("things", "count"),
            Metric("powered", "count", POWER),
            *(Metric(name, name, POWER) for name in ("min", "max", "avg", "sum")),
            Metric("p50", "percentile", POWER),
        ]
        groups = await search.aggregate(ADMIN, by=[("attributes", "farm")], metrics=metrics)
        nothing = {"things": 1, "powered": 0, "min": None, "max": None, "avg": None, "sum": None, "p50": None}
        north = {"things": 3, "powered": 3, "min": 1.0, "max": 3.0, "avg": 2.0, "sum": 6.0, "p50": 2.0}
        south = {"things": 3, "powered": 3, "min": 4.0, "max": 6.0, "avg": 5.0, "sum": 15.0, "p50": 5.0}
        assert groups == [Group((None,), nothing), Group(("north",), north), Group(("south",), south)]
        count = [Metric("n", "count")]
        assert await search.aggregate(ADMIN, by=[("_namespace",)], metrics=count) == [
            Group(("a",), {"n": 6}),
            Group(("b",), {"n": 1}),
        ]
        assert await search.aggregate(ADMIN, parse('eq(thingId,"x:y")', 0), metrics=count) == [Group((), {"n": 0})]
        with pytest.raises(AggregateTooLarge):
            await search.aggregate(ADMIN, by=[("thingId",)], metrics=count, limit=3)


async def test_times_compare_as_instants():
    async with searching({"a:T1": {}}) as (_, search):
        assert await found(search, 'gt(_modified,"1970-01-01T00:00:00Z")') == ["a:T1"]
        assert await found(search, 'lt(_created,"1970-01-01T01:00:01+01:00")') == []
        assert await found(search, 'lt(_created,"1970-01-01T01:00:02+01:00")') == ["a:T1"]
        assert await found(search, 'like(_created,"1970-*")') == ["a:T1"]


async def test_what_changes_while_a_column_is_read_is_not_overwritten(tmp_path):
    things = {f"a:T{n:03d}": turbine(0.0, old=True) for n in range(300)}
    async with searching(things, SqliteStore(tmp_path / "data"), snapshot_seconds=0.01) as (registry, search):
        await search.ready()

        async def change() -> None:
            for n in range(300):
                await write(registry, f"a:T{n:03d}", 1.0, *POWER)

        changing = asyncio.create_task(change())
        while not changing.done():
            ids = await found(search, "eq(features/scada/properties/power,1.0)", size=300)
            assert ids == sorted(things)[: len(ids)]
            search.index.columns.shed(0)
        await changing
        assert len(await found(search, "eq(features/scada/properties/power,1.0)", size=300)) == 300


async def test_columns_that_were_not_asked_for_lately_are_given_up():
    things = {f"a:T{n}": {"attributes": {f"x{n}": n}} for n in range(5)}
    async with searching(things) as (_, search):
        await search.warm()
        for n in range(5):
            assert await found(search, f"eq(attributes/x{n},{n})") == [f"a:T{n}"]
        columns: Columns = search.index.columns
        columns.shed(2 * columns[("attributes", "x4")].size)
        assert {column.field[-1] for column in columns} == {"x3", "x4"}
        assert await found(search, "eq(attributes/x0,0)") == ["a:T0"]


async def test_what_devices_report_is_found_whatever_it_replaces_and_whatever_was_reported_before():
    things = {f"a:T{number}": {"features": {"scada": {"properties": {"power": 0}}}} for number in range(3)}
    async with searching(things) as (registry, search):

        async def report(**properties: object) -> None:
            await write(registry, "a:T1", {"properties": properties}, "features", "scada", verb="merge")

        assert await found(search, "eq(features/scada/properties/wind,1)") == []
        await report(power=5, wind=1)
        assert await found(search, "gt(features/scada/properties/power,4)") == ["a:T1"]
        await report(power=6, wind=2)
        assert await found(search, "and(eq(features/scada/properties/power,6),eq(features/scada/properties/wind,2))")
        assert await found(search, "eq(features/*/properties/power,6)") == ["a:T1"]
        await report(power=7, wind={"speed": 1})
        assert await found(search, "eq(features/*/properties/power,7)") == ["a:T1"]
        assert await found(search, "eq(features/scada/properties/wind/speed,1)") == ["a:T1"]
        await report(power=[8, 9], wind=3)
        assert await found(search, "eq(features/scada/properties/power,9)") == ["a:T1"]
        assert await found(search, "exists(features/scada/properties/wind/speed)") == []
        await report(power=None, wind="strong")
        assert await found(search, "exists(features/scada/properties/power)") == ["a:T0", "a:T2"]
        assert await found(search, 'eq(features/scada/properties/wind,"strong")') == ["a:T1"]


async def test_fields_asked_for_are_ready_after_a_restart(tmp_path):
    store, memory = MemoryStore(), tmp_path / "fields.json"
    async with serving(store) as registry:
        await write(registry, "a:P", policy(), kind="policy")
        await write(registry, "a:T1", {"policyId": "a:P", **turbine(1.0)})
        async with Search(registry, store, memory=memory) as search:
            await found(search, "gt(features/scada/properties/power,0)")
        async with Search(registry, store, memory=memory) as search:
            await search.warm()
            assert POWER in {column.field for column in search.index.columns}


async def test_a_search_is_given_up_in_time():
    store = MemoryStore()
    async with serving(store) as registry, Search(registry, store, seconds=0.0) as search:
        with pytest.raises(QueryTimeExceeded):
            await search.find(ADMIN, parse("eq(attributes/x,1)", 0))


def test_ids_keep_their_order_however_they_come():
    slots = Slots(lambda _: None)
    slots.fill(["a:1", "a:2", "b:1"])
    for n in range(3_000):
        slots.add(f"a:1{n:05d}")
    for n in range(3_000, 0, -1):
        slots.add(f"a:0{n:05d}")
    slots.drop("a:2")
    ids = sorted(slots.of)
    assert sorted(ids, key=lambda id_: slots.rank[slots.of[id_]]) == ids


async def test_equality_asked_often_is_answered_without_looking_at_every_thing_and_still_lags_behind_nothing():
    things = {f"a:T{n:02d}": {"attributes": {"farm": f"f{n % 10}", "n": n % 5}} for n in range(50)}
    async with searching(things) as (registry, search):
        await search.warm()
        column = search.index.columns[("attributes", "farm")]
        tasks = len(asyncio.all_tasks())
        for _ in range(40):
            assert len(await found(search, 'eq(attributes/farm,"f3")')) == 5
            assert len(await found(search, "eq(attributes/n,3)")) == 10
        assert len(asyncio.all_tasks()) <= tasks + 2
        async with asyncio.timeout(5):
            while column.places_of(parse('eq(attributes/farm,"f3")', 0)) is None:  # noqa: ASYNC110 - the thread tells nobody but the column
                await asyncio.sleep(0)
        await write(registry, "a:T03", "f4", "attributes", "farm")
        await write(registry, "a:T04", "f3", "attributes", "farm")
        await write(registry, "a:T60", {"policyId": "a:P", "attributes": {"farm": "f3", "n": 3}})
        await write(registry, "a:T13", None, verb="delete")
        assert await found(search, 'eq(attributes/farm,"f3")') == ["a:T04", "a:T23", "a:T33", "a:T43", "a:T60"]
        assert await found(search, 'and(eq(attributes/farm,"f3"),eq(attributes/n,3))') == [
            "a:T23",
            "a:T33",
            "a:T43",
            "a:T60",
        ]
        assert await found(search, 'eq(attributes/farm,"f4")') == ["a:T03", "a:T14", "a:T24", "a:T34", "a:T44"]


@pytest.mark.parametrize("paths", [1, 20], ids=["by columns", "by documents"])
async def test_a_thing_is_listed_where_something_that_exists_may_be_read(paths: int):
    things = {"a:T1": {"attributes": {"x": {"y": 1}}}, "a:T2": {"attributes": {"z": 1}}, "a:T3": {}}
    async with searching(things) as (registry, search):
        more = {f"thing:/attributes/other{n}": READ for n in range(paths - 1)}
        await write(registry, "a:P", policy({"thing:/attributes/x": READ, **more}), kind="policy")
        assert await found(search, None, BOB) == ["a:T1"]
        assert await found(search, "not(exists(attributes/z))", BOB) == ["a:T1"]
        await write(registry, "a:T3", 5, "attributes", "x")
        await write(registry, "a:T1", None, "attributes", "x", verb="delete")
        assert await found(search, None, BOB) == ["a:T3"]
        assert await search.aggregate(BOB, metrics=[Metric("n", "count")]) == [Group((), {"n": 1})]
        assert await found(search, None, ADMIN) == sorted(things)
        await write(registry, "a:P", policy({"thing:/policyId": READ, **more}), kind="policy")
        assert await found(search, None, BOB) == sorted(things)
        await write(registry, "a:P", policy({"thing:/nowhere": READ}), kind="policy")
        assert await found(search, None, BOB) == []


async def test_revision_and_times_in_filters_need_a_right_of_their_own():
    async with searching({"a:T1": {"attributes": {"x": 1}}}) as (registry, search):
        await write(registry, "a:P", policy({"thing:/attributes": READ}), kind="policy")
        asked = ["gt(_revision,0)", 'gt(_modified,"1970-01-01T00:00:00Z")', 'gt(_created,"1970-01-01T00:00:00Z")']
        for question in asked:
            assert await found(search, question, BOB) == []
            assert await found(search, f"not({question})", BOB) == ["a:T1"]
            assert await found(search, question) == ["a:T1"]
        await write(registry, "a:P", policy({"thing:/_revision": READ}), kind="policy")
        assert await found(search, asked[0], BOB) == ["a:T1"]
        assert await found(search, asked[1], BOB) == []
        await write(registry, "a:P", policy({"thing:/": READ}), kind="policy")
        for question in asked:
            assert await found(search, question, BOB) == ["a:T1"]


async def test_a_search_for_whose_fields_there_is_no_room_beside_others_is_put_off():
    async with searching({"a:T1": turbine(1.0, a=1, b=2, c=3)}) as (registry, search):
        await search.warm()
        store, slots = MemoryStore(), search.index.slots
        columns = Columns(slots, store, registry.memory.unsaved, bytes_max=2 * PLACE * slots.capacity)
        held = await columns.pin([("attributes", "a"), ("attributes", "b")])
        with pytest.raises(SearchMemoryTaken) as refused:
            await columns.pin([("attributes", "c")])
        assert refused.value.status == 503
        assert refused.value.headers == {"retry-after": "2"}
        columns.unpin(held)
        columns.unpin(await columns.pin([("attributes", "c")]))
        assert sorted(column.field[-1] for column in columns) in (["a", "c"], ["b", "c"])
        with pytest.raises(SearchMemoryTaken):
            await columns.pin([("attributes", name) for name in "abc"])


async def test_texts_that_take_more_than_there_is_end_the_reading_of_a_column():
    things = {f"a:T{n}": {"attributes": {"text": f"{n}" * 1_000}} for n in range(10, 40)}
    store = MemoryStore()
    async with searching(things, store) as (registry, search):
        await search.ready()
        slots = search.index.slots
        columns = Columns(slots, store, registry.memory.unsaved, bytes_max=2 * PLACE * slots.capacity)
        with pytest.raises(SearchMemoryTaken):
            await columns.pin([("attributes", "text")])
        assert not list(columns)


class Away(MemoryStore):
    """A store that is away at first when policies are read; `asked` counts how often."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.is_away = True

    async def texts(self, kind, after, limit):
        self.asked += 1
        if self.is_away:
            raise StoreUnavailable(reason="the disk is away.")
        return await super().texts(kind, after, limit)


async def answers(search: Search) -> bool:
    try:
        await search.find(ADMIN)
    except IndexUnavailable:
        return False
    return True


async def test_searches_work_again_when_the_store_is_back():
    store = Away()
    async with searching({"a:T1": turbine(1.0, farm="north")}, store) as (registry, search):
        for _ in range(2):
            with pytest.raises(IndexUnavailable) as refused:
                await search.find(ADMIN)
            assert refused.value.text == "Things cannot be searched yet: the disk is away."
            assert refused.value.headers == {"retry-after": "2"}
        await write(registry, "a:T2", {"policyId": "a:P", **turbine(5.0, farm="north")})
        store.is_away = False
        async with asyncio.timeout(10):
            while not await answers(search):  # noqa: ASYNC110 - the store does not tell when it is asked
                await asyncio.sleep(0.01)
        assert await found(search, 'eq(attributes/farm,"north")') == ["a:T1", "a:T2"]
        assert store.asked >= 2


async def test_rights_are_right_however_many_policies_come_and_go():
    async with searching({"a:T1": turbine(1.0), "a:T2": turbine(2.0)}) as (registry, search):
        await write(registry, "a:Q", policy({"thing:/": READ}), kind="policy")
        await write(registry, "a:T2", "a:Q", "policyId")
        epoch = search.index.guards.epoch
        for round_ in range(2):
            for n in range(1_500):
                entries = policy({f"thing:/attributes/{round_}x{n}": READ})
                await write(registry, f"a:R{n}", entries, kind="policy")
                if not n % 100:
                    assert await found(search, None, BOB) == ["a:T2"]
            for n in range(1_500):
                await write(registry, f"a:R{n}", None, kind="policy", verb="delete")
            assert await found(search, None, BOB) == ["a:T2"]
            assert await found(search, None, ADMIN) == ["a:T1", "a:T2"]
        assert search.index.guards.epoch > epoch
