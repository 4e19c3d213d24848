"""What an attacker tries over MQTT, and must not get."""

from __future__ import annotations

import asyncio

import pytest

from broker_dialog import Dialog, serving, until
from skerry_adapters.broker import Login
from skerry_adapters.broker.packets import (
    V5,
    V311,
    Connack,
    Connect,
    Disconnect,
    Publish,
    Reason,
    Suback,
    Subscribe,
    weight,
)
from skerry_adapters.broker.packets import Filter as Wish
from skerry_adapters.broker.sessions import Limits

FAT = {"user_property": [("k" * 1_000, "v" * 1_000)] * 50}


async def test_a_login_tells_from_where_it_comes() -> None:
    asked: list[tuple[str, str, str]] = []

    async def authenticate(name: str, password: str, address: str) -> Login | None:
        asked.append((name, password, address))
        return Login(name, (f"nginx:{name}",))

    async with serving(authenticate=authenticate) as broker:
        client = await Dialog.open(broker)
        await client.close()
    assert asked == [("ada", "secret", "127.0.0.1")]


async def test_what_is_retained_is_counted_with_topic_and_properties() -> None:
    async with serving(limits=Limits(retained_bytes=250_000)) as broker:
        client = await Dialog.open(broker)
        for mid in range(1, 11):
            await client.publish(f"fat/{mid}", b"1", mid=mid, retain=True, properties=FAT)
        assert broker.status().retained == 2
        await client.publish("fat/1", b"", retain=True)
        assert broker.status().retained == 1
        await client.publish("fat/9", b"1", retain=True, properties=FAT)
        assert broker.status().retained == 2
        await client.close()


async def test_what_is_queued_is_counted_with_topic_and_properties() -> None:
    async with serving(limits=Limits(queued_bytes=250_000)) as broker:
        absent = await Dialog.open(broker, "absent", clean=False, properties={"session_expiry_interval": 60})
        await absent.subscribe("#")
        await absent.close()
        client = await Dialog.open(broker, "sender")
        for mid in range(1, 11):
            await client.publish(f"fat/{mid}", b"1", mid=mid, properties=FAT)
        assert (broker.status().queued, broker.status().dropped) == (2, 8)
        assert broker.waiting_bytes == 0
        await client.close()


@pytest.mark.parametrize("version", [V311, V5])
async def test_longer_topics_than_anybody_needs_are_refused(version: int) -> None:
    async with serving() as broker:
        client = await Dialog.open(broker, version=version)
        client.send(Subscribe(1, (Wish("a" * 5_000), Wish("b"))))
        reasons = (await client.receive()).reasons  # type: ignore[union-attr]
        assert reasons == ((Reason.TOPIC_FILTER_INVALID if version == V5 else Reason.UNSPECIFIED), 0)
        client.send(Publish("a" * 5_000, b"", 0))
        await until(lambda: broker.violations == 1, "the refusal")
        await client.close()


async def test_long_topics_are_not_remembered() -> None:
    async with serving() as broker:
        client = await Dialog.open(broker)
        for mid in range(1, 51):
            await client.publish(f"{mid}{'y' * 4_000}", b"1", mid=mid)
        assert not broker.topics
        assert not broker.router._found
        await client.publish("short", b"1")
        assert list(broker.topics) == [b"short"]
        assert not broker.router._found
        await client.subscribe("+/wanted")
        await client.publish("short", b"1", mid=2)
        assert list(broker.router._found) == ["short"]
        await client.close()
        await asyncio.sleep(0)


async def test_nobody_fills_the_memory_of_topics_without_a_login() -> None:
    async with serving() as broker:
        stranger = Dialog(*await asyncio.open_connection("127.0.0.1", broker.port), V5)
        topics = [Publish(f"t/{number}", b"1") for number in range(200)]
        stranger.send(Connect("c", username="ada", password=b"wrong"), *topics)
        assert (await stranger.expect(Connack)).reason == Reason.BAD_LOGIN
        assert not broker.topics
        await stranger.close()


def test_a_message_weighs_what_it_carries() -> None:
    assert weight("abc", b"1234", None) == 7
    assert weight("", b"", FAT) > 50 * 2_000
    assert weight("", b"", {"user_property": [("", "")] * 1_000}) >= 100_000


@pytest.mark.parametrize("count", [2_001, 150_000])
async def test_packets_of_very_many_parts_are_refused(count: int) -> None:
    async with serving() as broker:
        client = await Dialog.open(broker)
        client.send(Subscribe(1, (Wish("a"),) * count))
        assert (await client.expect(Disconnect)).reason == Reason.QUOTA_EXCEEDED
        await client.close()
        client = await Dialog.open(broker)
        client.send(Publish("a", b"", properties={"user_property": [("", "")] * count}))
        assert (await client.expect(Disconnect)).reason == Reason.QUOTA_EXCEEDED
        await client.close()


async def test_many_filters_are_greeted_one_after_the_other_while_others_are_served() -> None:
    async with serving() as broker:
        sender = await Dialog.open(broker, "sender")
        for mid in range(1, 201):
            await sender.publish(f"a/{mid}", b"1", mid=mid, retain=True)
        client = await Dialog.open(broker)
        client.send(Subscribe(1, tuple(Wish(topic) for topic in ("#", "+/#", "a/#", "a/+"))))
        await client.expect(Suback)
        topics = [(await client.expect(Publish)).topic for _ in range(800)]
        assert len(set(topics)) == 200
        await client.silent()
        client.send(Subscribe(2, tuple(Wish(topic) for topic in ("#", "+/#"))))
        await client.close()
        await until(lambda: len(broker.connections) == 1, "the end of the connection")
        assert await sender.publish("b", b"1") == 0
        await sender.close()
