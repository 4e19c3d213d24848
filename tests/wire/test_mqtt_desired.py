"""Desired state over the embedded broker: retained as a difference, through restarts, for those who may read the thing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from broker_dialog import Dialog, serving, until
from device_server import ADMIN, Farm, farm
from skerry.signals import Command
from skerry_adapters.broker.packets import Publish, Reason

TOPIC = "device/x/T1/desired"
READS = {"thing:/": "READ", "thing:/features": "WRITE"}


async def desire(server: Farm, **properties: Any) -> None:
    path = ("features", "scada", "desiredProperties")
    await server.do(Command(verb="merge", id="x:T1", subjects=ADMIN, path=path, value=properties))


async def heard(dialog: Dialog) -> Any:
    packet = await dialog.expect(Publish, 20)
    assert packet.topic == TOPIC
    return msgspec.json.decode(packet.payload)["value"]["scada"]["properties"] if packet.payload else None


async def test_a_device_hears_what_it_shall_become_until_it_says_that_it_is(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await server.policy("x:p", device=READS)
        await server.thing("x:T1", "x:p", features={"scada": {"properties": {"power": 1}}})
        await desire(server, power=5, mode="auto")
        await until(lambda: server.broker.router.retained.get(TOPIC) is not None, "the desired state", 20)
        device, other = await server.connect("device"), await server.connect("other")
        assert await other.subscribe(TOPIC) == Reason.NOT_AUTHORIZED
        await device.subscribe(TOPIC)
        assert await heard(device) == {"power": 5, "mode": "auto"}
        await device.publish("telemetry/x/T1/scada", b'{"power":5}')
        assert await heard(device) == {"mode": "auto"}
        await device.publish("telemetry/x/T1/scada", b'{"wind":5}')
        await desire(server, mode="manual")
        assert await heard(device) == {"mode": "manual"}
        await device.publish("telemetry/x/T1/scada", b'{"mode":"manual"}')
        assert await heard(device) is None
        assert server.broker.router.retained.get(TOPIC) is None
        for dialog in (device, other):
            await dialog.close()


async def test_it_waits_for_a_device_that_is_away_and_outlives_the_server(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await server.policy("x:p", device=READS)
        await server.thing("x:T1", "x:p")
        await desire(server, power=5)
        await until(lambda: server.broker.router.retained.get(TOPIC) is not None, "the desired state", 20)
    async with farm(tmp_path) as server:
        device = await server.connect("device")
        await device.subscribe(TOPIC)
        assert await heard(device) == {"power": 5}
        await server.do(Command(verb="delete", id="x:T1", subjects=ADMIN))
        await until(lambda: server.broker.router.retained.get(TOPIC) is None, "the end of the desired state", 20)
        await device.close()


async def test_what_a_crash_left_behind_is_put_right(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await server.policy("x:p", device=READS)
        await server.thing("x:T1", "x:p")
        await desire(server, power=5)
        await until(lambda: server.broker.router.retained.get(TOPIC) is not None, "the desired state", 20)
        await server.broker.publish(TOPIC, b'{"value":{"old":1}}', 1, retain=True)
        await server.broker.publish("device/x/gone/desired", b"{}", 1, retain=True)
    async with farm(tmp_path) as server:
        retained = server.broker.router.retained
        await until(lambda: retained.get("device/x/gone/desired") is None, "the end of the desired state", 20)
        await until(lambda: b'"power":5' in getattr(retained.get(TOPIC), "payload", b""), "the desired state", 20)


async def test_there_is_room_for_the_desired_state_of_many_beside_what_devices_retain(tmp_path: Path) -> None:
    async with serving(tmp_path) as broker:
        topics = [f"device/x/T{number}/desired" for number in range(broker.limits.retained + 500)]
        await asyncio.gather(*(broker.publish(topic, b"{}", 1, retain=True) for topic in topics))
        await broker.publish("elsewhere", b"{}", 1, retain=True)
        assert broker.router.retained.get(topics[-1]) is not None
        assert broker.router.retained.get("elsewhere") is not None


async def test_a_device_asks_for_its_desired_state(tmp_path: Path) -> None:
    async with farm(tmp_path) as server:
        await server.policy("x:p", device=READS, other={"thing:/features": "READ WRITE"})
        await server.thing("x:T1", "x:p")
        device, other = await server.connect("device"), await server.connect("other")
        await device.subscribe("device/x/T1/replies")

        async def asked() -> Any:
            await device.publish("ditto/x/T1/desired", b"")
            return msgspec.json.decode((await device.expect(Publish, 20)).payload)

        assert (await asked())["value"] == {}
        await desire(server, power=5)
        assert (await asked())["value"] == {"scada": {"properties": {"power": 5}}}
        await device.subscribe("device/x/T1/mine")
        await device.publish("ditto/x/T1/desired", b"", properties={"response_topic": "device/x/T1/mine"})
        assert (await device.expect(Publish, 20)).topic == "device/x/T1/mine"
        assert await other.publish("ditto/x/T1/desired", b"", properties={"response_topic": "device/x/T1/any"}) == 0
        await other.silent()
        assert server.letters.count() == 0
        for dialog in (device, other):
            await dialog.close()
