"""Acknowledgements between sessions: declared, asked for over HTTP and WebSocket, of changes, messages and announcements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry_registry.announcements import Announcement
from wire.http_server import Served, served
from wire.sessions import Socket, refused, session

T1 = "/api/2/things/demo:T1"
ONE = "?declared-acks=h:one"


@asynccontextmanager
async def farm(folder: Path) -> AsyncIterator[Served]:
    """A server with one thing that ditto owns and eve may read in part."""
    async with served(folder) as server, server.client() as client:
        rights = {"thing:/": {"grant": ["READ", "WRITE"], "revoke": []}}
        everything = {**rights, "policy:/": rights["thing:/"], "message:/": rights["thing:/"]}
        some = {"thing:/attributes/shown": {"grant": ["READ"], "revoke": []}}
        policy = {
            "entries": {
                "ditto": {"subjects": {"nginx:ditto": {"type": "user"}}, "resources": everything},
                "eve": {"subjects": {"nginx:eve": {"type": "user"}}, "resources": some},
            }
        }
        assert (await client.put("/api/2/policies/demo:T1", json=policy)).status_code == 201
        thing = {"policyId": "demo:T1", "attributes": {"shown": 0, "hidden": 0}}
        assert (await client.put(T1, json=thing)).status_code == 201
        yield server


async def acknowledge(socket: Socket, told: Any, label: str = "h:one", status: int = 200, **more: Any) -> None:
    """Give an acknowledgement of what was told."""
    namespace, name, group, channel, *_ = told["topic"].split("/")
    channel = channel if group == "things" else "twin"
    headers = {"correlation-id": told["headers"]["correlation-id"]}
    await socket.send(
        {
            "topic": f"{namespace}/{name}/things/{channel}/acks/{label}",
            "path": "/",
            "headers": headers,
            "status": status,
            **more,
        }
    )


async def test_who_has_declared_a_label_is_told_that_it_is_wanted_and_nobody_else(tmp_path: Path):
    async with (
        farm(tmp_path) as server,
        server.client() as client,
        session(server, query=ONE) as one,
        session(server, declared_acks='["h:two"]') as two,
        session(server) as none,
    ):
        for socket in (one, two, none):
            await socket.start("EVENTS")
        asked = {"requested-acks": "twin-persisted,h:one,h:two", "timeout": "20s", "correlation-id": "c7"}
        asking = asyncio.create_task(client.put(f"{T1}/attributes/shown", json=1, headers=asked))
        told = [await socket.receive() for socket in (one, two, none)]
        assert [envelope["headers"]["requested-acks"] for envelope in told] == [["h:one"], ["h:two"], []]
        assert {envelope["headers"]["correlation-id"] for envelope in told} == {"c7"}
        await acknowledge(one, told[0], "h:one", 202, value={"ok": 1})
        assert not asking.done()
        await acknowledge(two, told[1], "h:two")
        answer = await asking
        assert answer.status_code == 200
        assert {label: entry["status"] for label, entry in answer.json().items()} == {
            "twin-persisted": 204,
            "h:one": 202,
            "h:two": 200,
        }
        assert answer.json()["h:one"]["payload"] == {"ok": 1}


async def test_a_session_is_answered_with_all_acknowledgements_in_one_envelope(tmp_path: Path):
    async with farm(tmp_path) as server, session(server, query=ONE) as giver, session(server) as asker:
        await giver.start("EVENTS")
        asked = {"requested-acks": ["twin-persisted", "h:one"], "timeout": "20s", "correlation-id": "mine"}
        asking = asyncio.create_task(
            asker.command("modify", "demo:T1", "/attributes/shown", value=1, headers=dict(asked))
        )
        await acknowledge(giver, await giver.receive(), status=404)
        reply = await asking
        assert (reply["topic"], reply["path"], reply["status"]) == ("demo/T1/things/twin/acks", "/", 424)
        assert reply["headers"]["correlation-id"] == "mine"
        assert reply["value"]["twin-persisted"]["status"] == 204
        assert reply["value"]["h:one"]["status"] == 404
        asked["requested-acks"] = ["twin-persisted"]
        plain = await asker.command("modify", "demo:T1", "/attributes/shown", value=2, headers=dict(asked))
        assert (plain["topic"], plain["status"]) == ("demo/T1/things/twin/commands/modify", 204)


async def test_who_is_filtered_out_or_may_not_read_acknowledges_weakly(tmp_path: Path):
    async with (
        farm(tmp_path) as server,
        server.client() as client,
        session(server, query=ONE) as filtered,
        session(server, "eve", query="?declared-acks=h:eve") as eve,
    ):
        await filtered.start("EVENTS", "filter=eq(attributes/shown,99)")
        await eve.start("EVENTS")
        for label in ("h:one", "h:eve"):
            answer = await client.put(f"{T1}/attributes/hidden?requested-acks={label}&timeout=20s", json=1)
            assert (answer.status_code, answer.headers["ditto-weak-ack"]) == (200, "true")
        asking = asyncio.create_task(client.put(f"{T1}/attributes/shown?requested-acks=h:eve&timeout=20s", json=1))
        await acknowledge(eve, await eve.receive(), "h:eve", 201)
        assert (await asking).status_code == 201


async def test_a_label_that_another_session_has_declared_ends_the_session(tmp_path: Path):
    async with farm(tmp_path) as server, session(server, query=ONE) as first:
        await first.start("EVENTS")
        async with session(server, query=ONE) as second:
            error = await second.receive()
            assert (error["status"], error["value"]["error"]) == (409, "acknowledgement:label.not.unique")
            assert error["topic"] == "unknown/unknown/things/twin/errors"
            assert (await second.closed())[0] == 1000
        await first.start("MESSAGES")
    async with farm(tmp_path / "other") as server, session(server, query=ONE) as first:
        await first.wire.close()
        async with asyncio.timeout(20), session(server, query=ONE) as second:
            await second.start("EVENTS")


async def test_what_is_no_label_is_refused_before_there_is_a_session(tmp_path: Path):
    async with farm(tmp_path) as server:
        status, body = await refused(server, "ditto", path="/ws/2?declared-acks=x")
        assert (status, body["error"]) == (400, "acknowledgement:label.invalid")


@pytest.mark.parametrize(
    ("label", "code"),
    [
        ("h:two", "acknowledgement:label.not.declared"),
        ("twin-persisted", "acknowledgement:ditto.acklabel.forbidden"),
        ("x", "acknowledgement:label.invalid"),
    ],
)
async def test_what_may_not_be_given_is_answered_with_an_error(tmp_path: Path, label: str, code: str):
    async with farm(tmp_path) as server, session(server, query=ONE) as socket:
        told = {"topic": "demo/T1/things/twin/events/modified", "headers": {"correlation-id": "x"}}
        await acknowledge(socket, told, label)
        error = await socket.receive()
        assert (error["status"], error["value"]["error"]) == (400, code)
        await acknowledge(socket, told, "h:one")
        await socket.start("EVENTS")
        assert socket.aside == [], "one that nobody waits for is let go of"


async def test_late_ones_and_those_of_others_change_nothing(tmp_path: Path):
    async with (
        farm(tmp_path) as server,
        server.client() as client,
        session(server, query=ONE) as one,
        session(server, query="?declared-acks=h:two") as two,
    ):
        await one.start("EVENTS")
        asked = {"requested-acks": "h:one", "timeout": "300ms"}
        silent = await client.put(f"{T1}/attributes/shown", json=1, headers=asked)
        assert (silent.status_code, silent.json()["error"]) == (408, "acknowledgement:request.timeout")
        told = await one.receive()
        await acknowledge(one, told)
        asking = asyncio.create_task(client.put(f"{T1}/attributes/shown", json=2, headers=asked | {"timeout": "20s"}))
        told = await one.receive()
        await acknowledge(two, told, "h:one", 500)
        assert (await two.receive())["value"]["error"] == "acknowledgement:label.not.declared"
        await acknowledge(one, told, status=201)
        await acknowledge(one, told, status=500)
        assert (await asking).status_code == 201


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"requested-acks": ["h:one"], "response-required": False}, "header.invalid"),
        ({"requested-acks": ["h:one"], "timeout": "0"}, "header.invalid"),
        ({"requested-acks": ["x"]}, "header.invalid"),
    ],
)
async def test_a_session_that_asks_must_want_an_answer(tmp_path: Path, headers: dict[str, Any], code: str):
    async with farm(tmp_path) as server, session(server) as socket:
        error = await socket.command("modify", "demo:T1", "/attributes/shown", value=1, headers=headers)
        assert (error["status"], error["value"]["error"]) == (400, code)


async def test_a_message_over_http_waits_for_the_answer_and_for_others(tmp_path: Path):
    async with (
        farm(tmp_path) as server,
        server.client() as client,
        session(server, query=ONE) as device,
        session(server) as other,
    ):
        for socket in (device, other):
            await socket.start("MESSAGES")
        asked = {"requested-acks": "live-response,h:one", "timeout": "20s", "content-type": "text/plain"}
        asking = asyncio.create_task(client.post(f"{T1}/inbox/messages/ask", content="why", headers=asked))
        told, also = await device.receive(), await other.receive()
        assert told["headers"]["requested-acks"] == ["h:one"]
        assert also["headers"]["requested-acks"] == []
        await acknowledge(device, told, status=202)
        reply = {"topic": told["topic"], "path": told["path"], "status": 200, "value": "because"}
        await other.send(
            reply | {"headers": {"correlation-id": also["headers"]["correlation-id"], "content-type": "text/plain"}}
        )
        answer = await asking
        assert answer.status_code == 200
        assert {label: entry["status"] for label, entry in answer.json().items()} == {
            "live-response": 200,
            "h:one": 202,
        }
        assert answer.json()["live-response"]["payload"] == "because"


async def test_a_message_over_websocket_is_answered_with_all_acknowledgements(tmp_path: Path):
    async with farm(tmp_path) as server, session(server, query=ONE) as device, session(server) as asker:
        await device.start("MESSAGES")
        headers = {"requested-acks": ["h:one"], "timeout": "20s", "response-required": True}
        asking = asyncio.create_task(
            asker.ask("demo/T1/things/live/messages/ask", "/inbox/messages/ask", value={"a": 1}, headers=headers)
        )
        told = await device.receive()
        await acknowledge(device, told, status=202)
        reply = {"topic": told["topic"], "path": told["path"], "status": 200, "value": 42}
        await device.send(reply | {"headers": {"correlation-id": told["headers"]["correlation-id"]}})
        found = await asking
        assert (found["topic"], found["status"]) == ("demo/T1/things/live/acks", 200)
        assert {label: entry["status"] for label, entry in found["value"].items()} == {
            "h:one": 202,
            "live-response": 200,
        }


async def test_a_message_that_its_declarer_does_not_listen_to_is_acknowledged_weakly(tmp_path: Path):
    async with farm(tmp_path) as server, server.client() as client, session(server, query=ONE):
        asked = {"requested-acks": "h:one", "response-required": "false", "timeout": "20s"}
        answer = await client.post(f"{T1}/inbox/messages/ask", json=1, headers=asked)
        assert answer.status_code == 202


async def test_an_announcement_is_acknowledged_by_whom_it_concerns(tmp_path: Path):
    async with farm(tmp_path) as server, session(server, "eve", query=ONE) as eve:
        await eve.start("POLICY-ANNOUNCEMENTS")
        announcement = Announcement(
            id="a1", policy_id="demo:T1", subject="nginx:eve", deleted_at=0, labels=("h:one", "h:two"), timeout=20
        )
        announcing = asyncio.create_task(server.streams.announcements.announce(announcement))
        told = await eve.receive()
        assert told["topic"] == "demo/T1/policies/announcements/subjectDeletion"
        assert told["headers"]["requested-acks"] == ["h:one"]
        async with session(server, query="?declared-acks=h:two") as other:
            await acknowledge(other, told, "h:two")
            await acknowledge(eve, told)
            assert await announcing
