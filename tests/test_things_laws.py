"""Things: the laws that hold for every sequence of commands."""

from __future__ import annotations

import copy

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from skerry import patch, pointer, things
from skerry.errors import SkerryError
from thing_door import EMPTY, ID, LIMIT, ask

segments = st.sampled_from("ab")
free = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("xy", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(segments, inner, max_size=2),
    max_leaves=5,
)
objects = st.dictionaries(segments, free, max_size=2)
features = st.fixed_dictionaries(
    {}, optional={"properties": objects | st.none(), "desiredProperties": objects, "definition": st.just(["a:b:c"])}
)
wholes = st.fixed_dictionaries(
    {"policyId": st.just(ID)},
    optional={
        "attributes": objects | st.none(),
        "features": st.dictionaries(segments, features | st.none(), max_size=2),
        "definition": st.just("a:b:c"),
    },
)
paths = st.one_of(
    st.just(()),
    st.sampled_from([("attributes",), ("features",), ("definition",)]),
    st.tuples(st.just("attributes"), segments) | st.tuples(st.just("attributes"), segments, segments),
    st.tuples(st.just("features"), segments),
    st.tuples(st.just("features"), segments, st.sampled_from(["properties", "desiredProperties", "definition"])),
    st.tuples(st.just("features"), segments, st.sampled_from(["properties", "desiredProperties"]), segments),
)
telemetry = st.builds(
    lambda feature, values, time: ask("merge", ("features", feature), {"properties": values}, observed=time),
    segments,
    objects,
    st.integers(1, 9),
)
asked = st.sampled_from(
    [
        {},
        {},
        {},
        {"if-equal": "skip-minimizing-merge"},
        {"put-metadata": '[{"key":"*/k","value":1}]'},
        {"if-none-match": "*"},
    ]
)
writes = st.builds(
    lambda verb, path, value, headers: ask(verb, path, UNSET if verb == "delete" else value, headers),
    st.sampled_from(["create", "modify", "modify", "merge", "merge", "delete"]),
    paths,
    wholes | features | objects | free | st.just(["a:b:c"]),
    asked,
)


@settings(max_examples=150, deadline=None)
@given(wholes, st.lists(telemetry | writes, max_size=14))
def test_replaying_the_events_gives_the_state_that_reads_show(first, commands):
    held, events, documents = EMPTY, [], []
    for command in [ask("modify", (), first), *commands]:
        untouched = copy.deepcopy(held)
        try:
            decision = things.decide(held, command, held.revision + 1, LIMIT)
        except SkerryError as error:
            assert error.status in {400, 404, 409, 412}  # noqa: PT017 - most of the commands succeed
            assert held == untouched
            continue
        event = decision.event
        assert event.revision == held.revision + 1
        before = copy.deepcopy(event)
        after = things.apply(held, event)
        assert (held, event) == (untouched, before)
        assert decision.after in (None, after)
        assert event.action == "deleted" or (decision.after.size, decision.after.slack) == (after.size, after.slack)
        if event.action == "merged" and event.value is not UNSET:
            found = pointer.get(held.document, event.path)
            merged = patch.merge(None if found is UNSET else found, event.value)
            left = pointer.get(after.document, event.path)
            assert (None if left is UNSET else left) == merged
        held = after
        events.append(msgspec.msgpack.encode(event))
        documents.append(held.document)
        if held.document is not None:
            assert things.retrieve(held, held.document, ask("retrieve")).value == held.document
            assert len(msgspec.json.encode(held.document)) <= held.size
            for feature, times in held.observed.items():
                assert times.keys() <= held.document["features"][feature]["properties"].keys()
    again = EMPTY
    for text, document in zip(events, documents, strict=True):
        again = things.apply(again, msgspec.msgpack.decode(text, type=type(event)))
        assert again.document == document
    assert again == held
