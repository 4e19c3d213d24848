"""The series sink: the journal's events become samples in the series store, in order, from where it last stood."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from skerry.errors import SkerryError
from skerry_adapters.series.ports import Samples, SeriesUnavailable
from skerry_adapters.series.samples import Sampling

if TYPE_CHECKING:
    from skerry.signals import Clock, Event, Micros
    from skerry_adapters.series.ports import Series

Follow: TypeAlias = Callable[[int], AsyncIterator[list["Event"]]]
"""The events numbered > the argument, in lists, without end (`Journal.follow`)."""

log = logging.getLogger(__name__)

TURN = 200
"""Events that are taken at a time: thousands of large things would hold up everybody else."""


class SinkStatus(Struct, frozen=True, kw_only=True):
    """Where the sink stands.

    `taken`: the newest event it has read. `cursor`: the newest that queries see. `durable`: the newest that it will not
    read again, whatever happens. `error` and `since`: why and from when on the store does not take anything; None while it does.
    """

    cursor: int
    taken: int
    durable: int
    samples: int
    error: str | None = None
    since: Micros | None = None


class Sink:
    """Reads on while it writes; a batch is written when it is large, when it is old, or when a query waits for it."""

    def __init__(
        self,
        follow: Follow,
        series: Series,
        clock: Clock,
        *,
        batch: int = 20_000,
        interval: float = 1.0,
        longest_pause: float = 5.0,
        idle: float = 5.0,
    ) -> None:
        """`batch` samples or `interval` seconds make a write; at most four batches wait in memory.

        `longest_pause`: seconds between attempts at a store that is away. `idle`: how often the cursor alone is stored.
        """
        self._follow = follow
        self._series = series
        self._clock = clock
        self._batch = batch
        self._interval = interval
        self._longest_pause = longest_pause
        self._idle = idle
        self._durable = 0
        self._sampling = Sampling()
        self._waiting = Samples()
        self._taken = 0
        self._cursor = 0
        self._written = 0
        self._error: str | None = None
        self._since: Micros | None = None
        self._wanted = 0
        self._arrived = asyncio.Event()
        self._hurry = asyncio.Event()
        self._room = asyncio.Event()
        self._moved = asyncio.Condition()

    @property
    def status(self) -> SinkStatus:
        """Where it stands now."""
        return SinkStatus(
            cursor=self._cursor,
            taken=self._taken,
            durable=self._durable,
            samples=self._written,
            error=self._error,
            since=self._since,
        )

    async def run(self) -> None:
        """Work until cancelled. What was taken and not yet written is taken from the journal again at the next start."""
        after = await self._until_it_answers(self._series.cursor)
        self._taken = self._cursor = self._durable = after
        await self._announce()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_all())
            tasks.create_task(self._take_all(after))

    async def reach(self, number: int, seconds: float) -> bool:
        """Wait until queries see the event of that number; False when that takes longer or the store is away."""
        if self._cursor >= number:
            return True
        self._wanted = max(self._wanted, number)
        self._hurry.set()
        try:
            async with asyncio.timeout(seconds), self._moved:
                await self._moved.wait_for(lambda: self._cursor >= number or self._error is not None)
        except TimeoutError:
            return False
        return self._cursor >= number

    async def _take_all(self, after: int) -> None:
        while True:
            try:
                async for events in self._follow(after):
                    for start in range(0, len(events), TURN):
                        if start:
                            await asyncio.sleep(0)  # others have their turn while much is caught up on
                        part = events[start : start + TURN]
                        self._sampling.add(part, self._waiting)
                        self._taken = after = part[-1].number
                        self._arrived.set()
                    if len(self._waiting) >= self._batch:
                        self._hurry.set()
                    if len(self._waiting) >= 4 * self._batch:
                        self._room.clear()
                        await self._room.wait()
            except SkerryError as error:
                oldest = error.facts.get("oldest")
                if isinstance(oldest, int) and oldest > after + 1:
                    log.error(  # noqa: TRY400 - the trace says nothing more
                        "events were forgotten before the series had them", extra={"after": after, "oldest": oldest}
                    )
                    after = oldest - 1
                    continue
                log.warning("the journal cannot be read, trying again", extra={"reason": error.text})
                await asyncio.sleep(self._longest_pause)

    async def _write_all(self) -> None:
        stored_at = asyncio.get_running_loop().time()
        while True:
            await self._arrived.wait()
            await self._gather()
            samples, upto = self._waiting, self._taken
            self._waiting = Samples()
            self._arrived.clear()
            self._room.set()
            now = asyncio.get_running_loop().time()
            if samples or upto - self._durable > self._batch or now - stored_at > self._idle:
                await self._until_it_answers(lambda: self._series.write(samples, upto))  # noqa: B023 - awaited here
                self._durable, stored_at = upto, now
                self._written += len(samples)
            self._cursor = upto
            await self._announce()

    async def _gather(self) -> None:
        """Let a batch grow, unless it is large already or a query waits for it."""
        if self._wanted > self._cursor or len(self._waiting) >= self._batch:
            return
        self._hurry.clear()
        try:
            async with asyncio.timeout(self._interval):
                await self._hurry.wait()
        except TimeoutError:
            return

    async def _until_it_answers(self, work: Callable[[], Awaitable[object]]) -> int:
        """The work's answer; repeated with growing pauses while the store is away."""
        pause = 0.1
        while True:
            try:
                answer = await work()
            except SeriesUnavailable as error:
                reason = str(error.facts.get("reason", error.text))
                if self._error is None:
                    self._since = self._clock()
                    log.warning("the series store is away, trying again", extra={"reason": reason})
                self._error = reason
                await self._announce()
                await asyncio.sleep(pause)
                pause = min(2 * pause, self._longest_pause)
            else:
                if self._error is not None:
                    log.info("the series store is back", extra={"cursor": self._cursor})
                self._error = self._since = None
                return answer if isinstance(answer, int) else 0

    async def _announce(self) -> None:
        async with self._moved:
            self._moved.notify_all()
