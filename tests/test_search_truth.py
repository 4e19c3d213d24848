"""The index against the plain evaluator: random things, policies, changes and questions; both must say the same."""

import asyncio
import functools
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from skerry.rql.evaluate import lookup_in, matches
from skerry.rql.predicate import And, Compare, Empty, Exists, In, Not, Or
from skerry.signals import Command, Held
from skerry_policies.enforcer import compile_permits
from skerry_registry.registry import Registry
from skerry_registry.search.masks import Masks
from skerry_registry.search.query import After, Sort
from skerry_registry.search.search import Search
from skerry_registry.stores.memory import MemoryStore
from skerry_registry.stores.sqlite import SqliteStore

ADMIN, BOB = ("x:admin",), ("x:bob", "x:all")
SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, 2.5, -3, 2**60 + 1, 2**60, 1e300, "", "a", "ab", "b", "T1"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y"]), inner, max_size=2),
    max_leaves=4,
)
IDS = [f"{namespace}:T{number}" for namespace in ("a", "b") for number in range(4)]
PATHS = [
    ("attributes",),
    ("attributes", "x"),
    ("attributes", "y"),
    ("attributes", "x", "y"),
    ("attributes", "x", "x"),
    ("features",),
    ("features", "f"),
    ("features", "f", "properties"),
    ("features", "f", "properties", "x"),
    ("features", "g", "properties", "x"),
    ("features", "g", "properties", "x", "y"),
]
FIELDS = [
    *PATHS,
    ("thingId",),
    ("policyId",),
    ("definition",),
    ("_namespace",),
    ("_revision",),
    ("features", "*"),
    ("features", "*", "properties"),
    ("features", "*", "properties", "x"),
    ("features", "*", "properties", "x", "y"),
    ("_metadata", "attributes", "x", "by"),
]
POLICIES = ["a:P", "b:P", "a:Q"]


def shaped(path: tuple[str, ...], value: Any) -> Any:
    """A value that may stand at the path."""
    obj = value if isinstance(value, dict) else {"x": value}
    if path in {("attributes",), ("features", "f", "properties")} or len(path) != 2 or path[0] != "features":
        if path == ("features",):
            return {"f": {"properties": obj}, "h": {"properties": {"x": value}}}
        return obj if len(path) in {1, 3} else value
    return {"properties": obj}


CHANGES = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(IDS), st.sampled_from(PATHS), VALUES),
    st.tuples(st.just("merge"), st.sampled_from(IDS), st.sampled_from([(), *PATHS]), VALUES),
    st.tuples(st.just("delete"), st.sampled_from(IDS), st.sampled_from([(), *PATHS]), st.none()),
    st.tuples(st.just("make"), st.sampled_from(IDS), st.sampled_from(POLICIES), VALUES),
    st.tuples(st.just("policy"), st.sampled_from(POLICIES), st.integers(0, 9), st.none()),
)
RIGHTS = [
    {"thing:/": "READ"},
    {"thing:/attributes": "READ"},
    {"thing:/": "READ", "thing:/attributes/x": "-READ"},
    {"thing:/features/f": "READ"},
    {"thing:/features": "READ", "thing:/features/g/properties/x": "-READ"},
    {"thing:/attributes/x/y": "READ", "thing:/features/f/properties": "READ"},
    {},
    {"thing:/attributes/y": "READ", "thing:/_revision": "READ"},
    {"thing:/attributes": "READ", "thing:/attributes/x": "-READ", "thing:/features/g/properties/x/y": "READ"},
    {"thing:/features/*/properties": "READ", "thing:/definition": "READ"},
]
TERMS = st.one_of(
    st.builds(
        Compare,
        st.sampled_from(["eq", "ne", "gt", "ge", "lt", "le"]),
        st.sampled_from(FIELDS),
        SCALARS | st.sampled_from(IDS),
    ),
    st.builds(
        Compare,
        st.sampled_from(["like", "ilike"]),
        st.sampled_from(FIELDS),
        st.sampled_from(["*", "a*", "A?", "*T1", "a:T*"]),
    ),
    st.builds(In, st.sampled_from(FIELDS), st.lists(SCALARS | st.sampled_from(IDS), max_size=3).map(tuple)),
    st.builds(Exists, st.sampled_from(FIELDS)),
    st.builds(Empty, st.sampled_from(FIELDS)),
)
PREDICATES = st.recursive(
    TERMS,
    lambda inner: (
        st.builds(And, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(Or, st.lists(inner, min_size=1, max_size=3).map(tuple))
        | st.builds(Not, inner)
    ),
    max_leaves=4,
)
QUESTIONS = st.tuples(
    PREDICATES | st.none(),
    st.lists(st.builds(Sort, st.sampled_from(FIELDS), st.booleans()), max_size=2),
    st.sampled_from([None, ["a"], ["b", "c"]]),
)


def policy(number: int) -> dict[str, Any]:
    """A policy under which the admin may all, and Bob something."""
    resources = {
        key: {"grant": [], "revoke": ["READ"]} if right[0] == "-" else {"grant": [right], "revoke": []}
        for key, right in RIGHTS[number].items()
    }
    every = {key: {"grant": ["READ", "WRITE"], "revoke": []} for key in ("thing:/", "policy:/")}
    entries = {"admin": {"subjects": {"x:admin": {"type": "t"}}, "resources": every}}
    if resources:
        entries["bob"] = {"subjects": {"x:all": {"type": "t"}}, "resources": resources}
    return {"entries": entries}


def left(value: Any, path: tuple[str, ...], permits: Any) -> Any:
    """What of a value at a path may be read; UNSET for nothing."""
    own = permits.said("thing", path, "READ") is True
    if isinstance(value, dict):
        parts = {name: left(member, (*path, name), permits) for name, member in value.items()}
    elif isinstance(value, list):
        parts = dict(enumerate(left(member, path, permits) for member in value))
    else:
        return value if own else UNSET
    kept = {name: part for name, part in parts.items() if part is not UNSET}
    if not kept and not own:
        return UNSET
    return kept if isinstance(value, dict) else list(kept.values())


ALWAYS = ("thingId", "policyId", "_namespace", "_revision", "_created", "_modified")


def is_listed(held: Held, permits: Any) -> bool:
    """Whether the caller may read something that is there."""
    return left(held.document, (), permits) is not UNSET or any(
        permits.said("thing", (name,), "READ") is True for name in ALWAYS
    )


def said(predicate: Any, held: Held, permits: Any) -> bool:
    """Whether the predicate holds where what may not be read is absent."""
    if isinstance(predicate, And | Or):
        found = [said(term, held, permits) for term in predicate.terms]
        return any(found) if isinstance(predicate, Or) else all(found)
    if isinstance(predicate, Not):
        return not said(predicate.term, held, permits)
    return matches(predicate, lambda field: values(field, held, permits))


def values(field: tuple[str, ...], held: Held, permits: Any) -> list[Any]:
    """What stands at a field, as far as it may be read."""
    if field[:2] == ("features", "*"):
        found = []
        for name, feature in (held.document.get("features") or {}).items():
            if left(feature, ("features", name), permits) is not UNSET:
                found += values(("features", name, *field[2:]), held, permits) or [UNSET]
        return found
    if field[0] in {"thingId", "_namespace"}:
        return list(lookup_in(held)(field))
    parts = [field, field[1:]] if field[0] == "_metadata" else [field]
    if not all(permits.said("thing", part, "READ") is True for part in parts):
        return []
    found = list(lookup_in(held)(field))
    return [left(value, field, permits) for value in found] if field[0] != "_metadata" else found


KINDS = {int: 1, float: 1, str: 2, dict: 3, bool: 4}


def stand(value: Any, greatest: bool) -> tuple[int, Any]:
    if isinstance(value, list):
        return extreme(value, greatest)
    return (0, 0) if value is None else (KINDS[type(value)], 0 if isinstance(value, dict) else value)


def extreme(values: list[Any], greatest: bool) -> tuple[int, Any]:
    stands = [stand(value, greatest) for value in values if value is not UNSET]
    return (max if greatest else min)(stands, default=(0, 0))


def compared(sort: list[Sort], one: tuple, other: tuple) -> int:
    for key, mine, yours in zip(sort, one[0], other[0], strict=True):
        if mine != yours:
            return (-1 if mine < yours else 1) * (-1 if key.descending else 1)
    return -1 if one[1] < other[1] else 1


def expected(states: dict, subjects: tuple[str, ...], question: tuple) -> list[str]:
    """The ids that an obvious search finds, in order."""
    predicate, sort, namespaces = question
    found = []
    for (kind, id_), held in states.items():
        if kind != "thing" or held.document is None or (namespaces and id_.partition(":")[0] not in namespaces):
            continue
        guard = states.get(("policy", held.document["policyId"]))
        if guard is None or guard.document is None:
            continue
        permits = compile_permits(guard.document, subjects)
        if not is_listed(held, permits):
            continue
        if predicate is None or said(predicate, held, permits):
            keys = []
            for key in sort:
                seen = (
                    permits.may("thing", ("features",), "READ")
                    if key.field[:2] == ("features", "*")
                    else key.field[0].startswith("_r") or said(Exists(key.field), held, permits)
                )
                keys.append(extreme(list(lookup_in(held)(key.field)), key.descending) if seen else (0, 0))
            found.append((keys, id_))
    found.sort(key=functools.cmp_to_key(lambda one, other: compared(sort, one, other)))
    return [id_ for _, id_ in found]


async def carry_out(registry: Registry, change: tuple) -> None:
    verb, id_, where, value = change
    if verb == "policy":
        command = Command(verb="modify", kind="policy", id=id_, subjects=ADMIN, value=policy(where))
    elif verb == "make":
        document = {"policyId": where, "attributes": shaped(("attributes",), value), "definition": f"a:{id_[2:]}:1"}
        headers = {"put-metadata": '[{"key":"/attributes/x/by","value":"hand"}]'} if value else {}
        command = Command(verb="modify", id=id_, subjects=ADMIN, value=document, headers=headers)
    elif verb == "put":
        command = Command(verb="modify", id=id_, subjects=ADMIN, path=where, value=shaped(where, value))
    elif verb == "merge":
        patch = {"attributes": shaped(("attributes",), value)} if where == () else shaped(where, value)
        command = Command(verb="merge", id=id_, subjects=ADMIN, path=where, value=patch)
    else:
        command = Command(verb="delete", id=id_, subjects=ADMIN, path=where)
    await registry.handle_all([command])


async def states_of(store: Any) -> dict:
    return {(kind, id_): await store.load(kind, id_) for kind in ("thing", "policy") for id_ in [*IDS, *POLICIES]}


async def check(search: Search, store: Any, questions: list[tuple]) -> None:
    """Every question is answered as the obvious search answers it; page by page, too."""
    states = await states_of(store)
    for subjects in (ADMIN, BOB):
        for question in questions:
            predicate, sort, namespaces = question
            wanted = expected(states, subjects, question)
            page = await search.find(subjects, predicate, sort=sort, namespaces=namespaces, size=50)
            assert page.ids == wanted, (subjects, question)
            assert page.next is None
            assert await search.count(subjects, predicate, namespaces=namespaces) == len(wanted)
            found: list[str] = []
            after: After | None = None
            for _ in range(len(wanted) // 2 + 1):
                page = await search.find(subjects, predicate, sort=sort, namespaces=namespaces, after=after, size=2)
                found += page.ids
                after = page.next
                if after is None:
                    break
            assert found == wanted, (subjects, question)
            assert after is None
            check_slots(search, predicate)


def check_slots(search: Search, predicate: Any) -> None:
    """One slot at a time and all together, a predicate holds of the same."""
    if predicate is not None:
        masks = Masks(search.index.slots, search.index.columns)
        slots = np.flatnonzero(search.index.slots.alive)
        said_apiece = [masks.holds(predicate, slot) for slot in slots.tolist()]
        assert said_apiece == masks.mask(predicate, slots).tolist(), predicate


async def live(store: Any, before: list, steps: list) -> None:
    ticks = count(1_000_000)
    async with Registry(store, lambda: next(ticks), lambda: "id", snapshot_seconds=0.01) as registry:
        for number, policy_id in enumerate(POLICIES):
            await carry_out(registry, ("policy", policy_id, number, None))
        for place, id_ in enumerate(IDS[:6]):
            await carry_out(registry, ("make", id_, POLICIES[place % 3], place))
        for change in before:
            await carry_out(registry, change)
        async with Search(registry, store) as search:
            for changes, questions in steps:
                for change in changes:
                    await carry_out(registry, change)
                await check(search, store, questions)


STEPS = st.lists(
    st.tuples(st.lists(CHANGES, max_size=6), st.lists(QUESTIONS, min_size=1, max_size=4)), min_size=1, max_size=4
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(CHANGES, max_size=8), STEPS)
def test_the_index_says_what_the_plain_evaluator_says(before, steps):
    asyncio.run(live(MemoryStore(), before, steps))


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(CHANGES, max_size=8), STEPS)
def test_the_same_over_the_embedded_store(tmp_path_factory: pytest.TempPathFactory, before, steps):
    asyncio.run(live(SqliteStore(tmp_path_factory.mktemp("s") / "data"), before, steps))
