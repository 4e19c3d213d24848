"""Policies as entities: what is a policy, who may change it, and that nobody locks everybody out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from skerry.errors import SkerryError
from skerry.signals import Command, Held
from skerry_policies import policy

P = "demo:P"
ANNE = "nginx:anne"
FULL = {"grant": ["READ", "WRITE"], "revoke": []}
ENTRY = {"subjects": {ANNE: {"type": "test"}}, "resources": {"policy:/": FULL, "thing:/": FULL}}
NEW = Held(kind="policy", id=P)


def command(verb: str, value=UNSET, *path: str, **headers: str) -> Command:
    return Command(verb=verb, kind="policy", id=P, subjects=(ANNE,), path=path, value=value, headers=headers)


def after(held: Held, asked: Command) -> tuple[int, Held]:
    decision = policy.decide(held, asked, 7, 10_000)
    assert decision.event is not None
    return decision.response.status, policy.apply(held, decision.event)


def made() -> Held:
    return after(NEW, command("modify", {"entries": {"a": ENTRY}}))[1]


def test_a_policy_is_made_changed_and_deleted_whole_and_in_parts():
    status, held = after(NEW, command("modify", {"entries": {"a": ENTRY}}))
    assert status == 201
    assert held.document["entries"]["a"]["importable"] == "implicit"
    status, held = after(held, command("modify", {"subjects": {}, "resources": {}}, "entries", "b"))
    assert (status, list(held.document["entries"])) == (201, ["a", "b"])
    right = {"grant": ["READ"]}
    status, held = after(held, command("modify", right, "entries", "b", "resources", "thing:/features/f"))
    assert status == 201
    assert held.document["entries"]["b"]["resources"] == {"thing:/features/f": {"grant": ["READ"], "revoke": []}}
    status, held = after(held, command("modify", {"type": "x"}, "entries", "a", "subjects", ANNE))
    assert status == 204
    status, held = after(held, command("delete", UNSET, "entries", "b"))
    assert (status, list(held.document["entries"])) == (204, ["a"])
    status, held = after(held, command("delete"))
    assert (held.document, held.revision) == (None, 6)
    assert after(held, command("modify", {"entries": {"a": ENTRY}}))[0] == 201


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (command("modify", None), "policies:entry.invalid"),
        (command("modify", {"entries": []}), "policies:entry.invalid"),
        (command("modify", {"entries": {"a": 1}}), "policies:entry.invalid"),
        (command("modify", {"entries": {"imported-x": ENTRY}}), "policies:label.invalid"),
        (command("modify", {"entries": {"": ENTRY}}), "policies:label.invalid"),
        (command("modify", {"subjects": {"anne": {}}}, "entries", "b"), "policies:subjectid.invalid"),
        (command("modify", {"grant": ["FLY"]}, "entries", "a", "resources", "thing:/"), "policies:entry.invalid"),
        (command("modify", {}, "entries", "a", "resources", "features"), "policies:entry.invalid"),
        (command("modify", {"policyId": "demo:Q", "entries": {"a": ENTRY}}), "policies:id.notsettable"),
        (command("modify", {"entries": {}}), "policies:policy.modificationinvalid"),
        (command("delete", UNSET, "entries", "a"), "policies:policy.modificationinvalid"),
        (command("delete", UNSET, "entries", "none"), "policies:entry.notfound"),
        (command("create", {"entries": {"a": ENTRY}}), "policies:policy.conflict"),
        (command("merge", {"entries": {}}), "policies:entry.invalid"),
        (command("modify", {"entries": {"a": ENTRY}}, **{"if-match": '"rev:9"'}), "policies:precondition.failed"),
        (command("modify", {"entries": {"a": ENTRY, "b" * 20_000: ENTRY}}), "policies:policy.toolarge"),
    ],
)
def test_what_is_no_good_is_refused(asked, code):
    with pytest.raises(SkerryError) as refused:
        policy.decide(made(), asked, 7, 10_000)
    assert refused.value.code == code
    assert refused.value.payload()["message"]


def test_the_last_subject_that_may_write_must_not_expire():
    passing = {**ENTRY, "subjects": {ANNE: {"type": "x", "expiry": "2030-01-01T00:00:00Z"}}}
    with pytest.raises(policy.PolicyLocked):
        policy.decide(NEW, command("modify", {"entries": {"a": passing}}), 7, 10_000)


def test_who_makes_a_policy_has_to_be_let_in_by_it_unless_that_is_meant():
    other = {"entries": {"a": {**ENTRY, "subjects": {"nginx:bob": {"type": "x"}}}}}
    with pytest.raises(policy.PolicyNotCreatable):
        policy.decide(NEW, command("modify", other), 7, 10_000)
    assert after(NEW, command("modify", other, **{"allow-policy-lockout": "true"}))[0] == 201


def test_parts_are_read_with_a_tag_of_their_own():
    held = made()
    whole = policy.retrieve(held, held.document, command("retrieve"))
    assert whole.etag == '"rev:1"'
    part = policy.retrieve(held, held.document, command("retrieve", UNSET, "entries", "a", "subjects"))
    assert part.value == {ANNE: {"type": "test"}}
    with pytest.raises(SkerryError, match="as you know"):
        policy.retrieve(held, held.document, command("retrieve", **{"if-none-match": '"rev:1"'}))


@given(st.text(max_size=5), st.sampled_from(["nginx:a", "x:y:z"]))
def test_checking_twice_changes_nothing(label, subject):
    try:
        once = policy.check(P, {"entries": {label: {**ENTRY, "subjects": {subject: {}}}}})
    except SkerryError:
        return
    assert policy.check(P, once) == once
    policy.check_lockout(once)


def test_the_implicit_policy_is_complete():
    document = policy.implicit(P, ANNE)
    assert policy.check(P, document) == document
