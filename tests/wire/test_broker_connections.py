"""Connections to the embedded broker: who is let in, who is kept, and what is said at the end."""

from __future__ import annotations

import asyncio

import pytest

from broker_dialog import Dialog, Taker, serving, until
from skerry_adapters.broker import Limits
from skerry_adapters.broker.packets import (
    V5,
    V311,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Reason,
    Will,
)

VERSIONS = pytest.mark.parametrize("version", [V311, V5])


@VERSIONS
async def test_strangers_are_refused(version: int) -> None:
    anonymous, wrong = (0x87, 0x86) if version == V5 else (5, 4)
    async with serving() as broker:
        for fields, code in (
            ({"username": None, "password": None}, anonymous),
            ({"password": b"wrong"}, wrong),
            ({"password": b"\xff"}, wrong),
        ):
            stranger = await Dialog.open(broker, version=version, **fields)
            assert stranger.connack.reason == code
            assert await stranger.receive() is None
            await stranger.close()
        assert broker.status().logins_refused == 3
        assert broker.status().sessions == 0


async def test_a_login_that_breaks_is_refused() -> None:
    async def broken(name: str, password: str, address: str) -> None:
        raise RuntimeError(name)

    async with serving(authenticate=broken) as broker:
        client = await Dialog.open(broker)
        assert client.connack.reason == Reason.UNAVAILABLE
        await client.close()


async def test_packets_sent_with_connect_wait_for_the_login() -> None:
    take = Taker()
    async with serving(take=take) as broker:
        early = Dialog(*await asyncio.open_connection("127.0.0.1", broker.port), V5)
        early.send(Connect("c", username="ada", password=b"secret"), Publish("a", b"1", 1, mid=1), Pingreq())
        await early.expect(Connack)
        assert isinstance(await early.receive(), Pingresp)
        await early.expect(Puback)
        unknown = Dialog(*await asyncio.open_connection("127.0.0.1", broker.port), V5)
        unknown.send(Connect("c", username="ada", password=b"wrong"), Publish("a", b"2", 1, mid=1))
        assert (await unknown.expect(Connack)).reason == Reason.BAD_LOGIN
        await early.close()
        await unknown.close()
    assert [m.payload for m in take.messages] == [b"1"]


@VERSIONS
async def test_a_will_is_published_when_its_client_is_lost_and_not_when_it_leaves(version: int) -> None:
    take = Taker()
    async with serving(take=take) as broker:
        reader = await Dialog.open(broker, "r")
        await reader.subscribe("will/#")
        for number, leave in ((1, False), (2, True)):
            client = await Dialog.open(
                broker, "w", version=version, will=Will(f"will/{number}", b"lost", 1, retain=True)
            )
            if leave:
                client.send(Disconnect())
                assert await client.receive() is None
            await client.close()
        got = await reader.expect(Publish)
        assert (got.topic, got.payload) == ("will/1", b"lost")
        await reader.silent()
        assert broker.status().retained == 1
        await reader.close()
    assert [m.topic for m in take.messages] == ["will/1"]


async def test_a_delayed_will_waits_and_is_withdrawn_by_the_clients_return() -> None:
    take = Taker()
    session = {"session_expiry_interval": 60}
    async with serving(take=take) as broker:
        for delay in (60, 1):
            will = Will("will", b"%d" % delay, properties={"will_delay_interval": delay})
            client = await Dialog.open(broker, "w", clean=False, properties=session, will=will)
            await client.close()
            await until(lambda: not broker.status().connections, "the client to be gone")
        assert not take.messages
        await until(lambda: bool(take.messages), "the second will")
        assert [m.payload for m in take.messages] == [b"1"]
        client = await Dialog.open(broker, "w", will=Will("will", b"asked"))
        client.send(Disconnect(Reason.DISCONNECT_WITH_WILL))
        await until(lambda: len(take.messages) == 2, "the will that was asked for")
        await client.close()


async def test_the_same_client_id_takes_the_connection_over() -> None:
    async with serving() as broker:
        old = await Dialog.open(broker, "same")
        new = await Dialog.open(broker, "same")
        assert (await old.expect(Disconnect)).reason == Reason.TAKEN_OVER
        assert await old.receive() is None
        other = await Dialog.open(broker, "same", username="bob")
        assert await new.publish("a", b"x") == 0
        assert broker.status().connections == 2
        for dialog in (old, new, other):
            await dialog.close()


async def test_silent_clients_are_disconnected_and_pinging_ones_are_not() -> None:
    async with serving() as broker:
        silent = await Dialog.open(broker, "silent", keepalive=1)
        alive = await Dialog.open(broker, "alive", keepalive=2)
        for _ in range(3):
            alive.send(Pingreq())
            await alive.expect(Pingresp)
            await alive.silent(1)
        assert (await silent.expect(Disconnect)).reason == Reason.KEEP_ALIVE_TIMEOUT
        await silent.close()
        await alive.close()


async def test_a_connection_that_never_logs_in_is_closed() -> None:
    async with serving(limits=Limits(connect_seconds=0.2)) as broker:
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        drip, slow = await asyncio.open_connection("127.0.0.1", broker.port)
        slow.write(b"\x10")
        end = asyncio.create_task(drip.read())
        while not end.done():
            slow.write(b"\x7f")
            await asyncio.wait({end}, timeout=0.05)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        slow.close()


async def test_more_connections_than_the_limit_are_refused() -> None:
    async with serving(limits=Limits(connections=2)) as broker:
        dialogs = [await Dialog.open(broker, f"c{number}") for number in range(3)]
        assert [d.connack.reason for d in dialogs] == [0, 0, Reason.QUOTA_EXCEEDED]
        old = await Dialog.open(broker, "c9", version=V311)
        assert old.connack.reason == 3
        for dialog in [*dialogs, old]:
            await dialog.close()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x36\x05\x00\x01a\x00\x01", Reason.MALFORMED),
        (b"\x20\x03\x00\x00\x00", Reason.PROTOCOL_ERROR),
        (b"\x30\x04\x00\x01#\x00", Reason.TOPIC_NAME_INVALID),
        (b"\x30\x06\x00\x00\x03\x23\x00\x09", Reason.PROTOCOL_ERROR),
        (b"\x30\x07\x00\x01a\x03\x23\x01\x00", Reason.TOPIC_ALIAS_INVALID),
        (b"\x30\xff\xff\x7f", Reason.PACKET_TOO_LARGE),
        (b"\xf0\x00", Reason.PROTOCOL_ERROR),
    ],
)
async def test_a_client_that_breaks_the_protocol_is_told_and_closed(data: bytes, reason: Reason) -> None:
    async with serving() as broker:
        client = await Dialog.open(broker)
        client.writer.write(data)
        farewell = await client.expect(Disconnect)
        assert farewell.reason == reason
        assert farewell.properties["reason_string"]
        assert await client.receive() is None
        assert broker.status().violations == 1
        await client.close()


async def test_old_versions_are_told_so_and_strangers_to_mqtt_are_dropped() -> None:
    async with serving() as broker:
        for data, answer in (
            (b"\x10\x12\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x04abcd", b"\x20\x02\x00\x01"),
            (b"GET / HTTP/1.1\r\n\r\n", b""),
            (b"\xc0\x00", b""),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
            writer.write(data)
            assert await asyncio.wait_for(reader.read(), 5) == answer
            writer.close()


async def test_a_stop_tells_the_clients_and_acknowledges_what_was_taken() -> None:
    take = Taker()
    async with serving(take=take) as broker:
        new, old = await Dialog.open(broker, "new"), await Dialog.open(broker, "old", version=V311)
        take.gate.clear()
        new.send(Publish("a", b"x", 1, mid=1))
        await until(lambda: take.begun == 1, "the message to be in take")
        asyncio.get_running_loop().call_later(0.1, take.gate.set)
    assert (await new.expect(Puback)).mid == 1
    assert (await new.expect(Disconnect)).reason == Reason.SHUTTING_DOWN
    assert await old.receive() is None
    await new.close()
    await old.close()
