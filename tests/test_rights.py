"""Who may do what at the one door, and the policy that comes with a thing."""

from collections.abc import AsyncIterator

import pytest

from registry_door import ANNE, BOB, OWNER, T1, delete, entry, get, merge, put, put_policy, refused, serving
from skerry.signals import Command
from skerry_registry.registry import Registry


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with serving() as registry:
        yield registry


async def test_who_may_read_nothing_is_told_that_there_is_nothing(registry):
    await registry.handle(put({"attributes": {"a": 1}}))
    assert await refused(registry, get(who=BOB)) == (404, "things:thing.notfound")
    assert await refused(registry, get("attributes", who=BOB)) == (404, "things:attributes.notfound")
    assert await refused(registry, get("features", "f", "properties", "x", who=BOB)) == (
        404,
        "things:feature.property.notfound",
    )


async def test_writes_without_the_right_are_forbidden_part_by_part(registry):
    await registry.handle(put({"features": {"f": {}}}))
    expected = {
        (): "thing.notmodifiable",
        ("policyId",): "policyId.notmodifiable",
        ("definition",): "definition.notmodifiable",
        ("attributes",): "attributes.notmodifiable",
        ("attributes", "a"): "attribute.notmodifiable",
        ("features",): "features.notmodifiable",
        ("features", "f"): "feature.notmodifiable",
        ("features", "f", "definition"): "feature.definition.notmodifiable",
        ("features", "f", "properties"): "feature.properties.notmodifiable",
        ("features", "f", "properties", "p"): "feature.property.notmodifiable",
        ("features", "f", "desiredProperties"): "feature.desiredProperties.notmodifiable",
        ("features", "f", "desiredProperties", "p"): "feature.desiredProperty.notmodifiable",
    }
    for path, code in expected.items():
        assert await refused(registry, put({}, *path, who=BOB)) == (403, f"things:{code}")
    assert await refused(registry, delete(who=BOB)) == (403, "things:thing.notdeletable")
    assert await refused(registry, merge({"a": 1}, "attributes", who=BOB)) == (403, "things:thing.notmodifiable")


async def share(registry: Registry) -> None:
    """A thing of which bob may read a part and write another."""
    bob = entry(
        "nginx:bob",
        thing={
            "/attributes": "R",
            "/attributes/secret": "r",
            "/features/f/properties": "RW",
            "/features/f/properties/x": "w",
        },
        policy={"/entries/b": "R"},
    )
    await registry.handle(put_policy("demo:P", {"a": OWNER, "b": bob}))
    value = {
        "policyId": "demo:P",
        "attributes": {"secret": 1, "open": 2},
        "features": {"f": {"properties": {"x": 1, "y": 2}}, "g": {"properties": {"z": 1}}},
    }
    assert (await registry.handle(put(value))).status == 201


async def test_a_reader_sees_its_part_only(registry):
    await share(registry)
    seen = {"thingId": T1, "attributes": {"open": 2}, "features": {"f": {"properties": {"x": 1, "y": 2}}}}
    assert (await registry.handle(get(who=BOB))).value == seen
    assert (await registry.handle(get("attributes", who=BOB))).value == {"open": 2}
    for path in (("attributes", "secret"), ("features", "g"), ("policyId",)):
        assert (await refused(registry, get(*path, who=BOB)))[0] == 404
    assert (await registry.permits(BOB, T1)).view((), {"attributes": {"secret": 1}}) == {"attributes": {}}


async def test_a_writer_writes_its_part_only(registry):
    await share(registry)
    properties = ("features", "f", "properties")
    assert (await registry.handle(put(3, *properties, "y", who=BOB))).status == 204
    assert await refused(registry, put(3, *properties, "x", who=BOB)) == (403, "things:feature.property.notmodifiable")
    assert await refused(registry, put({}, *properties, who=BOB)) == (403, "things:feature.properties.notmodifiable")
    patch = {"features": {"f": {"properties": {"y": 5, "new": {"deep": 1}}}}}
    assert (await registry.handle(merge(patch, who=BOB))).status == 204
    for refusal in ({"x": None}, {"x": 1, "y": 2}, {}, {"{{ ~.*~ }}": None}):
        assert await refused(registry, merge(refusal, *properties, who=BOB)) == (403, "things:thing.notmodifiable")


async def test_the_policy_comes_with_the_thing_when_asked_for(registry):
    await share(registry)
    full = (await registry.handle(get(fields="thingId,_policy"))).value
    assert set(full["_policy"]["entries"]) == {"a", "b"}
    part = (await registry.handle(get(fields="thingId,_policy", who=BOB))).value
    assert set(part["_policy"]["entries"]) == {"b"}


async def test_a_thing_whose_policy_is_gone_is_out_of_reach(registry):
    await registry.handle(put())
    await registry.handle(Command(verb="delete", kind="policy", id=T1, subjects=ANNE))
    assert await refused(registry, get()) == (404, "things:thing.notfound")
    assert await refused(registry, put(1, "attributes", "a")) == (403, "things:thing.notmodifiable")
    assert await refused(registry, delete()) == (403, "things:thing.notmodifiable")


async def test_after_a_deletion_the_policy_stays_and_is_in_the_way(registry):
    await registry.handle(put())
    assert (await registry.handle(delete())).status == 204
    assert await refused(registry, put()) == (400, "things:thing.notcreatable")
    assert (await registry.handle(put({"policyId": T1}))).revision == 3


async def test_an_inline_policy_is_made_with_the_thing(registry):
    response = await registry.handle(put({"_policy": {"entries": {"mine": OWNER}}}))
    assert "_policy" not in response.value
    policy = await registry.handle(Command(verb="retrieve", kind="policy", id=T1, subjects=ANNE))
    assert list(policy.value["entries"]) == ["mine"]
    other = put({"policyId": "demo:P", "_policy": {"entries": {"mine": OWNER}}}, thing="demo:T2")
    assert (await registry.handle(other)).value["policyId"] == "demo:P"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"_policy": {"entries": {}}}, (400, "things:policy.invalid")),
        ({"_policy": "demo:P"}, (400, "things:policy.invalid")),
        ({"_policy": {"entries": {"a": OWNER}}, "_copyPolicyFrom": "demo:P"}, (400, "things:policy.conflicting")),
        ({"_policy": {"policyId": "demo:A", "entries": {}}, "policyId": "demo:B"}, (400, "things:policy.invalid")),
        ({"_policy": {"entries": {"a": {"subjects": {"b": {"type": ""}}}}}}, (400, "policies:subjectid.invalid")),
        ({"_policy": {"entries": {"a": entry("nginx:bob", policy={"/": "RW"})}}}, (403, "things:thing.notcreatable")),
        ({"_policy": {"entries": {"a": entry("nginx:anne", policy={"/": "RW"})}}}, (403, "things:thing.notmodifiable")),
        ({"_policy": {"entries": {"a": OWNER}}, "policyId": "demo:T0"}, (400, "things:thing.notcreatable")),
        ({"policyId": "demo:none"}, (404, "policies:policy.notfound")),
        ({"_copyPolicyFrom": "demo:none"}, (404, "policies:policy.notfound")),
        (
            {"_copyPolicyFrom": "{{ ref:things/demo:none/policyId }}"},
            (404, "things:thing.notfound"),
        ),
        (
            {"_copyPolicyFrom": "{{ ref:things/demo:T0/attributes/none }}"},
            (400, "placeholder:placeholder.reference.unknownfield"),
        ),
        (
            {"_copyPolicyFrom": "{{ ref:farms/demo:T0/policyId }}"},
            (400, "placeholder:placeholder.reference.notsupported"),
        ),
        ({"_copyPolicyFrom": "{{ something }}"}, (400, "placeholder:placeholder.reference.notsupported")),
    ],
)
async def test_a_creation_that_comes_to_no_policy_makes_nothing(registry, value, expected):
    await registry.handle(put(thing="demo:T0"))
    assert await refused(registry, put(value)) == expected
    assert registry.journal.last == 2


@pytest.mark.parametrize("source", ["demo:T0", "{{ ref:things/demo:T0/policyId }}", "{{ref:things/demo:T0/policyId}}"])
async def test_a_policy_is_copied(registry, source):
    await registry.handle(put(thing="demo:T0"))
    response = await registry.handle(put({"_copyPolicyFrom": source}))
    assert response.value == {"thingId": T1, "policyId": T1}
    policy = await registry.handle(Command(verb="retrieve", kind="policy", id=T1, subjects=ANNE))
    assert policy.value["policyId"] == T1
    assert list(policy.value["entries"]) == ["DEFAULT"]


async def test_a_strangers_policy_cannot_be_used_or_copied(registry):
    await registry.handle(put(thing="demo:T0"))
    for value in ({"policyId": "demo:T0"}, {"_copyPolicyFrom": "demo:T0"}):
        assert await refused(registry, put(value, who=BOB)) == (404, "policies:policy.notfound")


async def test_a_policy_that_is_readable_but_lets_one_not_write_makes_no_thing(registry):
    await registry.handle(
        put_policy("demo:P", {"a": OWNER, "b": entry("nginx:bob", policy={"/": "R"}, thing={"/": "R"})})
    )
    assert await refused(registry, put({"policyId": "demo:P"}, who=BOB)) == (403, "things:thing.notmodifiable")


async def test_a_thing_may_be_pointed_to_a_policy_that_does_not_exist_with_a_warning(registry):
    await registry.handle(put())
    response = await registry.handle(put("demo:none", "policyId"))
    assert response.status == 204
    assert "demo:none" in response.headers["warning"]
    assert await refused(registry, get()) == (404, "things:thing.notfound")
    await registry.handle(put_policy("demo:none", {"a": OWNER}))
    assert (await registry.handle(get("policyId"))).value == "demo:none"


async def test_a_new_policy_takes_effect_at_once(registry):
    await registry.handle(put())
    assert (await refused(registry, get(who=BOB)))[0] == 404
    await registry.handle(put_policy(T1, {"a": OWNER, "b": entry("nginx:bob", thing={"/": "R"})}))
    assert (await registry.handle(get(who=BOB))).status == 200
