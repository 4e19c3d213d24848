"""Devices at the embedded broker on the live channel: messages and commands down, answers, replies and errors up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker_dialog import Dialog, until
from device_server import Farm, farm
from skerry.live import LiveSignal, signal_from
from skerry_adapters.broker.packets import V5, V311, Publish, Reason
from skerry_registry.live.channel import LiveWanted
from skerry_registry.live.sender import Sender

NO = Reason.NOT_AUTHORIZED
ALL = {"thing:/": "READ WRITE", "message:/": "READ WRITE"}
OPERATOR = Sender(subjects=("nginx:admin",), origin="test")
PLAIN = {"correlation-id": "c1", "content-type": "text/plain"}


async def one_thing(server: Farm, **entries: dict[str, str]) -> None:
    await server.policy("x:p", **entries)
    await server.thing("x:T1", "x:p", features={"scada": {"properties": {"power": 1}}})


def envelope(criterion: str, path: str, value: Any = None, **more: Any) -> dict[str, Any]:
    members = {"topic": f"x/T1/things/{criterion}", "path": path, "headers": dict(PLAIN), **more}
    return members if value is None else {**members, "value": value}


async def say(dialog: Dialog, members: dict[str, Any], topic: str = "ditto/x/T1", **fields: Any) -> int:
    return await dialog.publish(topic, msgspec.json.encode(members), **fields)


async def heard(dialog: Dialog) -> tuple[str, dict[str, Any]]:
    packet = await dialog.expect(Publish)
    return packet.topic, msgspec.json.decode(packet.payload)


def ask(server: Farm, members: dict[str, Any], seconds: float = 20) -> asyncio.Task[Any]:
    signal = signal_from(members, correlation="c1")
    return asyncio.create_task(server.streams.live.send(signal, OPERATOR, seconds=seconds))


@pytest.mark.parametrize("version", [V311, V5])
async def test_a_message_reaches_the_device_and_its_answer_the_sender(tmp_path: Path, version: int) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device=ALL)
        device = await server.connect("device", version=version)
        assert await device.subscribe("device/x/T1/#") == 1
        asking = ask(server, envelope("live/messages/how/much", "/inbox/messages/how/much", "please"))
        topic, told = await heard(device)
        assert (topic, told["topic"], told["path"], told["value"]) == (
            "device/x/T1/live",
            "x/T1/things/live/messages/how/much",
            "/inbox/messages/how/much",
            "please",
        )
        correlation = {"correlation-id": told["headers"]["correlation-id"], "content-type": "application/json"}
        assert await say(device, {**told, "status": 200, "value": {"kW": 5}, "headers": correlation}) == 0
        answer: LiveSignal = (await asking).answer
        assert (answer.status, answer.value, answer.correlation) == (200, {"kW": 5}, "c1")
        await device.silent()
        await device.close()


async def test_a_live_command_reaches_the_device_and_its_answer_the_sender(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device=ALL)
        device = await server.connect("device")
        await device.subscribe("device/x/T1/live")
        asking = ask(server, envelope("live/commands/modify", "/features/scada/properties/power", 7))
        topic, told = await heard(device)
        assert (topic, told["topic"], told["value"]) == ("device/x/T1/live", "x/T1/things/live/commands/modify", 7)
        await say(device, {key: value for key, value in told.items() if key != "value"} | {"status": 204})
        assert (await asking).answer.status == 204
        await device.close()


async def test_only_those_who_may_read_a_message_get_it(tmp_path: Path) -> None:
    async with farm(tmp_path, users=("device", "other", "third")) as server:
        some = {"thing:/": "READ", "message:/inbox/messages/open": "READ"}
        await one_thing(server, device=ALL, other=some, third={"thing:/": "READ"})
        dialogs = [await server.connect(name) for name in ("device", "other", "third")]
        for dialog in dialogs:
            assert await dialog.subscribe("device/x/T1/live") == 1
        for subject in ("closed", "open"):
            await ask(server, envelope(f"live/messages/{subject}", f"/inbox/messages/{subject}"), seconds=0)
        for dialog, subjects in zip(dialogs, (["closed", "open"], ["open"], []), strict=True):
            assert [(await heard(dialog))[1]["path"].rpartition("/")[2] for _ in subjects] == subjects
            await dialog.silent()
            await dialog.close()


async def test_a_device_does_not_hear_its_own_messages_and_others_do(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device=ALL, other=ALL)
        device, other = await server.connect("device"), await server.connect("other")
        for dialog in (device, other):
            await dialog.subscribe("device/x/T1/live")
        event = envelope("live/messages/alarm", "/outbox/messages/alarm", "hot")
        event["headers"] = {"response-required": False, "content-type": "text/plain"}
        assert await say(device, event) == 0
        assert (await heard(other))[1]["value"] == "hot"
        for dialog in (device, other):
            await dialog.silent()
            await dialog.close()


async def test_a_device_asks_and_another_answers(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device=ALL, other=ALL)
        device, other = await server.connect("device"), await server.connect("other")
        await device.subscribe("device/x/T1/replies")
        await other.subscribe("device/x/T1/live")
        await say(
            device, envelope("live/messages/ask", "/outbox/messages/ask", headers=PLAIN | {"correlation-id": "mine"})
        )
        told = (await heard(other))[1]
        await say(other, {**told, "status": 201, "value": "yes", "headers": told["headers"]})
        topic, answer = await heard(device)
        assert (topic, answer["status"], answer["value"]) == ("device/x/T1/replies", 201, "yes")
        assert answer["headers"]["correlation-id"] == "mine"
        for dialog in (device, other):
            await dialog.close()


async def test_replies_go_to_those_who_are_the_device(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device=ALL, other=ALL)
        device, again, other = [
            await server.connect(user, client) for user, client in (("device", "a"), ("device", "b"), ("other", "c"))
        ]
        for dialog in (device, again, other):
            assert await dialog.subscribe("device/x/T1/replies") == 1
        await say(device, envelope("twin/commands/modify", "/attributes/a", 1))
        for dialog in (device, again):
            topic, reply = await heard(dialog)
            assert (topic, reply["status"], reply["headers"]["correlation-id"]) == ("device/x/T1/replies", 201, "c1")
        await say(device, envelope("twin/commands/retrieve", "/attributes"))
        assert (await heard(device))[1]["value"] == {"a": 1}
        quiet = envelope("twin/commands/modify", "/attributes/a", 2, headers={"response-required": False})
        await say(device, quiet)
        await say(device, envelope("twin/commands/modify", "/nonsense", 2))
        reply = (await heard(device))[1]
        assert (reply["topic"], reply["status"]) == ("x/T1/things/twin/errors", 400)
        await other.silent()
        for dialog in (device, again, other):
            await dialog.close()


async def test_a_refused_change_is_told_with_its_reason_and_is_a_dead_letter(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device={"thing:/": "READ", "thing:/features/scada": "READ WRITE", "policy:/": "READ"})
        device = await server.connect("device")
        await device.subscribe("device/x/T1/replies")
        await say(device, envelope("twin/commands/modify", "/attributes/a", 1))
        reply = (await heard(device))[1]
        assert (reply["status"], reply["value"]["error"]) == (403, "things:attribute.notmodifiable")
        assert reply["value"]["why"]
        assert server.letters.count() == 1
        await say(device, envelope("live/messages/ask", "/outbox/messages/ask"))
        assert (await heard(device))[1]["value"]["error"] == "messages:send.notallowed"
        assert await device.publish("ditto/x/T1", b"no JSON") == 0
        assert (await heard(device))[1]["status"] == 400
        assert server.letters.count() == 2
        await device.close()


async def test_a_response_topic_is_used_where_the_device_may_subscribe_to_it(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device=ALL)
        await server.thing("x:T2", "x:p")
        await server.policy("y:p")
        await server.thing("y:T1", "y:p")
        device, boss = await server.connect("device", version=V5), await server.connect("boss", version=V5)
        await device.subscribe("device/x/T1/#")
        await boss.subscribe("#")
        retrieve = envelope("twin/commands/retrieve", "/attributes")
        for wanted, used in (
            ("device/x/T1/replies/7", "device/x/T1/replies/7"),
            ("device/x/T1/live", "device/x/T1/replies"),
            ("device/x/T1/desired", "device/x/T1/replies"),
            ("device/y/T1/replies", "device/x/T1/replies"),
            ("telemetry/x/T1/scada", "device/x/T1/replies"),
            ("device/x/T1/#", "device/x/T1/replies"),
        ):
            properties = {"response_topic": wanted, "correlation_data": b"\1\2"}
            await say(device, retrieve, properties=properties)
            packet = await device.expect(Publish)
            assert packet.topic == used
            assert (packet.properties or {}).get("correlation_data") == b"\1\2"
        assert await server.read("x:T1", "features", "scada", "properties") == {"power": 1}
        for dialog in (device, boss):
            await dialog.close()


async def test_who_may_only_listen_may_answer_and_ask_but_not_change(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device={"thing:/": "READ", "message:/": "READ"}, other={"thing:/features": "READ"})
        device, other = await server.connect("device"), await server.connect("other")
        await device.subscribe("device/x/T1/#")
        asking = ask(server, envelope("live/messages/ask", "/inbox/messages/ask"))
        told = (await heard(device))[1]
        await say(device, {**told, "status": 200})
        assert (await asking).answer.status == 200
        await say(device, envelope("twin/commands/delete", "/attributes"))
        assert (await heard(device))[1]["status"] in {403, 404}
        assert await say(other, envelope("twin/commands/retrieve", "/")) == NO
        for dialog in (device, other):
            await dialog.close()


async def test_a_migration_is_a_change_and_checks_and_bulk_retrieval_are_answered(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device=ALL)
        device = await server.connect("device")
        await device.subscribe("device/x/T1/replies")
        payload = {"thingDefinitionUrl": "https://example.org/tm.jsonld", "migrationPayload": {"attributes": {"a": 1}}}
        await say(device, envelope("twin/commands/migrate", "/", payload))
        reply = (await heard(device))[1]
        assert (await server.read("x:T1", "attributes"), reply["status"]) == ({"a": 1}, 200)
        bulk = envelope(
            "twin/commands/retrieve", "/", {"thingIds": ["x:T1", "x:none"]}, topic="_/_/things/twin/commands/retrieve"
        )
        await say(device, bulk)
        assert [thing["thingId"] for thing in (await heard(device))[1]["value"]] == ["x:T1"]
        await device.close()


async def test_live_events_of_a_device_are_told(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await one_thing(server, device=ALL, other={"thing:/": "READ"})
        told: list[LiveSignal] = []
        wanted = LiveWanted(sort="event", subjects=("nginx:admin",))
        leave = server.streams.live.subscribe(wanted, told.append)
        for user, value in (("other", 1), ("device", 2)):
            dialog = await server.connect(user)
            event = envelope("live/events/modified", "/features/scada/properties/power", value, revision=7)
            assert await say(dialog, event) == 0
            await dialog.close()
        await until(lambda: bool(told), "the event")
        assert [(one.path, one.value, one.revision) for one in told] == [
            (("features", "scada", "properties", "power"), 2, 7)
        ]
        leave()
