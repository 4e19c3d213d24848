"""Followers miss nothing, wherever they start; retention forgets what may go and warns of what had to."""

import asyncio
import logging
from pathlib import Path

import pytest

from skerry.signals import Event
from skerry_registry.journal import EventsForgotten, Journal, Retention
from skerry_registry.stores.memory import MemoryStore
from skerry_registry.stores.sqlite import SqliteStore

DAY = 86_400_000_000


def event(revision: int, timestamp: int = 0, thing: str = "demo:T1") -> Event:
    value = {"thingId": thing, "policyId": thing, "attributes": {"n": revision, "text": "x" * 300}}
    return Event(
        kind="thing",
        id=thing,
        action="created" if revision == 1 else "modified",
        revision=revision,
        timestamp=timestamp,
        value=value,
    )


async def journal_of(count: int, keep: int = 20_000, store=None) -> Journal:
    journal = Journal(store or MemoryStore(), keep=keep)
    await journal.open()
    await journal.append([event(n, n * DAY) for n in range(1, count + 1)])
    return journal


async def take(journal: Journal, after: int, upto: int, page: int = 3) -> list[int]:
    numbers: list[int] = []
    async for events in journal.follow(after, page):
        numbers += [each.number for each in events]
        if numbers[-1] >= upto:
            break
    return numbers


@pytest.mark.parametrize("keep", [1, 4, 1_000])
@pytest.mark.parametrize("after", [0, 3, 19])
async def test_a_follower_gets_every_event_once_from_memory_or_store(keep, after):
    journal = await journal_of(20, keep)
    assert await take(journal, after, 20) == list(range(after + 1, 21))


async def test_followers_wait_for_what_is_to_come_and_each_gets_all():
    journal = await journal_of(2)
    tasks = [asyncio.ensure_future(take(journal, after, 30)) for after in (0, 2, 2)]
    for n in range(3, 31):
        await journal.append([event(n)])
        if n % 7 == 0:
            await asyncio.sleep(0)
    assert await tasks[0] == list(range(1, 31))
    assert await tasks[1] == await tasks[2] == list(range(3, 31))


async def test_a_cancelled_follower_does_not_disturb_the_others():
    journal = await journal_of(1)
    one, two = (asyncio.ensure_future(take(journal, 1, 2)) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.wait([one])
    await journal.append([event(2)])
    assert await two == [2]


async def test_a_slow_follower_falls_back_to_the_store_and_misses_nothing():
    journal = await journal_of(1, keep=5)
    numbers: list[int] = []
    following = journal.follow(0, 2)
    numbers += [each.number for each in await anext(following)]
    for n in range(2, 60):
        await journal.append([event(n)])
    async for events in following:
        numbers += [each.number for each in events]
        if numbers[-1] == 59:
            break
    assert numbers == list(range(1, 60))


async def test_commits_that_report_out_of_order_are_followed_in_order():
    class Shuffling(MemoryStore):
        """Reports the first append last."""

        def __init__(self) -> None:
            super().__init__()
            self.gate = asyncio.Event()

        async def append(self, events):
            await super().append(events)
            if events[0].number == 1:
                await self.gate.wait()

    store = Shuffling()
    journal = Journal(store)
    await journal.open()
    first = asyncio.ensure_future(journal.append([event(1)]))
    await asyncio.sleep(0)
    await journal.append([event(2)])
    assert journal.last == 0
    store.gate.set()
    await first
    assert await take(journal, 0, 2) == [1, 2]


async def forget(journal: Journal, store: MemoryStore, now: int = 0, days: float = 0, max_bytes: int = 0) -> None:
    await store.save((), journal.last)
    await Retention(store, journal, lambda: now, days=days, max_bytes=max_bytes).sweep()


async def test_who_asks_for_forgotten_events_is_told():
    store = MemoryStore()
    journal = await journal_of(20, keep=3, store=store)
    await forget(journal, store, now=20 * DAY, days=5)
    with pytest.raises(EventsForgotten, match="starts at number 15; the events after 3"):
        await take(journal, 3, 20)
    assert await take(journal, 14, 20) == list(range(15, 21))


async def test_events_go_by_age_once_every_consumer_has_read_them():
    store = MemoryStore()
    journal = await journal_of(20, store=store)
    await store.move_cursor("search", 9)
    journal.spare("series", lambda: 4)
    await forget(journal, store, now=20 * DAY, days=5)
    assert await store.oldest() == 5
    journal.spare("series", lambda: 20)
    await forget(journal, store, now=20 * DAY, days=5)
    assert await store.oldest() == 10
    await store.move_cursor("search", 20)
    await forget(journal, store, now=20 * DAY, days=5)
    assert await store.oldest() == 15
    await forget(journal, store, now=99 * DAY, days=0)
    assert await store.oldest() == 15


async def test_above_the_bound_the_oldest_go_read_or_not_with_a_warning(caplog, tmp_path: Path):
    async with SqliteStore(tmp_path) as store:
        journal = await journal_of(3_000, store=store)
        await store.save([await store.load("thing", "demo:T1")], journal.last)
        journal.spare("series", lambda: 100)
        bound = await store.size() // 2
        with caplog.at_level(logging.WARNING):
            await Retention(store, journal, lambda: 0, days=0, max_bytes=bound).sweep()
        assert await store.size() <= bound
        assert 101 < await store.oldest() < 3_000
        lost = [record for record in caplog.records if "lost" in record.message]
        assert lost[-1].last == await store.oldest() - 1
        assert lost[-1].consumers == {"series": 100}
        file = tmp_path / "journal.db"
        assert file.stat().st_size > 0
