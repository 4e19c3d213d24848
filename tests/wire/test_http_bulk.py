"""Rows of commands over HTTP: each for itself, all or none, repeated, broken off, and by a filter."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from skerry_registry.settings import Settings
from wire.http_server import Served, served

NDJSON = {"content-type": "application/x-ndjson"}


def row(verb: str, thing: str, path: str = "/", value: Any = None, group: str = "things", **headers: Any) -> bytes:
    channel = "/twin" if group == "things" else ""
    envelope: dict[str, Any] = {"topic": f"{thing.replace(':', '/', 1)}/{group}{channel}/commands/{verb}", "path": path}
    if headers:
        envelope["headers"] = headers
    if value is not None:
        envelope["value"] = value
    return json.dumps(envelope).encode() + b"\n"


async def send(server: Served, *rows: bytes, who: str = "ditto", query: str = "", **headers: str):
    async with server.client(who) as client:
        return await client.post(f"/api/2/bulk{query}", content=b"".join(rows), headers={**NDJSON, **headers})


def rows_of(answer) -> list[dict]:
    assert answer.headers["content-type"] == "application/x-ndjson", answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def statuses(answer) -> list[int]:
    return [found["status"] for found in rows_of(answer)]


async def attributes(server: Served, thing: str) -> Any:
    async with server.client() as client:
        answer = await client.get(f"/api/2/things/{thing}/attributes")
        return answer.json() if answer.status_code == 200 else answer.status_code


async def test_every_row_is_answered_in_order_under_the_caller_s_rights(tmp_path: Path):
    policy = {
        "entries": {
            "me": {
                "subjects": {"nginx:ditto": {"type": "x"}},
                "resources": {
                    "thing:/": {"grant": ["READ", "WRITE"], "revoke": []},
                    "policy:/": {"grant": ["READ", "WRITE"], "revoke": []},
                },
            }
        }
    }
    async with served(tmp_path) as server:
        await send(server, row("create", "eve:1", value={}), who="eve")
        answer = await send(
            server,
            row("create", "a:p", value=policy, group="policies"),
            row("create", "a:1", value={"policyId": "a:p", "attributes": {"n": 1}}),
            b"\n",
            row("modify", "a:1", "/attributes/n", 2, **{"correlation-id": "mine"}),
            row("modify", "eve:1", "/attributes/n", 2),
            b"{nonsense\n",
            row("retrieve", "a:1", "/attributes"),
            row("merge", "a:1", "/", {"attributes": {"m": 3}}),
            row("delete", "a:none"),
            row("retrieve", "a:p", group="policies").rstrip(b"\n"),
        )
        assert statuses(answer) == [201, 201, 204, 403, 400, 200, 204, 404, 200]
        found = rows_of(answer)
        assert found[2]["headers"]["correlation-id"] == "mine"
        assert found[1]["topic"] == "a/1/things/twin/commands/create"
        assert (found[3]["topic"], found[3]["value"]["error"]) == (
            "eve/1/things/twin/errors",
            "things:attribute.notmodifiable",
        )
        assert found[5]["value"] == {"n": 2}
        assert await attributes(server, "a:1") == {"n": 2, "m": 3}


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("?atomic=perhaps", {}, 400, "header.invalid"),
        ("?dry-run=perhaps", {}, 400, "header.invalid"),
        ("?dryrun=true", {}, 400, "bulk:parameter.unknown"),
        ("", {"content-type": "application/json"}, 415, "mediatype.unsupported"),
        ("", {"idempotency-key": "x" * 256}, 400, "bulk:key.invalid"),
        ("/none", {}, 404, "gateway:path.notfound"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_as_a_whole(tmp_path, query, headers, status, code):
    async with served(tmp_path) as server:
        answer = await send(server, row("create", "a:1", value={}), query=query, **headers)
        assert (answer.status_code, answer.json()["error"]) == (status, code)
        assert await attributes(server, "a:1") == 404


async def test_atomic_rows_are_done_together_or_not_at_all(tmp_path: Path):
    async with served(tmp_path) as server:
        await send(server, row("create", "eve:1", value={}), who="eve")
        good = [row("create", f"a:{number}", value={"attributes": {"n": number}}) for number in range(3)]
        for bad, status in ((row("modify", "eve:1", "/attributes", {}), 403), (b"[]\n", 400)):
            refused = await send(server, *good, bad, query="?atomic=true")
            assert refused.status_code == 424
            assert statuses(refused) == [424, 424, 424, status]
            assert rows_of(refused)[0]["value"]["error"] == "bulk:row.notdone"
            assert await attributes(server, "a:0") == 404
        done = await send(server, *good, query="?atomic=true")
        assert (done.status_code, statuses(done)) == (200, [201] * 3)
        assert await attributes(server, "a:2") == {"n": 2}


async def test_too_many_rows_are_refused_and_those_before_are_done_unless_atomic(tmp_path: Path):
    settings = structs.replace(Settings(), bulk_max_rows=150, bulk_atomic_rows=5)
    rows = [row("create", f"a:{number}", value={}) for number in range(200)]
    async with served(tmp_path, settings=settings) as server:
        atomic = await send(server, *rows[:6], query="?atomic=true")
        assert (atomic.status_code, atomic.json()["error"]) == (413, "bulk:rows.toomany")
        answer = await send(server, *rows)
        assert statuses(answer) == [201] * 150 + [413]


async def test_a_row_that_is_too_long_is_passed_over_and_the_others_are_not(tmp_path: Path):
    settings = structs.replace(Settings(), thing_max_bytes=2_000, policy_max_bytes=2_000)
    async with served(tmp_path, settings=settings) as server:
        rows = [row("create", "a:1", value={}), row("create", "a:2", value={"attributes": {"x": "y" * 40_000}})]
        answer = await send(server, *rows, row("create", "a:3", value={}))
        assert statuses(answer) == [201, 413, 201]


async def test_a_rehearsal_tells_what_would_happen_and_does_nothing(tmp_path: Path):
    async with served(tmp_path) as server:
        rows = [
            row("create", "a:1", value={}),
            row("modify", "a:1", "/attributes/n", 1),
            row("modify", "a:2", "/attributes/n", 1),
        ]
        assert statuses(await send(server, *rows, query="?dry-run=true")) == [201, 201, 404]
        atomic = await send(server, *rows, query="?dry-run=true&atomic=true")
        assert (atomic.status_code, statuses(atomic)) == (424, [201, 201, 404])
        assert await attributes(server, "a:1") == 404


async def test_a_repeated_upload_does_nothing_twice_and_tries_again_what_was_refused(tmp_path: Path):
    async with served(tmp_path) as server:
        rows = [
            row("create", "a:1", value={"attributes": {"n": 0}}),
            row("modify", "a:1", "/attributes/n", 1),
            row("modify", "a:2", "/attributes", {}),
        ]
        first = await send(server, *rows, **{"idempotency-key": "one"})
        assert statuses(first) == [201, 204, 404]
        await send(server, row("create", "a:2", value={}), row("modify", "a:1", "/attributes/n", 7))
        last = server.registry.journal.last
        again = await send(server, *rows, **{"idempotency-key": "one"})
        assert statuses(again) == [201, 204, 201]
        assert [found["headers"].get("idempotent-replay") for found in rows_of(again)] == ["true", "true", None]
        assert server.registry.journal.last == last + 1
        assert await attributes(server, "a:1") == {"n": 7}
        other = await send(server, row("create", "a:9", value={}), **{"idempotency-key": "one"})
        assert [found["value"]["error"] for found in rows_of(other)] == ["bulk:key.reused"]
        assert statuses(await send(server, *rows[:1], **{"idempotency-key": "two"})) == [409]


async def test_an_atomic_upload_that_is_repeated_is_answered_as_done(tmp_path: Path):
    async with served(tmp_path) as server:
        rows = [row("create", f"a:{number}", value={}) for number in range(3)]
        for _ in range(2):
            answer = await send(server, *rows, query="?atomic=true", **{"idempotency-key": "k"})
            assert (answer.status_code, statuses(answer)) == (200, [201] * 3)
        assert server.registry.journal.last == 6


async def test_keys_belong_to_their_subjects(tmp_path: Path):
    async with served(tmp_path) as server:
        assert statuses(await send(server, row("create", "a:1", value={}), **{"idempotency-key": "k"})) == [201]
        other = await send(server, row("create", "e:1", value={}), who="eve", **{"idempotency-key": "k"})
        assert statuses(other) == [201]


def head(server: Served, length: int | None = None, *more: str) -> bytes:
    login = base64.b64encode(b"ditto:ditto").decode()
    body = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = [
        "POST /api/2/bulk HTTP/1.1",
        "host: here",
        f"authorization: Basic {login}",
        "content-type: application/x-ndjson",
    ]
    return "\r\n".join([*lines, body, *more, "", ""]).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_answers_come_while_rows_are_still_being_sent(tmp_path: Path):
    async with served(tmp_path) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(20):
            writer.write(head(server) + chunk(row("create", "a:1", value={})))
            assert b'"status":201' in await reader.readuntil(b"}\n")
            writer.write(chunk(row("modify", "a:1", "/attributes/n", 5)) + b"0\r\n\r\n")
            assert b'"status":201' in await reader.readuntil(b"}\n")
            assert await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        assert await attributes(server, "a:1") == {"n": 5}


async def test_who_sends_all_before_he_reads_anything_is_served_as_well(tmp_path: Path):
    async with served(tmp_path) as server:
        await send(server, row("create", "a:1", value={"attributes": {"pad": "x" * 5_000}}))
        body = row("retrieve", "a:1") * 3_000
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**16)
        async with asyncio.timeout(30):
            writer.transport.pause_reading()
            writer.write(head(server, len(body)) + body)
            writer.transport.set_write_buffer_limits(0)
            await writer.drain()
            writer.transport.resume_reading()
            found = 0
            tail = b""
            while not tail.endswith(b"0\r\n\r\n"):
                data = await reader.read(65_536)
                found += len(data)
                tail = (tail + data)[-8:]
        writer.close()
        await writer.wait_closed()
        assert found > 3_000 * 5_000


async def test_a_broken_upload_is_resumed_with_its_key(tmp_path: Path):
    rows = [row("create", f"a:{number}", value={}) for number in range(250)]
    async with served(tmp_path) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(20):
            writer.write(head(server, None, "idempotency-key: up") + chunk(b"".join(rows[:120]) + rows[120][:30]))
            for _ in range(120):
                await reader.readuntil(b"}\n")
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(20):
            while (answer := await send(server, *rows, **{"idempotency-key": "up"})).status_code == 409:
                await server.registry.handle_all([])  # the first upload has not noticed its end
        assert statuses(answer) == [201] * 250
        assert [found["headers"].get("idempotent-replay") for found in rows_of(answer)] == ["true"] * 120 + [None] * 130
        assert server.registry.journal.last == 500
