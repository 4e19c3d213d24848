"""Why something is granted or not, what a change would change, and who may what."""

from typing import Any

import pytest

from skerry_policies import explain, imports
from skerry_policies.effective import EffectivePolicy
from skerry_policies.explain import Giver, Right, Rule

R = {"grant": ["READ"], "revoke": []}
RW = {"grant": ["READ", "WRITE"], "revoke": []}
NO = {"grant": [], "revoke": ["WRITE"]}


def entry(subject: str, resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"subjects": {subject: {}}, "resources": resources, **more}


def effective(imported: dict[str, Any] | None = None, **entries: Any) -> EffectivePolicy:
    document = {"policyId": "d:a", "entries": entries, "imports": {"d:b": {}} if imported else {}}
    other = {"policyId": "d:b", "entries": imported or {}}
    return imports.resolve("d:a", document, {"d:b": other}.get)


def readable(*_: str) -> bool:
    return True


POLICY = effective(
    owner=entry("s:owner", {"thing:/": RW, "policy:/": RW}),
    readers=entry("s:reader", {"thing:/": R}),
    writers=entry("s:writer", {"thing:/attributes": RW}),
    guard=entry("s:reader", {"thing:/attributes/locked": NO}),
)


def asked(resource: str, permission: str, *subjects: str, may=readable, of: EffectivePolicy = POLICY):
    return explain.explain(of, subjects, Right(resource, permission), may, namespace="d")


def test_a_grant_is_explained_by_the_rule_that_decides():
    found = asked("thing:/attributes/x", "READ", "s:reader")
    assert (found.granted, found.partly, found.missing, found.could_be_granted_by) == (True, True, [], [])
    assert found.decided_by == [Rule("d:a", "readers", "thing:/", "grant", "READ", "s:reader")]


def test_what_nobody_granted_is_missing_and_others_could_give_it():
    found = asked("thing:/attributes/x", "WRITE", "s:reader")
    assert (found.granted, found.partly, found.decided_by) == (False, False, [])
    assert found.missing == [Right("thing:/attributes/x", "WRITE")]
    assert found.could_be_granted_by == [Giver("d:a", "owner", ["s:owner"]), Giver("d:a", "writers", ["s:writer"])]


def test_a_revoke_below_makes_a_right_partial_and_no_further_subject_helps_against_it():
    found = asked("thing:/attributes", "WRITE", "s:reader", "s:writer")
    assert (found.granted, found.partly) == (False, True)
    assert [rule.entry for rule in found.decided_by] == ["writers", "guard"]
    assert found.missing == [Right("thing:/attributes/locked", "WRITE")]
    assert found.could_be_granted_by == []


def test_entries_that_the_asker_may_not_read_are_never_named():
    hidden = asked("thing:/attributes/x", "WRITE", "s:reader", may=lambda _, label: label != "owner")
    assert [giver.entry for giver in hidden.could_be_granted_by] == ["writers"]
    hidden = asked("thing:/attributes/x", "READ", "s:reader", may=lambda _, label: label != "readers")
    assert (hidden.granted, hidden.decided_by) == (True, [])


def test_what_is_imported_is_named_where_it_stands():
    policy = effective({"shared": entry("s:reader", {"thing:/": R})}, owner=entry("s:owner", {"thing:/": RW}))
    found = asked("thing:/", "READ", "s:reader", of=policy)
    assert [(rule.policy_id, rule.entry) for rule in found.decided_by] == [("d:b", "shared")]
    assert asked("thing:/", "READ", "s:reader", of=policy, may=lambda policy_id, _: policy_id == "d:a").decided_by == []
    view = explain.resolved_view(policy, readable)
    assert list(view["entries"]) == ["owner", "imported-d:b-shared"]
    assert list(explain.resolved_view(policy, lambda *_: False)["entries"]) == ["owner"]


def test_entries_of_other_namespaces_and_expired_subjects_explain_nothing():
    policy = effective(
        elsewhere=entry("s:reader", {"thing:/": R}, namespaces=["other"]),
        before={"subjects": {"s:reader": {"expiry": "1970-01-01T00:00:00Z"}}, "resources": {"thing:/": R}},
    )
    found = explain.explain(policy, ["s:reader"], Right("thing:/", "READ"), readable, namespace="d", now=1)
    assert (found.granted, found.decided_by, found.could_be_granted_by) == (False, [], [])


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("thing:/", ("thing", ())),
        ("thing:/a/b", ("thing", ("a", "b"))),
        ("message:/inbox", ("message", ("inbox",))),
        ("policy:/entries/x", ("policy", ("entries", "x"))),
        ("/attributes", ("thing", ("attributes",))),
    ],
)
def test_a_resource_is_a_type_and_a_path(key, expected):
    assert explain.split(key) == expected


def test_a_simulation_tells_gains_and_losses_at_the_highest_paths():
    before = effective(a=entry("s:1", {"thing:/": RW}), b=entry("s:2", {"thing:/attributes": R}))
    after = effective(
        a=entry("s:1", {"thing:/": R, "thing:/features": RW}),
        b=entry("s:2", {"thing:/": R}),
        c=entry("s:3", {"thing:/attributes": R, "thing:/attributes/x": {"grant": [], "revoke": ["READ"]}}),
    )
    told = [(one.subject, one.resource, one.permission, one.effect) for one in explain.simulate(before, after)]
    assert told == [
        ("s:1", "thing:/", "WRITE", "lost"),
        ("s:2", "thing:/", "READ", "gained"),
        ("s:3", "thing:/attributes", "READ", "gained"),
    ]
    assert explain.simulate(before, before) == []
    assert {change.effect for change in explain.simulate(before, None)} == {"lost"}
    assert {change.effect for change in explain.simulate(None, after)} == {"gained"}


def test_access_lists_every_subject_with_what_it_may():
    document = {"thingId": "d:t", "attributes": {"x": 1, "locked": 2}}
    found = {access.subject: access for access in explain.access(POLICY, document, readable, namespace="d")}
    assert (found["s:owner"].read, found["s:owner"].write) == ("all", "all")
    assert (found["s:reader"].read, found["s:reader"].write) == ("all", "none")
    assert (found["s:writer"].read, found["s:writer"].write) == ("part", "part")
    assert found["s:owner"].permissions == {"policy:/": ["READ", "WRITE"], "thing:/": ["READ", "WRITE"]}
    assert found["s:writer"].permissions == {"thing:/attributes": ["READ", "WRITE"]}
    assert found["s:reader"].permissions == {"thing:/": ["READ"]}
    assert found["s:reader"].entries == ["readers", "guard"]
    assert {access.subject for access in explain.access(POLICY, document, lambda *_: False)} == set()
