"""Ids: Ditto's rules."""

from __future__ import annotations

import pytest

from skerry import ids
from skerry.values import JsonKeyInvalid

GOOD = ["demo:T01", ":name", "a.b-c:x", "org.eclipse_1:na:me", "a:Ж", "n:" + "x" * 254, "a:*", "a:b c"]
BAD = [
    "",
    "demo",
    "demo:",
    "1a:x",
    "a..b:x",
    "a.:x",
    "a.1:x",
    "-a:x",
    "a:x/y",
    "a:x\n",
    "a:ü",
    "ä:x",
    "a:\x7f",
    "n:" + "x" * 255,
]


@pytest.mark.parametrize("text", GOOD)
def test_good_ids_are_taken(text):
    ids.check_thing_id(text)
    ids.check_policy_id(text)


@pytest.mark.parametrize("text", BAD)
def test_bad_ids_are_refused_with_their_own_rows(text):
    with pytest.raises(ids.ThingIdInvalid) as of_thing:
        ids.check_thing_id(text)
    with pytest.raises(ids.PolicyIdInvalid) as of_policy:
        ids.check_policy_id(text)
    assert (of_thing.value.code, of_policy.value.code) == ("things:id.invalid", "policies:id.invalid")
    assert of_thing.value.status == 400


def test_a_name_may_hold_colons():
    assert ids.split_id("a.b:c:d") == ("a.b", "c:d")
    assert ids.split_id(":c") == ("", "c")


@pytest.mark.parametrize("text", ["scada", "*", "a:b", "Ж", "a b", "~"])
def test_good_feature_ids_are_taken(text):
    ids.check_feature_id(text)


@pytest.mark.parametrize("text", ["", "a/b", "ü", "a\tb", "\x7f"])
def test_bad_feature_ids_are_refused(text):
    with pytest.raises(JsonKeyInvalid):
        ids.check_feature_id(text)


@pytest.mark.parametrize(
    "text", ["a:b:c", "wind:Turbine:1.0.0", "https://example.org/tm.jsonld", "http://h:8080/x?y=1#z"]
)
def test_good_definitions_are_taken(text):
    ids.check_definition(text)


@pytest.mark.parametrize("text", ["", "a", "a:b", "a:b:c:d", "ftp://x/y", "https://", "a:b:c d", "a:ü:1"])
def test_bad_definitions_are_refused(text):
    with pytest.raises(ids.DefinitionInvalid):
        ids.check_definition(text)
