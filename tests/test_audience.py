"""Who is told is found out once and kept: it must come to the same as asking the policies anew for every change."""

from __future__ import annotations

from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from listening import Listener
from registry_door import delete, entry, put, serving
from skerry.errors import SkerryError
from skerry.rql.parse import parse
from skerry.signals import Command
from skerry_registry.live.acks import Acks
from skerry_registry.live.audience import Reader
from skerry_registry.live.changes import Changes, Wanted, guard_of
from skerry_registry.live.views import at_its_end

ANNE = ("nginx:anne",)
PEOPLE = ["nginx:bob", "nginx:carol", "nginx:dora"]
THINGS = ["demo:T1", "demo:T2", "far:T3"]
POLICIES = ["demo:p1", "demo:p2", "demo:p3"]
OWNER = entry("nginx:anne", thing={"/": "RW"}, policy={"/": "RW"})
GRANTS = st.dictionaries(
    st.sampled_from(["/", "/attributes", "/attributes/a", "/attributes/b"]),
    st.sampled_from(["R", "R", "R", "r"]),
    min_size=1,
    max_size=2,
)
READERS = st.fixed_dictionaries(
    {
        "subjects": st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=2).map(tuple),
        "namespaces": st.sampled_from([frozenset(), frozenset({"far"})]),
        "ids": st.sampled_from([frozenset(), frozenset(THINGS[:2]), frozenset({"far:T3"})]),
        "path": st.sampled_from([(), ("attributes", "a")]),
        "filter": st.sampled_from([None, parse("gt(attributes/a,1)", 0)]),
        "extra": st.sampled_from([None, {"attributes": None}]),
    }
).map(lambda facts: Wanted(**facts))
BEGINNING: Any = [
    ("demo:p1", {"nginx:bob": {"/": "R", "/attributes/b": "r"}}, []),
    ("demo:p2", {"nginx:carol": {"/attributes": "R"}}, ["demo:p1"]),
    ("demo:p3", {"nginx:dora": {"/attributes/a": "R"}}, ["demo:p2"]),
]
STEPS = st.one_of(
    st.tuples(st.just("join"), READERS),
    st.tuples(st.just("leave"), st.integers(0, 5)),
    st.tuples(
        st.just("policy"),
        st.tuples(
            st.sampled_from(POLICIES),
            st.dictionaries(st.sampled_from(PEOPLE), GRANTS, max_size=2),
            st.lists(st.sampled_from(POLICIES), max_size=1),
        ),
    ),
    st.tuples(st.just("no policy"), st.sampled_from(POLICIES)),
    st.tuples(st.just("thing"), st.tuples(st.sampled_from(THINGS), st.sampled_from(POLICIES), st.integers(0, 3))),
    st.tuples(st.just("put"), st.tuples(st.sampled_from(THINGS), st.sampled_from(["a", "b"]), st.integers(0, 3))),
    st.tuples(st.just("no thing"), st.sampled_from(THINGS)),
)


def policy(id_: str, grants: dict[str, dict[str, str]], imported: list[str]) -> Command:
    entries: dict[str, Any] = {"owner": OWNER}
    for person, resources in grants.items():
        if resources:
            entries[person[6:]] = {**entry(person, thing=resources), "importable": "implicit"}
    value = {"entries": entries, "imports": {other: {} for other in imported if other != id_}}
    return Command(verb="modify", kind="policy", id=id_, subjects=ANNE, value=value)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, min_size=5, max_size=30))
async def test_what_is_kept_of_rights_never_differs_from_the_policies(steps):
    async with serving() as registry:
        expected: list[tuple[Wanted, Listener, list[bytes]]] = []
        leaves: list[Any] = []

        def check(commit):
            for place, (one, (_, held, _)) in enumerate(zip(commit.events, commit.changes, strict=True)):
                before = at_its_end(one, commit.ended.get(place))
                guard = guard_of(one, held) if one.kind == "thing" else None
                for wanted, _, texts in expected if guard is not None else ():
                    reader = Reader(wanted)
                    try:
                        permits = registry.rights.permits(None, guard, wanted.subjects, one.id.partition(":")[0])
                    except SkerryError:
                        continue
                    if permits is None or not reader.concerns(one):
                        continue
                    told = reader.question.answer(one, held, permits, before)
                    if told is not None:
                        texts.append(told.text)

        registry.on_settled(check)
        changes = Changes(registry, Acks())
        for id_, grants, imported in BEGINNING:
            await registry.handle(policy(id_, grants, imported))
        for thing, id_ in zip(THINGS, POLICIES, strict=True):
            await registry.handle(put({"policyId": id_}, thing=thing))
        for how, what in [*(("join", Wanted(subjects=(person,))) for person in PEOPLE), *steps]:
            if how == "join":
                listener = Listener()
                expected.append((what, listener, []))
                leaves.append(changes.subscribe(what, listener.take))
                continue
            if how == "leave":
                if what < len(leaves):
                    leaves.pop(what)()
                    _, listener, texts = expected.pop(what)
                    assert [told.text for told in listener.told] == texts
                continue
            commands = {
                "policy": lambda what=what: policy(*what),
                "no policy": lambda what=what: Command(verb="delete", kind="policy", id=what, subjects=ANNE),
                "thing": lambda what=what: put({"policyId": what[1], "attributes": {"a": what[2]}}, thing=what[0]),
                "put": lambda what=what: put(what[2], "attributes", what[1], thing=what[0]),
                "no thing": lambda what=what: delete(thing=what),
            }
            try:
                await registry.handle(commands[how]())
            except SkerryError:
                continue
        for _, listener, texts in expected:
            assert [told.text for told in listener.told] == texts
        event(f"told {min(sum(len(texts) for _, _, texts in expected), 20)}")
        for leave in leaves:
            leave()
        assert not changes._audiences._audiences
