"""What is done to a policy's subjects without WRITE: the pure rules."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from skerry.signals import Command, Decision, Held
from skerry_policies import actions, policy
from skerry_policies.actions import ACTIVATE, DEACTIVATE, LABEL, Expired, Integration
from skerry_policies.enforcer import compile_permits

NOW = 1_800_000_000_000_000
HOUR = 3_600_000_000
OWNER: dict[str, Any] = {
    "subjects": {"x:owner": {"type": "t"}},
    "resources": {"policy:/": {"grant": ["READ", "WRITE", "EXECUTE"], "revoke": []}},
}


def entry(**subjects: str | None) -> dict[str, Any]:
    """An entry with the caller x:me, who may read things there, and others with their expiries."""
    found: dict[str, Any] = {"x:me": {"type": "t"}}
    for name, expiry in subjects.items():
        found[f"x:{name}"] = {"type": "t"} if expiry is None else {"type": "t", "expiry": expiry}
    return {
        "subjects": found,
        "resources": {
            "thing:/": {"grant": ["READ"], "revoke": []},
            "policy:/": {"grant": ["EXECUTE"], "revoke": []},
        },
    }


def held(**entries: dict[str, Any]) -> Held:
    document = {"policyId": "a:p", "entries": {"owner": OWNER, **entries}}
    return Held(kind="policy", id="a:p", document=document, revision=7)


def act(before: Held, name: str, *path: str, value: Any = Integration((f"i:{LABEL}",), NOW + HOUR)) -> Decision:  # noqa: B008 - frozen
    command = Command(
        verb="modify", kind="policy", id="a:p", subjects=("x:me",), path=(*path, "actions", name), value=value
    )
    permits = compile_permits(before.document or {}, command.subjects)
    return actions.decide(before, command, permits, NOW, lambda change: policy.decide(before, change, NOW))


def test_one_subject_is_changed_at_its_own_path():
    made = act(held(one=entry()), ACTIVATE, "entries", "one").event
    assert made is not None
    assert (made.action, made.path, made.revision) == ("created", ("entries", "one", "subjects", "i:one"), 8)
    assert made.value["expiry"].endswith(":00:00Z")
    again = act(
        held(one=entry(), two={**entry(), "subjects": {"i:one": {"type": "t"}, "x:me": {"type": "t"}}}), ACTIVATE
    )
    assert again.event is not None
    assert again.event.path == ("entries",)
    assert set(again.event.value["one"]["subjects"]) == {"x:me", "i:one"}


def test_who_is_let_out_is_gone_and_who_was_not_in_makes_no_event():
    inside = {**entry(), "subjects": {"x:me": {"type": "t"}, "i:one": {"type": "t"}}}
    left = act(held(one=inside), DEACTIVATE, "entries", "one").event
    assert left is not None
    assert (left.action, left.path, left.value) == ("deleted", ("entries", "one", "subjects", "i:one"), UNSET)
    nothing = act(held(one=entry()), DEACTIVATE)
    assert (nothing.event, nothing.response.status) == (None, 204)


def test_only_this_process_can_say_whom_a_token_lets_in():
    for value in (UNSET, {"subjects": ["x:evil"]}, ["x:evil"]):
        with pytest.raises(actions.ActionNotPossible):
            act(held(one=entry()), ACTIVATE, "entries", "one", value=value)


def expire(before: Held, *spared: tuple[str, str]) -> Decision:
    command = Command(verb="delete", kind="policy", id="a:p", subjects=(), value=Expired(spared))
    return actions.expire(before, command, NOW)


PAST, FUTURE = "2001-01-01T00:00:00Z", "2099-01-01T00:00:00Z"


def test_time_takes_away_whom_it_has_expired_and_nobody_else():
    one = expire(held(one=entry(gone=PAST, later=FUTURE, always=None))).event
    assert one is not None
    assert (one.action, one.path) == ("deleted", ("entries", "one", "subjects", "x:gone"))
    several = expire(held(one=entry(gone=PAST, lost=PAST, later=FUTURE))).event
    assert several is not None
    assert (several.path, set(several.value)) == (("entries", "one", "subjects"), {"x:me", "x:later"})
    everywhere = expire(held(one=entry(gone=PAST), two=entry(gone=PAST))).event
    assert everywhere is not None
    assert everywhere.path == ("entries",)
    assert all("x:gone" not in found["subjects"] for found in everywhere.value.values())
    assert expire(held(one=entry(later=FUTURE))).event is None
    assert expire(held(one=entry(odd="soon"))).event is None


def test_whose_announcement_is_under_way_stays_for_now():
    before = held(one=entry(gone=PAST, told=PAST))
    event = expire(before, ("one", "x:told")).event
    assert event is not None
    assert event.path == ("entries", "one", "subjects", "x:gone")
    assert expire(before, ("one", "x:told"), ("one", "x:gone")).event is None
    assert expire(Held(kind="policy", id="a:p")).event is None
