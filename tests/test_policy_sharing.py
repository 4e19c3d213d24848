"""Equal parts of policies are one object, and the documents the same as before."""

from typing import Any

from skerry_policies import sharing


def document(policy_id: str, subject: str) -> dict[str, Any]:
    rights = {"grant": ["READ"], "revoke": []}
    entry = {"subjects": {subject: {"type": "user"}}, "resources": {"thing:/": rights}, "importable": "implicit"}
    return {"policyId": policy_id, "entries": {"a": entry}}


def test_a_shared_document_says_the_same_and_shares_with_others():
    first, second = sharing.share(document("d:1", "s:1")), sharing.share(document("d:2", "s:2"))
    assert (first, second) == (document("d:1", "s:1"), document("d:2", "s:2"))
    assert first["entries"]["a"]["resources"] is second["entries"]["a"]["resources"]
    assert first["entries"]["a"]["subjects"]["s:1"] is second["entries"]["a"]["subjects"]["s:2"]


def test_what_the_sender_does_to_his_own_object_later_changes_nothing():
    sent = document("d:3", "s:3")
    sent["entries"]["a"]["resources"]["thing:/sent"] = {"grant": [], "revoke": ["READ"]}
    kept = sharing.share(sent)
    sent["entries"]["a"]["resources"]["thing:/sent"]["revoke"].append("WRITE")
    assert kept["entries"]["a"]["resources"]["thing:/sent"]["revoke"] == ["READ"]


def test_what_is_large_is_left_alone():
    large = {"type": "x" * 1_000}
    assert sharing.one_of(large) is large
    assert sharing.share({"policyId": "d:4"}) == {"policyId": "d:4"}
