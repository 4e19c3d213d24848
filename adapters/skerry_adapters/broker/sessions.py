"""What a client and the broker owe each other: one session's subscriptions, queues and packet ids. No I/O of its own."""

from __future__ import annotations

import logging
from collections import deque
from typing import Protocol

from msgspec import Struct, field

from skerry.signals import Clock, Micros
from skerry_adapters.broker import storage as db
from skerry_adapters.broker.codec import encode, publish_parts
from skerry_adapters.broker.packets import V5, Filter, Properties, Publish, Pubrel, Reason, weight
from skerry_adapters.broker.rights import Login, Verdicts
from skerry_adapters.broker.storage import Storage

log = logging.getLogger(__name__)

_MIDS_AHEAD = 60_000


class Limits(Struct, frozen=True, kw_only=True):
    """Bounds of the broker; each says what happens at it.

      connections: more are refused with "quota exceeded" (3.1.1: "server unavailable").
      packet_bytes: a larger packet ends the connection.
      unacknowledged: messages of one connection that wait for `take`; beyond it nothing more is read from it.
      waiting_bytes: the same for all connections together.
      inflight: QoS > 0 messages on their way to one client (it may ask for fewer).
      queued, queued_bytes: QoS > 0 messages kept for one session. When full, a connected client without a persistent
        session is disconnected with "quota exceeded"; otherwise the new message is dropped for this session and counted.
      queued_bytes_of_all: the same for all sessions together.
      fleeting, fleeting_bytes: QoS 0 messages kept for one slow connected client; the oldest are dropped and counted.
      retained, retained_bytes: beyond them a new topic's message is delivered, but not retained, and counted.
    desired, desired_bytes: the same for the desired state of devices, which the server retains.
      sessions: persistent sessions of absent clients; beyond it the longest absent is forgotten.
      session_seconds: longest life of a session without connection; a client that asks for more is told.
      subscriptions: topic filters of one session; more are refused with "quota exceeded".
      connect_seconds: a CONNECT has to come within it.
    """

    connections: int = 10_000
    packet_bytes: int = 1_048_576
    unacknowledged: int = 1_000
    waiting_bytes: int = 67_108_864
    inflight: int = 1_000
    queued: int = 100_000
    queued_bytes: int = 67_108_864
    queued_bytes_of_all: int = 1_073_741_824
    fleeting: int = 10_000
    fleeting_bytes: int = 8_388_608
    retained: int = 10_000
    retained_bytes: int = 67_108_864
    desired: int = 250_000
    desired_bytes: int = 268_435_456
    sessions: int = 10_000
    session_seconds: int = 7 * 86_400
    subscriptions: int = 1_000
    connect_seconds: float = 10


class Wire(Protocol):
    """The connection of a session, as the session sees it."""

    @property
    def version(self) -> int:
        """Protocol level."""
        ...

    @property
    def writable(self) -> bool:
        """False while the client does not keep up."""
        ...

    @property
    def largest(self) -> int:
        """The largest packet the client takes."""
        ...

    def write(self, data: bytes) -> None:
        """Send."""
        ...

    def close(self, reason: Reason) -> None:
        """End it; MQTT 5 clients are told why."""
        ...

    def may_get(self, topic: str) -> bool | None:
        """Whether the client may read messages of the topic; None: that is being found out, and `pump` is called then."""
        ...


class Message(Struct, eq=False):
    """An application message on its way to subscribers. `origin`: the session that published it."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    expires: Micros | None = None
    properties: Properties | None = None
    origin: object = None
    parts: dict[tuple[int, int, bool], tuple[bytes, bytes]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that keeping it takes."""
        return weight(self.topic, self.payload, self.properties)


class Hoard(Struct):
    """How many bytes all sessions together keep."""

    bytes: int = 0


class Subscription(Struct, frozen=True):
    """A granted topic filter. `identifier`: 0 for none."""

    filter: Filter
    identifier: int = 0


class Delivery(Struct, eq=False):
    """A message for one session. `seq`: its place; `mid`: its packet id; `flying`: sent on the present connection."""

    message: Message
    qos: int
    retain: bool = False
    identifiers: tuple[int, ...] = ()
    seq: int = 0
    mid: int = 0
    sent: bool = False
    flying: bool = False
    released: bool = False


class Session:
    """One client's state. `expiry` in seconds: 0 ends it with the connection; else it is in the storage."""

    def __init__(
        self, number: int, user: str, client_id: str, *, storage: Storage, clock: Clock, limits: Limits, hoard: Hoard
    ) -> None:
        """A fresh session, without connection."""
        self.number = number
        self.user = user
        self.client_id = client_id
        self.login: Login | None = None
        self.address = ""
        self.origin = "mqtt"
        self.verdicts = Verdicts()
        self.expiry = 0
        self.left: Micros | None = None
        self.dead = False
        self.subscriptions: dict[str, Subscription] = {}
        self.received: set[int] = set()
        self.wire: Wire | None = None
        self.dropped = 0
        self._storage = storage
        self._clock = clock
        self._limits = limits
        self._hoard = hoard
        self._queue: deque[Delivery] = deque()
        self._fleeting: deque[Delivery] = deque()
        self._mids: dict[int, Delivery] = {}
        self._last_mid = 0
        self._next_seq = 1
        self._window = limits.inflight
        self._flying = 0
        self._held = 0
        self._held_bytes = 0
        self._fleeting_bytes = 0
        self._complained = False

    @property
    def persistent(self) -> bool:
        """Whether it outlives its connection."""
        return self.expiry > 0

    @property
    def waiting(self) -> int:
        """QoS > 0 messages that the client has not acknowledged."""
        return self._held

    def keep(self) -> None:
        """Write the session itself to the storage."""
        self._storage.write(db.PUT_SESSION, self.number, self.user, self.client_id, self.expiry, self.left)

    def restore(self, deliveries: list[db.Row], received: list[int]) -> None:
        """Take back what the storage kept."""
        for seq, mid, state, topic, payload, qos, retain, expires, cell in deliveries:
            properties = db.unpack(cell)
            message = Message(topic, payload, qos, False, expires, properties)
            delivery = Delivery(message, qos, bool(retain), (), seq, mid, sent=state > 0, released=state == 2)
            if mid:
                self._mids[mid] = delivery
            self._queue.append(delivery)
            self._hold(message.size)
            self._next_seq = seq + 1
        self.received = set(received)

    def attach(self, wire: Wire, window: int) -> None:
        """The client is here; call `pump` to send what waits, unacknowledged first."""
        self.wire = wire
        self.left = None
        self._window = min(window, self._limits.inflight)
        again = sorted((d for d in self._mids.values() if d.flying), key=lambda d: d.seq)
        for delivery in again:
            delivery.flying = False
        self._queue.extendleft(reversed(again))
        self._flying = 0

    def detach(self) -> None:
        """The client is gone; messages at QoS 0 go with it."""
        self.wire = None
        self._fleeting.clear()
        self._fleeting_bytes = 0

    def end(self) -> None:
        """It is over; what it kept is given up."""
        self.dead = True
        self._hoard.bytes -= self._held_bytes
        self._held = self._held_bytes = 0

    def reserve(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...] = ()) -> Delivery | None:
        """A place for a message, stored if the session is; None when there is no room. Then `admit` it."""
        if not qos:
            return Delivery(message, 0, retain, identifiers) if self.wire is not None else None
        size, limits = message.size, self._limits
        full = self._held >= limits.queued or self._held_bytes + size > limits.queued_bytes
        if full or self._hoard.bytes + size > limits.queued_bytes_of_all:
            self._overflow()
            return None
        delivery = Delivery(message, qos, retain, identifiers, self._next_seq)
        self._next_seq += 1
        if len(self._mids) < _MIDS_AHEAD:
            self._name(delivery)
        self._hold(size)
        if self.expiry:
            properties = message.properties
            if identifiers:
                properties = {**(properties or {}), "subscription_identifier": list(identifiers)}
            row = (
                self.number,
                delivery.seq,
                delivery.mid,
                0,
                message.topic,
                message.payload,
                qos,
                int(retain),
                message.expires,
                db.pack(properties),
            )
            self._storage.write(db.PUT_QUEUED, *row)
        return delivery

    def admit(self, delivery: Delivery) -> None:
        """Send it, or let it wait for its turn."""
        if self.dead:
            return
        if delivery.qos:
            self._queue.append(delivery)
        elif self.wire is not None:
            self._fleeting.append(delivery)
            self._fleeting_bytes += delivery.message.size
            while len(self._fleeting) > self._limits.fleeting or self._fleeting_bytes > self._limits.fleeting_bytes:
                self._fleeting_bytes -= self._fleeting.popleft().message.size
                self.dropped += 1
        self.pump()

    def pump(self) -> None:
        """Send as much as the client takes now; what it may not read any more is given up instead."""
        wire = self.wire
        while wire is not None and wire.writable and self._queue and self._flying < self._window:
            may = self._queue[0].released or wire.may_get(self._queue[0].message.topic)
            if may is None:
                return
            delivery = self._queue.popleft()
            delivery.flying = True
            self._flying += 1
            if may:
                self._send(wire, delivery)
            else:
                self._finish(delivery)
            wire = self.wire
        while wire is not None and wire.writable and self._fleeting:
            may = wire.may_get(self._fleeting[0].message.topic)
            if may is None:
                return
            delivery = self._fleeting.popleft()
            self._fleeting_bytes -= delivery.message.size
            data = self._packet(wire, delivery) if may else b""
            if data:
                wire.write(data)

    def acknowledged(self, mid: int) -> None:
        """PUBACK."""
        delivery = self._mids.get(mid)
        if delivery is not None and delivery.qos == 1 and delivery.flying:
            self._finish(delivery)
            self.pump()

    def taken(self, mid: int, reason: int) -> None:
        """PUBREC: the client has the message, or refuses it."""
        delivery = self._mids.get(mid)
        if delivery is None or delivery.qos != 2 or not delivery.flying:
            if self.wire is not None and reason < Reason.UNSPECIFIED:
                unknown = Reason.PACKET_ID_NOT_FOUND if self.wire.version == V5 else Reason.SUCCESS
                self.wire.write(encode(Pubrel(mid, unknown), self.wire.version))
        elif reason >= Reason.UNSPECIFIED:
            self._finish(delivery)
            self.pump()
        else:
            delivery.released = True
            if self.expiry:
                self._storage.write(db.RELEASE_QUEUED, self.number, delivery.seq)
                self._storage.then(lambda: self._release(delivery))
            else:
                self._release(delivery)

    def completed(self, mid: int) -> None:
        """PUBCOMP."""
        delivery = self._mids.get(mid)
        if delivery is not None and delivery.released and delivery.flying:
            self._finish(delivery)
            self.pump()

    def _send(self, wire: Wire, delivery: Delivery) -> None:
        """PUBLISH, or PUBREL where the client has it already."""
        if delivery.released:
            self._release(delivery)
            return
        again = delivery.sent
        late = not delivery.mid
        if late:
            self._name(delivery)
        delivery.sent = True
        data = self._packet(wire, delivery, dup=again)
        if not data:
            self._finish(delivery)
            return
        if self.expiry and not again:
            self._storage.write(db.SENT_QUEUED, delivery.mid, self.number, delivery.seq)
            if late and delivery.qos == 2:
                # Exactly once: after a crash the message must go out with the same packet id.
                self._storage.then(lambda: self._write_if(wire, delivery, data))
                return
        wire.write(data)

    def _write_if(self, wire: Wire, delivery: Delivery, data: bytes) -> None:
        """Send it, if it still is to be sent there."""
        if self.wire is wire and self._mids.get(delivery.mid) is delivery:
            wire.write(data)

    def _release(self, delivery: Delivery) -> None:
        """PUBREL."""
        if self.wire is not None and self._mids.get(delivery.mid) is delivery:
            self.wire.write(encode(Pubrel(delivery.mid), self.wire.version))

    def _finish(self, delivery: Delivery) -> None:
        """The client has it, or cannot have it: forget it."""
        self._mids.pop(delivery.mid, None)
        self._flying -= 1
        if not self.dead:
            self._hold(-delivery.message.size, -1)
        self._complained = False
        if self.expiry:
            self._storage.write(db.DROP_QUEUED, self.number, delivery.seq)

    def _hold(self, size: int, count: int = 1) -> None:
        """Keep so much more, or less."""
        self._held += count
        self._held_bytes += size
        self._hoard.bytes += size

    def _name(self, delivery: Delivery) -> None:
        """Give it a packet id that is not in use."""
        mid = self._last_mid % 65_535 + 1
        while mid in self._mids:
            mid = mid % 65_535 + 1
        self._last_mid = delivery.mid = mid
        self._mids[mid] = delivery

    def _packet(self, wire: Wire, delivery: Delivery, *, dup: bool = False) -> bytes:
        """The PUBLISH; empty when it has expired or is larger than the client takes."""
        message = delivery.message
        if dup or message.expires is not None or delivery.identifiers:
            properties = dict(message.properties or {})
            if message.expires is not None:
                left = message.expires - self._clock()
                if left <= 0:
                    return b""
                properties["message_expiry_interval"] = -(-left // 1_000_000)
            if delivery.identifiers:
                properties["subscription_identifier"] = list(delivery.identifiers)
            head, end = publish_parts(
                Publish(message.topic, message.payload, delivery.qos, delivery.retain, dup, 0, properties), wire.version
            )
        else:
            key = (wire.version, delivery.qos, delivery.retain)
            parts = message.parts.get(key)
            if parts is None:
                packet = Publish(
                    message.topic, message.payload, delivery.qos, delivery.retain, properties=message.properties
                )
                parts = message.parts[key] = publish_parts(packet, wire.version)
            head, end = parts
        data = head + delivery.mid.to_bytes(2) + end if delivery.qos else head + end
        return data if len(data) <= wire.largest else b""

    def _overflow(self) -> None:
        """There is no room for another QoS > 0 message."""
        self.dropped += 1
        if not self._complained:
            self._complained = True
            log.warning("mqtt queue full", extra={"client": self.client_id, "user": self.user, "queued": self._held})
        if self.wire is not None and not self.expiry:
            self.wire.close(Reason.QUOTA_EXCEEDED)
