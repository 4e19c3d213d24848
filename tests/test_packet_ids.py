"""Packet ids of messages to one client: 1 to 65535, none that is in use."""

from __future__ import annotations

from skerry_adapters.broker.packets import V311, Reason
from skerry_adapters.broker.sessions import Hoard, Limits, Message, Session
from skerry_adapters.broker.storage import Storage


class Reading:
    """A client that reads everything, and may."""

    version = V311
    writable = True
    largest = 1_000_000

    def __init__(self) -> None:
        self.closed = False

    def write(self, data: bytes) -> None: ...

    def close(self, reason: Reason) -> None:
        del reason
        self.closed = True

    def may_get(self, topic: str) -> bool:
        del topic
        return True


def test_packet_ids_go_round_past_those_in_use_and_are_never_zero() -> None:
    session = Session(1, "ada", "c", storage=Storage(None), clock=lambda: 1, limits=Limits(), hoard=Hoard())
    session.attach(Reading(), 65_535)
    message = Message("a", b"x", 1)
    in_use = set()
    given = []
    for number in range(1, 65_540):
        delivery = session.reserve(message, 1, retain=False)
        assert delivery is not None
        session.admit(delivery)
        given.append(delivery.mid)
        if number in {1, 2, 65_535}:  # these are not acknowledged
            in_use.add(delivery.mid)
        else:
            session.acknowledged(delivery.mid)
    assert given[:65_535] == list(range(1, 65_536))
    assert given[65_535:] == [3, 4, 5, 6]
    # Once more round, now that 65535 is in use.
    for _ in range(65_534 - 6):
        delivery = session.reserve(message, 1, retain=False)
        assert delivery is not None
        session.admit(delivery)
        assert delivery.mid not in in_use
        session.acknowledged(delivery.mid)
    delivery = session.reserve(message, 1, retain=False)
    assert delivery is not None
    assert delivery.mid == 3
