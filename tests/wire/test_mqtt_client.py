"""The client of an external broker, against a real Mosquitto: nothing is acknowledged that is not done, nothing is lost."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import aiomqtt
import pytest
from msgspec import structs

from servers import Mosquitto, free_port, mosquitto
from skerry_adapters.inbound import Inbound
from skerry_adapters.mqtt import Address, MqttClient
from skerry_adapters.sources import DEFAULT_SOURCES, Source

TICKS = count(1)


class Taken:
    """A Take that remembers, and that can be held back."""

    def __init__(self) -> None:
        self.started: list[Inbound] = []
        self.done: list[Inbound] = []
        self.open = asyncio.Event()
        self.open.set()

    async def take(self, messages: Sequence[Inbound]) -> None:
        self.started.extend(messages)
        await self.open.wait()
        self.done.extend(messages)

    @property
    def values(self) -> list[int]:
        return [json.loads(message.payload)["n"] for message in self.done]


async def until(ready: Callable[[], bool], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not ready():  # noqa: ASYNC110 - what changes is on the other side of a socket
            await asyncio.sleep(0.005)


def sources(qos: int = 1) -> Sequence[Source]:
    return [structs.replace(source, qos=qos) for source in DEFAULT_SOURCES]


def client(broker: Mosquitto, taken: Taken, qos: int = 1) -> MqttClient:
    return MqttClient(Address.read(broker.url), sources(qos), taken.take, lambda: next(TICKS), lambda: 0.0)


@asynccontextmanager
async def connected(broker: Mosquitto, taken: Taken, qos: int = 1) -> AsyncIterator[MqttClient]:
    async with client(broker, taken, qos) as made:
        await until(lambda: made.status.connected)
        yield made


@asynccontextmanager
async def killed(broker: Mosquitto, taken: Taken, qos: int = 1) -> AsyncIterator[MqttClient]:
    """A client that ends as `kill -9` would end it: nothing is finished, nothing is said to the broker."""
    made = client(broker, taken, qos)
    await made.__aenter__()
    await until(lambda: made.status.connected)
    try:
        yield made
    finally:
        await made.abandon()


async def publish(broker: Mosquitto, numbers: Sequence[int], qos: int = 1) -> None:
    async with aiomqtt.Client("127.0.0.1", broker.port) as device:
        for n in numbers:
            await device.publish("telemetry/x/t/f", json.dumps({"n": n}), qos=qos)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    with mosquitto(tmp_path) as server:
        yield server


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_messages_of_every_quality_arrive_in_order(broker: Mosquitto, qos: int) -> None:
    taken = Taken()
    async with connected(broker, taken, qos) as made:
        await publish(broker, range(50), qos)
        await until(lambda: len(taken.done) >= 50)
        assert made.status.protocol == 5
    assert taken.values == list(range(50))
    assert {message.qos for message in taken.done} == {qos}
    assert not any(message.redelivered for message in taken.done)


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_was_not_committed_is_delivered_again_after_a_kill(broker: Mosquitto, qos: int) -> None:
    taken = Taken()
    taken.open.clear()
    async with killed(broker, taken, qos):
        await publish(broker, range(20), qos)
        await until(lambda: bool(taken.started))
    assert not taken.done
    again = Taken()
    async with connected(broker, again, qos) as made:
        assert made.status.resumed
        await until(lambda: len(again.done) == 20)
        assert all(message.redelivered for message in again.done[: len(taken.started)])
        await publish(broker, [20], qos)
        await until(lambda: len(again.done) == 21)
    assert again.values == list(range(21))


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_was_committed_and_acknowledged_does_not_come_again(broker: Mosquitto, qos: int) -> None:
    taken = Taken()
    async with connected(broker, taken, qos):
        await publish(broker, range(10), qos)
        await until(lambda: len(taken.done) == 10)
    again = Taken()
    async with connected(broker, again, qos) as made:
        assert made.status.resumed
        await publish(broker, [99], qos)
        await until(lambda: bool(again.done))
    assert again.values == [99]


async def test_what_comes_while_we_are_away_waits_for_us(broker: Mosquitto) -> None:
    async with connected(broker, Taken()):
        pass
    await publish(broker, range(30))
    taken = Taken()
    async with connected(broker, taken):
        await until(lambda: len(taken.done) == 30)
    assert taken.values == list(range(30))


async def test_leaving_finishes_and_acknowledges_what_is_under_way(broker: Mosquitto) -> None:
    taken = Taken()
    taken.open.clear()
    async with connected(broker, taken) as made:
        await publish(broker, range(5))
        await until(lambda: len(taken.started) + made.waiting == 5)  # what is unread when we leave comes again
        asyncio.get_running_loop().call_later(0.1, taken.open.set)
    assert taken.done == taken.started
    again = Taken()
    async with connected(broker, again):
        await publish(broker, [7])
        await until(lambda: 7 in again.values)
    assert taken.values + again.values == [*range(5), 7]


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_broker_restart_in_the_middle_of_a_stream_loses_nothing(broker: Mosquitto, qos: int) -> None:
    taken = Taken()
    async with connected(broker, taken, qos) as made:
        await publish(broker, range(20), qos)
        await until(lambda: len(taken.done) >= 20)
        taken.open.clear()
        await publish(broker, range(20, 40), qos)
        await until(lambda: len(taken.started) > 20)
        await asyncio.to_thread(broker.stop)
        await until(lambda: not made.status.connected or made.status.error is not None)
        taken.open.set()
        await asyncio.to_thread(broker.start)
        await until(lambda: made.status.connects == 2)
        await publish(broker, range(40, 60), qos)
        await until(lambda: set(taken.values) == set(range(60)))
    first = list(dict.fromkeys(taken.values))
    assert first == list(range(60))


async def test_a_broker_that_is_away_at_the_start_is_waited_for(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(broker.stop)
    taken = Taken()
    async with client(broker, taken) as made:
        await until(lambda: "refused" in (made.status.error or "").lower())
        assert not made.status.connected
        await asyncio.to_thread(broker.start)
        await until(lambda: made.status.connected)
        assert made.status.error is None
        await until(lambda: made.status.connects == 1)
    assert [record.message for record in caplog.records if record.message == "broker away"] == ["broker away"]


async def test_a_large_message_and_the_one_after_it_arrive_whole(broker: Mosquitto) -> None:
    taken = Taken()
    async with connected(broker, taken), aiomqtt.Client("127.0.0.1", broker.port) as device:
        await device.publish("telemetry/x/t/f", json.dumps({"n": 1, "text": "x" * 3_000_000}), qos=1)
        await device.publish("telemetry/x/t/f", json.dumps({"n": 2}), qos=1)
        await until(lambda: len(taken.done) == 2)
    assert taken.values == [1, 2]
    assert len(taken.done[0].payload) > 3_000_000


async def test_a_flood_without_acknowledgements_is_held_at_the_socket_and_arrives(broker: Mosquitto) -> None:
    taken = Taken()
    taken.open.clear()
    async with connected(broker, taken, 0) as made:
        await publish(broker, range(12_000), 0)
        await until(lambda: made.waiting > 10_000)
        held = made.waiting
        taken.open.set()
        await until(lambda: len(taken.done) == 12_000)
    assert held < 12_000
    assert taken.values == list(range(12_000))


async def test_an_intake_that_fails_is_given_the_batch_again(
    broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    taken, failures = Taken(), [ZeroDivisionError()]

    async def take(messages: Sequence[Inbound]) -> None:
        if failures:
            raise failures.pop()
        await taken.take(messages)

    made = MqttClient(Address.read(broker.url), sources(), take, lambda: next(TICKS), lambda: 0.0)
    with caplog.at_level("CRITICAL"):
        async with made:
            await until(lambda: made.status.connected)
            await publish(broker, range(3))
            await until(lambda: sorted(set(taken.values)) == [0, 1, 2])
    assert made.status.connects == 2


async def test_mqtt_5_properties_of_a_message_are_read(broker: Mosquitto) -> None:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    wishes = Properties(PacketTypes.PUBLISH)
    wishes.ResponseTopic = "answers/1"
    wishes.CorrelationData = b"c1"
    wishes.UserProperty = ("a", "b")
    taken = Taken()
    async with connected(broker, taken):
        async with aiomqtt.Client("127.0.0.1", broker.port, protocol=aiomqtt.ProtocolVersion.V5) as device:
            await device.publish("telemetry/x/t/f", b'{"n": 1}', qos=1, properties=wishes)
        await until(lambda: bool(taken.done))
    message = taken.done[0]
    assert (message.response_topic, message.correlation, message.payload) == ("answers/1", b"c1", b'{"n": 1}')


async def test_a_wrong_password_is_told_and_tried_again(tmp_path: Path) -> None:
    with mosquitto(tmp_path, users={"skerry": "right"}) as server:
        taken = Taken()
        wrong = Address.read(f"mqtt://skerry:wrong@127.0.0.1:{server.port}")
        async with MqttClient(wrong, sources(), taken.take, lambda: next(TICKS), lambda: 0.0) as made:
            await until(lambda: "Not authorized" in (made.status.error or ""))
        right = structs.replace(wrong, password="right")
        async with MqttClient(right, sources(), taken.take, lambda: next(TICKS), lambda: 0.0) as made:
            await until(lambda: made.status.connected)


@pytest.mark.parametrize(
    ("url", "port", "tls"),
    [
        ("mqtt://b", 1883, False),
        ("mqtts://b", 8883, True),
        ("tcp://b:99", 99, False),
        ("ssl://b", 8883, True),
        ("b", 1883, False),
    ],
)
def test_an_address_is_read_in_the_ways_people_write_it(url: str, port: int, tls: bool) -> None:
    address = Address.read(url)

    assert (address.host, address.port, address.tls) == ("b", port, tls)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("NOT TESTED, server missing: openssl. To run this test install the package openssl.")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    wish = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([tool, *wish.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return key, certificate


@pytest.mark.parametrize("trusted", [True, False])
async def test_messages_come_over_tls_from_a_broker_that_is_trusted(tmp_path: Path, trusted: bool) -> None:
    key, certificate = make_certificate(tmp_path)
    port = free_port()
    tls = [f"listener {port} 127.0.0.1", f"certfile {certificate}", f"keyfile {key}"]
    with mosquitto(tmp_path, settings=tls) as server:
        address = structs.replace(
            Address.read(f"mqtts://127.0.0.1:{port}"), ca_file=str(certificate) if trusted else None
        )
        taken = Taken()
        async with MqttClient(address, sources(), taken.take, lambda: next(TICKS), lambda: 0.0) as made:
            if not trusted:
                await until(lambda: "self-signed certificate" in (made.status.error or ""))
                return
            await until(lambda: made.status.connected)
            await publish(server, range(300))
            await until(lambda: len(taken.done) == 300)
        assert taken.values == list(range(300))


async def serve_old_broker(port: int, heard: list[int], answer: Callable[[bytes], Awaitable[bytes]]) -> asyncio.Server:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(2)
        body = await reader.readexactly(head[1])
        heard.append(body[6])
        writer.write(await answer(body))
        await writer.drain()
        while body[6] == 4 and await reader.read(1000):
            pass
        writer.close()

    return await asyncio.start_server(talk, "127.0.0.1", port, family=socket.AF_INET)


@pytest.mark.parametrize("refusal", [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00", b""])
async def test_a_broker_that_only_speaks_3_1_1_is_spoken_to_in_3_1_1(refusal: bytes) -> None:
    port = free_port()
    heard: list[int] = []

    async def answer(connect: bytes) -> bytes:
        return b"\x20\x02\x00\x00" if connect[6] == 4 else refusal

    server = await serve_old_broker(port, heard, answer)
    taken = Taken()
    address = Address.read(f"mqtt://127.0.0.1:{port}")
    async with server:
        async with MqttClient(address, sources(), taken.take, lambda: next(TICKS), lambda: 0.0) as made:
            await until(lambda: made.status.connected)
            assert made.status.protocol == 4
        assert heard[0] == 5
        assert heard[-1] == 4


async def test_a_broker_that_talks_nonsense_is_left_and_met_again() -> None:
    port = free_port()
    heard: list[int] = []
    nonsense = [b"\x30\xff\xff\xff\xff\xff", b"\x32\x01a", b"\xf0\x00", b"\x90\x01\x00", b""]

    async def answer(_connect: bytes) -> bytes:
        return b"\x20\x02\x00\x00" + (nonsense.pop(0) if len(nonsense) > 1 else b"")

    server = await serve_old_broker(port, heard, answer)
    address = structs.replace(Address.read(f"mqtt://127.0.0.1:{port}"), protocol=4)
    async with server, MqttClient(address, sources(), Taken().take, lambda: next(TICKS), lambda: -0.4) as made:
        await until(lambda: len(heard) == 5 and made.status.connected)


async def test_messages_come_over_3_1_1_as_well(broker: Mosquitto) -> None:
    taken = Taken()
    address = structs.replace(Address.read(broker.url), protocol=4)
    async with MqttClient(address, sources(2), taken.take, lambda: next(TICKS), lambda: 0.0) as made:
        await until(lambda: made.status.connected)
        await publish(broker, range(10), 2)
        await until(lambda: len(taken.done) == 10)
        assert made.status.protocol == 4
    assert taken.values == list(range(10))


@pytest.mark.parametrize("url", ["http://host", "mqtt://", "ws://host:80"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no address of a broker"):
        Address.read(url)


def test_an_address_has_a_login_and_a_port() -> None:
    address = Address.read("mqtts://farm%40x:p%3Aw@broker.example")
    assert (address.host, address.port, address.tls, address.username, address.password) == (
        "broker.example",
        8883,
        True,
        "farm@x",
        "p:w",
    )
    assert Address.read("mqtt://h", username="u", password="p").username == "u"
