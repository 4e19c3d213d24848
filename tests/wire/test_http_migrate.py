"""Migrations of a thing's definition over HTTP."""

from wire.http_server import served

MODEL = "https://models.example.org/turbine-2.0.0.tm.jsonld"
T1 = "/api/2/things/demo:T1"
BODY = {"thingDefinitionUrl": MODEL, "migrationPayload": {"attributes": {"b": "{{ thing-json:attributes/a }}"}}}
PATCH = {"definition": MODEL, "attributes": {"b": 1}}


async def test_a_thing_is_migrated(tmp_path):
    async with served(tmp_path) as server, server.client() as client:
        await client.put(T1, json={"attributes": {"a": 1}})
        tried = await client.post(T1 + "/migrateDefinition?dry-run=true", json=BODY)
        assert tried.status_code == 202
        assert tried.json() == {"thingId": "demo:T1", "patch": PATCH, "mergeStatus": "DRY_RUN"}
        done = await client.post(T1 + "/migrateDefinition/", json=BODY)
        assert (done.status_code, done.headers["etag"], done.headers["entity-revision"]) == (200, '"rev:2"', "2")
        assert done.json() == {"thingId": "demo:T1", "patch": PATCH, "mergeStatus": "APPLIED"}
        thing = (await client.get(T1)).json()
        assert (thing["definition"], thing["attributes"]) == (MODEL, {"a": 1, "b": 1})
        found = await client.get("/api/2/search/things?filter=and(eq(attributes/b,1),like(definition,%22*2.0.0*%22))")
        assert [item["thingId"] for item in found.json()["items"]] == ["demo:T1"]
        quiet = await client.post(T1 + "/migrateDefinition?response-required=false", json=BODY)
        assert (quiet.status_code, quiet.content) == (202, b"")
        both = {"requested-acks": "twin-persisted,search-persisted"}
        acks = (await client.post(T1 + "/migrateDefinition", json=BODY, headers=both)).json()
        assert acks["twin-persisted"]["payload"]["mergeStatus"] == "APPLIED"


async def test_what_is_no_migration_is_refused(tmp_path):
    async with served(tmp_path) as server, server.client() as client, server.client("eve") as eve:
        await client.put(T1, json={"attributes": {"a": 1}})
        url = T1 + "/migrateDefinition"
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            assert (await client.request(method, url)).status_code == 405
        refused = await eve.post(url, json=BODY)
        assert (refused.status_code, refused.json()["error"]) == (403, "things:thing.notmodifiable")
        assert (await client.post(url)).status_code == 415
        assert (await client.post(url, json={})).json()["error"] == "json.field.missing"
        assert (await client.post("/api/2/things/demo:none/migrateDefinition", json=BODY)).status_code == 404
        assert (await client.post(url + "/more", json=BODY)).status_code == 404
        live = await client.post(url + "?channel=live&timeout=1", json=BODY)
        assert 400 <= live.status_code < 500
        assert (await client.get(T1)).headers["etag"] == '"rev:1"'
