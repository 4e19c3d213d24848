"""Which samples an event makes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from skerry import pointer
from skerry.signals import Event
from skerry_adapters.series.ports import Sample, Samples
from skerry_adapters.series.samples import KEPT, LONGEST_TEXT, Sampling


def event(path: tuple[str, ...], value: Any, **more: Any) -> Event:
    facts = {"kind": "thing", "id": "farm:T1", "action": "merged", "revision": 2, "timestamp": 50, "path": path}
    return Event(**{**facts, "value": value, **more})


def samples_of(*events: Event) -> list[Sample]:
    samples = Samples()
    Sampling().add(events, samples)
    found = list(samples)
    assert len(found) == len(samples)
    return found


def found(event: Event) -> dict[str, Any]:
    return {sample.path: sample.value for sample in samples_of(event)}


FEATURE = {"properties": {"power": 1.5, "pitch": {"blade1": 3}, "on": True, "status": "idle"}, "definition": ["a:b:1"]}
EXPECTED = {"power": 1.5, "pitch/blade1": 3, "on": True, "status": "idle"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((), {"thingId": "farm:T1", "attributes": {"x": 1}, "features": {"scada": FEATURE}}),
        (("features",), {"scada": FEATURE}),
        (("features", "scada"), FEATURE),
        (("features", "scada", "properties"), FEATURE["properties"]),
    ],
)
def test_numbers_booleans_and_texts_below_properties_are_samples_wherever_the_change_was_made(
    path: tuple[str, ...], value: Any
) -> None:
    assert found(event(path, value)) == {f"/features/scada/properties/{name}": v for name, v in EXPECTED.items()}


def test_one_property_is_a_sample_at_any_depth() -> None:
    assert found(event(("features", "f", "properties", "a"), 1)) == {"/features/f/properties/a": 1}
    assert found(event(("features", "f", "properties", "a", "b"), {"c": 2})) == {"/features/f/properties/a/b/c": 2}


@pytest.mark.parametrize(
    "value",
    [None, [1, 2], float("nan"), float("inf"), 10**400, "x" * (LONGEST_TEXT + 1), {}, {"{{ ~.*~ }}": None}],
)
def test_what_is_no_value_of_a_series_makes_no_sample(value: Any) -> None:
    assert found(event(("features", "f", "properties"), {"a": value})) == {}


def test_other_changes_make_no_sample() -> None:
    assert samples_of(event(("attributes", "x"), 1)) == []
    assert samples_of(event(("features", "f", "desiredProperties", "x"), 1)) == []
    assert samples_of(event(("features", "f", "definition"), ["a:b:1"])) == []
    assert samples_of(event((), None)) == []
    assert samples_of(event(("features", "f"), UNSET, action="deleted")) == []
    assert samples_of(event((), {"features": {"f": {"properties": {"x": 1}}}}, kind="policy")) == []


def test_a_sample_has_the_time_it_was_observed_and_the_time_we_learned_of_it() -> None:
    path = ("features", "f", "properties", "x")
    (sample,) = samples_of(event(path, 1, observed=20))
    assert (sample.thing, sample.time, sample.learned) == ("farm:T1", 20, 50)
    (sample,) = samples_of(event(path, 1))
    assert (sample.time, sample.learned) == (50, 50)


def test_a_time_that_no_store_can_hold_makes_no_sample() -> None:
    assert samples_of(event(("features", "f", "properties", "x"), 1, observed=10**19)) == []


def test_late_values_are_samples_too() -> None:
    change = event(("features", "f"), {"properties": {"x": 1}}, observed=20, late={"properties": {"y": 2}})
    assert found(change) == {"/features/f/properties/x": 1, "/features/f/properties/y": 2}


def test_samples_of_many_changes_stand_in_the_order_of_the_changes() -> None:
    path = ("features", "f")
    changes = [
        event(path, {"properties": {"x": 1, "y": 2}}),
        event(path, {"properties": {"x": True, "y": "idle"}}, timestamp=51),
        event(path, {"properties": {"x": None}}, id="farm:T2"),
        event(path, {"properties": {"x": 3, "deep": {"y": float("nan"), "z": 4}}}, id="farm:T3"),
        event(path, {"properties": {"x": 5}}, observed=20, late={"properties": {"y": False}}),
    ]
    assert [(sample.thing, sample.path[23:], sample.time, sample.value) for sample in samples_of(*changes)] == [
        ("farm:T1", "x", 50, 1),
        ("farm:T1", "y", 50, 2),
        ("farm:T1", "x", 51, True),
        ("farm:T1", "y", 51, "idle"),
        ("farm:T3", "x", 50, 3),
        ("farm:T3", "deep/z", 50, 4),
        ("farm:T1", "x", 20, 5),
        ("farm:T1", "y", 20, False),
    ]


def test_an_odd_value_does_not_touch_those_beside_it() -> None:
    odd = (None, float("inf"), -(10**400), "x" * (LONGEST_TEXT + 1), [1])
    changes = [event(("features", "f"), {"properties": {"x": at, "odd": value}}) for at, value in enumerate(odd)]
    assert [sample.value for sample in samples_of(*changes)] == list(range(len(odd)))
    assert found(event(("features", "f"), {"properties": {"a": 10**400, "b": -(10**400), "c": 1.5}})) == {
        "/features/f/properties/c": 1.5
    }
    assert [
        sample.value for sample in samples_of(event(("features", "f"), {"properties": {"a": 1.7e308, "b": 1.7e308}}))
    ] == [1.7e308] * 2


def test_what_is_remembered_of_sets_of_properties_is_bounded() -> None:
    sampling, samples = Sampling(), Samples()
    count = KEPT // 500
    for n in range(count):
        sampling.add([event(("features", "f"), {"properties": {f"p{n}": n}})], samples)
    assert [sample.path for sample in samples] == [f"/features/f/properties/p{n}" for n in range(count)]
    assert 1_000 < len(sampling._pointers) < count


def test_sets_of_many_properties_are_remembered_for_as_much_memory_as_small_ones() -> None:
    sampling = Sampling()
    tracemalloc.start()
    try:
        for n in range(50):
            change = event(("features", "f"), {"properties": {f"{n}p{m}": m for m in range(3_000)}})
            sampling.add([change], Samples())
        assert tracemalloc.get_traced_memory()[0] < KEPT
    finally:
        tracemalloc.stop()


names = st.text(min_size=1, max_size=6)


@given(names, st.lists(names, min_size=1, max_size=4), st.integers(-5, 5))
def test_paths_are_json_pointers(feature: str, segments: list[str], value: int) -> None:
    path = ("features", feature, "properties", *segments)
    nested: Any = value
    for segment in reversed(segments):
        nested = {segment: nested}
    expected = {pointer.write(path): value}
    assert found(event(path, value)) == expected
    assert found(event(path[:3], nested)) == expected
    assert found(event((), {"features": {feature: {"properties": nested}}})) == expected
