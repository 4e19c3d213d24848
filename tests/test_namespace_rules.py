"""The operator's rules: which namespaces a caller may reach, and what he may create."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from msgspec import structs

from skerry.signals import Command
from skerry_registry.identities import creation, namespaces
from skerry_registry.identities.caller import Caller
from skerry_registry.identities.creation import Creation, CreationRule
from skerry_registry.identities.namespaces import NamespaceRule, NamespaceRules, headers_of
from skerry_registry.identities.refusals import EntityNotCreatable, NamespaceNotAccessible
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore

NOW = 1_700_000_000_000_000


def reached(
    *rules: NamespaceRule,
    claims: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    kind: str = "thing",
) -> list[str]:
    """Which of the namespaces a to e of org may be reached."""
    caller = Caller("ditto:a", ("ditto:a",), claims=claims)
    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    reach = NamespaceRules(rules, lambda: NOW).reach(caller, headers_of(raw))
    names = ("org", "org.a", "org.b", "org.b.c", "com")
    return [name for name in names if reach is None or reach.covers(kind, name)]


ALL = ["org", "org.a", "org.b", "org.b.c", "com"]


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ([], ALL),
        ([NamespaceRule()], ALL),
        ([NamespaceRule(allowed_namespaces=("org.*",))], ["org.a", "org.b", "org.b.c"]),
        ([NamespaceRule(allowed_namespaces=("org", "org.?"))], ["org", "org.a", "org.b"]),
        ([NamespaceRule(blocked_namespaces=("org.b*",))], ["org", "org.a", "com"]),
        ([NamespaceRule(allowed_namespaces=("org.*",), blocked_namespaces=("org.b",))], ["org.a", "org.b.c"]),
        ([NamespaceRule(allowed_namespaces=("org.a",)), NamespaceRule(allowed_namespaces=("com",))], ["org.a", "com"]),
        ([NamespaceRule(), NamespaceRule(blocked_namespaces=("com",))], ALL[:-1]),
        ([NamespaceRule(conditions=("{{ jwt:sub }}",))], []),
        ([NamespaceRule(conditions=("{{ header:nothing }}",))], []),
        ([NamespaceRule(resource_types=("policy",))], []),
    ],
)
def test_a_namespace_is_reached_where_a_rule_opens_it_and_none_closes_it(rules: list[NamespaceRule], found: list[str]):
    assert reached(*rules) == found


def test_those_for_whom_the_same_rules_count_have_the_same_reach():
    rules = NamespaceRules((NamespaceRule(), NamespaceRule(conditions=("{{ jwt:sub }}",))), lambda: NOW)
    plain, also, token = (
        rules.reach(Caller(name, (name,), claims=claims), lambda _: None)
        for name, claims in (("a", None), ("b", {}), ("c", {"sub": "c"}))
    )
    assert {plain, also} == {plain} != {token}


def test_a_rule_counts_where_all_its_conditions_come_to_something():
    rule = NamespaceRule(
        conditions=(
            "{{ jwt:iss | fn:filter('like','https://org*') }}",
            "{{ header:X-Zone | fn:default('safe') | fn:filter('ne','dangerous') }}",
        ),
        allowed_namespaces=("org.a",),
    )
    claims = {"iss": "https://org.example"}
    assert reached(rule, claims=claims) == ["org.a"]
    assert reached(rule, claims=claims, headers={"x-zone": "any"}) == ["org.a"]
    assert reached(rule, claims=claims, headers={"x-zone": "dangerous"}) == []
    assert reached(rule, claims={"iss": "https://elsewhere"}) == []
    assert reached(rule) == []


def test_a_rule_for_policies_says_nothing_of_things():
    rules = (NamespaceRule(resource_types=("policy",), allowed_namespaces=("com",)),)
    assert reached(*rules, kind="policy") == ["com"]
    assert reached(*rules) == []


def test_what_is_closed_is_refused_by_name():
    reach = NamespaceRules([NamespaceRule(allowed_namespaces=("org",))], lambda: NOW).reach(
        Caller("a", ("a",)), lambda _: None
    )
    assert reach is not None
    reach.check("thing", "org:t:1")
    with pytest.raises(NamespaceNotAccessible) as error:
        reach.check("thing", "com:t")
    assert error.value.payload()["error"] == "gateway:namespace.notaccessible"


def may_create(rules: Creation, *asked: Any) -> bool:
    try:
        rules.check(*asked)
    except EntityNotCreatable:
        return False
    return True


def test_without_lists_everything_may_be_created():
    assert Creation.of((), ()) is None
    assert may_create(Creation((), ()), "thing", "a:b", ["x:y"])


def test_an_entity_may_be_created_where_an_entry_grants_it_and_none_revokes_it():
    grant = (
        CreationRule(resource_types=("thing",), namespaces=("org.*",), auth_subjects=("ditto:*",)),
        CreationRule(resource_types=("policy",)),
    )
    revoke = (CreationRule(namespaces=("org.closed",)), CreationRule(auth_subjects=("ditto:guest",)))
    rules = Creation(grant, revoke)
    assert may_create(rules, "thing", "org.a:t", ["ditto:user2"])
    assert may_create(rules, "policy", "com:p", ["nginx:ditto"])
    assert not may_create(rules, "thing", "com:t", ["ditto:user2"])
    assert not may_create(rules, "thing", "org.a:t", ["nginx:ditto"])
    assert not may_create(rules, "thing", "org.closed:t", ["ditto:user2"])
    assert not may_create(rules, "policy", "org.closed:p", ["ditto:user2"])
    assert not may_create(rules, "thing", "org.a:t", ["ditto:user2", "ditto:guest"])


def test_definitions_restrict_things_and_an_empty_one_stands_for_none():
    rules = Creation((CreationRule(thing_definitions=("org.wind:*", "")),), ())
    assert may_create(rules, "thing", "a:b", ["x:y"], "org.wind:turbine:1.0.0")
    assert may_create(rules, "thing", "a:b", ["x:y"])
    assert not may_create(rules, "thing", "a:b", ["x:y"], "org.solar:panel:1.0.0")
    assert may_create(rules, "policy", "a:b", ["x:y"])
    only = Creation((CreationRule(thing_definitions=("",)),), ())
    assert not may_create(only, "thing", "a:b", ["x:y"], "org.wind:turbine:1.0.0")
    named = Creation((CreationRule(thing_definitions=("org.wind:*",)),), ())
    assert not may_create(named, "thing", "a:b", ["x:y"])


def test_rules_that_mean_nothing_are_told():
    wrong = [
        NamespaceRule(resource_types=("message",), conditions=("{{ jwt:a | fn:b() }}",), allowed_namespaces=("a:b",))
    ]
    assert len(list(namespaces.contradictions(wrong))) == 3
    bare = namespaces.contradictions((NamespaceRule(conditions=("jwt:iss",)),))
    assert [problem.endswith("no braces; write {{ jwt:iss }}.") for problem in bare] == [True]
    rules = [
        CreationRule(resource_types=("message",)),
        CreationRule(resource_types=("policy",), thing_definitions=("a",)),
    ]
    assert len(list(creation.contradictions("entity_creation_grant", rules))) == 2


async def test_the_registry_creates_nothing_that_the_rules_forbid_and_changes_what_there_is():
    rules = Creation(
        (CreationRule(namespaces=("org.*",)),), (CreationRule(resource_types=("thing",), thing_definitions=("bad:*",)),)
    )
    ids = itertools.count(1)
    store = MemoryStore()
    subjects = ("nginx:ditto",)
    create = Command(verb="create", id="org.a:t", subjects=subjects, value={"attributes": {}})
    async with Registry(store, lambda: NOW, lambda: str(next(ids)), creation_rules=rules) as registry:
        assert (await registry.handle(create)).status == 201
        for forbidden in (
            structs.replace(create, id="com:t", verb="modify"),
            structs.replace(create, id="com:t", verb="merge"),
            structs.replace(create, id="org.a:u", value={"definition": "bad:model:1.0.0"}),
            structs.replace(create, id="org.a:u", value={"_policy": {"entries": {}}, "policyId": "com:p"}),
            Command(verb="modify", kind="policy", id="com:p", subjects=subjects, value={"entries": {}}),
        ):
            with pytest.raises(EntityNotCreatable):
                await registry.handle(forbidden)
    async with Registry(
        store, lambda: NOW, lambda: str(next(ids)), creation_rules=Creation((), (CreationRule(),))
    ) as registry:
        change = Command(verb="modify", id="org.a:t", subjects=subjects, path=("attributes", "a"), value=1)
        assert (await registry.handle(change)).status == 201
