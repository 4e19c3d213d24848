"""Merge patches."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry import patch

json = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)


def rfc7396(target, change):
    """The RFC's own pseudocode."""
    if not isinstance(change, dict):
        return change
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in change.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = rfc7396(target.get(name), value)
    return target


@given(json, json)
def test_merging_is_what_the_rfc_says_and_changes_nothing_in_place(target, change):
    before = copy.deepcopy((target, change))
    assert patch.merge(target, change) == rfc7396(target, change)
    assert (target, change) == before


@given(json, json)
def test_merging_twice_is_merging_once(target, change):
    once = patch.merge(target, change)
    assert patch.merge(once, change) == once


@given(json, json)
def test_a_minimized_patch_comes_to_the_same(target, change):
    minimal = patch.minimize(target, change)
    assert patch.merge(target, minimal) == patch.merge(target, change)


@given(json, json)
def test_a_minimized_patch_of_what_is_there_already_is_empty(target, change):
    once = patch.merge(target, change)
    if isinstance(once, dict) and isinstance(change, dict):
        assert patch.minimize(once, change) == {}


def test_a_key_pattern_deletes_every_matching_member():
    days = {"2026-04-01": 1, "2026-04-02": 2, "2026-05-01": 3}
    assert patch.merge(days, {"{{ ~2026-04-.*~ }}": None}) == {"2026-05-01": 3}
    assert patch.merge({"in": days}, {"in": {"{{~.*-01~}}": None}}) == {"in": {"2026-04-02": 2}}


def test_a_pattern_matches_whole_keys_and_spares_what_the_patch_sets():
    assert patch.merge({"ab": 1, "b": 2}, {"{{ ~b~ }}": None}) == {"ab": 1}
    assert patch.merge({"a1": 1, "a2": 2}, {"{{ ~a.~ }}": None, "a3": 3, "a1": 4}) == {"a1": 4, "a3": 3}
    assert patch.merge({"a1": 1, "a2": 2}, {"a3": 3, "{{ ~a.~ }}": None}) == {"a3": 3}


def test_a_pattern_with_a_value_is_just_a_key():
    assert patch.merge({"a": 1}, {"{{ ~a~ }}": 2}) == {"a": 1, "{{ ~a~ }}": 2}


@pytest.mark.parametrize("text", ["(", "[a", "a{2", "*"])
def test_a_broken_pattern_is_refused_even_deep_inside(text):
    if text == "a{2":
        patch.check({"{{ ~a{2~ }}": None})
        return
    with pytest.raises(patch.MergeInvalid):
        patch.check({"a": {"b": {"{{ ~" + text + "~ }}": None}}})


@pytest.mark.parametrize(
    "text",
    ["(a+)+", "(a|a)*b", r"(a)\1", "(?=a)b", ".*" * 7, "x" * 201, "a?" * 30, "(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)"],
)
def test_a_pattern_that_could_take_for_ever_is_refused(text):
    with pytest.raises(patch.MergeInvalid):
        patch.check({"{{ ~" + text + "~ }}": None})


def test_the_work_that_a_pattern_may_make_is_bounded():
    members = {"a" * 300 + str(number): 1 for number in range(100)}
    assert patch.merge(members, {"{{ ~a.*~ }}": None}) == {}
    with pytest.raises(patch.MergeInvalid):
        patch.merge(members, {"{{ ~.*a.*a.*b~ }}": None})
