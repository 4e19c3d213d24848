"""MQTT 5's properties: their table (chapter 2.2.2.2), reading and writing."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from skerry_adapters.broker.packets import Properties, ProtocolViolation, Reason

MOST_PARTS = 2_000
"""Properties, or topic filters, of one packet."""

Shape: TypeAlias = Literal["byte", "two", "four", "varint", "text", "binary", "pair"]

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = 8, 9, 10, 11, 12, 13, 14, 15
WILL = 16
_ACKS = (PUBACK, PUBREC, PUBREL, PUBCOMP)

_TABLE: tuple[tuple[int, str, Shape, tuple[int, ...]], ...] = (
    (0x01, "payload_format_indicator", "byte", (PUBLISH, WILL)),
    (0x02, "message_expiry_interval", "four", (PUBLISH, WILL)),
    (0x03, "content_type", "text", (PUBLISH, WILL)),
    (0x08, "response_topic", "text", (PUBLISH, WILL)),
    (0x09, "correlation_data", "binary", (PUBLISH, WILL)),
    (0x0B, "subscription_identifier", "varint", (PUBLISH, SUBSCRIBE)),
    (0x11, "session_expiry_interval", "four", (CONNECT, CONNACK, DISCONNECT)),
    (0x12, "assigned_client_identifier", "text", (CONNACK,)),
    (0x13, "server_keep_alive", "two", (CONNACK,)),
    (0x15, "authentication_method", "text", (CONNECT, CONNACK, AUTH)),
    (0x16, "authentication_data", "binary", (CONNECT, CONNACK, AUTH)),
    (0x17, "request_problem_information", "byte", (CONNECT,)),
    (0x18, "will_delay_interval", "four", (WILL,)),
    (0x19, "request_response_information", "byte", (CONNECT,)),
    (0x1A, "response_information", "text", (CONNACK,)),
    (0x1C, "server_reference", "text", (CONNACK, DISCONNECT)),
    (0x1F, "reason_string", "text", (CONNACK, *_ACKS, SUBACK, UNSUBACK, DISCONNECT, AUTH)),
    (0x21, "receive_maximum", "two", (CONNECT, CONNACK)),
    (0x22, "topic_alias_maximum", "two", (CONNECT, CONNACK)),
    (0x23, "topic_alias", "two", (PUBLISH,)),
    (0x24, "maximum_qos", "byte", (CONNACK,)),
    (0x25, "retain_available", "byte", (CONNACK,)),
    (
        0x26,
        "user_property",
        "pair",
        (CONNECT, CONNACK, PUBLISH, WILL, *_ACKS, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, DISCONNECT, AUTH),
    ),
    (0x27, "maximum_packet_size", "four", (CONNECT, CONNACK)),
    (0x28, "wildcard_subscription_available", "byte", (CONNACK,)),
    (0x29, "subscription_identifier_available", "byte", (CONNACK,)),
    (0x2A, "shared_subscription_available", "byte", (CONNACK,)),
)
_BY_ID: dict[int, tuple[str, Shape, tuple[int, ...]]] = {row[0]: row[1:] for row in _TABLE}
_BY_NAME: dict[str, tuple[int, Shape]] = {row[1]: (row[0], row[2]) for row in _TABLE}
_NOT_ZERO = frozenset({"receive_maximum", "maximum_packet_size", "topic_alias", "subscription_identifier"})
_MANY = frozenset({"user_property"})


def allowed(kind: int) -> dict[str, Shape]:
    """The properties that a packet of this kind may carry."""
    return {name: shape for _, name, shape, kinds in _TABLE if kind in kinds}


class Reader:
    """A cursor over the body of one packet; everything past the end is malformed."""

    __slots__ = ("body", "end", "position")

    def __init__(self, body: bytes, position: int = 0, end: int | None = None) -> None:
        """Read `body` from `position` to `end`."""
        self.body = body
        self.position = position
        self.end = len(body) if end is None else end

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self.position < self.end

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        start = self.position
        if start + size > self.end:
            raise ProtocolViolation(Reason.MALFORMED, "a field runs past the end of the packet")
        self.position = start + size
        return self.body[start : start + size]

    def byte(self) -> int:
        """One byte."""
        return self.take(1)[0]

    def two(self) -> int:
        """A two byte integer."""
        return int.from_bytes(self.take(2))

    def four(self) -> int:
        """A four byte integer."""
        return int.from_bytes(self.take(4))

    def varint(self) -> int:
        """A variable byte integer, in its shortest form."""
        value = 0
        for shift in (0, 7, 14, 21):
            digit = self.byte()
            value |= (digit & 0x7F) << shift
            if digit < 0x80:
                if not digit and shift:
                    raise ProtocolViolation(Reason.MALFORMED, "a variable byte integer is longer than it must be")
                return value
        raise ProtocolViolation(Reason.MALFORMED, "a variable byte integer has more than four bytes")

    def binary(self) -> bytes:
        """Length-prefixed bytes."""
        return self.take(self.two())

    def text(self) -> str:
        """A length-prefixed UTF-8 string without NUL."""
        return decode_text(self.binary())

    def properties(self, kind: int) -> Properties:
        """The properties of a packet of this kind."""
        end = self.varint() + self.position
        if end > self.end:
            raise ProtocolViolation(Reason.MALFORMED, "the properties run past the end of the packet")
        found: Properties = {}
        count = 0
        outer, self.end = self.end, end
        while self.more:
            count += 1
            if count > MOST_PARTS:
                raise ProtocolViolation(Reason.QUOTA_EXCEEDED, f"a packet has more than {MOST_PARTS} properties")
            row = _BY_ID.get(self.varint())
            if row is None or kind not in row[2]:
                raise ProtocolViolation(Reason.MALFORMED, "a property does not belong in this packet")
            name, shape, _ = row
            value: Any = (self.text(), self.text()) if shape == "pair" else getattr(self, shape)()
            if name in _NOT_ZERO and not value:
                raise ProtocolViolation(Reason.PROTOCOL_ERROR, f"{name} must not be 0")
            if name in _MANY or (name == "subscription_identifier" and kind == PUBLISH):
                found.setdefault(name, []).append(value)
            elif name in found:
                raise ProtocolViolation(Reason.PROTOCOL_ERROR, f"{name} stands twice")
            elif shape == "byte" and value > 1:
                raise ProtocolViolation(Reason.PROTOCOL_ERROR, f"{name} must be 0 or 1")
            else:
                found[name] = value
        self.end = outer
        return found


def decode_text(raw: bytes) -> str:
    """An MQTT string: well-formed UTF-8 without NUL."""
    try:
        value = raw.decode()
    except UnicodeDecodeError:
        raise ProtocolViolation(Reason.MALFORMED, "a string is not UTF-8") from None
    if "\0" in value:
        raise ProtocolViolation(Reason.MALFORMED, "a string has a NUL character")
    return value


def write_varint(value: int) -> bytes:
    """A variable byte integer."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while True:
        value, digit = value >> 7, value & 0x7F
        out.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(out)


def write_binary(value: bytes) -> bytes:
    """Length-prefixed bytes; at most 65,535 of them."""
    return len(value).to_bytes(2) + value


def write_text(value: str) -> bytes:
    """A length-prefixed string."""
    return write_binary(value.encode())


def write_properties(properties: Properties | None) -> bytes:
    """Length and properties."""
    if not properties:
        return b"\0"
    out = bytearray()
    for name, value in properties.items():
        number, shape = _BY_NAME[name]
        for one in value if isinstance(value, list) else (value,):
            out += write_varint(number) + _write(shape, one)
    return write_varint(len(out)) + bytes(out)


def _write(shape: Shape, value: Any) -> bytes:
    """One value."""
    match shape:
        case "byte":
            return bytes((value,))
        case "two":
            return int(value).to_bytes(2)
        case "four":
            return int(value).to_bytes(4)
        case "varint":
            return write_varint(value)
        case "text":
            return write_text(value)
        case "binary":
            return write_binary(value)
        case "pair":
            return write_text(value[0]) + write_text(value[1])
