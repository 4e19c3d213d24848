"""Rights: the compiled trie against a slow evaluator that follows the rules word for word."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from skerry_policies.enforcer import Permits, compile_permits

SEGMENTS = st.sampled_from("abc")
PATHS = st.lists(SEGMENTS, max_size=4).map(tuple)
RULES = st.lists(st.tuples(st.just("thing"), PATHS, st.just("READ"), st.booleans()), max_size=8)
JSON = st.recursive(
    st.integers(0, 3) | st.none(),
    lambda inner: st.dictionaries(SEGMENTS, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=12,
)


def slow_granted(rules, path) -> bool:
    """The deepest rule at or above the path decides; at equal depth a revoke wins."""
    for depth in range(len(path), -1, -1):
        effects = [granted for _, at, _, granted in rules if at == path[:depth]]
        if effects:
            return all(effects)
    return False


def slow_below(rules, path) -> list[tuple[str, ...]]:
    return [at for _, at, _, _ in rules if len(at) > len(path) and at[: len(path)] == path]


def slow_may(rules, path) -> bool:
    return slow_granted(rules, path) and all(slow_granted(rules, at) for at in slow_below(rules, path))


def slow_may_partly(rules, path) -> bool:
    return slow_granted(rules, path) or any(slow_granted(rules, at) for at in slow_below(rules, path))


def slow_view(rules, path, value) -> Any:
    if isinstance(value, dict):
        parts = {key: slow_view(rules, (*path, key), member) for key, member in value.items()}
        parts = {key: part for key, part in parts.items() if part is not UNSET}
        return parts if parts or slow_granted(rules, path) else UNSET
    if isinstance(value, list):
        items = [slow_view(rules, path, member) for member in value]
        items = [item for item in items if item is not UNSET]
        return items if items or slow_granted(rules, path) else UNSET
    return value if slow_granted(rules, path) else UNSET


@given(RULES, PATHS)
def test_rights_are_those_of_the_rules(rules, path):
    permits = Permits(rules)
    assert permits.may("thing", path, "READ") == slow_may(rules, path)
    assert permits.may_partly("thing", path, "READ") == slow_may_partly(rules, path)


@given(RULES, PATHS)
def test_what_is_said_of_a_path_is_what_holds_there_or_nothing(rules, path):
    said = Permits(rules).said("thing", path, "READ")
    assert bool(said) == slow_granted(rules, path)
    assert (said is None) == all(at != path[: len(at)] for _, at, _, _ in rules)


@given(RULES, PATHS, JSON)
def test_a_view_keeps_exactly_the_leaves_that_may_be_read(rules, path, value):
    assert Permits(rules).view(path, value) == slow_view(rules, path, value)


@given(RULES, JSON)
def test_who_sees_all_sees_all(rules, value):
    permits = Permits(rules)
    if permits.sees_all:
        assert permits.view((), value) == value


def policy(**entries: dict[str, Any]) -> dict[str, Any]:
    """Entries from `label={subject: ..., "thing:/path": (grants, revokes)}`."""
    return {
        "policyId": "demo:p",
        "entries": {
            label: {
                "subjects": {entry["subject"]: {"type": "x"}},
                "resources": {
                    key: {"grant": list(rights[0]), "revoke": list(rights[1])}
                    for key, rights in entry.items()
                    if key != "subject"
                },
            }
            for label, entry in entries.items()
        },
    }


R, W = ("READ",), ("WRITE",)
CALLER = ("s:A", "s:B")
FEATURE = ("features", "f")


def test_a_revoke_for_one_subject_hides_what_another_subject_may_read():
    permits = compile_permits(
        policy(a={"subject": "s:A", "thing:/": (R, ())}, b={"subject": "s:B", "thing:/features/f": ((), R)}), CALLER
    )
    assert permits.view((), {"attributes": 1, "features": {"f": 1, "g": 2}}) == {"attributes": 1, "features": {"g": 2}}
    assert not permits.sees_all


def test_a_deeper_grant_opens_what_a_revoke_closed():
    permits = compile_permits(
        policy(a={"subject": "s:A", "thing:/": ((), R)}, b={"subject": "s:B", "thing:/attributes": (R, ())}), CALLER
    )
    assert permits.view((), {"attributes": {"x": 1}, "features": {"f": 1}}) == {"attributes": {"x": 1}}


def test_at_the_same_depth_a_revoke_beats_a_grant():
    permits = compile_permits(
        policy(a={"subject": "s:A", "thing:/": (R, ())}, b={"subject": "s:B", "thing:/": ((), R)}), CALLER
    )
    assert not permits.may_partly("thing", (), "READ")
    permits = compile_permits(policy(a={"subject": "s:A", "thing:/": (R, R)}), CALLER)
    assert not permits.may_partly("thing", (), "READ")


def test_a_revoke_below_takes_the_unrestricted_right_above_but_not_beside():
    permits = compile_permits(
        policy(a={"subject": "s:A", "thing:/": (W, ()), "thing:/features/f/properties/x": ((), W)}), CALLER
    )
    assert not permits.may("thing", FEATURE, "WRITE")
    assert not permits.may("thing", (), "WRITE")
    assert permits.may("thing", (*FEATURE, "properties", "y"), "WRITE")
    assert permits.may("thing", ("attributes", "a"), "WRITE")


def test_one_readable_leaf_makes_the_thing_partly_readable():
    permits = compile_permits(policy(a={"subject": "s:A", "thing:/features/f/properties/x": (R, ())}), CALLER)
    document = {"policyId": "p", "features": {"f": {"properties": {"x": 1, "y": 2}}, "g": {}}}
    assert permits.may_partly("thing", (), "READ")
    assert permits.view((), document) == {"features": {"f": {"properties": {"x": 1}}}}
    assert not permits.may_partly("thing", ("features", "g"), "READ")
    assert not permits.may_partly("thing", ("policyId",), "READ")


def test_message_rights_on_the_inbox_do_not_cover_features():
    permits = compile_permits(policy(a={"subject": "s:A", "message:/inbox": (W, ())}), CALLER)
    assert permits.may("message", ("inbox", "messages", "ask"), "WRITE")
    assert not permits.may("message", ("features", "f", "inbox", "messages", "ask"), "WRITE")


def test_entries_of_other_subjects_say_nothing():
    permits = compile_permits(policy(a={"subject": "s:C", "thing:/": (R, ())}), CALLER)
    assert not permits.may_partly("thing", (), "READ")


def test_arrays_are_transparent():
    permits = compile_permits(policy(a={"subject": "s:A", "thing:/attributes/list/x": (R, ())}), CALLER)
    assert permits.view((), {"attributes": {"list": [{"x": 1, "y": 2}, {"y": 3}, 4]}}) == {
        "attributes": {"list": [{"x": 1}]}
    }
