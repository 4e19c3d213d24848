"""What of an event a reader is told, against the plainest evaluation of his policy, leaf by leaf."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET

from skerry import pointer
from skerry.rql.parse import RqlInvalid
from skerry.signals import Event
from skerry_policies.enforcer import Permits
from skerry_registry.live.audience import touches
from skerry_registry.live.event_filter import matches, parse
from skerry_registry.live.views import is_told, seen

Path = tuple[str, ...]
KEYS = ("a", "b", "c")
PATHS = st.lists(st.sampled_from(KEYS), max_size=3).map(lambda keys: ("attributes", *keys))
VALUES = st.recursive(
    st.none() | st.integers(0, 9), lambda inner: st.dictionaries(st.sampled_from(KEYS), inner), max_leaves=6
)
RULES = st.dictionaries(st.one_of(st.just(()), PATHS), st.booleans(), max_size=5)


def event(path: Path, value: Any, action: Any = "modified", **more: Any) -> Event:
    return Event(kind="thing", id="demo:T1", action=action, revision=1, timestamp=1, path=path, value=value, **more)


def permits(rules: dict[Path, bool]) -> Permits:
    return Permits([("thing", path, "READ", granted) for path, granted in rules.items()])


def may(rules: dict[Path, bool], path: Path) -> bool:
    """The deepest rule at or above decides."""
    return next((rules[path[:end]] for end in range(len(path), -1, -1) if path[:end] in rules), False)


def may_partly(rules: dict[Path, bool], path: Path) -> bool:
    """Granted there, or somewhere below."""
    return may(rules, path) or any(granted and rule[: len(path)] == path for rule, granted in rules.items())


def leaves(value: Any, path: Path) -> dict[Path, Any]:
    """Everything that is no object."""
    if not isinstance(value, dict):
        return {path: value}
    return {leaf: found for key, member in value.items() for leaf, found in leaves(member, (*path, key)).items()}


def ends(value: Any, path: Path) -> dict[Path, Any]:
    """Everything that no member follows: an object without any sets one, too."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {end: found for key, member in value.items() for end, found in ends(member, (*path, key)).items()}


@given(RULES, PATHS, VALUES, st.sampled_from(["created", "modified", "merged"]))
def test_exactly_the_readable_leaves_are_told_and_nulls_wherever_something_could_be_read(rules, path, value, action):
    told = seen(event(path, value, action), permits(rules))
    shown = {} if told is None else leaves(told.value, path)
    assert shown == {
        leaf: found
        for leaf, found in leaves(value, path).items()
        if may(rules, leaf) or (found is None and may_partly(rules, leaf))
    }


@given(RULES, PATHS, VALUES)
@example({("attributes", "a"): True}, ("attributes",), {"a": {}, "b": None})
def test_a_patch_of_which_nothing_may_be_read_is_not_told(rules, path, value):
    told = seen(event(path, value, "merged"), permits(rules))
    if told is not None:
        assert ends(told.value, path).keys() <= ends(value, path).keys()


@given(RULES, PATHS)
def test_a_deletion_is_told_where_something_could_be_read(rules, path):
    told = seen(event(path, UNSET, "deleted"), permits(rules))
    assert (told is not None) == may_partly(rules, path)


@given(RULES, PATHS, VALUES, st.sampled_from(["created", "modified", "merged"]), PATHS)
def test_what_is_told_names_no_key_below_which_nothing_may_be_read(rules, path, value, action, key):
    told = seen(event(path, value, action), permits(rules))
    if told is not None and not may_partly(rules, key) and key[: len(path)] == path:
        assert pointer.get(told.value, key[len(path) :]) is UNSET


def test_the_id_is_told_with_a_whole_thing_of_which_anything_is():
    thing = {"thingId": "demo:T1", "policyId": "demo:p", "attributes": {"a": 1, "b": 2}}
    told = seen(event((), thing, "created"), permits({("attributes", "a"): True}))
    assert told is not None
    assert told.value == {"thingId": "demo:T1", "attributes": {"a": 1}}
    assert seen(event((), thing, "created"), permits({("features",): True})) is None


def test_objects_in_arrays_are_filtered_too():
    told = seen(event(("attributes",), {"a": [{"b": 1, "c": 2}, {"c": 3}]}), permits({("attributes", "a", "b"): True}))
    assert told is not None
    assert told.value == {"a": [{"b": 1}]}


def test_a_change_is_one_unless_all_of_it_came_too_late():
    assert is_told(event((), {}))
    assert is_told(event((), UNSET, "deleted"))
    assert is_told(event(("features", "f"), {"properties": {"x": 1}}, "merged", late={"properties": {"y": 1}}))
    assert not is_told(event(("features", "f"), UNSET, "merged", late={"properties": {"y": 1}}))
    assert not is_told(Event(kind="policy", id="demo:p", action="created", revision=1, timestamp=1, value={}))


@pytest.mark.parametrize(
    ("path", "value", "action", "asked", "expected"),
    [
        ("/attributes/a", 1, "modified", "/attributes/a", True),
        ("/attributes/a/b", 1, "modified", "/attributes/a", True),
        ("/attributes/b", 1, "modified", "/attributes/a", False),
        ("/attributes", {"b": 1}, "modified", "/attributes/a", True),
        ("/attributes", {"b": 1}, "merged", "/attributes/a", False),
        ("/attributes", {"a": None}, "merged", "/attributes/a/b", True),
        ("/attributes", {"{{ ~x~ }}": None}, "merged", "/attributes/a", True),
        ("/", {"attributes": {"a": {"b": 2}}}, "merged", "/attributes/a/c", False),
        ("/", UNSET, "deleted", "/attributes/a", True),
    ],
)
def test_a_change_touches_what_is_at_above_or_below_its_path(path, value, action, asked, expected):
    assert touches(event(pointer.parse(path), value, action), pointer.parse(asked)) is expected


POWER = event(("features", "f", "properties", "power"), 7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('eq(topic:action,"modified")', True),
        ('eq(topic:full,"demo/T1/things/twin/events/modified")', True),
        ('and(eq(topic:namespace,"demo"),eq(topic:entityName,"T1"),eq(topic:group,"things"))', True),
        ('and(eq(topic:channel,"twin"),eq(topic:criterion,"events"),eq(topic:action-subject,"modified"))', True),
        ("exists(topic:subject)", False),
        ('like(resource:path,"/features/*/properties/power")', True),
        ('eq(resource:type,"thing")', True),
        ('eq(entity:id,"demo:T1")', True),
        ('gt(time:now,"1969-01-01T00:00:00Z")', True),
        ('like(thingId,"demo:*")', True),
        ('eq(_namespace,"demo")', True),
        ("eq(_revision,1)", True),
        ("gt(features/f/properties/power,6)", True),
        ("gt(features/*/properties/power,6)", True),
        ("gt(features/g/properties/power,6)", False),
        ("exists(features/f)", True),
        ("exists(attributes/site)", False),
        ('eq(attributes/site,"north")', False),
        ('ne(attributes/site,"north")', True),
    ],
)
def test_filters_look_at_the_change_and_at_what_is_said_about_it(text, expected):
    assert matches(parse(text, 0), POWER, UNSET, 5) is expected


def test_filters_look_at_extra_fields_and_rather_at_the_change():
    extra = {"attributes": {"site": "north"}, "features": {"f": {"properties": {"power": 1, "wind": 9}}}}
    for text in (
        'eq(attributes/site,"north")',
        "eq(features/f/properties/power,7)",
        "eq(features/f/properties/wind,9)",
    ):
        assert matches(parse(text, 0), POWER, extra, 5)


def test_nulls_of_a_patch_count_as_absent_for_filters():
    patch = event(("attributes",), {"a": None, "b": {"c": None, "d": 1}}, "merged")
    assert matches(parse("not(exists(attributes/a))", 0), patch, UNSET, 5)
    assert matches(parse("and(exists(attributes/b/d),not(exists(attributes/b/c)))", 0), patch, UNSET, 5)


@pytest.mark.parametrize(
    "text", ['eq(topic:nix,"a")', 'eq(resource:id,"a")', 'eq(_context/topic,"a")', "exists(time:then)"]
)
def test_filters_know_no_other_words(text):
    with pytest.raises(RqlInvalid):
        parse(text, 0)


@given(RULES, PATHS, VALUES)
def test_what_is_told_is_made_of_what_was_there(rules, path, value):
    before = msgspec.json.encode(value)
    seen(event(path, value, "merged"), permits(rules))
    assert msgspec.json.encode(value) == before
