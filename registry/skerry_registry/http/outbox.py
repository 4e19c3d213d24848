"""Answers on their way to a client who may still be sending, and reads them when he likes."""

from __future__ import annotations

import asyncio
import tempfile
from typing import TYPE_CHECKING, Any

from litestar.types import Send

from skerry_registry.http.request import ClientGone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skerry_registry.http.answer import Header

IN_MEMORY = 1_000_000
"""Bytes that wait in memory; the others wait in a file."""
WAITING_MAX = 256_000_000
"""Bytes that may wait at all; whoever puts more waits himself."""
PIECE = 262_144


class Outbox:
    """A body that is sent as fast as it is read; what is ahead of the reader waits on disk, so that sending never blocks reading."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by `close`
        self._written = 0
        self._sent = 0
        self._ended = False
        self._more = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._task: asyncio.Task[None] | None = None

    async def start(self, status: int, headers: Sequence[Header]) -> None:
        """Send status and headers; from now on what is put goes out."""
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers]})
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def started(self) -> bool:
        """Whether the status is out."""
        return self._task is not None

    async def put(self, body: bytes) -> None:
        """Add to the body; waits only when far too much is waiting. Raises ClientGone."""
        await self._room.wait()
        if self._task is not None and self._task.done():
            raise ClientGone
        self._waiting.seek(self._written)
        self._waiting.write(body)
        self._written += len(body)
        self._more.set()
        if self._written - self._sent > WAITING_MAX:
            self._room.clear()

    async def finish(self) -> None:
        """Wait until everything is out."""
        self._ended = True
        self._more.set()
        if self._task is not None:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Let go of what nobody reads any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._waiting.close()

    async def _run(self) -> None:
        try:
            await self._send_all()
        finally:
            self._room.set()

    async def _send_all(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._sent < self._written:
                self._waiting.seek(self._sent)
                piece = self._waiting.read(PIECE)
                self._sent += len(piece)
                if self._sent == self._written:
                    self._waiting.seek(0)
                    self._waiting.truncate()
                    self._sent = self._written = 0
                self._room.set()
                message: Any = {"type": "http.response.body", "body": piece, "more_body": True}
                await self._send(message)
            if self._ended:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
                return
