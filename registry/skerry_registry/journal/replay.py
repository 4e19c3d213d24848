"""Events applied to entities of any kind: what replay, stores and the registry share."""

from __future__ import annotations

from collections.abc import Iterable

from skerry import things
from skerry.signals import Event, Held, Micros
from skerry_policies import policy


def apply(held: Held, event: Event) -> Held:
    """The state after one event."""
    if event.kind == "thing":
        return things.apply(held, event)
    return policy.apply(held, event)


FAR = 500
LONG: Micros = 6 * 3_600_000_000
"""Earlier states are kept so many revisions or so much time apart; what lies between is made from events."""


def rebuild(held: Held | None, events: Iterable[Event]) -> Held | None:
    """The state after the events, starting from `held` or the first event that says all; None when there is none.

    Where an event is missing the state stays what it was before.
    """
    for event in events:
        if held is None or event.revision != held.revision + 1:
            if event.path or event.action not in {"created", "deleted"}:
                continue
            held = Held(kind=event.kind, id=event.id, revision=event.revision - 1)
        held = apply(held, event)
    return held


def replay(held: Held, events: Iterable[Event]) -> Held:
    """The state after the events, in order; those that `held` knows already are passed over."""
    for event in events:
        if event.revision > held.revision:
            held = apply(held, event)
    return held
