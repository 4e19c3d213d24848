"""The parts of a server, opened in order; each closes in reverse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from skerry_adapters.broker import Broker, BrokerDownlink, PolicyRights, Topics
from skerry_adapters.dead_letters import DeadLetters
from skerry_adapters.inlet import Inlet
from skerry_adapters.mqtt import Address, MqttClient
from skerry_adapters.replies import Replies
from skerry_adapters.series.sink import Sink
from skerry_adapters.talk import Talk
from skerry_policies.document import Terms
from skerry_registry import contradictions, disk, series_store
from skerry_registry.audit import Trail
from skerry_registry.audit.refusals import Refusals
from skerry_registry.audit.tally import Tally
from skerry_registry.background import in_background
from skerry_registry.bulk.progress import Progress
from skerry_registry.device_rights import ThingRights, keep_current, logins
from skerry_registry.expiry import Expiry
from skerry_registry.identities.creation import Creation
from skerry_registry.identities.logins import Identities
from skerry_registry.identities.namespaces import NamespaceRules
from skerry_registry.live.devices import Devices
from skerry_registry.live.envelopes import Envelopes
from skerry_registry.live.streams import Streams
from skerry_registry.reasons import Reasons
from skerry_registry.registry import Registry
from skerry_registry.search.search import Search
from skerry_registry.settings import Settings, users_path
from skerry_registry.stores.sqlite import SqliteStore
from skerry_registry.users import Users

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from skerry.signals import Clock, NewId
    from skerry_adapters.downlink import Downlink
    from skerry_adapters.series.ports import Series


class Parts(Struct, frozen=True, kw_only=True):
    """The open parts, behind every edge that is not MQTT."""

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


async def opened(settings: Settings, stack: AsyncExitStack, clock: Clock, new_id: NewId) -> Parts:
    """Open every part; they close with the stack. Raises the SkerryError rows of a refused start."""
    contradictions.check(settings)
    folder = Path(settings.data_dir)
    users = Users.load(users_path(settings), prefix=settings.auth_basic_prefix)
    identities = await stack.enter_async_context(Identities.of(settings, users, clock))
    store = SqliteStore(folder)
    registry = await stack.enter_async_context(_registry(settings, store, clock, new_id))
    streams = Streams.of(registry, message_max_bytes=settings.message_max_bytes)
    expiry = Expiry(registry, store, streams.announcements)
    await stack.enter_async_context(in_background("subjects that end", expiry.run()))
    search = await stack.enter_async_context(Search(registry, store, memory=folder / "search-fields.json"))
    await stack.enter_async_context(in_background("disk", disk.watch(folder)))
    series, sink = await _history(settings, stack, registry, store)
    topics = Topics(settings.sources)
    trail, refusals = await _audit(settings, stack, registry, topics)
    progress = Progress(folder / "bulk.db", clock, hours=settings.bulk_key_hours)
    stack.callback(progress.close)
    inlet = await _intake(settings, stack, registry, trail)
    broker = _broker(settings, inlet, registry, identities, refusals, topics)
    await _converse(stack, broker, inlet, registry, streams)
    return Parts(
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


def _registry(settings: Settings, store: SqliteStore, clock: Clock, new_id: NewId) -> Registry:
    """The one door, as the settings want it."""
    return Registry(
        store,
        clock,
        new_id,
        cache_things=settings.cache_things,
        cache_text_bytes=settings.cache_text_bytes,
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


async def _history(
    settings: Settings, stack: AsyncExitStack, registry: Registry, store: SqliteStore
) -> tuple[Series, Sink]:
    """Where samples go, and what takes them there from the journal."""
    series = await stack.enter_async_context(series_store.opened(settings, store))
    journal = registry.journal
    sink = Sink(journal.follow, series, registry.clock)
    journal.spare("series", lambda: sink.status.durable)
    await stack.enter_async_context(in_background("series sink", sink.run()))
    if settings.influx_url is None and settings.series_retention_days:
        forgetting = series_store.forget(series, registry.clock, settings.series_retention_days)
        await stack.enter_async_context(in_background("series retention", forgetting))
    return series, sink


async def _audit(
    settings: Settings, stack: AsyncExitStack, registry: Registry, topics: Topics
) -> tuple[Trail, Refusals]:
    """Who did what, and who was refused what."""
    trail = await stack.enter_async_context(
        Trail(
            Path(settings.data_dir),
            registry.journal,
            registry.clock,
            retention_days=settings.audit_retention_days,
            max_bytes=settings.audit_max_bytes,
        )
    )
    refusals = Refusals(trail, registry, registry.clock, topics)
    registry.on_refused(refusals.command)
    return trail, refusals


async def _intake(settings: Settings, stack: AsyncExitStack, registry: Registry, trail: Trail) -> Inlet:
    """What takes in the messages of devices; what cannot be taken is kept apart."""
    dead_letters = DeadLetters(Path(settings.data_dir), settings.dead_letters_max)
    stack.callback(dead_letters.close)
    tally = Tally(trail, registry.clock) if settings.audit_telemetry == "hourly" else None
    if tally is not None:
        await stack.enter_async_context(in_background("audit tally", tally.run()))
    inlet = Inlet(
        settings.sources,
        registry.handle_all,
        dead_letters,
        registry.clock,
        limit=settings.message_max_bytes,
        count=None if tally is None else tally.count,
        explain=Reasons(registry).attach,
    )
    await stack.enter_async_context(in_background("dead letters", dead_letters.watch(inlet.replay)))
    return inlet


def _broker(  # noqa: PLR0917 - a broker asks all of them
    settings: Settings,
    inlet: Inlet,
    registry: Registry,
    identities: Identities,
    refusals: Refusals,
    topics: Topics,
) -> Broker | MqttClient:
    """The embedded broker, or the client of another."""
    if settings.mqtt_url is not None:
        address = Address.read(
            settings.mqtt_url,
            username=settings.mqtt_username,
            password=settings.mqtt_password,
            client_id=settings.mqtt_client_id,
            session_expiry=settings.mqtt_session_expiry,
        )
        return MqttClient(address, settings.sources, inlet.take, registry.clock)
    rights = PolicyRights(topics, ThingRights(registry))
    keep_current(registry, rights)
    return Broker(
        settings.mqtt_host,
        settings.mqtt_port,
        take=inlet.take,
        authenticate=logins(identities, NamespaceRules(settings.namespace_access, registry.clock)),
        rights=rights,
        note=refusals.broker,
        clock=registry.clock,
        folder=Path(settings.data_dir),
    )


async def _converse(
    stack: AsyncExitStack, broker: Broker | MqttClient, inlet: Inlet, registry: Registry, streams: Streams
) -> None:
    """Open the broker; from then on devices are told what is for them, and answered."""
    downlink: Downlink = BrokerDownlink(broker) if isinstance(broker, Broker) else broker.downlink
    devices = Devices(registry, streams, Envelopes(registry, streams), downlink)
    inlet.attach(await stack.enter_async_context(Talk(devices, Replies(downlink), registry.new_id)))
    await stack.enter_async_context(broker)
    stack.callback(devices.listen())
    await stack.enter_async_context(in_background("desired state", streams.desired.run(downlink)))
