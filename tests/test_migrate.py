"""Migrations of a thing to another definition: who may, what is patched, and under which conditions."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import structs

from registry_door import ANNE, BOB, OWNER, T1, entry, events, get, put, put_policy, refused, serving
from skerry.protocol import command_from, event_envelope, response_envelope
from skerry.signals import Command
from skerry_registry.registry import Registry

MODEL = "https://models.example.org/turbine-2.0.0.tm.jsonld"
BEFORE = {
    "definition": "https://models.example.org/turbine-1.0.0.tm.jsonld",
    "attributes": {"serial": 5, "maker": "X", "opt": "n"},
    "features": {"lamp": {"properties": {"on": True}}},
}


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with serving() as registry:
        await registry.handle(put(BEFORE))
        yield registry


def migrate(
    payload: Any = None, *, who=ANNE, thing: str = T1, headers: dict[str, str] | None = None, **more
) -> Command:
    value = {"thingDefinitionUrl": MODEL, "migrationPayload": payload, **more}
    return Command(verb="migrate", id=thing, subjects=who, value=value, headers=headers or {})


async def thing(registry: Registry) -> dict[str, Any]:
    document = (await registry.handle(get())).value
    return {name: document[name] for name in ("definition", "attributes", "features") if name in document}


async def test_a_migration_changes_the_definition_and_merges_its_payload(registry):
    response = await registry.handle(migrate({"attributes": {"maker": "Y", "opt": None}}))
    patch = {"definition": MODEL, "attributes": {"maker": "Y", "opt": None}}
    assert (response.status, response.etag, response.revision) == (200, '"rev:2"', 2)
    assert response.value == {"thingId": T1, "patch": patch, "mergeStatus": "APPLIED"}
    assert await thing(registry) == {**BEFORE, "definition": MODEL, "attributes": {"serial": 5, "maker": "Y"}}
    event = (await events(registry))[-1]
    envelope = event_envelope(event)
    assert envelope["topic"] == "demo/T1/things/twin/events/migrated"
    assert (envelope["path"], envelope["value"], envelope["revision"]) == ("/", {"thingId": T1, **patch}, 2)


async def test_a_migration_needs_no_payload(registry):
    assert (await registry.handle(migrate())).value["patch"] == {"definition": MODEL}


async def test_a_dry_run_changes_nothing(registry):
    response = await registry.handle(migrate({"attributes": {"maker": "Y"}}, headers={"dry-run": "true"}))
    patch = {"definition": MODEL, "attributes": {"maker": "Y"}}
    assert (response.status, response.etag) == (202, None)
    assert response.value == {"thingId": T1, "patch": patch, "mergeStatus": "DRY_RUN"}
    assert await thing(registry) == BEFORE
    assert await refused(registry, migrate({"policyId": None}, headers={"dry-run": "true"})) == (
        400,
        "things:policyId.notdeletable",
    )
    assert await refused(registry, migrate(headers={"dry-run": "maybe"})) == (400, "header.invalid")


async def test_parts_whose_condition_does_not_hold_are_left_out(registry):
    conditions = {
        "thing:/features/lamp": "exists(features/lamp/properties/level)",
        "thing:/attributes/maker": 'eq(attributes/maker,"X")',
        "thing:/attributes/none": "exists(attributes/none)",
    }
    payload = {"attributes": {"maker": "Y"}, "features": {"lamp": {"properties": {"level": 1.5}}}}
    response = await registry.handle(migrate(payload, patchConditions=conditions))
    assert response.value["patch"] == {"definition": MODEL, "attributes": {"maker": "Y"}}


async def test_placeholders_stand_for_what_the_thing_has(registry):
    payload = {
        "attributes": {
            "maker": "{{ thing-json:attributes/opt }}",
            "copy": "${thing-json:/attributes/serial}",
            "all": ["{{ thing-json:features/lamp/properties }}"],
            "text": "no. {{ thing-json:attributes/serial }} of {{ thing-json:attributes/maker | fn:lower() }}",
            "revision": "{{ thing-json:_revision }}",
        }
    }
    response = await registry.handle(migrate(payload))
    assert response.value["patch"]["attributes"] == {
        "maker": "n",
        "copy": 5,
        "all": [{"on": True}],
        "text": "no. 5 of x",
        "revision": 1,
    }


@pytest.mark.parametrize(
    "text",
    ["{{ thing-json:attributes/nope }}", "a {{ thing-json:attributes/nope }}", "{{ header:x }}", "{{ thing-json: }}"],
)
async def test_a_placeholder_without_a_value_is_refused(registry, text):
    assert await refused(registry, migrate({"attributes": {"a": text}})) == (400, "placeholder:unresolved")


async def test_placeholders_may_not_come_to_more_than_a_payload_can(registry):
    await registry.handle(put("x" * 50_000, "attributes", "long"))
    payload = {"attributes": {str(number): "{{ thing-json:attributes/long }}" for number in range(50)}}
    assert await refused(registry, migrate(payload)) == (400, "placeholder:function.too.complex")
    payload = {"attributes": {str(number): "{{ thing-json:attributes/long }}" for number in range(3)}}
    assert await refused(registry, migrate(payload)) == (413, "things:thing.toolarge")


def deep(levels: int) -> Any:
    return {"a": deep(levels - 1)} if levels else 1


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({}, (400, "json.field.missing")),
        ([1], (400, "json.invalid")),
        ({"thingDefinitionUrl": 7}, (400, "json.invalid")),
        ({"thingDefinitionUrl": "bogus"}, (400, "things:definition.identifier.invalid")),
        ({"thingDefinitionUrl": "a:b:c"}, (400, "wot:skeleton.generation.failed")),
        (
            {"thingDefinitionUrl": MODEL, "initializeMissingPropertiesFromDefaults": True},
            (400, "wot:skeleton.generation.failed"),
        ),
        ({"thingDefinitionUrl": MODEL, "initializeMissingPropertiesFromDefaults": "x"}, (400, "json.invalid")),
        ({"thingDefinitionUrl": MODEL, "migrationPayload": 7}, (400, "json.invalid")),
        ({"thingDefinitionUrl": MODEL, "migrationPayload": deep(150)}, (400, "json.invalid")),
        ({"thingDefinitionUrl": MODEL, "migrationPayload": {"thingId": "demo:T2"}}, (400, "things:id.notsettable")),
        ({"thingDefinitionUrl": MODEL, "migrationPayload": {"attributes": 7}}, (400, "json.invalid")),
        ({"thingDefinitionUrl": MODEL, "patchConditions": 7}, (400, "json.invalid")),
        (
            {"thingDefinitionUrl": MODEL, "patchConditions": {"/attributes/a": "exists(attributes/a)"}},
            (400, "json.invalid"),
        ),
        ({"thingDefinitionUrl": MODEL, "patchConditions": {"thing:/attributes/a": 7}}, (400, "json.invalid")),
        (
            {"thingDefinitionUrl": MODEL, "patchConditions": {"thing:/attributes/a": "bogus"}},
            (400, "rql.expression.invalid"),
        ),
    ],
)
async def test_what_is_no_migration_is_refused(registry, value, error):
    assert await refused(registry, Command(verb="migrate", id=T1, subjects=ANNE, value=value)) == error
    assert await thing(registry) == BEFORE


async def test_preconditions_hold_for_migrations(registry):
    assert await refused(registry, migrate(headers={"if-match": '"rev:7"'})) == (412, "things:precondition.failed")
    condition = {"condition": "eq(attributes/serial,6)"}
    assert await refused(registry, migrate(headers=condition)) == (412, "things:condition.failed")
    fine = {"if-match": '"rev:1"', "condition": "eq(attributes/serial,5)", "if-equal": "skip"}
    assert (await registry.handle(migrate(headers=fine))).status == 200
    assert (await registry.handle(migrate(headers={"if-equal": "skip"}))).revision == 3


async def test_a_migration_takes_write_on_the_whole_thing(registry):
    assert await refused(registry, migrate(who=BOB)) == (403, "things:thing.notmodifiable")
    assert await refused(registry, migrate(thing="demo:none")) == (404, "things:thing.notfound")
    partly = entry("nginx:bob", thing={"/definition": "RW", "/attributes": "RW"})
    await registry.handle(put_policy("demo:p", {"o": OWNER, "b": partly}))
    await registry.handle(put("demo:p", "policyId"))
    assert await refused(registry, migrate(who=BOB)) == (403, "things:thing.notmodifiable")


async def test_a_migration_tells_nothing_of_what_may_not_be_read(registry):
    blind = entry("nginx:bob", thing={"/": "RW", "/attributes/serial": "r"})
    await registry.handle(put_policy("demo:p", {"o": OWNER, "b": blind}))
    await registry.handle(put("demo:p", "policyId"))
    copying = migrate({"attributes": {"opt": "{{ thing-json:attributes/serial }}"}}, who=BOB)
    assert await refused(registry, copying) == (400, "placeholder:unresolved")
    asking = {"thing:/attributes/opt": "eq(attributes/serial,5)"}
    assert await refused(registry, migrate({"attributes": {"opt": "o"}}, who=BOB, patchConditions=asking)) == (
        412,
        "things:condition.failed",
    )


async def test_a_migration_may_not_lock_its_maker_out(registry):
    await registry.handle(
        put_policy("demo:other", {"b": entry("nginx:bob", thing={"/": "RW"}, policy={"/": "RW"})}, who=BOB)
    )
    assert await refused(registry, migrate({"policyId": "demo:other"})) == (404, "policies:policy.notfound")


async def test_a_migration_is_a_command_of_the_protocol(registry):
    envelope = {
        "topic": "demo/T1/things/twin/commands/migrate",
        "headers": {"correlation-id": "c1"},
        "path": "/migrateDefinition",
        "value": {"thingDefinitionUrl": MODEL},
    }
    command = command_from(envelope, ANNE)
    answer = response_envelope(command, await registry.handle(command))
    assert (answer["topic"], answer["path"], answer["status"]) == (envelope["topic"], "/", 200)
    assert answer["value"] == {"thingId": T1, "patch": {"definition": MODEL}, "mergeStatus": "APPLIED"}
    dry = {**envelope, "headers": {"dry-run": True}}
    assert (await registry.handle(command_from(dry, ANNE))).status == 202
    assert await refused(registry, structs.replace(command_from({**envelope, "value": {}}, ANNE))) == (
        400,
        "json.field.missing",
    )


async def test_what_was_migrated_is_there_after_a_restart(registry):
    await registry.handle(migrate({"attributes": {"opt": None}, "features": {"lamp": {"properties": {"level": 1}}}}))
    history = await events(registry)
    await registry.handle(put(1, "attributes", "a"))
    at = get(**{"at-historical-revision": "2"})
    value = (await registry.handle(at)).value
    assert value["features"] == {"lamp": {"properties": {"on": True, "level": 1}}}
    assert [event.action for event in history][-1] == "migrated"
