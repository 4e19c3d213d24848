"""The embedded broker: listens, batches what comes in for `take`, acknowledges after it, routes to subscribers."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from msgspec import Struct

from skerry.errors import SkerryError
from skerry.signals import Clock
from skerry_adapters.broker import storage as db
from skerry_adapters.broker.arrivals import Arrival, inbound
from skerry_adapters.broker.connection import Connection
from skerry_adapters.broker.packets import SUCCESS, V5, Publish, Reason, Will, weight
from skerry_adapters.broker.rights import Login, Open, Refusal, Rights
from skerry_adapters.broker.router import Router, admit
from skerry_adapters.broker.sessions import Delivery, Limits, Session
from skerry_adapters.broker.storage import Storage
from skerry_adapters.broker.topics import check_topic
from skerry_adapters.inbound import Inbound, Take

log = logging.getLogger(__name__)

Authenticate: TypeAlias = Callable[[str, str, str], Awaitable[Login | None]]
"""Who a user with this password is, asking from this address; None refuses."""

TICK_SECONDS = 0.5
SAID = 10_000
"""Refusals that are remembered as logged already."""
_BATCH = 2_000


class BrokerNotListening(SkerryError):  # noqa: N818 - a row of the error table
    """The port is taken, or the address is not ours."""

    code = "broker.address.unavailable"
    status = 500
    message = "The MQTT broker cannot listen on {host}:{port}: {reason}."
    description = "Stop what uses the port, or choose another one with SKERRY_MQTT_PORT (0 takes a free one), or use an external broker with SKERRY_MQTT_URL."


class BrokerStatus(Struct, frozen=True, kw_only=True):
    """What the broker is doing. Counters are since the start; `failing` says why sessions cannot be stored."""

    connections: int
    sessions: int
    subscriptions: int
    retained: int
    waiting: int
    queued: int
    received: int
    delivered: int
    refused: int
    dropped: int
    violations: int
    logins_refused: int
    failing: str | None = None


class Broker:
    """An MQTT 3.1.1 and 5 broker for one machine: `async with Broker(...) as broker`.

    `take` gets what clients publish, in order; up to `pipeline` calls may be under way at once, begun in order. PUBACK and
    PUBREC follow when `take` has returned and what subscribers are owed is durable in `folder` (None: kept in memory).
    `rights` decides on each PUBLISH, SUBSCRIBE and delivery. A refused PUBLISH is dropped, counted and told to `note`: MQTT 5
    clients learn of it, 3.1.1 has no word for it, so it is acknowledged. Raises BrokerNotListening, SessionsUnreadable.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        take: Take,
        authenticate: Authenticate,
        clock: Clock,
        folder: Path | None,
        rights: Rights | None = None,
        note: Callable[[Refusal], None] | None = None,
        limits: Limits | None = None,
        pipeline: int = 4,
    ) -> None:
        """Nothing happens before it is entered."""
        self.host = host
        self.port = port
        self.authenticate = authenticate
        self.rights: Rights = rights or Open()
        self.note = note or _nobody_listens
        self.limits = limits or Limits()
        self.storage = Storage(None if folder is None else folder / "broker.db")
        self.router = Router(self.storage, clock, self.limits)
        self.connections: set[Connection] = set()
        self.paused: set[Connection] = set()
        self.topics: dict[bytes, str] = {}
        self.waiting_bytes = 0
        self.violations = 0
        self.logins_refused = 0
        self.loop: asyncio.AbstractEventLoop
        self._clock = clock
        self._take = take
        self._pipeline = pipeline
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wills: dict[Session, tuple[float, Will]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrivals: list[Arrival] = []
        self._unsure = 0
        self._asking = False
        self._said: dict[tuple[str, str, str], None] = {}
        self._taking: list[asyncio.Task[None]] = []
        self._scheduled = False
        self._stopping = False
        self._dirty: list[Connection] = []
        self._received = 0
        self._delivered = 0
        self._refused = 0

    async def __aenter__(self) -> Self:
        """Open the sessions, listen; `port` is the one that was got."""
        self.loop = asyncio.get_running_loop()
        self.router.load(self.storage.open())
        try:
            self._server = await self.loop.create_server(lambda: Connection(self), self.host, self.port, backlog=1024)
        except OSError as error:
            await self.storage.close()
            reason = "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
            raise BrokerNotListening(host=self.host, port=self.port, reason=reason) from None
        self.port = self._server.sockets[0].getsockname()[1]
        self._timer = self.loop.call_later(TICK_SECONDS, self._tick)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Finish what is being taken, tell the clients, close."""
        assert self._server is not None
        assert self._timer is not None
        self._stopping = True
        self._timer.cancel()
        self._server.close()
        if self._taking:
            await asyncio.wait(self._taking, timeout=5)
        for connection in list(self.connections):
            connection.close(Reason.SHUTTING_DOWN, "the server is shutting down", will=False)
        rest = [*self._tasks, *self._taking]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self._server.wait_closed()
        await self.storage.close()

    def hand_out(self, planned: list[tuple[Session, Delivery]]) -> None:
        """Let planned deliveries go, once what absent clients are owed is durable."""
        if _stored(planned):
            self.storage.then(lambda: self._deliver(planned))
        else:
            self._deliver(planned)

    async def publish(self, topic: str, payload: bytes, qos: int = 0, *, retain: bool = False) -> None:
        """A message of the server's own; it does not pass `take`. Returns when what absent clients are owed is durable."""
        check_topic(topic)
        message = self.router.message(topic, payload, qos, retain, None, None)
        planned = self.router.plan(message)
        if retain or _stored(planned):
            await self.storage.settled()
        self._deliver(planned)

    def status(self) -> BrokerStatus:
        """What it is doing now."""
        sessions = self.router.sessions.values()
        return BrokerStatus(
            connections=len(self.connections),
            sessions=len(sessions),
            subscriptions=sum(len(session.subscriptions) for session in sessions),
            retained=len(self.router.retained),
            waiting=sum(connection.unacknowledged for connection in self.connections),
            queued=sum(session.waiting for session in sessions),
            received=self._received,
            delivered=self._delivered,
            refused=self._refused,
            dropped=self.router.sessions_dropped,
            violations=self.violations,
            logins_refused=self.logins_refused,
            failing=self.storage.failing,
        )

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that ends with the broker at the latest."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def enter(
        self, connection: Connection, user: str, client_id: str, *, clean: bool, expiry: int
    ) -> tuple[Session, bool]:
        """The session for a client that logs in, and whether it is an old one. A connection that has it is taken over."""
        old = self.router.sessions.get((user, client_id))
        if old is not None and old.wire is not None and old.wire is not connection:
            old.wire.close(Reason.TAKEN_OVER)
            old = self.router.sessions.get((user, client_id))
        if old is None or clean:
            if old is not None:
                self._end_session(old)
            session = self.router.create(user, client_id)
            session.expiry = expiry
            return session, False
        self._wills.pop(old, None)
        self.prolong(old, expiry)
        return old, True

    def prolong(self, session: Session, expiry: int) -> None:
        """Change how long the session lives after its connection."""
        if session.persistent and not expiry:
            self.storage.drop_session(session.number)
        session.expiry = expiry
        if expiry:
            session.keep()

    def left(self, session: Session, will: Will | None) -> None:
        """Its connection has ended."""
        session.detach()
        delay = 0 if will is None else min(will.properties.get("will_delay_interval", 0), session.expiry)
        if will is not None and delay:
            self._wills[session] = (self.loop.time() + delay, will)
        elif will is not None:
            self._leave(session, will)
        if session.persistent:
            session.left = self._clock()
            session.keep()
        else:
            self.router.drop(session)

    def when_durable(self, session: Session, call: Callable[[], None]) -> None:
        """Call when the session's changes are on disk; at once for a session that is not stored."""
        if session.persistent:
            self.storage.then(call)
        else:
            call()

    def flush_soon(self, connection: Connection) -> None:
        """Send what it has written at the end of this turn."""
        if not self._dirty:
            self.loop.call_soon(self._flush)
        self._dirty.append(connection)

    def refuse(self, session: Session, action: Literal["publish", "subscribe"], topic: str) -> None:
        """A client may not: tell whom it concerns; the log hears of it once per client and topic."""
        self.note(Refusal(action, session.user, session.verdicts.subjects, session.client_id, session.address, topic))
        key = (session.user, session.client_id, topic)
        if key in self._said:
            return
        if len(self._said) >= SAID:
            del self._said[next(iter(self._said))]
        self._said[key] = None
        facts = {"client": session.client_id, "user": session.user, "topic": topic}
        log.warning("mqtt publish refused" if action == "publish" else "mqtt subscription refused", extra=facts)

    def arrived(self, arrival: Arrival) -> None:
        """Packets for the next batch."""
        if arrival.reason is None:
            self._unsure += 1
        self._arrivals.append(arrival)
        self.waiting_bytes += arrival.weight
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._hand_over)

    def joined(self, run: Arrival, packet: Publish, size: int) -> None:
        """One more plain packet for a run that arrived in this turn of the loop."""
        run.packets.append(packet)
        run.weight += size
        self.waiting_bytes += size

    def _hand_over(self) -> None:
        """Give what this turn has brought to `take`, unless enough calls are under way."""
        self._scheduled = False
        while self._arrivals and len(self._taking) < self._pipeline and not (self._stopping or self._asking):
            batch = self._next_batch()
            if self._unsure and any(arrival.reason is None for arrival in batch):
                self._asking = True
                self.spawn(self._judge(batch))
                return
            task = self.loop.create_task(self._deal(batch, self._taking[-1] if self._taking else None))
            self._taking.append(task)
            task.add_done_callback(self._dealt)

    def _next_batch(self) -> list[Arrival]:
        """The oldest arrivals."""
        count = 0
        for place, arrival in enumerate(self._arrivals, 1):
            count += len(arrival.packets)
            if count >= _BATCH:
                batch, self._arrivals = self._arrivals[:place], self._arrivals[place:]
                return batch
        batch, self._arrivals = self._arrivals, []
        return batch

    async def _judge(self, batch: list[Arrival]) -> None:
        """Look up the rights that are not in memory; the batch is then handed over before all that came after it."""
        unsure = [arrival for arrival in batch if arrival.reason is None]
        topics = [packet.topic for arrival in unsure for packet in arrival.packets]
        answers = [topic for arrival in unsure if (topic := arrival.properties.get("response_topic")) is not None]
        await self.rights.learn([*topics, *answers])
        for arrival in unsure:
            self._unsure -= 1
            connection, session, (packet,) = arrival.connection, arrival.session, arrival.packets
            # What nobody can say now the registry does: it decides on every command with the same rights.
            arrival.reason = self.rights.publish(session.verdicts, packet.topic) or SUCCESS
            if (
                arrival.reason is not SUCCESS
                and packet.qos == 2
                and connection is not None
                and connection.version == V5
            ):
                session.received.discard(packet.mid)
        self._arrivals[:0] = batch
        self._asking = False
        self._hand_over()

    def _dealt(self, task: asyncio.Task[None]) -> None:
        """A batch is done."""
        self._taking.remove(task)
        self._hand_over()

    async def _deal(self, batch: list[Arrival], before: asyncio.Task[None] | None) -> None:
        """Take a batch; then, after the batch before it, route and acknowledge it."""
        rights = self.rights
        messages: list[Inbound] = []
        for arrival in batch:
            if arrival.reason is SUCCESS and arrival.fresh:
                messages += inbound(rights, arrival)
        try:
            if messages:
                await self._take(messages)
            if before is not None and not before.done():
                await asyncio.wait({before})
            planned, stored = self._plan(batch)
            if stored:
                await self.storage.settled()
            self._deliver(planned)
            self._acknowledge(batch)
        except Exception:
            log.exception("mqtt messages not taken", extra={"messages": len(messages)})
            self._abandon(batch)
        self.waiting_bytes -= sum([arrival.weight for arrival in batch])
        self._flush()
        for connection in list(self.paused):
            connection.regulate()

    def _plan(self, batch: list[Arrival]) -> tuple[list[tuple[Session, Delivery]], bool]:
        """Reserve what subscribers get; answers also whether something was stored that acknowledgements must wait for."""
        planned: list[tuple[Session, Delivery]] = []
        stored = False
        router = self.router
        for arrival in batch:
            if arrival.packets[0].qos == 2 and self._remembered(arrival):
                stored = True
            if arrival.reason is not SUCCESS:
                self._refused += 1
                self.refuse(arrival.session, "publish", arrival.packets[0].topic)
                continue
            for packet in arrival.packets if arrival.fresh else ():
                topic, retain = packet.topic, packet.retain
                if retain or router.wanted(topic):
                    message = router.message(
                        topic, packet.payload, packet.qos, retain, packet.properties, arrival.session
                    )
                    stored = stored or retain
                    planned += router.plan(message)
        return planned, stored or _stored(planned)

    def _remembered(self, arrival: Arrival) -> bool:
        """Store the packet id of a QoS 2 message where the session outlives its connection."""
        session, mid = arrival.session, arrival.packets[0].mid
        if arrival.connection is None or not session.persistent or mid not in session.received:
            return False
        self.storage.write(db.PUT_RECEIVED, session.number, mid)
        return True

    def _deliver(self, planned: list[tuple[Session, Delivery]]) -> None:
        """Let planned deliveries go."""
        self._delivered += len(planned)
        admit(planned)

    def _acknowledge(self, batch: list[Arrival]) -> None:
        """PUBACK and PUBREC, in order."""
        for arrival in batch:
            self._received += len(arrival.packets)
            if arrival.connection is not None:
                arrival.connection.answered(arrival)

    def _abandon(self, batch: list[Arrival]) -> None:
        """`take` broke: end the connections unacknowledged, so that the clients send again."""
        for arrival in batch:
            packet = arrival.packets[0]
            if packet.qos == 2 and arrival.fresh:
                arrival.session.received.discard(packet.mid)
            if arrival.connection is not None:
                arrival.connection.close(Reason.UNSPECIFIED, "the server failed to store a message")

    def _flush(self) -> None:
        """Send what connections have written."""
        dirty, self._dirty = self._dirty, []
        for connection in dirty:
            connection.flush()

    def _leave(self, session: Session, will: Will) -> None:
        """Publish a will as its owner would."""
        packet = Publish(will.topic, will.payload, will.qos, will.retain, properties=will.properties or None)
        if session.login is not None and not session.login.valid():
            self._refused += 1
            return
        reason = self.rights.publish(session.verdicts, will.topic)
        size = weight(will.topic, will.payload, packet.properties)
        self.arrived(Arrival(None, session, [packet], size, reason))

    def _end_session(self, session: Session) -> None:
        """The session is over; a will that waited for that is published."""
        waiting = self._wills.pop(session, None)
        if waiting is not None:
            self._leave(session, waiting[1])
        self.router.drop(session)

    def _tick(self) -> None:
        """Twice a second: silent clients, wills whose time has come, sessions whose time is over."""
        now = self.loop.time()
        self._timer = self.loop.call_later(TICK_SECONDS, self._tick)
        for connection in list(self.connections):
            connection.sweep(now)
        for session, (due, will) in list(self._wills.items()):
            if due <= now:
                del self._wills[session]
                self._leave(session, will)
        for session in self.router.expired(self._clock()):
            self._end_session(session)


def _nobody_listens(refusal: Refusal) -> None:
    """Where refusals go that nobody asked for."""


def _stored(planned: list[tuple[Session, Delivery]]) -> bool:
    """Whether any of it is owed to a session that outlives its connection."""
    return any(delivery.qos and session.persistent for session, delivery in planned)
