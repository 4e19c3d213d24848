"""Conditions on the state of a thing: when they hold, what they keep back, and what they must not tell."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from registry_door import ANNE, BOB, OWNER, T1, entry, get, merge, put, put_policy, refused, serving
from skerry.conditions import Conditions, check, read, remaining
from skerry.errors import SkerryError
from skerry.signals import Command, Held
from skerry_registry.registry import Registry

FAILED = (412, "things:condition.failed")
HELD = Held(kind="thing", id=T1, document={"thingId": T1, "policyId": T1, "attributes": {"a": 1, "b": "x"}}, revision=3)


def found(verb: str = "modify", **headers: str) -> Conditions:
    """The conditions in some headers."""
    command = Command(
        verb=verb,  # type: ignore[arg-type] # a literal
        id=T1,
        subjects=ANNE,
        headers={name.replace("_", "-"): text for name, text in headers.items()},
    )
    conditions = read(command, 0)
    assert conditions is not None
    return conditions


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("eq(attributes/a,1)", True),
        ("eq(attributes/a,2)", False),
        ("and(exists(attributes/a),not(exists(attributes/c)))", True),
        ("ne(attributes/a,2)", True),
        ("ne(attributes/c,2)", True),
        ("not(ne(attributes/c,2))", False),
        ("or(ne(attributes/a,1),eq(_revision,3))", True),
        ("lt(_modified,time:now+1d)", True),
    ],
)
def test_a_condition_is_that_of_the_whole_thing(condition: str, holds: bool) -> None:
    conditions = found(condition=condition)
    if holds:
        check(conditions, HELD, {"condition": condition})
    else:
        with pytest.raises(SkerryError) as caught:
            check(conditions, HELD, {"condition": condition})
        assert (caught.value.status, caught.value.code) == FAILED
        assert condition in caught.value.payload()["description"]


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"condition": "eq(attributes/a,"}, "things:condition.invalid"),
        ({"condition": ""}, "things:condition.invalid"),
        ({"condition": "eq(colour"}, "things:condition.invalid"),
        ({"condition": "eq(colour,1)"}, "rql.expression.invalid"),
        ({"condition": "like(attributes/a,1)"}, "rql.expression.invalid"),
        ({"merge_thing_patch_conditions": "[]"}, "header.invalid"),
        ({"merge_thing_patch_conditions": '{"attributes/a": 1}'}, "header.invalid"),
        ({"merge_thing_patch_conditions": '{"attributes/a": "eq("}'}, "things:condition.invalid"),
        ({"merge_thing_patch_conditions": '{"a//b": "exists(attributes/a)"}'}, "json.pointer.invalid"),
    ],
)
def test_a_bad_condition_is_refused(headers: dict[str, str], code: str) -> None:
    with pytest.raises(SkerryError) as caught:
        found("merge", **headers)
    assert (caught.value.status, caught.value.code) == (400, code)


@pytest.mark.parametrize(
    ("parts", "left"),
    [
        ('{"attributes/a": "eq(attributes/a,1)"}', {"attributes": {"a": 5, "b": "y"}}),
        ('{"/attributes/a": "eq(attributes/a,2)"}', {"attributes": {"b": "y"}}),
        ('{"attributes": "eq(attributes/a,2)"}', {}),
        ('{"features/f": "eq(attributes/a,2)"}', {"attributes": {"a": 5, "b": "y"}}),
        ('{"attributes/a": "ne(attributes/a,1)", "attributes/b": "ne(attributes/b,\\"x\\")"}', {"attributes": {}}),
    ],
)
def test_parts_of_a_patch_have_conditions_of_their_own(parts: str, left: dict[str, Any]) -> None:
    patch = {"attributes": {"a": 5, "b": "y"}}
    assert remaining(found("merge", merge_thing_patch_conditions=parts), HELD, patch) == left
    assert patch == {"attributes": {"a": 5, "b": "y"}}


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with serving() as registry:
        yield registry


async def test_a_write_whose_condition_fails_changes_nothing(registry):
    await registry.handle(put({"attributes": {"a": 1}}))
    when = {"condition": "gt(attributes/a,1)"}
    assert await refused(registry, put(2, "attributes", "a", headers=when)) == FAILED
    assert await refused(registry, merge({"a": 2}, "attributes", headers=when)) == FAILED
    assert await refused(registry, get(**when)) == FAILED
    assert registry.journal.last == 2
    await registry.handle(put(2, "attributes", "a", headers={"condition": "eq(attributes/a,1)"}))
    assert (await registry.handle(get("attributes", **when))).value == {"a": 2}


async def test_a_condition_comes_before_the_etag_and_is_passed_over_on_creation(registry):
    await registry.handle(put({}, headers={"condition": "this is no condition"}))
    both = {"condition": "exists(attributes/a)", "if-match": '"rev:99"'}
    assert await refused(registry, put({}, headers=both)) == FAILED
    assert await refused(registry, put({}, headers=both | {"condition": "exists(thingId)"})) == (
        412,
        "things:precondition.failed",
    )
    assert (
        await registry.handle(put({}, thing="demo:T2", headers={"condition": "exists(attributes/a)"}))
    ).status == 201


async def test_what_a_condition_asks_must_be_readable(registry):
    bob = entry(BOB[0], thing={"/attributes/open": "RW", "/attributes/w": "W"})
    await registry.handle(put_policy("demo:P", {"owner": OWNER, "bob": bob}))
    await registry.handle(put({"policyId": "demo:P", "attributes": {"open": 1, "shut": 1, "w": 1}}))
    for condition in (
        "eq(attributes/shut,1)",
        "not(eq(attributes/shut,1))",
        "exists(_modified)",
        "exists(attributes/w)",
    ):
        assert (
            await refused(registry, put(2, "attributes", "open", who=BOB, headers={"condition": condition})) == FAILED
        )
        assert await refused(registry, get("attributes", "open", who=BOB, condition=condition)) == FAILED
    wanted = {"merge-thing-patch-conditions": '{"open": "eq(attributes/shut,1)"}'}
    assert await refused(registry, merge({"open": 2}, "attributes", who=BOB, headers=wanted)) == FAILED
    good = {"condition": "eq(attributes/open,1)"}
    await registry.handle(put(2, "attributes", "w", who=BOB, headers=good))
    assert (await registry.handle(get("attributes", "open", who=BOB, **good))).value == 1


async def test_a_merge_leaves_out_what_its_conditions_refuse(registry):
    await registry.handle(put({"attributes": {"a": 1, "b": 1}}))
    parts = '{"attributes/a": "gt(attributes/a,1)", "attributes/b": "eq(attributes/b,1)"}'
    patch = {"attributes": {"a": 2, "b": 2}}
    assert (await registry.handle(merge(patch, headers={"merge-thing-patch-conditions": parts}))).status == 204
    assert (await registry.handle(get("attributes"))).value == {"a": 1, "b": 2}
    none = '{"attributes": "gt(attributes/a,1)"}'
    assert (await registry.handle(merge(patch, headers={"merge-thing-patch-conditions": none}))).status == 204
    assert (await registry.handle(get("attributes"))).value == {"a": 1, "b": 2}
    assert (
        await registry.handle(merge(patch, thing="demo:T3", headers={"merge-thing-patch-conditions": none}))
    ).status == 201


async def test_whether_a_patch_changes_anything_is_asked_of_all_of_it(registry):
    await registry.handle(put({"attributes": {"a": 1, "b": 1}}))
    none = '{"attributes": "gt(attributes/a,1)"}'
    asked = {"merge-thing-patch-conditions": none, "if-equal": "skip"}
    assert (await registry.handle(merge({"attributes": {"a": 2}}, headers=asked))).status == 204
    assert await refused(registry, merge({"attributes": {"a": 1}}, headers=asked)) == (
        412,
        "things:precondition.failed",
    )
    small = {"if-equal": "skip-minimizing-merge"}
    assert (await registry.handle(put(1, "attributes", "a", headers=small))).status == 204


async def test_policies_know_no_conditions(registry):
    command = put_policy("demo:P", {"owner": OWNER})
    await registry.handle(command)
    again = Command(
        verb="modify",
        kind="policy",
        id="demo:P",
        subjects=ANNE,
        value=command.value,
        headers={"condition": "eq(attributes/a,1)"},
    )
    assert (await registry.handle(again)).status == 204
