"""A real HTTP server on a free port over a memory store, for the tests of the wire."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from msgspec import structs

from skerry_adapters.broker import Topics
from skerry_registry.audit import Trail
from skerry_registry.audit.readers import Readers
from skerry_registry.audit.refusals import Refusals
from skerry_registry.bulk.backup import Backup
from skerry_registry.bulk.progress import Progress
from skerry_registry.http import create_http, run_http
from skerry_registry.http.audit import Audit
from skerry_registry.http.inside import Inside
from skerry_registry.identities.logins import Identities
from skerry_registry.live.streams import Streams
from skerry_registry.registry import Registry
from skerry_registry.search.search import Search
from skerry_registry.settings import Settings
from skerry_registry.stores.memory import MemoryStore
from skerry_registry.stores.sqlite import SqliteStore
from skerry_registry.users import Users
from skerry_registry.ws.sessions import Sessions

START = 1_700_000_000_000_000


class Served:
    """A running server: its base URL, port, users and registry, and clients of it."""

    def __init__(self, port: int, identities: Identities, registry: Registry, streams: Streams) -> None:
        self.port = port
        self.streams = streams
        self.url = f"http://127.0.0.1:{port}"
        self.identities = identities
        self.users = identities.users
        self.registry = registry

    def client(self, name: str | None = "ditto", **more: Any) -> httpx.AsyncClient:
        auth = (name, name) if name else None
        return httpx.AsyncClient(base_url=self.url, auth=auth, timeout=20, **more)

    async def raw(self, request: bytes, *, patience: float = 10, end: bool = False) -> bytes:
        """Send the bytes, read until the server closes or has answered."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            await writer.drain()
            if end:
                writer.write_eof()
            async with asyncio.timeout(patience):
                head = await reader.readuntil(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                return head + (await reader.readexactly(int(length[0].split(b":")[1])) if length else b"")
        finally:
            writer.close()
            await writer.wait_closed()

    async def refuses(self, request: bytes) -> bool:
        """Send the bytes and nothing more; whether the server hangs up or answers with an error."""
        try:
            answer = await self.raw(request, end=True)
        except asyncio.IncompleteReadError as error:
            return not error.partial
        return int(answer.split(b" ", 2)[1]) >= 400


def users_in(folder: Path) -> Users:
    """ditto/ditto, eve/eve and devops/devops."""
    users = Users.load(folder / "users.json", recheck=0)
    users.add("ditto", "ditto")
    users.add("eve", "eve")
    users.add("devops", "devops", ["devops"])
    return users


def inside_of(settings: Settings, registry: Registry, store: MemoryStore) -> Inside:
    """What operators see of it."""
    return Inside(
        settings=settings,
        health=lambda: {"status": "UP", "parts": {"journal": {"status": "UP", "number": registry.journal.last}}},
        load=store.load,
        count=store.count,
        hot=registry.memory.hot,
        forgetting=registry.retention,
    )


async def backup_of(folder: Path) -> Backup:
    """Backups of a data folder with an empty journal."""
    async with SqliteStore(folder):
        return Backup(folder, {}, lambda: START, "0")


@asynccontextmanager
async def served(folder: Path, *, settings: Settings | None = None, **more: Any) -> AsyncIterator[Served]:
    """Serve until the block ends."""
    settings = structs.replace(settings or Settings(), http_port=0)
    users = users_in(folder)
    ids = (f"00000000-0000-0000-0000-{number:012d}" for number in itertools.count(1))
    times = itertools.count(START, 1_000)
    clock: Callable[[], int] = lambda: next(times)  # noqa: E731
    new_id: Callable[[], str] = lambda: next(ids)  # noqa: E731
    store = MemoryStore()
    registry = Registry(store, clock, new_id, thing_max_bytes=settings.thing_max_bytes)
    more.setdefault("progress", Progress(None, clock))
    more.setdefault("health", lambda: {"status": "UP", "journal": {"last": registry.journal.last}})
    more.setdefault("inside", inside_of(settings, registry, store))
    identities = Identities.of(structs.replace(settings, data_dir=str(folder)), users, clock)
    async with (
        identities,
        registry,
        Search(registry, store) as search,
        Trail(folder, registry.journal, clock) as trail,
    ):
        refusals = Refusals(trail, registry, clock, Topics(settings.sources))
        registry.on_refused(refusals.command)
        more.setdefault("audit", Audit(Readers(trail, registry), clock).answer)
        more.setdefault("refused", refusals.request)
        streams = Streams.of(registry, message_max_bytes=settings.message_max_bytes)
        sessions = Sessions(
            registry,
            identities,
            settings,
            streams=streams,
            search=search,
            new_id=new_id,
            refused=refusals.request,
        )
        more.setdefault("gauges", sessions.gauges())
        app = create_http(registry, identities, settings, new_id=new_id, search=search, streams=streams, **more)
        telling = asyncio.create_task(streams.desired.run(None))
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(
            run_http(app, settings, lambda _, number: port.set_result(number), open=sessions.open)
        )
        done, _ = await asyncio.wait({port, serving}, return_when=asyncio.FIRST_COMPLETED)
        if serving in done:
            await serving
        try:
            yield Served(port.result(), identities, registry, streams)
        finally:
            serving.cancel()
            telling.cancel()
            await asyncio.wait({serving, telling})
