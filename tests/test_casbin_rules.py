"""The compiled rights against Casbin and against an evaluator that follows Ditto's rule word for word, on random policies."""

import random
from typing import Any

import pytest
from msgspec import UNSET

from skerry_policies import imports
from skerry_policies.casbin_rules import Authority, lines_of
from skerry_policies.effective import EffectiveEntry
from skerry_policies.enforcer import Permits, rules_of

CASES = 3_500
"""Of each of three kinds: more than ten thousand together."""

NOW = 1_000_000
PERMISSIONS = ("READ", "WRITE")
SUBJECTS = ("s:1", "s:2", "s:3")
NAMESPACES = ("n", "n.m", "o")
EXPIRIES = ({}, {}, {}, {"expiry": "1970-01-01T00:00:00Z"}, {"expiry": "2100-01-01T00:00:00Z"})


class Chance:
    """Random policies, paths and documents from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def path(self, longest: int = 4) -> tuple[str, ...]:
        return tuple(self.random.choice("ab") for _ in range(self.random.randint(0, longest)))

    def some(self, values) -> list[Any]:
        return [value for value in values if self.random.random() < 0.45]

    def entry(self) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "subjects": {subject: self.random.choice(EXPIRIES) for subject in self.some(SUBJECTS)},
            "resources": {
                "thing:/" + "/".join(self.path(3)): {
                    "grant": self.some(PERMISSIONS),
                    "revoke": self.some(PERMISSIONS) if self.random.random() < 0.5 else [],
                }
                for _ in range(self.random.randint(0, 4))
            },
            "importable": self.random.choice(["implicit", "implicit", "explicit", "never"]),
        }
        if self.random.random() < 0.2:
            entry["namespaces"] = [self.random.choice(["n", "n.*", "o"])]
        return entry

    def policy(self, *others: str) -> dict[str, Any]:
        entries = {label: self.entry() for label in "xyz"[: self.random.randint(1, 3)]}
        if others and self.random.random() < 0.5:
            entries["x"]["references"] = [{"import": others[0], "entry": "x"}]
        return {"imports": {other: {"entries": self.some("xyz")} for other in others}, "entries": entries}

    def document(self, depth: int = 0) -> Any:
        kind = self.random.random()
        if depth < 4 and kind < 0.55:
            return {key: self.document(depth + 1) for key in "ab"[: self.random.randint(0, 2)]}
        if depth < 4 and kind < 0.7:
            return [self.document(depth + 1) for _ in range(self.random.randint(0, 2))]
        return self.random.randint(0, 3)


class Obvious:
    """The rule, read aloud: of all that applies, the deepest decides; at the same depth a revoke wins."""

    def __init__(self, entries: list[EffectiveEntry], subjects: list[str], namespace: str) -> None:
        self.said: list[tuple[tuple[str, ...], str, bool]] = []
        for entry in (one.entry for one in entries):
            if not any(self.counts(entry["subjects"].get(subject)) for subject in subjects):
                continue
            if not self.applies(entry.get("namespaces"), namespace):
                continue
            for key, rights in entry["resources"].items():
                at = tuple(key.removeprefix("thing:/").split("/")) if key != "thing:/" else ()
                self.said += [(at, permission, True) for permission in rights["grant"]]
                self.said += [(at, permission, False) for permission in rights["revoke"]]

    def counts(self, facts: dict[str, str] | None) -> bool:
        return facts is not None and not facts.get("expiry", "2").startswith("1970")

    def applies(self, patterns: list[str] | None, namespace: str) -> bool:
        if not patterns:
            return True
        return any(namespace == p or (p.endswith(".*") and namespace.startswith(p[:-1])) for p in patterns)

    def holds(self, path, permission) -> bool:
        for depth in range(len(path), -1, -1):
            here = [granted for at, named, granted in self.said if named == permission and at == path[:depth]]
            if here:
                return all(here)
        return False

    def below(self, path, permission) -> list[tuple[str, ...]]:
        return [at for at, named, _ in self.said if named == permission and at[: len(path)] == path and at != path]

    def may(self, path, permission) -> bool:
        return self.holds(path, permission) and all(self.holds(at, permission) for at in self.below(path, permission))

    def may_partly(self, path, permission) -> bool:
        return self.holds(path, permission) or any(self.holds(at, permission) for at in self.below(path, permission))


def filtered(value, path, holds) -> Any:
    """What is left of a value when every leaf is asked for."""
    if isinstance(value, dict):
        parts = {key: filtered(member, (*path, key), holds) for key, member in value.items()}
        kept: Any = {key: part for key, part in parts.items() if part is not UNSET}
    elif isinstance(value, list):
        kept = [part for member in value if (part := filtered(member, path, holds)) is not UNSET]
    else:
        return value if holds(path) else UNSET
    return kept if kept or holds(path) else UNSET


def policies_of(chance: Chance, kind: str) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """One policy by itself, one that imports another that imports a third, or one with a root policy."""
    if kind == "alone":
        return {"d:a": chance.policy()}, ()
    if kind == "rooted":
        return {"d:a": chance.policy(), "d:r": chance.policy()}, ("d:r",)
    found = {"d:a": chance.policy("d:b"), "d:b": chance.policy("d:c"), "d:c": chance.policy()}
    found["d:a"]["imports"]["d:b"]["transitiveImports"] = chance.some(["d:c"])
    return found, ()


@pytest.mark.parametrize("kind", ["alone", "importing", "rooted"])
def test_the_compiled_rights_casbin_and_the_rule_read_aloud_agree(kind):
    chance = Chance(20_261_121)
    for case in range(CASES):
        policies, roots = policies_of(chance, kind)
        effective = imports.resolve("d:a", policies["d:a"], policies.get, roots)
        subjects, namespace = chance.some(SUBJECTS), chance.random.choice(NAMESPACES)
        permits = Permits(rules_of([one.entry for one in effective.entries], subjects, namespace, NOW).rows)
        casbin = Authority(lines_of(effective.entries, None, namespace, NOW))
        obvious = Obvious(list(effective.entries), subjects, namespace)
        path, permission = chance.path(), chance.random.choice(PERMISSIONS)
        asked = (tuple(subjects), "thing", path, permission)
        holds = (permits.holds("thing", path, permission), casbin.decide(*asked)[0], obvious.holds(path, permission))
        may = (permits.may("thing", path, permission), casbin.may(*asked), obvious.may(path, permission))
        partly = (
            permits.may_partly("thing", path, permission),
            casbin.may_partly(*asked),
            obvious.may_partly(path, permission),
        )
        document = chance.document()
        views = (
            permits.view((), document, "thing", permission),
            filtered(document, (), lambda at, casbin=casbin, asked=asked: casbin.decide(*asked[:2], at, asked[3])[0]),
            filtered(document, (), lambda at, obvious=obvious, asked=asked: obvious.holds(at, asked[3])),
        )
        for answers in (holds, may, partly, views):
            assert answers[0] == answers[1] == answers[2], (case, policies, subjects, namespace, path, permission)


def test_casbin_names_the_rule_that_decides():
    entry = {
        "subjects": {"s:1": {}, "s:2": {}},
        "resources": {
            "thing:/": {"grant": ["READ"], "revoke": []},
            "thing:/a": {"grant": ["READ"], "revoke": ["READ"]},
        },
    }
    effective = imports.resolve("d:a", {"entries": {"x": entry}}, {}.get)
    authority = Authority(lines_of(effective.entries))
    granted, line = authority.decide(("s:2",), "thing", ("a", "b"), "READ")
    assert (granted, line.subject, line.key, line.granted) == (False, "s:2", "thing:/a", False)
    assert authority.decide(("s:1",), "thing", ("b",), "READ")[1].key == "thing:/"
    assert authority.decide(("s:3",), "thing", (), "READ") == (False, None)
    assert authority.decide(("s:1",), "policy", (), "READ") == (False, None)
