"""Field selectors."""

from __future__ import annotations

import pytest

from skerry import fields

THING = {
    "thingId": "a:b",
    "attributes": {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "x": [1, 2]},
    "features": {"f": {"properties": {"x": 1, "y": 2}}, "g": {"properties": {"y": 3}}, "h": {"definition": ["a:b:c"]}},
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("thingId", {"thingId": "a:b"}),
        ("attributes/a,thingId", {"thingId": "a:b", "attributes": {"a": 1}}),
        ("attributes(a,b/c)", {"attributes": {"a": 1, "b": {"c": 2}}}),
        ("attributes(a,b(c,d/e))", {"attributes": {"a": 1, "b": {"c": 2, "d": {"e": 3}}}}),
        ("/attributes/b/d", {"attributes": {"b": {"d": {"e": 3}}}}),
        ("attributes/b,attributes/b/c", {"attributes": {"b": {"c": 2, "d": {"e": 3}}}}),
        ("attributes/b/c,attributes", {"attributes": THING["attributes"]}),
        ("attributes,attributes(a)", {"attributes": THING["attributes"]}),
        ("attributes/b/c,attributes(a)", {"attributes": {"a": 1, "b": {"c": 2}}}),
        ("features/*/properties/x", {"features": {"f": {"properties": {"x": 1}}}}),
        (
            "features/*/properties/y,features/f/properties/x",
            {"features": {"f": {"properties": {"x": 1, "y": 2}}, "g": {"properties": {"y": 3}}}},
        ),
        ("features(*/definition)", {"features": {"h": {"definition": ["a:b:c"]}}}),
        ("nothing", {}),
        ("attributes/x/0", {}),
        (" thingId , attributes/a ", {"thingId": "a:b", "attributes": {"a": 1}}),
    ],
)
def test_a_selector_shows_what_it_names(text, shown):
    assert fields.select(THING, fields.parse(text)) == shown


@pytest.mark.parametrize(
    "text",
    [",", ",a", "a,,b", "a(", "a(b", "a)", "a()", "(a)", "a(b)c", "a//b", "a(b,(c))", "/", "a(" * 200],
)
def test_a_broken_selector_is_refused(text):
    with pytest.raises(fields.FieldSelectorInvalid):
        fields.parse(text)


def test_a_selector_of_nothing_shows_nothing():
    assert fields.select({"a": 1}, fields.parse("")) == fields.select({"a": 1}, fields.parse(" ")) == {}
    assert fields.parse("a,") == fields.parse("a")
