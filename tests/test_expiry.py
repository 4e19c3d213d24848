"""Subjects leave policies when their time is over, and that is announced as their policy says."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from skerry import times
from skerry.signals import Command, Event
from skerry_policies.document import Terms
from skerry_registry.announcements import Announcement, Announcements
from skerry_registry.expiry import ROOM, Expiry
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore

START = 1_800_000_000_000_000
SECOND = 1_000_000
RIGHTS: dict[str, Any] = {"grant": ["READ", "WRITE"], "revoke": []}
ALL = {"thing:/": RIGHTS, "policy:/": RIGHTS}


class World:
    """A registry with a clock that is set by hand."""

    def __init__(self, store: MemoryStore) -> None:
        self.now = START
        numbers = itertools.count(1)
        self.registry = Registry(
            store,
            lambda: self.now,
            lambda: f"id-{next(numbers)}",
            policy_terms=Terms(expiry_granularity=1, announcement_granularity=1),
        )
        self.announcements = Announcements()
        self.expiry = Expiry(self.registry, store, self.announcements)
        self.events: list[Event] = []
        self.registry.on_settled(lambda commit: self.events.extend(commit.events))
        self.heard: list[Announcement] = []
        self.announcements.subscribe(("x:guest",), self.heard.append)

    async def put(self, guest: dict[str, Any] | None, *, policy_id: str = "a:p") -> None:
        subjects = {"x:owner": {"type": "t"}}
        if guest is not None:
            subjects["x:guest"] = {"type": "t", **guest}
        value = {"entries": {"all": {"subjects": subjects, "resources": ALL}}}
        command = Command(verb="modify", kind="policy", id=policy_id, subjects=("x:owner",), value=value)
        await self.registry.handle(command)

    async def subjects(self, policy_id: str = "a:p") -> list[str]:
        path = ("entries", "all", "subjects")
        read = Command(verb="retrieve", kind="policy", id=policy_id, subjects=("x:owner",), path=path)
        return sorted((await self.registry.handle(read)).value)

    def pass_seconds(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
        self.expiry.look()

    def ends(self, seconds: float) -> str:
        return times.write(START + int(seconds * SECOND))


@asynccontextmanager
async def world(store: MemoryStore | None = None) -> AsyncIterator[World]:
    made = World(store or MemoryStore())
    async with made.registry:
        running = asyncio.create_task(made.expiry.run())
        try:
            yield made
        finally:
            running.cancel()
            await asyncio.wait([running])


async def until(holds: Callable[[], Any], seconds: float = 10) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - the work of other tasks
            await asyncio.sleep(0.001)


async def settled(one: World, revision: int) -> None:
    """Wait until the policy has come to a revision."""
    await until(lambda: one.registry.memory.held("policy", "a:p").revision >= revision)


async def quiet(one: World) -> None:
    """Let everything that is due at this moment happen."""
    one.expiry.look()
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_subject_leaves_when_its_time_is_over_with_one_event():
    async with world() as one:
        await one.put({"expiry": one.ends(10)})
        one.pass_seconds(9.9)
        await quiet(one)
        assert await one.subjects() == ["x:guest", "x:owner"]
        one.pass_seconds(0.1)
        await settled(one, 2)
        assert await one.subjects() == ["x:owner"]
        event = one.events[-1]
        assert (event.action, event.path) == ("deleted", ("entries", "all", "subjects", "x:guest"))
        assert one.registry.memory.held("policy", "a:p").revision == 2


async def test_after_a_restart_what_was_due_is_done():
    store = MemoryStore()
    async with world(store) as one:
        await one.put({"expiry": one.ends(10)})
    async with world(store) as one:
        one.now = START + 3600 * SECOND
        one.expiry.look()
        await one.registry.memory.bring("policy", ["a:p"])
        await settled(one, 2)
        assert await one.subjects() == ["x:owner"]


async def test_an_expiry_that_is_put_off_counts_from_then():
    async with world() as one:
        await one.put({"expiry": one.ends(10)})
        await one.put({"expiry": one.ends(100)})
        one.pass_seconds(50)
        await quiet(one)
        assert await one.subjects() == ["x:guest", "x:owner"]
        one.pass_seconds(50)
        await settled(one, 3)
        assert await one.subjects() == ["x:owner"]


async def test_an_expiry_that_is_put_off_again_and_again_leaves_nothing_behind():
    async with world() as one:
        for number in range(2_500):
            await one.put({"expiry": one.ends(1_000 + number)})
        assert len(one.expiry._heap) <= ROOM
        one.pass_seconds(1_000 + 2_499)
        await settled(one, 2_501)
        assert await one.subjects() == ["x:owner"]


def announcing(ends: str | None, **facts: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"announcement": {"randomizationInterval": "0s", **facts}}
    return found if ends is None else {"expiry": ends, **found}


async def test_the_end_is_announced_before_and_not_again():
    async with world() as one:
        await one.put(announcing(one.ends(100), beforeExpiry="10s", whenDeleted=True))
        one.pass_seconds(89)
        await quiet(one)
        assert one.heard == []
        one.pass_seconds(1)
        await until(lambda: one.heard)
        assert (one.heard[0].policy_id, one.heard[0].deleted_at) == ("a:p", START + 100 * SECOND)
        assert await one.subjects() == ["x:guest", "x:owner"]
        one.pass_seconds(10)
        await settled(one, 2)
        await quiet(one)
        assert len(one.heard) == 1


@pytest.mark.parametrize("expiring", [False, True])
async def test_a_deletion_is_announced_at_once(expiring: bool):
    async with world() as one:
        await one.put(announcing(one.ends(100) if expiring else None, whenDeleted=True))
        one.pass_seconds(100 if expiring else 5)
        if not expiring:
            await one.put(None)
        await until(lambda: one.heard)
        assert one.heard[0].deleted_at == one.now
        await quiet(one)
        assert (len(one.heard), await one.subjects()) == (1, ["x:owner"])


async def test_an_announcement_is_tried_until_it_is_acknowledged_and_the_subject_stays_so_long():
    async with world() as one:
        acks = {"labels": ["a:b", "c:d"], "timeout": "20s"}
        await one.put(announcing(one.ends(100), beforeExpiry="10s", requestedAcks=acks))
        one.pass_seconds(90)
        await until(lambda: one.heard)
        assert (one.heard[0].labels, one.heard[0].timeout) == (("a:b", "c:d"), 20)
        one.announcements.acknowledge(one.heard[0].id, "a:b", 200)
        one.announcements.acknowledge(one.heard[0].id, "c:d", 503)
        await quiet(one)
        one.pass_seconds(10)  # past the retry and past the end
        await until(lambda: len(one.heard) == 2)
        await quiet(one)
        assert await one.subjects() == ["x:guest", "x:owner"]
        for label in ("a:b", "c:d", "e:f"):
            one.announcements.acknowledge(one.heard[1].id, label, 200)
        await settled(one, 2)
        assert await one.subjects() == ["x:owner"]
        one.pass_seconds(1_000)
        await quiet(one)
        assert len(one.heard) == 2


async def test_a_grace_has_an_end():
    async with world() as one:
        await one.put(announcing(one.ends(100), beforeExpiry="10s", requestedAcks={"labels": ["a:b"]}))
        one.pass_seconds(90)
        await until(lambda: one.heard)
        one.now += 5 * 3600 * SECOND
        one.announcements.acknowledge(one.heard[0].id, "a:b", 408)
        await settled(one, 2)
        assert (await one.subjects(), len(one.heard)) == (["x:owner"], 1)


async def test_a_subject_that_nobody_delivers_to_gets_nothing_and_who_leaves_hears_no_more():
    announcements = Announcements()
    heard: list[Announcement] = []
    leave = announcements.subscribe(("x:a", "x:b"), heard.append)
    for subject in ("x:b", "x:c"):
        assert await announcements.announce(Announcement(id=subject, policy_id="a:p", subject=subject, deleted_at=1))
    leave()
    await announcements.announce(Announcement(id="3", policy_id="a:p", subject="x:a", deleted_at=1))
    assert [one.subject for one in heard] == ["x:b"]
    late = Announcement(id="4", policy_id="a:p", subject="x:a", deleted_at=1, labels=("l:l",), timeout=0.01)
    assert not await announcements.announce(late)
