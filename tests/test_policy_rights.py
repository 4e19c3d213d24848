"""Rights that come from several policies, from namespaces, and only for a time, at the one door."""

import re
import sys
from collections.abc import AsyncIterator, Callable
from types import FrameType
from typing import Any

import pytest

from registry_door import ANNE, BOB, T1, get, merge, put, put_policy, refused, serving
from skerry import times
from skerry.parts import ThingNotAccessible
from skerry.signals import Command, Held
from skerry_policies import imports
from skerry_policies.document import Terms
from skerry_policies.imports import ImportInvalid
from skerry_registry.heads import Heads
from skerry_registry.refusals import ThingNotModifiable
from skerry_registry.registry import Registry
from skerry_registry.rights import Rights, contradictions
from skerry_registry.runs import Lacking
from skerry_registry.stores.memory import MemoryStore

FULL = {"grant": ["READ", "WRITE"], "revoke": []}
READ = {"grant": ["READ"], "revoke": []}
ALL = {"thing:/": FULL, "policy:/": FULL, "message:/": FULL}


def entry(subject: str, resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"subjects": {subject: {"type": "test"}}, "resources": resources, **more}


OWNER = entry("nginx:anne", ALL)
READER = entry("nginx:bob", {"thing:/attributes": READ})


def policy(policy_id: str, value: Any, *path: str, verb: str = "modify", who=ANNE) -> Command:
    return Command(verb=verb, kind="policy", id=policy_id, subjects=who, path=path, value=value)


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with serving() as registry:
        yield registry


async def test_what_is_imported_counts_and_changes_at_once(registry):
    await registry.handle(put_policy("demo:shared", {"owner": OWNER, "readers": READER}))
    await registry.handle(put({"attributes": {"a": 1}, "_policy": {"entries": {"mine": OWNER}}}))
    assert await refused(registry, get(who=BOB)) == (404, "things:thing.notfound")
    assert (await registry.handle(policy(T1, {}, "imports", "demo:shared"))).status == 201
    assert (await registry.handle(get("attributes", who=BOB))).value == {"a": 1}
    await registry.handle(policy("demo:shared", entry("nginx:carl", {"thing:/": READ}), "entries", "readers"))
    assert await refused(registry, get(who=BOB)) == (404, "things:thing.notfound")
    assert (await registry.handle(get("attributes", who=("nginx:carl",)))).value == {"a": 1}
    await registry.handle(Command(verb="delete", kind="policy", id="demo:shared", subjects=ANNE))
    assert await refused(registry, get(who=("nginx:carl",))) == (404, "things:thing.notfound")
    assert (await registry.handle(get("attributes"))).value == {"a": 1}
    await registry.handle(policy(T1, {}, "imports"))
    await registry.handle(put_policy("demo:shared", {"owner": OWNER, "readers": READER}))
    assert await refused(registry, get(who=BOB)) == (404, "things:thing.notfound")


async def test_one_imports_only_what_is_there_and_what_one_may_read(registry):
    await registry.handle(put_policy("demo:secret", {"owner": entry("nginx:bob", ALL)}, who=BOB))
    partly = {"owner": entry("nginx:bob", ALL), "open": entry("nginx:anne", {"policy:/entries/open": READ})}
    await registry.handle(put_policy("demo:partly", partly, who=BOB))
    await registry.handle(put())
    for imported in ("demo:none", "demo:secret", "demo:partly"):
        assert await refused(registry, policy(T1, {}, "imports", imported)) == (404, "policies:policy.notfound")
    whole = {"imports": {"demo:none": {}}, "entries": {"a": OWNER}}
    assert await refused(registry, policy("demo:new", whole)) == (404, "policies:policy.notfound")
    assert await refused(registry, put({"_policy": whole}, thing="demo:T2")) == (404, "things:thing.notcreatable")
    asked = policy(T1, [], "imports", "demo:none", "entries")
    assert await refused(registry, asked) == (404, "policies:import.notfound")
    only = entry("nginx:bob", ALL, importable="never")
    await registry.handle(policy("demo:partly", only, "entries", "owner", who=BOB))
    assert (await registry.handle(policy(T1, {}, "imports", "demo:partly"))).status == 201


async def test_references_lead_to_what_is_there(registry):
    template = entry("nginx:carl", {"thing:/attributes": READ}, importable="explicit")
    await registry.handle(put_policy("demo:shared", {"owner": OWNER, "t": template}))
    await registry.handle(put({"attributes": {"a": 1}}))
    reference = [{"import": "demo:shared", "entry": "t"}]
    member = {"subjects": {"nginx:bob": {"type": ""}}, "references": reference}
    assert await refused(registry, policy(T1, member, "entries", "m")) == (400, "policies:entry.invalid")
    await registry.handle(policy(T1, {"entries": ["t"]}, "imports", "demo:shared"))
    assert (await registry.handle(policy(T1, member, "entries", "m"))).status == 201
    assert (await registry.handle(get("attributes", who=BOB))).value == {"a": 1}
    lost = [{"import": "demo:shared", "entry": "none"}]
    asked = policy(T1, lost, "entries", "m", "references")
    assert await refused(registry, asked) == (400, "policies:import.invalid")
    gone = policy(T1, {}, "imports", "demo:shared")
    assert await refused(registry, gone) == (409, "policies:import.referenceconflict")
    undeclared = {"entries": {"a": OWNER, "m": member}}
    assert await refused(registry, policy("demo:new", undeclared)) == (400, "policies:import.invalid")


async def test_an_entry_counts_for_things_of_its_namespaces_only(registry):
    await registry.handle(put_policy("demo:p", {"owner": OWNER, "r": {**READER, "namespaces": ["demo.*"]}}))
    for thing in ("demo:T1", "demo.sub:T1"):
        await registry.handle(put({"policyId": "demo:p", "attributes": {"a": 1}}, thing=thing))
    assert await refused(registry, get(who=BOB)) == (404, "things:thing.notfound")
    assert (await registry.handle(get("attributes", thing="demo.sub:T1", who=BOB))).value == {"a": 1}


async def test_root_policies_count_in_every_policy_of_their_namespace():
    async with serving(namespace_policies={"demo": ["root:all"], "*": ["root:none"]}) as registry:
        await registry.handle(put({"attributes": {"a": 1}}))
        assert await refused(registry, get(who=BOB)) == (404, "things:thing.notfound")
        await registry.handle(put_policy("root:all", {"owner": OWNER, "readers": READER}))
        assert (await registry.handle(get("attributes", who=BOB))).value == {"a": 1}
        labels = [one.label for one in registry.rights.effective(T1).entries]
        assert labels == ["DEFAULT", "nsimported-root:all-owner", "nsimported-root:all-readers"]


async def test_a_subject_that_has_expired_counts_no_more():
    now = times.parse("2026-11-21T10:00:00Z")
    terms = Terms(expiry_granularity=1)
    async with Registry(MemoryStore(), lambda: now, lambda: "id", policy_terms=terms) as registry:
        await registry.handle(put({"attributes": {"a": 1}}))
        guest = {"subjects": {BOB[0]: {"type": "", "expiry": "2026-11-21T10:00:05Z"}}, "resources": READER["resources"]}
        await registry.handle(policy(T1, guest, "entries", "guest"))
        assert (await registry.handle(get("attributes", who=BOB))).value == {"a": 1}
        now += 4_999_999
        assert (await registry.handle(get("attributes", who=BOB))).value == {"a": 1}
        now += 1
        assert await refused(registry, get("attributes", who=BOB)) == (404, "things:attributes.notfound")


async def test_policies_that_have_left_the_memory_are_fetched_again():
    async with serving(cache_things=2) as registry:
        await registry.handle(put_policy("demo:shared", {"owner": OWNER, "readers": READER}))
        whole = {"imports": {"demo:shared": {}}, "entries": {"mine": OWNER}}
        await registry.handle(put({"attributes": {"a": 1}, "_policy": whole}))
        for n in range(10):
            await registry.handle(put(thing=f"demo:other{n}"))
        assert (await registry.handle(get("attributes", who=BOB))).value == {"a": 1}


async def test_the_guard_against_lockouts_can_be_switched_off():
    async with serving(policy_terms=Terms(lockout_prevention=False)) as registry:
        await registry.handle(put())
        assert (await registry.handle(policy(T1, {}, "entries"))).status == 204


@pytest.mark.parametrize(
    ("patch", "path", "lacking"),
    [
        ({"b": None}, ("attributes",), None),
        ({"a": None}, ("attributes",), "/attributes/a"),
        ({"a": {"open": None}}, ("attributes",), None),
        ({"b": 1, "a": {"open": 1, "closed": None}}, ("attributes",), "/attributes/a/closed"),
        ({"attributes": None}, (), "/attributes"),
        (None, ("attributes", "a"), "/attributes/a"),
        (None, ("attributes", "a", "open"), None),
        ({"a": 5}, ("attributes",), "/attributes/a"),
        ({"{{ ~b.*~ }}": None}, ("attributes",), "/attributes"),
    ],
)
async def test_a_null_deletes_only_what_may_be_written_as_a_whole(registry, patch, path, lacking):
    await registry.handle(put({"attributes": {"a": {"open": 1, "closed": 2}, "b": 3}}))
    rights = {"thing:/attributes": FULL, "thing:/attributes/a/closed": {"grant": [], "revoke": ["WRITE"]}}
    await registry.handle(policy(T1, entry("nginx:bob", rights), "entries", "bob"))
    asked = merge(patch, *path, who=BOB)
    if lacking is None:
        assert (await registry.handle(asked)).status == 204
        return
    with pytest.raises(ThingNotModifiable) as error:
        await registry.handle(asked)
    assert (error.value.code, error.value.facts["path"]) == ("things:thing.notmodifiable", lacking)


async def test_a_value_in_the_way_is_written_too(registry):
    await registry.handle(put({"attributes": {"a": 1, "c": {}}}))
    rights = {"thing:/attributes/a/b": FULL, "thing:/attributes/c/d": FULL}
    await registry.handle(policy(T1, entry("nginx:bob", rights), "entries", "bob"))
    assert await refused(registry, merge({"a": {"b": 2}}, "attributes", who=BOB)) == (403, "things:thing.notmodifiable")
    assert (await refused(registry, put(2, "attributes", "a", "b", who=BOB)))[0] == 403
    assert (await registry.handle(merge({"c": {"d": 2}}, "attributes", who=BOB))).status == 204
    assert (await registry.handle(put(3, "attributes", "c", "d", who=BOB))).status == 204


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ((), "policies:policy.notmodifiable"),
        (("entries",), "policies:policy.notmodifiable"),
        (("entries", "DEFAULT"), "policies:entry.notmodifiable"),
        (("entries", "DEFAULT", "subjects"), "policies:subjects.notmodifiable"),
        (("entries", "DEFAULT", "subjects", "nginx:x"), "policies:subject.notmodifiable"),
        (("entries", "DEFAULT", "resources"), "policies:resources.notmodifiable"),
        (("entries", "DEFAULT", "resources", "thing:/x"), "policies:resource.notmodifiable"),
        (("entries", "DEFAULT", "namespaces"), "policies:entry.notmodifiable"),
        (("imports",), "policies:imports.notmodifiable"),
        (("imports", "demo:Q"), "policies:import.notmodifiable"),
    ],
)
async def test_writes_on_policies_without_the_right_are_forbidden_part_by_part(registry, path, code):
    await registry.handle(put())
    values = {"entries": {}, "subjects": {}, "namespaces": [], "nginx:x": {"type": ""}, "thing:/x": FULL}
    value = {"entries": {"a": OWNER}} if not path else values.get(path[-1], {})
    assert await refused(registry, policy(T1, value, *path, who=BOB)) == (403, code)


async def test_a_right_on_one_resource_of_an_entry_is_a_right_on_that_alone(registry):
    await registry.handle(put())
    rights = {"policy:/entries/DEFAULT/resources/thing:/x": FULL}
    await registry.handle(policy(T1, entry("nginx:bob", rights), "entries", "bob"))
    into = ("entries", "DEFAULT", "resources")
    assert (await registry.handle(policy(T1, FULL, *into, "thing:/x/y", who=BOB))).status == 201
    assert await refused(registry, policy(T1, FULL, *into, "thing:/z", who=BOB)) == (
        403,
        "policies:resource.notmodifiable",
    )


async def test_a_policy_is_copied_with_its_imports(registry):
    await registry.handle(put_policy("demo:shared", {"owner": OWNER, "readers": READER}))
    whole = {"imports": {"demo:shared": {}}, "entries": {"mine": OWNER}}
    await registry.handle(policy("demo:p", whole))
    await registry.handle(put({"attributes": {"a": 1}, "_copyPolicyFrom": "demo:p"}))
    assert (await registry.handle(get("attributes", who=BOB))).value == {"a": 1}
    copied = (await registry.handle(Command(verb="retrieve", kind="policy", id=T1, subjects=ANNE))).value
    assert (copied["policyId"], copied["imports"]) == (T1, {"demo:shared": {}})


def test_root_policies_are_looked_at_before_the_start():
    assert list(contradictions({"*": ["a:b"], "org.example": [], "org.example.*": ["a:b"]})) == []
    wrong = list(contradictions({"org..example": ["a:b"], "org": ["nothing"]}))
    assert ["org..example" in wrong[0], "nothing" in wrong[1]] == [True, True]


async def test_the_closest_root_policies_come_first():
    roots = {"*": ["r:1"], "demo.*": ["r:2"], "demo.sub": ["r:3", "r:1"], "demo": ["r:4"]}
    async with serving(namespace_policies=roots) as registry:
        for n in range(1, 5):
            await registry.handle(put_policy(f"r:{n}", {"owner": OWNER}))
        await registry.handle(put(thing="demo.sub:T1"))
        labels = [one.label for one in registry.rights.effective("demo.sub:T1").entries]
    assert labels == ["DEFAULT", "nsimported-r:3-owner", "nsimported-r:1-owner", "nsimported-r:2-owner"]


def test_compiled_rights_are_kept_while_their_documents_stay_the_same_and_bounded():
    heads = Heads(100)
    document = {
        "policyId": "d:p",
        "entries": {"a": entry("nginx:anne", ALL), "b": entry("nginx:bob", {"thing:/": READ})},
    }
    held = heads.put(Held(kind="policy", id="d:p", document=document, revision=1))
    rights = Rights(heads, lambda: 0, limit=2)
    first = rights.permits(None, "d:p", ANNE, "d")
    assert first is rights.permits(None, "d:p", ANNE, "other")
    held.held = Held(kind="policy", id="d:p", document={**document, "entries": {}}, revision=2)
    assert not rights.permits(None, "d:p", ANNE, "d").may("thing", (), "READ")
    held.held = Held(kind="policy", id="d:p", document=document, revision=3)
    for n in range(5):
        assert not rights.permits(None, "d:p", (f"nginx:{n}",), "d").may("thing", (), "READ")
    assert rights.permits(None, "d:p", ANNE, "d").may("thing", (), "WRITE")
    assert rights.permits(None, "d:p", (*ANNE, *BOB), "d").may("thing", (), "WRITE")


def test_rights_under_policies_that_are_not_in_memory_name_all_that_is_lacking():
    heads = Heads(100)
    document = {"policyId": "d:p", "imports": {"d:q": {}, "d:r": {}}, "entries": {}}
    heads.put(Held(kind="policy", id="d:p", document=document, revision=1))
    with pytest.raises(Lacking) as lacking:
        Rights(heads, lambda: 0).permits(None, "d:p", ANNE, "d")
    assert lacking.value.keys == {("policy", "d:q"), ("policy", "d:r")}
    with pytest.raises(Lacking):
        Rights(heads, lambda: 0).permits(None, "d:none", ANNE, "d")


def unending(length: int = 13) -> dict[str, dict[str, Any]]:
    """Policies of which d:0 imports along a chain that is too long."""
    return {
        f"d:{n}": {
            "policyId": f"d:{n}",
            "imports": {f"d:{n + 1}": {"transitiveImports": [f"d:{n + 2}"]}},
            "entries": {"a": OWNER},
        }
        for n in range(length)
    }


def imports_followed(ask: Callable[[], object]) -> int:
    """How often the model follows imports while something is asked."""
    calls = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code is imports.resolve.__code__

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        ask()
    finally:
        sys.setprofile(before)
    return calls


def test_a_chain_without_end_is_followed_once_and_again_when_one_of_its_policies_changes():
    heads = Heads(100)
    held = {
        name: heads.put(Held(kind="policy", id=name, document=document, revision=1))
        for name, document in unending().items()
    }
    rights = Rights(heads, lambda: 0)
    assert not rights.permits(None, "d:0", ANNE, "d").may("thing", (), "READ")
    with pytest.raises(ImportInvalid) as first:
        rights.effective("d:0")
    first.value.facts["why"] = "this refusal's alone"
    following = imports_followed(lambda: rights.permits(None, "d:0", ANNE, "d"))
    assert following == 0
    with pytest.raises(ImportInvalid, match=re.escape(first.value.text)) as again:
        rights.effective("d:0")
    assert "why" not in again.value.facts
    held["d:5"].held = Held(kind="policy", id="d:5", document={"entries": {"a": OWNER}}, revision=2)
    assert rights.permits(None, "d:0", ANNE, "d").may("thing", (), "WRITE")
    assert rights.effective("d:0").documents["d:5"] == {"entries": {"a": OWNER}}


async def test_a_chain_of_imports_without_end_shuts_everybody_out_of_its_things_alone(registry):
    await registry.handle(put({"attributes": {"a": 1}}, thing="demo:other"))
    await registry.handle(put({"attributes": {"a": 1}}))
    for n in range(15):
        await registry.handle(policy(f"chain:{n}", {"entries": {"a": OWNER}}))
    asked = policy(T1, {"transitiveImports": ["chain:1"]}, "imports", "chain:0")
    assert (await registry.handle(asked)).status == 201
    for n in range(13):
        await registry.handle(
            policy(f"chain:{n}", {"transitiveImports": [f"chain:{n + 2}"]}, "imports", f"chain:{n + 1}")
        )
    with pytest.raises(ImportInvalid) as refusal:
        await registry.handle(get())
    assert (T1 in refusal.value.text, "'chain:0'" in refusal.value.text) == (True, True)
    assert not [n for n in range(1, 15) if f"chain:{n}'" in refusal.value.text]
    assert (await registry.handle(get(thing="demo:other"))).status == 200
    with pytest.raises(ThingNotAccessible):
        await registry.permits(ANNE, T1)
    assert (
        await registry.handle(Command(verb="delete", kind="policy", id=T1, subjects=ANNE, path=("imports",)))
    ).status == 204
    assert (await registry.handle(get("attributes"))).value == {"a": 1}
