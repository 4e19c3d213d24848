"""Changes as they are told to subscribers: to whom, what of them, and in which order."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager

from msgspec import UNSET

from listening import Listener
from registry_door import ANNE, BOB, T1, SlowStore, delete, entry, merge, put, put_policy, serving, telemetry
from skerry import fields
from skerry_registry.identities.caller import Caller
from skerry_registry.identities.namespaces import NamespaceRule, NamespaceRules
from skerry_registry.live.acks import Acks
from skerry_registry.live.changes import Changes, Wanted
from skerry_registry.live.event_filter import parse
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore

OWNER = entry("nginx:anne", thing={"/": "RW"}, policy={"/": "RW"})
P1 = "demo:p1"


@asynccontextmanager
async def told(store=None, **settings):
    async with serving(store, **settings) as registry:
        yield registry, Changes(registry, Acks())


def wanted(text="", subjects=ANNE, **more):
    extra = more.pop("extra", None)
    return Wanted(
        subjects=subjects,
        filter=parse(text, 0) if text else None,
        extra=fields.parse(extra) if extra else None,
        **more,
    )


async def make(registry, *bobs: str, value=None):
    """A thing of Anne's under a policy that lets Bob read some resources."""
    entries = {"owner": OWNER}
    if bobs:
        entries["bob"] = entry("nginx:bob", thing=dict.fromkeys(bobs, "R"))
    await registry.handle(put_policy(P1, entries))
    await registry.handle(put({"policyId": P1, **(value or {})}))


async def test_a_subscriber_is_told_each_change_with_its_number():
    async with told() as (registry, changes):
        anne = Listener()
        leave = changes.subscribe(Wanted(subjects=ANNE), anne.take)
        await registry.handle(put({"attributes": {"a": 1}}))
        await registry.handle(put(2, "attributes", "a"))
        leave()
        leave()
        await registry.handle(put(3, "attributes", "a"))
        first, second = anne.envelopes
        assert first["topic"] == "demo/T1/things/twin/events/created"
        assert first["headers"]["skerry-number"] == 2
        assert second["topic"] == "demo/T1/things/twin/events/modified"
        assert second["path"] == "/attributes/a"
        assert second["value"] == 2
        assert second["revision"] == 2
        assert second["headers"] == {
            "content-type": "application/json",
            "ditto-originator": "nginx:anne",
            "entity-revision": 2,
            "requested-acks": [],
            "response-required": False,
            "skerry-number": 3,
        }


async def test_values_are_filtered_leaf_by_leaf_and_what_is_hidden_is_not_spoken_of():
    async with told() as (registry, changes):
        bob = Listener()
        changes.subscribe(Wanted(subjects=BOB), bob.take)
        await make(
            registry,
            "/attributes/a",
            "/features/f/properties/x",
            value={"attributes": {"a": 1, "b": 2}, "features": {"f": {"properties": {"x": 1, "y": 1}}}},
        )
        seen = {"thingId": T1, "attributes": {"a": 1}, "features": {"f": {"properties": {"x": 1}}}}
        assert bob.changes == [("created", "/", seen)]
        await registry.handle(put(5, "attributes", "b"))
        await registry.handle(put(5, "features", "f", "properties", "x"))
        await registry.handle(put({"properties": {"y": 3}}, "features", "f"))
        await registry.handle(put({"a": 7, "b": 8}, "attributes"))
        assert bob.changes == [
            ("modified", "/features/f/properties/x", 5),
            ("modified", "/attributes", {"a": 7}),
        ]
        await registry.handle(delete("attributes", "b"))
        await registry.handle(merge({"b": None, "a": None}, "attributes"))
        await registry.handle(merge({"y": None}, "features", "f", "properties"))
        await registry.handle(merge({"f": None}, "features"))
        await registry.handle(put({"a": 1}, "attributes"))
        await registry.handle(delete("attributes"))
        await registry.handle(delete())
        assert bob.changes == [
            ("merged", "/attributes", {"a": None}),
            ("merged", "/features", {"f": None}),
            ("modified", "/attributes", {"a": 1}),
            ("deleted", "/attributes"),
            ("deleted", "/"),
        ]


async def test_a_key_pattern_that_deletes_is_told_as_the_readable_keys_that_it_matches():
    async with told() as (registry, changes):
        anne, bob = Listener(), Listener()
        changes.subscribe(Wanted(subjects=ANNE), anne.take)
        changes.subscribe(Wanted(subjects=BOB), bob.take)
        await make(registry, "/attributes/x1", "/attributes/y", value={"attributes": {"x1": 1, "x2": 2, "y": 3}})
        anne.told, bob.told = [], []
        await registry.handle(merge({"{{ ~x.*~ }}": None}, "attributes"))
        assert anne.changes == [("merged", "/attributes", {"{{ ~x.*~ }}": None})]
        assert bob.changes == [("merged", "/attributes", {"x1": None})]


async def test_metadata_are_an_extra_field_and_those_of_what_is_hidden_are_not_told():
    async with told() as (registry, changes):
        anne, bob = Listener(), Listener()
        changes.subscribe(wanted(extra="_metadata"), anne.take)
        changes.subscribe(wanted(subjects=BOB, extra="_metadata"), bob.take)
        await make(registry, "/attributes/a", "/_metadata", value={"attributes": {"a": 1, "b": 2}})
        anne.told, bob.told = [], []
        by = {"put-metadata": '[{"key": "*/by", "value": "anne"}]'}
        await registry.handle(put({"a": 3, "b": 3}, "attributes", headers=by))
        both = {"a": {"by": "anne"}, "b": {"by": "anne"}}
        assert anne.envelopes[0]["extra"] == {"_metadata": {"attributes": both}}
        assert bob.envelopes[0]["extra"] == {"_metadata": {"attributes": {"a": {"by": "anne"}}}}
        assert all("metadata" not in one.envelopes[0] for one in (anne, bob))
        assert bob.told[0].event.metadata is UNSET


async def test_a_session_is_not_told_what_it_has_caused_itself():
    async with told() as (registry, changes):
        mine, other = Listener(), Listener()
        changes.subscribe(Wanted(subjects=ANNE), mine.take, session="ws 1")
        changes.subscribe(Wanted(subjects=ANNE), other.take, session="ws 2")
        await registry.handle(put({}, origin="ws 1"))
        await registry.handle(put({}, "attributes", origin="ws 2"))
        await registry.handle(put(1, "attributes", "a"))
        assert mine.numbers == [3, 4]
        assert other.numbers == [2, 4]


async def test_rights_count_as_they_are_when_a_change_is_told():
    async with told() as (registry, changes):
        bob = Listener()
        changes.subscribe(Wanted(subjects=BOB), bob.take)
        await make(registry)
        await registry.handle(put(1, "attributes", "a"))
        assert bob.changes == []
        bobs = entry("nginx:bob", thing={"/attributes": "R"})
        await registry.handle(put_policy(P1, {"owner": OWNER, "bob": bobs}))
        await registry.handle(put(2, "attributes", "a"))
        assert bob.changes == [("modified", "/attributes/a", 2)]
        await registry.handle(put_policy(P1, {"owner": OWNER}))
        await registry.handle(put(3, "attributes", "a"))
        assert bob.changes == []


async def test_rights_that_come_from_an_imported_policy_follow_it():
    async with told() as (registry, changes):
        bob = Listener()
        changes.subscribe(Wanted(subjects=BOB), bob.take)
        bobs = entry("nginx:bob", thing={"/": "R"})
        await registry.handle(put_policy("demo:fleet", {"owner": OWNER, "bob": {**bobs, "importable": "implicit"}}))
        whole = put_policy(P1, {"owner": OWNER})
        whole.value["imports"] = {"demo:fleet": {}}
        await registry.handle(whole)
        await registry.handle(put({"policyId": P1}))
        await registry.handle(put_policy("demo:fleet", {"owner": OWNER}))
        await registry.handle(put(3, "attributes", "a"))
        assert bob.changes == [("created", "/", {"thingId": T1, "policyId": P1})]


async def test_a_subject_that_expires_is_told_nothing_more():
    now = [1]
    async with Registry(MemoryStore(), lambda: now[0], str) as registry:
        changes, bob = Changes(registry, Acks()), Listener()
        changes.subscribe(Wanted(subjects=BOB), bob.take)
        bobs = entry("nginx:bob", thing={"/": "R"})
        bobs["subjects"]["nginx:bob"]["expiry"] = "1970-01-01T01:00:00Z"
        await registry.handle(put_policy(P1, {"owner": OWNER, "bob": bobs}))
        await registry.handle(put({"policyId": P1}))
        assert len(bob.changes) == 1
        now[0] = 3_600_000_000
        await registry.handle(put(3, "attributes", "a"))
        assert bob.changes == []


async def test_namespaces_ids_paths_and_the_operators_reach_narrow_what_is_told():
    async with told() as (registry, changes):
        rules = NamespaceRules([NamespaceRule(blocked_namespaces=("demo.closed",))], lambda: 0)
        listeners = {
            "all": wanted(),
            "namespace": wanted(namespaces=frozenset({"demo.x"})),
            "id": wanted(ids=frozenset({T1, "demo.x:T3"})),
            "path": wanted(path=("attributes", "a", "b")),
            "reach": wanted(reach=rules.reach(Caller("anne", ANNE), lambda _: None)),
        }
        found = {name: Listener() for name in listeners}
        for name, one in listeners.items():
            changes.subscribe(one, found[name].take)
        for thing in (T1, "demo:T2", "demo.x:T3", "demo.closed:T4"):
            await registry.handle(put({}, thing=thing))
        await registry.handle(put({"a": {"b": 1}, "c": 2}, "attributes"))
        await registry.handle(put(3, "attributes", "c"))
        await registry.handle(merge({"c": 4}, "attributes"))
        await registry.handle(merge({"a": {"b": 2}}, "attributes"))
        await registry.handle(put(3, "attributes", "a", "b"))
        numbers = {name: one.numbers for name, one in found.items()}
        assert numbers["all"] == [2, 4, 6, 8, 9, 10, 11, 12, 13]
        assert numbers["namespace"] == [6]
        assert numbers["id"] == [2, 6, 9, 10, 11, 12, 13]
        assert numbers["path"] == [2, 4, 6, 8, 9, 12, 13]
        assert numbers["reach"] == [2, 4, 6, 9, 10, 11, 12, 13]


async def test_extra_fields_show_the_thing_as_it_is_after_the_change_and_no_more_than_may_be_read():
    async with told() as (registry, changes):
        anne, bob = Listener(), Listener()
        extra = "thingId,_revision,attributes,features/{{ feature:id }}/properties/unit,features/*/definition"
        changes.subscribe(wanted(extra=extra), anne.take)
        changes.subscribe(wanted(subjects=BOB, extra=extra), bob.take)
        unit = {"properties": {"unit": "kW", "v": 1}}
        thing = {"attributes": {"a": 1, "b": 2}, "features": {"f": unit, "g": unit}}
        await make(registry, "/attributes/a", "/features/f/properties/v", value=thing)
        await registry.handle(put(2, "features", "f", "properties", "v"))
        await registry.handle(put(5, "attributes", "a"))
        await registry.handle(delete())
        shown = [one.get("extra") for one in anne.envelopes]
        units = {"properties": {"unit": "kW"}}
        assert shown == [
            {"thingId": T1, "_revision": 1, "attributes": {"a": 1, "b": 2}, "features": {"f": units, "g": units}},
            {"thingId": T1, "_revision": 2, "attributes": {"a": 1, "b": 2}, "features": {"f": units}},
            {"thingId": T1, "_revision": 3, "attributes": {"a": 5, "b": 2}},
            {"thingId": T1, "_revision": 4, "attributes": {"a": 5, "b": 2}},
        ]
        assert [one.get("extra") for one in bob.envelopes] == [
            {"thingId": T1, "_revision": 1, "attributes": {"a": 1}},
            {"thingId": T1, "_revision": 2, "attributes": {"a": 1}},
            {"thingId": T1, "_revision": 3, "attributes": {"a": 5}},
            {"thingId": T1, "_revision": 4, "attributes": {"a": 5}},
        ]
        again, _ = await changes.read(wanted(subjects=BOB, extra=extra), 0, 10)
        assert again[-1].envelope() == bob.told[-1].envelope()
        gone = wanted('and(eq(topic:action,"deleted"),eq(attributes/a,5))', extra="attributes/a")
        assert [one.number for one in (await changes.read(gone, 0, 10))[0]] == [5]


async def test_a_filter_sees_what_its_reader_sees():
    async with told() as (registry, changes):
        anne, bob = Listener(), Listener()
        loud = 'and(gt(attributes/power,10),eq(attributes/site,"north"))'
        changes.subscribe(wanted(loud, extra="attributes/site"), anne.take)
        changes.subscribe(wanted(loud, subjects=BOB, extra="attributes/site"), bob.take)
        await make(registry, "/attributes/power", value={"attributes": {"site": "north", "power": 1}})
        await registry.handle(put(20, "attributes", "power"))
        await registry.handle(put(5, "attributes", "power"))
        await registry.handle(put("south", "attributes", "site"))
        await registry.handle(put(20, "attributes", "power"))
        assert anne.changes == [("modified", "/attributes/power", 20)]
        assert bob.changes == []


async def test_predicates_that_differ_in_the_type_of_a_value_only_are_different():
    async with told() as (registry, changes):
        one, true = Listener(), Listener()
        changes.subscribe(wanted("eq(attributes/a,1)"), one.take)
        changes.subscribe(wanted("eq(attributes/a,true)"), true.take)
        await registry.handle(put({"attributes": {"a": True}}))
        await registry.handle(put(1, "attributes", "a"))
        assert one.numbers == [3]
        assert true.numbers == [2]


async def test_equal_views_share_their_bytes():
    async with told() as (registry, changes):
        listeners = [Listener() for _ in range(3)]
        for listener in listeners:
            changes.subscribe(wanted(), listener.take)
        carol = Listener()
        changes.subscribe(wanted(subjects=("nginx:carol", "nginx:anne")), carol.take)
        await registry.handle(put({}))
        assert len({id(listener.told[0].text) for listener in (*listeners, carol)}) == 1


async def test_values_that_came_too_late_for_the_twin_are_no_changes():
    async with told() as (registry, changes):
        anne = Listener()
        await registry.handle(put({}))
        changes.subscribe(wanted(), anne.take)
        await registry.handle(telemetry(2_000, 1, power=2, wind=2))
        await registry.handle(telemetry(1_000, 2, power=1))
        await registry.handle(telemetry(1_500, 3, power=1, gust=3))
        assert anne.changes == [
            ("merged", "/features/scada", {"properties": {"power": 2, "wind": 2}}),
            ("merged", "/features/scada", {"properties": {"gust": 3}}),
        ]


async def test_the_end_of_a_thing_is_told_by_the_policy_that_it_had_though_nobody_says_where_from():
    async with told() as (registry, changes):
        bob = Listener()
        await make(registry, "/attributes")
        changes.subscribe(wanted(subjects=BOB), bob.take)
        await registry.handle(delete())
        assert bob.changes == [("deleted", "/")]


async def test_who_leaves_while_he_is_told_is_told_no_more_and_nobody_else_misses_anything():
    async with told() as (registry, changes):
        seen: list[int] = []
        other = Listener()
        leaving = []

        def once(one):
            seen.append(one.number)
            leaving[0]()

        leaving.append(changes.subscribe(wanted(), once))
        changes.subscribe(wanted(), other.take)
        await registry.handle(put({}))
        await registry.handle(put({}, "attributes"))
        assert seen == [2]
        assert other.numbers == [2, 3]


async def test_changes_wait_in_order_for_a_policy_that_is_not_in_memory():
    store = SlowStore()
    async with serving(store) as registry:
        await registry.handle(put({}))
    async with told(store, cache_things=1) as (registry, changes):
        done = asyncio.Event()
        anne = Listener()

        def take(one):
            anne.take(one)
            if len(anne.told) == 3:
                done.set()

        changes.subscribe(wanted(), take)
        store.close()
        writing = asyncio.create_task(registry.handle_all([put(number, "attributes", "a") for number in range(3)]))
        await store.entered.wait()
        for number in range(200):  # the policy, which nobody needs while the disk is busy, goes out of memory
            await registry.memory.bring("policy", [f"demo:none{number}"])
        store.loading.clear()
        store.open.set()
        await writing
        assert anne.told == []
        assert changes.told == 2
        store.loading.set()
        async with asyncio.timeout(20):
            await done.wait()
        assert anne.numbers == [3, 4, 5]
        assert changes.told == 5


async def test_a_large_commit_is_told_in_turns_and_in_order():
    async with told() as (registry, changes):
        listeners = [Listener() for _ in range(200)]
        for listener in listeners:
            changes.subscribe(wanted(), listener.take)
        await registry.handle(put({}))
        writing = asyncio.create_task(registry.handle_all([put(number, "attributes", "a") for number in range(100)]))
        turns = [0]
        async with asyncio.timeout(20):
            while len(listeners[-1].told) < 101:
                if len(listeners[0].told) not in {turns[-1], 0}:
                    turns.append(len(listeners[0].told))
                await asyncio.sleep(0)
        await writing
        assert max(later - before for before, later in itertools.pairwise(turns)) < 60
        assert listeners[0].numbers == listeners[-1].numbers == list(range(2, 103))
        assert changes.told == 102


async def test_acknowledgements_learn_whom_a_change_has_reached():
    async with serving() as registry:
        acks = Acks()
        changes = Changes(registry, acks)
        registry.on_settled(acks.settled)
        acks.declare("ws 1", ["my:label"])
        acks.declare("ws 2", ["your:label"])
        anne = Listener()
        changes.subscribe(wanted("gt(attributes/a,1)"), anne.take, session="ws 1")
        asked = {"requested-acks": "my:label,your:label", "correlation-id": "c1"}
        with acks.expecting(T1, "c1", ["my:label", "your:label"]) as waiting:
            await registry.handle(put({"attributes": {"a": 2}}, headers=asked))
            assert list(waiting.given) == ["your:label"]
        assert anne.told[0].envelope(("my:label",))["headers"]["requested-acks"] == ["my:label"]
        assert anne.envelopes[0]["headers"]["requested-acks"] == []
        with acks.expecting(T1, "c1", ["my:label"]) as waiting:
            await registry.handle(put(0, "attributes", "a", headers=asked))
            assert list(waiting.given) == ["my:label"]


async def test_many_policies_and_subscribers_that_come_and_go_leave_nothing_behind():
    async with told(MemoryStore()) as (registry, changes):
        for number in range(50):
            anne = Listener()
            leaves = [
                changes.subscribe(wanted(ids=frozenset({f"demo:N{number}"})), anne.take),
                changes.subscribe(wanted(), anne.take),
            ]
            await registry.handle(put({}, thing=f"demo:N{number}"))
            assert len(anne.told) == 2
            for leave in leaves:
                leave()
        kept = changes._audiences
        assert not kept
        assert not kept._audiences
        assert not kept._of_things
        assert not kept._resting
