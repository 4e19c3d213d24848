"""From a device's PUBLISH through Mosquitto to the journal: once each, whatever is killed in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from msgspec import structs

from servers import Mosquitto, mosquitto
from skerry.signals import Command, Micros
from skerry_adapters.dead_letters import DeadLetters
from skerry_adapters.inbound import Inbound
from skerry_adapters.inlet import Inlet
from skerry_adapters.mqtt import Address, MqttClient
from skerry_adapters.sources import DEFAULT_SOURCES
from skerry_registry.registry import Registry
from skerry_registry.stores.sqlite import SqliteStore

SUBJECTS = ("nginx:ditto",)


def clock() -> Micros:
    return 1_795_000_000_000_000


class Farm:
    """A registry on disk with its intake, behind a broker."""

    def __init__(self, registry: Registry, letters: DeadLetters, client: MqttClient, inlet: Inlet) -> None:
        self.registry = registry
        self.letters = letters
        self.client = client
        self.inlet = inlet
        self.taken: list[Inbound] = []
        self.acknowledges = True

    async def take(self, messages: Sequence[Inbound]) -> None:
        await self.inlet.take(messages)
        self.taken.extend(messages)
        if not self.acknowledges:
            await asyncio.Event().wait()

    async def thing(self, name: str) -> tuple[int, Any]:
        answer = await self.registry.handle(Command(verb="retrieve", id=f"x:{name}", subjects=SUBJECTS))
        return answer.revision or 0, answer.value

    async def create(self, name: str) -> None:
        await self.registry.handle(Command(verb="modify", id=f"x:{name}", subjects=SUBJECTS, value={}))


async def until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not ready():  # noqa: ASYNC110 - what changes is on the other side of a socket
            await asyncio.sleep(0.005)


@asynccontextmanager
async def farm(folder: Path, broker: Mosquitto, *, killed: bool = False, qos: int = 1) -> AsyncIterator[Farm]:
    sources = [structs.replace(source, qos=qos) for source in DEFAULT_SOURCES]
    letters = DeadLetters(folder)
    ids = count(1)
    async with Registry(SqliteStore(folder), clock, lambda: str(next(ids))) as registry:
        inlet = Inlet(sources, registry.handle_all, letters, clock)

        async def take(messages: Sequence[Inbound]) -> None:
            await made.take(messages)

        client = MqttClient(Address.read(broker.url), sources, take, clock, lambda: 0.0)
        made = Farm(registry, letters, client, inlet)
        made.acknowledges = not killed
        watching = asyncio.create_task(letters.watch(inlet.replay))
        try:
            async with client:
                await until(lambda: client.status.connected)
                yield made
                if killed:
                    await client.abandon()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            letters.close()


@asynccontextmanager
async def device(broker: Mosquitto) -> AsyncIterator[Callable[..., Any]]:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:

        async def publish(topic: str, payload: object, qos: int = 1) -> None:
            body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            await client.publish(topic, body, qos=qos)

        yield publish


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    with mosquitto(tmp_path) as server:
        yield server


async def test_telemetry_and_envelopes_change_things(tmp_path: Path, broker: Mosquitto) -> None:
    async with farm(tmp_path, broker) as made, device(broker) as publish:
        await publish(
            "ditto/any",
            {"topic": "x/T1/things/twin/commands/create", "path": "/", "value": {"attributes": {"a": 1}}},
        )
        await publish("telemetry/x/T1/scada", {"ts": 1_700_000_000_000, "power": 2150.3, "gone": 1})
        await publish("telemetry/x/T1/scada", {"power": 2151, "gone": None})
        await until(lambda: len(made.taken) == 3)
        _, thing = await made.thing("T1")
        assert thing["attributes"] == {"a": 1}
        assert thing["features"] == {"scada": {"properties": {"power": 2151}}}
        assert not made.letters.count()


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("stamp", [{"ts": 1_700_000_000_000}, {}])
async def test_what_was_committed_but_not_acknowledged_before_a_kill_changes_nothing_when_it_comes_again(
    tmp_path: Path, broker: Mosquitto, qos: int, stamp: dict[str, int]
) -> None:
    async with farm(tmp_path, broker, killed=True, qos=qos) as made, device(broker) as publish:
        await made.create("T1")
        await publish("telemetry/x/T1/f", {**stamp, "power": 1}, qos)
        await until(lambda: len(made.taken) == 1)
        before, last = await made.thing("T1"), made.registry.journal.last
    async with farm(tmp_path, broker, qos=qos) as made, device(broker) as publish:
        await until(lambda: len(made.taken) == 1)
        assert made.taken[0].redelivered
        assert await made.thing("T1") == before
        assert made.registry.journal.last == last
        await publish("telemetry/x/T1/f", {"power": 1}, qos)
        await until(lambda: len(made.taken) == 2)
        assert made.registry.journal.last == last + 1, "the device's own repetition without a time is a change"


async def test_a_device_that_sends_a_timed_message_twice_makes_one_revision(tmp_path: Path, broker: Mosquitto) -> None:
    async with farm(tmp_path, broker) as made, device(broker) as publish:
        await made.create("T1")
        for stamp in (5000, 6000, 5000, 6000):
            await publish("telemetry/x/T1/f", {"ts": stamp, "power": stamp})
        await until(lambda: len(made.taken) == 4)
        assert made.registry.journal.last == 2 + 2, "the thing, its policy and two values"
        assert (await made.thing("T1"))[1]["features"]["f"]["properties"] == {"power": 6000}


async def test_malformed_and_homeless_messages_become_dead_letters_and_can_be_replayed(
    tmp_path: Path, broker: Mosquitto
) -> None:
    async with farm(tmp_path, broker) as made, device(broker) as publish:
        await publish("telemetry/x/T1/f", {"ts": 5000, "power": 1})
        await publish("telemetry/x/T1/f", b'{"power": NaN}')
        await publish("ditto/x", b"\xff\xfe")
        await publish("ditto/x", {"topic": "x/T1/things/twin/commands/delete", "path": "/"})
        await publish("ditto/x", {"topic": "nonsense", "path": "/"})
        await until(lambda: made.inlet.counters.dead == 5)
        codes = sorted((letter.topic, letter.code) for letter in made.letters.list())
        assert ("ditto/x", "things:thing.notfound") in codes
        assert [code for topic, code in codes if topic != "ditto/x"] == [
            "mapping.json.malformed",
            "things:thing.notfound",
        ]
        await made.create("T1")
        beside = DeadLetters(tmp_path)
        [homeless] = [
            letter
            for letter in beside.list(contains="things:thing.notfound")
            if letter.qos and letter.source == "telemetry"
        ]
        beside.request_replay([homeless.id])
        await until(lambda: beside.count() == 4)
        beside.close()
        assert (await made.thing("T1"))[1]["features"]["f"]["properties"] == {"power": 1}
