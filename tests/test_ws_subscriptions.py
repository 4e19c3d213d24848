"""Searches and histories that a session takes at its own pace."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from registry_door import ANNE, BOB, OWNER, T1, entry, put, put_policy, serving
from skerry_registry.live.sender import Sender
from skerry_registry.registry import Registry
from skerry_registry.search.search import Search
from skerry_registry.stores.memory import MemoryStore
from skerry_registry.ws.searching import Searching
from skerry_registry.ws.streaming import Streaming
from skerry_registry.ws.subscriptions import OPEN_MAX

SEARCH = "_/_/things/twin/search/"
HISTORY = "demo/T1/things/twin/streaming/"
WRITER = Sender(subjects=ANNE)


class Session:
    """What a session would be: it hands envelopes in and keeps what is told."""

    def __init__(self, registry: Registry, search: Search, *, sender: Sender = WRITER, idle: float = 60) -> None:
        self.told: list[dict[str, Any]] = []
        self.changed = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.sender = sender
        self.searching = Searching(registry, search, self._take, self._room, idle=idle)
        self.streaming = Streaming(registry, self._take, self._room, idle=idle)

    def _take(self, envelope: dict[str, Any]) -> None:
        self.told.append(json.loads(msgspec.json.encode(envelope)))
        self.changed.set()

    async def _room(self) -> None:
        await self.open.wait()

    def say(self, topic: str, value: Any = None, path: str = "/", **more: Any) -> None:
        headers = {"correlation-id": more.pop("cid", "c1"), "x-y": "z"}
        envelope = {"topic": topic, "path": path, "headers": headers, **more}
        if value is not None:
            envelope["value"] = value
        (self.searching if "/search" in topic else self.streaming).handle(envelope, self.sender)

    async def until(self, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """What has been told since the last time, as soon as it is enough."""
        async with asyncio.timeout(20):
            while not enough(self.told):
                self.changed.clear()
                await self.changed.wait()
        told, self.told = self.told, []
        return told

    async def ended(self) -> list[dict[str, Any]]:
        return await self.until(lambda told: any(one["topic"].endswith(("complete", "failed")) for one in told))

    async def all(self, topic: str, value: Any = None, **more: Any) -> list[dict[str, Any]]:
        """Subscribe, take everything, and see it end."""
        self.say(topic + ("subscribe" if "search" in topic else "subscribeForPersistedEvents"), value, **more)
        (created,) = await self.until(bool)
        assert created["topic"] == topic + "created", created
        self.say(topic + "request", {**created["value"], "demand": 1_000}, cid="r1")
        return await self.ended()


@asynccontextmanager
async def session(count: int = 0, **more: Any) -> AsyncIterator[tuple[Registry, Session]]:
    """With so many things demo:s0 ..., their attribute `a` counting."""
    store = MemoryStore()
    async with serving(store, historical_headers=["correlation-id"]) as registry, Search(registry, store) as search:
        for number in range(count):
            await registry.handle(put({"attributes": {"a": number}}, thing=f"demo:s{number}"))
        one = Session(registry, search, **more)
        yield registry, one
        one.searching.close()
        one.streaming.close()
        await asyncio.sleep(0)


def error_of(envelope: dict[str, Any]) -> tuple[int, str]:
    error = envelope["value"].get("error", "")
    payload = error if isinstance(error, dict) else envelope["value"]
    return payload["status"], payload["error"]


async def test_pages_come_as_they_are_demanded():
    async with session(5) as (_, one):
        wish = {"filter": "ge(attributes/a,0)", "options": "size(2),sort(-attributes/a)"}
        one.say(SEARCH + "subscribe", wish, fields="thingId,attributes/a")
        assert one.told == [
            {
                "topic": SEARCH + "created",
                "headers": {"correlation-id": "c1", "x-y": "z", "content-type": "application/json"},
                "path": "/",
                "value": {"subscriptionId": "0"},
            }
        ]
        one.told.clear()
        one.say(SEARCH + "request", {"subscriptionId": "0", "demand": 1}, cid="r1")
        (page,) = await one.until(bool)
        assert (page["topic"], page["headers"]["correlation-id"]) == (SEARCH + "next", "r1")
        items = [{"thingId": f"demo:s{number}", "attributes": {"a": number}} for number in (4, 3)]
        assert page["value"] == {"subscriptionId": "0", "items": items}
        one.say(SEARCH + "request", {"subscriptionId": "0", "demand": 5}, cid="r2")
        told = await one.ended()
        assert [envelope["topic"].rpartition("/")[2] for envelope in told] == ["next", "next", "complete"]
        assert [len(envelope["value"].get("items", ())) for envelope in told] == [2, 1, 0]
        one.say(SEARCH + "request", {"subscriptionId": "0", "demand": 1})
        assert error_of(one.told[0]) == (400, "thing-search:subscription.protocol.error")


async def test_a_last_page_is_known_to_be_the_last():
    async with session(3) as (_, one):
        one.say(SEARCH + "subscribe")
        one.say(SEARCH + "request", {"subscriptionId": "0", "demand": 1})
        told = await one.ended()
        assert [envelope["topic"].rpartition("/")[2] for envelope in told] == ["created", "next", "complete"]
        assert [item["thingId"] for item in told[1]["value"]["items"]] == ["demo:s0", "demo:s1", "demo:s2"]


async def test_namespaces_bound_a_search():
    async with session(6) as (_, one):
        told = await one.all(SEARCH, {"options": "size(4)", "namespaces": ["demo"]})
        assert [len(envelope["value"]["items"]) for envelope in told[:-1]] == [4, 2]
        told = await one.all(SEARCH, {"namespaces": ["other"]})
        assert [envelope["topic"] for envelope in told] == [SEARCH + "complete"]


@pytest.mark.parametrize(
    ("wish", "more", "error"),
    [
        ({"options": "size(2),cursor(abc)"}, {}, (400, "thing-search:search.option.invalid")),
        ({"options": "limit(0,2)"}, {}, (400, "thing-search:search.option.invalid")),
        ({"options": "size(201)"}, {}, (400, "thing-search:search.option.invalid")),
        ({"filter": "bogus"}, {}, (400, "rql.expression.invalid")),
        ({}, {"fields": "(("}, (400, "json.fieldselector.invalid")),
    ],
)
async def test_a_search_that_cannot_be_done_fails_when_it_is_begun(wish, more, error):
    async with session(1) as (_, one):
        (failed,) = await one.all(SEARCH, wish, **more)
        assert failed["topic"] == SEARCH + "failed"
        assert failed["value"]["subscriptionId"] == "0"
        assert error_of(failed) == error


@pytest.mark.parametrize(
    ("topic", "value", "error"),
    [
        ("_/_/things/twin/search/subscribe", {"filter": 7}, (400, "json.invalid")),
        ("_/_/things/twin/search/subscribe", {"options": ["size(2)"]}, (400, "json.invalid")),
        ("_/_/things/twin/search/subscribe", {"namespaces": "demo"}, (400, "json.invalid")),
        ("_/_/things/twin/search/subscribe", {"namespaces": [1]}, (400, "json.invalid")),
        ("_/_/things/twin/search/subscribe", 7, (400, "json.invalid")),
        ("_/_/things/twin/search/request", None, (400, "json.field.missing")),
        ("_/_/things/twin/search/request", {"demand": 1}, (400, "json.field.missing")),
        ("_/_/things/twin/search/request", {"subscriptionId": 5, "demand": 1}, (400, "json.invalid")),
        ("_/_/things/twin/search/request", {"subscriptionId": "0", "demand": True}, (400, "json.invalid")),
        ("_/_/things/twin/search/request", {"subscriptionId": "9"}, (404, "thing-search:subscription.not.found")),
        ("_/_/things/twin/search/cancel", {"subscriptionId": "9"}, (404, "thing-search:subscription.not.found")),
        ("_/_/things/twin/search/bogus", {}, (400, "protocoladapter:unknown.topicpath")),
        ("_/_/things/twin/search", {}, (400, "protocoladapter:unknown.topicpath")),
        ("_/_/things/live/search/subscribe", {}, (400, "protocoladapter:unknown.topicpath")),
        ("_/_/policies/search/subscribe", {}, (400, "protocoladapter:unknown.topicpath")),
        (HISTORY + "subscribeForPersistedEvents", {"fromHistoricalRevision": "x"}, (400, "json.invalid")),
        (HISTORY + "subscribeForPersistedEvents", {"toHistoricalTimestamp": "x"}, (400, "json.invalid")),
        (HISTORY + "subscribeForPersistedEvents", {"fromHistoricalTimestamp": "now+"}, (400, "json.invalid")),
        (HISTORY + "request", {"subscriptionId": "9"}, (404, "streaming.subscription.not.found")),
        (HISTORY + "bogus", {}, (400, "protocoladapter:unknown.topicpath")),
        ("_/_/things/twin/streaming/request", {}, (400, "things:id.invalid")),
        ("demo/T1/things/live/streaming/request", {}, (400, "protocoladapter:unknown.topicpath")),
        ("demo/T1/connections/streaming/request", {}, (400, "protocoladapter:unknown.topicpath")),
    ],
)
async def test_what_is_no_command_is_told_so(topic, value, error):
    async with session() as (_, one):
        one.say(topic, value)
        (envelope,) = one.told
        assert error_of(envelope) == error
        assert envelope["headers"]["correlation-id"] == "c1"
        known = topic.startswith(HISTORY) and "bogus" not in topic
        if not envelope["topic"].endswith("failed"):
            assert envelope["topic"] == (
                "demo/T1/things/twin/errors" if known else "unknown/unknown/things/twin/errors"
            )


@pytest.mark.parametrize("demand", [0, -1, None])
async def test_a_demand_below_one_ends_the_subscription(demand):
    async with session(1) as (_, one):
        one.say(SEARCH + "subscribe")
        one.say(SEARCH + "request", {"subscriptionId": "0", "demand": demand})
        assert error_of(one.told[-1]) == (400, "thing-search:subscription.protocol.error")
        one.say(SEARCH + "request", {"subscriptionId": "0", "demand": 1})
        assert error_of(one.told[-1]) == (400, "thing-search:subscription.protocol.error")


async def test_what_is_cancelled_gives_nothing_more():
    async with session(3) as (_, one):
        one.say(SEARCH + "subscribe", {"options": "size(1)"})
        one.open.clear()
        one.say(SEARCH + "request", {"subscriptionId": "0", "demand": 3})
        one.say(SEARCH + "cancel", {"subscriptionId": "0"})
        one.open.set()
        one.say(SEARCH + "cancel", {"subscriptionId": "0"})
        assert [envelope["topic"] for envelope in one.told] == [SEARCH + "created"]
        one.told.clear()
        told = await one.all(SEARCH)
        assert {envelope["value"]["subscriptionId"] for envelope in told} == {"1"}


async def test_a_subscription_of_which_nothing_is_asked_ends():
    async with session(1, idle=0.01) as (_, one):
        one.say(SEARCH + "subscribe")
        (_, failed) = await one.ended()
        assert error_of(failed) == (408, "thing-search:subscription.timeout")
        one.say("demo/s0/things/twin/streaming/subscribeForPersistedEvents")
        (_, failed) = await one.ended()
        assert error_of(failed) == (408, "streaming.subscription.timeout")


async def test_nothing_is_read_for_a_session_that_cannot_take_it():
    async with session(2) as (registry, one):
        one.open.clear()
        one.say(SEARCH + "subscribe")
        one.say(SEARCH + "request", {"subscriptionId": "0", "demand": 1})
        await registry.handle(put({}, thing="demo:s9"))
        one.open.set()
        told = await one.ended()
        assert len(told[1]["value"]["items"]) == 3


async def test_a_session_has_so_many_subscriptions_and_no_more():
    async with session() as (_, one):
        for _ in range(OPEN_MAX):
            one.say(SEARCH + "subscribe")
        one.say(SEARCH + "subscribe")
        assert error_of(one.told[-1]) == (429, "too.many.requests")
        one.say(SEARCH + "cancel", {"subscriptionId": "0"})
        one.say(SEARCH + "subscribe")
        assert one.told[-1]["topic"] == SEARCH + "created"


async def history(one: Session, topic: str = HISTORY, **value: Any) -> list[int]:
    """The revisions that a subscription tells of."""
    told = await one.all(topic, value)
    assert told[-1]["topic"] == topic + "complete", told[-1]
    return [envelope["value"]["item"]["revision"] for envelope in told[:-1]]


async def test_the_history_of_a_thing_is_told_event_by_event():
    async with session() as (registry, one):
        await registry.handle(put({"attributes": {"a": 0}}, headers={"correlation-id": "w"}))
        for value in (1, 2):
            await registry.handle(put(value, "attributes", "a"))
        one.say(HISTORY + "subscribeForPersistedEvents", {"fromHistoricalRevision": 1})
        one.say(HISTORY + "request", {"subscriptionId": "0", "demand": 1}, cid="r1")
        created, event = await one.until(lambda told: len(told) == 2)
        assert created["topic"] == HISTORY + "created"
        assert event["topic"] == HISTORY + "next"
        assert event["headers"]["correlation-id"] == "r1"
        item = event["value"]["item"]
        assert item["topic"] == "demo/T1/things/twin/events/created"
        assert item["headers"]["historical-headers"] == {"correlation-id": "w"}
        assert item["headers"]["correlation-id"] == "c1"
        assert (item["revision"], item["value"]["attributes"], item["path"]) == (1, {"a": 0}, "/")
        one.say(HISTORY + "request", {"subscriptionId": "0", "demand": 2}, cid="r2")
        told = await one.ended()
        assert [envelope["value"].get("item", {}).get("value") for envelope in told] == [1, 2, None]
        assert told[-1] == {
            "topic": HISTORY + "complete",
            "headers": {"correlation-id": "r2", "x-y": "z", "content-type": "application/json"},
            "path": "/",
            "value": {"subscriptionId": "0"},
        }


async def test_a_history_has_bounds_and_a_filter():
    async with session() as (registry, one):
        await registry.handle(put({"attributes": {"a": 0}}))
        for value in (1, 2, 3):
            await registry.handle(put(value, "attributes", "a"))
        assert await history(one) == [1, 2, 3, 4]
        assert await history(one, fromHistoricalRevision=2, toHistoricalRevision=3) == [2, 3]
        assert await history(one, fromHistoricalRevision=-2, toHistoricalRevision=0) == [3, 4]
        assert await history(one, toHistoricalRevision=-1) == [1, 2, 3]
        assert await history(one, filter="gt(attributes/a,1)") == [3, 4]
        assert await history(one, fromHistoricalTimestamp="1970-01-01T00:00:00Z") == [1, 2, 3, 4]
        assert await history(one, toHistoricalTimestamp="1970-01-01T00:00:00Z") == []
        assert await history(one, fromHistoricalTimestamp="now-1h", toHistoricalTimestamp="now") == [1, 2, 3, 4]
        assert await history(one, "demo/T1/policies/streaming/") == [1]
        (failed,) = await one.all(HISTORY, {"filter": "bogus"})
        assert error_of(failed) == (400, "rql.expression.invalid")


async def test_a_history_is_told_by_the_rights_of_the_moment():
    async with session(sender=Sender(subjects=BOB)) as (registry, one):
        reader = entry("nginx:bob", thing={"/attributes/a": "R"})
        await registry.handle(put_policy("demo:p", {"o": OWNER, "r": reader}))
        await registry.handle(put({"policyId": "demo:p", "attributes": {"a": 0, "b": 0}}))
        for value in (1, 2):
            await registry.handle(put(value, "attributes", "a"))
        one.say(HISTORY + "subscribeForPersistedEvents")
        one.say(HISTORY + "request", {"subscriptionId": "0", "demand": 2})
        told = await one.until(lambda told: len(told) == 3)
        assert told[1]["value"]["item"]["value"] == {"thingId": T1, "attributes": {"a": 0}}
        await registry.handle(put_policy("demo:p", {"o": OWNER}))
        one.say(HISTORY + "request", {"subscriptionId": "0", "demand": 2})
        (failed,) = await one.ended()
        assert error_of(failed) == (404, "things:thing.notfound")
