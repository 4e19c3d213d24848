"""The composition root: what a server is made of, opened in order and closed in reverse."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import time
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec import Struct, field

from skerry import times
from skerry.errors import SkerryError
from skerry_adapters.broker import Broker, BrokerDownlink, PolicyRights, Topics
from skerry_adapters.dead_letters import DeadLetters
from skerry_adapters.inlet import Inlet
from skerry_adapters.mqtt import Address, MqttClient
from skerry_adapters.replies import Replies
from skerry_adapters.series.ports import Copied, SeriesUnavailable
from skerry_adapters.series.sink import Sink
from skerry_adapters.talk import Talk
from skerry_policies.document import Terms
from skerry_registry import contradictions, disk, logs
from skerry_registry.audit import Trail
from skerry_registry.audit.readers import Readers
from skerry_registry.audit.refusals import Refusals
from skerry_registry.audit.tally import Tally
from skerry_registry.bulk.backup import SERIES, Backup, Copy
from skerry_registry.bulk.progress import Progress
from skerry_registry.device_rights import ThingRights, keep_current, logins
from skerry_registry.expiry import Expiry
from skerry_registry.history import History
from skerry_registry.http.audit import Audit
from skerry_registry.http.inside import Inside
from skerry_registry.http.operations import Gauge
from skerry_registry.http.series import Timeseries
from skerry_registry.http.server import run_http
from skerry_registry.http.site import create_http
from skerry_registry.identities.creation import Creation
from skerry_registry.identities.logins import Identities
from skerry_registry.identities.namespaces import NamespaceRules
from skerry_registry.live.devices import Devices
from skerry_registry.live.envelopes import Envelopes
from skerry_registry.live.streams import Streams
from skerry_registry.reasons import Reasons
from skerry_registry.registry import Registry
from skerry_registry.search.search import Search
from skerry_registry.settings import Settings, tokens_path, users_path
from skerry_registry.stores.sqlite import SqliteStore
from skerry_registry.users import Users
from skerry_registry.ws.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from skerry.signals import Micros
    from skerry_adapters.downlink import Downlink
    from skerry_adapters.series.ports import Series

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
TRIM_EVERY = 3600.0
FILES = 65_536
"""Open files that we ask for where the system names no bound; it refuses to give all there are."""
COLLECT_EVERY = (50_000, 20, 50)
"""Things and events are trees: with Python's own thresholds the collector walks all of them many times a second, for nothing."""


class SeriesUnusable(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """The series store of the settings cannot be opened."""

    code = "series.unusable"
    message = "The series store cannot be opened: {reason}"
    description = (
        "Correct path, rights or address. A damaged file can be moved away; its samples leave history with it."
    )


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
        server = await _open(settings, stack)
        gc.freeze()
        gc.set_threshold(*COLLECT_EVERY)
        _allow_connections()

        def started(host: str, port: int) -> None:
            shown = f"[{host}]" if ":" in host else host
            if ready is not None:
                ready(server.running(f"http://{shown}:{port}"))

        sessions = server.sessions()
        http = asyncio.create_task(run_http(server.http(sessions), settings, started, open=sessions.open), name="http")
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


async def _open(settings: Settings, stack: AsyncExitStack) -> _Server:
    """Open every part; each closes in reverse."""
    contradictions.check(settings)
    folder = Path(settings.data_dir)
    users = Users.load(users_path(settings), prefix=settings.auth_basic_prefix)
    identities = await stack.enter_async_context(Identities.of(settings, users, now))
    store = SqliteStore(folder)
    registry = await stack.enter_async_context(
        Registry(
            store,
            now,
            new_id,
            cache_things=settings.cache_things,
            thing_max_bytes=settings.thing_max_bytes,
            policy_terms=Terms(
                limit=settings.policy_max_bytes,
                expiry_granularity=settings.policy_subject_expiry_granularity,
                announcement_granularity=settings.policy_subject_deletion_announcement_granularity,
                lockout_prevention=settings.policy_lockout_prevention,
            ),
            namespace_policies=settings.namespace_policies,
            journal_retention_days=settings.journal_retention_days,
            journal_max_bytes=settings.journal_max_bytes,
            historical_headers=settings.historical_headers_to_persist,
            creation_rules=Creation.of(settings.entity_creation_grant, settings.entity_creation_revoke),
        )
    )
    streams = Streams.of(registry, message_max_bytes=settings.message_max_bytes)
    expiry = Expiry(registry, store, streams.announcements)
    await stack.enter_async_context(_in_background("subjects that end", expiry.run()))
    search = await stack.enter_async_context(Search(registry, store, memory=folder / "search-fields.json"))
    await stack.enter_async_context(_in_background("disk", disk.watch(folder)))
    series = await stack.enter_async_context(_series(settings, folder, store))
    journal = registry.journal
    sink = Sink(journal.follow, series, now)
    journal.spare("series", lambda: sink.status.durable)
    await stack.enter_async_context(_in_background("series sink", sink.run()))
    if settings.influx_url is None and settings.series_retention_days:
        await stack.enter_async_context(_in_background("series retention", _forget(series, settings)))
    trail = await stack.enter_async_context(
        Trail(
            folder,
            journal,
            now,
            retention_days=settings.audit_retention_days,
            max_bytes=settings.audit_max_bytes,
        )
    )
    topics = Topics(settings.sources)
    refusals = Refusals(trail, registry, now, topics)
    registry.on_refused(refusals.command)
    progress = Progress(folder / "bulk.db", now, hours=settings.bulk_key_hours)
    stack.callback(progress.close)
    dead_letters = DeadLetters(folder, settings.dead_letters_max)
    stack.callback(dead_letters.close)
    tally = Tally(trail, now) if settings.audit_telemetry == "hourly" else None
    if tally is not None:
        await stack.enter_async_context(_in_background("audit tally", tally.run()))
    inlet = Inlet(
        settings.sources,
        registry.handle_all,
        dead_letters,
        now,
        limit=settings.message_max_bytes,
        count=None if tally is None else tally.count,
        explain=Reasons(registry).attach,
    )
    await stack.enter_async_context(_in_background("dead letters", dead_letters.watch(inlet.replay)))
    broker: Broker | MqttClient
    if settings.mqtt_url is None:
        broker = Broker(
            settings.mqtt_host,
            settings.mqtt_port,
            take=inlet.take,
            authenticate=logins(identities, NamespaceRules(settings.namespace_access, now)),
            rights=_rights_of(registry, topics),
            note=refusals.broker,
            clock=now,
            folder=folder,
        )
    else:
        address = Address.read(
            settings.mqtt_url,
            username=settings.mqtt_username,
            password=settings.mqtt_password,
            client_id=settings.mqtt_client_id,
            session_expiry=settings.mqtt_session_expiry,
        )
        broker = MqttClient(address, settings.sources, inlet.take, now)
    downlink: Downlink = BrokerDownlink(broker) if isinstance(broker, Broker) else broker.downlink
    devices = Devices(registry, streams, Envelopes(registry, streams), downlink)
    inlet.attach(await stack.enter_async_context(Talk(devices, Replies(downlink), new_id)))
    await stack.enter_async_context(broker)
    stack.callback(devices.listen())
    await stack.enter_async_context(_in_background("desired state", streams.desired.run(downlink)))
    return _Server(
        settings=settings,
        identities=identities,
        store=store,
        registry=registry,
        streams=streams,
        search=search,
        series=series,
        sink=sink,
        inlet=inlet,
        progress=progress,
        broker=broker,
        trail=trail,
        refusals=refusals,
    )


def _rights_of(registry: Registry, topics: Topics) -> PolicyRights:
    """The rights at the embedded broker, current with every commit."""
    rights = PolicyRights(topics, ThingRights(registry))
    keep_current(registry, rights)
    return rights


class _Server(Struct, frozen=True, kw_only=True):
    """The open parts, and what they tell about themselves."""

    settings: Settings
    identities: Identities
    store: SqliteStore
    registry: Registry
    streams: Streams
    search: Search
    series: Series
    sink: Sink
    inlet: Inlet
    progress: Progress
    broker: Broker | MqttClient
    trail: Trail
    refusals: Refusals

    def http(self, sessions: Sessions) -> Any:
        """The HTTP application over the parts; `sessions` are counted in its measures."""
        journal = self.registry.journal
        history = History(self.registry, self.series, lambda seconds: self.sink.reach(journal.last, seconds))
        return create_http(
            self.registry,
            self.identities,
            self.settings,
            new_id=new_id,
            health=self.health,
            history=Timeseries(history).answer,
            audit=Audit(Readers(self.trail, self.registry), now).answer,
            refused=self.refusals.request,
            inside=Inside(
                settings=self.settings,
                health=self.health,
                load=self.store.load,
                count=self.store.count,
                hot=self.registry.memory.hot,
                forgetting=self.registry.retention,
            ),
            progress=self.progress,
            backup=self.backup(),
            search=self.search,
            streams=self.streams,
            page_folder=PAGE,
            gauges=[*self.gauges(), *sessions.gauges()],
        )

    def sessions(self) -> Sessions:
        """The WebSockets over the parts."""
        return Sessions(
            self.registry,
            self.identities,
            self.settings,
            streams=self.streams,
            search=self.search,
            new_id=new_id,
            refused=self.refusals.request,
        )

    def backup(self) -> Backup:
        """How the data folder is copied while everything goes on; what the journal feeds before the journal."""
        parts: dict[str, Copy] = {}
        if isinstance(self.series, Copied):
            parts[SERIES] = self.series.copy
        if isinstance(self.broker, Broker):
            parts["broker.db"] = self.broker.storage.copy
        folder = Path(self.settings.data_dir)
        beside = [users_path(self.settings), tokens_path(self.settings)]
        backup = Backup(folder, parts, now, metadata.version("skerry"), beside=beside)
        backup.drop()  # what a sudden end may have left behind
        return backup

    def running(self, http_url: str) -> Running:
        """What to show on the screen."""
        influx = urlsplit(self.settings.influx_url or "")
        history = f"{influx.scheme}://{influx.netloc.rpartition('@')[2]}" if influx.netloc else "embedded"
        facts = {"data": self.settings.data_dir, "history": history}
        if isinstance(self.broker, Broker):
            return Running(http_url=http_url, mqtt_url=f"mqtt://{self.broker.host}:{self.broker.port}", facts=facts)
        address = self.broker.address
        url = f"{'mqtts' if address.tls else 'mqtt'}://{address.host}:{address.port}"
        return Running(http_url=http_url, mqtt_url=url, facts=facts)

    def health(self) -> dict[str, Any]:
        """Every part's state; UP when all are."""
        sink = self.sink.status
        journal = self.registry.journal
        room = disk.room(Path(self.settings.data_dir))
        parts: dict[str, dict[str, Any]] = {
            "journal": {"status": "UP", "number": journal.last},
            "disk": {"status": "DOWN" if room.little else "UP", "free": room.free, "size": room.size},
            "series": {
                "status": "UP" if sink.error is None else "DOWN",
                "store": "influxdb" if self.settings.influx_url else "embedded",
                "number": sink.cursor,
                "behind": journal.last - sink.cursor,
                "error": sink.error,
                "since": None if sink.since is None else times.write(sink.since),
            },
        }
        if isinstance(self.broker, Broker):
            status = self.broker.status()
            parts["broker"] = {
                "status": "UP" if status.failing is None else "DOWN",
                "connections": status.connections,
                "error": status.failing,
            }
        else:
            link = self.broker.status
            host = urlsplit(self.settings.mqtt_url or "").hostname
            parts["mqtt"] = {
                "status": "UP" if link.connected else "DOWN",
                "broker": host,
                "since": times.write(link.since),
                "error": link.error,
            }
        up = all(part["status"] == "UP" for part in parts.values())
        return {"status": "UP" if up else "DOWN", "parts": parts}

    def gauges(self) -> list[Gauge]:
        """What Prometheus reads."""
        journal, sink, counters = self.registry.journal, self.sink, self.inlet.counters
        folder = Path(self.settings.data_dir)
        return [
            Gauge("journal_number", "Number of the newest event.", lambda: journal.last),
            Gauge("series_number", "Number of the newest event that history shows.", lambda: sink.status.cursor),
            Gauge("series_behind", "Events that history does not show yet.", lambda: journal.last - sink.status.cursor),
            Gauge("series_samples", "Samples written.", lambda: sink.status.samples, "counter"),
            Gauge("audit_number", "Number of the newest event in the audit trail.", lambda: self.trail.status().place),
            Gauge(
                "audit_lost",
                "Refusals that found no room in the audit trail.",
                lambda: self.trail.status().lost,
                "counter",
            ),
            Gauge("disk_free_bytes", "Room on the disk of the data folder.", lambda: disk.room(folder).free),
            Gauge("mqtt_received", "MQTT messages taken in.", lambda: counters.received, "counter"),
            Gauge(
                "mqtt_committed", "MQTT messages committed, or known already.", lambda: counters.committed, "counter"
            ),
            Gauge("mqtt_dead", "MQTT messages that became dead letters.", lambda: counters.dead, "counter"),
            Gauge(
                "mqtt_retried", "Batches tried again because the store was away.", lambda: counters.retried, "counter"
            ),
            Gauge("mqtt_connected", "Connected devices, or 1 while the external broker is there.", self._connected),
            *(_of_broker(self.broker) if isinstance(self.broker, Broker) else ()),
        ]

    def _connected(self) -> float:
        if isinstance(self.broker, Broker):
            return self.broker.status().connections
        return float(self.broker.status.connected)


def _of_broker(broker: Broker) -> list[Gauge]:
    """What became of messages and logins that the embedded broker could not follow."""
    status = broker.status
    return [
        Gauge("broker_delivered", "Messages sent on to subscribers.", lambda: status().delivered, "counter"),
        Gauge(
            "broker_dropped", "Messages that found no room with a slow subscriber.", lambda: status().dropped, "counter"
        ),
        Gauge("broker_refused", "Messages that were not allowed.", lambda: status().refused, "counter"),
        Gauge("broker_logins_refused", "Logins that were refused.", lambda: status().logins_refused, "counter"),
    ]


@asynccontextmanager
async def _series(settings: Settings, folder: Path, store: SqliteStore) -> AsyncIterator[Series]:
    """The series store of the settings; the libraries of the one that is not used are not loaded."""
    series: Series
    if settings.influx_url is None:
        from skerry_adapters.series.duckdb import DuckSeries  # noqa: PLC0415

        series = DuckSeries(folder / "series.duckdb", memory=settings.series_memory)
    else:
        from skerry_adapters.series.influx import InfluxSeries  # noqa: PLC0415

        async def load() -> int:
            return await store.cursor("influx")

        async def save(number: int) -> None:
            await store.move_cursor("influx", number)

        series = InfluxSeries(
            settings.influx_url,
            settings.influx_token or "",
            settings.influx_org or "",
            settings.influx_bucket or "",
            load_cursor=load,
            save_cursor=save,
        )
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(series)
        except SeriesUnavailable as error:
            raise SeriesUnusable(reason=error.facts.get("reason")) from error
        yield series


@asynccontextmanager
async def _in_background(name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run until the block is left; an end before that is logged, for somebody must come."""
    task = asyncio.create_task(work, name=name)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work ended", extra={"work": name}, exc_info=error)

    task.add_done_callback(ended)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _forget(series: Series, settings: Settings) -> None:
    """Forget old samples, now and every hour; a store that is away is asked again the next time."""
    while True:
        try:
            await series.trim(now() - int(settings.series_retention_days * times.DAY))
        except SeriesUnavailable as error:
            log.warning("no samples forgotten", extra={"reason": error.facts.get("reason")})
        await asyncio.sleep(TRIM_EVERY)
