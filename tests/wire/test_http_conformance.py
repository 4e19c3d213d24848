"""Ditto's HTTP behaviour as a table (ditto.md 1.1 to 1.4, 1.6, 9): every row is one request on a thing of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import pytest

from wire.http_server import Served, served

THING = {
    "definition": "wind:Turbine:1.0.0",
    "attributes": {"name": "T01", "position": {"x": 1, "y": 2}, "tags": ["a", "b"]},
    "features": {
        "scada": {
            "definition": ["wind:Scada:1.0.0"],
            "properties": {"power": 1.5, "state": {"code": 3, "text": "ok"}},
            "desiredProperties": {"power": 2},
        },
        "bare": {},
    },
}
PATCH = {"content-type": "application/merge-patch+json"}


class Case(NamedTuple):
    """`body`: JSON, or raw text behind `raw:`. `error`: the code of the answer; `value`: its body; `has`: its headers."""

    method: str
    path: str
    status: int
    error: str | None = None
    body: Any = ...
    headers: Mapping[str, str] = MappingProxyType({})
    value: Any = ...
    has: Mapping[str, str] = MappingProxyType({})


READS = [
    Case(
        "GET",
        "",
        200,
        has={"etag": '"rev:1"', "entity-revision": "1", "version": "2", "content-type": "application/json"},
    ),
    Case("GET", "/", 200),
    Case("GET", "?fields=thingId", 200, value={"thingId": "$id"}),
    Case(
        "GET",
        "?fields=attributes(name,position/x),_revision",
        200,
        value={"attributes": {"name": "T01", "position": {"x": 1}}, "_revision": 1},
    ),
    Case(
        "GET", "?fields=features/*/properties/power", 200, value={"features": {"scada": {"properties": {"power": 1.5}}}}
    ),
    Case("GET", "?fields=a(b", 400),
    Case("GET", "/attributes", 200, value=THING["attributes"]),
    Case("GET", "/attributes/position/x", 200, value=1),
    Case("GET", "/attributes/position/", 200, value={"x": 1, "y": 2}),
    Case("GET", "/attributes/position%2Fx", 200, value=1),
    Case("GET", "/attributes/none", 404, "things:attribute.notfound"),
    Case("GET", "/attributes//x", 400, "json.pointer.invalid"),
    Case("GET", "/attributes//", 400, "json.pointer.invalid"),
    Case("GET", "//", 404, "gateway:path.notfound"),
    Case("GET", "/attributes?fields=name", 200, value={"name": "T01"}),
    Case("GET", "/attributes/position?fields=x", 200, value={"x": 1, "y": 2}),
    Case("GET", "/attributes/name?fields=(", 200, value="T01"),
    Case("GET", "/definition?fields=x", 200, value="wind:Turbine:1.0.0"),
    Case("GET", "/features?fields=*/properties/power", 200, value={"scada": {"properties": {"power": 1.5}}}),
    Case("GET", "/features/scada?fields=definition", 200, value={"definition": ["wind:Scada:1.0.0"]}),
    Case("GET", "/features/scada/properties?fields=state(code)", 200, value={"state": {"code": 3}}),
    Case("GET", "?requested-acks=x", 400, "header.invalid"),
    Case("GET", "/definition", 200, value="wind:Turbine:1.0.0"),
    Case("GET", "/policyId", 200, value="$id"),
    Case("GET", "/features", 200, value=THING["features"]),
    Case("GET", "/features/none", 404, "things:feature.notfound"),
    Case("GET", "/features/scada/definition", 200, value=["wind:Scada:1.0.0"]),
    Case("GET", "/features/bare/definition", 404, "things:feature.definition.notfound"),
    Case("GET", "/features/bare/properties", 404, "things:feature.properties.notfound"),
    Case("GET", "/features/bare/properties/x", 404, "things:feature.properties.notfound"),
    Case("GET", "/features/scada/properties/x", 404, "things:feature.property.notfound"),
    Case("GET", "/features/scada/properties/state/code", 200, value=3),
    Case("GET", "/features/scada/desiredProperties/power", 200, value=2),
    Case("GET", "/features/bare/desiredProperties", 404, "things:feature.desiredProperties.notfound"),
    Case("GET", "/features/sca%2Fda", 400, "json.key.invalid"),
    Case("GET", "/none", 404, "gateway:path.notfound"),
    Case("GET", "//attributes", 404, "gateway:path.notfound"),
    Case("GET", "/definition/x", 404, "gateway:path.notfound"),
    Case("GET", "/features/scada/none", 404, "gateway:path.notfound"),
    Case("HEAD", "", 200, has={"etag": '"rev:1"'}),
    Case("GET", "", 304, headers={"if-none-match": '"rev:1"'}, has={"etag": '"rev:1"'}),
    Case("GET", "", 200, headers={"if-none-match": '"rev:7"'}),
    Case("GET", "", 412, "things:precondition.failed", headers={"if-match": '"rev:7"'}),
    Case("GET", "/attributes/none", 404, headers={"if-match": '"rev:7"'}),
    Case("GET", "?timeout=abc", 400, "timeout.invalid"),
    Case("GET", "?timeout=-1", 400, "timeout.invalid"),
    Case("GET", "?timeout=61s", 400, "gateway:timeout.invalid"),
    Case("GET", "?timeout=0", 400, "header.invalid"),
    Case("GET", "?timeout=500ms", 200),
    Case("GET", "?response-required=false", 400, "command.headers.invalid"),
    Case("GET", "/attributes/none", 404, "things:attribute.notfound"),
    Case("GET", "?fields=", 200, value={}),
    Case("GET", "?fields=thingId,", 200, value={"thingId": "$id"}),
    Case("GET", "?timeout=6", 400, "gateway:duplicate.header.field", headers={"timeout": "5"}),
    Case("GET", "?timeout=5", 200, headers={"timeout": "5"}),
    Case("GET", "", 412, "things:condition.failed", headers={"condition": "eq(attributes/name,1)"}),
    Case("GET", "?condition=exists(attributes/name)", 200),
    Case("GET", "/attributes/none?condition=eq(attributes/name,1)", 412, "things:condition.failed"),
    Case("GET", "?condition=eq(attributes/name", 400, "things:condition.invalid"),
    Case("GET", "?condition=eq(name,1)", 400, "rql.expression.invalid"),
    Case("GET", "", 304, headers={"if-none-match": 'W/"rev:1", "rev:9"'}, has={"etag": '"rev:1"'}),
    Case("GET", "", 412, "things:precondition.failed", headers={"if-match": 'W/"rev:1"'}),
    Case("GET", "", 200, headers={"if-match": '"rev:9" , "rev:1"'}),
    Case("GET", "", 400, "header.invalid", headers={"if-match": "rev:1"}),
    Case("GET", "/policyId", 304, headers={"if-none-match": "*"}),
    Case(
        "GET", "?fields=_policy/policyId", 200, value={"_policy": {"policyId": "$id"}}, headers={"if-none-match": "*"}
    ),
    Case("GET", "?fields=attributes/no_policy", 304, headers={"if-none-match": "*"}),
    Case("GET", "?timeout=99999999999", 400, "gateway:timeout.invalid"),
    Case("GET", "?response-required=maybe", 400, "header.invalid"),
    Case("GET", "?allow-policy-lockout=maybe", 400, "header.invalid"),
    Case("GET", "?dry-run=maybe", 400, "header.invalid"),
    Case("GET", "?correlation-id=", 400, "header.invalid"),
    Case("GET", "", 400, "header.invalid", headers={"correlation-id": ""}),
    Case("GET", "?channel=LIVE&timeout=1ms", 408, "command.timeout"),
    Case("GET", "", 501, "gateway:operation.notprovided", headers={"accept": "application/td+json"}),
    Case("POST", "/migrateDefinition", 400, "json.field.missing", body={}),
    Case("POST", "/inbox/messages/ask?timeout=1ms", 408, "command.timeout"),
    Case("POST", "/features/scada/outbox/messages/ask/more?timeout=1ms", 408, "command.timeout"),
    Case("POST", "/inbox/claim?timeout=1ms", 408, "command.timeout"),
]

WRITES = [
    Case("PUT", "", 204, body={"attributes": {"a": 1}}, has={"etag": '"rev:2"', "entity-revision": "2"}),
    Case("PUT", "/", 204, body={}),
    Case("PUT", "", 400, "things:id.notsettable", body={"thingId": "other:id"}),
    Case("PUT", "", 400, "json.format.invalid", body="raw:"),
    Case("PUT", "", 400, "json.invalid", body='raw:{"a":1,\n "b":}'),
    Case("PUT", "/attributes/x", 400, "json.invalid", body="raw:NaN"),
    Case("PUT", "/attributes/x", 400, "json.invalid", body="raw:1e999"),
    Case("PUT", "/attributes/x", 400, "json.invalid", body="raw:" + "9" * 5000),
    Case("PUT", "/attributes/x", 400, "json.invalid", body="raw:" + "[" * 100_000 + "]" * 100_000),
    Case("PUT", "/attributes/x", 400, "json.invalid", body="raw:" + "[" * 200 + "]" * 200),
    Case("PUT", "/attributes/x", 400, "json.invalid", body='raw:"\\ud800"'),
    Case("PUT", "/attributes/x", 400, "json.key.invalid", body={"a/b": 1}),
    Case("PUT", "/attributes/x", 415, "mediatype.unsupported", body="raw:1", headers={"content-type": "text/plain"}),
    Case("PUT", "/attributes/x", 201, body="raw:1", headers={"content-type": "application/json; charset=utf-8"}),
    Case("PUT", "/attributes/x", 201, body="raw:1", headers={"content-type": ""}),
    Case(
        "PUT", "/attributes/a/b/c", 201, body={"d": None}, value={"d": None}, has={"location": "$url/attributes/a/b/c"}
    ),
    Case("PUT", "/attributes/x%2Fy", 201, body=1, value=1),
    Case("PUT", "/attributes/x/", 201, body=1, has={"location": "$url/attributes/x"}),
    Case("PUT", "/attributes/x%3Ay+z", 201, body=1, has={"location": "$url/attributes/x%3Ay+z"}),
    Case("PUT", "/attributes/%2Fx", 400, "json.pointer.invalid", body=1),
    Case("PUT", "/features/a~1b", 201, body={}, has={"location": "$url/features/a~1b"}),
    Case("PUT", "/features//x", 404, "gateway:path.notfound", body={}),
    Case("PUT", "/attributes/name", 204, body=None),
    Case("PUT", "/attributes/%C3%BC", 400, "json.key.invalid", body=1),
    Case("PUT", "/attributes/%D0%B6", 201, body=1),
    Case("PUT", "/attributes/%zz", 400, "json.pointer.invalid", body=1),
    Case("PUT", "/attributes", 204, body={}),
    Case("PUT", "/features/new", 201, body={"properties": {"a": 1}}),
    Case("PUT", "/features/*", 201, body={}),
    Case("PUT", "/features/none/properties/a", 404, "things:feature.notfound", body=1),
    Case("PUT", "/features/scada/properties/power", 204, body=7),
    Case("PUT", "/features/scada/properties/new/deep", 201, body=7),
    Case("PUT", "/features/scada/definition", 400, "things:feature.definition.empty", body=[]),
    Case("PUT", "/features/bare/definition", 201, body=["a:b:1"]),
    Case("PUT", "/definition", 400, "things:definition.identifier.invalid", body="no"),
    Case("PUT", "/definition", 204, body="https://example.org/model"),
    Case("PUT", "/policyId", 204, body="$id"),
    Case("PUT", "/policyId", 400, "policies:id.invalid", body=None),
    Case("PUT", "/policyId", 400, "policies:id.invalid", body=7),
    Case("PUT", "", 204, body={"_policy": None, "unknown": 1, "_revision": 7}),
    Case("PUT", "", 204, body={"_policy": {"entries": {}}}),
    Case("PUT", "", 400, "policies:id.invalid", body={"policyId": "none"}),
    Case("PUT", "", 412, "things:precondition.failed", body={}, headers={"if-none-match": "*"}),
    Case("PUT", "", 204, body={}, headers={"if-match": "*"}),
    Case("PUT", "", 412, "things:precondition.failed", body={}, headers={"if-match": '"rev:9"'}),
    Case("PUT", "/attributes/name", 412, body="T01", headers={"if-equal": "skip"}),
    Case("PUT", "/attributes/name", 204, body="T01", headers={"if-equal": "whatever"}),
    Case("PUT", "/attributes/name", 204, body="T", headers={"put-metadata": '[{"key":"unit","value":"x"}]'}),
    Case("PUT", "/attributes/big", 413, "things:thing.toolarge", body="x" * 110_000),
    Case("PATCH", "", 204, body={"attributes": {"name": None, "new": 1}}, headers=PATCH),
    Case("PATCH", "", 415, "mediatype.unsupported", body={"attributes": {}}),
    Case("PATCH", "", 400, "things:merge.invalid", body={}, headers=PATCH),
    Case("PATCH", "", 400, "things:merge.invalid", body=None, headers=PATCH),
    Case("PATCH", "", 400, "things:merge.invalid", body={"unknown": 1}, headers=PATCH),
    Case("PATCH", "", 415, "mediatype.unsupported", body={"attributes": {}}, headers={"content-type": ""}),
    Case(
        "PATCH",
        "",
        204,
        body={"attributes": {"a": 1}},
        headers={"content-type": "application/merge-patch+json; charset=utf-8"},
    ),
    Case("PATCH", "/attributes", 204, body={}, headers=PATCH),
    Case("PATCH", "/features/none/properties/x", 204, body=1, headers=PATCH),
    Case("PATCH", "/attributes/none", 412, "things:precondition.failed", body=1, headers={**PATCH, "if-match": "*"}),
    Case("PATCH", "", 400, "things:policyId.notdeletable", body={"policyId": None}, headers=PATCH),
    Case("PATCH", "/policyId", 400, "things:policyId.notdeletable", body=None, headers=PATCH),
    Case("PATCH", "/definition", 204, body=None, headers=PATCH),
    Case("PATCH", "/features/new", 204, body={"properties": {}}, headers=PATCH),
    Case("PATCH", "/attributes", 204, body={"{{ ~(name|tags)~ }}": None}, headers=PATCH),
    Case("DELETE", "", 204),
    Case("DELETE", "/attributes", 204),
    Case("DELETE", "/attributes/none", 404, "things:attribute.notfound"),
    Case("DELETE", "/features/scada/properties", 204),
    Case("DELETE", "/features/none", 404, "things:feature.notfound"),
    Case("DELETE", "/policyId", 405, "gateway:method.notallowed", has={"allow": "GET, PUT, PATCH"}),
    Case("POST", "", 405, "gateway:method.notallowed", body={}, has={"allow": "GET, PUT, PATCH, DELETE"}),
    Case("DELETE", "", 405, "things:live.channelcondition.notallowed", headers={"live-channel-condition": "eq(a,1)"}),
]

BIRTHS = [
    Case("PUT", "", 201, body={}, has={"etag": '"rev:3"', "location": "$url"}),
    Case("PUT", "/", 201, body={}, has={"location": "$url"}),
    Case("PUT", "", 201, body={}, headers={"if-none-match": "*"}),
    Case("PUT", "", 412, "things:precondition.failed", body={}, headers={"if-match": "*"}),
    Case("PUT", "", 412, "things:precondition.failed", body={}, headers={"if-match": '"rev:2"'}),
    Case("PUT", "", 201, body={}, headers={"if-equal": "skip"}),
    Case("PUT", "", 201, body={"unknown": 1, "_revision": 7}, value={"thingId": "$id", "policyId": "$id"}),
    Case("PUT", "", 400, "json.invalid", body=[]),
    Case("PUT", "", 400, "policies:id.invalid", body={"policyId": "none"}),
    Case("PUT", "", 400, "json.invalid", body={"policyId": 7}),
    Case("PUT", "", 404, "policies:policy.notfound", body={"policyId": "no:such"}),
    Case("PUT", "", 400, "policies:id.invalid", body={"_copyPolicyFrom": "none"}),
    Case("PUT", "", 404, "policies:policy.notfound", body={"_copyPolicyFrom": "no:such"}),
    Case("PUT", "", 400, "things:policy.invalid", body={"_policy": {"entries": {}}}),
    Case("PUT", "/attributes/x", 404, "things:thing.notfound", body=1, headers={"if-none-match": "*"}),
    Case("PATCH", "", 400, "things:merge.invalid", body={}, headers=PATCH),
    Case("PATCH", "", 400, "things:policyId.notdeletable", body={"policyId": None}, headers=PATCH),
    Case("PATCH", "", 412, "things:precondition.failed", body={"attributes": {}}, headers={**PATCH, "if-match": "*"}),
    Case(
        "PATCH",
        "",
        201,
        body={"attributes": {"a": None, "b": 1}},
        headers=PATCH,
        value={"thingId": "$id", "policyId": "$id", "attributes": {"b": 1}},
    ),
    Case("PATCH", "/attributes", 404, "things:thing.notfound", body={"a": 1}, headers=PATCH),
    Case("DELETE", "", 404, "things:thing.notfound", headers={"if-match": '"rev:1"'}),
    Case("GET", "", 404, "things:thing.notfound", headers={"if-none-match": "*"}),
]
"""On a thing and a policy that are deleted: revisions go on."""

ACKS = [
    Case("PUT", "/attributes/n?response-required=false", 202, body=1),
    Case("PUT", "/features/none/properties/a?response-required=false", 404, "things:feature.notfound", body=1),
    Case("PUT", "/attributes/n?response-required=maybe", 400, "header.invalid", body=1),
    Case("PUT", "/attributes/n?at-historical-revision=1.5", 400, "header.invalid", body=1),
    Case("PUT", "/attributes/n?at-historical-revision=1", 201, body=1),
    Case("PUT", "/attributes/n?timeout=0", 202, body=1),
    Case("PUT", "/features/none/properties/a?timeout=0", 404, "things:feature.notfound", body=1),
    Case("PUT", "/attributes/n?timeout=0&response-required=true", 400, "header.invalid", body=1),
    Case("PUT", "/attributes/n?timeout=0&requested-acks=twin-persisted", 400, "header.invalid", body=1),
    Case("PUT", "/attributes/n?requested-acks=live-response&timeout=50ms", 201, body=1, value=1),
    Case("PUT", "/attributes/n?response-required=false&timeout=0&requested-acks=twin-persisted", 400, body=1),
    Case("PUT", "/attributes/n?response-required=false&requested-acks=twin-persisted", 202, body=1),
    Case("PUT", "/attributes/n?requested-acks=twin-persisted", 201, body=1, value=1),
    Case("PUT", "/attributes/n?requested-acks=search-persisted", 204, body=1),
    Case("PUT", "/attributes/n?requested-acks=x", 400, "header.invalid", body=1),
    Case("PUT", "/attributes/n?requested-acks=mine-too&timeout=50ms", 408, "acknowledgement:request.timeout", body=1),
    Case("PUT", "/features/none/properties/a?requested-acks=twin-persisted,search-persisted", 404, body=1),
    Case(
        "PUT",
        "/attributes/n?response-required=false&requested-acks=twin-persisted,mine-too&timeout=50ms",
        424,
        body=1,
        value={"twin-persisted": {"status": 201}, "mine-too": {"status": 408}},
    ),
]


@pytest.mark.parametrize("table", [READS, WRITES, ACKS], ids=["reads", "writes", "acks"])
async def test_every_row_of_the_table_holds(tmp_path: Path, table: list[Case]):
    async with served(tmp_path) as server, server.client() as client:
        wrong = []
        for number, case in enumerate(table):
            thing_id = f"demo:T{number}"
            made = await client.put(f"/api/2/things/{thing_id}", json=THING)
            assert made.status_code == 201, made.text
            answer = await send(client, server, case, thing_id)
            wrong += [
                f"{case.method} {case.path} {case.headers}: {fault}" for fault in faults(case, answer, thing_id, server)
            ]
    assert not wrong, "\n".join(wrong)


async def send(client: httpx.AsyncClient, server: Served, case: Case, thing_id: str) -> httpx.Response:
    """Send the row's request."""
    headers = dict(case.headers)
    content: bytes | None = None
    if isinstance(case.body, str) and case.body.startswith("raw:"):
        content = case.body.removeprefix("raw:").encode()
    elif case.body is not ...:
        content = json.dumps(case.body).replace("$id", thing_id).encode()
    if content is not None:
        headers.setdefault("content-type", "application/json")
    if headers.get("content-type") == "":
        del headers["content-type"]
    return await client.request(
        case.method, f"{server.url}/api/2/things/{thing_id}{case.path}", content=content, headers=headers
    )


def faults(case: Case, answer: httpx.Response, thing_id: str, server: Served) -> list[str]:
    """What is not as the row says."""
    found = []
    if answer.status_code != case.status:
        found.append(f"{answer.status_code}, not {case.status}: {answer.text[:200]}")
    elif answer.status_code >= 400 and case.value is ...:
        body = answer.json()
        if body["status"] != case.status or not body["message"] or case.error not in {None, body["error"]}:
            found.append(f"{body}, not {case.error}")
    if case.status in {202, 204, 304} and answer.content:
        found.append(f"a body: {answer.text}")
    if case.value is not ...:
        wanted = json.loads(json.dumps(case.value).replace("$id", thing_id))
        if answer.json() != wanted:
            found.append(f"{answer.text}, not {wanted}")
    for name, text in case.has.items():
        wanted_text = text.replace("$url", f"{server.url}/api/2/things/{thing_id}")
        if answer.headers.get(name) != wanted_text:
            found.append(f"{name}: {answer.headers.get(name)}, not {wanted_text}")
    if "location" in answer.headers and answer.status_code != 201:
        found.append("a location without 201")
    if not answer.headers.get("correlation-id"):
        found.append("no correlation-id")
    return found


async def test_things_that_are_not_there_are_made_or_refused(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        wrong = []
        for number, case in enumerate(BIRTHS):
            thing_id = f"demo:T{number}"
            await client.put(f"/api/2/things/{thing_id}", json={"_policy": policy_of(f"other:{thing_id[5:]}")})
            await client.delete(f"/api/2/things/{thing_id}")
            answer = await send(client, server, case, thing_id)
            wrong += [
                f"{case.method} {case.path} {case.body} {case.headers}: {fault}"
                for fault in faults(case, answer, thing_id, server)
            ]
    assert not wrong, "\n".join(wrong)


def policy_of(policy_id: str) -> dict[str, Any]:
    """An inline policy with an id of its own, so that the id of the thing stays free."""
    rights = {"grant": ["READ", "WRITE"], "revoke": []}
    return {
        "policyId": policy_id,
        "entries": {
            "all": {
                "subjects": {"nginx:ditto": {"type": "any"}},
                "resources": {"thing:/": rights, "policy:/": rights},
            }
        },
    }


@pytest.mark.parametrize(
    ("thing_id", "error"),
    [
        ("none", "things:id.invalid"),
        ("a:", "things:id.invalid"),
        ("1a:b", "things:id.invalid"),
        ("a..b:c", "things:id.invalid"),
        ("a:b%2Fc", "things:id.invalid"),
        ("a:%C3%BC", "things:id.invalid"),
        ("a:%FF", "things:id.invalid"),
        ("a:b%zz", "things:id.invalid"),
        ("a:b%", "things:id.invalid"),
        ("a:" + "x" * 255, "things:id.invalid"),
        ("a:" + "x" * 254, None),
        ("a%3Ab", None),
        (":b", None),
        ("a-b.c_d:e:f+g", None),
        ("a:%D0%B6%20%25", None),
    ],
)
async def test_ids_are_checked_as_ditto_does(tmp_path: Path, thing_id: str, error: str | None):
    async with served(tmp_path) as server, server.client() as client:
        answer = await client.put(f"{server.url}/api/2/things/{thing_id}", json={})
        assert answer.status_code == (400 if error else 201), answer.text
        assert answer.json().get("error") == error
        if error is None:
            assert answer.headers["location"] == f"{server.url}/api/2/things/{thing_id}"
            assert (await client.get(answer.headers["location"])).json() == answer.json()


async def test_a_thing_may_have_exactly_the_limit_of_bytes(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        path = "/api/2/things/demo:T1"
        empty = (await client.put(path, json={"attributes": {"a": ""}})).content
        assert (await client.put(f"{path}/attributes/a", json="x" * (102_400 - len(empty)))).status_code == 204
        assert len((await client.get(path)).content) == 102_400
        beyond = await client.put(f"{path}/attributes/a", json="x" * (102_401 - len(empty)))
        assert (beyond.status_code, beyond.json()["error"]) == (413, "things:thing.toolarge")
        other = await client.put("/api/2/things/demo:T2", json={"attributes": {"a": "x" * (102_401 - len(empty))}})
        assert (other.status_code, other.json()["error"]) == (413, "things:thing.toolarge")


async def test_several_acknowledgements_are_answered_as_a_map(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        good = await client.put(
            "/api/2/things/demo:T1", json={}, headers={"requested-acks": "twin-persisted,search-persisted"}
        )
        assert good.status_code == 200
        assert good.json()["twin-persisted"]["status"] == 201
        assert good.json()["twin-persisted"]["payload"]["thingId"] == "demo:T1"
        assert good.json()["twin-persisted"]["headers"]["etag"] == '"rev:1"'
        assert good.json()["search-persisted"] == {"status": 204, "headers": {"response-required": False}}
        bad = await client.put("/api/2/things/demo:T1?requested-acks=twin-persisted,mine-too&timeout=50ms", json={})
        assert bad.status_code == 424
        assert bad.json()["mine-too"]["payload"]["error"] == "acknowledgement:request.timeout"
