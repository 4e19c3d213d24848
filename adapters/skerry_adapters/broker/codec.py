"""Bytes to control packets and back, MQTT 3.1.1 and 5: incremental, strict, without I/O."""

from __future__ import annotations

from skerry_adapters.broker import properties as p
from skerry_adapters.broker.packets import (
    V5,
    V311,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Filter,
    Packet,
    Pingreq,
    Pingresp,
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
)
from skerry_adapters.broker.properties import (
    Reader,
    decode_text,
    write_binary,
    write_properties,
    write_text,
    write_varint,
)
from skerry_adapters.broker.topics import COMMON_TOPIC, check_topic

DEFAULT_LIMIT = 1_048_576
_REMEMBERED_TOPICS = 131_072
_CONNECT_HEAD = 0x10
_ACKS: dict[int, type[Puback | Pubrec | Pubrel | Pubcomp]] = {
    p.PUBACK: Puback,
    p.PUBREC: Pubrec,
    p.PUBREL: Pubrel,
    p.PUBCOMP: Pubcomp,
}
_ACK_HEADS: dict[type, int] = {Puback: 0x40, Pubrec: 0x50, Pubrel: 0x62, Pubcomp: 0x70}
_FLAGS = {p.PUBREL: 2, p.SUBSCRIBE: 2, p.UNSUBSCRIBE: 2}


class Decoder:
    """Turns the bytes of one connection into packets.

    `feed` answers the whole packets so far; once `violation` is set, nothing more comes out of it.
    `limit` bounds the size of a packet, `topics` are those found sound; both may be changed between packets. What a client
    sends before it has logged in is best kept from the topics that the connections of a broker remember together.
    """

    __slots__ = ("_need", "_rest", "limit", "topics", "version", "violation")

    def __init__(
        self, limit: int = DEFAULT_LIMIT, version: int | None = None, topics: dict[bytes, str] | None = None
    ) -> None:
        """Without `version`, the first packet must be a CONNECT, and says it."""
        self.limit = limit
        self.version = version
        self.violation: ProtocolViolation | None = None
        self._rest = bytearray()
        self._need = 0
        self.topics: dict[bytes, str] = {} if topics is None else topics

    def feed(self, data: bytes) -> list[Packet]:  # noqa: C901, PLR0912 - the hot loop, kept in one place
        """The packets that are complete with these bytes."""
        found: list[Packet] = []
        if self.violation is not None:
            return found
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return found
            data = bytes(self._rest)
            self._rest = bytearray()
        position, size = 0, len(data)
        self._need = 0
        try:
            while size - position >= 2:
                if data[position] != _CONNECT_HEAD and self.version is None:
                    raise ProtocolViolation(Reason.PROTOCOL_ERROR, "the first packet must be CONNECT")  # noqa: TRY301
                length = data[position + 1]
                start = position + 2
                if length > 0x7F:
                    parsed = self._length(data, position)
                    if parsed is None:
                        break
                    length, start = parsed
                end = start + length
                if end - position > self.limit:
                    raise ProtocolViolation(Reason.PACKET_TOO_LARGE, f"a packet is larger than {self.limit} bytes")  # noqa: TRY301
                if end > size:
                    self._need = end - position
                    break
                first = data[position]
                if first >> 4 == p.PUBLISH:
                    found.append(self._publish(first, data, start, end))
                else:
                    found.append(self._packet(first, data[start:end]))
                position = end
        except ProtocolViolation as violation:
            self.violation = violation
            return found
        if position < size:
            self._rest = bytearray(data[position:])
        return found

    def _length(self, data: bytes, position: int) -> tuple[int, int] | None:
        """Remaining length and where the body starts; None while its bytes are not all here."""
        value = 0
        for count, shift in enumerate((0, 7, 14, 21), 1):
            if position + count >= len(data):
                return None
            digit = data[position + count]
            value |= (digit & 0x7F) << shift
            if digit < 0x80:
                if not digit and shift:
                    raise ProtocolViolation(Reason.MALFORMED, "the remaining length is longer than it must be")
                return value, position + count + 1
        raise ProtocolViolation(Reason.MALFORMED, "the remaining length has more than four bytes")

    def _publish(self, first: int, data: bytes, start: int, end: int) -> Publish:
        """The one packet that must be fast; topics are checked once and remembered."""
        qos = (first >> 1) & 3
        dup = first & 8 != 0
        if qos == 3 or (dup and not qos):
            raise ProtocolViolation(Reason.MALFORMED, "PUBLISH has flags that do not exist")
        cursor = start + 2 + (data[start] << 8 | data[start + 1]) if end - start >= 2 else end + 1
        if cursor + (2 if qos else 0) > end:
            raise ProtocolViolation(Reason.MALFORMED, "a field runs past the end of the packet")
        raw = data[start + 2 : cursor]
        topic = self.topics.get(raw)
        if topic is None:
            topic = self._topic(raw)
        mid = 0
        if qos:
            mid = data[cursor] << 8 | data[cursor + 1]
            if not mid:
                raise ProtocolViolation(Reason.PROTOCOL_ERROR, "a packet id must not be 0")
            cursor += 2
        properties = None
        if self.version == V5:
            if cursor < end and not data[cursor]:
                cursor += 1
            else:
                reader = Reader(data, cursor, end)
                properties = reader.properties(p.PUBLISH)
                cursor = reader.position
        if not topic and not (properties and "topic_alias" in properties):
            raise ProtocolViolation(Reason.PROTOCOL_ERROR, "PUBLISH names no topic")
        return Publish(topic, data[cursor:end], qos, first & 1 != 0, dup, mid, properties)

    def _topic(self, raw: bytes) -> str:
        """Check a topic name and remember it; in MQTT 5 an alias may stand for it."""
        if not raw and self.version == V5:
            return ""
        topic = decode_text(raw)
        check_topic(topic)
        if len(raw) <= COMMON_TOPIC and raw.isascii():  # one odd character makes a text four times as large
            if len(self.topics) >= _REMEMBERED_TOPICS:
                self.topics.clear()
            self.topics[raw] = topic
        return topic

    def _packet(self, first: int, body: bytes) -> Packet:
        """Any packet but PUBLISH."""
        kind = first >> 4
        if first & 0x0F != _FLAGS.get(kind, 0):
            raise ProtocolViolation(Reason.MALFORMED, "the fixed header has wrong flags")
        reader = Reader(body)
        if self.version is None:
            connect = _read_connect(reader)
            self.version = connect.version
            packet: Packet = connect
        elif kind == p.CONNECT:
            packet = _read_connect(reader)
        else:
            packet = _read(kind, reader, self.version)
        if reader.more:
            raise ProtocolViolation(Reason.MALFORMED, "a packet is longer than its fields")
        return packet


def _read_connect(reader: Reader) -> Connect:
    """CONNECT, which says its own version."""
    if reader.binary() not in (b"MQTT", b"MQIsdp"):
        raise ProtocolViolation(Reason.UNSUPPORTED_VERSION, "this is not MQTT")
    version = reader.byte()
    if version not in (V311, V5):
        raise ProtocolViolation(
            Reason.UNSUPPORTED_VERSION, f"MQTT protocol level {version} is not spoken here; use 3.1.1 or 5"
        )
    flags = reader.byte()
    has_will, qos = flags & 0x04, (flags >> 3) & 3
    if flags & 1 or qos == 3 or (not has_will and flags & 0x38):
        raise ProtocolViolation(Reason.MALFORMED, "CONNECT has flags that do not exist")
    if version == V311 and flags & 0x40 and not flags & 0x80:
        raise ProtocolViolation(Reason.MALFORMED, "CONNECT has a password without a user name")
    keepalive = reader.two()
    properties = reader.properties(p.CONNECT) if version == V5 else {}
    client_id = reader.text()
    will = None
    if has_will:
        will_properties = reader.properties(p.WILL) if version == V5 else {}
        topic = reader.text()
        check_topic(topic)
        will = Will(topic, reader.binary(), qos, flags & 0x20 != 0, will_properties)
    username = reader.text() if flags & 0x80 else None
    password = reader.binary() if flags & 0x40 else None
    return Connect(client_id, version, flags & 2 != 0, keepalive, username, password, will, properties)


def _read(kind: int, reader: Reader, version: int) -> Packet:  # noqa: C901, PLR0912 - one case per packet type
    """The body of a packet whose fixed header is sound."""
    five = version == V5
    if kind in _ACKS:
        mid = _read_mid(reader)
        if not five or not reader.more:
            return _ACKS[kind](mid)
        reason = reader.byte()
        return _ACKS[kind](mid, reason, reader.properties(kind) if reader.more else {})
    match kind:
        case p.CONNACK:
            flags = reader.byte()
            if flags > 1:
                raise ProtocolViolation(Reason.MALFORMED, "CONNACK has flags that do not exist")
            return Connack(flags == 1, reader.byte(), reader.properties(kind) if five else {})
        case p.SUBSCRIBE:
            mid = _read_mid(reader)
            properties = reader.properties(kind) if five else {}
            filters = []
            while reader.more:
                topic, options = reader.text(), reader.byte()
                if options & 3 == 3 or options & (0xC0 if five else 0xFC) or (options >> 4) & 3 == 3:
                    raise ProtocolViolation(Reason.MALFORMED, "SUBSCRIBE has options that do not exist")
                filters.append(Filter(topic, options & 3, options & 4 != 0, options & 8 != 0, (options >> 4) & 3))
                if len(filters) > p.MOST_PARTS:
                    raise ProtocolViolation(Reason.QUOTA_EXCEEDED, f"SUBSCRIBE has more than {p.MOST_PARTS} filters")
            if not filters:
                raise ProtocolViolation(Reason.PROTOCOL_ERROR, "SUBSCRIBE names no topic filter")
            return Subscribe(mid, tuple(filters), properties)
        case p.SUBACK:
            mid = _read_mid(reader)
            properties = reader.properties(kind) if five else {}
            return Suback(mid, tuple(reader.take(reader.end - reader.position)), properties)
        case p.UNSUBSCRIBE:
            mid = _read_mid(reader)
            properties = reader.properties(kind) if five else {}
            topics = []
            while reader.more:
                topics.append(reader.text())
                if len(topics) > p.MOST_PARTS:
                    raise ProtocolViolation(Reason.QUOTA_EXCEEDED, f"UNSUBSCRIBE has more than {p.MOST_PARTS} filters")
            if not topics:
                raise ProtocolViolation(Reason.PROTOCOL_ERROR, "UNSUBSCRIBE names no topic filter")
            return Unsubscribe(mid, tuple(topics), properties)
        case p.UNSUBACK:
            mid = _read_mid(reader)
            properties = reader.properties(kind) if five else {}
            return Unsuback(mid, tuple(reader.take(reader.end - reader.position)) if five else (), properties)
        case p.PINGREQ:
            return Pingreq()
        case p.PINGRESP:
            return Pingresp()
        case p.DISCONNECT:
            if not five or not reader.more:
                return Disconnect()
            reason = reader.byte()
            return Disconnect(reason, reader.properties(kind) if reader.more else {})
        case p.AUTH if five:
            if not reader.more:
                return Auth()
            reason = reader.byte()
            return Auth(reason, reader.properties(kind) if reader.more else {})
        case _:
            raise ProtocolViolation(Reason.MALFORMED, f"packet type {kind} does not exist")


def _read_mid(reader: Reader) -> int:
    """A packet id."""
    mid = reader.two()
    if not mid:
        raise ProtocolViolation(Reason.PROTOCOL_ERROR, "a packet id must not be 0")
    return mid


def encode(packet: Packet, version: int) -> bytes:  # noqa: C901, PLR0912 - one case per packet type
    """The packet as bytes of the given version."""
    five = version == V5

    def tail(properties: Properties) -> bytes:
        return write_properties(properties) if five else b""

    match packet:
        case Publish():
            head, end = publish_parts(packet, version)
            return head + (packet.mid.to_bytes(2) if packet.qos else b"") + end
        case Puback() | Pubrec() | Pubrel() | Pubcomp():
            body = packet.mid.to_bytes(2)
            if five and (packet.reason or packet.properties):
                body += bytes((packet.reason,)) + (write_properties(packet.properties) if packet.properties else b"")
            return _frame(_ACK_HEADS[type(packet)], body)
        case Connack():
            return _frame(0x20, bytes((packet.present, packet.reason)) + tail(packet.properties))
        case Suback():
            return _frame(0x90, packet.mid.to_bytes(2) + tail(packet.properties) + bytes(packet.reasons))
        case Unsuback():
            return _frame(
                0xB0, packet.mid.to_bytes(2) + tail(packet.properties) + (bytes(packet.reasons) if five else b"")
            )
        case Pingresp():
            return b"\xd0\x00"
        case Pingreq():
            return b"\xc0\x00"
        case Disconnect() | Auth():
            body = b""
            if five and (packet.reason or packet.properties):
                body = bytes((packet.reason,)) + (write_properties(packet.properties) if packet.properties else b"")
            return _frame(0xE0 if isinstance(packet, Disconnect) else 0xF0, body)
        case Subscribe():
            body = packet.mid.to_bytes(2) + tail(packet.properties)
            for wish in packet.filters:
                options = wish.qos | wish.no_local << 2 | wish.as_published << 3 | wish.handling << 4
                body += write_text(wish.topic) + bytes((options,))
            return _frame(0x82, body)
        case Unsubscribe():
            body = packet.mid.to_bytes(2) + tail(packet.properties)
            return _frame(0xA2, body + b"".join(write_text(topic) for topic in packet.filters))
        case Connect():
            return _frame(0x10, _write_connect(packet))


def publish_parts(packet: Publish, version: int) -> tuple[bytes, bytes]:
    """A PUBLISH without its packet id: what stands before it and after it, the same for every receiver."""
    topic = packet.topic.encode()
    end = (write_properties(packet.properties) if version == V5 else b"") + packet.payload
    first = 0x30 | packet.dup << 3 | packet.qos << 1 | packet.retain
    length = 2 + len(topic) + (2 if packet.qos else 0) + len(end)
    return bytes((first,)) + write_varint(length) + write_binary(topic), end


def _write_connect(packet: Connect) -> bytes:
    """The body of a CONNECT."""
    five = packet.version == V5
    will = packet.will
    flags = packet.clean << 1 | (packet.username is not None) << 7 | (packet.password is not None) << 6
    if will is not None:
        flags |= 4 | will.qos << 3 | will.retain << 5
    body = write_text("MQTT") + bytes((packet.version, flags)) + packet.keepalive.to_bytes(2)
    body += (write_properties(packet.properties) if five else b"") + write_text(packet.client_id)
    if will is not None:
        body += (
            (write_properties(will.properties) if five else b"") + write_text(will.topic) + write_binary(will.payload)
        )
    if packet.username is not None:
        body += write_text(packet.username)
    if packet.password is not None:
        body += write_binary(packet.password)
    return body


def _frame(first: int, body: bytes) -> bytes:
    """Fixed header and body."""
    return bytes((first,)) + write_varint(len(body)) + body
