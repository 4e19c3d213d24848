"""Messages and subscriptions at the embedded broker: the rules of MQTT, seen packet by packet."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from broker_dialog import Asked, Dialog, Taker, authenticate, clock, serving, until
from skerry_adapters.broker import Broker, BrokerNotListening, Limits, SessionsUnreadable
from skerry_adapters.broker.packets import (
    V5,
    V311,
    Disconnect,
    Filter,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Reason,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)

VERSIONS = pytest.mark.parametrize("version", [V311, V5])


@VERSIONS
async def test_a_publish_is_taken_with_the_subjects_of_its_user(version: int) -> None:
    take = Taker()
    async with serving(take=take) as broker:
        device = await Dialog.open(broker, version=version)
        assert await device.publish("telemetry/demo/T01/scada", b"{}", mid=7) == 0
        device.send(Publish("telemetry/demo/T01/scada", b"0"))
        device.send(Publish("telemetry/demo/T01/scada", b"1", 1, dup=True, mid=8))
        assert (await device.expect(Puback)).mid == 8
        await device.close()
    seen = [(m.topic, m.payload, m.qos, m.mid, m.redelivered, m.subjects) for m in take.messages]
    topic, subjects = "telemetry/demo/T01/scada", ("nginx:ada",)
    assert seen == [
        (topic, b"{}", 1, 7, False, subjects),
        (topic, b"0", 0, 0, False, subjects),
        (topic, b"1", 1, 8, True, subjects),
    ]


async def test_no_acknowledgement_before_take_has_returned() -> None:
    take = Taker()
    async with serving(take=take) as broker:
        device = await Dialog.open(broker)
        take.gate.clear()
        device.send(Publish("a", b"1", 1, mid=1), Publish("a", b"2", 2, mid=2))
        await until(lambda: take.begun == 2, "both messages to be in take")
        await device.silent()
        take.gate.set()
        assert await device.expect(Puback) == Puback(1)
        assert await device.expect(Pubrec) == Pubrec(2)
        await device.close()


async def test_acknowledgements_keep_their_order_when_a_later_batch_is_taken_first() -> None:
    first = asyncio.Event()
    begun: list[bytes] = []

    async def take(messages: Any) -> None:
        begun.extend(m.payload for m in messages)
        if messages[0].payload == b"1":
            await first.wait()

    async with serving(take=take) as broker:
        device, other = await Dialog.open(broker), await Dialog.open(broker, "other")
        device.send(Publish("a", b"1", 1, mid=1))
        await until(lambda: begun == [b"1"], "the first message")
        device.send(Publish("a", b"2", 1, mid=2))
        await until(lambda: begun == [b"1", b"2"], "the second message")
        await device.silent()
        first.set()
        assert [(await device.expect(Puback)).mid for _ in range(2)] == [1, 2]
        await device.close()
        await other.close()


@VERSIONS
async def test_a_qos_2_message_is_taken_once_however_often_it_is_sent(version: int) -> None:
    take = Taker()
    async with serving(take=take) as broker:
        device = await Dialog.open(broker, version=version)
        message = Publish("a", b"1", 2, mid=5)
        device.send(message, message)
        assert [(await device.expect(Pubrec)).mid for _ in range(2)] == [5, 5]
        device.send(Publish("a", b"1", 2, dup=True, mid=5))
        assert await device.expect(Pubrec) == Pubrec(5)
        device.send(Pubrel(5))
        assert await device.expect(Pubcomp) == Pubcomp(5)
        device.send(message)
        assert await device.expect(Pubrec) == Pubrec(5)
        await device.close()
    assert len(take.messages) == 2


@pytest.mark.parametrize("qos", [0, 1, 2])
@VERSIONS
async def test_subscribers_get_messages_at_the_lower_of_both_qualities(version: int, qos: int) -> None:
    async with serving() as broker:
        reader, device = await Dialog.open(broker, "r", version=version), await Dialog.open(broker, "d")
        assert await reader.subscribe("a/+", qos) == qos
        device.send(Publish("a/b", b"x", 2, mid=1))
        got = await reader.expect(Publish)
        assert (got.topic, got.payload, got.qos, got.dup, got.retain) == ("a/b", b"x", qos, False, False)
        if qos == 1:
            reader.send(Puback(got.mid))
        if qos == 2:
            reader.send(Pubrec(got.mid))
            assert (await reader.expect(Pubrel)).mid == got.mid
            reader.send(Pubcomp(got.mid))
        await until(lambda: broker.status().queued == 0, "the message to be done with")
        reader.send(Unsubscribe(9, ("a/+", "never")))
        answer = await reader.expect(Unsuback)
        assert answer.reasons == ((0, 0x11) if version == V5 else ())
        await device.publish("a/b", b"y", mid=2) if await device.expect(Pubrec) else None
        await reader.silent()
        await reader.close()
        await device.close()


@VERSIONS
async def test_rights_are_asked_for_each_message_at_once(version: int) -> None:
    take = Taker()
    allowed = {"mine"}

    def may(subjects: tuple[str, ...], action: str, topic: str) -> bool:
        return subjects == ("nginx:ada",) and (topic in allowed or action == "subscribe") and topic != "secret"

    told = Reason.NOT_AUTHORIZED if version == V5 else 0
    async with serving(take=take, rights=Asked(may)) as broker:
        device = await Dialog.open(broker, version=version)
        assert await device.publish("mine", b"1") == 0
        assert await device.publish("other", b"2") == told
        allowed.add("other")
        assert await device.publish("other", b"3") == 0
        allowed.clear()
        assert await device.publish("mine", b"4") == told
        device.send(Publish("mine", b"5", 2, mid=3))
        assert (await device.expect(Pubrec)).reason == told
        assert await device.publish("$SYS/x", b"6") == (Reason.TOPIC_NAME_INVALID if version == V5 else 0)
        assert await device.subscribe("secret") == (Reason.NOT_AUTHORIZED if version == V5 else 0x80)
        assert await device.subscribe("a#") == (Reason.TOPIC_FILTER_INVALID if version == V5 else 0x80)
        assert broker.status().refused == 4
        await device.close()
    assert [m.payload for m in take.messages] == [b"1", b"3"]


async def test_retained_messages_greet_new_subscribers(tmp_path: Path) -> None:
    async with serving(tmp_path) as broker:
        device = await Dialog.open(broker, "d")
        await device.publish("a/1", b"old", retain=True)
        await device.publish("a/1", b"one", retain=True)
        await device.publish("a/2", b"two", retain=True)
        await device.publish("a/2", b"", retain=True)
        await device.close()
    async with serving(tmp_path) as broker:
        reader = await Dialog.open(broker, "r")
        await reader.subscribe("a/#", 1)
        got = await reader.expect(Publish)
        assert (got.topic, got.payload, got.retain, got.qos) == ("a/1", b"one", True, 1)
        await reader.subscribe("a/#", 1, handling=1)
        await reader.silent()
        await reader.subscribe("a/1", 0, handling=2)
        await reader.silent()
        await broker.publish("a/3", b"three", retain=True)
        assert (await reader.expect(Publish)).retain is False
        await reader.subscribe("$share/g/a/#")
        await reader.silent()
        await reader.close()
        assert broker.status().retained == 2


async def test_more_retained_topics_than_the_limit_are_delivered_only() -> None:
    async with serving(limits=Limits(retained=2)) as broker:
        for number in range(4):
            await broker.publish(f"a/{number}", b"x", retain=True)
        await broker.publish("a/0", b"y", retain=True)
        assert broker.status().retained == 2
        assert broker.status().dropped == 2


async def test_topic_aliases_stand_for_their_topics() -> None:
    take = Taker()
    async with serving(take=take) as broker:
        device = await Dialog.open(broker)
        assert device.connack.properties["topic_alias_maximum"] == 64
        device.send(
            Publish("a/b", b"1", properties={"topic_alias": 3}), Publish("", b"2", properties={"topic_alias": 3})
        )
        assert await device.publish("c", b"3", properties={"topic_alias": 3}) == 0
        assert await device.publish("", b"4", properties={"topic_alias": 3}) == 0
        await device.close()
    assert [(m.topic, m.payload) for m in take.messages] == [("a/b", b"1"), ("a/b", b"2"), ("c", b"3"), ("c", b"4")]


async def test_properties_travel_and_expired_messages_do_not() -> None:
    take = Taker()
    now = 1_000_000
    async with serving(take=take, clock=lambda: now) as broker:
        reader = await Dialog.open(broker, "r", properties={"session_expiry_interval": 60})
        reader.send(Subscribe(1, (Filter("a/#", 1),), {"subscription_identifier": 7}))
        await reader.expect(Suback)
        device = await Dialog.open(broker, "d")
        sent = {
            "response_topic": "r/1",
            "correlation_data": b"42",
            "user_property": [("k", "v")],
            "message_expiry_interval": 10,
        }
        await device.publish("a/b", b"x", properties=sent)
        assert (await reader.expect(Publish)).properties == {**sent, "subscription_identifier": [7]}
        reader.send(Disconnect())
        await until(lambda: broker.status().connections == 1, "the reader to be gone")
        await device.publish("a/b", b"short", properties=sent)
        await device.publish("a/b", b"long", properties={**sent, "message_expiry_interval": 30})
        now += 20_000_000
        again = await Dialog.open(broker, "r", clean=False)
        assert again.connack.present
        found = await again.expect(Publish)
        assert (found.payload, (found.properties or {})["message_expiry_interval"]) == (b"long", 10)
        for dialog in (reader, device, again):
            await dialog.close()
    assert (take.messages[0].response_topic, take.messages[0].correlation) == ("r/1", b"42")


async def test_shared_subscriptions_share_and_local_ones_skip_their_own() -> None:
    async with serving() as broker:
        members = [await Dialog.open(broker, f"m{number}") for number in range(3)]
        for member in members:
            assert await member.subscribe("$share/group/a/#", 0) == 0
        for number in range(30):
            await broker.publish(f"a/{number}", b"x")
        for member in members:
            for _ in range(10):
                await member.expect(Publish)
            await member.silent()
        await members[0].subscribe("b", 0, no_local=True)
        await members[1].subscribe("b", 0, as_published=True)
        await members[0].publish("b", b"y", retain=True)
        await members[0].silent()
        assert (await members[1].expect(Publish)).retain is True
        for member in members:
            await member.close()


async def test_overlapping_filters_give_one_message() -> None:
    async with serving() as broker:
        reader = await Dialog.open(broker)
        for topic, qos in (("a/#", 0), ("a/b", 2), ("+/b", 1)):
            await reader.subscribe(topic, qos)
        await broker.publish("a/b", b"x", 2)
        assert (await reader.expect(Publish)).qos == 2
        await reader.silent()
        await reader.close()


async def test_no_more_than_the_receive_maximum_is_in_flight() -> None:
    async with serving() as broker:
        reader = await Dialog.open(broker, properties={"receive_maximum": 2})
        await reader.subscribe("a", 1)
        for number in range(4):
            await broker.publish("a", b"%d" % number, 1)
        first, second = await reader.expect(Publish), await reader.expect(Publish)
        await reader.silent()
        reader.send(Puback(second.mid))
        third = await reader.expect(Publish)
        await reader.silent()
        reader.send(Puback(first.mid), Puback(third.mid), Puback(999))
        assert (await reader.expect(Publish)).payload == b"3"
        await reader.close()


async def test_a_client_that_sends_more_than_the_receive_maximum_is_closed() -> None:
    take = Taker()
    take.gate.clear()
    async with serving(take=take, limits=Limits(unacknowledged=10)) as broker:
        device = await Dialog.open(broker)
        assert device.connack.properties["receive_maximum"] == 10
        device.send(*(Publish("a", b"x", 1, mid=mid) for mid in range(1, 12)))
        assert (await device.expect(Disconnect)).reason == Reason.RECEIVE_MAXIMUM_EXCEEDED
        take.gate.set()
        await device.close()


async def test_a_take_that_breaks_ends_its_connections_unacknowledged() -> None:
    broken = True
    taken: list[bytes] = []

    async def take(messages: Any) -> None:
        if broken:
            raise RuntimeError("a bug")
        taken.extend(m.payload for m in messages)

    session = {"session_expiry_interval": 60}
    async with serving(take=take) as broker:
        device = await Dialog.open(broker, properties=session)
        device.send(Publish("a", b"1", 2, mid=1))
        assert (await device.expect(Disconnect)).reason == Reason.UNSPECIFIED
        broken = False
        again = await Dialog.open(broker, clean=False, properties=session)
        again.send(Publish("a", b"1", 2, dup=True, mid=1))
        await again.expect(Pubrec)
        await device.close()
        await again.close()
    assert taken == [b"1"]


async def test_a_taken_port_and_a_broken_file_are_named(tmp_path: Path) -> None:
    async with serving(tmp_path) as broker:
        second = Broker("127.0.0.1", broker.port, take=Taker(), authenticate=authenticate, clock=clock, folder=None)
        with pytest.raises(BrokerNotListening, match=str(broker.port)):
            await second.__aenter__()
        with pytest.raises(SessionsUnreadable, match="cannot be opened"):
            async with serving(tmp_path):
                pass
    (tmp_path / "broker.db").write_bytes(b"not a database, " * 1000)
    with pytest.raises(SessionsUnreadable, match="cannot be opened"):
        async with serving(tmp_path):
            pass
