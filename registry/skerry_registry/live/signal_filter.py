"""RQL on live signals: on what they say of a thing, the extra fields, and on their topic and resource (ditto.md 5.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from msgspec import UNSET, UnsetType

from skerry import pointer, topics
from skerry.rql import instant
from skerry.signals import Action, Event
from skerry_registry.live import event_filter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skerry.live import LiveSignal
    from skerry.rql.predicate import Field, Predicate
    from skerry.signals import Json, Micros

_PAST: dict[str, Action] = {"create": "created", "modify": "modified", "merge": "merged", "delete": "deleted"}


def as_event(signal: LiveSignal) -> Event:
    """A signal as if it told of a change, for what is made of events; a message and a question tell of none."""
    action = signal.action
    told = signal.value if signal.sort == "event" or action in _PAST else UNSET
    return Event(
        kind="thing",
        id=signal.id,
        action=cast("Action", action) if signal.sort == "event" else _PAST.get(action, "modified"),
        revision=signal.revision or 0,
        timestamp=0,
        path=signal.path,
        value=UNSET if signal.sort == "message" else told,
    )


def matches(predicate: Predicate, signal: LiveSignal, extra: Json | UnsetType, now: Micros) -> bool:
    """Whether a signal satisfies a filter; what is not told of the thing counts as absent."""

    def told(field: Field) -> Sequence[Json] | None:
        name = field[0]
        if len(field) == 1 and ":" in name:
            return _about(name, signal, now)
        if name == "thingId":
            return [signal.id]
        return [signal.id.partition(":")[0]] if name == "_namespace" else None

    return event_filter.holds(predicate, told, lambda: event_filter.changed(as_event(signal), extra))


def _about(name: str, signal: LiveSignal, now: Micros) -> Sequence[Json]:
    """What a name with a scope stands for."""
    scope, _, what = name.partition(":")
    if scope == "time":
        time = instant.resolve(what, now)
        return [] if time is None else [time]
    if scope == "resource":
        kind = "message" if signal.sort == "message" else "thing"
        text = f"/{'/'.join(signal.path)}" if signal.sort == "message" else pointer.write(signal.path)
        return {"type": [kind], "path": [text]}.get(what, [])
    if scope in {"entity", "thing"}:
        namespace, _, title = signal.id.partition(":")
        return {"id": [signal.id], "namespace": [namespace], "name": [title]}.get(what, [])
    topic = topics.parse(signal.topic)
    facts = {
        "full": signal.topic,
        "namespace": topic.namespace,
        "entityName": topic.name,
        "group": topic.group,
        "channel": topic.channel,
        "criterion": topic.criterion,
        "action-subject": topic.action,
        "subject" if signal.sort == "message" else "action": topic.action,
    }
    return [facts[what]] if facts.get(what) is not None else []
