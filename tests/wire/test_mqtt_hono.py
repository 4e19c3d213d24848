"""Devices that speak the topics of Eclipse Hono's MQTT adapter, with envelopes as payloads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker_dialog import Dialog
from device_server import Farm, farm
from skerry.live import signal_from
from skerry_adapters.broker.packets import Publish, Reason
from skerry_registry.live.sender import Sender

NO = Reason.NOT_AUTHORIZED
ALL = {"thing:/": "READ WRITE", "message:/": "READ WRITE"}
OPERATOR = Sender(subjects=("nginx:admin",), origin="test")
CHANGE = {"topic": "x/T1/things/twin/commands/modify", "path": "/attributes/a", "value": 1}
ASK: dict[str, Any] = {
    "topic": "x/T1/things/live/messages/how/much",
    "path": "/inbox/messages/how/much",
    "headers": {"correlation-id": "c1", "content-type": "text/plain"},
    "value": "please",
}


async def things(server: Farm, **entries: dict[str, str]) -> None:
    await server.policy("x:p", **entries)
    for name in ("T1", "T2"):
        await server.thing(f"x:{name}", "x:p")


def ask(server: Farm, *, seconds: float = 20, **more: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(server.streams.live.send(signal_from({**ASK, **more}), OPERATOR, seconds=seconds))


async def heard(dialog: Dialog) -> tuple[str, dict[str, Any]]:
    packet = await dialog.expect(Publish)
    return packet.topic, msgspec.json.decode(packet.payload)


@pytest.mark.parametrize("topic", ["t", "e", "telemetry", "event", "e/tenant/x:T1", "t//x:T1", "event/tenant/4711"])
async def test_an_envelope_on_an_uplink_is_carried_out(tmp_path: Path, topic: str) -> None:
    async with farm(tmp_path) as server:
        await things(server, device=ALL)
        device, other = await server.connect("device"), await server.connect("other")
        await device.subscribe("device/x/T1/replies")
        assert await device.publish(topic, msgspec.json.encode(CHANGE)) == 0
        assert (await heard(device))[1]["status"] == 201
        assert await server.read("x:T1", "attributes", "a") == 1
        assert await other.publish(topic, msgspec.json.encode(CHANGE)) == (NO if "x:T1" in topic else 0)
        for dialog in (device, other):
            await dialog.close()


@pytest.mark.parametrize(
    ("pattern", "topic", "answer"),
    [
        ("command///req/#", "command///req/{}/how%2Fmuch", "command///res/{}/200"),
        ("c///q/#", "c///q/{}/how%2Fmuch", "c///s/{}/200"),
        ("command//x:T1/req/#", "command//x:T1/req/{}/how%2Fmuch", "command//x:T1/res/{}/200"),
        ("command//+/req/#", "command//x:T1/req/{}/how%2Fmuch", "command//x:T1/res/{}/200"),
        ("c/x/x:T1/q/#", "c/x/x:T1/q/{}/how%2Fmuch", "c/x/x:T1/s/{}/200"),
    ],
)
async def test_a_command_is_answered_by_its_request_id(tmp_path: Path, pattern: str, topic: str, answer: str) -> None:
    async with farm(tmp_path) as server:
        await things(server, device=ALL)
        device = await server.connect("device")
        assert await device.subscribe(pattern) == 1
        for payload, value in ((b'{"kW":5}', {"kW": 5}), (b"five", "five"), (b"\xff\xfe", "//4=")):
            asking = ask(server)
            found, told = await heard(device)
            assert (told["topic"], told["path"], told["value"]) == (ASK["topic"], ASK["path"], "please")
            request = found.split("/")[4]
            assert request
            assert found == topic.format(request)
            assert await device.publish(answer.format(request), payload) == 0
            got = (await asking).answer
            assert (got.status, got.value) == (200, value)
            await device.silent()
        await device.close()


async def test_an_answer_may_be_an_envelope_and_say_its_own_status(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await things(server, device=ALL)
        device = await server.connect("device")
        await device.subscribe("command///req/#")
        asking = ask(server)
        found, told = await heard(device)
        reply = {**told, "status": 404, "value": "none", "headers": {"content-type": "text/plain"}}
        await device.publish(f"command///res/{found.split('/')[4]}/200", msgspec.json.encode(reply))
        got = (await asking).answer
        assert (got.status, got.value, got.correlation) == (404, "none", "c1")
        await device.publish("command///res/unknown/200", b"{}")
        await device.publish("command///res/unknown/what", b"{}")
        assert [letter.code for letter in server.letters.list()] == ["mapping.hono.answer"]
        await device.close()


async def test_a_command_that_wants_no_answer_has_no_request_id(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await things(server, device=ALL)
        device = await server.connect("device")
        await device.subscribe("command///req/#")
        await ask(server, seconds=0)
        assert (await heard(device))[0] == "command///req//how%2Fmuch"
        await device.close()


async def test_commands_go_to_those_who_may_read_them(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await things(server, device={"thing:/": "READ", "message:/inbox/messages/open": "READ"})
        device, other = await server.connect("device"), await server.connect("other")
        for dialog in (device, other):
            assert await dialog.subscribe("command///req/#") == 1
            assert await dialog.subscribe("command/+/+/req/#") == 1
        assert await device.subscribe("c//x:T1/q/#") == 1
        assert await other.subscribe("c//x:T1/q/#") == NO
        assert await other.subscribe("command/#") == NO
        await ask(server, seconds=0)
        open_ = {"topic": "x/T1/things/live/messages/open", "path": "/inbox/messages/open"}
        await ask(server, seconds=0, **open_)
        assert (await heard(device))[1]["path"] == "/inbox/messages/open"
        for dialog in (device, other):
            await dialog.silent()
            await dialog.close()
