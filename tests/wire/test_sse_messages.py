"""Messages to and from things as server-sent events (ditto.md 1.7)."""

from __future__ import annotations

import asyncio

from wire.events import Seen, reading
from wire.http_server import served

THING = "/api/2/things/demo:T01"


async def _send(client, path, content, media):
    answer = await client.post(f"{THING}{path}?timeout=0", content=content, headers={"content-type": media})
    assert answer.status_code == 202, answer.text


async def test_messages_are_told_with_their_subjects_and_payloads(tmp_path):
    async with served(tmp_path) as server, server.client() as client:
        await client.put(THING, json={"features": {"f": {}}})
        async with (
            reading(client, f"{THING}/inbox/messages") as inbox,
            reading(client, f"{THING}/inbox/messages/ask/more") as ask,
            reading(client, f"{THING}/features/f/outbox/messages") as feature,
            reading(client, THING) as changes,
        ):
            await _send(client, "/inbox/messages/hello", b"hi\nthere", "text/plain")
            await _send(client, "/inbox/messages/ask", b'{"a":  1}', "application/json")
            await _send(client, "/outbox/messages/elsewhere", b"no", "text/plain")
            await _send(client, "/inbox/messages/ask/more", "Grüße".encode("latin-1"), "text/plain; charset=iso-8859-1")
            await _send(client, "/inbox/messages/ask/more/still", b"last", "text/plain")
            await _send(client, "/features/f/outbox/messages/said", b"\xff\x00a", "application/octet-stream")
            assert [await inbox.next() for _ in range(4)] == [
                Seen("hi\nthere", "hello"),
                Seen('{"a":  1}', "ask"),
                Seen("Grüße", "ask/more"),
                Seen("last", "ask/more/still"),
            ]
            assert await ask.next() == Seen("Grüße", "ask/more")
            assert await feature.next() == Seen("\ufffd\x00a", "said")
            await client.put(f"{THING}/attributes/a", json=1)
            assert await changes.value() == {"thingId": "demo:T01", "attributes": {"a": 1}}


async def test_a_subject_is_listened_to_as_it_is_written_when_it_is_sent_to(tmp_path):
    async with served(tmp_path) as server, server.client() as client:
        await client.put(THING, json={})
        async with reading(client, f"{THING}/inbox/messages/ask%20me") as asked:
            await _send(client, "/inbox/messages/ask%20me", b"now", "text/plain")
            found = await asked.next()
            assert found is not None
            assert found.data == "now"


async def test_messages_are_nothing_but_a_stream(tmp_path):
    async with served(tmp_path) as server, server.client() as client:
        await client.put(THING, json={})
        for path in ("/inbox/messages", "/features/f/outbox/messages", "/inbox/messages/ask"):
            answer = await client.get(f"{THING}{path}")
            assert (answer.status_code, answer.json()["error"]) == (406, "gateway:stream.only")


async def test_messages_are_told_to_those_who_may_read_them(tmp_path):
    async with served(tmp_path) as server, server.client() as client, server.client("eve") as eve:
        await client.put(THING, json={})
        async with reading(eve, f"{THING}/inbox/messages") as inbox:
            await _send(client, "/inbox/messages/secret", b"1", "text/plain")
            guest = {
                "subjects": {"nginx:eve": {"type": "user"}},
                "resources": {"message:/inbox/messages/open": {"grant": ["READ"], "revoke": []}},
            }
            await client.put("/api/2/policies/demo:T01/entries/guest", json=guest)
            await _send(client, "/inbox/messages/secret", b"2", "text/plain")
            await _send(client, "/inbox/messages/open", b"3", "text/plain")
            assert await inbox.next() == Seen("3", "open")


async def test_a_message_without_words_is_no_heartbeat(tmp_path):
    async with served(tmp_path) as server, server.client() as client:
        await client.put(THING, json={})
        lines: list[str] = []
        async with reading(client, f"{THING}/inbox/messages") as inbox, asyncio.timeout(30):
            await _send(client, "/inbox/messages/ping", b"", "text/plain")
            async for line in inbox.response.aiter_lines():
                lines.append(line)
                if line == "event:ping":
                    break
        assert lines[-2] == "data:"
