"""Policies as entities: what is a policy, who may change it, and that nobody locks everybody out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from skerry.errors import SkerryError
from skerry.signals import Command, Held
from skerry_policies import document, lockout, policy
from skerry_policies.document import Terms
from skerry_policies.enforcer import compile_permits

P = "demo:P"
ANNE = "nginx:anne"
FULL = {"grant": ["READ", "WRITE"], "revoke": []}
ENTRY = {"subjects": {ANNE: {"type": "test"}}, "resources": {"policy:/": FULL, "thing:/": FULL}}
NEW = Held(kind="policy", id=P)


def command(verb: str, value=UNSET, *path: str, **headers: str) -> Command:
    return Command(verb=verb, kind="policy", id=P, subjects=(ANNE,), path=path, value=value, headers=headers)


def after(held: Held, asked: Command) -> tuple[int, Held]:
    decision = policy.decide(held, asked, 7, Terms(limit=10_000))
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
    right = {"grant": ["READ"], "revoke": []}
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
        (command("modify", None), "json.invalid"),
        (command("modify", {"entries": []}), "json.invalid"),
        (command("modify", {"entries": {"a": 1}}), "json.invalid"),
        (command("modify", {"entries": {"imported-x": ENTRY}}), "policies:label.invalid"),
        (command("modify", {"entries": {"": ENTRY}}), "policies:label.invalid"),
        (command("modify", {"subjects": {"anne": {"type": ""}}}, "entries", "b"), "policies:subjectid.invalid"),
        (command("modify", {"grant": ["FLY"]}, "entries", "a", "resources", "thing:/"), "json.field.missing"),
        (command("modify", FULL, "entries", "a", "resources", "features"), "json.invalid"),
        (command("modify", {"policyId": "demo:Q", "entries": {"a": ENTRY}}), "policies:id.notsettable"),
        (command("modify", {"entries": {}}), "policies:policy.modificationinvalid"),
        (command("delete", UNSET, "entries", "a"), "policies:entry.modificationinvalid"),
        (command("delete", UNSET, "entries", "none"), "policies:entry.notfound"),
        (command("create", {"entries": {"a": ENTRY}}), "policies:policy.conflict"),
        (command("merge", {"entries": {}}), "signals.commands:path.unknown"),
        (command("modify", {"entries": {"a": ENTRY}}, **{"if-match": '"rev:9"'}), "policies:precondition.failed"),
        (command("modify", {"entries": {"a": ENTRY, "b" * 20_000: ENTRY}}), "policies:policy.toolarge"),
    ],
)
def test_what_is_no_good_is_refused(asked, code):
    with pytest.raises(SkerryError) as refused:
        policy.decide(made(), asked, 7, Terms(limit=10_000))
    assert refused.value.code == code
    assert refused.value.payload()["message"]


def test_the_last_subject_that_may_write_must_not_expire():
    passing = {**ENTRY, "subjects": {ANNE: {"type": "x", "expiry": "2030-01-01T00:00:00Z"}}}
    with pytest.raises(lockout.PolicyLocked):
        policy.decide(NEW, command("modify", {"entries": {"a": passing}}), 7, Terms(limit=10_000))


def test_who_makes_a_policy_has_to_be_let_in_by_it_unless_that_is_meant():
    other = {"entries": {"a": {**ENTRY, "subjects": {"nginx:bob": {"type": "x"}}}}}
    with pytest.raises(policy.PolicyNotCreatable):
        policy.decide(NEW, command("modify", other), 7, Terms(limit=10_000))
    assert after(NEW, command("modify", other, **{"allow-policy-lockout": "true"}))[0] == 201


def read(held: Held, *path: str, **headers: str):
    permits = compile_permits(held.document, (ANNE,))
    return policy.retrieve(held, permits, command("retrieve", UNSET, *path, **headers))


def test_parts_are_read_with_a_tag_of_their_own():
    held = made()
    whole = read(held)
    assert whole.etag == '"rev:1"'
    assert list(whole.value) == ["policyId", "imports", "entries"]
    assert read(held, "entries", "a", "subjects").value == {ANNE: {"type": "test"}}
    with pytest.raises(SkerryError, match="as you know"):
        read(held, **{"if-none-match": '"rev:1"'})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/imports", {}),
        ("/entries/a/references", []),
        ("/entries/a/allowedAdditions", []),
        ("/entries/a/importable", "implicit"),
        ("/entries/a/resources/thing:/", FULL),
        ("/imports/demo:Q", "policies:import.notfound"),
        ("/imports/demo:Q/entries", "policies:import.notfound"),
        ("/entries/none", "policies:entry.notfound"),
        ("/entries/none/subjects", "policies:entry.notfound"),
        ("/entries/a/namespaces", "policies:entry.notfound"),
        ("/entries/a/subjects/nginx:none", "policies:subject.notfound"),
        ("/entries/a/resources/thing:/x", "policies:resource.notfound"),
        ("/entries/a/colour", "signals.commands:path.unknown"),
    ],
)
def test_what_is_not_there_is_empty_or_not_found_by_its_kind(path, value):
    held = made()
    segments = path.removeprefix("/").split("/", 3)
    if isinstance(value, str) and ":" in value:
        with pytest.raises(SkerryError) as refused:
            read(held, *segments)
        assert refused.value.code == value
    else:
        assert read(held, *segments).value == value


@pytest.mark.parametrize(
    ("path", "value", "status"),
    [
        ("/entries", {"a": ENTRY}, 204),
        ("/entries/a/subjects", ENTRY["subjects"], 204),
        ("/entries/a/subjects/nginx:bob", {"type": "b"}, 201),
        ("/entries/a/resources/policy:/x", FULL, 201),
        ("/entries/a/importable", "never", 204),
        ("/entries/a/namespaces", ["org.example", "org.example.*"], 204),
        ("/entries/a/allowedAdditions", ["subjects"], 204),
        ("/entries/b/references", [{"entry": "a"}], 201),
        ("/entries/b/references", [], 204),
        ("/imports", {"demo:Q": {}}, 204),
        ("/imports/demo:Q", {"entries": ["x"], "transitiveImports": ["demo:R"]}, 201),
        ("/entries/b/references", [{"entry": "b"}], "policies:entry.invalid"),
        ("/entries/b/references", [{"entry": "none"}], "policies:entry.invalid"),
        ("/entries/b/references", [{"import": "demo:Q", "entry": "x"}], "policies:entry.invalid"),
        ("/entries/b/references", [{"import": "", "entry": "x"}], "json.invalid"),
        ("/entries/b/references", [{}], "json.field.missing"),
        ("/entries/b/references", [1], "policies:entry.invalid"),
        ("/entries/a/importable", "sometimes", "policies:entry.invalid"),
        ("/entries/a/namespaces", ["*"], "policies:entry.invalid"),
        ("/entries/a/allowedAdditions", ["colours"], "policies:entry.invalid"),
        ("/entries/none/importable", "never", "policies:entry.notfound"),
        ("/entries/none/subjects/nginx:bob", {"type": "b"}, "policies:entry.notfound"),
        ("/imports/demo:Q/entries", [], "policies:import.notfound"),
        ("/imports/demo:P", {}, "policies:import.invalid"),
        ("/imports/demo:Q", {"transitiveImports": ["demo:P"]}, "policies:import.invalid"),
        ("/imports/demo:Q", {"entries": ["imported-x"]}, "policies:label.invalid"),
        ("/imports/nothing", {}, "policies:id.invalid"),
        ("/imports", {f"demo:{n}": {} for n in range(11)}, "policies:imports.toolarge"),
        ("/entries/a/subjects/nginx:bob", {}, "json.field.missing"),
        ("/entries/a/subjects/nginx:bob", {"type": "b", "expiry": "soon"}, "policies:subjectexpiry.invalid"),
        (
            "/entries/a/subjects/nginx:bob",
            {"type": "b", "expiry": "1970-01-01T00:00:00Z"},
            "policies:subjectexpiry.invalid",
        ),
        (
            "/entries/a/subjects/nginx:bob",
            {"type": "b", "announcement": {"beforeExpiry": "5ms"}},
            "policies:subjectannouncement.invalid",
        ),
        ("/entries/a/resources/thing:/\u00fc", FULL, "policies:entry.invalid"),
        ("/entries/a/resources", {"policy:/": {"grant": [], "revoke": []}}, "policies:entry.modificationinvalid"),
        ("/entries", {}, "policies:policy.modificationinvalid"),
    ],
)
def test_parts_are_written_with_their_own_answers(path, value, status):
    held = made()
    held = after(held, command("modify", {"subjects": {}, "resources": {}}, "entries", "b"))[1]
    asked = command("modify", value, *path.removeprefix("/").split("/", 3))
    now = 1_000_000
    if isinstance(status, str):
        with pytest.raises(SkerryError) as refused:
            policy.decide(held, asked, now)
        assert refused.value.code == status
        return
    decision = policy.decide(held, asked, now)
    assert decision.response.status == status
    whole = policy.apply(held, decision.event).document
    assert document.check(P, (), whole, now) == whole


def referring() -> Held:
    entries = {"a": ENTRY, "b": {"references": [{"entry": "t"}, {"import": "demo:Q", "entry": "x"}]}, "t": {}}
    return after(NEW, command("modify", {"imports": {"demo:Q": {"entries": ["x"]}}, "entries": entries}))[1]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (command("delete", UNSET, "entries", "t"), "policies:entry.referenceconflict"),
        (command("modify", "never", "entries", "t", "importable"), "policies:entry.referenceconflict"),
        (command("delete", UNSET, "imports", "demo:Q"), "policies:import.referenceconflict"),
        (command("delete", UNSET, "imports"), "policies:import.referenceconflict"),
        (command("modify", {}, "imports"), "policies:import.referenceconflict"),
        (command("modify", [], "imports", "demo:Q", "entries"), "policies:import.referenceconflict"),
        (command("modify", {}, "imports", "demo:Q"), "policies:import.referenceconflict"),
    ],
)
def test_what_is_referred_to_stays(asked, code):
    with pytest.raises(SkerryError) as refused:
        policy.decide(referring(), asked, 7)
    assert (refused.value.code, refused.value.status) == (code, 409)


def test_references_and_additions_are_deleted_even_where_there_are_none():
    status, held = after(referring(), command("delete", UNSET, "entries", "b", "references"))
    assert (status, "references" in held.document["entries"]["b"]) == (204, False)
    assert after(held, command("delete", UNSET, "entries", "b", "references"))[0] == 204
    unchanged = policy.decide(held, command("delete", UNSET, "entries", "b", "allowedAdditions"), 7)
    assert (unchanged.response.status, unchanged.event) == (204, None)


def test_a_precondition_is_passed_over_where_there_is_nothing_to_delete():
    with pytest.raises(SkerryError) as refused:
        policy.decide(made(), command("delete", UNSET, "entries", "none", **{"if-match": '"rev:1"'}), 7)
    assert refused.value.status == 404


@given(st.text(max_size=5), st.sampled_from(["nginx:a", "x:y:z"]))
def test_checking_twice_changes_nothing(label, subject):
    whole = {"entries": {label: {**ENTRY, "subjects": {subject: {"type": ""}}}}}
    try:
        once = document.check(P, (), whole, 7)
    except SkerryError:
        return
    assert document.check(P, (), once, 7) == once
    lockout.check(once)


def test_the_implicit_policy_is_complete():
    implicit = policy.implicit(P, ANNE)
    assert document.check(P, (), implicit, 7) == implicit
