"""Changes of things as server-sent events."""

from __future__ import annotations

from wire.events import reading
from wire.http_server import served

THING = "/api/2/things/demo:T01"
WHOLE = {"attributes": {"a": 1, "b": {"c": 2}}, "features": {"f": {"properties": {"x": 1, "y": 2}}}}


async def test_a_change_is_told_as_a_part_of_its_thing(tmp_path):
    async with served(tmp_path) as server, server.client() as client, reading(client, "/api/2/things") as events:
        assert events.status == 200
        assert events.response.headers["content-type"] == "text/event-stream"
        await client.put(THING, json=WHOLE)
        assert await events.value() == {"thingId": "demo:T01", "policyId": "demo:T01", **WHOLE}
        await client.put(f"{THING}/attributes/a", json=5)
        assert await events.value() == {"thingId": "demo:T01", "attributes": {"a": 5}}
        await client.delete(f"{THING}/attributes/a")
        assert await events.value() == {"thingId": "demo:T01"}
