"""The control packets of MQTT 3.1.1 and 5 as structs, and the reason codes they carry."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, TypeAlias

from msgspec import Struct, field

Properties: TypeAlias = dict[str, Any]
"""MQTT 5's properties by name (see properties.py); always empty in 3.1.1."""

PROPERTY_WEIGHT = 150
"""Bytes of memory that a property takes beside its text."""


def weight(topic: str, payload: bytes, properties: Properties | None) -> int:
    """About how many bytes of memory a message takes: bounds that count payloads only could be passed under."""
    size = len(topic) + len(payload)
    if properties:
        for value in properties.values():
            for one in value if type(value) is list else (value,):
                texts = one if type(one) is tuple else (one,)
                size += PROPERTY_WEIGHT + sum(len(text) for text in texts if isinstance(text, str | bytes))
    return size


V311 = 4
V5 = 5


class Reason(IntEnum):
    """MQTT 5's reason codes (chapter 2.4), as far as a broker gives them."""

    SUCCESS = 0x00
    DISCONNECT_WITH_WILL = 0x04
    NO_SUBSCRIPTION_EXISTED = 0x11
    UNSPECIFIED = 0x80
    MALFORMED = 0x81
    PROTOCOL_ERROR = 0x82
    UNSUPPORTED_VERSION = 0x84
    CLIENT_ID_NOT_VALID = 0x85
    BAD_LOGIN = 0x86
    NOT_AUTHORIZED = 0x87
    UNAVAILABLE = 0x88
    SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_ID_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    QUOTA_EXCEEDED = 0x97


SUCCESS = Reason.SUCCESS
"""For what is asked of each message: Python 3.11 takes its time over the members of an enumeration."""

OLD_REFUSALS = {
    Reason.UNSUPPORTED_VERSION: 1,
    Reason.CLIENT_ID_NOT_VALID: 2,
    Reason.UNAVAILABLE: 3,
    Reason.QUOTA_EXCEEDED: 3,
    Reason.SHUTTING_DOWN: 3,
    Reason.BAD_LOGIN: 4,
}
"""MQTT 3.1.1's return codes for what it has words for."""


class ProtocolViolation(Exception):  # noqa: N818 - what the peer did
    """The peer broke the protocol; `reason` is what MQTT 5 calls it. The connection ends."""

    def __init__(self, reason: Reason, text: str) -> None:
        """Say what was wrong."""
        super().__init__(text)
        self.reason = reason


class Will(Struct, frozen=True):
    """The message a client leaves to be published when it is lost."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = field(default_factory=dict)


class Connect(Struct, frozen=True):
    """The first packet. `clean`: clean session (3.1.1) or clean start (5)."""

    client_id: str
    version: int = V5
    clean: bool = True
    keepalive: int = 0
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = field(default_factory=dict)


class Connack(Struct, frozen=True):
    """The answer to CONNECT. `reason` is a return code (0 to 5) in 3.1.1."""

    present: bool = False
    reason: int = 0
    properties: Properties = field(default_factory=dict)


class Publish(Struct, frozen=True, gc=False):
    """An application message. `mid` is its packet id, 0 at QoS 0."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    mid: int = 0
    properties: Properties | None = None


class Puback(Struct, frozen=True):
    """QoS 1: received."""

    mid: int
    reason: int = 0
    properties: Properties = field(default_factory=dict)


class Pubrec(Struct, frozen=True):
    """QoS 2: received."""

    mid: int
    reason: int = 0
    properties: Properties = field(default_factory=dict)


class Pubrel(Struct, frozen=True):
    """QoS 2: the sender forgets the message."""

    mid: int
    reason: int = 0
    properties: Properties = field(default_factory=dict)


class Pubcomp(Struct, frozen=True):
    """QoS 2: the receiver forgets the packet id."""

    mid: int
    reason: int = 0
    properties: Properties = field(default_factory=dict)


class Filter(Struct, frozen=True):
    """One wish in a SUBSCRIBE. `handling`: retained messages 0 always, 1 if new, 2 never."""

    topic: str
    qos: int = 0
    no_local: bool = False
    as_published: bool = False
    handling: int = 0


class Subscribe(Struct, frozen=True):
    """Topic filters that the client wants."""

    mid: int
    filters: tuple[Filter, ...]
    properties: Properties = field(default_factory=dict)


class Suback(Struct, frozen=True):
    """A granted QoS or a refusal for each filter."""

    mid: int
    reasons: tuple[int, ...]
    properties: Properties = field(default_factory=dict)


class Unsubscribe(Struct, frozen=True):
    """Topic filters that the client wants no more."""

    mid: int
    filters: tuple[str, ...]
    properties: Properties = field(default_factory=dict)


class Unsuback(Struct, frozen=True):
    """The answer; 3.1.1 has no reasons in it."""

    mid: int
    reasons: tuple[int, ...] = ()
    properties: Properties = field(default_factory=dict)


class Pingreq(Struct, frozen=True):
    """I am alive."""


class Pingresp(Struct, frozen=True):
    """So am I."""


class Disconnect(Struct, frozen=True):
    """The last packet; from a server only in MQTT 5."""

    reason: int = 0
    properties: Properties = field(default_factory=dict)


class Auth(Struct, frozen=True):
    """Extended authentication, MQTT 5."""

    reason: int = 0
    properties: Properties = field(default_factory=dict)


Packet: TypeAlias = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
