"""PUBLISH packets on their way through the broker: what is known of each until it is acknowledged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

from skerry_adapters.broker.codec import encode
from skerry_adapters.broker.packets import V5, Puback, Publish, Pubrec, Reason
from skerry_adapters.inbound import Inbound

if TYPE_CHECKING:
    from skerry_adapters.broker.connection import Connection
    from skerry_adapters.broker.rights import Rights
    from skerry_adapters.broker.sessions import Session

_PUBACK = b"\x40\x02"


class Arrival(Struct, eq=False):
    """Who sent it (`connection`: None for a will), the packet and its topic, the bytes that it takes while it waits.

    `reason`: the verdict, None while it is not known. `fresh`: it is no repetition at QoS 2.
    """

    connection: Connection | None
    session: Session
    packet: Publish
    topic: str
    weight: int
    reason: Reason | None = None
    fresh: bool = True


def inbound(rights: Rights, arrival: Arrival) -> Inbound:
    """The message as `take` gets it; without a response topic that the client may not subscribe to."""
    packet, session = arrival.packet, arrival.session
    verdicts = session.verdicts
    answers = correlation = None
    if packet.properties is not None:
        correlation = packet.properties.get("correlation_data")
        answers = response_topic(packet)
        if answers is not None and ("+" in answers or "#" in answers or not rights.subscribe(verdicts, answers)):
            answers = None
    return Inbound(
        topic=arrival.topic,
        payload=packet.payload,
        qos=packet.qos,
        mid=packet.mid,
        redelivered=packet.dup,
        subjects=verdicts.subjects,
        reach=verdicts.reach,
        client=session.client_id,
        origin=session.origin,
        response_topic=answers,
        correlation=correlation,
    )


def response_topic(packet: Publish) -> str | None:
    """Where the client wants to be answered."""
    return None if packet.properties is None else packet.properties.get("response_topic")


def acknowledgements(arrivals: Iterable[Arrival], version: int) -> bytes:
    """PUBACK and PUBREC of what one connection has sent, in order."""
    acks = []
    for arrival in arrivals:
        packet, reason = arrival.packet, arrival.reason or Reason.SUCCESS
        if packet.qos == 1:
            if reason is Reason.SUCCESS or version != V5:
                acks.append(_PUBACK + packet.mid.to_bytes(2))
            else:
                acks.append(encode(Puback(packet.mid, reason), V5))
        elif packet.qos == 2:
            acks.append(encode(Pubrec(packet.mid, reason), version))
    return b"".join(acks)
