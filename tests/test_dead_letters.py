# ruff: noqa: N818 - errors are rows of a table
"""The store of dead letters."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skerry.errors import SkerryError
from skerry_adapters.dead_letters import (
    CUT_PAYLOAD,
    FULL_PAYLOAD,
    DeadLetter,
    DeadLetters,
    DeadLettersUnavailable,
    letter,
)


class Refused(SkerryError):
    code = "test:refused"
    status = 400
    message = "Refused: {cause}."


class Away(SkerryError):
    code = "test:away"
    status = 503
    message = "The store is away."


def dead(topic: str, payload: bytes = b"{}", time: int = 1) -> DeadLetter:
    return letter(topic, payload, 1, ("nginx:x",), "s", time, Refused(cause=topic))


async def until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not ready():  # noqa: ASYNC110 - another process may be what changes
            await asyncio.sleep(0.005)


@pytest.fixture
def letters(tmp_path: Path) -> Iterator[DeadLetters]:
    store = DeadLetters(tmp_path, most=5)
    yield store
    store.close()


def test_a_letter_is_kept_as_it_came(letters: DeadLetters, tmp_path: Path) -> None:
    letters.add_many([dead("a/b", b"\xff\x00", 7)])
    letters.close()
    other = DeadLetters(tmp_path)
    [kept] = other.list()
    other.close()
    assert (kept.topic, kept.payload, kept.time, kept.source, kept.qos, kept.size) == ("a/b", b"\xff\x00", 7, "s", 1, 2)
    assert (kept.code, kept.reason, kept.subjects) == (
        "test:refused",
        {"status": 400, "error": "test:refused", "message": "Refused: a/b."},
        ("nginx:x",),
    )
    assert (kept.attempts, kept.requested) == (1, False)


def test_the_newest_are_kept_and_listed_first(letters: DeadLetters) -> None:
    for n in range(4):
        letters.add_many([dead(f"t{n}a"), dead(f"t{n}b")])
    assert letters.count() == 5
    assert [kept.topic for kept in letters.list()] == ["t3b", "t3a", "t2b", "t2a", "t1b"]
    letters.add_many([dead(f"u{n}") for n in range(9)])
    assert [kept.topic for kept in letters.list()] == ["u8", "u7", "u6", "u5", "u4"]


def test_a_list_can_be_paged_and_searched(letters: DeadLetters) -> None:
    letters.add_many([dead(f"t{n}") for n in range(5)])
    first = letters.list(limit=2)
    assert [kept.topic for kept in letters.list(limit=2, after=first[-1].id)] == ["t2", "t1"]
    assert [kept.topic for kept in letters.list(contains="t3")] == ["t3"]
    assert len(letters.list(contains="refused")) == 5
    assert letters.list(contains="100%") == []


def test_a_payload_beyond_the_limit_is_cut_and_says_so(letters: DeadLetters) -> None:
    letters.add_many([dead("big", b"x" * (FULL_PAYLOAD + 1)), dead("fits", b"x" * FULL_PAYLOAD)])
    fits, big = letters.list()
    assert (len(fits.payload), fits.size) == (FULL_PAYLOAD, FULL_PAYLOAD)
    assert (len(big.payload), big.size) == (CUT_PAYLOAD, FULL_PAYLOAD + 1)


def test_a_second_process_reads_and_asks_beside_the_first(letters: DeadLetters, tmp_path: Path) -> None:
    letters.add_many([dead("a"), dead("b"), dead("c")])
    beside = DeadLetters(tmp_path)
    b = next(kept for kept in beside.list() if kept.topic == "b")
    assert beside.request_replay([b.id, 12345]) == 1
    assert [kept.topic for kept in letters.requested()] == ["b"]
    assert beside.request_replay("all") == 3
    assert [kept.topic for kept in letters.requested()] == ["a", "b", "c"]
    beside.close()


def test_writers_of_two_processes_do_not_lock_each_other_out(letters: DeadLetters, tmp_path: Path) -> None:
    beside = DeadLetters(tmp_path)
    threads = [
        threading.Thread(target=lambda store=store: [store.add_many([dead("x")]) for _ in range(20)])  # type: ignore[misc]
        for store in (letters, beside)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(kept.id for kept in beside.list()) == 40
    beside.close()


async def test_the_watch_settles_what_is_asked_for(letters: DeadLetters) -> None:
    await letters.keep([dead("good"), dead("bad"), dead("big", b"x" * (FULL_PAYLOAD + 1))])
    tried: list[str] = []

    async def again(dead: DeadLetter) -> SkerryError | None:
        tried.append(dead.topic)
        if len(tried) == 1:
            return Away()
        return None if dead.topic == "good" else Refused(cause="still")

    watching = asyncio.create_task(letters.watch(again))
    letters.request_replay("all")
    await until(lambda: not letters.requested())
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert tried == ["good", "good", "bad"], "what the server failed at is asked again, in order"
    big, bad = letters.list()
    assert (bad.topic, bad.attempts, bad.reason["message"]) == ("bad", 2, "Refused: still.")
    assert (big.topic, big.code) == ("big", "deadletters.cut")


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    nowhere = DeadLetters(tmp_path / "nowhere")
    with pytest.raises(DeadLettersUnavailable, match=r"nowhere.*cannot be used"):
        nowhere.add_many([dead("a")])
    (tmp_path / "dead-letters.sqlite").write_bytes(b"this is no database, however long it may go on" * 50)
    broken = DeadLetters(tmp_path)
    with pytest.raises(DeadLettersUnavailable, match="not a database"):
        broken.list()
    broken.close()
