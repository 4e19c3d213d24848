"""What a caller with few rights must not learn, change or break."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from wire.http_server import served

ALL = {"thing:/": {"grant": ["READ", "WRITE"], "revoke": []}, "policy:/": {"grant": ["READ", "WRITE"], "revoke": []}}
X = "/api/2/things/a:b/features/f/properties/x"
MERGE = {"content-type": "application/merge-patch+json"}


def policy(**eve: list[str]) -> dict[str, Any]:
    """ditto may everything, eve what is said: resource to permissions."""
    resources = {resource: {"grant": grant, "revoke": []} for resource, grant in eve.items()}
    return {
        "entries": {
            "owner": {"subjects": {"nginx:ditto": {"type": ""}}, "resources": ALL},
            "other": {"subjects": {"nginx:eve": {"type": ""}}, "resources": resources},
        }
    }


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """ditto and eve, who may write the property x but read only the property y."""
    async with served(tmp_path) as server, server.client() as ditto, server.client("eve") as eve:
        rights = {
            "thing:/features/f/properties/x": ["WRITE"],
            "thing:/features/f/properties/y": ["READ"],
            "thing:/_metadata": ["READ"],
        }
        metadata = [
            {"key": "/features/f/properties/x/note", "value": "SECRET"},
            {"key": "/features/f/properties/y/note", "value": "known"},
            {"key": "/attributes/gone/note", "value": "SECRET"},
        ]
        thing = {"_policy": policy(**rights), "features": {"f": {"properties": {"x": 42, "y": 1}}}}
        made = await ditto.put("/api/2/things/a:b", json=thing, headers={"put-metadata": json.dumps(metadata)})
        assert made.status_code == 201
        yield ditto, eve


async def test_metadata_of_hidden_values_is_hidden(clients):
    _, eve = clients
    asked = "/api/2/things/a:b?fields=thingId,_metadata"
    shown = {"features": {"f": {"properties": {"y": {"note": "known"}}}}}
    assert (await eve.get(asked)).json()["_metadata"] == shown
    assert (await eve.get("/api/2/things?fields=_metadata")).json()[0]["_metadata"] == shown
    wanted = {"get-metadata": "features/f/properties/*/note,/features/f/properties/x/note,*/note,/attributes/gone/note"}
    answer = await eve.get("/api/2/things/a:b", headers=wanted)
    assert "SECRET" not in answer.headers["ditto-metadata"]


async def test_a_writer_learns_nothing_of_what_he_cannot_read(clients):
    ditto, eve = clients
    etag = (await ditto.get(X)).headers["etag"]
    for tag in (etag, '"hash:0"'):
        for header in ("if-match", "if-none-match"):
            answer = await eve.put(X, json=43, headers={header: tag})
            assert (answer.status_code, answer.headers.get("etag")) == (412, None)
    assert (await eve.put(X, json=42, headers={"if-equal": "skip"})).status_code == 204
    exists = await eve.put(X, json=42, headers={"if-none-match": "*"})
    assert (exists.status_code, exists.headers.get("etag")) == (412, None)
    assert (await eve.put(X, json=42, headers={"if-match": "*"})).status_code == 204
    assert "etag" not in (await eve.patch(X, json={"a": 1}, headers=MERGE)).headers
    assert (await ditto.put(X, json=42, headers={"if-match": (await ditto.get(X)).headers["etag"]})).status_code == 204


async def test_a_writer_of_the_whole_is_not_told_whether_his_guess_at_a_part_is_right(clients):
    ditto, eve = clients
    secret = {"thing:/": ["READ", "WRITE"], "thing:/attributes/secret": []}
    rights = policy(**secret)
    rights["entries"]["other"]["resources"]["thing:/attributes/secret"]["revoke"] = ["READ"]
    thing = {"_policy": rights, "attributes": {"secret": "hunter2"}}
    assert (await ditto.put("/api/2/things/a:c", json=thing)).status_code == 201
    guess = {"attributes": {"secret": "hunter2"}}
    for wish in ("skip", "skip-minimizing-merge"):
        asked = {**MERGE, "if-equal": wish}
        assert (await eve.patch("/api/2/things/a:c", json=guess, headers=asked)).status_code == 204
        assert (await ditto.patch("/api/2/things/a:c", json=guess, headers=asked)).status_code == 412


async def test_metadata_is_written_only_where_the_value_may_be(clients):
    ditto, eve = clients
    for key in ("/features/f/properties/y/note", "/attributes/secret/note", "/policyId/note"):
        told = {"put-metadata": json.dumps([{"key": key, "value": "EVIL"}])}
        assert (await eve.put(X, json=1, headers=told)).status_code == 403
    removed = await eve.put(X, json=1, headers={"delete-metadata": "/features/f/properties/y/note"})
    assert removed.status_code == 403
    own = {"put-metadata": json.dumps([{"key": "*/unit", "value": "kW"}])}
    assert (await eve.put(X, json=1, headers=own)).status_code == 204
    found = (await ditto.get("/api/2/things/a:b?fields=_metadata")).json()["_metadata"]
    assert found["features"]["f"]["properties"]["x"]["unit"] == "kW"
    assert "EVIL" not in json.dumps(found)


async def test_a_policy_cannot_be_made_that_breaks_the_lists_of_others(clients):
    ditto, eve = clients
    deep = policy(**{"thing:" + "/a" * 5_000: ["READ"]})
    assert (await ditto.put("/api/2/things/a:deep", json={"_policy": deep})).status_code == 400
    tree = "[" * 300 + "]" * 300
    text = json.dumps({"_policy": policy()}).replace('"nginx:eve": {"type": ""}', f'"nginx:eve": {{"x": {tree}}}')
    answer = await ditto.put("/api/2/things/a:deep", content=text, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert (await eve.get("/api/2/things")).status_code == 200


async def test_selectors_and_metadata_keys_cannot_keep_the_server_busy(clients):
    ditto, _ = clients
    overlapping = "*"
    for _ in range(10):
        overlapping = f"a({overlapping}),*({overlapping})"
    answer = await ditto.get("/api/2/things/a:b", params={"fields": overlapping})
    assert (answer.status_code, answer.json()["error"]) == (400, "json.fieldselector.invalid")
    wide = {"attributes": {f"k{number}": number for number in range(3_000)}}
    many = json.dumps([{"key": "*/a", "value": 1}] * 40)
    answer = await ditto.put("/api/2/things/a:wide", json=wide, headers={"put-metadata": many})
    assert (answer.status_code, answer.json()["error"]) == (400, "things:metadata.toowide")
    few = json.dumps([{"key": "*/a", "value": 1}] * 2)
    assert (await ditto.put("/api/2/things/a:wide", json=wide, headers={"put-metadata": few})).status_code == 201
    asked = {"get-metadata": ",".join(f"*/{number}" for number in range(100))}
    assert (await ditto.get("/api/2/things/a:wide", headers=asked)).status_code == 400


async def test_a_policy_of_which_nothing_is_visible_cannot_be_copied(clients):
    ditto, eve = clients
    await ditto.put("/api/2/things/a:none", json={"_policy": policy(**{"policy:/entries/nowhere": ["READ"]})})
    answer = await eve.put("/api/2/things/a:copy", json={"_copyPolicyFrom": "a:none"})
    assert (answer.status_code, answer.json()["error"]) == (404, "policies:policy.notfound")
