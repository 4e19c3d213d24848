"""Limits of time are kept as asyncio keeps them, although nothing is set up where nothing waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from skerry_registry.patience import within

T = TypeVar("T")


async def passed(future: Awaitable[T], log: list[str] | None = None) -> T:
    """What a future comes to; notes how that ended."""
    try:
        return await future
    except BaseException as error:
        if log is not None:
            log.append(type(error).__name__)
        raise


async def at_once(value: T) -> T:
    """No wait at all."""
    return value


async def test_what_does_not_wait_is_answered_even_when_time_is_up() -> None:
    assert await within(-1, at_once("here")) == "here"


async def test_a_wait_that_ends_in_time_is_answered() -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[str] = loop.create_future()
    loop.call_soon(future.set_result, "later")
    assert await within(10, passed(future)) == "later"


async def test_several_waits_are_passed_on_one_after_the_other() -> None:
    async def thrice() -> str:
        for _ in range(3):
            await asyncio.sleep(0)
        return "done"

    assert await within(10, thrice()) == "done"


async def test_a_wait_that_takes_too_long_is_cancelled_and_told() -> None:
    log: list[str] = []
    with pytest.raises(TimeoutError):
        await within(0.01, passed(asyncio.get_running_loop().create_future(), log))
    assert log == ["CancelledError"]


async def test_errors_come_through_from_before_and_after_the_wait() -> None:
    async def fails(waits: int) -> None:
        for _ in range(waits):
            await asyncio.sleep(0)
        raise LookupError(waits)

    for waits in (0, 1, 2):
        with pytest.raises(LookupError, match=str(waits)):
            await within(10, fails(waits))


async def test_the_error_that_is_waited_for_can_be_caught_by_who_waits() -> None:
    async def catches() -> str:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        loop.call_soon(future.set_exception, LookupError())
        try:
            await future
        except LookupError:
            await asyncio.sleep(0)
            return "caught"
        return "nothing to catch"

    assert await within(10, catches()) == "caught"


async def test_a_cancellation_from_outside_stays_one() -> None:
    log: list[str] = []
    began = asyncio.Event()

    async def begins() -> None:
        began.set()
        await passed(asyncio.get_running_loop().create_future(), log)

    task = asyncio.create_task(within(10, begins()))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["CancelledError"]


async def test_the_shorter_of_two_limits_counts_whichever_is_outside() -> None:
    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    async def short_inside() -> str:
        try:
            await within(0.01, forever())
        except TimeoutError:
            return "inner"
        return "none"

    assert await within(10, short_inside()) == "inner"
    with pytest.raises(TimeoutError):
        await within(0.01, within(10, forever()))


def test_a_coroutine_that_is_given_up_while_it_waits_cleans_up() -> None:
    log: list[str] = []

    class Wait:
        def __await__(self):  # type: ignore[no-untyped-def] # a bare generator
            yield

    async def run() -> None:
        work = within(10, passed(Wait(), log))
        work.send(None)
        work.close()

    asyncio.run(run())
    assert log == ["GeneratorExit"]
