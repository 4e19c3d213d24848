"""Envelopes in, replies out: the twin's commands, policies, questions and errors."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from msgspec import structs

from skerry_registry.identities.namespaces import Reach
from skerry_registry.identities.refusals import NamespaceNotAccessible
from skerry_registry.live.envelopes import Envelopes
from skerry_registry.live.sender import Sender
from skerry_registry.live.streams import Streams
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore

START = 1_700_000_000_000_000
DITTO = Sender(subjects=("nginx:ditto",), origin="ws test 1")
EVE = Sender(subjects=("nginx:eve",), origin="ws test 2")
THING = {"thingId": "ns:t1", "attributes": {"a": 1}}


@pytest.fixture
async def envelopes() -> AsyncIterator[Envelopes]:
    times, ids = itertools.count(START, 1_000), itertools.count(1)
    async with Registry(MemoryStore(), lambda: next(times), lambda: f"id-{next(ids)}") as registry:
        yield Envelopes(registry, Streams.of(registry))


def envelope(topic: str, path: str = "/", **more: Any) -> dict[str, Any]:
    return {"topic": topic, "path": path, "headers": {"correlation-id": "c"}} | more


def command(action: str, path: str = "/", **more: Any) -> dict[str, Any]:
    return envelope(f"ns/t1/things/twin/commands/{action}", path, **more)


async def ask(envelopes: Envelopes, asked: Any, sender: Sender = DITTO, **defaults: str) -> Any:
    reply = await envelopes.handle(asked, sender, {name.replace("_", "-"): value for name, value in defaults.items()})
    return None if reply is None else msgspec.json.decode(msgspec.json.encode(reply))


async def create(envelopes: Envelopes) -> None:
    assert (await ask(envelopes, command("create", value=THING)))["status"] == 201


async def test_a_command_is_answered_on_its_topic(envelopes):
    await create(envelopes)
    reply = await ask(envelopes, command("modify", "/attributes/a", value=2))
    assert (reply["topic"], reply["path"], reply["status"]) == (
        "ns/t1/things/twin/commands/modify",
        "/attributes/a",
        204,
    )
    assert reply["headers"]["correlation-id"] == "c"
    assert (await ask(envelopes, command("retrieve", fields="attributes")))["value"] == {"attributes": {"a": 2}}


async def test_a_thing_is_not_created_twice(envelopes):
    await create(envelopes)
    reply = await ask(envelopes, command("create", value=THING))
    assert (reply["status"], reply["value"]["error"]) == (400, "things:thing.notcreatable")
    reply = await ask(envelopes, command("create", value=THING | {"policyId": "ns:t1"}))
    assert (reply["status"], reply["value"]["error"]) == (409, "things:thing.conflict")


async def test_a_command_without_a_correlation_id_gets_one(envelopes):
    reply = await ask(envelopes, command("create", value=THING, headers={}))
    assert reply["headers"]["correlation-id"]


async def test_an_envelope_may_come_as_text(envelopes):
    assert (await ask(envelopes, msgspec.json.encode(command("create", value=THING)).decode()))["status"] == 201


async def test_a_policy_is_commanded_as_a_thing_is(envelopes):
    await create(envelopes)
    path = "/entries/DEFAULT/subjects/nginx:adam"
    reply = await ask(envelopes, envelope("ns/t1/policies/commands/modify", path, value={"type": "test"}))
    assert (reply["status"], reply["value"]) == (201, {"type": "test"})
    reply = await ask(envelopes, envelope("ns/none/policies/commands/retrieve"))
    assert (reply["topic"], reply["value"]["error"]) == ("ns/none/policies/errors", "policies:policy.notfound")


async def test_who_wants_no_answer_gets_none(envelopes):
    silent = {"response-required": False}
    assert await ask(envelopes, command("create", value=THING, headers=silent)) is None
    assert await ask(envelopes, command("delete", headers=silent), EVE) is None
    assert (await ask(envelopes, command("retrieve")))["status"] == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"response-required": False, "requested-acks": ["twin-persisted"]}, "header.invalid"),
        ({"response-required": "perhaps"}, "header.invalid"),
        ({"requested-acks": ["no label!"]}, "header.invalid"),
        ({"timeout": "soon"}, "timeout.invalid"),
    ],
)
async def test_headers_that_make_no_sense_are_refused(envelopes, headers: dict[str, Any], code: str):
    await create(envelopes)
    reply = await ask(envelopes, command("modify", "/attributes/a", value=2, headers=headers))
    assert (reply["topic"], reply["value"]["error"]) == ("ns/t1/things/twin/errors", code)


async def test_no_timeout_is_too_long_and_a_merge_says_that_it_is_one(envelopes):
    await create(envelopes)
    asked = command("merge", "/attributes", value={"b": 1}, headers={"timeout": "100s"})
    assert (await ask(envelopes, asked))["value"]["error"] == "mediatype.unsupported"
    asked["headers"]["Content-Type"] = "application/merge-patch+json; charset=utf-8"
    assert (await ask(envelopes, asked))["status"] == 204
    device = Sender(subjects=DITTO.subjects, declares=False)
    assert (await ask(envelopes, command("merge", "/attributes", value={"b": 2}), device))["status"] == 204


async def test_a_read_wants_its_answer(envelopes):
    reply = await ask(envelopes, command("retrieve", headers={"response-required": False, "correlation-id": "c"}))
    assert reply["value"]["error"] == "command.headers.invalid"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("garbage", "json.invalid"),
        ("", "json.format.invalid"),
        ("[1]", "json.invalid"),
        ("{}", "json.field.missing"),
        ('{"topic":"ns/t1/things/twin/commands/retrieve"}', "json.field.missing"),
        ('{"topic":1,"path":"/"}', "json.invalid"),
        ('{"topic":"ns/t1/things/twin/commands/retrieve","path":"/","headers":[]}', "json.invalid"),
        ('{"topic":"ns/t1","path":"/"}', "protocoladapter:unknown.topicpath"),
        ('{"topic":"ns/t1/things/twin/commands/paint","path":"/"}', "protocoladapter:unknown.topicpath"),
        ('{"topic":"ns/t1/things/far/commands/modify","path":"/"}', "protocoladapter:unknown.topicpath"),
        ('{"topic":"ns/t1/boats/twin/commands/modify","path":"/"}', "protocoladapter:unknown.topicpath"),
        ('{"topic":"ns/t1/things/twin/commands/retrieve","path":"/zz"}', "protocoladapter:unknown.path"),
        ('{"topic":"ns/t1/things/twin/search/subscribe","path":"/"}', "protocoladapter:unknown.signal"),
    ],
)
async def test_what_cannot_be_read_is_answered_with_an_error(envelopes, text: str, code: str):
    reply = await ask(envelopes, text)
    assert (reply["value"]["error"], reply["status"], reply["path"]) == (code, 400, "/")


async def test_an_error_keeps_the_correlation_id_of_headers_that_are_wrong(envelopes):
    reply = await ask(envelopes, command("retrieve", headers={"correlation-id": "mine", "response-required": 7}))
    assert (reply["status"], reply["headers"]["correlation-id"]) == (400, "mine")


async def test_headers_of_the_session_count_where_the_envelope_says_nothing(envelopes):
    await create(envelopes)
    asked = command("modify", "/attributes/a", value=2)
    assert (await ask(envelopes, asked, condition="eq(attributes/a,5)"))["value"]["error"] == "things:condition.failed"
    asked["headers"]["Condition"] = "eq(attributes/a,1)"
    assert (await ask(envelopes, asked, condition="eq(attributes/a,5)"))["status"] == 204


async def test_a_refusal_says_why(envelopes):
    await create(envelopes)
    entry = {"subjects": {"nginx:eve": {"type": "t"}}, "resources": {"thing:/": {"grant": ["READ"], "revoke": []}}}
    entry["resources"]["policy:/"] = {"grant": ["READ"], "revoke": []}
    reply = await ask(envelopes, envelope("ns/t1/policies/commands/modify", "/entries/eve", value=entry))
    assert reply["status"] == 201
    reply = await ask(envelopes, command("modify", "/attributes/a", value=2), EVE)
    assert (reply["value"]["error"], reply["status"]) == ("things:attribute.notmodifiable", 403)
    assert reply["value"]["why"]["missing"]


async def test_several_things_come_in_one_answer(envelopes):
    await create(envelopes)
    asked = {"thingIds": ["ns:none", "ns:t1"]}
    reply = await ask(envelopes, envelope("_/_/things/twin/commands/retrieve", value=asked, fields="thingId"))
    assert (reply["topic"], reply["value"], reply["status"]) == (
        "_/_/things/twin/commands/retrieve",
        [{"thingId": "ns:t1"}],
        200,
    )
    assert (await ask(envelopes, envelope("other/_/things/twin/commands/retrieve", value=asked)))["value"] == []
    assert (await ask(envelopes, envelope("_/_/things/twin/commands/retrieve", value=asked), EVE))["value"] == []


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "json.invalid"),
        ({"thingIds": []}, "things:things.ids.missing"),
        ({"thingIds": ["x"]}, "things:id.invalid"),
        ({"thingIds": [1]}, "json.invalid"),
    ],
)
async def test_several_things_need_ids(envelopes, value: Any, code: str):
    reply = await ask(envelopes, envelope("_/_/things/twin/commands/retrieve", value=value))
    assert reply["value"]["error"] == code


async def test_permissions_are_checked(envelopes):
    await create(envelopes)
    check = {"q": {"resource": "thing:/", "entityId": "ns:t1", "hasPermissions": ["READ"]}}
    asked = envelope("_/_/policies/commands/checkPermissions", value=check)
    reply = await ask(envelopes, asked)
    assert (reply["topic"], reply["value"], reply["status"]) == (asked["topic"], {"q": True}, 200)
    assert (await ask(envelopes, asked, EVE))["value"] == {"q": False}


async def test_several_acknowledgements_come_as_one(envelopes):
    await create(envelopes)
    both = {"requested-acks": ["twin-persisted", "search-persisted"], "correlation-id": "c"}
    reply = await ask(envelopes, command("modify", "/attributes/a", value=2, headers=both))
    assert (reply["topic"], reply["status"]) == ("ns/t1/things/twin/acks", 200)
    assert {label: ack["status"] for label, ack in reply["value"].items()} == {
        "twin-persisted": 204,
        "search-persisted": 204,
    }
    one = {"requested-acks": ["twin-persisted"]}
    reply = await ask(envelopes, command("modify", "/attributes/a", value=2, headers=one))
    assert reply["topic"] == "ns/t1/things/twin/commands/modify"


async def test_somebody_elses_answer_is_let_go_of(envelopes):
    assert await ask(envelopes, command("modify", status=204)) is None
    assert await ask(envelopes, envelope("ns/t1/things/twin/errors", status=404, value={})) is None


async def test_who_declares_no_acknowledgements_gives_them_only_of_what_he_may_read(envelopes):
    refused: list[str] = []
    envelopes._registry.on_refused(lambda command, error: refused.append(f"{command.origin} {error.code}"))
    await create(envelopes)
    acknowledged = envelope("ns/t1/things/twin/acks/custom:label", status=200)
    device = structs.replace(DITTO, origin="mqtt a", declares=False)
    assert await ask(envelopes, acknowledged, device) is None
    foreign = structs.replace(EVE, origin="mqtt b", declares=False)
    assert (await ask(envelopes, acknowledged, foreign))["value"]["error"] == "things:thing.notfound"
    closed = structs.replace(device, reach=Reach(()))
    assert (await ask(envelopes, acknowledged, closed))["value"]["error"] == NamespaceNotAccessible.code
    assert refused == ["mqtt b things:thing.notfound", f"mqtt a {NamespaceNotAccessible.code}"]


async def test_refusals_of_several_things_tell_who_asked(envelopes):
    refused: list[str] = []
    envelopes._registry.on_refused(lambda command, _: refused.append(command.origin))
    await create(envelopes)
    assert (await ask(envelopes, envelope("_/_/things/twin/commands/retrieve", value={"thingIds": ["ns:t1"]}), EVE))[
        "value"
    ] == []
    assert refused == [EVE.origin]
