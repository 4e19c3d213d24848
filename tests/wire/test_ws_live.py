"""The live channel between sessions: messages, live commands and events, answers, acknowledgements, announcements."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from skerry_registry.announcements import Announcement
from wire.http_server import Served, served
from wire.sessions import Socket, session

pytestmark = pytest.mark.usefixtures("no_task_left")

ASK = "ns/t1/things/live/messages/ask/me"
PATH = "/features/lamp/inbox/messages/ask/me"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as server, server.client() as client:
        assert (await client.put("/api/2/things/ns:t1", json={"attributes": {"a": 1}})).status_code == 201
        yield server


async def answered(device: Socket, status: int = 200, **more: Any) -> Any:
    """Take what the device is asked, and answer it."""
    asked = await device.receive()
    headers = {"correlation-id": asked["headers"]["correlation-id"], "content-type": "text/plain"}
    await device.send({"topic": asked["topic"], "path": asked["path"], "headers": headers, "status": status} | more)
    return asked


async def later(asker: Socket, topic: str, path: str, headers: dict[str, Any], **more: Any) -> None:
    await asker.send({"topic": topic, "path": path, "headers": {"correlation-id": "c"} | headers} | more)


async def test_a_message_is_answered_by_the_session_that_listens(server: Served) -> None:
    async with session(server) as asker, session(server) as device:
        await device.start("MESSAGES")
        await later(asker, ASK, PATH, {"content-type": "text/plain"}, value="how are you?")
        asked = await answered(device, value="fine")
        assert (asked["topic"], asked["path"], asked["value"]) == (ASK, PATH, "how are you?")
        answer = await asker.receive()
        assert (answer["topic"], answer["path"], answer["status"], answer["value"]) == (ASK, PATH, 200, "fine")
        assert answer["headers"]["correlation-id"] == "c"


async def test_a_message_over_http_is_answered_by_a_session(server: Served) -> None:
    async with session(server) as device, server.client() as client:
        await device.start("MESSAGES")
        asking = asyncio.create_task(
            client.post(
                "/api/2/things/ns:t1/inbox/messages/ask?timeout=10",
                content="hello",
                headers={"content-type": "text/plain"},
            )
        )
        await answered(device, 299, value="world")
        answer = await asking
        assert (answer.status_code, answer.text) == (299, "world")


async def test_a_message_that_nobody_answers_ends_with_its_time(server: Served) -> None:
    async with session(server) as asker:
        reply = await asker.ask(ASK, PATH, headers={"timeout": "100ms"}, value=1)
        assert (reply["topic"], reply["value"]["error"]) == ("ns/t1/things/live/errors", "command.timeout")


async def test_a_message_that_wants_no_answer_gets_none(server: Served) -> None:
    async with session(server) as asker, session(server) as device:
        await device.start("MESSAGES")
        await later(asker, ASK, PATH, {"response-required": False}, value=1)
        assert (await device.receive())["headers"]["response-required"] is False
        assert (await asker.command("retrieve", "ns:t1"))["status"] == 200
        assert asker.aside == []


async def test_a_live_command_is_carried_out_by_the_device(server: Served) -> None:
    async with session(server) as asker, session(server) as device:
        await device.start("LIVE-COMMANDS")
        await later(asker, "ns/t1/things/live/commands/retrieve", "/attributes/a", {})
        await answered(device, value=7)
        answer = await asker.receive()
        assert (answer["topic"], answer["value"]) == ("ns/t1/things/live/commands/retrieve", 7)
        assert (await asker.command("retrieve", "ns:t1", "/attributes/a"))["value"] == 1


async def test_a_live_event_reaches_who_may_read_it(server: Served) -> None:
    async with session(server) as sender, session(server) as friend, session(server, "eve") as stranger:
        await friend.start("LIVE-EVENTS", "filter=gt(attributes/a,5)")
        await stranger.start("LIVE-EVENTS")
        for value in (4, 6):
            event = {"topic": "ns/t1/things/live/events/modified", "path": "/attributes/a", "value": value}
            await sender.send(event | {"headers": {"correlation-id": f"e{value}"}, "revision": 1})
        await sender.send(event | {"topic": "ns/none/things/live/events/modified", "revision": 1})
        assert (await friend.receive())["value"] == 6
        assert (await stranger.command("retrieve", "ns:t1"))["status"] == 404
        assert (await sender.command("retrieve", "ns:t1"))["status"] == 200
        assert (stranger.aside, sender.aside) == ([], [])


async def test_a_live_signal_is_not_sent_back_to_its_sender(server: Served) -> None:
    async with session(server) as sender:
        for sort in ("MESSAGES", "LIVE-COMMANDS", "LIVE-EVENTS"):
            await sender.start(sort)
        reply = await sender.ask(ASK, PATH, headers={"timeout": "100ms"}, value=1)
        assert (reply["status"], sender.aside) == (408, [])


async def test_who_may_not_send_is_told_so(server: Served) -> None:
    async with session(server) as owner, session(server, "eve") as stranger:
        entry = {"subjects": {"nginx:eve": {"type": ""}}, "resources": {"thing:/": {"grant": ["READ"], "revoke": []}}}
        assert (await owner.ask("ns/t1/policies/commands/modify", "/entries/eve", value=entry))["status"] == 201
        reply = await stranger.ask(ASK, PATH, value=1)
        assert (reply["status"], reply["value"]["error"]) == (403, "messages:send.notallowed")


async def test_acknowledgements_of_a_live_signal_come_together(server: Served) -> None:
    async with session(server) as asker, session(server, declared_acks='["my:label"]') as device:
        await device.start("MESSAGES")
        wanted = {"requested-acks": ["my:label", "live-response"], "content-type": "text/plain"}
        await later(asker, ASK, PATH, wanted, value="x")
        asked = await answered(device, value="fine")
        assert asked["headers"]["requested-acks"] == ["my:label"]
        ack = {"topic": "ns/t1/things/live/acks/my:label", "path": "/", "status": 204}
        await device.send(ack | {"headers": {"correlation-id": asked["headers"]["correlation-id"]}})
        answer = await asker.receive()
        assert (answer["topic"], answer["status"]) == ("ns/t1/things/live/acks", 200)
        assert answer["value"]["my:label"]["status"] == 204
        assert answer["value"]["live-response"]["payload"] == "fine"


async def test_a_session_that_waits_for_many_answers_still_answers_others(server: Served) -> None:
    async with session(server) as one, session(server) as other:
        await one.start("MESSAGES")
        await other.start("MESSAGES")
        for number in range(300):
            await later(other, ASK, PATH, {"correlation-id": f"o{number}", "content-type": "text/plain"}, value="x")
            await later(one, ASK, PATH, {"correlation-id": f"i{number}", "content-type": "text/plain"}, value="x")
        for _ in range(300):
            await answered(one, value="fine")
        for _ in range(300):
            await answered(other, value="fine")
        for socket in (one, other):
            assert {(await socket.receive())["status"] for _ in range(300)} == {200}


async def test_what_a_policy_announces_is_told_and_acknowledged(server: Served) -> None:
    async with session(server, declared_acks='["my:label"]') as told, session(server, "eve") as other:
        await told.start("POLICY-ANNOUNCEMENTS", "namespaces=ns")
        await other.start("POLICY-ANNOUNCEMENTS")
        announcement = Announcement(
            id="a1", policy_id="ns:p1", subject="nginx:ditto", deleted_at=1_700_000_000_000_000, labels=("my:label",)
        )
        announcing = asyncio.create_task(server.streams.announcements.announce(announcement))
        envelope = await told.receive()
        assert envelope == {
            "topic": "ns/p1/policies/announcements/subjectDeletion",
            "headers": {
                "correlation-id": "a1",
                "response-required": False,
                "requested-acks": ["my:label"],
                "content-type": "application/json",
            },
            "path": "/",
            "value": {"deleteAt": "2023-11-14T22:13:20Z", "subjectIds": ["nginx:ditto"]},
        }
        ack = {"topic": "ns/p1/policies/acks/my:label", "path": "/", "status": 200, "headers": {"correlation-id": "a1"}}
        await told.send(ack)
        assert await announcing
        assert (await other.command("retrieve", "ns:t1"))["status"] == 404
        assert other.aside == []


async def test_an_acknowledgement_that_was_not_declared_is_refused(server: Served) -> None:
    async with session(server) as socket:
        ack = {"topic": "ns/t1/things/twin/acks/my:label", "path": "/", "status": 200}
        await socket.send(ack | {"headers": {"correlation-id": "k"}})
        error = await socket.receive()
        assert (error["value"]["error"], error["headers"]["correlation-id"]) == (
            "acknowledgement:label.not.declared",
            "k",
        )
        assert json.dumps(error)


async def test_desired_state_is_told_to_a_session(server: Served) -> None:
    async with session(server) as device, server.client() as client:
        await device.start("DESIRED")
        wanted = {"lamp": {"properties": {"on": False}, "desiredProperties": {"on": True}}}
        assert (await client.put("/api/2/things/ns:t1/features", json=wanted)).status_code == 201
        told = await device.receive()
        assert "on" in json.dumps(told["value"])


async def test_a_read_goes_to_the_device_where_its_condition_says_so(server: Served) -> None:
    async with session(server) as asker, session(server) as device:
        await device.start("LIVE-COMMANDS")
        topic = "ns/t1/things/twin/commands/retrieve"
        await later(asker, topic, "/attributes/a", {"live-channel-condition": "eq(attributes/a,1)"})
        await answered(device, value=7)
        answer = await asker.receive()
        assert (answer["topic"], answer["value"]) == ("ns/t1/things/live/commands/retrieve", 7)
        told = answer["headers"]
        assert (told["channel"], told["live-channel-condition-matched"]) == ("live", True)
        answer = await asker.ask(topic, "/attributes/a", headers={"live-channel-condition": "eq(attributes/a,2)"})
        assert (answer["topic"], answer["value"], answer["headers"]["channel"]) == (topic, 1, "twin")
