"""Conditions, placeholders and earlier states over HTTP, as a client of Ditto sends them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from wire.http_server import served

THING = "/api/2/things/demo:T1"
POLICY = "/api/2/policies/demo:P"
MERGE = {"content-type": "application/merge-patch+json"}
ALL = {"thing:/": {"grant": ["READ", "WRITE"], "revoke": []}, "policy:/": {"grant": ["READ", "WRITE"], "revoke": []}}


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with served(tmp_path) as server, server.client() as client:
        yield client


def says(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


async def test_a_condition_is_a_header_or_a_query_parameter(client):
    await client.put(THING, json={"attributes": {"a": 1}})
    held = {"condition": "eq(attributes/a,1)"}
    assert (await client.put(f"{THING}/attributes/a", json=2, headers=held)).status_code == 204
    assert says(await client.put(f"{THING}/attributes/a", json=3, headers=held)) == (412, "things:condition.failed")
    assert says(await client.delete(THING, params=held)) == (412, "things:condition.failed")
    assert (await client.get(f"{THING}/attributes/a", params={"condition": "gt(attributes/a,1)"})).json() == 2
    both = await client.get(THING, params=held, headers={"condition": "exists(thingId)"})
    assert says(both) == (400, "gateway:duplicate.header.field")
    wrong = await client.get(THING, params={"condition": "eq(attributes/a"})
    assert says(wrong) == (400, "things:condition.invalid")
    assert wrong.json()["position"] == 16
    assert (await client.patch(THING, json={"attributes": {"a": 9}}, headers={**MERGE, **held})).status_code == 412
    recent = {"condition": "gt(_modified,time:now-1h)"}
    assert (await client.put(f"{THING}/attributes/b", json=1, headers=recent)).status_code == 201


async def test_a_merge_patch_has_conditions_part_by_part(client):
    await client.put(THING, json={"attributes": {"a": 1}, "features": {"f": {"properties": {"x": 20.0}}}})
    parts = {"features/f/properties/x": "gt(features/f/properties/x,25)", "attributes/a": "eq(attributes/a,1)"}
    headers = {**MERGE, "merge-thing-patch-conditions": json.dumps(parts)}
    patch = {"attributes": {"a": 2}, "features": {"f": {"properties": {"x": 30}}}}
    assert (await client.patch(THING, json=patch, headers=headers)).status_code == 204
    thing = (await client.get(THING)).json()
    assert (thing["attributes"], thing["features"]["f"]["properties"]) == ({"a": 2}, {"x": 20.0})
    headers["merge-thing-patch-conditions"] = "attributes/a"
    assert says(await client.patch(THING, json=patch, headers=headers)) == (400, "header.invalid")


async def test_if_equal_skips_or_shrinks_what_changes_nothing(client):
    await client.put(THING, json={"attributes": {"a": 1, "b": {"c": 1, "d": 1}}})
    same = await client.put(f"{THING}/attributes/a", json=1, headers={"if-equal": "skip"})
    assert says(same) == (412, "things:precondition.failed")
    assert (await client.put(f"{THING}/attributes/a", json=1, headers={"if-equal": "update"})).status_code == 204
    small = {**MERGE, "if-equal": "skip-minimizing-merge"}
    patch = {"attributes": {"a": 1, "b": {"c": 2, "d": 1}}}
    assert (await client.patch(THING, json=patch, headers=small)).status_code == 204
    assert (await client.patch(THING, json=patch, headers=small)).status_code == 412
    assert (await client.get(f"{THING}/attributes")).json() == {"a": 1, "b": {"c": 2, "d": 1}}


async def test_a_subject_is_named_by_a_placeholder(client):
    entry = {"subjects": {"{{ request:subjectId }}": {"type": "me"}}, "resources": ALL}
    assert (await client.put(POLICY, json={"entries": {"me": entry}})).status_code == 201
    assert (await client.get(f"{POLICY}/entries/me/subjects")).json() == {"nginx:ditto": {"type": "me"}}
    legacy = f"{POLICY}/entries/me/subjects/$%7Brequest.subjectId%7D"
    assert (await client.put(legacy, json={"type": "again"})).status_code == 204
    assert (await client.get(f"{POLICY}/entries/me/subjects/nginx:ditto")).json() == {"type": "again"}
    unknown = {"subjects": {"{{ request:nobody }}": {}}, "resources": {}}
    assert says(await client.put(f"{POLICY}/entries/other", json=unknown)) == (
        400,
        "placeholder:placeholder.notresolvable",
    )
    text = "{{ request:subjectId }} and {{ anything }}"
    body = {"_policy": {"entries": {"me": entry}}, "attributes": {"text": text}}
    assert (await client.put(THING, json=body)).status_code == 201
    assert (await client.get(f"{THING}/attributes/text")).json() == text
    shown = (await client.get(THING, params={"fields": "_policy"})).json()
    assert list(shown["_policy"]["entries"]["me"]["subjects"]) == ["nginx:ditto"]


async def test_earlier_states_are_read_by_revision_and_by_time(client):
    await client.put(THING, json={"attributes": {"a": 1}})
    await client.put(f"{THING}/attributes/a", json=2)
    then = (await client.get(THING, params={"fields": "_modified"})).json()["_modified"]
    await client.put(f"{THING}/attributes/a", json=3)
    first = await client.get(f"{THING}/attributes/a", params={"at-historical-revision": "1"})
    assert (first.json(), first.headers["entity-revision"], first.headers["historical-headers"]) == (
        1,
        "1",
        '{"entity-revision":1}',
    )
    assert (await client.get(f"{THING}/attributes/a", headers={"at-historical-revision": "2"})).json() == 2
    assert (await client.get(f"{THING}/attributes/a", headers={"at-historical-timestamp": then})).json() == 1
    newest = await client.get(f"{THING}/attributes/a", headers={"at-historical-revision": "3"})
    assert newest.json() == 3
    gone = await client.get(THING, headers={"at-historical-revision": "4"})
    assert says(gone) == (404, "things:thing.history.notfound")
    assert says(await client.get(THING, headers={"at-historical-revision": "x"})) == (400, "header.invalid")
    policy = "/api/2/policies/demo:T1"
    assert (await client.get(policy, headers={"at-historical-revision": "1"})).status_code == 200
    assert says(await client.get(policy, headers={"at-historical-revision": "9"})) == (
        404,
        "policies:policy.history.notfound",
    )


async def test_asterisks_in_metadata_keys(client):
    put = json.dumps([{"key": "features/*/properties/*/unit", "value": "kW"}])
    body = {"features": {"f": {"properties": {"x": 1, "y": {"z": 2}}}, "g": {"properties": {"x": 1}}}}
    assert (await client.put(THING, json=body, headers={"put-metadata": put})).status_code == 201
    shown = (await client.get(THING, params={"fields": "_metadata"})).json()["_metadata"]
    unit = {"unit": "kW"}
    assert shown == {"features": {"f": {"properties": {"x": unit, "y": unit}}, "g": {"properties": {"x": unit}}}}
    told = await client.get(f"{THING}/features/f", headers={"get-metadata": "properties/*/unit"})
    assert json.loads(told.headers["ditto-metadata"]) == {"properties": {"x": unit, "y": unit}}
    cut = {**MERGE, "delete-metadata": "features/*/properties/x/unit"}
    assert (await client.patch(THING, json={"attributes": {"a": 1}}, headers=cut)).status_code == 204
    shown = (await client.get(THING, params={"fields": "_metadata"})).json()["_metadata"]
    assert shown == {"features": {"f": {"properties": {"y": unit}}}}
    wrong = {"put-metadata": json.dumps([{"key": "features/*/unit", "value": 1}])}
    assert says(await client.put(f"{THING}/attributes", json={}, headers=wrong)) == (400, "header.invalid")
