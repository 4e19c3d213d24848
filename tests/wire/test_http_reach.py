"""Namespaces and creations that the operator's rules keep from a caller, over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

from msgspec import structs

from skerry_registry.identities.namespaces import NamespaceRule
from skerry_registry.settings import Settings
from wire.http_server import served

RULES = (
    NamespaceRule(conditions=("{{ header:x-zone | fn:filter('eq','all') }}",)),
    NamespaceRule(allowed_namespaces=("org.open", "org.open.*")),
)
ALL = {"x-zone": "all"}
GRANTS = {key: {"grant": ["READ", "WRITE"], "revoke": []} for key in ("thing:/", "policy:/")}
OWN = {"entries": {"o": {"subjects": {"nginx:ditto": {"type": ""}}, "resources": GRANTS}}}


async def test_a_closed_namespace_is_closed_on_every_path_and_left_out_of_every_answer(tmp_path: Path):
    settings = structs.replace(Settings(), namespace_access=RULES)
    async with served(tmp_path, settings=settings) as server, server.client() as client:
        for thing in ("org.open:a", "org.open.part:b", "org.closed:c"):
            made = await client.put(f"/api/2/things/{thing}", json={"attributes": {"n": 1}}, headers=ALL)
            assert made.status_code == 201
        for method, path in (
            ("GET", "things/org.closed:c"),
            ("GET", "things/org.closed%3Ac/attributes/n"),
            ("PUT", "things/org.closed:new"),
            ("PATCH", "things/org.closed:c"),
            ("DELETE", "things/org.closed:c"),
            ("GET", "policies/org.closed:c"),
            ("PUT", "policies/org.closed:c/entries/DEFAULT"),
            ("POST", "policies/org.closed:c/explain"),
            ("GET", "things/org.closed:c/access"),
            ("GET", "timeseries/things/org.closed:c?paths=/attributes/n"),
            ("POST", "things?namespace=org.closed"),
        ):
            body = {"json": {}} if method in {"PUT", "POST"} else {}
            if method == "PATCH":
                body = {"content": b"{}", "headers": {"content-type": "application/merge-patch+json"}}  # type: ignore[dict-item]
            answer = await client.request(method, f"/api/2/{path}", **body)  # type: ignore[arg-type]
            assert (answer.status_code, answer.json()["error"]) == (403, "gateway:namespace.notaccessible"), path
        assert (await client.get("/api/2/things/org.open:a")).status_code == 200
        assert (await client.get("/api/2/things/org.closed:c", headers=ALL)).status_code == 200
        named = await client.get("/api/2/things", params={"ids": "org.open:a,org.closed:c"})
        assert [thing["thingId"] for thing in named.json()] == ["org.open:a"]
        seen = sorted(thing["thingId"] for thing in (await client.get("/api/2/things")).json())
        assert seen == ["org.open.part:b", "org.open:a"]
        found = (await client.get("/api/2/search/things", params={"filter": "eq(attributes/n,1)"})).json()["items"]
        assert sorted(thing["thingId"] for thing in found) == seen
        assert (await client.get("/api/2/search/things/count")).json() == 2
        assert (await client.get("/api/2/search/things/count", headers=ALL)).json() == 3
        assert (await client.get("/api/2/search/things/count", params={"namespaces": "org.closed"})).json() == 0


async def test_no_policy_is_made_in_or_copied_from_a_closed_namespace_beside_a_thing(tmp_path: Path):
    settings = structs.replace(Settings(), namespace_access=RULES)
    async with served(tmp_path, settings=settings) as server, server.client() as client:
        assert (await client.put("/api/2/policies/org.closed:p", json=OWN, headers=ALL)).status_code == 201
        for value in (
            {"policyId": "org.closed:new", "_policy": OWN},
            {"_policy": {**OWN, "policyId": "org.closed:new"}},
            {"_copyPolicyFrom": "org.closed:p"},
            {"policyId": "org.closed:new", "_copyPolicyFrom": "org.open:p"},
        ):
            answer = await client.put("/api/2/things/org.open:t", json=value)
            assert (answer.status_code, answer.json()["error"]) == (403, "gateway:namespace.notaccessible"), value
            row = json.dumps({"topic": "org.open/t/things/twin/commands/create", "path": "/", "value": value})
            bulk = await client.post("/api/2/bulk", content=row, headers={"content-type": "application/x-ndjson"})
            assert bulk.json()["value"]["error"] == "gateway:namespace.notaccessible"
        assert (await client.put("/api/2/things/org.open:t", json={"policyId": "org.closed:p"})).status_code == 201


async def test_an_envelope_in_a_bulk_upload_stays_within_reach_too(tmp_path: Path):
    settings = structs.replace(Settings(), namespace_access=RULES)
    rows = [
        {"topic": f"{namespace}/x/things/twin/commands/modify", "path": "/", "value": {"thingId": f"{namespace}:x"}}
        for namespace in ("org.open", "org.closed")
    ]
    async with served(tmp_path, settings=settings) as server, server.client() as client:
        answer = await client.post(
            "/api/2/bulk",
            content="\n".join(map(json.dumps, rows)),
            headers={"content-type": "application/x-ndjson"},
        )
        assert [json.loads(line)["status"] for line in answer.text.splitlines()] == [201, 403]
