"""Messages, claims, live commands and reads that choose their channel, over HTTP; a device answers inside the server."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from skerry.live import LiveSignal, envelope_of, payload_of, signal_from
from skerry_registry.live.changes import Told, Wanted
from skerry_registry.live.channel import LiveWanted
from skerry_registry.live.sender import Sender
from skerry_registry.settings import Settings
from wire.http_server import Served, served

T = "/api/2/things/demo:T1"
ALL = {"grant": ["READ", "WRITE"], "revoke": []}
READ = {"grant": ["READ"], "revoke": []}
WRITE = {"grant": ["WRITE"], "revoke": []}
POLICY = {
    "entries": {
        "owner": {
            "subjects": {"nginx:ditto": {"type": "x"}},
            "resources": {"thing:/": ALL, "policy:/": ALL, "message:/": ALL},
        },
        "device": {"subjects": {"device:T1": {"type": "x"}}, "resources": {"thing:/": ALL, "message:/": READ}},
        "sender": {
            "subjects": {"nginx:eve": {"type": "x"}},
            "resources": {"message:/inbox/messages/ask": WRITE, "thing:/attributes/public": READ},
        },
    }
}
TEXT = {"content-type": "text/plain"}
DEVICE = Sender(subjects=("device:T1",), origin="ws device 1")


class Device:
    """Hears everything, and answers as it is told."""

    def __init__(self, server: Served) -> None:
        self.heard: list[LiveSignal] = []
        self.says: dict[str, Any] | None = None
        self._live = server.streams.live
        for sort in ("message", "command"):
            self._live.subscribe(LiveWanted(sort=sort, subjects=DEVICE.subjects), self._take, session=DEVICE.origin)

    def _take(self, signal: LiveSignal) -> None:
        self.heard.append(signal)
        if self.says is not None:
            headers = {"correlation-id": signal.correlation, **self.says.get("headers", {})}
            envelope = envelope_of(signal) | {"status": 200} | self.says | {"headers": headers}
            if "value" not in self.says:
                envelope.pop("value", None)
            self._live.answer(signal_from(envelope), DEVICE)


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as server, server.client() as ditto:
        thing = {
            "_policy": POLICY,
            "attributes": {"public": 1, "secret": 2},
            "features": {"f": {"properties": {"x": 1}}},
        }
        assert (await ditto.put(T, json=thing)).status_code == 201
        yield server


@pytest.fixture
def device(server: Served) -> Device:
    return Device(server)


@pytest_asyncio.fixture
async def ditto(server: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client() as client:
        yield client


@pytest_asyncio.fixture
async def eve(server: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client("eve") as client:
        yield client


async def test_a_device_answers_with_status_type_and_body_of_its_own(device: Device, ditto: httpx.AsyncClient):
    device.says = {"status": 203, "value": {"b": 2}, "headers": {"content-type": "application/json", "etag": "x"}}
    answer = await ditto.post(f"{T}/features/f/inbox/messages/ask/more?timeout=20", json={"a": 1})
    assert (answer.status_code, answer.json()) == (203, {"b": 2})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["channel"] == "live"
    assert answer.headers["ditto-originator"] == "device:T1"
    assert "etag" not in answer.headers
    assert answer.headers["correlation-id"] == device.heard[0].correlation
    envelope = envelope_of(device.heard[0])
    assert envelope["topic"] == "demo/T1/things/live/messages/ask/more"
    assert envelope["path"] == "/features/f/inbox/messages/ask/more"
    assert envelope["value"] == {"a": 1}
    assert envelope["headers"]["timeout"] == "20"
    assert envelope["headers"]["ditto-message-feature-id"] == "f"
    assert "authorization" not in envelope["headers"]


@pytest.mark.parametrize(
    ("sent", "media", "value"),
    [
        (b"\x00\xff", "image/png", base64.b64encode(b"\x00\xff").decode()),
        (b"abc", None, base64.b64encode(b"abc").decode()),
        ("grün".encode(), "text/plain", "grün"),
        ("grün".encode("latin-1"), "text/plain; charset=iso-8859-1", "grün"),
        (b'"text"', "application/json", "text"),
        (b"[1]", "application/vnd.acme+json", [1]),
    ],
)
async def test_any_content_arrives_as_it_was_sent(
    device: Device, ditto: httpx.AsyncClient, sent: bytes, media: str | None, value: object
):
    headers = {} if media is None else {"content-type": media}
    answer = await ditto.post(f"{T}/inbox/messages/ask?timeout=0", content=sent, headers=headers)
    assert answer.status_code == 202
    (signal,) = device.heard
    assert envelope_of(signal)["value"] == value
    assert signal.headers["content-type"] == (media or "application/octet-stream")
    assert payload_of(signal) == sent


@pytest.mark.parametrize(
    ("value", "media", "body"),
    [
        (base64.b64encode(b"\x00\xff").decode(), "image/png", b"\x00\xff"),
        ("pong", "text/plain", b"pong"),
        ("pong", "application/json", b'"pong"'),
        (base64.b64encode(b"raw").decode(), None, b"raw"),
    ],
)
async def test_any_answer_comes_back_as_it_was_given(
    device: Device, ditto: httpx.AsyncClient, value: str, media: str | None, body: bytes
):
    device.says = {"value": value, "headers": {} if media is None else {"content-type": media}}
    answer = await ditto.post(f"{T}/inbox/messages/ask")
    assert answer.content == body
    assert answer.headers["content-type"] == (media or "application/octet-stream")
    assert "value" not in envelope_of(device.heard[0])


async def test_an_answer_without_a_body_has_none(device: Device, ditto: httpx.AsyncClient):
    for status in (204, 304, 404):
        device.says = {"status": status}
        answer = await ditto.post(f"{T}/inbox/messages/ask")
        assert (answer.status_code, answer.content) == (status, b"")


async def test_what_a_device_answers_is_no_page_and_no_header_of_ours(device: Device, ditto: httpx.AsyncClient):
    device.says = {"value": "<script>", "headers": {"content-type": "text/html\r\nset-cookie: a=b"}}
    answer = await ditto.post(f"{T}/inbox/messages/ask")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "set-cookie" not in answer.headers
    assert "sandbox" in answer.headers["content-security-policy"]


async def test_the_subject_stays_as_it_stands_in_the_url(device: Device, ditto: httpx.AsyncClient):
    for subject in ("a/b%20c%2Fd/%C3%A4", "a/", "a//b"):
        assert (await ditto.post(f"{T}/outbox/messages/{subject}?timeout=0")).status_code == 202
        assert envelope_of(device.heard[-1])["path"] == f"/outbox/messages/{subject}"
        assert device.heard[-1].headers["ditto-message-direction"] == "FROM"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/inbox/messages/", 400, "messages:subject.invalid"),
        ("POST", "/inbox/messages//", 400, "messages:subject.invalid"),
        ("POST", "/inbox/messages", 404, "gateway:path.notfound"),
        ("POST", "/inbox", 404, "gateway:path.notfound"),
        ("POST", "/outbox/claim", 404, "gateway:path.notfound"),
        ("POST", "/features/f/inbox/claim", 404, "gateway:path.notfound"),
        ("GET", "/inbox/messages/ask", 406, "gateway:stream.only"),
        ("POST", "/inbox/messages/ask?timeout=61", 400, "timeout.invalid"),
        ("POST", "/inbox/messages/ask?timeout=-1", 400, "timeout.invalid"),
        ("POST", "/inbox/claim?timeout=601", 400, "timeout.invalid"),
        ("POST", "/inbox/messages/ask?timeout=0&response-required=true", 400, "header.invalid"),
        ("POST", "/inbox/messages/ask?timeout=0&requested-acks=my:label", 400, "header.invalid"),
        ("POST", "/inbox/messages/ask?timeout=1ms", 408, "command.timeout"),
        ("POST", "/inbox/claim?timeout=1ms", 408, "command.timeout"),
        ("POST", "/inbox/messages/ask?condition=eq(attributes/public,2)", 412, "things:condition.failed"),
        ("POST", "/inbox/messages/ask?condition=eq(", 400, "things:condition.invalid"),
        ("POST", "x/inbox/messages/ask", 404, "things:thing.notfound"),
        ("POST", "x/inbox/claim", 404, "things:thing.notfound"),
        ("GET", "/attributes?channel=live&timeout=1ms", 408, "command.timeout"),
        ("GET", "/attributes?channel=live&timeout=0", 400, "command.headers.invalid"),
        ("GET", "/attributes?channel=live&response-required=false", 400, "command.headers.invalid"),
        ("GET", "/attributes?channel=live&timeout=61", 400, "gateway:timeout.invalid"),
        ("GET", "/attributes?live-channel-condition=eq(", 400, "things:condition.invalid"),
        (
            "DELETE",
            "/attributes?live-channel-condition=eq(attributes/public,1)",
            405,
            "things:live.channelcondition.notallowed",
        ),
    ],
)
async def test_what_cannot_be_carried_is_refused(
    ditto: httpx.AsyncClient, method: str, path: str, status: int, code: str
):
    answer = await ditto.request(method, T + path)
    assert (answer.status_code, answer.json()["error"]) == (status, code)


async def test_payloads_have_a_limit_and_json_is_checked(ditto: httpx.AsyncClient):
    answer = await ditto.post(f"{T}/inbox/messages/ask?timeout=0", content=b"x" * 256_001, headers=TEXT)
    assert (answer.status_code, answer.json()["error"]) == (413, "messages:payload.toolarge")
    answer = await ditto.post(f"{T}/inbox/messages/ask?timeout=0", content=b"x" * 256_000, headers=TEXT)
    assert answer.status_code == 202
    answer = await ditto.post(f"{T}/inbox/messages/ask?timeout=0", content=b"x" * 192_001)
    assert (answer.status_code, answer.json()["error"]) == (413, "messages:payload.toolarge")
    answer = await ditto.post(
        f"{T}/inbox/messages/ask?timeout=0", content=b"{", headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "json.invalid")


async def test_the_policy_says_who_may_send(server: Served, device: Device, eve: httpx.AsyncClient):
    device.says = {"value": "pong", "headers": TEXT}
    assert (await eve.post(f"{T}/inbox/messages/ask", content="x", headers=TEXT)).text == "pong"
    answer = await eve.post(f"{T}/inbox/messages/other", content="x", headers=TEXT)
    assert (answer.status_code, answer.json()["error"]) == (403, "messages:send.notallowed")
    assert "why" not in answer.json()
    assert (await eve.post(f"{T}/inbox/claim", content="x", headers=TEXT)).text == "pong"
    async with server.client("devops") as devops:
        found = (await devops.get("/api/2/audit?outcome=refused")).json()["items"]
    assert [(item["action"], item["path"], item["error"]) for item in found] == [
        ("send", "/inbox/messages/other", "messages:send.notallowed")
    ]


async def test_a_caller_who_wants_no_answer_gets_none(device: Device, ditto: httpx.AsyncClient):
    device.says = {"value": "pong", "headers": TEXT}
    for query in ("timeout=0", "response-required=false", "response-required=false&requested-acks=live-response"):
        answer = await ditto.post(f"{T}/inbox/messages/ask?{query}", content="x", headers=TEXT)
        assert (answer.status_code, answer.content) == (202, b"")
    assert [signal.headers["response-required"] for signal in device.heard] == ["false", "false", "true"]


async def test_acknowledgements_come_with_the_answer(server: Served, device: Device, ditto: httpx.AsyncClient):
    server.streams.acks.declare("ws elsewhere", ["my:label"])
    device.says = {"value": "pong", "headers": TEXT}
    answer = await ditto.post(f"{T}/inbox/messages/ask?requested-acks=my:label", content="x", headers=TEXT)
    assert answer.status_code == 200
    assert {label: ack["status"] for label, ack in answer.json().items()} == {"my:label": 200, "live-response": 200}
    assert answer.json()["live-response"]["payload"] == "pong"
    answer = await ditto.post(f"{T}/inbox/messages/ask?requested-acks=no:body&timeout=1ms", content="x", headers=TEXT)
    assert answer.status_code == 424
    assert answer.json()["no:body"]["status"] == 408


async def test_the_senders_own_headers_travel_and_those_of_the_transport_do_not(
    server: Served, device: Device, ditto: httpx.AsyncClient
):
    device.says = {"value": "yes"}
    own = {
        "X-Work-Order": "17",
        "correlation-id": "c1",
        "x-api-key": "s3cret",
        "cookie": "a=b",
        "ETag": "lie",
        "X-Token": "t",
    }
    assert (await ditto.post(f"{T}/inbox/messages/ask", content=b"now", headers=TEXT | own)).status_code == 200
    assert (await ditto.put(f"{T}/attributes/public?channel=live&timeout=0", json=2, headers=own)).status_code == 202
    events: list[Told] = []
    server.streams.changes.subscribe(Wanted(subjects=("nginx:ditto",)), events.append)
    assert (await ditto.put(f"{T}/attributes/public", json=3, headers=own)).status_code == 204
    for heard in [*device.heard, *(told.event for told in events)]:
        assert heard.headers["x-work-order"] == "17"
        assert not heard.headers.keys() & {
            "x-api-key",
            "cookie",
            "etag",
            "x-token",
            "user-agent",
            "host",
            "authorization",
            "accept-encoding",
        }
    assert (len(device.heard), len(events)) == (2, 1)


async def test_a_live_command_is_answered_by_the_device(device: Device, ditto: httpx.AsyncClient):
    device.says = {"value": {"public": 7}}
    answer = await ditto.get(f"{T}/attributes?channel=live&fields=public")
    assert (answer.status_code, answer.json(), answer.headers["channel"]) == (200, {"public": 7}, "live")
    device.says = {"status": 201, "value": 5}
    answer = await ditto.put(f"{T}/attributes/new?channel=live", json=5)
    assert (answer.status_code, answer.json()) == (201, 5)
    assert answer.headers["location"].endswith(f"{T}/attributes/new")
    device.says = {"status": 204}
    merge = {"content-type": "application/merge-patch+json"}
    assert (
        await ditto.patch(f"{T}?channel=live", content='{"attributes":{"a":null}}', headers=merge)
    ).status_code == 204
    assert (await ditto.delete(f"{T}/attributes/new?channel=live")).status_code == 204
    assert (await ditto.put(f"{T}?channel=live", json={"attributes": {}})).status_code == 204
    told = [envelope_of(signal) for signal in device.heard]
    assert [(one["topic"].rpartition("/")[2], one["path"], one.get("value")) for one in told] == [
        ("retrieve", "/attributes", None),
        ("modify", "/attributes/new", 5),
        ("merge", "/", {"attributes": {"a": None}}),
        ("delete", "/attributes/new", None),
        ("modify", "/", {"thingId": "demo:T1", "attributes": {}}),
    ]
    assert told[0]["fields"] == "public"
    assert (await ditto.get(f"{T}/attributes")).json() == {"public": 1, "secret": 2}
    assert (await ditto.put(f"{T}/attributes/x?channel=live&timeout=0", json=1)).status_code == 202


async def test_an_error_of_a_device_is_the_answer(device: Device, ditto: httpx.AsyncClient):
    error = {"status": 404, "error": "things:attributes.notfound", "message": "none"}
    device.says = {"topic": "demo/T1/things/live/errors", "path": "/", "status": 404, "value": error}
    answer = await ditto.get(f"{T}/attributes?channel=live")
    assert (answer.status_code, answer.json()) == (404, error)


async def test_live_commands_take_the_rights_of_the_twin_and_answers_are_filtered(
    device: Device, eve: httpx.AsyncClient
):
    device.says = {"value": {"public": 7, "secret": 8}}
    assert (await eve.get(f"{T}/attributes?channel=live")).json() == {"public": 7}
    assert (await eve.get(f"{T}/attributes/secret?channel=live")).json()["error"] == "things:attribute.notfound"
    answer = await eve.put(f"{T}/attributes/public?channel=live", json=1)
    assert (answer.status_code, answer.json()["error"]) == (403, "things:attribute.notmodifiable")


async def test_nothing_is_created_on_the_live_channel(ditto: httpx.AsyncClient):
    answer = await ditto.post("/api/2/things?channel=live", json={})
    assert (answer.status_code, answer.json()["error"]) == (405, "things:thing.notcreatable")
    answer = await ditto.put(f"{T}x?channel=live&timeout=0", json={})
    assert answer.status_code == 404


async def test_a_read_goes_to_the_device_where_the_twin_satisfies_the_condition(
    device: Device, ditto: httpx.AsyncClient, eve: httpx.AsyncClient
):
    device.says = {"value": {"public": 7}}
    path = f"{T}/attributes?live-channel-condition=eq(attributes/secret,%s)"
    answer = await ditto.get(path % 2)
    assert (answer.json(), answer.headers["channel"]) == ({"public": 7}, "live")
    assert answer.headers["live-channel-condition-matched"] == "true"
    answer = await ditto.get(path % 3)
    assert (answer.json(), answer.headers["channel"]) == ({"public": 1, "secret": 2}, "twin")
    assert answer.headers["live-channel-condition-matched"] == "false"
    answer = await eve.get(path % 2)
    assert (answer.json(), answer.headers["live-channel-condition-matched"]) == ({"public": 1}, "false")
    device.says = None
    answer = await ditto.get(path % 2 + "&timeout=1ms")
    assert (answer.status_code, answer.headers["live-channel-condition-matched"]) == (408, "true")
    for query in ("&timeout=300ms&live-channel-timeout-strategy=use-twin",):
        answer = await ditto.get(path % 2 + query)
        assert (answer.json(), answer.headers["channel"]) == ({"public": 1, "secret": 2}, "twin")
        assert answer.headers["live-channel-condition-matched"] == "true"
    answer = await ditto.get(f"{T}/attributes?channel=live&live-channel-timeout-strategy=use-twin&timeout=300ms")
    assert (answer.json(), answer.headers["channel"]) == ({"public": 1, "secret": 2}, "twin")


async def test_a_page_of_another_site_sends_nothing_in_somebodys_name(tmp_path: Path):
    async with (
        served(tmp_path, settings=Settings(cors_origins="https://ours.example,*")) as server,
        server.client() as ditto,
    ):
        assert (await ditto.put(T, json={})).status_code == 201
        for origin, media, status in (
            ("https://evil.example", "text/plain", 415),
            ("https://evil.example", "", 415),
            ("https://evil.example", "application/json", 202),
            ("https://ours.example", "text/plain", 202),
            (server.url, "text/plain", 202),
        ):
            headers = {"origin": origin, **({"content-type": media} if media else {})}
            answer = await ditto.post(f"{T}/inbox/messages/ask?timeout=0", content=b"1", headers=headers)
            assert answer.status_code == status


async def test_who_gets_no_answer_is_told_who_has_to_listen(ditto: httpx.AsyncClient):
    error = (await ditto.post(f"{T}/inbox/messages/ask?timeout=1ms", content="x", headers=TEXT)).json()
    assert error["message"] == "The command was not answered within 0.001 s."
    assert "START-SEND-MESSAGES" in error["description"]
