"""Commands in CloudEvents, binary and structured."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from wire.http_server import Served, served

PATH = "/api/2/cloudevents"
BINARY = {
    "ce-specversion": "1.0",
    "ce-id": "1",
    "ce-source": "urn:x",
    "ce-type": "org.eclipse.ditto",
    "content-type": "application/json",
}
STRUCTURED = {"content-type": "application/cloudevents+json"}
EVENT = {"specversion": "1.0", "id": "1", "source": "urn:x", "type": "t", "datacontenttype": "application/json"}
CREATE = {"topic": "demo/T01/things/twin/commands/create", "path": "/", "value": {"attributes": {"a": 1}}}


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as server:
        yield server


async def test_a_binary_event_carries_a_command(server: Served):
    async with server.client() as client:
        answer = await client.post(PATH, json=CREATE, headers={**BINARY, "ce-dataschema": "ditto:some"})
        assert (answer.status_code, answer.content) == (202, b"")
        assert (await client.get("/api/2/things/demo:T01/attributes/a")).json() == 1


@pytest.mark.parametrize(
    "data", [{"data": CREATE}, {"data_base64": base64.b64encode(json.dumps(CREATE).encode()).decode()}]
)
async def test_a_structured_event_carries_a_command(server: Served, data: dict[str, Any]):
    async with server.client() as client:
        answer = await client.post(PATH, content=json.dumps(EVENT | data), headers=STRUCTURED)
        assert answer.status_code == 202, answer.text
        assert (await client.get("/api/2/things/demo:T01/attributes/a")).json() == 1


async def test_the_command_is_carried_out_with_the_callers_rights(server: Served):
    async with server.client() as client, server.client("eve") as eve:
        await client.post(PATH, json=CREATE, headers=BINARY)
        delete = {"topic": "demo/T01/things/twin/commands/delete", "path": "/"}
        refused = await eve.post(PATH, json=delete, headers=BINARY)
        assert (refused.status_code, refused.json()["error"]) == (403, "things:thing.notdeletable")
        assert "why" not in refused.json()  # eve may not read the policy
        again = await client.post(PATH, json=CREATE, headers=BINARY)
        assert again.status_code in {400, 409}
        assert (await client.post(PATH, json=delete, headers=BINARY)).status_code == 202
        assert (await client.get("/api/2/things/demo:T01")).status_code == 404


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({}, CREATE, 400, "cloudevent.unparsable"),
        ({**BINARY, "ce-specversion": "7"}, CREATE, 400, "cloudevent.unparsable"),
        ({**BINARY, "ce-type": ""}, CREATE, 400, "cloudevent.unparsable"),
        (STRUCTURED, {"id": "1"}, 400, "cloudevent.unparsable"),
        (STRUCTURED, [], 400, "cloudevent.unparsable"),
        (STRUCTURED, EVENT | {"data_base64": "-"}, 400, "cloudevent.unparsable"),
        ({"content-type": "application/cloudevents-batch+json"}, [], 400, "cloudevent.unparsable"),
        (STRUCTURED, EVENT, 400, "cloudevent.payload.missing"),
        (BINARY, None, 400, "cloudevent.payload.missing"),
        (STRUCTURED, EVENT | {"data": CREATE, "dataschema": "http://x"}, 400, "cloudevent.dataschema.unsupported"),
        ({**BINARY, "ce-dataschema": "http://x"}, CREATE, 400, "cloudevent.dataschema.unsupported"),
        ({**BINARY, "content-type": "text/plain"}, CREATE, 415, "mediatype.unsupported"),
        (STRUCTURED, EVENT | {"data": CREATE, "datacontenttype": "text/xml"}, 415, "mediatype.unsupported"),
        (BINARY, [1], 400, "json.invalid"),
        (BINARY, {}, 400, "json.field.missing"),
        (BINARY, CREATE | {"topic": "nonsense"}, 400, "protocoladapter:unknown.topicpath"),
    ],
)
async def test_what_is_no_event_with_a_command_is_refused(
    server: Served, headers: dict[str, str], body: Any, status: int, code: str
):
    async with server.client() as client:
        content = b"" if body is None else json.dumps(body).encode()
        answer = await client.post(PATH, content=content, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (status, code), answer.text


async def test_only_posts_of_somebody_are_taken(server: Served):
    async with server.client(None) as nobody, server.client() as client:
        assert (await nobody.post(PATH, json=CREATE, headers=BINARY)).status_code == 401
        assert (await client.get(PATH)).status_code == 405
        assert (await client.post(PATH + "/x", json=CREATE, headers=BINARY)).status_code == 404


async def test_the_correlation_id_of_the_request_comes_back(server: Served):
    async with httpx.AsyncClient(base_url=server.url, auth=("ditto", "ditto")) as client:
        answer = await client.post(PATH, json=CREATE, headers={**BINARY, "correlation-id": "mine"})
        assert answer.headers["correlation-id"] == "mine"
