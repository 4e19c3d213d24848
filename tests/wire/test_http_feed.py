"""The feed over HTTP: pages of changes for consumers who remember how far they are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import structs

from skerry_registry.identities.namespaces import NamespaceRule
from skerry_registry.settings import Settings
from wire.http_server import served

FEED = "/api/2/feed"
T1 = "/api/2/things/demo:T1"
RIGHTS = {key: {"grant": ["READ", "WRITE"], "revoke": []} for key in ("thing:/", "policy:/")}


def policy(*paths: str) -> dict[str, Any]:
    """Ditto may everything, eve read what is named."""
    reading = {f"thing:{path}": {"grant": ["READ"], "revoke": []} for path in paths}
    entries = {"owner": {"subjects": {"nginx:ditto": {"type": ""}}, "resources": RIGHTS}}
    return {"entries": {**entries, "eve": {"subjects": {"nginx:eve": {"type": ""}}, "resources": reading}}}


async def page(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get(FEED, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert set(found) == {"items", "next"}
    return found


async def test_changes_come_in_order_page_by_page_as_envelopes(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as ditto:
        assert await page(ditto) == {"items": [], "next": 0}
        await ditto.put(T1, json={"attributes": {"a": 1}})
        await ditto.put(f"{T1}/attributes/a", json=2, headers={"correlation-id": "c-1"})
        await ditto.patch(
            T1, json={"attributes": {"a": None}}, headers={"content-type": "application/merge-patch+json"}
        )
        await ditto.delete(T1)
        found = await page(ditto, after=0, limit=3)
        assert [item["number"] for item in found["items"]] == [2, 3, 4]
        assert found["next"] == 4
        modified = found["items"][1]["event"]
        assert modified.pop("timestamp").endswith("Z")
        assert modified == {
            "topic": "demo/T1/things/twin/events/modified",
            "headers": {
                "correlation-id": "c-1",
                "content-type": "application/json",
                "ditto-originator": "nginx:ditto",
                "entity-revision": 2,
                "requested-acks": [],
                "response-required": False,
                "skerry-number": 3,
            },
            "path": "/attributes/a",
            "value": 2,
            "revision": 2,
        }
        rest = await page(ditto, after=found["next"])
        assert [item["event"]["topic"].rsplit("/", 1)[1] for item in rest["items"]] == ["deleted"]
        assert "value" not in rest["items"][0]["event"]
        assert await page(ditto, after=rest["next"]) == {"items": [], "next": 5}
        assert await page(ditto, after="latest") == {"items": [], "next": 5}


async def test_each_reader_is_told_what_he_may_read_and_numbers_go_on(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as ditto, server.client("eve") as eve:
        await ditto.put("/api/2/policies/demo:p", json=policy("/attributes/open"))
        await ditto.put(T1, json={"policyId": "demo:p", "attributes": {"open": 1, "closed": 2}})
        await ditto.put(f"{T1}/attributes/closed", json=3)
        await ditto.delete(f"{T1}/attributes/closed")
        await ditto.put(f"{T1}/attributes/open", json=4)
        await ditto.put(f"{T1}/attributes/closed", json=5)
        found = await page(eve, extraFields="attributes,policyId")
        assert [(item["number"], item["event"].get("value")) for item in found["items"]] == [
            (2, {"thingId": "demo:T1", "attributes": {"open": 1}}),
            (5, 4),
        ]
        assert found["next"] == 6
        assert found["items"][1]["event"]["extra"] == {"attributes": {"open": 4}}
        async with server.client("devops") as nobody:
            assert await page(nobody) == {"items": [], "next": 6}


async def test_filters_namespaces_and_ids_narrow_it(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as ditto:
        for thing in ("demo:T1", "demo:T2", "far.away:T3"):
            await ditto.put(f"/api/2/things/{thing}", json={"attributes": {"power": len(thing)}})
        await ditto.put(f"{T1}/attributes/power", json=50)

        async def numbers(**query: Any) -> list[int]:
            return [item["number"] for item in (await page(ditto, **query))["items"]]

        assert await numbers() == [2, 4, 6, 7]
        assert await numbers(namespaces="far.away,other") == [6]
        assert await numbers(ids="demo:T2, far.away:T3") == [4, 6]
        assert await numbers(filter="gt(attributes/power,7)") == [6, 7]
        assert await numbers(filter='eq(topic:action,"created")') == [2, 4, 6]
        assert await numbers(filter='eq(thingId,"demo:T1")', after=2) == [7]


async def test_a_reader_at_the_end_waits_for_the_first_change_that_is_his(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as ditto:
        await ditto.put(T1, json={})
        assert await page(ditto, after=2, timeout="1ms") == {"items": [], "next": 2}
        waiting = asyncio.create_task(page(ditto, after=2, timeout="20s", ids="demo:T2"))
        async with asyncio.timeout(20):
            while not server.streams.changes._audiences:
                await ditto.get(T1)
        await ditto.put(f"{T1}/attributes", json={})
        await ditto.put("/api/2/things/demo:T2", json={})
        found = await waiting
        assert [item["number"] for item in found["items"]] == [5]
        assert found["next"] == 5
        assert not server.streams.changes._audiences


async def test_a_server_that_stops_does_not_wait_for_readers(tmp_path: Path) -> None:
    async with asyncio.timeout(30):
        async with served(tmp_path) as server, server.client() as ditto:
            waiting = asyncio.create_task(ditto.get(FEED, params={"timeout": "60s"}))
            while not server.streams.changes._audiences:
                await ditto.get("/alive")
        with pytest.raises(httpx.HTTPError):
            (await waiting).raise_for_status()


async def test_a_reader_who_hangs_up_is_forgotten(tmp_path: Path) -> None:
    async with asyncio.timeout(30), served(tmp_path) as server, server.client() as ditto:
        async with server.client() as other:
            waiting = asyncio.create_task(other.get(FEED, params={"timeout": "60s"}))
            while not server.streams.changes._audiences:
                await ditto.get("/alive")
            waiting.cancel()
        while server.streams.changes._audiences:
            await ditto.get("/alive")


async def test_large_changes_make_short_pages(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as ditto:
        await ditto.put(T1, json={})
        for _ in range(49):
            answer = await ditto.put(f"{T1}/attributes", json={"a": "x" * 95_000})
            assert answer.status_code in {201, 204}
        numbers: list[int] = []
        pages = [await page(ditto, limit=1_000)]
        while pages[-1]["items"]:
            numbers += [item["number"] for item in pages[-1]["items"]]
            pages.append(await page(ditto, after=pages[-1]["next"], limit=1_000))
        assert numbers == list(range(2, 52))
        assert len(pages) == 3


async def test_the_operators_rules_bound_it(tmp_path: Path) -> None:
    rules = (NamespaceRule(blocked_namespaces=("closed",)),)
    settings = structs.replace(Settings(), namespace_access=rules)
    async with served(tmp_path, settings=settings) as server, server.client() as ditto:
        await ditto.put(T1, json={})
        assert (await ditto.put("/api/2/things/closed:T1", json={})).status_code == 403
        assert [item["number"] for item in (await page(ditto))["items"]] == [2]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"after": "x"}, 400, "feed.query.invalid"),
        ({"after": "-1"}, 400, "feed.query.invalid"),
        ({"limit": "0"}, 400, "feed.query.invalid"),
        ({"limit": "1001"}, 400, "feed.query.invalid"),
        ({"extrafields": "thingId"}, 400, "feed.query.invalid"),
        ({"after": "999"}, 410, "journal.events.unknown"),
        ({"filter": "eq(topic:nix,1)"}, 400, "rql.expression.invalid"),
        ({"extraFields": "a("}, 400, "json.fieldselector.invalid"),
        ({"ids": "nonsense"}, 400, "things:id.invalid"),
        ({"timeout": "soon"}, 400, "timeout.invalid"),
        ({"timeout": "61s"}, 400, "gateway:timeout.invalid"),
    ],
)
async def test_what_cannot_be_asked_is_refused(tmp_path: Path, query: dict[str, str], status: int, code: str) -> None:
    async with served(tmp_path) as server, server.client() as ditto:
        answer = await ditto.get(FEED, params=query)
        assert (answer.status_code, answer.json()["error"]) == (status, code)


async def test_what_is_forgotten_is_told_plainly(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as ditto, server.client(None) as nobody:
        assert (await nobody.get(FEED)).status_code == 401
        assert (await ditto.post(FEED, json={})).status_code == 405
        assert (await ditto.get(f"{FEED}/x")).status_code == 404
        for number in range(5):
            await ditto.put(f"/api/2/things/demo:T{number}", json={})
        store = server.registry._store
        await store.save([await store.load("thing", "demo:T0")], 6)
        await store.trim(5)
        server.registry.journal._recent.clear()
        answer = await ditto.get(FEED, params={"after": 1})
        assert answer.status_code == 410
        assert answer.json()["error"] == "journal.events.forgotten"
        assert answer.json()["oldest"] == 5
        assert [item["number"] for item in (await page(ditto, after=0))["items"]] == [6, 8, 10]
