"""Desired state is told when it opens, changes and closes, and as far as the listener may read."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec import UNSET

from broker_dialog import until as until_what
from skerry import fields
from skerry.signals import Command
from skerry_adapters.downlink import DownlinkBroken, Outbound
from skerry_registry.live import event_filter
from skerry_registry.live.desired import Desired, DesiredWanted
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore

ADMIN = ("nginx:admin",)
READER = ("nginx:reader",)
START = 1_700_000_000_000_000


async def until(ready: Callable[[], bool]) -> None:
    await until_what(ready, "what was to be told", 20)


class Shelf:
    """A broker's retained messages in memory; `away` refuses."""

    def __init__(self, **there: bytes) -> None:
        self.retained = dict(there)
        self.away = False
        self.back = asyncio.Event()

    def hears(self, topic: str) -> bool:
        return bool(topic)

    def begins(self, name: str) -> bool:
        return bool(name)

    def send(self, message: Outbound) -> None:
        raise AssertionError(message)

    async def keep(self, messages: Mapping[str, bytes]) -> None:
        if self.away:
            raise DownlinkBroken
        for topic, payload in messages.items():
            if payload:
                self.retained[topic] = payload
            else:
                self.retained.pop(topic, None)

    async def kept(self) -> Iterable[tuple[str, bytes]]:
        return list(self.retained.items())

    async def returned(self) -> None:
        await self.back.wait()
        self.back.clear()

    def values(self) -> dict[str, Any]:
        return {topic: msgspec.json.decode(payload).get("value") for topic, payload in self.retained.items()}


@asynccontextmanager
async def twins(store: MemoryStore | None = None) -> AsyncIterator[Registry]:
    times = itertools.count(START, 1_000)
    ids = (f"id-{number}" for number in itertools.count(1))
    async with Registry(store or MemoryStore(), lambda: next(times), lambda: next(ids)) as registry:
        yield registry


@asynccontextmanager
async def following(desired: Desired, shelf: Shelf | None = None) -> AsyncIterator[None]:
    task = asyncio.create_task(desired.run(shelf))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def put(registry: Registry, thing_id: str, *path: str, value: Any, verb: Any = "modify") -> None:
    await registry.handle(Command(verb=verb, id=thing_id, subjects=ADMIN, path=path, value=value))


def values(told: list[dict[str, Any]]) -> list[Any]:
    return [envelope["value"] for envelope in told]


async def test_a_filter_and_extra_fields_count_for_desired_state() -> None:
    async with twins() as registry:
        desired = Desired(registry)
        told: list[dict[str, Any]] = []
        wanted = DesiredWanted(
            subjects=ADMIN,
            filter=event_filter.parse('and(eq(attributes/kind,"big"),gt(features/f/properties/power,3))', 0),
            extra=fields.parse("attributes/kind"),
        )
        await put(registry, "x:a", value={"attributes": {"kind": "big"}, "features": {"f": {}}})
        await put(registry, "x:b", value={"attributes": {"kind": "small"}, "features": {"f": {}}})
        async with following(desired):
            desired.subscribe(wanted, told.append)
            for power in (2, 5, 1):
                for thing in ("x:b", "x:a"):
                    await put(registry, thing, "features", "f", "desiredProperties", value={"power": power})
                await until(lambda power=power: len(told) == (0 if power == 2 else 1 if power == 5 else 2))
        assert [envelope["topic"] for envelope in told] == ["x/a/things/live/commands/merge"] * 2
        assert values(told) == [{"f": {"properties": {"power": 5}}}, {}]
        assert [envelope.get("extra") for envelope in told] == [{"attributes": {"kind": "big"}}, None]


async def test_a_subscriber_hears_what_is_open_and_every_change_until_it_is_closed() -> None:
    async with twins() as registry:
        desired = Desired(registry)
        await put(registry, "x:a", value={"features": {"f": {"desiredProperties": {"power": 5}}}})
        told: list[dict[str, Any]] = []
        async with following(desired):
            leave = desired.subscribe(DesiredWanted(subjects=ADMIN), told.append)
            await until(lambda: len(told) == 1)
            assert told[0] == {
                "topic": "x/a/things/live/commands/merge",
                "headers": {
                    "content-type": "application/merge-patch+json",
                    "correlation-id": "desired-1",
                    "response-required": False,
                },
                "path": "/features",
                "value": {"f": {"properties": {"power": 5}}},
                "revision": 1,
            }
            await put(registry, "x:a", "features", "f", "desiredProperties", "wind", value=2)
            await until(lambda: len(told) == 2)
            await put(registry, "x:a", "features", "f", "properties", value={"other": 1})
            await put(registry, "x:a", "features", "f", "properties", value={"power": 5})
            await until(lambda: len(told) == 3)
            await put(registry, "x:a", "features", "f", "properties", value={"wind": 2}, verb="merge")
            await until(lambda: len(told) == 4)
            assert values(told) == [
                {"f": {"properties": {"power": 5}}},
                {"f": {"properties": {"power": 5, "wind": 2}}},
                {"f": {"properties": {"wind": 2}}},
                {},
            ]
            leave()
            leave()
            await put(registry, "x:a", "features", "f", "desiredProperties", "wind", value=3)
        assert len(told) == 4


async def test_only_what_may_be_read_is_told() -> None:
    policy = {
        "entries": {
            "admin": {
                "subjects": {ADMIN[0]: {"type": "user"}},
                "resources": {
                    resource: {"grant": ["READ", "WRITE"], "revoke": []} for resource in ("thing:/", "policy:/")
                },
            },
            "reader": {
                "subjects": {READER[0]: {"type": "user"}},
                "resources": {"thing:/features/f": {"grant": ["READ"], "revoke": []}},
            },
        }
    }
    async with twins() as registry:
        desired = Desired(registry)
        await registry.handle(Command(verb="modify", kind="policy", id="x:p", subjects=ADMIN, value=policy))
        everything: list[dict[str, Any]] = []
        some: list[dict[str, Any]] = []
        async with following(desired):
            desired.subscribe(DesiredWanted(subjects=ADMIN), everything.append)
            desired.subscribe(DesiredWanted(subjects=READER), some.append)
            desired.subscribe(DesiredWanted(subjects=ADMIN, ids=frozenset({"x:other"})), pytest_fails)
            desired.subscribe(DesiredWanted(subjects=ADMIN, namespaces=frozenset({"y"})), pytest_fails)
            features = {"g": {"desiredProperties": {"a": 1}}}
            await put(registry, "x:a", value={"policyId": "x:p", "features": features})
            await until(lambda: len(everything) == 1)
            await put(registry, "x:a", "features", "f", value={"desiredProperties": {"a": 2}})
            await until(lambda: len(everything) == 2 and len(some) == 1)
            await put(registry, "x:a", "features", "g", "desiredProperties", "a", value=3)
            await until(lambda: len(everything) == 3)
            path = ("entries", "reader", "resources", "thing:/features/f")
            for verb, given in (("delete", UNSET), ("modify", {"grant": ["READ"], "revoke": []})):
                count = len(some)
                command = Command(verb=verb, kind="policy", id="x:p", subjects=ADMIN, path=path, value=given)
                await registry.handle(command)
                await until(lambda count=count: len(some) > count)
            await registry.handle(Command(verb="delete", id="x:a", subjects=ADMIN))
            await until(lambda: len(everything) == 4 and len(some) == 4)
            two = {"f": {"properties": {"a": 2}}}
            assert values(some) == [two, {}, two, {}]


def pytest_fails(envelope: dict[str, Any]) -> None:
    raise AssertionError(envelope)


async def test_what_is_retained_follows_also_after_a_restart_and_while_the_broker_is_away() -> None:
    store = MemoryStore()
    async with twins(store) as registry:
        for name in ("a", "b"):
            await put(registry, f"x:{name}", value={"features": {"f": {"desiredProperties": {"power": 5}}}})
        await put(registry, "x:none", value={"features": {"f": {"properties": {"power": 5}}}})
        shelf = Shelf(**{"device/x/gone/desired": b"{}", "device/x/a/desired": b'{"value":{"old":1}}'})
        async with following(Desired(registry), shelf):
            five = {"f": {"properties": {"power": 5}}}
            there = {"device/x/a/desired": five, "device/x/b/desired": five}
            await until(lambda: shelf.values() == there)
            shelf.away = True
            await put(registry, "x:a", "features", "f", "properties", value={"power": 5})
            await put(registry, "x:b", "features", "f", "desiredProperties", "power", value=6)
            shelf.away = False
            await until(lambda: list(shelf.values()) == ["device/x/b/desired"])
            await until(lambda: shelf.values() == {"device/x/b/desired": {"f": {"properties": {"power": 6}}}})
            shelf.retained.clear()
            shelf.back.set()
            await until(lambda: len(shelf.retained) == 1)


async def test_what_a_device_reports_opens_a_difference_whoever_brought_what_is_desired_and_when() -> None:
    reported = {"properties": {"power": 5}, "desiredProperties": {"power": 5}}
    async with twins() as registry:
        desired = Desired(registry)
        await put(registry, "x:early", value={"features": {"f": reported}})
        await put(registry, "x:plain", value={"features": {"f": {"properties": {"power": 5}}}})
        told: list[dict[str, Any]] = []
        async with following(desired):
            await put(registry, "x:beacon", value={"features": {"f": {"desiredProperties": {"power": 5}}}})
            leave = desired.subscribe(DesiredWanted(subjects=ADMIN), told.append)
            await until(lambda: len(told) == 1)  # from now on it is known what there was
            await put(registry, "x:late", value={"features": {"f": reported}})
            await put(registry, "x:grown", value={})
            await put(registry, "x:grown", "features", "f", value=reported)
            await put(registry, "x:patched", value={"features": {"g": {}}})
            await put(registry, "x:patched", value={"features": {"f": reported}}, verb="merge")
            for name in ("early", "plain", "late", "grown", "patched"):
                await put(registry, f"x:{name}", "features", "f", value={"properties": {"power": 6}}, verb="merge")
            await until(lambda: len(told) == 5)
            leave()
        things = ["x/beacon", "x/early", "x/grown", "x/late", "x/patched"]
        assert sorted(envelope["topic"].partition("/things/")[0] for envelope in told) == things


async def test_only_one_look_is_taken_where_nothing_is_desired() -> None:
    async with twins() as registry:
        desired = Desired(registry)
        touched: Callable[[], Any] = lambda: desired._touched  # noqa: E731 - the cost is what is tested
        await put(registry, "x:a", value={"features": {"f": {"properties": {"a": 1}}, "g": {}}})
        await put(registry, "x:a", "features", "f", "properties", "a", value=2)
        assert not touched()
        await put(registry, "x:a", "features", "g", "desiredProperties", value={"a": 2})
        assert list(touched()) == ["x:a"]


async def test_what_is_deleted_is_forgotten() -> None:
    async with twins() as registry:
        desired = Desired(registry)
        async with following(desired):
            await put(registry, "x:a", value={"features": {"f": {"desiredProperties": {"a": 2}}}})
            await until(lambda: "x:a" in desired._open)
            assert desired._desiring == {"x:a"}
            await registry.handle(Command(verb="delete", id="x:a", subjects=ADMIN))
            assert not desired._desiring
            await until(lambda: not desired._open)


async def test_a_greeting_of_many_things_leaves_others_their_turns() -> None:
    async with twins() as registry:
        desired = Desired(registry)
        for number in range(1_000):
            await put(registry, f"x:{number}", value={"features": {"f": {"desiredProperties": {"a": 1}}}})
        told: list[dict[str, Any]] = []
        turns = 0
        async with following(desired):
            await until(lambda: len(desired._open) == 1_000)
            desired.subscribe(DesiredWanted(subjects=ADMIN), told.append)
            async with asyncio.timeout(20):
                while len(told) < 1_000:
                    turns += bool(told)
                    await asyncio.sleep(0)
        assert turns >= 9
