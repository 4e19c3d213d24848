"""Devices behind Mosquitto on the live channel: down through the server's own connection, replies where they belong."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker_dialog import Dialog, clock
from broker_dialog import until as until_what
from servers import Mosquitto, mosquitto
from skerry.live import signal_from
from skerry.signals import Command
from skerry_adapters.broker.packets import V5, V311, Publish
from skerry_adapters.dead_letters import DeadLetters
from skerry_adapters.inlet import Inlet
from skerry_adapters.mqtt import Address, MqttClient
from skerry_adapters.replies import Replies
from skerry_adapters.sources import DEFAULT_SOURCES
from skerry_adapters.talk import Talk
from skerry_registry.live.devices import Devices
from skerry_registry.live.envelopes import Envelopes
from skerry_registry.live.sender import Sender
from skerry_registry.live.streams import Streams
from skerry_registry.registry import Registry
from skerry_registry.stores.sqlite import SqliteStore

SUBJECTS = ("nginx:ditto",)
NOBODY = 0x10
OPERATOR = Sender(subjects=SUBJECTS, origin="test")
DESIRED = "device/x/T1/desired"
HEADERS = {"correlation-id": "c1", "content-type": "text/plain"}
ASK: dict[str, Any] = {
    "topic": "x/T1/things/live/messages/ask",
    "path": "/inbox/messages/ask",
    "headers": HEADERS,
    "value": "please",
}


class Farm:
    """A registry behind Mosquitto."""

    def __init__(self, registry: Registry, client: MqttClient, streams: Streams, letters: DeadLetters) -> None:
        self.registry = registry
        self.client = client
        self.streams = streams
        self.letters = letters

    async def put(self, *path: str, value: Any, verb: Any = "modify") -> None:
        await self.registry.handle(Command(verb=verb, id="x:T1", subjects=SUBJECTS, path=path, value=value))

    async def desire(self, **properties: Any) -> None:
        await self.put("features", "scada", "desiredProperties", value=properties)


async def until(ready: Any) -> None:
    await until_what(ready, "what should have happened", 20)


@asynccontextmanager
async def farm(folder: Path, broker: Mosquitto, *, protocol: int = 5) -> AsyncIterator[Farm]:
    ids = (f"id-{number}" for number in itertools.count(1))
    with closing(DeadLetters(folder)) as letters:
        async with Registry(SqliteStore(folder), clock, lambda: next(ids)) as registry:
            streams = Streams.of(registry)
            inlet = Inlet(DEFAULT_SOURCES, registry.handle_all, letters, clock)
            address = msgspec.structs.replace(Address.read(broker.url), protocol=protocol)
            client = MqttClient(address, DEFAULT_SOURCES, inlet.take, clock, lambda: 0.0)
            devices = Devices(registry, streams, Envelopes(registry, streams), client.downlink)
            async with Talk(devices, Replies(client.downlink), lambda: next(ids)) as talk, client:
                inlet.attach(talk)
                leave = devices.listen()
                following = asyncio.create_task(streams.desired.run(client.downlink))
                try:
                    await until(lambda: client.status.connected)
                    yield Farm(registry, client, streams, letters)
                finally:
                    leave()
                    following.cancel()
                    await asyncio.wait({following})


@pytest.fixture
def broker(tmp_path: Path) -> Any:
    with mosquitto(tmp_path) as server:
        yield server


async def connect(broker: Mosquitto, client: str, *topics: str, **fields: Any) -> Dialog:
    dialog = await Dialog.open(broker, client, login=False, **fields)  # type: ignore[arg-type] # any broker has a port
    for topic in topics:
        assert await dialog.subscribe(topic, 0) == 0
    return dialog


async def heard(dialog: Dialog) -> tuple[str, Any]:
    packet = await dialog.expect(Publish, 20)
    return packet.topic, msgspec.json.decode(packet.payload) if packet.payload else None


async def say(dialog: Dialog, members: dict[str, Any], **fields: Any) -> None:
    await dialog.publish("ditto/x/T1", msgspec.json.encode(members), **fields)


@pytest.mark.parametrize("version", [V311, V5])
async def test_messages_go_down_and_answers_come_up(tmp_path: Path, broker: Mosquitto, version: int) -> None:
    async with farm(tmp_path, broker, protocol=version) as made:
        await made.put(value={})
        device = await connect(broker, "device", "device/x/T1/live")
        asking = asyncio.create_task(made.streams.live.send(signal_from(ASK), OPERATOR, seconds=20))
        topic, told = await heard(device)
        assert (topic, told["path"], told["value"]) == ("device/x/T1/live", "/inbox/messages/ask", "please")
        await say(device, {**told, "status": 200, "value": "here"})
        answer = (await asking).answer
        assert (answer.status, answer.value) == (200, "here")
        own = {**ASK, "topic": "x/T1/things/live/messages/alarm", "path": "/outbox/messages/alarm"}
        await say(device, {**own, "headers": HEADERS | {"response-required": False}})
        await device.silent()
        await device.close()


async def test_replies_stay_on_the_topics_of_the_thing(tmp_path: Path, broker: Mosquitto) -> None:
    async with farm(tmp_path, broker) as made:
        await made.put(value={"attributes": {"a": 1}})
        device = await connect(broker, "device", "device/#", "telemetry/#")
        retrieve = {"topic": "x/T1/things/twin/commands/retrieve", "path": "/attributes", "headers": HEADERS}
        for wanted, used in (
            (None, "device/x/T1/replies"),
            ("device/x/T1/replies/7", "device/x/T1/replies/7"),
            ("device/x/T2/replies", "device/x/T1/replies"),
            ("device/x/T1/live", "device/x/T1/replies"),
            ("telemetry/x/T1/scada", "device/x/T1/replies"),
        ):
            properties = {"correlation_data": b"7"} | ({} if wanted is None else {"response_topic": wanted})
            await say(device, retrieve, properties=properties)
            packet = await device.expect(Publish, 20)
            assert (packet.topic, msgspec.json.decode(packet.payload)["value"]) == (used, {"a": 1})
            assert (packet.properties or {}).get("correlation_data") == b"7"
        await say(device, {**retrieve, "topic": "x/T2/things/twin/commands/retrieve"})
        topic, reply = await heard(device)
        assert (topic, reply["value"]["error"]) == ("device/x/T1/replies", "mapping.envelope.elsewhere")
        await say(device, {**retrieve, "topic": "_/_/things/twin/commands/retrieve", "value": {"thingIds": ["x:T1"]}})
        assert (await heard(device))[1]["value"]["error"] == "mapping.envelope.elsewhere"
        change = {"topic": "x/T1/things/twin/commands/modify", "path": "/attributes/b", "headers": HEADERS, "value": 2}
        await say(device, change)
        assert (await heard(device))[1]["status"] == 201
        await device.publish("e", msgspec.json.encode(change))
        assert (await heard(device))[1]["status"] == 204
        await device.close()


async def test_desired_state_is_retained_and_survives_both_ends(tmp_path: Path, broker: Mosquitto) -> None:
    async with farm(tmp_path, broker) as made:
        await made.put(value={"features": {"scada": {"properties": {"power": 1}}}})
        await made.desire(power=5)
        device = await connect(broker, "device", DESIRED)
        assert (await heard(device))[1]["value"] == {"scada": {"properties": {"power": 5}}}
        broker.stop()
        await until(lambda: not made.client.status.connected)
        await made.desire(power=6)
        broker.start()
        await device.close()
        device = await connect(broker, "device", DESIRED)
        while (await heard(device))[1]["value"]["scada"]["properties"]["power"] != 6:
            continue
        await device.publish("telemetry/x/T1/scada", b'{"power":6}')
        assert await heard(device) == (DESIRED, None)
        await made.desire(power=7)
        assert (await heard(device))[1]["value"]["scada"]["properties"]["power"] == 7
    assert await device.publish("device/x/gone/desired", b'{"value":{}}', retain=True) in {0, NOBODY}
    await device.subscribe("device/x/gone/desired", 0)
    assert (await heard(device))[0] == "device/x/gone/desired"
    async with farm(tmp_path, broker) as made:
        assert await heard(device) == ("device/x/gone/desired", None)
        await device.close()
