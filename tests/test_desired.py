"""What of the desired properties is not reported yet: a patch, and nothing once it was applied."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from skerry.desired import delta, may_desire, may_open, open_features
from skerry.patch import merge
from skerry.signals import Event

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "a"]) | st.just(1.0),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


@pytest.mark.parametrize(
    ("desired", "reported", "patch"),
    [
        ({}, {"a": 1}, {}),
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"a": 1, "b": 2}, {}),
        ({"a": 1}, {"a": True}, {"a": 1}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 1, "y": 3, "z": 4}}, {"a": {"y": 2}}),
        ({"a": {"x": 1}}, {"a": 5}, {"a": {"x": 1}}),
        ({"a": {}}, {}, {"a": {}}),
        ({"a": {}}, {"a": {"x": 1}}, {}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1, 2]}),
        ({"a": None}, {"a": 1}, {"a": None}),
        ({"a": None}, {}, {}),
    ],
)
def test_the_difference_is_a_patch(desired: dict[str, Any], reported: dict[str, Any], patch: dict[str, Any]) -> None:
    assert delta(desired, reported) == patch


@given(OBJECTS, OBJECTS)
def test_nothing_is_left_once_the_patch_was_applied(desired: dict[str, Any], reported: dict[str, Any]) -> None:
    assert not delta(desired, merge(reported, delta(desired, reported)))


def test_only_features_with_a_difference_are_named() -> None:
    document = {
        "features": {
            "same": {"properties": {"a": 1}, "desiredProperties": {"a": 1}},
            "none": {"properties": {"a": 1}},
            "bare": None,
            "new": {"desiredProperties": {"a": 1}},
        }
    }
    assert open_features(document) == {"new": {"properties": {"a": 1}}}
    assert open_features(None) == open_features({"attributes": {}}) == {}


def test_telemetry_of_a_feature_without_desired_properties_opens_no_difference() -> None:
    document = {"features": {"f": {"properties": {"a": 1}}, "g": {"desiredProperties": {"a": 1}}}}

    def opens(*path: str) -> bool:
        event = Event(kind="thing", id="x:a", action="merged", revision=1, timestamp=0, path=path, value={})
        return may_open(event, document)

    assert not opens("features", "f", "properties", "a")
    assert not opens("attributes", "a")
    assert not opens("features", "f")
    assert opens("features", "g", "properties", "a")
    assert not opens("features", "gone")
    assert opens("features")
    assert opens()


def test_only_what_may_bring_desired_properties_is_looked_at_further() -> None:
    def brings(*path: str, value: Any = UNSET) -> bool:
        event = Event(kind="thing", id="x:a", action="merged", revision=1, timestamp=0, path=path, value=value)
        return may_desire(event)

    assert brings(value={"attributes": {}})
    assert brings("features", value={})
    assert brings("features", "f", value={"desiredProperties": {"a": 1}})
    assert brings("features", "f", "desiredProperties", "a", value=1)
    assert not brings("features", "f", value={"properties": {"desiredProperties": 1}})
    assert not brings("features", "f", "properties", "desiredProperties", value=1)
    assert not brings("attributes", "a", value={"b": 1})
