"""Sessions over a real WebSocket: commands and answers, changes told, control frames."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from wire.http_server import Served, served
from wire.sessions import session

pytestmark = pytest.mark.usefixtures("no_task_left")

READER = {
    "subjects": {"nginx:eve": {"type": "test"}},
    "resources": {"thing:/attributes/open": {"grant": ["READ"], "revoke": []}},
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as server:
        yield server


async def create(socket: Any, thing: str = "ns:t1", **attributes: Any) -> None:
    reply = await socket.command("create", thing, value={"thingId": thing, "attributes": attributes})
    assert reply["status"] == 201


async def test_a_command_is_answered(server: Served) -> None:
    async with session(server) as socket:
        await create(socket, a=1)
        reply = await socket.command("modify", "ns:t1", "/attributes/a", value=2)
        assert reply["status"] == 204
        assert (await socket.command("retrieve", "ns:t1", fields="attributes"))["value"] == {"attributes": {"a": 2}}


async def test_another_session_is_told_of_a_change_and_the_own_one_is_not(server: Served) -> None:
    async with session(server) as one, session(server) as other:
        await one.start("EVENTS")
        await other.start("EVENTS")
        await create(one, a=1)
        event = await other.receive()
        assert (event["topic"], event["path"]) == ("ns/t1/things/twin/events/created", "/")
        assert event["value"]["attributes"] == {"a": 1}
        assert event["headers"]["skerry-number"]
        assert (await other.command("modify", "ns:t1", "/attributes/a", value=2))["status"] == 204
        event = await one.receive()
        assert (event["topic"], event["value"], event["revision"]) == ("ns/t1/things/twin/events/modified", 2, 2)
        assert (one.aside, other.aside) == ([], [])


async def test_changes_over_http_are_told_to_every_session(server: Served) -> None:
    async with session(server) as socket, server.client() as client:
        await socket.start("EVENTS")
        assert (await client.put("/api/2/things/ns:t1", json={"attributes": {"a": 1}})).status_code == 201
        assert (await socket.receive())["topic"] == "ns/t1/things/twin/events/created"


async def test_nothing_comes_after_stop(server: Served) -> None:
    async with session(server) as socket, server.client() as client:
        await socket.start("EVENTS")
        assert await socket.say("STOP-SEND-EVENTS") == "STOP-SEND-EVENTS:ACK"
        assert (await client.put("/api/2/things/ns:t1", json={"attributes": {"a": 1}})).status_code == 201
        assert (await socket.command("retrieve", "ns:t1"))["status"] == 200
        assert socket.aside == []


async def test_filter_namespaces_and_extra_fields_say_what_is_told(server: Served) -> None:
    async with session(server) as socket, session(server) as writer:
        await socket.start(
            "EVENTS",
            'namespaces=ns&extraFields=attributes/kind&filter=and(eq(attributes/kind,"hot"),gt(attributes/t,20))',
        )
        await create(writer, "ns:t1", kind="hot", t=1)
        await create(writer, "ns:t2", kind="cold", t=30)
        await create(writer, "other:t3", kind="hot", t=30)
        await writer.command("modify", "ns:t2", "/attributes/t", value=40)
        await writer.command("modify", "ns:t1", "/attributes/t", value=41)
        event = await socket.receive()
        assert (event["topic"], event["value"]) == ("ns/t1/things/twin/events/modified", 41)
        assert event["extra"] == {"attributes": {"kind": "hot"}}


async def test_the_policy_is_an_extra_field_as_far_as_it_may_be_read(server: Served) -> None:
    async with session(server) as writer, session(server) as friend, session(server, "eve") as stranger:
        await create(writer, "ns:t1", t=1)
        entry = {"subjects": {"nginx:eve": {"type": "x"}}, "resources": {"thing:/": {"grant": ["READ"], "revoke": []}}}
        policies = "ns/t1/policies/commands/modify"
        assert (await writer.ask(policies, "/entries/eve", value=entry))["status"] == 201
        for reader in (friend, stranger):
            await reader.start("EVENTS", "extraFields=_policy,attributes/t")
        await writer.command("modify", "ns:t1", "/attributes/t", value=2)
        extra = (await friend.receive())["extra"]
        assert extra["attributes"] == {"t": 2}
        assert set(extra["_policy"]["entries"]) == {"DEFAULT", "eve"}
        assert (await stranger.receive())["extra"] == {"attributes": {"t": 2}}


@pytest.mark.parametrize("sort", ["EVENTS", "MESSAGES", "LIVE-COMMANDS", "LIVE-EVENTS"])
@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ("filter=foo(", "rql.expression.invalid"),
        ("filter=", "rql.expression.invalid"),
        ("extraFields=a(", "json.fieldselector.invalid"),
    ],
)
async def test_a_wish_that_makes_no_sense_is_refused(server: Served, sort: str, parameters: str, code: str) -> None:
    async with session(server) as socket:
        error = json.loads(await socket.say(f"START-SEND-{sort}?{parameters}&correlation-id=mine"))
        assert (error["value"]["error"], error["headers"]["correlation-id"]) == (code, "mine")
        await socket.start(sort)


async def test_who_may_read_a_part_is_told_of_that_part(server: Served) -> None:
    async with session(server) as writer, session(server, "eve") as reader:
        await reader.start("EVENTS")
        await create(writer, open=1, hidden=1)
        policy = "ns/t1/policies/commands/modify"
        assert (await writer.ask(policy, "/entries/reader", value=READER))["status"] == 201
        await writer.command("modify", "ns:t1", "/attributes/hidden", value=2)
        await writer.command("modify", "ns:t1", "/attributes", value={"open": 3, "hidden": 3})
        event = await reader.receive()
        assert (event["path"], event["value"]) == ("/attributes", {"open": 3})


async def test_broken_frames_leave_the_session_open(server: Served) -> None:
    async with session(server) as socket:
        for text, code in (("garbage", "json.invalid"), ("", "json.format.invalid"), ("{", "json.invalid")):
            error = json.loads(await socket.say(text))
            assert (error["topic"], error["value"]["error"]) == ("unknown/unknown/things/twin/errors", code)
        for text in ("[1]", '"START-SEND-EVENTS"', "5", "null", '{"topic":5,"path":"/"}'):
            assert json.loads(await socket.say(text))["value"]["error"] == "json.invalid"
        await socket.wire.send(b"\x00\x01")
        await create(socket)


async def test_frames_of_256_kib_pass_both_ways_and_larger_ones_end_the_session(server: Served) -> None:
    async with session(server) as socket:
        await create(socket)
        many = {"thingIds": ["ns:t1"], "padding": "x" * 261_000}
        reply = await socket.ask("_/_/things/twin/commands/retrieve", value=many)
        assert reply["status"] == 200
        await socket.send("x" * 262_145)
        assert (await socket.closed())[0] == 1009


async def test_headers_of_the_handshake_count_for_every_command(server: Served) -> None:
    async with (
        session(server) as writer,
        session(server, query="?timeout=7s", condition="eq(attributes/a,5)") as socket,
    ):
        await create(writer, a=1)
        reply = await socket.command("modify", "ns:t1", "/attributes/a", value=2)
        assert reply["value"]["error"] == "things:condition.failed"
        reply = await socket.command(
            "modify", "ns:t1", "/attributes/a", value=2, headers={"condition": "eq(attributes/a,1)"}
        )
        assert reply["status"] == 204


async def test_what_only_the_transport_says_stands_in_no_envelope(server: Served) -> None:
    transport = {"cache-control": "no-cache", "connection": "keep-alive", "raw-request-uri": "/x"}
    async with session(server) as writer, session(server) as reader:
        await reader.start("EVENTS")
        await create(writer)
        reply = await writer.command("modify", "ns:t1", "/attributes/a", value=1, headers=transport | {"mine": "yes"})
        await reader.receive()
        event = await reader.receive()
        for headers in (reply["headers"], event["headers"]):
            assert headers["mine"] == "yes"
            assert transport.keys().isdisjoint(headers)


async def test_a_reader_that_comes_back_misses_nothing(server: Served) -> None:
    async with session(server) as writer:
        async with session(server) as reader:
            await reader.start("EVENTS")
            await create(writer)
            number = (await reader.receive())["headers"]["skerry-number"]
        for value in range(5):
            await writer.command("modify", "ns:t1", "/attributes/a", value=value)
        async with session(server) as reader:
            await reader.start("EVENTS", f"resume-from={number}")
            assert [(await reader.receive())["value"] for _ in range(5)] == [0, 1, 2, 3, 4]
            await writer.command("modify", "ns:t1", "/attributes/a", value=5)
            assert (await reader.receive())["value"] == 5
            error = json.loads(await reader.say("START-SEND-EVENTS?resume-from=1000000&correlation-id=r"))
            assert (error["status"], error["headers"]["correlation-id"]) == (410, "r")


async def test_many_commands_are_carried_out_in_their_order(server: Served) -> None:
    async with session(server) as writer, session(server) as reader:
        await reader.start("EVENTS")
        await create(writer)
        await reader.receive()
        envelope = {"topic": "ns/t1/things/twin/commands/modify", "path": "/attributes/a", "headers": {}}
        for number in range(500):
            await writer.send(envelope | {"value": number, "headers": {"response-required": False}})
        assert [(await reader.receive())["value"] for _ in range(500)] == [*range(500)]


async def test_what_was_sent_before_the_client_closed_is_carried_out(server: Served) -> None:
    async with session(server) as reader:
        await reader.start("EVENTS")
        async with session(server) as writer:
            await create(writer)
            envelope = {"topic": "ns/t1/things/twin/commands/modify", "path": "/attributes/a"}
            for number in range(300):
                await writer.send(envelope | {"value": number, "headers": {"response-required": False}})
        await reader.receive()
        assert [(await reader.receive())["value"] for _ in range(300)] == [*range(300)]


async def test_what_was_sent_in_one_piece_with_the_close_is_carried_out(server: Served) -> None:
    async with session(server) as reader:
        await reader.start("EVENTS")
        async with session(server) as writer:
            await create(writer)
            envelope = {"topic": "ns/t1/things/twin/commands/modify", "path": "/attributes/a"}
            frames = [
                json.dumps(envelope | {"value": number, "headers": {"response-required": False}}).encode()
                for number in range(300)
            ]
            # masked with zeros, as one segment that ends with the close frame
            data = b"".join(b"\x81\xfe" + len(frame).to_bytes(2) + bytes(4) + frame for frame in frames)
            writer.wire.transport.write(data + b"\x88\x82" + bytes(4) + (1000).to_bytes(2))
            await writer.closed()
        await reader.receive()
        assert [(await reader.receive())["value"] for _ in range(300)] == [*range(300)]


async def test_searches_and_histories_are_taken_piece_by_piece(server: Served) -> None:
    async with session(server) as socket:
        await create(socket, a=1)
        topic = "_/_/things/twin/search/"
        created = await socket.ask(topic + "subscribe", value={"filter": "eq(attributes/a,1)"}, fields="thingId")
        assert created["topic"] == topic + "created"
        found = await socket.ask(topic + "request", value=created["value"] | {"demand": 2})
        assert found["value"]["items"] == [{"thingId": "ns:t1"}]
        assert (await socket.receive())["topic"] == topic + "complete"
        topic = "ns/t1/things/twin/streaming/"
        created = await socket.ask(topic + "subscribeForPersistedEvents", value={"fromHistoricalRevision": 1})
        found = await socket.ask(topic + "request", value=created["value"] | {"demand": 5})
        assert found["value"]["item"]["topic"] == "ns/t1/things/twin/events/created"
        assert (await socket.receive())["topic"] == topic + "complete"


async def test_misspelt_control_frames_are_told_of(server: Served) -> None:
    async with session(server) as socket:
        for frame, code, hint in (
            ("START-SEND-EVENT", "json.invalid", "did you mean START-SEND-EVENTS?"),
            ("stop-send-messages?a=1", "json.invalid", "did you mean STOP-SEND-MESSAGES?"),
            ("hello", "json.invalid", "nor is it JSON."),
            ("START-SEND-EVENTS?filer=eq(attributes/a,1)", "parameter.unknown", "perhaps filter is meant."),
            ("START-SEND-EVENTS?resume-form=1", "parameter.unknown", "perhaps resume-from is meant."),
            ("START-SEND-MESSAGES?namespace=ns", "parameter.unknown", "perhaps namespaces is meant."),
        ):
            error = json.loads(await socket.say(frame))["value"]
            assert (error["error"], error["message"].endswith(hint)) == (code, True), frame
        await socket.start("EVENTS", "whatever=1")
