"""Sessions on a wire in memory: what becomes of them when their logins do not count any more, and how they treat the wire."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from skerry_registry.identities.logins import Identities
from skerry_registry.live.streams import Streams
from skerry_registry.registry import Registry
from skerry_registry.search.search import Search
from skerry_registry.settings import Settings
from skerry_registry.stores.memory import MemoryStore
from skerry_registry.users import Users
from skerry_registry.ws.session import BEHIND, MUCH, Session
from skerry_registry.ws.sessions import Sessions
from skerry_registry.ws.wire import Handshake

pytestmark = pytest.mark.usefixtures("no_task_left")

START = 1_700_000_000_000_000
PATIENCE = 20.0


class MemoryWire:
    """A connection whose client takes everything, or (`full`) nothing."""

    def __init__(self) -> None:
        self.frames: list[str] = []
        self.closing: tuple[int, str] | None = None
        self.paused = False
        self.full = 0
        self.changed = asyncio.Event()

    @property
    def waiting(self) -> int:
        return self.full

    def send(self, frame: bytes) -> None:
        head = {126: 4, 127: 10}.get(frame[1], 2)
        self.frames.append(frame[head:].decode())
        self.changed.set()

    def close(self, code: int, reason: str) -> None:
        self.closing = (code, reason)
        self.changed.set()

    def abort(self) -> None:
        self.close(1006, "")

    def pause(self) -> None:
        self.paused = True
        self.changed.set()

    def resume(self) -> None:
        self.paused = False
        self.changed.set()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(PATIENCE):
            while not true():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def opened(sessions: Sessions, login: str = "ditto", **headers: str) -> AsyncIterator[tuple[Session, MemoryWire]]:
    given = {"authorization": "Basic " + base64.b64encode(f"{login}:{login}".encode()).decode(), **headers}
    handshake = Handshake(
        path=b"/ws/2",
        query_string=b"",
        headers=tuple((name.encode(), value.encode()) for name, value in given.items()),
        client="10.0.0.7",
    )
    session = await sessions.open(handshake)
    assert isinstance(session, Session)
    wire = MemoryWire()
    session.opened(wire)
    try:
        yield session, wire
    finally:
        session.closed()


@pytest.fixture
def users(tmp_path: Path) -> Users:
    users = Users.load(tmp_path / "users.json", recheck=0)
    users.add("ditto", "ditto")
    users.add("eve", "eve")
    return users


@pytest.fixture
async def sessions(tmp_path: Path, users: Users) -> AsyncIterator[Sessions]:
    times, ids = itertools.count(START, 1_000), itertools.count(1)

    def clock() -> int:
        return next(times)

    settings = structs.replace(Settings(), data_dir=str(tmp_path))
    store = MemoryStore()
    registry = Registry(store, clock, lambda: f"id{next(ids)}-x")
    async with Identities.of(settings, users, clock) as identities, registry, Search(registry, store) as search:
        yield Sessions(
            registry,
            identities,
            settings,
            streams=Streams.of(registry),
            search=search,
            new_id=registry.new_id,
            recheck=0.05,
        )


def command(number: int, **more: Any) -> str:
    topic = "ns/t1/things/twin/commands/retrieve"
    return json.dumps({"topic": topic, "path": "/", "headers": {"correlation-id": f"c{number}"}} | more)


async def test_a_session_ends_when_its_user_is_withdrawn(sessions: Sessions, users: Users) -> None:
    async with opened(sessions) as (_, wire), opened(sessions, "eve") as (other, others):
        users.remove("ditto")
        await wire.until(lambda: wire.closing is not None)
        assert json.loads(wire.frames[-1])["value"]["error"] == "gateway:websocket.session.closed"
        other.received("START-SEND-EVENTS")
        assert others.frames == ["START-SEND-EVENTS:ACK"]


async def test_a_session_ends_when_its_password_is_another(sessions: Sessions, users: Users) -> None:
    async with opened(sessions) as (_, wire):
        users.add("ditto", "other")
        await wire.until(lambda: wire.closing is not None)
        assert wire.closing is not None
        assert wire.closing[0] == 1000


async def test_a_session_with_much_under_way_is_not_read_on_until_some_is_done(sessions: Sessions) -> None:
    async with opened(sessions) as (session, wire):
        for number in range(100):
            session.received(command(number))
        assert wire.paused
        await wire.until(lambda: len(wire.frames) == 100)
        await wire.until(lambda: not wire.paused)


async def test_a_session_whose_answers_are_not_taken_is_not_read_on(sessions: Sessions) -> None:
    async with opened(sessions) as (session, wire):
        wire.full = 100_000
        session.received(command(1))
        await wire.until(lambda: wire.paused)
        wire.full = 0
        session.drained()
        assert not wire.paused


def change(number: int) -> str:
    members = {"topic": "ns/t1/things/twin/commands/modify", "path": "/", "value": {"attributes": {"a": number}}}
    return json.dumps(members | {"headers": {}})


async def test_all_that_clients_have_not_taken_together_is_bounded(sessions: Sessions) -> None:
    sort = "START-SEND-EVENTS"
    async with (
        opened(sessions) as (writer, answers),
        opened(sessions) as (first, one),
        opened(sessions) as (second, two),
    ):
        for session in (first, second):
            session.received(sort)
        one.full, two.full = MUCH, MUCH - 1

        async def touch() -> None:
            before = len(answers.frames)
            writer.received(change(before))
            await answers.until(lambda: len(answers.frames) > before)

        await touch()
        assert sessions._shared.counts.behind == one.full + two.full
        assert one.closing is None
        sessions._shared.counts.behind += BEHIND
        await touch()
        assert one.closing is not None
        assert one.closing[0] == 1013
        assert two.closing is None
        sessions._shared.counts.behind += BEHIND
        await touch()
        assert two.closing is not None
        sessions._shared.counts.behind -= 2 * BEHIND
        first.closed()
        second.closed()
        assert sessions._shared.counts.behind == 0


async def test_who_catches_up_is_behind_no_longer(sessions: Sessions) -> None:
    async with opened(sessions) as (writer, answers), opened(sessions) as (reader, wire):
        reader.received("START-SEND-EVENTS")
        for full, behind in ((100_000, 100_000), (200_000, 200_000), (10, 10)):
            before = len(answers.frames)
            wire.full = full
            writer.received(change(full))
            await answers.until(lambda: len(answers.frames) > before)  # noqa: B023 - awaited in its turn
            assert sessions._shared.counts.behind == behind
        reader.drained()
        assert sessions._shared.counts.behind == 0


async def test_what_is_sent_after_the_end_is_passed_over(sessions: Sessions) -> None:
    async with opened(sessions) as (session, wire):
        session.received("START-SEND-EVENTS")
        session.closed()
        session.received(command(1))
        session.drained()
        assert wire.frames == ["START-SEND-EVENTS:ACK"]


async def test_a_client_that_leaves_in_the_handshake_leaves_nothing_behind(sessions: Sessions) -> None:
    handshake = Handshake(
        path=b"/ws/2",
        query_string=b"",
        headers=((b"authorization", b"Basic " + base64.b64encode(b"ditto:ditto")),),
        client="10.0.0.7",
    )
    session = await sessions.open(handshake)
    assert isinstance(session, Session)
    session.closed()
    assert [gauge.read() for gauge in sessions.gauges() if gauge.name == "ws_sessions"] == [0]


TOPICS = [
    *("ns/t1/things/twin/commands/modify", "ns/t1/things/live/commands/modify", "ns/t1/things/live/messages/a//b"),
    *("ns/t1/things/live/events/modified", "ns/t1/things/twin/acks/my:label", "ns/t1/things/twin/acks", "_/_/_/_/_"),
    *("_/_/things/twin/search/subscribe", "_/_/things/twin/search/request", "_/_/things/twin/search", "/////", ""),
    *("ns/t1/things/twin/streaming/subscribeForPersistedEvents", "ns/t1/things/twin/streaming/cancel", "x" * 1_000),
    *("ns/p1/policies/commands/create", "_/_/policies/commands/checkPermissions", "ns/t1/things/twin/commands/migrate"),
    *("_/_/things/twin/commands/retrieve", "ns/p1/policies/announcements/subjectDeletion", "ns/t1/things/live/errors"),
]
VALUES: list[Any] = [
    None,
    0,
    -1.5,
    True,
    "",
    "\ud800",
    "x" * 5_000,
    [],
    [[]],
    {},
    {"": {"": None}},
    {"subscriptionId": 1},
]
HEADERS: list[Any] = [
    *(None, 1, [], "x", {"correlation-id": 5}, {"correlation-id": ""}, {"timeout": {}}, {"timeout": "0"}),
    *({"requested-acks": {}}, {"requested-acks": [1]}, {"response-required": "x"}, {"declared-acks": 1}, {"": ""}),
    *({"live-channel-condition": "eq("}, {"condition": "eq("}, {"if-match": "x"}, {"at-historical-revision": "x"}),
]
CONTROLS = [
    "START-SEND-EVENTS?%",
    "START-SEND-EVENTS?filter=%ff%fe(",
    "START-SEND-MESSAGES?filter=",
    "STOP-SEND-EVENTS?==",
]


async def test_no_frame_breaks_a_session(sessions: Sessions, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(sessions) as (session, wire):
        for text in (*CONTROLS, "[" * 50_000, "{" * 50_000, '{"topic":1e999}', "\x00", '{"a":1}x', "JWT" * 10):
            session.received(text)
        for topic in TOPICS:
            for path in ("/", "", "x", "/attributes/~2", "/features/f/inbox/messages/a//b", 5, None):
                session.received(json.dumps({"topic": topic, "path": path, "value": {}, "headers": {"timeout": "1ms"}}))
            for value in VALUES:
                session.received(
                    json.dumps({"topic": topic, "path": "/", "value": value, "headers": {"timeout": "1ms"}})
                )
                session.received(json.dumps({"topic": topic, "path": "/", "value": value, "status": value}))
            for headers in HEADERS:
                session.received(json.dumps({"topic": topic, "path": "/", "value": {}, "headers": headers}))
        session.received(command(1))
        await wire.until(lambda: any('"c1"' in frame for frame in wire.frames))
        assert wire.closing is None
        assert not any('"internalerror"' in frame for frame in wire.frames)
        assert not [record.message for record in caplog.records if record.levelname == "ERROR"]
