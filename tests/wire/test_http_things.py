from pathlib import Path

from wire.http_server import served


async def test_a_thing_put_is_the_thing_got(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        made = await client.put("/api/2/things/demo:T01", json={"attributes": {"kind": "turbine"}})
        assert made.status_code == 201, made.text
        assert made.headers["location"] == f"{server.url}/api/2/things/demo:T01"
        got = await client.get("/api/2/things/demo:T01")
        assert got.status_code == 200, got.text
        assert got.json() == {"thingId": "demo:T01", "policyId": "demo:T01", "attributes": {"kind": "turbine"}}
        assert got.headers["etag"] == '"rev:1"'
        assert (await client.put("/api/2/things/demo:T01/attributes/kind", json="mast")).status_code == 204
