"""SUBSCRIBE: what a client asks to get, whether it may, and what of it retained messages greet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry_adapters.broker.packets import V5, Filter, ProtocolViolation, Reason, Subscribe
from skerry_adapters.broker.sessions import Session, Subscription
from skerry_adapters.broker.topics import check_filter, split_share

if TYPE_CHECKING:
    from skerry_adapters.broker.server import Broker


def asked(packet: Subscribe) -> list[str]:
    """The topic filters on which rights have to be known before the packet can be answered."""
    return [split_share(wish.topic)[1] for wish in packet.filters if check_filter(wish.topic) is None]


def subscribe(
    broker: Broker, session: Session, packet: Subscribe, version: int
) -> tuple[list[int], list[Subscription]]:
    """Subscribe to what the client may: the codes of the answer, and the subscriptions that retained messages greet.

    Raises ProtocolViolation.
    """
    identifier = packet.properties.get("subscription_identifier", 0)
    codes: list[int] = []
    greeted: list[Subscription] = []
    for wish in packet.filters:
        refusal = _refusal(broker, session, wish)
        if refusal is not None:
            codes.append(refusal if version == V5 else Reason.UNSPECIFIED)
            continue
        subscription = Subscription(wish, identifier)
        new = broker.router.subscribe(session, subscription)
        codes.append(wish.qos)
        if not split_share(wish.topic)[0] and (wish.handling == 0 or (wish.handling == 1 and new)):
            greeted.append(subscription)
    return codes, greeted


def _refusal(broker: Broker, session: Session, wish: Filter) -> Reason | None:
    """Why the client does not get this subscription; None where it does. Raises ProtocolViolation."""
    if check_filter(wish.topic) is not None:
        return Reason.TOPIC_FILTER_INVALID
    share, plain = split_share(wish.topic)
    if share and wish.no_local:
        raise ProtocolViolation(Reason.PROTOCOL_ERROR, "a shared subscription cannot be without local messages")
    if not broker.rights.subscribe(session.verdicts, plain):
        broker.refuse(session, "subscribe", wish.topic)
        return Reason.NOT_AUTHORIZED
    if len(session.subscriptions) >= broker.limits.subscriptions and wish.topic not in session.subscriptions:
        return Reason.QUOTA_EXCEEDED
    return None
