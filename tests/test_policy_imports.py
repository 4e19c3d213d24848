"""What counts for a policy that takes over entries of others."""

from typing import Any

import pytest

from skerry_policies import imports
from skerry_policies.effective import EffectivePolicy, matches

R = {"grant": ["READ"], "revoke": []}
W = {"grant": ["WRITE"], "revoke": []}


def entry(subject: str, rights: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"subjects": {subject: {}}, "resources": {"thing:/": rights or R}, "importable": "implicit", **more}


def policy(imported: dict[str, Any] | None = None, **entries: Any) -> dict[str, Any]:
    return {"imports": imported or {}, "entries": entries}


def resolved(policies: dict[str, Any], roots: tuple[str, ...] = ()) -> EffectivePolicy:
    return imports.resolve("d:a", policies["d:a"], policies.get, roots)


def labels(policies: dict[str, Any], roots: tuple[str, ...] = ()) -> list[str]:
    return [entry.label for entry in resolved(policies, roots).entries]


def test_importable_decides_what_an_import_brings():
    b = policy(i=entry("s:1"), e=entry("s:2", importable="explicit"), n=entry("s:3", importable="never"))
    assert labels({"d:a": policy({"d:b": {}}, o=entry("s:0")), "d:b": b}) == ["o", "imported-d:b-i"]
    assert labels({"d:a": policy({"d:b": {"entries": ["e", "n"]}}), "d:b": b}) == ["imported-d:b-i", "imported-d:b-e"]


def test_a_policy_that_is_not_there_brings_nothing_but_is_known_to_matter():
    found = resolved({"d:a": policy({"d:b": {}}, o=entry("s:0"))})
    assert [entry.label for entry in found.entries] == ["o"]
    assert found.documents["d:b"] is None


def test_imports_of_imports_come_along_only_when_named():
    policies = {
        "d:a": policy({"d:b": {"transitiveImports": ["d:c"]}}),
        "d:b": policy({"d:c": {}, "d:d": {}}, b=entry("s:1")),
        "d:c": policy(c=entry("s:2")),
        "d:d": policy(d=entry("s:3")),
    }
    assert labels(policies) == ["imported-d:b-b", "imported-d:b-imported-d:c-c"]
    origin = resolved(policies).entries[1]
    assert (origin.policy_id, origin.origin) == ("d:c", "c")
    policies["d:a"] = policy({"d:b": {}})
    assert labels(policies) == ["imported-d:b-b"]


def test_a_chain_without_end_is_refused_and_a_short_cycle_is_cut():
    chain = {f"d:{n}": policy({f"d:{n + 1}": {"transitiveImports": [f"d:{n + 2}"]}}) for n in range(30)}
    chain["d:a"] = policy({"d:0": {"transitiveImports": ["d:1"]}})
    with pytest.raises(imports.ImportInvalid, match="import of 'd:0' into the policy 'd:a'") as refusal:
        resolved(chain)
    assert "d:1" not in refusal.value.text
    chain["d:a"] = policy()
    with pytest.raises(imports.ImportInvalid, match="import of 'd:0' into the policy 'd:a'"):
        resolved(chain, roots=("d:0",))
    cycle = {
        "d:a": policy({"d:b": {"transitiveImports": ["d:a"]}}, o=entry("s:0")),
        "d:b": policy({"d:a": {"transitiveImports": ["d:b"]}}, b=entry("s:1")),
    }
    assert "imported-d:b-b" in labels(cycle)


def test_ways_that_multiply_are_refused_before_they_take_long():
    deep = 8
    tree: dict[str, Any] = {
        "d:a": policy({f"d:1-{n}": {"transitiveImports": [f"d:2-{m}" for m in range(10)]} for n in range(10)})
    }
    for level in range(1, deep):
        through = {"transitiveImports": [f"d:{level + 2}-{n}" for n in range(10)]}
        for number in range(10):
            tree[f"d:{level}-{number}"] = policy({f"d:{level + 1}-{n}": through for n in range(10)}, o=entry("s:1"))
    with pytest.raises(imports.ImportInvalid, match=r"'d:1-0' into the policy 'd:a' .* too much"):
        resolved(tree)


def test_a_reference_adds_what_its_target_has_and_allows():
    template = entry("s:t", R, allowedAdditions=["subjects"], namespaces=["n"])
    referring = {
        "subjects": {"s:me": {}},
        "resources": {"thing:/": W},
        "references": [{"import": "d:b", "entry": "t"}],
    }
    found = resolved({"d:a": policy({"d:b": {}}, o=referring), "d:b": policy(t=template)}).entries[0]
    assert list(found.entry["subjects"]) == ["s:t", "s:me"]
    assert found.entry["resources"] == {"thing:/": R}
    assert found.entry["namespaces"] == ["n"]
    assert found.sources == (("d:a", "o"), ("d:b", "t"))


def test_local_references_merge_rights_of_one_level_and_pass_over_what_is_never_importable():
    policies = {
        "d:a": policy(
            one={"subjects": {"s:1": {}}, "resources": {"thing:/": W}, "references": [{"entry": "two"}]},
            two={"subjects": {}, "resources": {"thing:/": R}, "references": [{"entry": "three"}]},
            three=entry("s:3", importable="explicit"),
            four={"subjects": {}, "resources": {}, "references": [{"entry": "secret"}, {"entry": "nowhere"}]},
            secret=entry("s:9", importable="never"),
        )
    }
    one, two, _, four, _ = resolved(policies).entries
    assert one.entry["resources"] == {"thing:/": {"grant": ["READ", "WRITE"], "revoke": []}}
    assert list(one.entry["subjects"]) == ["s:1"]
    assert list(two.entry["subjects"]) == ["s:3"]
    assert four.entry["subjects"] == {}


def test_root_policies_bring_their_implicit_entries_under_labels_of_their_own():
    policies = {
        "d:a": policy(o=entry("s:0")),
        "d:r": policy(o=entry("s:1"), e=entry("s:2", importable="explicit")),
    }
    assert labels(policies, ("d:r", "d:a", "d:none")) == ["o", "nsimported-d:r-o"]


def test_namespace_patterns_name_one_namespace_or_all_below():
    assert matches((), "a")
    assert matches(["x", "a.b"], "a.b")
    assert matches(["a.*"], "a.b.c")
    assert not matches(["a.*"], "a")
    assert not matches(["a.*"], "ab")
