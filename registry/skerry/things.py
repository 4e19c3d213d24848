# ruff: noqa: N818 - errors are rows of a table
"""Things: deciding a command, applying an event, answering a read (ditto.md 1.3, 1.4). Pure."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from skerry import conditions, fields, headers, metadata, parts, patch, pointer, preconditions, values
from skerry.errors import SkerryError
from skerry.ids import check_thing_id
from skerry.parts import FeatureNotFound, ThingIdNotSettable, ThingNotAccessible
from skerry.preconditions import PreconditionFailed, thing_etag, value_etag
from skerry.signals import PATCHES, Action, Command, Decision, Event, Held, Json, Micros, Response
from skerry.times import write as write_time

__all__ = [
    "ThingConflict",
    "ThingIdNotSettable",
    "ThingNotAccessible",
    "ThingTooLarge",
    "apply",
    "decide",
    "retrieve",
    "with_special",
]

SLACK_LIMIT = 4_096
"""Bytes that changes may add to the size kept of a thing before it is measured again."""


class ThingConflict(SkerryError):
    """Creation of what is there already."""

    code = "things:thing.conflict"
    status = 409
    message = "The thing '{thing_id}' exists already."
    description = "Choose another id, or modify the thing that exists."


class ThingTooLarge(SkerryError):
    """Over the limit."""

    code = "things:thing.toolarge"
    status = 413
    message = "The thing '{thing_id}' would have {size} bytes of JSON, {limit} are allowed."
    description = "Keep fewer or shorter values in it, spread them over several things, or raise the limit."


def decide(held: Held, command: Command, now: Micros, limit: int) -> Decision:
    """What a create, modify, merge or delete comes to; `limit` is the bytes of JSON that a thing may have.

    Raises SkerryError. The document of a creation carries its policyId.
    """
    if command.headers:
        headers.check_supported(command.headers, command.verb)
        metadata.check_alone(command.headers)
        wanted = conditions.read(command, now) if held.document is not None else None
        if wanted is not None:
            conditions.check(wanted, held, command.headers)
    if command.observed is not None and held.document is not None and _is_telemetry(command):
        return _telemetry(held, held.document, command, now, limit)
    if command.verb == "delete":
        return _delete(held, command, now)
    return _write(held, command, now, limit)


def _is_telemetry(command: Command) -> bool:
    """Whether the command merges properties into one feature, which may come too late for the twin."""
    path, value = command.path, command.value
    return (
        command.verb == "merge"
        and len(path) == 2
        and path[0] == "features"
        and type(value) is dict
        and len(value) == 1
        and type(value.get("properties")) is dict
        and conditions.PATCH not in command.headers
    )


def _telemetry(held: Held, document: dict[str, Any], command: Command, now: Micros, limit: int) -> Decision:
    """Values with the time they were observed: what is older than what the twin shows goes to history only."""
    path, asked = command.path, command.headers
    value: Json = parts.checked(command.id, path, command.value, merging=True)
    if asked:
        _check_conditions(held, command, pointer.get(document, path))
    late: Json | UnsetType = UNSET
    times, observed = held.observed.get(path[1]), command.observed
    if times and observed is not None and max(times.values()) > observed:
        properties: dict[str, Any] = value["properties"]
        behind = {key: member for key, member in properties.items() if times.get(key, observed) > observed}
        if behind:
            late = {"properties": behind}
            rest = {key: member for key, member in properties.items() if key not in behind}
            value = {"properties": rest} if rest else UNSET
    event = _event(held, command, now, "merged", value)
    event.late = late
    if held.metadata is not None or asked:
        event.metadata = _metadata_after(held, event, asked)
    after = _applied(held, event, limit)
    return Decision(response=Response(status=204, revision=event.revision), event=event, after=after)


def _write(held: Held, command: Command, now: Micros, limit: int) -> Decision:  # noqa: C901 - the order of checks is the contract
    """A create, modify or merge."""
    document, path, asked = held.document, command.path, command.headers
    merging = command.verb == "merge"
    parts.check_path(path, command.verb)
    if command.verb == "create" and path:
        raise parts.PathUnknown(path=pointer.write(path), verb="created")
    value = parts.checked(command.id, path, command.value, merging=merging)
    if document is None:
        if path:
            raise ThingNotAccessible(thing_id=command.id)
        return _create(held, command, value, now, limit)
    if command.verb == "create":
        raise ThingConflict(thing_id=command.id)
    if not path and not merging:
        value = _whole(command.id, value, document["policyId"])
    before: Json | UnsetType = UNSET
    if asked or not merging:
        before = pointer.get(document, path)
    if asked:
        wanted = patch.merge(None if before is UNSET else before, value) if merging else value
        _check_conditions(held, command, before)
    if len(path) > 2 and path[0] == "features" and not merging and pointer.get(document, path[:2]) is UNSET:
        raise FeatureNotFound(thing_id=command.id, feature_id=path[1])
    if asked:
        if "if-equal" in asked:
            value = _if_equal(held, command, before, wanted, value)
        if merging and conditions.PATCH in asked:
            value = _remaining(held, command, value, now)
    exists = merging or before is not UNSET
    event = _event(held, command, now, "merged" if merging else "modified" if exists else "created", value)
    if held.metadata is not None or asked:
        event.metadata = _metadata_after(held, event, asked)
    after = _applied(held, event, limit)
    etag = _tag_after(command, after)
    status, body = (204, UNSET) if exists else (201, value)
    response = Response(status=status, value=body, etag=etag, revision=event.revision)
    return Decision(response=response, event=event, after=after)


def _tag_after(command: Command, after: Held) -> str | None:
    """The tag of what is there after a change; a device's plain message is acknowledged without one."""
    path, merging = command.path, command.verb == "merge"
    if command.digest is not None and command.topic is None:
        return None
    if not path or (merging and len(path) == 1 and path[0] in {"definition", "policyId"}):
        return thing_etag(after.revision)
    value = pointer.get(after.document, path)
    return None if value is UNSET else value_etag(value)


def _whole(thing_id: str, value: dict[str, Any], policy_id: str) -> dict[str, Any]:
    """A thing's document in the order of its members, with its ids."""
    document = {"thingId": thing_id, "policyId": value.get("policyId", policy_id)}
    for key in ("definition", "attributes", "features"):
        if key in value:
            document[key] = value[key]
    return document


def _create(held: Held, command: Command, value: dict[str, Any], now: Micros, limit: int) -> Decision:
    """A thing that was not there (or was deleted: its revisions go on)."""
    check_thing_id(command.id)
    if command.headers:
        _check_conditions(held, command, UNSET)
    if command.verb == "merge":
        value = patch.merge(None, value)
    if "policyId" not in value:
        raise values.JsonFieldMissing(name="policyId", at="/")
    document = _whole(command.id, value, value["policyId"])
    event = _event(held, command, now, "created", document)
    inline = command.value.get("_metadata") if isinstance(command.value, dict) else None
    if command.headers or inline is not None:
        event.metadata = metadata.inline(inline, command.headers) or _metadata_after(held, event, command.headers)
    after = _applied(held, event, limit)
    response = Response(status=201, value=document, etag=thing_etag(event.revision), revision=event.revision)
    return Decision(response=response, event=event, after=after)


def _delete(held: Held, command: Command, now: Micros) -> Decision:
    document, path = held.document, command.path
    parts.check_path(path, "delete")
    if document is None:
        raise ThingNotAccessible(thing_id=command.id)
    if path == ("policyId",):
        raise parts.PolicyIdNotDeletable(thing_id=command.id)
    before = pointer.get(document, path)
    if before is UNSET:
        raise parts.missing(document, command.id, path)
    if command.headers:
        _check_conditions(held, command, before)
    event = _event(held, command, now, "deleted", UNSET)
    if held.metadata is not None and path:
        event.metadata = _metadata_after(held, event, command.headers)
    return Decision(response=Response(status=204, revision=event.revision), event=event)


def _event(held: Held, command: Command, now: Micros, action: Action, value: Json | UnsetType) -> Event:
    """The event that follows what is held, and is later: samples without a time of their own stand at the event's."""
    travelling = headers.for_event(command.headers) if command.headers else {}
    if command.observed is None:
        travelling["ditto-originator"] = command.subjects[0] if command.subjects else ""
    return Event(
        kind="thing",
        id=command.id,
        action=action,
        revision=held.revision + 1,
        timestamp=max(now, held.modified + 1),
        path=command.path,
        value=value,
        headers=travelling,
        observed=command.observed,
        digest=command.digest,
    )


def _remaining(held: Held, command: Command, value: Json, now: Micros) -> Json:
    """The value without the parts of a merge patch whose own conditions do not hold."""
    wanted = conditions.read(command, now)
    return value if wanted is None else conditions.remaining(wanted, held, value)


def _check_conditions(held: Held, command: Command, before: Json | UnsetType) -> None:
    """Raise unless If-Match and If-None-Match hold for what is there (UNSET: nothing)."""
    if preconditions.CONDITIONAL.isdisjoint(command.headers):
        return
    etag = None
    if before is not UNSET:
        etag = value_etag(before) if command.path else thing_etag(held.revision)
    preconditions.check(command.headers, etag, command.verb)


def _if_equal(held: Held, command: Command, before: Json | UnsetType, after: Json, value: Json) -> Json:
    """The value to write under an if-equal header. Raises PreconditionFailed where nothing would change."""
    wish = command.headers["if-equal"].strip()
    minimizing = wish == "skip-minimizing-merge" and command.verb == "merge"
    if before is UNSET or not (wish == "skip" or minimizing):
        return value
    if values.same(before, after):
        etag = value_etag(before) if command.path else thing_etag(held.revision)
        raise PreconditionFailed(
            headers={"etag": etag},
            header="if-equal",
            wanted=wish,
            etag=etag,
            description="The change would change nothing.",
        )
    return patch.minimize(before, value) if minimizing else value


def _metadata_after(held: Held, event: Event, asked: dict[str, str]) -> Json | UnsetType:
    """The thing's metadata after an event whose command asked for it with these headers; UNSET when nothing changes."""
    tree: Json | None = held.metadata
    if tree is not None:
        kept = metadata.follow(tree, held.document, _after(held, event))
        tree = None if kept is UNSET else kept
    if "put-metadata" in asked:
        tree = metadata.put(tree, asked["put-metadata"], event.path, event.value)
    elif "delete-metadata" in asked:
        tree = metadata.delete(tree, asked["delete-metadata"], event.path)
    return UNSET if tree == held.metadata else tree


def _growth(event: Event) -> int:
    """An upper bound for the bytes of JSON that the event adds to the thing."""
    if event.value is UNSET:
        return 0
    return len(values.encode((event.path, event.value))) + 3 * len(event.path)


def _applied(held: Held, event: Event, limit: int) -> Held:
    """What is held after an event that leaves a document.

    Raises ThingTooLarge; measures the thing only where the bound that is kept of its size does not settle it.
    """
    if event.metadata is not UNSET:
        size = len(values.encode(event.metadata))
        if size > limit:
            raise ThingTooLarge(
                thing_id=event.id, size=size, limit=limit, description="It is the thing's metadata that is too large."
            )
    after = apply(held, event)
    if after.size > limit:
        size = len(values.encode(after.document)) if after.slack else after.size
        if size > limit:
            raise ThingTooLarge(thing_id=event.id, size=size, limit=limit)
    return after


def _after(held: Held, event: Event) -> Json:
    """The document after an event; None for a deleted thing."""
    document, path, value = held.document, event.path, event.value
    if event.action in PATCHES:
        if value is UNSET:
            return document
        if not path:
            return patch.merge(document, value)
        if value is None:
            return pointer.remove(document, path)
        root, inner = pointer.opened(document, path)
        inner[path[-1]] = patch.merge(inner.get(path[-1]), value)
        return root
    if event.action == "deleted":
        return pointer.remove(document, path) if path else None
    return pointer.put(document, path, value)


def apply(held: Held, event: Event) -> Held:
    """What is held after an event; nothing is changed in place."""
    document = _after(held, event)
    if document is None:
        return Held(
            kind="thing",
            id=event.id,
            revision=event.revision,
            number=event.number,
            modified=event.timestamp,
            gone=_gone_after(held, event, {}),
        )
    size, slack = held.size, held.slack
    if event.action != "deleted":
        growth = _growth(event)
        size, slack = size + growth, slack + growth
    if not held.size or slack > SLACK_LIMIT or not event.path:
        size, slack = len(values.encode(document)), 0
    tree = held.metadata if event.metadata is UNSET else event.metadata
    observed = _observed_after(held, event, document)
    return Held(
        kind="thing",
        id=event.id,
        document=document,
        revision=event.revision,
        number=event.number,
        created=held.created if held.document is not None else event.timestamp,
        modified=event.timestamp,
        metadata=tree,
        observed=observed,
        gone=held.gone if observed is held.observed else _gone_after(held, event, observed),
        earlier=held.earlier if held.document is not None else held.revision > 0,
        size=size,
        slack=slack,
    )


def _observed_after(held: Held, event: Event, document: dict[str, Any]) -> dict[str, dict[str, Micros]]:
    """The times of the values shown: telemetry brings them, removal takes them away, other writes leave them."""
    known, path = held.observed, event.path
    time = event.observed
    if time is not None and event.action == "merged" and len(path) == 2 and path[0] == "features":
        value = event.value
        properties = value.get("properties") if type(value) is dict else None
        if type(properties) is dict:
            feature = path[1]
            times = known.get(feature, {}) | dict.fromkeys(properties, time)
            if None in properties.values():
                shown: dict[str, Any] = document["features"][feature]["properties"]
                times = {key: seen for key, seen in times.items() if key in shown}
            return {**known, feature: times}
        return known
    if not known or (path and path[0] != "features"):
        return known
    kept: dict[str, dict[str, Micros]] = {}
    for feature, times in known.items():
        left_there = pointer.get(document, ("features", feature, "properties"))
        if type(left_there) is dict:
            left = {key: seen for key, seen in times.items() if key in left_there}
            if left:
                kept[feature] = left
    return kept


def _gone_after(held: Held, event: Event, observed: dict[str, dict[str, Micros]]) -> Micros:
    """The newest time of values that were shown, or removed by telemetry itself, and are not shown after the event."""
    gone = held.gone
    if event.observed is not None and len(event.path) == 2:
        if type(event.value) is not dict or None not in event.value.get("properties", {}).values():
            return gone
        gone = max(gone, event.observed)
    for feature, times in held.observed.items():
        left = observed.get(feature, {})
        if left is not times and not times.keys() <= left.keys():
            gone = max(gone, *(time for key, time in times.items() if key not in left))
    return gone


def retrieve(held: Held, visible: Json, command: Command) -> Response:
    """Answer a read of the thing at the command's path, from what the reader may see of its document.

    The header `fields` holds the selector; `_policy`, when it is asked for, is a member of `visible`. Raises the row that
    says what is missing, PreconditionFailed, NotModified, FieldSelectorInvalid.
    """
    path, asked = command.path, command.headers
    if held.document is None or visible is UNSET or visible is None:
        raise ThingNotAccessible(thing_id=command.id)
    selected = None
    if asked:
        headers.check_supported(asked, "retrieve")
        metadata.check_alone(asked)
        if "fields" in asked:
            selected = asked["fields"]
    if not path and selected is None and (not asked or "if-match" not in asked):
        etag = thing_etag(held.revision)
        value: Json = visible
    else:
        parts.check_path(path, "retrieve")
        value = pointer.get(visible, path)
        if value is UNSET:
            raise parts.missing(visible, command.id, path)
        etag = value_etag(value) if path else thing_etag(held.revision)
    if asked and not preconditions.CONDITIONAL.isdisjoint(asked):
        if selected is not None and "_policy" in fields.parse(selected):
            asked = {name: text for name, text in asked.items() if name != "if-none-match"}
        preconditions.check(asked, etag, "retrieve")
    if selected is not None:
        selector = fields.parse(selected)
        value = fields.select(value if path else with_special(held, value, selector), selector)
    told: dict[str, str] = {}
    if asked and "get-metadata" in asked:
        tree = metadata.visible(held.metadata, held.document, visible)
        told["ditto-metadata"] = values.encode(metadata.get(tree, asked["get-metadata"], path)).decode()
    return Response(status=200, value=value, etag=etag, revision=held.revision, headers=told)


def with_special(held: Held, visible: dict[str, Any], selector: fields.Selector) -> dict[str, Any]:
    """The thing with the special members that the selector names."""
    special: dict[str, Any] = {}
    if "_namespace" in selector:
        special["_namespace"] = held.id.partition(":")[0]
    if "_revision" in selector:
        special["_revision"] = held.revision
    if "_created" in selector:
        special["_created"] = write_time(held.created)
    if "_modified" in selector:
        special["_modified"] = write_time(held.modified)
    if "_lifecycle" in selector:
        special["_lifecycle"] = "ACTIVE"
    if "_metadata" in selector:
        tree = metadata.visible(held.metadata, held.document, visible)
        if tree is not None:
            special["_metadata"] = tree
    return {**visible, **special}
