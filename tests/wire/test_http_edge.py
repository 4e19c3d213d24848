"""What stands before every route: logins, limits, CORS, correlation ids, broken requests."""

import asyncio
import base64
import gc
import json
import logging
import socket
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from msgspec import structs

from skerry_registry.http import run_http
from skerry_registry.http.call import Call
from skerry_registry.http.request import Request
from skerry_registry.http.server import PortTaken
from skerry_registry.settings import Settings
from wire.http_server import served

BASIC = b"Authorization: Basic " + base64.b64encode(b"ditto:ditto") + b"\r\n"
HEAD = b" HTTP/1.1\r\nHost: x\r\n" + BASIC


def body_of(answer: bytes) -> dict:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_without_a_login_the_answer_is_a_challenge(tmp_path: Path):
    async with served(tmp_path) as server, server.client(None) as client:
        for path in ("/", "/api/2/things", "/api/2/whoami", "/metrics", "/none"):
            answer = await client.get(path)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith('Basic realm="Skerry')
            assert answer.json()["error"] == "gateway:authentication.failed"


@pytest.mark.parametrize("header", ["Basic", "Basic !!!", "Basic ZGl0dG8=", "Basic ZGl0dG86d3Jvbmc=", "Basic /w=="])
async def test_a_login_that_makes_no_sense_is_no_login(tmp_path: Path, header: str):
    async with served(tmp_path) as server, server.client(None) as client:
        assert (await client.get("/api/2/whoami", headers={"authorization": header})).status_code == 401


async def test_whoami_tells_the_subjects(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        answer = await client.get("/api/2/whoami")
        assert answer.json() == {"defaultSubject": "nginx:ditto", "subjects": ["nginx:ditto"]}


async def test_operations_need_the_role_devops(tmp_path: Path):
    async with served(tmp_path) as server:
        async with server.client() as client:
            assert (await client.get("/metrics")).status_code == 401
            assert (await client.get("/health")).json() == {"status": "UP"}
        async with server.client("devops") as client:
            metrics = await client.get("/metrics")
            assert metrics.status_code == 200
            assert "skerry_http_requests_total" in metrics.text
            assert (await client.get("/health")).json() == {"status": "UP", "journal": {"last": 0}}


async def test_health_tells_down_with_503_and_ready_does_not_follow(tmp_path: Path):
    async with (
        served(tmp_path, health=lambda: {"status": "DOWN", "broker": "away"}) as server,
        server.client(None) as client,
    ):
        assert (await client.get("/health")).status_code == 503
        assert (await client.get("/ready")).status_code == 200
        assert (await client.get("/alive")).status_code == 200


async def test_the_pre_authenticated_header_counts_only_where_it_is_trusted(tmp_path: Path):
    header = {"x-ditto-pre-authenticated": "nginx:alice, group:blue"}
    async with served(tmp_path) as server, server.client(None) as client:
        assert (await client.get("/api/2/whoami", headers=header)).status_code == 401
    async with (
        served(tmp_path, settings=Settings(auth_pre_authenticated=True)) as server,
        server.client(None) as client,
    ):
        answer = await client.get("/api/2/whoami", headers=header)
        assert answer.json() == {"defaultSubject": "nginx:alice", "subjects": ["nginx:alice", "group:blue"]}
        assert (await client.get("/api/2/whoami")).status_code == 401


async def test_a_page_of_a_site_that_is_not_named_cannot_say_who_asks(tmp_path: Path):
    header = {"x-ditto-pre-authenticated": "nginx:alice"}
    for named, origin, status in (
        ("*", "https://anywhere.example", 401),
        ("https://farm.example", "https://anywhere.example", 401),
        ("https://farm.example", "https://farm.example", 200),
        ("*", "null", 401),
    ):
        settings = Settings(auth_pre_authenticated=True, cors_origins=named)
        async with served(tmp_path, settings=settings) as server, server.client(None) as client:
            answer = await client.get("/api/2/whoami", headers={**header, "origin": origin})
            assert answer.status_code == status, (named, origin)
            query = "?x-ditto-pre-authenticated=nginx:alice"
            assert (await client.get("/api/2/whoami" + query, headers={"origin": origin})).status_code == status
            own = f"http://{client.base_url.host}:{client.base_url.port}"
            assert (await client.get("/api/2/whoami", headers={**header, "origin": own})).status_code == 200


async def test_correlation_ids_are_echoed_or_made(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        assert (await client.get("/api/2/whoami", headers={"correlation-id": "mine"})).headers[
            "correlation-id"
        ] == "mine"
        other = await client.get("/none", headers={"x-correlation-id": "hers"})
        assert (other.headers["correlation-id"], other.headers["x-correlation-id"]) == ("hers", "hers")
        assert (await client.get("/alive")).headers["correlation-id"].startswith("00000000-")
        assert (await client.get("/api/2/things?correlation-id=q")).headers["correlation-id"] == "q"


async def test_a_parameter_cannot_put_a_line_into_the_answers_head(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        answer = await client.get("/api/2/things?correlation-id=a%0d%0aset-cookie:x=1")
        assert answer.status_code == 400
        assert answer.json()["error"] == "header.invalid"
        assert "set-cookie" not in answer.headers


async def test_a_doubled_header_is_refused_before_the_body_is_looked_at(tmp_path: Path):
    async with served(tmp_path) as server:
        answer = await server.raw(b"POST /api/2/things" + HEAD + b"x-correlation-id: a\r\nX-Correlation-Id: a\r\n\r\n")
        assert status_of(answer) == 400
        assert body_of(answer)["error"] == "gateway:duplicate.header.field"


async def test_a_request_line_of_32_kib_is_read_and_a_longer_one_refused(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        ids = ",".join(f"demo:{number:030d}" for number in range(900))
        assert len(ids) > 31_000
        assert (await client.get(f"/api/2/things?ids={ids}")).json() == []
        too_long = await client.get(f"/api/2/things?ids={ids},{ids}")
        assert too_long.status_code == 414
        assert too_long.json()["error"] == "gateway:uri.toolong"


async def test_headers_have_limits(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        for headers in (
            {"x-anything": "x" * 17_000},
            {f"x-{number}": "1" for number in range(70)},
            {"put-metadata": "x" * 5_100},
        ):
            answer = await client.get("/api/2/things", headers=headers)
            assert answer.status_code == 431
            assert answer.json()["error"] == "headers.too.large"


async def test_bodies_of_ten_megabytes_are_refused_with_an_answer(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        for _ in range(3):
            answer = await client.put(
                "/api/2/things/demo:T1", content=b"x" * 10_000_000, headers={"content-type": "application/json"}
            )
            assert answer.status_code == 413
            assert answer.json()["error"] == "gateway:body.toolarge"

        async def chunks():
            for _ in range(100):
                yield b" " * 100_000

        answer = await client.put(
            "/api/2/things/demo:T1", content=chunks(), headers={"content-type": "application/json"}
        )
        assert answer.status_code == 413
        assert (await client.get("/api/2/whoami")).status_code == 200
    async with served(tmp_path) as server, server.client(None) as client:
        answer = await client.put("/api/2/things/demo:T1", content=b"x" * 10_000_000)
        assert answer.status_code == 401


async def test_a_body_announced_as_too_long_is_refused_before_it_comes(tmp_path: Path):
    async with served(tmp_path) as server:
        request = (
            b"PUT /api/2/things/demo:T1" + HEAD + b"Content-Type: application/json\r\nContent-Length: 10000000\r\n\r\n"
        )
        began = time.monotonic()
        answer = await server.raw(request)
        assert status_of(answer) == 413
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 10\r\n\r\n1",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_a_body_that_breaks_off_changes_nothing(tmp_path: Path, rest: bytes):
    async with served(tmp_path) as server, server.client() as client:
        await client.put("/api/2/things/demo:T1", json={"attributes": {"a": 0}})
        request = b"PUT /api/2/things/demo:T1/attributes/a" + HEAD + b"Content-Type: application/json\r\n" + rest
        assert await server.refuses(request)
        assert (await client.get("/api/2/things/demo:T1/attributes/a")).json() == 0


async def test_bytes_that_are_no_utf_8_are_a_clear_error(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await client.put("/api/2/things/demo:T1", json={})
        answer = await client.put(
            "/api/2/things/demo:T1/attributes/a", content=b'{"x":"\xff"}', headers={"content-type": "application/json"}
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "json.invalid")
        for path in (
            b"/api/2/things/demo:T1/attributes/%ff",
            b"/api/2/things/demo:%ff",
            b"/api/2/things/demo:T1/attributes/\xff",
        ):
            answer_ = await server.raw(b"GET " + path + HEAD + b"\r\n")
            assert status_of(answer_) in {400, 404}


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n"]
)
async def test_what_is_no_http_is_refused_and_the_server_stays(tmp_path: Path, garbage: bytes):
    async with served(tmp_path) as server, server.client() as client:
        assert status_of(await server.raw(garbage)) == 400
        assert (await client.get("/api/2/whoami")).status_code == 200


async def test_unknown_paths_versions_and_methods_are_told_in_dittos_shape(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        for path, error in (
            ("/none", "gateway:path.notfound"),
            ("/api", "gateway:path.notfound"),
            ("/api/1/things", "api.version.notsupported"),
            ("/api/2", "gateway:path.notfound"),
            ("/api/2//things", "gateway:path.notfound"),
            ("/api/2/thingsx", "gateway:path.notfound"),
            ("/api/2/none", "gateway:path.notfound"),
            ("/page/none.css", "gateway:path.notfound"),
            ("/page/../users.py", "gateway:path.notfound"),
            ("/page/..%2f..%2fusers.py", "gateway:path.notfound"),
        ):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error"]) == (404, error), path
        answer = await client.delete("/api/2/whoami")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
        answer = await client.put("/api/2/things", json={})
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


async def test_cors_stands_on_answers_errors_and_preflights(tmp_path: Path):
    origin = {"origin": "http://explorer.example"}
    async with served(tmp_path) as server, server.client(None) as client:
        refused = await client.get("/api/2/things", headers=origin)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == "http://explorer.example"
        assert "etag" in refused.headers["access-control-expose-headers"]
        asked = {
            **origin,
            "access-control-request-method": "PUT",
            "access-control-request-headers": "authorization,if-match",
        }
        preflight = await client.options("/api/2/things/demo:T1", headers=asked)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-headers"] == "authorization,if-match"
        assert "PATCH" in preflight.headers["access-control-allow-methods"]
        assert "access-control-allow-origin" not in (await client.get("/alive")).headers


async def test_only_named_origins_may_use_a_login_the_browser_remembers(tmp_path: Path):
    settings = Settings(cors_origins="http://a.example, http://b.example")
    async with served(tmp_path, settings=settings) as server, server.client(None) as client:
        named = await client.get("/alive", headers={"origin": "http://b.example"})
        assert named.headers["access-control-allow-credentials"] == "true"
        other = await client.get("/alive", headers={"origin": "http://c.example"})
        assert "access-control-allow-origin" not in other.headers
    async with served(tmp_path) as server, server.client(None) as client:
        anybody = await client.get("/alive", headers={"origin": "http://c.example"})
        assert "access-control-allow-credentials" not in anybody.headers


async def test_neither_values_nor_credentials_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    async with served(tmp_path) as server, server.client() as client:
        await client.put("/api/2/things/demo:T1", json={"attributes": {"a": "verysecretvalue"}})
        await client.get("/api/2/whoami", headers={"authorization": "Basic bm9ib2R5OnZlcnlzZWNyZXQ="})
    told = " ".join(str(vars(record)) for record in caplog.records if record.name.startswith("skerry"))
    assert "request answered" in told
    assert "verysecret" not in told
    assert "bm9ib2R5" not in told
    assert "ZGl0dG86ZGl0dG8" not in told


async def test_a_failure_of_ours_tells_nothing_but_the_correlation_id(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    def broken() -> dict:
        raise ZeroDivisionError("the secret cause")

    async with served(tmp_path, health=broken) as server, server.client(None) as client:
        answer = await client.get("/health", headers={"correlation-id": "c1"})
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.headers["correlation-id"] == "c1"
    assert any("ZeroDivisionError" in (record.exc_text or "") or record.exc_info for record in caplog.records)


async def test_a_taken_port_is_named(tmp_path: Path):
    async with served(tmp_path) as server:
        with pytest.raises(PortTaken, match=str(server.port)):
            await run_http(None, structs.replace(Settings(), http_port=server.port), lambda *_: None)


async def test_the_server_stops_at_once_with_connections_open(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await client.get("/api/2/whoami")
        idle = socket.create_connection(("127.0.0.1", server.port))
        half = socket.create_connection(("127.0.0.1", server.port))
        half.sendall(b"PUT /api/2/things/demo:T1" + HEAD + b"Content-Length: 100\r\n\r\nx")
        began = time.monotonic()
    assert time.monotonic() - began < 3
    idle.close()
    half.close()


async def test_slow_clients_do_not_keep_others_waiting(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
        for one in slow:
            one.sendall(
                b"PUT /api/2/things/demo:T1" + HEAD + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\nx"
            )
        began = time.monotonic()
        for _ in range(20):
            assert (await client.get("/api/2/whoami")).status_code == 200
        assert time.monotonic() - began < 2
        for one in slow:
            one.close()


async def test_idle_connections_by_the_thousand_leave_room(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client, AsyncExitStack() as stack:

        def come(count: int) -> None:
            for _ in range(count):
                idle = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
                idle.sendall(b"GET / HTTP/1.1\r\nHo")

        await asyncio.to_thread(come, 1_500)
        assert (await client.get("/api/2/whoami")).status_code == 200


async def test_requests_leave_no_work_to_the_garbage_collector(tmp_path: Path):
    def left() -> int:
        return sum(isinstance(known, Call | Request) for known in gc.get_objects())

    async with served(tmp_path) as server, server.client() as client:
        assert (await client.put("/api/2/things/demo:T1", json={"attributes": {"x": 1}})).status_code == 201
        gc.collect()
        gc.disable()
        try:
            before = left()
            for _ in range(10):
                assert (await client.put("/api/2/things/demo:T1/attributes/x", json=2)).status_code == 204
                assert (await client.get("/api/2/things/demo:T1")).status_code == 200
                found = await client.get("/api/2/search/things", params={"filter": "eq(attributes/x,2)"})
                assert len(found.json()["items"]) == 1
            assert left() <= before + 1  # the last one may be on its way out
        finally:
            gc.enable()
