"""One client's connection: packets in and out, its rights, its flow control. The asyncio edge of a session."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from skerry_adapters.broker import storage as db
from skerry_adapters.broker.admission import admit
from skerry_adapters.broker.arrivals import LONGEST_RUN, Arrival, acknowledgements, resolved
from skerry_adapters.broker.codec import Decoder, encode
from skerry_adapters.broker.packets import (
    OLD_REFUSALS,
    SUCCESS,
    V5,
    V311,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Properties,
    ProtocolViolation,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Reason,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
    weight,
)
from skerry_adapters.broker.sessions import Session, Subscription
from skerry_adapters.broker.subscriptions import asked, subscribe

if TYPE_CHECKING:
    from skerry_adapters.broker.server import Broker

log = logging.getLogger(__name__)

LEARN_SECONDS = 0.5
"""How long until rights are looked up again that could not be."""
_GREETINGS = 100
_GREETING_BYTES = 262_144
_FLUSH_BYTES = 65_536
_STUCK_BYTES = 4_194_304


class Connection(asyncio.Protocol):
    """From accept to close. `session` is there once the client has logged in."""

    def __init__(self, broker: Broker) -> None:
        """A connection of this broker."""
        self.broker = broker
        self.session: Session | None = None
        self.heard = broker.loop.time()
        self.keepalive = 0
        self.version = V311
        self.largest = 268_435_460
        self.unacknowledged = 0
        self.open = False
        self.closed = False
        self.paused = False
        self._transport: asyncio.Transport | None = None
        self._decoder = Decoder(min(_GREETING_BYTES, broker.limits.packet_bytes))
        self._waiting: list[Packet] = []
        self._aside: asyncio.Task[None] | None = None
        self._learning: asyncio.Task[None] | None = None
        self.will: Will | None = None
        self._aliases: dict[int, str] = {}
        self._expected = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._stalled = False

    @property
    def writable(self) -> bool:
        """False before CONNACK and while the client does not read."""
        return self.open and not self._stalled

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepted."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.broker.connections.add(self)
        if len(self.broker.connections) > self.broker.limits.connections + _GREETINGS:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        del exc
        self._end(will=True)
        self.broker.connections.discard(self)
        for task in (self._aside, self._learning):
            if task is not None:
                task.cancel()

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        self._stalled = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._stalled = False
        if self.session is not None and self.open:
            self.session.pump()
        self.regulate()

    def data_received(self, data: bytes) -> None:
        """Bytes, to packets, to deeds."""
        if self.closed:
            return
        if self.open:
            self.heard = self.broker.loop.time()
        packets = self._decoder.feed(data)
        if self._aside is not None:
            self._waiting += packets
        else:
            self._handle(packets)

    def write(self, data: bytes) -> None:
        """Send with the rest of this turn."""
        if self.closed:
            return
        if not self._out:
            self.broker.flush_soon(self)
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what is written to the transport."""
        if self._out and self._transport is not None and not self.closed:
            out, self._out, self._out_bytes = self._out, [], 0
            self._transport.write(b"".join(out))

    def close(self, reason: Reason, text: str = "", *, will: bool = True) -> None:
        """End it; an MQTT 5 client is told why."""
        if self.closed:
            return
        if self.open and self.version == V5:
            self.write(encode(Disconnect(reason, {"reason_string": text} if text else {}), V5))
        self.flush()
        self._end(will=will)
        if self._transport is not None:
            if self._stalled:
                self._transport.abort()
            else:
                self._transport.close()

    def sweep(self, now: float) -> None:
        """Look after silent clients, now and then."""
        silent = now - self.heard
        if self.closed:
            if silent > self.broker.limits.connect_seconds and self._transport is not None:
                self._transport.abort()
        elif self.open:
            session = self._session
            if session.login is not None and not session.login.valid():
                log.info("mqtt login over", extra={"client": self._name, "user": session.user})
                self.close(Reason.NOT_AUTHORIZED, "the login is not valid any more", will=False)
            elif self.keepalive and not self.paused and silent > 1.5 * self.keepalive:
                log.info("mqtt client silent", extra={"client": self._name})
                self.close(Reason.KEEP_ALIVE_TIMEOUT)
        elif self._aside is None and silent > self.broker.limits.connect_seconds:
            self.close(Reason.UNSPECIFIED)

    def regulate(self) -> None:
        """Read, unless too much of this client's or of everybody's waits for `take`, or it reads no answers."""
        if self.closed or self._transport is None or self._aside is not None:
            return
        limits = self.broker.limits
        most = limits.unacknowledged // 2 if self.paused else limits.unacknowledged - 1
        stop = (
            self.unacknowledged > most
            or self.broker.waiting_bytes >= limits.waiting_bytes
            or (self._stalled and self._transport.get_write_buffer_size() > _STUCK_BYTES)
        )
        if stop and not self.paused:
            self.paused = True
            self.broker.paused.add(self)
            self._transport.pause_reading()
        elif self.paused and not stop:
            self.paused = False
            self.broker.paused.discard(self)
            self.heard = self.broker.loop.time()
            self._transport.resume_reading()

    def _handle(self, packets: list[Packet]) -> None:
        """Deal with packets in order, then with what was wrong after them."""
        run: Arrival | None = None
        try:
            for index, packet in enumerate(packets):
                if type(packet) is Publish:
                    run = self._published(packet, run)
                    continue
                run = None
                handler = self._HANDLERS.get(type(packet))
                if handler is None or (not self.open and type(packet) is not Connect):
                    raise ProtocolViolation(Reason.PROTOCOL_ERROR, "a client must not send this packet here")  # noqa: TRY301
                handler(self, packet)
                if self.closed:
                    return
                if self._aside is not None:
                    self._waiting = packets[index + 1 :]
                    return
            if self._decoder.violation is not None:
                raise self._decoder.violation
        except ProtocolViolation as violation:
            self._violated(violation)
            return
        self.regulate()

    def _violated(self, violation: ProtocolViolation) -> None:
        """The client broke the protocol."""
        log.info("mqtt connection closed", extra={"client": self._name, "reason": str(violation)})
        self.broker.violations += 1
        if self.open:
            self.close(violation.reason, str(violation))
        elif self._decoder.version is None and violation.reason is not Reason.UNSUPPORTED_VERSION:
            self.close(violation.reason)
        else:
            self._refuse(violation.reason, self._decoder.version or V311)

    @property
    def address(self) -> str:
        """Where the client is, as far as the system tells."""
        peer = None if self._transport is None else self._transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    @property
    def _name(self) -> str | None:
        """The client id, once it is known."""
        return None if self.session is None else self.session.client_id

    def _published(self, packet: Publish, run: Arrival | None) -> Arrival | None:
        """A PUBLISH: checked here, taken with its batch, acknowledged after that. `run`: plain ones just before it.

        Answers the run that plain ones just after it may join.
        """
        session = self.session
        if session is None or not self.open:
            raise ProtocolViolation(Reason.PROTOCOL_ERROR, "PUBLISH came before the login")
        broker, verdicts, received = self.broker, session.verdicts, session.received
        properties = packet.properties
        if properties is not None:
            packet = resolved(packet, self._aliases)
        topic, qos = packet.topic, packet.qos
        reason = verdicts.publish.get(topic)
        if reason is None:
            reason = broker.rights.publish(verdicts, topic)
        if properties is not None:
            reason = self._answerable(properties, reason)
        fresh = qos != 2 or packet.mid not in received
        if qos == 1:
            self._expected += 1
        elif qos and (reason is None or reason is SUCCESS or self.version != V5):
            received.add(packet.mid)
        if qos and self.version == V5 and self._expected + len(received) > broker.limits.unacknowledged:
            raise ProtocolViolation(
                Reason.RECEIVE_MAXIMUM_EXCEEDED, "more messages are unacknowledged than the receive maximum allows"
            )
        self.unacknowledged += 1
        plain = properties is None and qos != 2 and reason is SUCCESS
        size = weight(topic, packet.payload, properties)
        if plain and run is not None and len(run.packets) < LONGEST_RUN:
            broker.joined(run, packet, size)
            return run
        arrival = Arrival(self, session, [packet], size, reason, fresh)
        broker.arrived(arrival)
        return arrival if plain else None

    def _answerable(self, properties: Properties, reason: Reason | None) -> Reason | None:
        """The verdict; unknown while the one on the topic for the answer is."""
        topic = properties.get("response_topic")
        known = topic is None or self.broker.rights.subscribe(self._session.verdicts, topic) is not None
        return reason if known else None

    def answered(self, arrival: Arrival) -> None:
        """Its batch is committed: acknowledge."""
        if self.closed:
            return
        self.unacknowledged -= len(arrival.packets)
        self._expected -= [packet.qos for packet in arrival.packets].count(1)
        acks = acknowledgements(arrival, self.version)
        if acks:
            self.write(acks)

    def _connect(self, packet: Connect) -> None:
        """CONNECT: log in aside; what follows waits."""
        if self.open:
            raise ProtocolViolation(Reason.PROTOCOL_ERROR, "CONNECT came twice")
        assert self._transport is not None
        self._transport.pause_reading()
        self.version = packet.version
        self._aside = self.broker.spawn(self._log_in(packet))

    async def _log_in(self, packet: Connect) -> None:
        """Authenticate, find the session, answer, go on with what waited."""
        try:
            refusal = await admit(self, packet)
        except Exception:
            log.exception("mqtt login failed", extra={"user": packet.username, "client": packet.client_id})
            refusal = Reason.UNAVAILABLE
        self._aside = None
        if self.closed:
            return
        if refusal is not None:
            self._refuse(refusal, packet.version)
            return
        assert self.session is not None
        self._decoder.limit = self.broker.limits.packet_bytes
        self._decoder.topics = self.broker.topics
        self.session.pump()
        self._go_on()

    def _go_on(self) -> None:
        """Deal with what has waited, and read again."""
        assert self._transport is not None
        self._aside = None
        self.heard = self.broker.loop.time()
        if not self.paused:
            self._transport.resume_reading()
        waiting, self._waiting = self._waiting, []
        self._handle(waiting)

    def _refuse(self, reason: Reason, version: int) -> None:
        """CONNACK with a refusal, and close."""
        self.broker.logins_refused += 1
        code = int(reason) if version == V5 else OLD_REFUSALS.get(reason, 5)
        self.write(encode(Connack(False, code), version))
        self.close(reason)

    def _subscribe(self, packet: Subscribe) -> None:
        """SUBSCRIBE: what comes after it waits where rights have to be looked up first."""
        rights, verdicts = self.broker.rights, self._session.verdicts
        patterns = asked(packet)
        if all(rights.subscribe(verdicts, pattern) is not None for pattern in patterns):
            self._subscribed(packet)
            return
        assert self._transport is not None
        if not self.paused:
            self._transport.pause_reading()
        self._aside = self.broker.spawn(self._subscribe_later(packet, patterns))

    async def _subscribe_later(self, packet: Subscribe, patterns: list[str]) -> None:
        """Learn, answer, go on with what waited."""
        await self.broker.rights.learn(patterns)
        if self.closed:
            return
        self._aside = None
        try:
            self._subscribed(packet)
        except ProtocolViolation as violation:
            self._violated(violation)
            return
        self._go_on()

    def _subscribed(self, packet: Subscribe) -> None:
        """SUBSCRIBE: answered when it is durable, then the retained messages."""
        session, broker = self._session, self.broker
        codes, greeted = subscribe(broker, session, packet, self.version)

        def answer() -> None:
            self.write(encode(Suback(packet.mid, tuple(codes)), self.version))
            self._greet(greeted)

        broker.when_durable(session, answer)

    def may_get(self, topic: str) -> bool | None:
        """Whether the client may read messages of the topic; None: that is being found out, and the session goes on then."""
        verdicts = self._session.verdicts
        if verdicts.everything:
            return True
        may = verdicts.receive.get(topic)
        if may is None:
            may = self.broker.rights.receive(verdicts, topic)
        if may is None and self._learning is None:
            self._learning = self.broker.spawn(self._learn(topic))
        return may

    async def _learn(self, topic: str) -> None:
        """Look up the rights on a topic whose message waits; while the store is away it waits with it."""
        verdicts = self._session.verdicts
        while not self.closed and self.broker.rights.receive(verdicts, topic) is None:
            await self.broker.rights.learn([topic])
            if self.broker.rights.receive(verdicts, topic) is None:
                await asyncio.sleep(LEARN_SECONDS)
        self._learning = None
        if not self.closed:
            self._session.pump()

    def _greet(self, greetings: list[Subscription]) -> None:
        """Send what is retained for one subscription after the other; in between others have their turn."""
        if greetings and not self.closed:
            self.broker.router.greet(self._session, greetings[0])
            self.broker.loop.call_soon(self._greet, greetings[1:])

    def _unsubscribe(self, packet: Unsubscribe) -> None:
        """UNSUBSCRIBE: answered when it is durable."""
        session, router = self._session, self.broker.router
        reasons = tuple(
            Reason.SUCCESS if router.unsubscribe(session, topic) else Reason.NO_SUBSCRIPTION_EXISTED
            for topic in packet.filters
        )
        answer = encode(Unsuback(packet.mid, reasons), self.version)
        self.broker.when_durable(session, lambda: self.write(answer))

    def _pubrel(self, packet: Pubrel) -> None:
        """A publisher is done with a QoS 2 message; its packet id may come back once we have forgotten it durably."""
        session = self._session
        known = packet.mid in session.received
        session.received.discard(packet.mid)
        if known and session.persistent:
            self.broker.storage.write(db.DROP_RECEIVED, session.number, packet.mid)
        answer = encode(Pubcomp(packet.mid, Reason.SUCCESS if known else Reason.PACKET_ID_NOT_FOUND), self.version)
        self.broker.when_durable(session, lambda: self.write(answer))

    def _pingreq(self, packet: Pingreq) -> None:
        """Still there."""
        del packet
        self.write(b"\xd0\x00")

    def _disconnect(self, packet: Disconnect) -> None:
        """The client leaves; without a will, unless it asks for it."""
        session = self._session
        wanted = packet.properties.get("session_expiry_interval")
        if wanted is not None:
            if wanted and not session.persistent:
                raise ProtocolViolation(
                    Reason.PROTOCOL_ERROR, "a session that ends with its connection cannot be prolonged at the end"
                )
            self.broker.prolong(session, min(wanted, self.broker.limits.session_seconds))
        self._end(will=packet.reason == Reason.DISCONNECT_WITH_WILL)
        if self._transport is not None:
            self._transport.close()

    @property
    def _session(self) -> Session:
        """The session of an open connection."""
        assert self.session is not None
        return self.session

    def _end(self, *, will: bool) -> None:
        """Once: leave the session, and leave the will to the broker."""
        if self.closed:
            return
        self.closed = True
        self.broker.paused.discard(self)
        if self.session is not None and self.session.wire is self:
            self.broker.left(self.session, self.will if will else None)

    _HANDLERS: ClassVar[dict[type, Callable[[Connection, Any], None]]] = {
        Connect: _connect,
        Subscribe: _subscribe,
        Unsubscribe: _unsubscribe,
        Puback: lambda self, packet: self._session.acknowledged(packet.mid),
        Pubrec: lambda self, packet: self._session.taken(packet.mid, packet.reason),
        Pubrel: _pubrel,
        Pubcomp: lambda self, packet: self._session.completed(packet.mid),
        Pingreq: _pingreq,
        Disconnect: _disconnect,
    }
