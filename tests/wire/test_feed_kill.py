"""A server that is killed under a hundred readers who resume: each one's sequence is the journal's, no gap and no double."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from skerry.signals import Event
from skerry_process import Skerry, skerry_in
from skerry_registry.stores.sqlite import SqliteStore

READERS = int(os.environ.get("SKERRY_TEST_READERS", "100"))
ROUNDS = int(os.environ.get("SKERRY_TEST_ROUNDS", "2"))
CHANGES = int(os.environ.get("SKERRY_TEST_CHANGES", "120"))
THINGS = 6
PAUSE = 0.05
PATIENCE = 60.0
RIGHTS = {key: {"grant": ["READ", "WRITE"], "revoke": []} for key in ("thing:/", "policy:/")}
READING = {"thing:/attributes/open": {"grant": ["READ"], "revoke": []}}
POLICY = {
    "entries": {
        "owner": {"subjects": {"nginx:ditto": {"type": ""}}, "resources": RIGHTS},
        "eve": {"subjects": {"nginx:eve": {"type": ""}}, "resources": READING},
    }
}
AWAY = (httpx.HTTPError, OSError, websockets.WebSocketException, EOFError)


class Reader:
    """Reads for ever in one way, and after each break goes on behind the last number that it has had."""

    def __init__(self, server: Skerry, name: str, first: int, moved: asyncio.Event) -> None:
        self.url = server.url
        self.moved = moved
        self.name = name
        self.first = self.place = first
        self.numbers: list[int] = []

    def had(self, number: int) -> None:
        self.numbers.append(number)
        self.reach(number)

    def reach(self, number: int) -> None:
        self.place = max(number, self.place)
        self.moved.set()

    async def run(self, read: Callable[[Reader], Awaitable[None]]) -> None:
        while True:
            try:
                await read(self)
            except AWAY:
                await asyncio.sleep(PAUSE)


async def by_feed(reader: Reader) -> None:
    async with httpx.AsyncClient(base_url=reader.url, auth=(reader.name, reader.name), timeout=40) as client:
        while True:
            answer = await client.get("/api/2/feed", params={"after": reader.place, "limit": 20, "timeout": "20s"})
            answer.raise_for_status()
            found = answer.json()
            for item in found["items"]:
                assert item["event"]["headers"]["skerry-number"] == item["number"]
                reader.had(item["number"])
            reader.reach(found["next"])


async def by_events(reader: Reader) -> None:
    headers = {"accept": "text/event-stream", "last-event-id": str(reader.place)}
    async with (
        httpx.AsyncClient(base_url=reader.url, auth=(reader.name, reader.name), timeout=40) as client,
        client.stream("GET", "/api/2/things", headers=headers) as answer,
    ):
        if answer.status_code != 200:
            raise OSError(answer.status_code)
        number, data = 0, ""
        async for line in answer.aiter_lines():
            name, _, value = line.partition(":")
            if name == "id":
                number = int(value)
            elif name == "data":
                data = value.strip()
            elif not line:
                if data:
                    reader.had(number)
                reader.reach(number)
                number, data = 0, ""


async def by_socket(reader: Reader) -> None:
    login = base64.b64encode(f"{reader.name}:{reader.name}".encode()).decode()
    async with websockets.connect(
        reader.url.replace("http", "ws", 1) + "/ws/2",
        additional_headers={"authorization": f"Basic {login}"},
        proxy=None,
    ) as socket:
        await socket.send(f"START-SEND-EVENTS?resume-from={reader.place}")
        async for text in socket:
            if str(text).startswith("{"):
                reader.had(json.loads(text)["headers"]["skerry-number"])


WAYS = (by_feed, by_events, by_socket)


def expected(events: list[Event], name: str, after: int) -> list[int]:
    """What a reader must have been told: ditto of every change, eve of those of one attribute."""
    mine = [event for event in events if event.kind == "thing" and event.number > after]
    if name == "ditto":
        return [event.number for event in mine]
    return [event.number for event in mine if not event.path or event.path == ("attributes", "open")]


async def until(true: Callable[[], bool], moved: asyncio.Event) -> None:
    """Look again whenever a reader has moved."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            moved.clear()
            await moved.wait()


async def write(server: Skerry, chance: random.Random) -> None:
    """Changes of which some are seen by everybody, some by the owner only."""
    async with httpx.AsyncClient(base_url=server.url, auth=("ditto", "ditto"), timeout=40) as client:
        for _ in range(CHANGES // 4):
            path = chance.choice(["open", "open", "closed"])
            things = chance.sample(range(THINGS), 4)
            puts = [client.put(f"/api/2/things/x:T{one}/attributes/{path}", json=chance.random()) for one in things]
            for answer in await asyncio.gather(*puts):
                answer.raise_for_status()


@pytest.mark.timeout(180)
async def test_no_reader_misses_a_change_or_has_one_twice_though_the_server_is_killed(tmp_path: Path) -> None:
    chance = random.Random(5)
    with skerry_in(tmp_path) as server:
        assert server.run("user", "add", "eve", "--password", "eve").returncode == 0
        server.process.stop()
        server.process.start()
        with server.client() as client:
            assert client.put("/api/2/policies/x:p", json=POLICY).status_code == 201
            for number in range(THINGS):
                thing: dict[str, Any] = {"policyId": "x:p", "attributes": {"open": 0, "closed": 0}}
                assert client.put(f"/api/2/things/x:T{number}", json=thing).status_code == 201
            start = client.get("/api/2/feed", params={"after": "latest"}).json()["next"]
        moved = asyncio.Event()
        readers = [Reader(server, "eve" if place // 3 % 3 == 1 else "ditto", start, moved) for place in range(READERS)]
        reading = [asyncio.create_task(one.run(WAYS[place % 3])) for place, one in enumerate(readers)]
        try:
            for _ in range(ROUNDS):
                writing = asyncio.create_task(write(server, chance))
                some = sum(len(one.numbers) for one in readers) + READERS * chance.randint(5, 20)
                await until(lambda some=some: sum(len(one.numbers) for one in readers) > some, moved)
                server.process.kill()
                await asyncio.gather(writing, return_exceptions=True)
                server.process.start()
                await write(server, chance)
            with server.client() as client:
                last = client.put("/api/2/things/x:T0/attributes/open", json="last").status_code
                assert last == 204
                end = client.get("/api/2/feed", params={"after": "latest"}).json()["next"]
            await until(
                lambda: all(task.done() or one.place >= end for one, task in zip(readers, reading, strict=True)), moved
            )
            assert [task.exception() for task in reading if task.done()] == []
        finally:
            for task in reading:
                task.cancel()
            await asyncio.wait(reading)
        server.process.stop()
        async with SqliteStore(server.data) as store:
            events = await store.read(0, 1_000_000)
    assert len(events) > ROUNDS * CHANGES
    for reader in readers:
        assert reader.numbers == expected(events, reader.name, reader.first)
