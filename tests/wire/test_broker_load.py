"""Nobody slows a device: slow subscribers, many connections, more than can be taken."""

from __future__ import annotations

import asyncio
import resource
import time
from typing import Any

import pytest

from broker_dialog import Asked, Dialog, Taker, serving, until
from skerry_adapters.broker import Limits
from skerry_adapters.broker.packets import (
    V5,
    V311,
    Connack,
    Connect,
    Disconnect,
    Puback,
    Publish,
    Pubrec,
    Reason,
    weight,
)

PAYLOAD = bytes(1000)


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_subscriber_that_does_not_read_slows_no_publisher(qos: int) -> None:
    async with serving(limits=Limits(queued=500, fleeting=100)) as broker:
        stuck, keen = await Dialog.open(broker, "stuck"), await Dialog.open(broker, "keen")
        device = await Dialog.open(broker, "device", version=V311)
        await stuck.subscribe("a", qos)
        await keen.subscribe("a", 0)
        total, seen = 20_000, 0
        start = time.monotonic()
        for begin in range(0, total, 100):
            device.send(*(Publish("a", PAYLOAD, 1, mid=number + 1) for number in range(begin, begin + 100)))
            for _ in range(100):
                await device.expect(Puback)
            while seen < begin:
                await keen.expect(Publish)
                seen += 1
        assert time.monotonic() - start < 30
        status = broker.status()
        assert status.dropped > 0
        if qos:
            await until(lambda: broker.status().connections == 2, "the stuck client to be disconnected")
        else:
            assert status.connections == 3
        for dialog in (stuck, keen, device):
            await dialog.close()


async def test_a_full_persistent_session_keeps_its_oldest_messages_and_drops_new_ones() -> None:
    session = {"session_expiry_interval": 60}
    async with serving(limits=Limits(queued=10)) as broker:
        reader = await Dialog.open(broker, "r", properties=session)
        await reader.subscribe("a", 1)
        reader.send(Disconnect())
        assert await reader.receive() is None
        for number in range(15):
            await broker.publish("a", b"%d" % number, 1)
        assert (broker.status().queued, broker.status().dropped) == (10, 5)
        again = await Dialog.open(broker, "r", clean=False, properties=session)
        for number in range(10):
            got = await again.expect(Publish)
            assert got.payload == b"%d" % number
            again.send(Puback(got.mid))
        await again.silent()
        await again.close()
        await reader.close()


async def test_a_connected_client_whose_queue_is_full_is_told_and_closed() -> None:
    async with serving(limits=Limits(queued=10)) as broker:
        reader = await Dialog.open(broker, "r", properties={"receive_maximum": 1})
        await reader.subscribe("a", 1)
        for _ in range(11):
            await broker.publish("a", b"x", 1)
        await reader.expect(Publish)
        assert (await reader.expect(Disconnect)).reason == Reason.QUOTA_EXCEEDED
        await reader.close()


async def test_all_queues_together_are_bounded() -> None:
    session = {"session_expiry_interval": 60}
    async with serving(limits=Limits(queued_bytes_of_all=5 * weight("a", PAYLOAD, None))) as broker:
        for number in range(4):
            reader = await Dialog.open(broker, f"r{number}", properties=session)
            await reader.subscribe("a", 1)
            await reader.close()
        await until(lambda: not broker.status().connections, "the readers to be gone")
        for _ in range(3):
            await broker.publish("a", PAYLOAD, 1)
        assert broker.status().queued == 5
        again = await Dialog.open(broker, "r0", clean=True, properties=session)
        assert broker.status().queued == 3
        await broker.publish("a", PAYLOAD, 1)
        assert broker.status().queued == 5
        await again.close()


async def test_a_device_that_sends_more_than_is_taken_is_read_no_further() -> None:
    take = Taker()
    take.gate.clear()
    async with serving(take=take, limits=Limits(unacknowledged=50), pipeline=100) as broker:
        device = await Dialog.open(broker, "device", version=V311)
        other = await Dialog.open(broker, "other")
        total = 20_000
        device.send(*(Publish("a", PAYLOAD, 1, mid=number + 1) for number in range(total)))
        await until(lambda: bool(broker.paused), "the device to be read no further")
        assert broker.status().waiting < 1000
        other.send(Publish("b", b"x", 1, mid=1))
        await until(lambda: any(c.unacknowledged == 1 for c in broker.connections), "the other device to be heard")
        take.gate.set()
        await other.expect(Puback)
        for _ in range(total):
            await device.expect(Puback)
        assert not broker.paused
        assert len(take.messages) == total + 1
        await device.close()
        await other.close()


@pytest.mark.parametrize("version", [V311, V5])
async def test_messages_of_all_sorts_are_taken_and_acknowledged_in_the_order_they_were_sent(version: int) -> None:
    take = Taker()
    rights = Asked(lambda _subjects, action, topic: action != "publish" or topic != "secret")
    async with serving(take=take, rights=rights, limits=Limits(unacknowledged=5_000)) as broker:
        device = await Dialog.open(broker, version=version)
        said = {"user_property": [("a", "b")]} if version == V5 else None
        sent = []
        for mid in range(1, 1_801):
            qos = 2 if mid % 7 == 0 else 0 if mid % 11 == 0 else 1
            topic = "secret" if mid % 601 == 0 else f"t/{mid % 3}"
            properties = said if mid % 13 == 0 else None
            sent.append(Publish(topic, b"%d" % mid, qos, mid=mid if qos else 0, properties=properties))
            if mid > 300 and mid < 1_000:  # more than one run of plain ones
                sent[-1] = Publish("t/plain", b"%d" % mid, 1, mid=mid)
        device.send(*sent)
        for packet in sent:
            if packet.qos:
                answer = await device.receive()
                assert isinstance(answer, Puback if packet.qos == 1 else Pubrec)
                refused = packet.topic == "secret" and version == V5
                assert (answer.mid, answer.reason) == (packet.mid, Reason.NOT_AUTHORIZED if refused else 0)
        taken = [packet for packet in sent if packet.topic != "secret"]
        assert [message.payload for message in take.messages] == [packet.payload for packet in taken]
        assert (broker.status().received, broker.status().refused) == (len(sent), len(sent) - len(taken))
        assert (broker.waiting_bytes, broker.status().waiting) == (0, 0)
        await device.close()


async def test_all_waiting_payloads_together_are_bounded() -> None:
    take = Taker()
    take.gate.clear()
    async with serving(take=take, limits=Limits(waiting_bytes=100_000)) as broker:
        devices = [await Dialog.open(broker, f"d{number}") for number in range(10)]
        for device in devices:
            device.send(*(Publish("a", PAYLOAD, 1, mid=number + 1) for number in range(900)))
        await until(lambda: len(broker.paused) == 10, "all devices to be read no further")
        assert broker.waiting_bytes < 100_000 + 10 * 300_000
        take.gate.set()
        for device in devices:
            for _ in range(900):
                await device.expect(Puback)
            await device.close()
        assert broker.waiting_bytes == 0


async def test_a_thousand_devices_are_served_at_once() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    take = Taker()
    async with serving(take=take) as broker:

        async def device(number: int) -> Dialog:
            dialog = Dialog(*await asyncio.open_connection("127.0.0.1", broker.port), V5)
            dialog.send(Connect(f"d{number}", username="ada", password=b"secret"))
            await dialog.expect(Connack, 20)
            return dialog

        devices = await asyncio.gather(*(device(number) for number in range(1000)))
        assert broker.status().connections == 1000

        async def talk(dialog: Dialog, number: int) -> Any:
            dialog.send(*(Publish(f"telemetry/demo/T{number}/scada", b"{}", 1, mid=mid) for mid in range(1, 11)))
            return [(await dialog.expect(Puback, 20)).mid for _ in range(10)]

        answers = await asyncio.gather(*(talk(dialog, number) for number, dialog in enumerate(devices)))
        assert answers == [list(range(1, 11))] * 1000
        for dialog in devices:
            dialog.writer.close()
        await until(lambda: not broker.status().connections, "all to be gone")
        for dialog in devices:
            await dialog.close()
    assert len(take.messages) == 10_000
