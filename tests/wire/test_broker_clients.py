"""The embedded broker serves the clients that people have: paho, aiomqtt, mosquitto_pub and mosquitto_sub."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import shutil
import threading
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker_dialog import Taker, serving, until
from skerry_adapters.broker.packets import Reason

PROTOCOLS = pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5])


class Paho:
    """A paho client on its own thread."""

    def __init__(
        self, port: int, client_id: str, protocol: Any, *, clean: bool = True, password: str = "secret"
    ) -> None:
        options: dict[str, Any] = {} if protocol == paho.MQTTv5 else {"clean_session": clean}
        self.messages: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.answers: queue.Queue[Any] = queue.Queue()
        self.subscribed = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id, protocol=protocol, **options)
        self.client.username_pw_set("ada", password)
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        self.client.on_connect = lambda _c, _u, flags, reason, _p: self.answers.put((reason, flags.session_present))
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        connect: dict[str, Any] = {}
        if protocol == paho.MQTTv5:
            properties = Properties(1)
            properties.SessionExpiryInterval = 0 if clean else 3600
            connect = {"clean_start": clean, "properties": properties}
        self.client.connect("127.0.0.1", port, keepalive=30, **connect)
        self.client.loop_start()

    def close(self) -> None:
        """Leave."""
        self.client.disconnect()
        self.client.loop_stop()


@PROTOCOLS
async def test_paho_publishes_and_subscribes_at_every_quality(protocol: Any) -> None:
    take = Taker()

    def converse(port: int) -> list[tuple[str, bytes, int]]:
        reader, device = Paho(port, "reader", protocol), Paho(port, "device", protocol)
        try:
            assert reader.answers.get(timeout=5)[0] == 0
            if protocol == paho.MQTTv5:
                reader.client.subscribe("farm/#", options=SubscribeOptions(qos=2))
            else:
                reader.client.subscribe("farm/#", 2)
            assert reader.subscribed.wait(5)
            for qos in (0, 1, 2):
                for number in range(50):
                    device.client.publish(f"farm/{qos}", b"%d" % number, qos).wait_for_publish(5)
            return [(m.topic, m.payload, m.qos) for m in (reader.messages.get(timeout=5) for _ in range(150))]
        finally:
            reader.close()
            device.close()

    async with serving(take=take) as broker:
        got = await asyncio.to_thread(converse, broker.port)
    assert got == [(f"farm/{qos}", b"%d" % number, qos) for qos in (0, 1, 2) for number in range(50)]
    assert len(take.messages) == 150


@PROTOCOLS
async def test_paho_finds_its_session_again(protocol: Any) -> None:
    def first(port: int) -> None:
        reader = Paho(port, "reader", protocol, clean=False)
        assert reader.answers.get(timeout=5) == (0, False)
        reader.client.subscribe("farm/#", 1)
        assert reader.subscribed.wait(5)
        reader.close()

    def second(port: int) -> bytes:
        reader = Paho(port, "reader", protocol, clean=False)
        try:
            assert reader.answers.get(timeout=5) == (0, True)
            return bytes(reader.messages.get(timeout=5).payload)
        finally:
            reader.close()

    async with serving() as broker:
        await asyncio.to_thread(first, broker.port)
        await until(lambda: not broker.status().connections, "the reader to be gone")
        await broker.publish("farm/1", b"kept", 1)
        assert await asyncio.to_thread(second, broker.port) == b"kept"


@PROTOCOLS
async def test_paho_is_told_that_its_password_is_wrong(protocol: Any) -> None:
    def refused(port: int) -> str:
        client = Paho(port, "stranger", protocol, password="wrong")
        try:
            return str(client.answers.get(timeout=5)[0])
        finally:
            client.close()

    async with serving() as broker:
        assert await asyncio.to_thread(refused, broker.port) == "Bad user name or password"


@pytest.mark.parametrize("protocol", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5])
async def test_aiomqtt_sees_retained_messages_and_wills(protocol: aiomqtt.ProtocolVersion) -> None:
    def client(port: int, name: str, **options: Any) -> aiomqtt.Client:
        return aiomqtt.Client(
            "127.0.0.1", port, username="ada", password="secret", identifier=name, protocol=protocol, **options
        )

    async with serving() as broker, client(broker.port, "reader") as reader:
        with contextlib.suppress(aiomqtt.MqttError):
            async with client(broker.port, "device", will=aiomqtt.Will("state", b"lost", 1, True)) as device:
                await device.publish("state", b"here", 1, retain=True)
                await reader.subscribe("state", 1)
                messages = aiter(reader.messages)
                async with asyncio.timeout(5):
                    first = await anext(messages)
                    (connection,) = [c for c in broker.connections if c.session and c.session.client_id == "device"]
                    connection.close(Reason.UNSPECIFIED)
                    second = await anext(messages)
        assert [(m.payload, bool(m.retain)) for m in (first, second)] == [(b"here", True), (b"lost", False)]


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
@pytest.mark.parametrize("qos", ["0", "1", "2"])
async def test_mosquittos_clients_talk_through_it(version: str, qos: str) -> None:
    for program in ("mosquitto_pub", "mosquitto_sub"):
        if shutil.which(program) is None:
            pytest.skip(f"NOT TESTED, program missing: {program} (package mosquitto-clients)")
    async with serving() as broker:
        common = ["-h", "127.0.0.1", "-p", str(broker.port), "-V", version, "-q", qos, "-u", "ada", "-P", "secret"]
        reader = await asyncio.create_subprocess_exec(
            "mosquitto_sub", *common, "-t", "farm/+/power", "-C", "20", "-F", "%t %p %q", stdout=asyncio.subprocess.PIPE
        )
        await until(lambda: broker.status().subscriptions == 1, "mosquitto_sub to subscribe")
        writer = await asyncio.create_subprocess_exec(
            "mosquitto_pub", *common, "-t", "farm/T01/power", "-l", stdin=asyncio.subprocess.PIPE
        )
        await writer.communicate(b"".join(b"%d\n" % number for number in range(20)))
        out, _ = await asyncio.wait_for(reader.communicate(), 10)
        assert out.split(b"\n")[:-1] == [b"farm/T01/power %d %s" % (number, qos.encode()) for number in range(20)]
        assert (writer.returncode, reader.returncode) == (0, 0)
