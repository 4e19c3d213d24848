"""Acknowledgements over HTTP, given by whoever listens to the changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from skerry.protocol import Ack
from skerry_registry.live.changes import Told, Wanted
from skerry_registry.live.event_filter import parse
from skerry_registry.live.sender import Sender
from wire.http_server import Served, served

DITTO, EVE = ("nginx:ditto",), ("nginx:eve",)
PATH = "/api/2/things/demo:T1"
PATIENT = "timeout=20"


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[tuple[Served, httpx.AsyncClient]]:
    """A server with one thing."""
    async with served(folder) as server, server.client() as client:
        assert (await client.put(PATH, json={"attributes": {"a": 0}})).status_code == 201
        yield server, client


def listen(server: Served, session: str, *labels: str, status: int = 200, **wanted: object) -> Callable[[], None]:
    """A session that acknowledges every change that it is told of at once."""
    server.streams.acks.declare(session, labels)
    sender = Sender(subjects=DITTO, origin=session)

    def take(told: Told) -> None:
        for label in server.streams.acks.shown(session, told.event.headers):
            headers = {"correlation-id": told.event.headers["correlation-id"]}
            given = Ack(id=told.event.id, label=label, status=status, value={"from": session}, headers=headers)
            server.streams.acks.give(given, sender)

    return server.streams.changes.subscribe(Wanted(**{"subjects": DITTO, **wanted}), take, session=session)


async def test_one_acknowledgement_is_the_answer(tmp_path: Path):
    async with watched(tmp_path) as (server, client):
        listen(server, "ws a", "h:one", status=202)
        answer = await client.put(f"{PATH}/attributes/a?requested-acks=h:one&{PATIENT}", json=1)
        assert (answer.status_code, answer.json()) == (202, {"from": "ws a"})


async def test_several_are_a_map_and_the_change_s_own_is_one_of_them(tmp_path: Path):
    async with watched(tmp_path) as (server, client):
        listen(server, "ws a", "h:one")
        listen(server, "ws b", "h:two", status=503)
        asked = {"requested-acks": "twin-persisted,h:one,h:two", "timeout": "20s", "correlation-id": "mine"}
        answer = await client.put(f"{PATH}/attributes/b", json=1, headers=asked)
        assert answer.status_code == 424
        found = answer.json()
        assert {label: entry["status"] for label, entry in found.items()} == {
            "twin-persisted": 201,
            "h:one": 200,
            "h:two": 503,
        }
        assert found["twin-persisted"]["payload"] == 1
        assert found["twin-persisted"]["headers"]["location"].endswith("/attributes/b")
        assert found["h:one"]["headers"]["correlation-id"] == "mine"
        unanswered = await client.put(f"{PATH}/attributes/b", json=1, headers=asked | {"response-required": "false"})
        assert unanswered.status_code == 424
        assert unanswered.json()["h:two"] == {"status": 503}
        asked["requested-acks"] = "h:one,twin-persisted"
        quiet = await client.put(f"{PATH}/attributes/b", json=2, headers=asked | {"response-required": "false"})
        assert (quiet.status_code, quiet.content) == (202, b"")


@pytest.mark.parametrize(
    "wanted",
    [
        {"filter": parse('eq(attributes/a,"no")', 0)},
        {"namespaces": frozenset({"other"})},
        {"ids": frozenset({"demo:T2"})},
        {"path": ("features",)},
        {"subjects": EVE},
    ],
    ids=["filter", "namespace", "id", "path", "rights"],
)
async def test_who_is_not_told_acknowledges_weakly(tmp_path: Path, wanted: dict[str, object]):
    async with watched(tmp_path) as (server, client):
        listen(server, "ws a", "h:one", **wanted)
        answer = await client.put(f"{PATH}/attributes/a?requested-acks=h:one&{PATIENT}", json=1)
        assert answer.status_code == 200
        assert answer.headers["ditto-weak-ack"] == "true"


async def test_who_has_declared_and_not_subscribed_acknowledges_weakly(tmp_path: Path):
    async with watched(tmp_path) as (server, client):
        leave = listen(server, "ws a", "h:one")
        leave()
        answer = await client.put(f"{PATH}/attributes/a?requested-acks=h:one,twin-persisted&{PATIENT}", json=1)
        assert answer.status_code == 200
        assert answer.json()["h:one"]["headers"]["ditto-weak-ack"] is True


async def test_a_refused_change_is_answered_at_once_whoever_should_acknowledge(tmp_path: Path):
    async with watched(tmp_path) as (server, client), server.client("eve") as eve:
        listen(server, "ws a", "h:one")
        refused = await eve.put(f"{PATH}/attributes/a?requested-acks=h:one&{PATIENT}", json=1)
        assert refused.status_code == 403
        failed = await client.put(f"{PATH}/attributes/a?requested-acks=h:one&condition=eq(attributes/a,9)", json=1)
        assert failed.status_code == 412


async def test_many_at_a_time_get_their_own(tmp_path: Path):
    async with watched(tmp_path) as (server, client):
        listen(server, "ws a", "h:one")
        answers = await asyncio.gather(
            *(
                client.put(
                    f"{PATH}/attributes/n{number % 5}?requested-acks=h:one,twin-persisted&{PATIENT}",
                    json=number,
                    headers={"correlation-id": f"c{number % 3}"},
                )
                for number in range(40)
            )
        )
        assert {answer.status_code for answer in answers} == {200}
        assert not server.streams.acks.awaited


async def test_who_still_catches_up_is_waited_for(tmp_path: Path):
    async with watched(tmp_path) as (server, client):
        acks, changes = server.streams.acks, server.streams.changes
        acks.declare("ws a", ("h:one",))
        sender = Sender(subjects=DITTO, origin="ws a")
        crowded, eased = asyncio.Event(), asyncio.Event()

        def take(told: Told) -> None:
            if acks.shown("ws a", told.event.headers):
                headers = {"correlation-id": told.event.headers["correlation-id"]}
                acks.give(Ack(id=told.event.id, label="h:one", status=201, headers=headers), sender)

        async def room() -> None:
            crowded.set()
            await eased.wait()

        resuming = asyncio.create_task(changes.resume(Wanted(subjects=DITTO), 1, take, room, session="ws a"))
        await crowded.wait()
        asking = asyncio.create_task(client.put(f"{PATH}/attributes/a?requested-acks=h:one&{PATIENT}", json=1))
        told = changes.subscribe(Wanted(subjects=DITTO), lambda _: eased.set())
        answer = await asking
        assert answer.status_code == 201, answer.text
        (await resuming)()
        told()
