"""What the embedded broker has promised survives a restart and SIGKILL."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import broker_process
from broker_dialog import Dialog, Taker, clock, serving, until
from servers import free_port, listens, wait_until
from skerry_adapters.broker import Limits
from skerry_adapters.broker.packets import (
    V5,
    V311,
    Connack,
    Connect,
    Disconnect,
    Filter,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
)

LONG = {"session_expiry_interval": 3600}


async def leave(dialog: Dialog) -> None:
    """Disconnect and see the end."""
    dialog.send(Disconnect())
    while await dialog.receive() is not None:
        pass
    await dialog.close()


@pytest.mark.parametrize("version", [V311, V5])
async def test_a_persistent_session_gets_what_came_while_it_was_away(tmp_path: Path, version: int) -> None:
    fields = {"version": version, "clean": False, **({"properties": LONG} if version == V5 else {})}
    async with serving(tmp_path) as broker:
        reader = await Dialog.open(broker, "r", **fields)
        assert reader.connack.present is False
        await reader.subscribe("a/#", 2)
        await leave(reader)
        await broker.publish("a/0", b"no promise", 0)
        await broker.publish("a/1", b"one", 1)
        await broker.publish("a/2", b"two", 2)
    async with serving(tmp_path) as broker:
        await broker.publish("a/3", b"three", 1)
        assert broker.status().queued == 3
        reader = await Dialog.open(broker, "r", **fields)
        assert reader.connack.present is True
        got = [await reader.expect(Publish) for _ in range(3)]
        assert [(m.topic, m.payload, m.qos, m.dup) for m in got] == [
            ("a/1", b"one", 1, False),
            ("a/2", b"two", 2, False),
            ("a/3", b"three", 1, False),
        ]
        reader.send(Puback(got[0].mid), Pubrec(got[1].mid))
        await reader.expect(Pubrel)
        await reader.close()
    async with serving(tmp_path) as broker:
        reader = await Dialog.open(broker, "r", **fields)
        assert await reader.expect(Pubrel) == Pubrel(got[1].mid)
        again = await reader.expect(Publish)
        assert (again.payload, again.dup, again.mid) == (b"three", True, got[2].mid)
        reader.send(Pubcomp(got[1].mid), Puback(again.mid))
        await until(lambda: broker.status().queued == 0, "everything to be acknowledged")
        await leave(reader)
        fresh = await Dialog.open(broker, "r", **{**fields, "clean": True})
        assert fresh.connack.present is False
        await broker.publish("a/1", b"x", 1)
        await fresh.silent()
        await fresh.close()


async def test_messages_in_flight_are_sent_again_in_order_after_a_lost_connection() -> None:
    async with serving() as broker:
        reader = await Dialog.open(broker, "r", properties=LONG)
        await reader.subscribe("a", 2)
        for number in range(5):
            await broker.publish("a", b"%d" % number, 1 + number % 2)
        got = [await reader.expect(Publish) for _ in range(5)]
        reader.send(Puback(got[0].mid))
        await until(lambda: broker.status().queued == 4, "the acknowledgement")
        await reader.close()
        reader = await Dialog.open(broker, "r", clean=False, properties={**LONG, "receive_maximum": 2})
        published: list[Publish] = []
        while broker.status().queued:
            packet = await reader.receive()
            if isinstance(packet, Publish):
                published.append(packet)
                reader.send(Puback(packet.mid) if packet.qos == 1 else Pubrec(packet.mid), Pingreq())
            elif isinstance(packet, Pubrel):
                reader.send(Pubcomp(packet.mid), Pingreq())
            assert packet is not None
        assert [(m.payload, m.dup, m.mid) for m in published] == [(m.payload, True, m.mid) for m in got[1:]]
        await reader.close()


async def test_received_qos_2_ids_are_remembered_across_a_restart(tmp_path: Path) -> None:
    take = Taker()
    async with serving(tmp_path, take=take) as broker:
        device = await Dialog.open(broker, "d", properties=LONG)
        device.send(Publish("a", b"1", 2, mid=1), Publish("a", b"2", 2, mid=2))
        assert [(await device.expect(Pubrec)).mid for _ in range(2)] == [1, 2]
        device.send(Pubrel(2))
        await device.expect(Pubcomp)
        await device.close()
    async with serving(tmp_path, take=take) as broker:
        device = await Dialog.open(broker, "d", clean=False, properties=LONG)
        device.send(Publish("a", b"1", 2, dup=True, mid=1))
        assert await device.expect(Pubrec) == Pubrec(1)
        device.send(Pubrel(1))
        assert await device.expect(Pubcomp) == Pubcomp(1)
        device.send(Publish("a", b"3", 2, mid=1))
        assert await device.expect(Pubrec) == Pubrec(1)
        await device.close()
    assert [m.payload for m in take.messages] == [b"1", b"2", b"3"]


async def test_sessions_end_when_their_time_is_over(tmp_path: Path) -> None:
    now = clock()
    async with serving(tmp_path, clock=lambda: now, limits=Limits(session_seconds=100)) as broker:
        for name, wanted in (("short", 10), ("long", 0xFFFFFFFF), ("gone", 50)):
            client = await Dialog.open(broker, name, properties={"session_expiry_interval": wanted})
            assert client.connack.properties.get("session_expiry_interval") == (100 if name == "long" else None)
            await client.subscribe("a", 1)
            farewell = {"session_expiry_interval": 0} if name == "gone" else {}
            client.send(Disconnect(0, farewell))
            assert await client.receive() is None
            await client.close()
        assert broker.status().sessions == 2
        now += 20_000_000
        await until(lambda: broker.status().sessions == 1, "the short session to end")
    async with serving(tmp_path, clock=lambda: now) as broker:
        assert [client for _, client in broker.router.sessions] == ["long"]
        assert broker.status().subscriptions == 1
    now += 200_000_000
    async with serving(tmp_path, clock=lambda: now) as broker:
        await until(lambda: broker.status().sessions == 0, "the long session to end")


async def test_a_full_disk_withholds_acknowledgements_until_there_is_room(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with serving(tmp_path) as broker:
        reader = await Dialog.open(broker, "r", properties=LONG)
        await reader.subscribe("a", 1)
        device = await Dialog.open(broker, "d")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            device.send(*(Publish("a", bytes(50_000), 1, mid=mid) for mid in range(1, 11)))
            await until(lambda: broker.status().failing is not None, "the disk to be full")
            device.send(Pingreq())
            acknowledged = 0
            while not isinstance(packet := await device.receive(), Pingresp):
                assert isinstance(packet, Puback)
                acknowledged += 1
            assert acknowledged < 10
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        for _ in range(10 - acknowledged):
            await device.expect(Puback)
        for _ in range(10):
            reader.send(Puback((await reader.expect(Publish)).mid))
        assert broker.status().failing is None
        await reader.close()
        await device.close()


@contextmanager
def process(port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A broker in a process of its own, killed at the end."""
    running = subprocess.Popen([sys.executable, broker_process.__file__, str(port), str(folder)])
    try:
        wait_until(lambda: listens(port), what="the broker to listen")
        yield running
    finally:
        running.kill()
        running.wait()


class Device:
    """Publishes numbers at QoS 1 and 2 and keeps its promises across broken connections."""

    def __init__(self, total: int) -> None:
        self.left = list(range(total))
        self.flying: dict[int, Publish] = {}
        self.released: list[int] = []
        self.done: set[bytes] = set()

    async def run(self, dialog: Dialog) -> None:
        """Until everything is acknowledged or the connection breaks."""
        dialog.send(*[Pubrel(mid) for mid in self.released])
        dialog.send(
            *[
                Publish(m.topic, m.payload, m.qos, dup=True, mid=mid)
                for mid, m in self.flying.items()
                if mid not in self.released
            ]
        )
        while self.left or self.flying:
            while self.left and len(self.flying) < 40:
                number = self.left.pop(0)
                message = Publish(f"a/{number % 7}", b"%d" % number, 1 + number % 2, mid=number + 1)
                self.flying[message.mid] = message
                dialog.send(message)
            packet = await dialog.receive(10)
            if packet is None:
                return
            if isinstance(packet, Pubrec):
                self.released.append(packet.mid)
                dialog.send(Pubrel(packet.mid))
            elif isinstance(packet, Puback | Pubcomp):
                self.done.add(self.flying.pop(packet.mid).payload)
                if packet.mid in self.released:
                    self.released.remove(packet.mid)


class Reader:
    """Receives at QoS 2, exactly once by packet id."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.open: set[int] = set()

    async def run(self, dialog: Dialog) -> None:
        """Until the connection breaks."""
        while (packet := await dialog.receive(30)) is not None:
            if isinstance(packet, Pubrel):
                self.open.discard(packet.mid)
                dialog.send(Pubcomp(packet.mid))
            elif isinstance(packet, Publish):
                if packet.qos == 1 or packet.mid not in self.open:
                    self.got.append(packet.payload)
                if packet.qos == 1:
                    dialog.send(Puback(packet.mid))
                else:
                    self.open.add(packet.mid)
                    dialog.send(Pubrec(packet.mid))


async def connect(port: int, client_id: str) -> Dialog:
    """A dialog with a broker in another process."""
    dialog = Dialog(*await asyncio.open_connection("127.0.0.1", port), V5)
    dialog.send(Connect(client_id, clean=False, username="ada", password=b"secret", properties=LONG))
    await dialog.expect(Connack)
    return dialog


async def test_nothing_acknowledged_is_lost_or_doubled_when_the_broker_is_killed_again_and_again(
    tmp_path: Path,
) -> None:
    port, total, kills = free_port(), 3000, 4
    device, reader = Device(total), Reader()
    for turn in range(kills + 1):
        with process(port, tmp_path) as running:
            listener = await connect(port, "reader")
            if turn == 0:
                listener.send(Subscribe(1, (Filter("a/#", 2),)))
                await listener.expect(Suback)
            sender = await connect(port, "device")
            reading = asyncio.create_task(reader.run(listener))
            sending = asyncio.create_task(device.run(sender))
            if turn < kills:
                goal = (turn + 1) * total // (kills + 2)
                await until(lambda goal=goal: len(device.done) >= goal, "messages to be acknowledged", 30)  # type: ignore[misc]
                running.kill()
                await sending
            else:
                await sending
                await until(
                    lambda: len(set(reader.got)) == total and not reader.open, "the reader to have everything", 30
                )
                running.kill()
            await reading
            await listener.close()
            await sender.close()
    taken = [line.split() for line in (tmp_path / "taken").read_bytes().splitlines()]
    assert {payload for payload, _ in taken} == device.done == {b"%d" % n for n in range(total)}
    doubled = [payload for payload in reader.got if int(payload) % 2 and reader.got.count(payload) > 1]
    assert doubled == []
    firsts = set()
    for payload, redelivered in taken:
        assert redelivered == b"1" or payload not in firsts
        firsts.add(payload)
