"""A thread with a database connection of its own that works off jobs and gives results back in batches."""

from __future__ import annotations

import asyncio
import logging
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable

    import apsw

log = logging.getLogger(__name__)

J = TypeVar("J")


class Job(Struct, Generic[J], eq=False):
    """Something to do, and the future that waits for it; `result` or `error` is set when it is done."""

    task: J
    future: asyncio.Future[Any]
    result: Any = None
    error: Exception | None = None


class Lane(Generic[J]):
    """Everything queued while the thread was busy is handed to `work` together; one loop call answers all of it.

    `work(connection, jobs)` does as many of the jobs as it likes to take at once (one at least), sets the result or the
    error of each, and answers which they were.
    """

    def __init__(
        self, name: str, connection: apsw.Connection, work: Callable[[apsw.Connection, list[Job[J]]], list[Job[J]]]
    ) -> None:
        self._connection = connection
        self._work = work
        self._queue: SimpleQueue[Job[J] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the thread; answers come on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Let the thread finish what is queued, and wait for it."""
        self._queue.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    async def do(self, task: J) -> Any:
        """Queue a task and wait for its result."""
        assert self._loop is not None
        job = Job(task, self._loop.create_future())
        self._queue.put(job)
        return await job.future

    def _run(self) -> None:
        """The thread."""
        assert self._loop is not None
        waiting: list[Job[J]] = []
        running = True
        while running or waiting:
            running = self._gather(waiting, running)
            if waiting:
                try:
                    done = self._work(self._connection, waiting)
                except Exception as error:
                    log.exception("store failed", extra={"lane": self._thread.name})
                    done = waiting
                    for job in done:
                        job.error = error
                self._loop.call_soon_threadsafe(_answer, done)
                if len(done) == len(waiting):
                    waiting = []
                else:
                    taken = set(map(id, done))
                    waiting = [job for job in waiting if id(job) not in taken]
                del done

    def _gather(self, waiting: list[Job[J]], running: bool) -> bool:
        """Take over what is queued, waiting for something when there is nothing else to do; False after the last."""
        queue = self._queue
        while running and (not waiting or not queue.empty()):
            job = queue.get()
            if job is None:
                return False
            waiting.append(job)
        return running


def _answer(jobs: list[Job[Any]]) -> None:
    """Wake up whoever waits."""
    for job in jobs:
        if not job.future.done():
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)
