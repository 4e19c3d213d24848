"""Acknowledgements that devices ask for and give over MQTT."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from broker_dialog import Dialog
from device_server import farm
from skerry.live import signal_from
from skerry_adapters.broker.packets import Publish
from skerry_registry.live.sender import Sender

ALL = {"thing:/": "READ WRITE", "message:/": "READ WRITE"}
OPERATOR = Sender(subjects=("nginx:admin",), origin="test")


async def say(dialog: Dialog, members: dict[str, Any]) -> None:
    assert await dialog.publish("ditto/x/T1", msgspec.json.encode(members)) == 0


async def heard(dialog: Dialog) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode((await dialog.expect(Publish, 20)).payload)
    return found


def change(value: Any, **headers: Any) -> dict[str, Any]:
    topic = "x/T1/things/twin/commands/modify"
    return {"topic": topic, "path": "/attributes/a", "value": value, "headers": {"correlation-id": "c1", **headers}}


async def test_a_change_is_answered_when_all_have_acknowledged_it(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await server.policy("x:p", device=ALL, other=ALL)
        await server.thing("x:T1", "x:p")
        device, other = await server.connect("device"), await server.connect("other")
        await device.subscribe("device/x/T1/replies")
        labels = ["twin-persisted", "custom:label"]
        await say(device, change(1, **{"requested-acks": labels, "timeout": "20s"}))
        assert await server.read("x:T1", "attributes", "a") == 1
        await device.silent()
        topic = "x/T1/things/twin/acks/custom:label"
        ack = {"topic": topic, "path": "/", "status": 200, "value": {"ok": True}, "headers": {"correlation-id": "c1"}}
        await say(other, ack)
        reply = await heard(device)
        assert (reply["topic"], reply["status"]) == ("x/T1/things/twin/acks", 200)
        assert {label: reply["value"][label]["status"] for label in labels} == {
            "twin-persisted": 201,
            "custom:label": 200,
        }
        await say(device, change(2, **{"requested-acks": ["nobody:gives"], "timeout": "50ms"}))
        assert (await heard(device))["status"] == 408
        await say(device, change(3, **{"requested-acks": ["twin-persisted"], "timeout": "5s"}))
        assert (await heard(device))["status"] == 204
        for dialog in (device, other):
            await dialog.close()


async def test_nobody_acknowledges_what_he_may_not_read(tmp_path: Path) -> None:
    async with farm(tmp_path, users=("device", "eve", "reader")) as server:
        await server.policy("x:p", device=ALL, reader={"message:/inbox": "READ"})
        await server.thing("x:T1", "x:p")
        await server.policy("x:q", eve=ALL)
        await server.thing("x:Eve", "x:q")
        device, eve, reader = [await server.connect(name) for name in ("device", "eve", "reader")]
        await device.subscribe("device/x/T1/replies")
        await eve.subscribe("device/x/Eve/replies")
        await say(device, change(1, **{"requested-acks": ["custom:label"], "timeout": "20s"}))
        assert await server.read("x:T1", "attributes", "a") == 1
        topic = "x/T1/things/twin/acks/custom:label"
        ack = {"topic": topic, "path": "/", "status": 200, "headers": {"correlation-id": "c1"}}
        assert await eve.publish("ditto/x/Eve", msgspec.json.encode({**ack, "value": "forged"})) == 0
        assert (await heard(eve))["value"]["error"] == "things:thing.notfound"
        assert await reader.publish("telemetry", msgspec.json.encode({**ack, "value": "true"})) == 0
        assert (await heard(device))["value"]["custom:label"]["payload"] == "true"
        for dialog in (device, eve, reader):
            await dialog.close()


async def test_acknowledgements_without_time_to_wait_are_refused(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await server.policy("x:p", device=ALL)
        await server.thing("x:T1", "x:p")
        device = await server.connect("device")
        await device.subscribe("device/x/T1/replies")
        await say(device, change(1, **{"requested-acks": ["a:b"], "timeout": "0"}))
        assert (await heard(device))["value"]["error"] == "header.invalid"
        assert [letter.code for letter in server.letters.list()] == ["header.invalid"]
        await device.close()


async def test_a_device_acknowledges_a_live_message(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await server.policy("x:p", device=ALL)
        await server.thing("x:T1", "x:p")
        device = await server.connect("device")
        await device.subscribe("device/x/T1/live")
        headers = {"correlation-id": "c2", "requested-acks": ["custom:label"], "content-type": "text/plain"}
        ask = {"topic": "x/T1/things/live/messages/go", "path": "/inbox/messages/go", "value": "on", "headers": headers}
        sending = server.streams.live.send(signal_from(ask), OPERATOR, seconds=20, labels=("custom:label",))
        asking = asyncio.create_task(sending)
        told = await heard(device)
        correlation = {"correlation-id": told["headers"]["correlation-id"]}
        await say(
            device, {"topic": "x/T1/things/live/acks/custom:label", "path": "/", "status": 204, "headers": correlation}
        )
        assert (await asking).acks["custom:label"].status == 204
        await device.close()
