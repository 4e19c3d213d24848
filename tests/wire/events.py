"""A reader of server-sent events, for the tests of the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from msgspec import Struct

PATIENCE = 30.0


class Seen(Struct, frozen=True):
    """One event: its data, name and id."""

    data: str
    name: str = ""
    id: str = ""

    @property
    def value(self) -> Any:
        """The data as JSON."""
        return json.loads(self.data)


class Reader:
    """What comes in over one stream; heartbeats are counted and left out."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.status = response.status_code
        self.beats = 0
        self.place = ""
        self._lines = response.aiter_lines()

    async def next(self) -> Seen | None:
        """The next event; None where the stream has ended."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await self._block()
                if found is None or found.data:
                    return found
                self.beats += 1

    async def value(self) -> Any:
        """What the next event says."""
        found = await self.next()
        assert found is not None
        return found.value

    async def all(self) -> list[Seen]:
        """Everything until the stream ends."""
        found = []
        while (seen := await self.next()) is not None:
            found.append(seen)
        return found

    async def beat(self) -> None:
        """Wait for a heartbeat."""
        async with asyncio.timeout(PATIENCE):
            found = await self._block()
            assert found is not None
            assert not found.data
            self.beats += 1

    async def _block(self) -> Seen | None:
        data: list[str] = []
        name = ""
        async for line in self._lines:
            field, _, text = line.partition(":")
            if field == "data":
                data.append(text)
            elif field == "event":
                name = text
            elif field == "id":
                self.place = text
            elif not line and data:
                return Seen("\n".join(data), name, self.place)
        return None


@asynccontextmanager
async def reading(client: httpx.AsyncClient, path: str, **more: Any) -> AsyncIterator[Reader]:
    """Read a stream until the block ends."""
    headers = {"accept": "text/event-stream", **more.pop("headers", {})}
    async with client.stream("GET", path, headers=headers, **more) as response:
        yield Reader(response)
