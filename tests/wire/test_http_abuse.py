"""What an attacker tries over HTTP, and must not get."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from skerry_adapters.series.ports import SeriesUnavailable
from skerry_registry.http.errors import RoomTaken
from skerry_registry.http.request import Request, Room
from wire.http_server import served

MERGE = {"content-type": "application/merge-patch+json"}


@pytest.mark.parametrize("path", ["/metrics", "/%6detrics", "//metrics", "/%2fmetrics", "/metrics/"])
async def test_no_way_to_write_a_url_leads_around_the_role(tmp_path: Path, path: str):
    async with served(tmp_path) as server, server.client() as client:
        answer = await client.get(f"{server.url}{path}")
        assert answer.status_code in {401, 404}
        assert "skerry_http" not in answer.text


async def test_a_page_of_another_site_cannot_send_a_body_without_saying_its_type(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        foreign = {"origin": "http://evil.example"}
        assert (await client.post("/api/2/things", content=b"{}", headers=foreign)).status_code == 415
        assert (await client.post("/api/2/things", content=b"{}")).status_code == 201
        assert (await client.post("/api/2/things", json={}, headers=foreign)).status_code == 201


@pytest.mark.parametrize("reference", ["{text:>300000000}", "{", "{text.__class__}", "{0}"])
async def test_a_callers_words_are_no_template(tmp_path: Path, reference: str):
    async with served(tmp_path) as server, server.client() as client:
        body = {"_copyPolicyFrom": f"{{{{ ref:things/{reference}/policyId }}}}"}
        answer = await client.put("/api/2/things/a:b", json=body)
        assert answer.status_code == 400
        assert len(answer.content) < 1_000
        assert reference in answer.text


async def test_an_error_does_not_send_back_all_it_was_sent(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        answer = await client.put("/api/2/things/a:b", json={"attributes": {"k" * 500_000: 1}})
        assert answer.json()["error"] == "json.key.invalid"
        assert len(answer.content) < 5_000


async def test_a_patch_has_few_key_patterns(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await client.put("/api/2/things/a:b", json={"attributes": {"x1": 1}})
        for count, status in ((10, 204), (11, 400)):
            patch = {f"{{{{ ~x{number}~ }}}}": None for number in range(count)}
            answer = await client.patch("/api/2/things/a:b/attributes", json=patch, headers=MERGE)
            assert answer.status_code == status


async def test_a_long_list_of_ids_does_not_multiply_things_without_end(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await client.put("/api/2/things/a:b", json={"attributes": {"a": "x" * 50_000}})
        answer = await client.get("/api/2/things?ids=" + ",".join(["a:b"] * 600))
        assert len(answer.json()) == 600
        answer = await client.get("/api/2/things?ids=" + ",".join(["a:b"] * 700))
        assert (answer.status_code, answer.json()["error"]) == (413, "things:things.toolarge")


async def test_more_namespaces_than_anybody_lists_are_refused(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        answer = await client.get("/api/2/things?namespaces=" + ",".join(f"n{number}" for number in range(101)))
        assert answer.status_code == 400


def test_a_caller_is_not_told_where_the_series_store_is():
    payload = SeriesUnavailable(reason="InfluxDB at http://user:secret@10.0.0.7:8086 is away").payload()
    assert "secret" not in str(payload)


async def test_a_host_that_is_none_is_refused_without_a_trace_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async with served(tmp_path) as server:
        login = b"Authorization: Basic " + base64.b64encode(b"ditto:ditto") + b"\r\n"
        head = b'POST /api/2/things HTTP/1.1\r\nHost: a"><b\r\nContent-Type: application/json\r\nContent-Length: 2\r\n'
        answer = await server.raw(head + login + b"\r\n{}")
        assert int(answer.split(b" ", 2)[1]) == 400
    assert not [record for record in caplog.records if record.exc_info]


async def test_bodies_of_all_requests_together_have_a_bound():
    room = Room(100)
    messages = iter([{"type": "http.request", "body": b"x" * 60, "more_body": True}] * 3)

    async def receive():
        return next(messages)

    scope = {"method": "PUT", "raw_path": b"/", "query_string": b"", "scheme": "http", "client": None}
    with pytest.raises(RoomTaken):
        await Request(scope, receive, room).body(1_000)
    assert room.left == 100
