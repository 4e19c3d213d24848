"""PUBLISH packets on their way through the broker: what is known of each until it is acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, structs

from skerry_adapters.broker.admission import TOPIC_ALIASES
from skerry_adapters.broker.codec import encode
from skerry_adapters.broker.packets import SUCCESS, V5, Properties, ProtocolViolation, Puback, Publish, Pubrec, Reason
from skerry_adapters.inbound import Inbound

if TYPE_CHECKING:
    from skerry_adapters.broker.connection import Connection
    from skerry_adapters.broker.rights import Rights
    from skerry_adapters.broker.sessions import Session

LONGEST_RUN = 500
"""PUBLISH packets that are dealt with as one."""
_PUBACK = b"\x40\x02"


class Arrival(Struct, eq=False):
    """Packets that one connection sent one after the other (None: a will), and the bytes that they take while they wait.

    Many only where they are plain: allowed, without properties, not at QoS 2. `reason`: the verdict, None while it is not
    known. `fresh`: it is no repetition at QoS 2.
    """

    connection: Connection | None
    session: Session
    packets: list[Publish]
    weight: int
    reason: Reason | None = None
    fresh: bool = True

    @property
    def properties(self) -> Properties:
        """The packet's; plain ones have none."""
        return self.packets[0].properties or {}


def resolved(packet: Publish, aliases: dict[int, str]) -> Publish:
    """The packet with the topic that its topic alias stands for; or the alias stands for its topic from now on."""
    alias = packet.properties.get("topic_alias") if packet.properties else None
    if alias is None:
        return packet
    if alias > TOPIC_ALIASES:
        raise ProtocolViolation(Reason.TOPIC_ALIAS_INVALID, f"a topic alias is larger than {TOPIC_ALIASES}")
    if packet.topic:
        aliases[alias] = packet.topic
        return packet
    known = aliases.get(alias)
    if known is None:
        raise ProtocolViolation(Reason.PROTOCOL_ERROR, "a topic alias stands for no topic yet")
    return structs.replace(packet, topic=known)


def inbound(rights: Rights, arrival: Arrival) -> list[Inbound]:
    """The messages as `take` gets them; without a response topic that the client may not subscribe to."""
    session, properties = arrival.session, arrival.properties
    verdicts, client, origin = session.verdicts, session.client_id, session.origin
    subjects, reach = verdicts.subjects, verdicts.reach
    correlation, answers = properties.get("correlation_data"), properties.get("response_topic")
    if answers is not None and ("+" in answers or "#" in answers or not rights.subscribe(verdicts, answers)):
        answers = None
    return [
        Inbound(
            topic=packet.topic,
            payload=packet.payload,
            qos=packet.qos,
            mid=packet.mid,
            redelivered=packet.dup,
            subjects=subjects,
            reach=reach,
            client=client,
            origin=origin,
            response_topic=answers,
            correlation=correlation,
        )
        for packet in arrival.packets
    ]


def acknowledgements(arrival: Arrival, version: int) -> bytes:
    """PUBACK and PUBREC, in order."""
    reason = arrival.reason or SUCCESS
    silent = reason is SUCCESS or version != V5
    acks = []
    for packet in arrival.packets:
        if packet.qos == 1:
            acks.append(_PUBACK + packet.mid.to_bytes(2) if silent else encode(Puback(packet.mid, reason), V5))
        elif packet.qos == 2:
            acks.append(encode(Pubrec(packet.mid, reason), version))
    return b"".join(acks)
