"""Sessions that ask too much, take too little, or go away."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from msgspec import structs

from skerry_registry.settings import Settings
from wire.http_server import Served, served
from wire.sessions import PATIENCE, Socket, session

pytestmark = pytest.mark.usefixtures("no_task_left")


async def gauge(server: Served, name: str) -> float:
    async with server.client("devops") as operator:
        lines = (await operator.get("/metrics")).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(name)))


async def test_frames_over_the_bound_are_refused_and_the_session_stays(tmp_path: Path) -> None:
    settings = structs.replace(Settings(), ws_frames_per_second=20)
    async with served(tmp_path, settings=settings) as server, session(server) as socket:
        envelope = {"topic": "ns/t1/things/twin/commands/retrieve", "path": "/"}
        for number in range(200):
            await socket.send(envelope | {"headers": {"correlation-id": f"{number}"}})
        answers = [await socket.receive() for _ in range(200)]
        codes = [answer["value"]["error"] for answer in answers]
        assert set(codes) == {"too.many.requests", "things:thing.notfound"}
        assert {answer["headers"]["correlation-id"] for answer in answers} == {str(number) for number in range(200)}


async def test_a_reader_that_stalls_is_let_go_of_and_slows_nobody(tmp_path: Path) -> None:
    async with served(tmp_path) as server, session(server) as writer, session(server) as reader:
        await reader.start("EVENTS")
        await writer.command("create", "ns:t1", value={})
        await reader.receive()
        async with session(server) as stalled:
            await stalled.start("EVENTS")
            stalled.wire.transport.pause_reading()
            value = "x" * 90_000
            sent = 0
            while not await gauge(server, "skerry_ws_slow"):
                for _ in range(20):
                    reply = await writer.command("modify", "ns:t1", "/attributes/a", value=f"{value}{sent}")
                    assert reply["status"] in {201, 204}
                    sent += 1
                    assert (await reader.receive())["value"] == f"{value}{sent - 1}"
                assert sent < 2_000
            stalled.wire.transport.resume_reading()
            code, reason = await stalled.closed()
            assert code == 1006 or (code == 1013 and "wait for you" in reason)
        assert (await writer.command("modify", "ns:t1", "/attributes/a", value="last"))["status"] == 204
        assert (await reader.receive())["value"] == "last"


async def test_a_client_that_takes_no_answers_is_not_read_on(tmp_path: Path) -> None:
    async with served(tmp_path) as server, session(server) as greedy, session(server) as other:
        await greedy.command("create", "ns:t1", value={"attributes": {"long": "x" * 90_000}})
        greedy.wire.transport.pause_reading()
        envelope = json.dumps({"topic": "ns/t1/things/twin/commands/retrieve", "path": "/", "headers": {}})
        sending = asyncio.create_task(send_many(greedy, envelope, 3_000))
        for _ in range(50):
            assert (await other.command("retrieve", "ns:t1"))["status"] == 200
        greedy.wire.transport.resume_reading()
        answers = [await greedy.receive() for _ in range(3_000)]
        assert {answer["status"] for answer in answers} == {200}
        await sending


async def test_what_waits_for_others_is_bounded_by_its_size(tmp_path: Path) -> None:
    async with served(tmp_path) as server, session(server) as socket:
        await socket.command("create", "ns:t1", value={})
        ask = {"topic": "ns/t1/things/live/messages/ask", "path": "/inbox/messages/ask", "value": "x" * 240_000}
        headers = {"content-type": "text/plain", "timeout": "60s"}
        for number in range(75):
            await socket.send(ask | {"headers": headers | {"correlation-id": f"{number}"}})
        refused = await socket.receive()
        assert refused["value"]["error"] == "too.many.requests"
        assert int(refused["headers"]["correlation-id"]) * 240_000 > 16_000_000
        while refused["headers"]["correlation-id"] != "74":
            refused = await socket.receive()
        assert (await socket.command("retrieve", "ns:t1"))["status"] == 200


async def send_many(socket: Socket, envelope: str, count: int) -> None:
    for _ in range(count):
        await socket.send(envelope)


async def test_sessions_that_vanish_leave_nothing_behind(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        for _ in range(20):
            async with session(server, declared_acks='["my:label"]') as socket:
                for sort in ("EVENTS", "MESSAGES", "LIVE-COMMANDS", "LIVE-EVENTS", "POLICY-ANNOUNCEMENTS"):
                    await socket.start(sort)
                await socket.send(
                    {"topic": "_/_/things/twin/search/subscribe", "path": "/", "headers": {}, "value": {}}
                )
                await socket.receive()
                socket.wire.transport.abort()
            async with asyncio.timeout(PATIENCE):
                while await gauge(server, "skerry_ws_sessions"):
                    pass
        async with session(server, declared_acks='["my:label"]') as socket:
            assert (await socket.command("create", "ns:t1", value={}))["status"] == 201


async def test_a_reader_that_comes_back_too_late_is_told_so(tmp_path: Path) -> None:
    async with served(tmp_path) as server, session(server) as socket:
        await socket.command("create", "ns:t1", value={})
        for value in range(20):
            await socket.command("modify", "ns:t1", "/attributes/a", value=value)
        journal, store = server.registry.journal, server.registry._store
        await store.save([], journal.last)
        await store.trim(10)
        journal._recent.clear()
        error = json.loads(await socket.say("START-SEND-EVENTS?resume-from=3&correlation-id=late"))
        assert (error["status"], error["value"]["error"]) == (410, "journal.events.forgotten")
        assert error["headers"]["correlation-id"] == "late"
        await socket.start("EVENTS", f"resume-from={error['value']['oldest'] - 1}")
        async with session(server) as other:
            await other.command("modify", "ns:t1", "/attributes/a", value="last")
        while (await socket.receive())["value"] != "last":
            continue
