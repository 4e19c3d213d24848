"""The composition root: the edges over the parts of a server, served until somebody says stop."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
import uuid
from contextlib import AsyncExitStack
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec import Struct, field

from skerry_adapters.broker import Broker
from skerry_adapters.series.ports import Copied
from skerry_registry import logs, opening, report
from skerry_registry.audit.readers import Readers
from skerry_registry.bulk.backup import SERIES, Backup, Copy
from skerry_registry.history import History
from skerry_registry.http.audit import Audit
from skerry_registry.http.inside import Inside
from skerry_registry.http.series import Timeseries
from skerry_registry.http.server import run_http
from skerry_registry.http.site import create_http
from skerry_registry.settings import Settings, tokens_path, users_path
from skerry_registry.ws.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    from skerry.signals import Micros
    from skerry_registry.opening import Parts

PAGE = Path(__file__).parent / "page"
FILES = 65_536
"""Open files that we ask for where the system names no bound; it refuses to give all there are."""
COLLECT_EVERY = (50_000, 20, 50)
"""Things and events are trees: with Python's own thresholds the collector walks all of them many times a second, for nothing."""


class Running(Struct, frozen=True, kw_only=True):
    """Where a server that is up can be reached, and what a person at the screen should know."""

    http_url: str
    mqtt_url: str
    facts: dict[str, str] = field(default_factory=dict)


def now() -> Micros:
    """The wall clock."""
    return time.time_ns() // 1000


def new_id() -> str:
    """A random id."""
    return str(uuid.uuid4())  # noqa: TID251 - here it is injected from


async def serve(settings: Settings, *, ready: Callable[[Running], None] | None = None, stop: asyncio.Event) -> None:
    """Run a server until `stop` is set. Raises the SkerryError rows of a refused start."""
    logs.configure(settings.log_level, settings.log_format)
    async with AsyncExitStack() as stack:
        parts = await opening.opened(settings, stack, now, new_id)
        gc.freeze()
        gc.set_threshold(*COLLECT_EVERY)
        _allow_connections()

        def started(host: str, port: int) -> None:
            shown = f"[{host}]" if ":" in host else host
            if ready is not None:
                ready(_running(parts, f"http://{shown}:{port}"))

        sessions = _sessions(parts)
        http = asyncio.create_task(run_http(_http(parts, sessions), settings, started, open=sessions.open), name="http")
        stopping = asyncio.create_task(stop.wait(), name="stopping")
        try:
            await asyncio.wait({http, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if http.done():
                http.result()
        finally:
            http.cancel()
            stopping.cancel()
            await asyncio.wait({http, stopping})


def _allow_connections() -> None:
    """As many open files, so connections, as the system grants us without asking: often 1,024 is only the start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _http(parts: Parts, sessions: Sessions) -> Any:
    """The HTTP application over the parts; `sessions` are counted in its measures."""
    registry, settings = parts.registry, parts.settings
    history = History(registry, parts.series, lambda seconds: parts.sink.reach(registry.journal.last, seconds))
    health = partial(report.health, parts)
    return create_http(
        registry,
        parts.identities,
        settings,
        new_id=new_id,
        health=health,
        history=Timeseries(history).answer,
        audit=Audit(Readers(parts.trail, registry), now).answer,
        refused=parts.refusals.request,
        inside=Inside(
            settings=settings,
            health=health,
            load=parts.store.load,
            count=parts.store.count,
            hot=registry.memory.hot,
            forgetting=registry.retention,
        ),
        progress=parts.progress,
        backup=_backup(parts),
        search=parts.search,
        streams=parts.streams,
        page_folder=PAGE,
        gauges=[*report.gauges(parts), *sessions.gauges()],
    )


def _sessions(parts: Parts) -> Sessions:
    """The WebSockets over the parts."""
    return Sessions(
        parts.registry,
        parts.identities,
        parts.settings,
        streams=parts.streams,
        search=parts.search,
        new_id=new_id,
        refused=parts.refusals.request,
    )


def _backup(parts: Parts) -> Backup:
    """How the data folder is copied while everything goes on; what the journal feeds before the journal."""
    copies: dict[str, Copy] = {}
    if isinstance(parts.series, Copied):
        copies[SERIES] = parts.series.copy
    if isinstance(parts.broker, Broker):
        copies["broker.db"] = parts.broker.storage.copy
    settings = parts.settings
    beside = [users_path(settings), tokens_path(settings)]
    backup = Backup(Path(settings.data_dir), copies, now, metadata.version("skerry"), beside=beside)
    backup.drop()  # what a sudden end may have left behind
    return backup


def _running(parts: Parts, http_url: str) -> Running:
    """What to show on the screen."""
    influx = urlsplit(parts.settings.influx_url or "")
    history = f"{influx.scheme}://{influx.netloc.rpartition('@')[2]}" if influx.netloc else "embedded"
    facts = {"data": parts.settings.data_dir, "history": history}
    if isinstance(parts.broker, Broker):
        return Running(http_url=http_url, mqtt_url=f"mqtt://{parts.broker.host}:{parts.broker.port}", facts=facts)
    address = parts.broker.address
    url = f"{'mqtts' if address.tls else 'mqtt'}://{address.host}:{address.port}"
    return Running(http_url=http_url, mqtt_url=url, facts=facts)
