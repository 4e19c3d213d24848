"""WebSocket sessions as clients have them, for the tests of the wire."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from wire.http_server import Served

PATIENCE = 20.0
_CORRELATIONS = itertools.count(1)


class Socket:
    """One client: sends envelopes and control frames, reads what comes."""

    def __init__(self, wire: ClientConnection) -> None:
        self.wire = wire
        self.aside: list[Any] = []

    async def say(self, text: str) -> str:
        """Send a control frame and take the next frame that is no envelope, or is an error."""
        await self.wire.send(text)
        async with asyncio.timeout(PATIENCE):
            while True:
                got = str(await self.wire.recv())
                if not got.startswith("{") or json.loads(got)["topic"].endswith("/errors"):
                    return got
                self.aside.append(json.loads(got))

    async def start(self, sort: str, parameters: str = "") -> None:
        assert await self.say(f"START-SEND-{sort}{parameters and '?'}{parameters}") == f"START-SEND-{sort}:ACK"

    async def send(self, envelope: Any) -> None:
        await self.wire.send(envelope if isinstance(envelope, str) else json.dumps(envelope))

    async def ask(self, topic: str, path: str = "/", **more: Any) -> Any:
        """Send an envelope and take the reply to it; other envelopes stay for `receive`."""
        headers = {"correlation-id": f"ask-{next(_CORRELATIONS)}"} | more.pop("headers", {})
        await self.send({"topic": topic, "path": path, "headers": headers} | more)
        async with asyncio.timeout(PATIENCE):
            while True:
                got = json.loads(await self.wire.recv())
                if got["headers"].get("correlation-id") == headers["correlation-id"]:
                    return got
                self.aside.append(got)

    async def command(self, action: str, thing: str, path: str = "/", **more: Any) -> Any:
        namespace, name = thing.split(":")
        return await self.ask(f"{namespace}/{name}/things/twin/commands/{action}", path, **more)

    async def receive(self) -> Any:
        """The next envelope."""
        if self.aside:
            return self.aside.pop(0)
        async with asyncio.timeout(PATIENCE):
            return json.loads(await self.wire.recv())

    async def closed(self) -> tuple[int | None, str]:
        """Wait for the end; its code and reason."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    self.aside.append(json.loads(await self.wire.recv()))
                except websockets.ConnectionClosed:
                    return self.wire.close_code, self.wire.close_reason or ""


def basic(name: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{name}".encode()).decode()


@asynccontextmanager
async def session(
    server: Served, name: str | None = "ditto", *, query: str = "", **headers: str
) -> AsyncIterator[Socket]:
    """A session until the block ends. `headers`: of the handshake, `_` for `-`."""
    given = {title.replace("_", "-"): value for title, value in headers.items()}
    if name is not None:
        given["authorization"] = basic(name)
    async with websockets.connect(
        f"ws://127.0.0.1:{server.port}/ws/2{query}",
        additional_headers=given,
        open_timeout=PATIENCE,
        close_timeout=PATIENCE,
        ping_timeout=None,
        max_size=None,
        compression=None,
    ) as wire:
        yield Socket(wire)


async def refused(server: Served, name: str | None = None, *, path: str = "/ws/2", **headers: str) -> tuple[int, Any]:
    """The status and the JSON of a handshake that comes to nothing."""
    given = {title.replace("_", "-"): value for title, value in headers.items()}
    if name is not None:
        given["authorization"] = basic(name)
    try:
        async with websockets.connect(
            f"ws://127.0.0.1:{server.port}{path}", additional_headers=given, open_timeout=PATIENCE
        ):
            return 101, None
    except websockets.InvalidStatus as error:
        return error.response.status_code, json.loads(error.response.body or b"null")
