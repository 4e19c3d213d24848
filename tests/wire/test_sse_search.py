"""Search results as server-sent events (ditto.md 1.7)."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from skerry_registry.settings import Settings
from wire.events import reading
from wire.http_server import served

SEARCH = "/api/2/search/things"


async def _farm(client, count):
    """So many things; `n` goes down as the id goes up, and half of them have none."""

    async def put(number):
        attributes = {"n": count - number} if number % 2 else {}
        await client.put(f"/api/2/things/demo:T{number:03}", json={"attributes": attributes})

    await asyncio.gather(*map(put, range(count)))


async def _ids(client, query, **more):
    async with reading(client, f"{SEARCH}{query}", **more) as events:
        assert events.status == 200
        found = await events.all()
        assert [seen.value["thingId"] for seen in found] == [seen.id for seen in found]
        return [seen.id for seen in found]


async def test_every_result_is_an_event_and_then_the_stream_ends(tmp_path):
    async with served(tmp_path) as server, server.client() as client, server.client("eve") as eve:
        await _farm(client, 130)
        everything = [f"demo:T{number:03}" for number in range(130)]
        assert await _ids(client, "") == everything
        assert await _ids(client, "?fields=thingId&option=size(3)") == everything
        assert await _ids(client, "?filter=gt(attributes/n,100)") == everything[1:30:2]
        assert await _ids(client, "?namespaces=elsewhere") == []
        assert await _ids(eve, "") == []
        async with reading(client, f"{SEARCH}?fields=attributes/n&filter=eq(attributes/n,129)") as events:
            assert [(seen.value, seen.id) for seen in await events.all()] == [({"attributes": {"n": 129}}, "demo:T001")]


@pytest.mark.parametrize(
    "option",
    [
        "",
        "sort(-thingId)",
        "sort(%2Battributes/n)",
        "sort(-attributes/n)",
        "sort(-attributes/n,-thingId)",
        "sort(-_created)",
    ],
)
async def test_a_search_goes_on_behind_the_last_event(tmp_path, option):
    async with served(tmp_path) as server, server.client() as client:
        await _farm(client, 120)
        whole = await _ids(client, f"?option={option}")
        assert len(whole) == 120
        for place in (0, 49, 60, 118, 119):
            rest = await _ids(client, f"?option={option}&fields=thingId", headers={"last-event-id": whole[place]})
            assert rest == whole[place + 1 :]


@pytest.mark.parametrize(
    ("query", "last", "status", "code"),
    [
        ("?filter=nonsense", None, 400, "rql.expression.invalid"),
        ("?option=cursor(abc)", None, 400, "thing-search:search.option.invalid"),
        ("?option=limit(0,5)", None, 400, "thing-search:search.option.invalid"),
        ("?option=nonsense", None, 400, "rql.expression.invalid"),
        ("?fields=a(", None, 400, "json.fieldselector.invalid"),
        ("", "nonsense", 400, "things:id.invalid"),
        ("?option=sort(-attributes/n)", "demo:unknown", 404, "things:thing.notfound"),
    ],
)
async def test_what_cannot_be_searched_is_refused_before_the_stream_begins(tmp_path, query, last, status, code):
    headers = {} if last is None else {"last-event-id": last}
    async with (
        served(tmp_path) as server,
        server.client() as client,
        reading(client, SEARCH + query, headers=headers) as events,
    ):
        error = json.loads(await events.response.aread())
        assert (events.status, error["error"]) == (status, code)


async def test_a_count_is_no_stream(tmp_path):
    async with served(tmp_path) as server, server.client() as client:
        await _farm(client, 3)
        answer = await client.get(f"{SEARCH}/count", headers={"accept": "text/event-stream"})
        assert (answer.status_code, answer.json()) == (200, 3)


async def test_results_come_no_faster_than_the_setting_says(tmp_path):
    settings = Settings(sse_search_results_per_second=20)
    async with served(tmp_path, settings=settings) as server, server.client() as client:
        await _farm(client, 60)
        began = time.monotonic()
        assert len(await _ids(client, "?fields=thingId")) == 60
        assert time.monotonic() - began >= 1.9
