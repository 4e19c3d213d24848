"""RQL on events: on what has changed and the extra fields, and on what is told about the change (ditto.md 5.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType

from skerry import pointer, topics
from skerry.protocol import event_topic
from skerry.rql import evaluate, instant
from skerry.rql.parse import RqlInvalid
from skerry.rql.parse import parse as parse_rql
from skerry.rql.predicate import denying, fields
from skerry.signals import PATCHES
from skerry.times import write as write_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skerry.rql.predicate import Field, Predicate
    from skerry.signals import Event, Json, Micros

TOPIC = frozenset(
    ("full", "namespace", "entityName", "group", "channel", "criterion", "action", "subject", "action-subject")
)
NAMES = {
    "entity": frozenset({"id", "name", "namespace"}),
    "resource": frozenset({"path", "type"}),
    "thing": frozenset({"id", "name", "namespace"}),
    "topic": TOPIC,
}
"""What a field of a filter may speak of besides the thing: `topic:action`, `resource:path`, `entity:id` ...; and `time:now`."""
SCOPES = (*NAMES, "time")


def parse(text: str, now: Micros) -> Predicate:
    """The predicate in a subscriber's filter. Raises RqlInvalid."""
    predicate = denying(parse_rql(text, now, SCOPES))
    for field in fields(predicate):
        scope, colon, name = field[0].partition(":")
        if len(field) == 1 and colon and name not in NAMES.get(scope, ()) and instant.resolve(name, now) is None:
            at = text.find(field[0])
            problem = f"there is no '{field[0]}'; there are " + ", ".join(
                f"{scope}:{one}" for scope, names in NAMES.items() for one in sorted(names)
            )
            raise RqlInvalid(position=at + 1, problem=problem, near=text[max(0, at - 30) : at + 30], sound=True)
    return predicate


def matches(predicate: Predicate, event: Event, extra: Json | UnsetType, now: Micros) -> bool:
    """Whether an event, as its reader sees it, satisfies a filter; what is not told of the thing counts as absent."""

    def told(field: Field) -> Sequence[Json] | None:
        name = field[0]
        if len(field) == 1 and ":" in name:
            return about(name, event, now)
        if name in _SPECIAL:
            return [_SPECIAL[name](event)]
        if name == "_created" and event.action == "created" and not event.path:
            return [write_time(event.timestamp)]
        return None

    return holds(predicate, told, lambda: changed(event, extra))


def holds(
    predicate: Predicate, told: Callable[[Field], Sequence[Json] | None], known: Callable[[], dict[str, Any]]
) -> bool:
    """Whether a filter holds: of what is `told` beside the thing, else (None) of what is `known` of the thing.

    An evaluation that would take too long holds for nothing.
    """
    whole: list[dict[str, Any]] = []

    def value_of(field: Field) -> Sequence[Json]:
        values = told(field)
        if values is not None:
            return values
        if not whole:
            whole.append(known())
        document = whole[0]
        if field[0] == "features" and len(field) > 1 and field[1] == "*":
            features = document.get("features") or {}
            return [value for feature in features.values() for value in evaluate.at(feature, field, 2) or [UNSET]]
        return evaluate.at(document, field, 0)

    try:
        return evaluate.matches(predicate, evaluate.counted(value_of))
    except evaluate.RqlTooWide:
        return False


def changed(event: Event, extra: Json | UnsetType) -> dict[str, Any]:
    """A thing of which only what has changed, and the extra fields, are known; deletions leave nothing."""
    value = event.value
    known: Any = {}
    if value is not UNSET:
        if event.action in PATCHES:
            value = _without_nulls(value)
        if value is not UNSET:
            known = pointer.put({}, event.path, value)
    document: dict[str, Any] = known if isinstance(known, dict) else {}
    return _joined(extra, document) if isinstance(extra, dict) else document


def about(name: str, event: Event, now: Micros) -> Sequence[Json]:
    """What a name with a scope stands for: of the event's topic, resource, entity, or of the time."""
    scope, _, what = name.partition(":")
    if scope == "time":
        time = instant.resolve(what, now)
        return [] if time is None else [time]
    if scope == "topic":
        return _about_topic(what, event)
    if scope == "resource":
        return {"type": ["thing"], "path": [pointer.write(event.path)]}.get(what, [])
    namespace, _, title = event.id.partition(":")
    return {"id": [event.id], "namespace": [namespace], "name": [title]}.get(what, [])


def _about_topic(what: str, event: Event) -> Sequence[Json]:
    """One of the names that there are of a topic path."""
    topic = event_topic(event)
    facts = {
        "full": topics.write(topic),
        "namespace": topic.namespace,
        "entityName": topic.name,
        "group": topic.group,
        "channel": topic.channel or "none",
        "criterion": topic.criterion,
        "action": topic.action,
        "action-subject": topic.action,
    }
    return [facts[what]] if what in facts else []


_SPECIAL: dict[str, Callable[[Event], Json]] = {
    "thingId": lambda event: event.id,
    "_namespace": lambda event: event.id.partition(":")[0],
    "_revision": lambda event: event.revision,
    "_modified": lambda event: write_time(event.timestamp),
}


def _without_nulls(value: Json) -> Json:
    """A patch without its deletions; UNSET for one that is nothing else."""
    if value is None:
        return UNSET
    if type(value) is not dict:
        return value
    return {key: _without_nulls(member) for key, member in value.items() if member is not None}


def _joined(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two documents as one; where both say something, `above` is right."""
    joined = dict(below)
    for key, member in above.items():
        known = below.get(key)
        joined[key] = _joined(known, member) if type(known) is dict and type(member) is dict else member
    return joined
