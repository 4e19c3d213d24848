"""Events applied to entities of any kind: what replay, stores and the registry share."""

from __future__ import annotations

from collections.abc import Iterable

from skerry import things
from skerry.signals import Event, Held
from skerry_policies import policy


def apply(held: Held, event: Event) -> Held:
    """The state after one event."""
    if event.kind == "thing":
        return things.apply(held, event)
    return policy.apply(held, event)


def replay(held: Held, events: Iterable[Event]) -> Held:
    """The state after the events, in order; those that `held` knows already are passed over."""
    for event in events:
        if event.revision > held.revision:
            held = apply(held, event)
    return held
