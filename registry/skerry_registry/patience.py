"""Limits of time for work that seldom has to wait: the timer is set when it does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

T = TypeVar("T")


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What the work comes to. Raises TimeoutError where it waits for longer than so many seconds.

    A timer costs as much as many an answer, and what is in memory is answered without waiting.
    """
    try:
        waiting = work.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    async with asyncio.timeout(seconds):
        return await _Rest(work, waiting)


class _Rest(Generic[T]):
    """What is left of a coroutine that was begun by hand and waits for something: awaited as if it were only begun now."""

    __slots__ = ("_waiting", "_work")

    def __init__(self, work: Coroutine[Any, Any, T], waiting: Any) -> None:
        self._work = work
        self._waiting = waiting

    def __await__(self) -> Generator[Any, Any, T]:
        """Pass on what the coroutine waits for, and what comes of it."""
        work, waiting = self._work, self._waiting
        try:
            while True:
                try:
                    sent = yield waiting
                except BaseException as error:  # noqa: BLE001 - also what cancels: it is the coroutine's to deal with
                    waiting = work.throw(error)
                else:
                    waiting = work.send(sent)
        except StopIteration as done:
            found: T = done.value
            return found
