"""The history of one thing as server-sent events (ditto.md 5.2)."""

from __future__ import annotations

import json

import pytest

from wire.events import reading
from wire.http_server import served

THING = "/api/2/things/demo:T01"


async def _lived(client):
    """A thing with eight revisions; the times of its changes."""
    await client.put(THING, json={"attributes": {"n": 1}})
    for number in range(2, 8):
        await client.put(f"{THING}/attributes/n", json=number)
    await client.put(f"{THING}/attributes/other", json=True)
    times = []
    for revision in range(1, 9):
        shown = await client.get(f"{THING}?fields=_modified&at-historical-revision={revision}")
        times.append(shown.json()["_modified"])
    return times


@pytest.mark.parametrize(
    ("query", "revisions"),
    [
        ("from-historical-revision=1", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("from-historical-revision=0", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("from-historical-revision=3&to-historical-revision=5", [3, 4, 5]),
        ("from-historical-revision=-2", [7, 8]),
        ("from-historical-revision=-3&to-historical-revision=-1", [6, 7]),
        ("from-historical-revision=6&to-historical-revision=0", [6, 7, 8]),
        ("from-historical-revision=5&to-historical-revision=2", []),
        ("from-historical-revision=9", []),
        ("from-historical-timestamp=now-1h", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("from-historical-timestamp={times[1]}", [3, 4, 5, 6, 7, 8]),
        ("from-historical-timestamp={times[1]}&to-historical-timestamp={times[4]}", [3, 4]),
        ("from-historical-timestamp={times[1]}&to-historical-revision=4", [3, 4]),
        ("from-historical-revision=1&filter=ge(attributes/n,6)", [6, 7]),
    ],
)
async def test_a_history_has_the_changes_that_are_asked_for_and_then_ends(tmp_path, query, revisions):
    async with served(tmp_path) as server, server.client() as client:
        times = await _lived(client)
        async with reading(client, f"{THING}?fields=_revision,_modified&{query.format(times=times)}") as events:
            assert events.status == 200
            told = [seen.value for seen in await events.all()]
        assert told == [{"_revision": revision, "_modified": times[revision - 1]} for revision in revisions]


async def test_a_history_below_a_thing_has_values_and_all_have_context(tmp_path):
    async with served(tmp_path) as server, server.client() as client:
        await _lived(client)
        async with reading(client, f"{THING}/attributes/n?from-historical-revision=1") as events:
            assert [seen.value for seen in await events.all()] == [1, 2, 3, 4, 5, 6, 7]
        path = "/api/2/things?ids=demo:T01&from-historical-revision=2&to-historical-revision=2&fields=thingId,_context"
        async with reading(client, path) as events:
            (seen,) = await events.all()
        assert seen.value["_context"]["topic"] == "demo/T01/things/twin/events/modified"
        assert seen.value["_context"]["value"] == 2


async def test_a_history_shows_what_may_be_read_now(tmp_path):
    async with served(tmp_path) as server, server.client() as client, server.client("eve") as eve:
        await _lived(client)
        async with reading(eve, f"{THING}?from-historical-revision=1") as events:
            assert events.status == 404
        guest = {
            "subjects": {"nginx:eve": {"type": "user"}},
            "resources": {"thing:/attributes/other": {"grant": ["READ"], "revoke": []}},
        }
        await client.put("/api/2/policies/demo:T01/entries/guest", json=guest)
        async with reading(eve, f"{THING}?from-historical-revision=1") as events:
            (seen,) = await events.all()
        assert seen.value == {"thingId": "demo:T01", "attributes": {"other": True}}


async def test_a_history_needs_one_thing(tmp_path):
    async with served(tmp_path) as server, server.client() as client:
        for path in (
            "/api/2/things?from-historical-revision=1",
            "/api/2/things?ids=a:b,c:d&from-historical-revision=1",
        ):
            async with reading(client, path) as events:
                assert json.loads(await events.response.aread())["error"] == "gateway:path.notfound"
