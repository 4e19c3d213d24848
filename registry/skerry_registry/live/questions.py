# ruff: noqa: N818 - errors are rows of a table
"""Signals of the live channel whose answers somebody waits for, as many as there is room for."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import UNSET, Struct

from skerry.errors import SkerryError
from skerry.values import encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skerry.live import LiveSignal
    from skerry.signals import NewId
    from skerry_registry.live.listeners import Listener
    from skerry_registry.live.sender import Sender

MOST = 100_000
"""Questions that wait for their answers at a time,"""
OF_ONE = 20_000
"""and of one subject;"""
SIZE = 256_000_000
"""bytes of what they carry, a quarter of it from one subject."""


class TooManyWaiting(SkerryError):
    """More questions without an answer than there is room for."""

    code = "things:live.toomanywaiting"
    status = 429
    message = "Too many questions wait for answers of devices."
    description = "Try again in a few seconds, or send with timeout=0, which waits for nothing."


class Delivery(Struct, frozen=True):
    """A signal on its way: as it is told, by whom, under which policy, and what of it goes to whom."""

    told: LiveSignal
    sender: Sender
    policy_id: str
    parts: list[tuple[Listener, LiveSignal]]

    def hand_out(self) -> None:
        """Give everybody his part."""
        for listener, part in self.parts:
            listener.take(part)

    @property
    def sessions(self) -> frozenset[str]:
        """Those that it goes to."""
        return frozenset(listener.session for listener, _ in self.parts)


class Question:
    """A signal whose answer somebody waits for."""

    __slots__ = ("alone", "answer", "by", "delivery", "over", "reached")

    def __init__(self, delivery: Delivery, *, alone: bool) -> None:
        """`reached`: the sessions that have it; `alone`: nothing but the answer is waited for; `by`: who gave it; `over`: it is passed on."""
        self.delivery = delivery
        self.alone = alone
        self.by: tuple[str, str] | None = None
        self.reached = delivery.sessions
        self.answer: asyncio.Future[LiveSignal] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()


class Questions:
    """What is waited for on one server."""

    def __init__(self, new_id: NewId, *, of_one: int = OF_ONE, size: int = SIZE) -> None:
        """`of_one`: how many answers one subject may wait for at a time; `size`: bytes that the questions of all may carry."""
        self._new_id = new_id
        self._of_one = of_one
        self._size = size
        self._open: dict[str, Question] = {}
        self._answered: dict[tuple[str, str], Question] = {}
        self._waiting = Counter[str]()
        self._bytes = Counter[str]()
        self._bytes_of_all = 0

    def find(self, correlation: str) -> Question | None:
        """The question that is known by this correlation id."""
        return self._open.get(correlation)

    def settle(self, question: Question, answer: LiveSignal) -> None:
        """Give a question its answer."""
        question.answer.set_result(answer)
        if question.alone:
            question.by = (answer.id, answer.origin)
            self._answered[question.by] = question

    async def passed_on(self, thing_id: str, origin: str) -> None:
        """Return when the answer that somebody has given for a thing is on its way."""
        answered = self._answered.get((thing_id, origin))
        if answered is not None:
            await answered.over.wait()

    @contextmanager
    def kept(self, delivery: Delivery, *, answered: bool, alone: bool) -> Iterator[Question | None]:
        """Wait for what becomes of a delivery inside the block; the question, where it is to be `answered`.

        Its correlation id becomes another if somebody waits under it already. Raises TooManyWaiting.
        """
        question = self._ask(delivery, alone=alone) if answered else None
        try:
            who, size = "".join(delivery.sender.subjects[:1]), size_of(delivery.told)
            if self._bytes_of_all + size > self._size or self._bytes[who] + size > self._size // 4:
                raise TooManyWaiting(headers={"retry-after": "5"})
            self._bytes[who] += size
            self._bytes_of_all += size
            try:
                yield question
            finally:
                self._bytes_of_all -= size
                self._bytes[who] -= size
                if not self._bytes[who]:
                    del self._bytes[who]
        finally:
            if question is not None:
                self._forget(question)

    def _ask(self, delivery: Delivery, *, alone: bool) -> Question:
        """Remember that an answer is waited for. Raises TooManyWaiting."""
        told, who = delivery.told, delivery.sender.subjects[:1]
        if len(self._open) >= MOST or self._waiting.get("".join(who), 0) >= self._of_one:
            raise TooManyWaiting(headers={"retry-after": "5"})
        self._waiting.update(who)
        if told.correlation in self._open:  # every part of the delivery has these very headers
            told.headers["correlation-id"] = f"{told.correlation}_{self._new_id()}"
        question = self._open[told.correlation] = Question(delivery, alone=alone)
        return question

    def _forget(self, question: Question) -> None:
        """Nobody waits any more."""
        del self._open[question.delivery.told.correlation]
        question.over.set()
        if question.by is not None and self._answered.get(question.by) is question:
            del self._answered[question.by]
        for who in question.delivery.sender.subjects[:1]:
            self._waiting[who] -= 1
            if not self._waiting[who]:
                del self._waiting[who]


def size_of(signal: LiveSignal) -> int:
    """Bytes of what a signal carries."""
    raw, value = signal.raw, signal.value
    size = 0 if raw is None else len(raw)
    if isinstance(value, str):
        return max(size, len(value) if value.isascii() else len(value.encode("utf-8", "replace")))
    return size if raw is not None or value is UNSET else len(encode(value))
