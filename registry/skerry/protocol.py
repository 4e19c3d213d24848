# ruff: noqa: N818 - errors are rows of a table
"""The Ditto Protocol's envelope and signals, each made from the other (ditto.md 2.1, 2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from msgspec import UNSET, Struct, UnsetType, field, structs

from skerry import headers as ditto_headers
from skerry import parts, pointer, times, topics
from skerry.errors import SkerryError
from skerry.headers import HeaderInvalid
from skerry.ids import check_policy_id, check_thing_id, split_id
from skerry.signals import Command, Event, Json, Kind, Path, Response, Verb
from skerry.values import JsonFieldMissing, JsonInvalid, decode, encode, name

CREATED = 201
_VERBS = frozenset({"create", "retrieve", "modify", "merge", "delete", "migrate"})
_GROUPS: dict[Kind, str] = {"thing": "things", "policy": "policies"}
_BOOLEAN = frozenset({"response-required", "dry-run", "ditto-weak-ack", "live-channel-condition-matched"})
_AS_JSON = _BOOLEAN | {"requested-acks", "declared-acks", "put-metadata", "ditto-metadata"}
"""Headers whose values are JSON in an envelope."""
_TRANSPORT = frozenset(
    {"accept-encoding", "authorization", "cache-control", "connection", "raw-request-uri", "www-authenticate"}
)
"""Headers of the way that an envelope came; none of the others' business (seen on Ditto 3.9.6)."""
OURS = frozenset(
    {
        "entity-revision",
        "etag",
        "historical-headers",
        "live-channel-condition-matched",
        "skerry-observed",
        "www-authenticate",
    }
)
"""Headers that only a server says: in a command they would be somebody's lie about an event or a response."""


class EnvelopePathUnknown(SkerryError):
    """An envelope's path that the entity has no part at."""

    code = "protocoladapter:unknown.path"
    status = 400
    message = "The path '{path}' names no part of a thing."
    description = "A thing's parts are /, /policyId, /definition, /attributes and /features/<id> with /definition, /properties and /desiredProperties."


class EnvelopePathInvalid(SkerryError):
    """An envelope's path that is no pointer, or not what the topic asks for."""

    code = "protocoladapter:invalid.path"
    status = 400
    message = "The path '{path}' is not one for this envelope: {problem}."
    description = "It begins with a slash, and single slashes separate its segments."


class AdaptableIllegal(SkerryError):
    """JSON that is no envelope."""

    code = "protocoladapter:illegal.adaptable"
    status = 422
    message = "The message is no envelope of the Ditto Protocol: {problem}"
    description = "An envelope is an object with topic, path and, as the case may be, headers and value."


class Headers(dict[str, str]):
    """Headers of an envelope that were read and found good, so that nobody need do it again."""


class Ack(Struct, frozen=True, kw_only=True):
    """An acknowledgement; without a label, many of them as one. `channel`: of what is acknowledged."""

    id: str
    status: int
    channel: str = "twin"
    label: str | None = None
    value: Json | UnsetType = UNSET
    headers: dict[str, str] = field(default_factory=dict)


def command_from(envelope: bytes | str | dict[str, Any], subjects: tuple[str, ...], origin: str = "") -> Command:
    """The command in an envelope; its topic is kept for the response. Raises SkerryError for what is no command."""
    members = members_of(envelope)
    text = text_of(members, "topic")
    topic = topics.parse(text)
    if topic.criterion != "commands":
        raise topics.SignalUnknown(topic=text, problem=f"{topic.criterion} are not taken here")
    migrating = topic.action == "migrate"
    if topic.group == "connections" or (topic.group == "policies" and topic.action == "merge"):
        raise topics.TopicUnknown(topic=text, problem="there is no such command")
    if topic.action not in _VERBS or (migrating and topic.group != "things"):
        raise topics.CommandUnknown(topic=text, problem="there is no such command here")
    if topic.channel == "live":
        raise topics.ChannelUnknown(topic=text, problem="the live channel is not served here")
    kind: Kind = "policy" if topic.group == "policies" else "thing"
    value = members.get("value", UNSET)
    verb = cast("Verb", topic.action)
    if value is UNSET and verb in {"create", "modify", "merge"}:
        raise JsonFieldMissing(name="value", at="/")
    found = {title: said for title, said in headers_from(members.get("headers")).items() if title not in OURS}
    if isinstance(selector := members.get("fields"), str):
        found["fields"] = selector
    return Command(
        verb=verb,
        kind=kind,
        id=_id(text, topic, kind, value),
        subjects=subjects,
        path=() if migrating else path_from(text_of(members, "path"), kind),
        value=value,
        headers=found,
        topic=text,
        origin=origin,
    )


def headers_from(given: Json) -> dict[str, str]:
    """The headers in an envelope as text by lower-case name, without those that nobody outside may set.

    Raises JsonInvalid, HeaderInvalid, HeadersTooLarge.
    """
    if given is None:
        return Headers()
    if isinstance(given, Headers):
        return given
    if not isinstance(given, dict):
        raise JsonInvalid(at="/headers", problem=f"they are an object, not {name(given)}")
    found = Headers()
    for title, value in given.items():
        lower = title.lower()
        if value is None or lower in _TRANSPORT or lower.startswith("ditto-"):
            continue
        found[lower] = value if isinstance(value, str) else encode(value).decode()
    if found.get("correlation-id") == "":
        raise HeaderInvalid(name="correlation-id", value="", problem="it is empty")
    ditto_headers.response_required(found)
    ditto_headers.requested_acks(found.get("requested-acks"))
    ditto_headers.check_size(found)
    return found


def event_envelope(event: Event) -> dict[str, Any]:
    """What subscribers are told of an event: not its digest, nor what came too late for the twin."""
    envelope: dict[str, Any] = {
        "topic": topics.write(event_topic(event)),
        "headers": headers_shown(event.headers),
        "path": write_path(event.path, event.kind),
    }
    if event.observed is not None:
        envelope["headers"]["skerry-observed"] = times.write(event.observed)
    if event.value is not UNSET:
        envelope["value"] = event.value
    elif event.action == "merged":
        envelope["value"] = {}
    if event.metadata is not UNSET:
        envelope["metadata"] = event.metadata
    envelope["revision"] = event.revision
    envelope["timestamp"] = times.write(event.timestamp)
    return envelope


def event_topic(event: Event) -> topics.Topic:
    """The topic that subscribers are told of an event on."""
    return _topic(event.kind, event.id, "events", event.action)


def response_envelope(command: Command, response: Response) -> dict[str, Any]:
    """The answer to a command, on the topic it came with."""
    told = ditto_headers.for_response(command.headers) | response.headers
    if response.etag is not None:
        told["etag"] = response.etag
    shown: dict[str, Any] = headers_shown(told)
    if command.subjects:
        shown.setdefault("ditto-originator", command.subjects[0])
    _say_final(shown)
    if response.revision is not None:
        shown["entity-revision"] = response.revision
    created = not command.path and response.status == CREATED and command.verb != "create"
    if command.verb != "merge" or created:
        shown["content-type"] = "application/json"
    envelope: dict[str, Any] = {
        "topic": _answered(command, created=created),
        "headers": shown,
        "path": write_path(command.path, command.kind),
        "status": response.status,
    }
    if response.value is not UNSET:
        envelope["value"] = response.value
    return envelope


def _answered(command: Command, *, created: bool) -> str:
    """The topic of an answer: the command's; what has made the entity is answered as a creation (seen on Ditto 3.9.6)."""
    text = command.topic or topics.write(_topic(command.kind, command.id, "commands", command.verb))
    return topics.write(structs.replace(topics.parse(text), action="create")) if created else text


def _say_final(shown: dict[str, Any]) -> None:
    """Nothing is asked of whoever gets an answer."""
    shown["response-required"] = False
    shown.pop("requested-acks", None)


def error_envelope(
    error: SkerryError, topic: str | None, headers: Mapping[str, str], originator: str | None = None
) -> dict[str, Any]:
    """An error about what came with this topic (None or nonsense: about nothing that is known) and these headers.

    `originator`: the first subject of whoever sent it, where it got so far that it was carried out.
    """
    nothing = topics.Topic(namespace=topics.UNKNOWN, name=topics.UNKNOWN)
    try:
        parsed = topics.parse(topic or "")
    except topics.TopicUnknown:
        parsed = nothing
    about = structs.replace(nothing if parsed.id is None else parsed, criterion="errors", action=None)
    shown: dict[str, Any] = headers_shown(ditto_headers.for_response(headers) | error.headers)
    _say_final(shown)
    shown["content-type"] = "application/json"
    if about.channel == "live":
        shown["channel"] = "live"
    if originator is not None:
        shown["ditto-originator"] = originator
    return {
        "topic": topics.write(about),
        "headers": shown,
        "path": "/",
        "value": error.payload(),
        "status": error.status,
    }


def ack_envelope(ack: Ack) -> dict[str, Any]:
    """An acknowledgement, or (without a label) many of them as one."""
    topic = structs.replace(_topic("thing", ack.id, "acks", ack.label), channel=ack.channel)
    envelope: dict[str, Any] = {
        "topic": topics.write(topic),
        "headers": headers_shown(ack.headers),
        "path": "/",
        "status": ack.status,
    }
    if ack.value is not UNSET:
        envelope["value"] = ack.value
    return envelope


def ack_from(envelope: bytes | str | dict[str, Any]) -> Ack:
    """The acknowledgement in an envelope. Raises SkerryError for what is none."""
    members = members_of(envelope)
    text = text_of(members, "topic")
    topic = topics.parse(text)
    if topic.criterion != "acks" or topic.id is None:
        raise topics.SignalUnknown(topic=text, problem="it names no acknowledgement of one thing")
    status = members.get("status")
    if not isinstance(status, int):
        raise JsonFieldMissing(name="status", at="/")
    if topic.action is not None:
        ditto_headers.check_label(topic.action)
    return Ack(
        id=topic.id,
        label=topic.action,
        channel=topic.channel or "twin",
        status=status,
        value=members.get("value", UNSET),
        headers=headers_from(members.get("headers")),
    )


def members_of(envelope: bytes | str | dict[str, Any]) -> dict[str, Any]:
    """The members of an envelope."""
    members = envelope if isinstance(envelope, dict) else decode(envelope)
    if not isinstance(members, dict):
        raise JsonInvalid(at="/", problem=f"an envelope is an object, not {name(members)}")
    return members


def text_of(members: dict[str, Any], member: str) -> str:
    """A member that must be there and be a text."""
    value = members.get(member)
    if value is None:
        raise JsonFieldMissing(name=member, at="/")
    if not isinstance(value, str):
        raise JsonInvalid(at=f"/{member}", problem=f"it is a text, not {name(value)}")
    return value


def _topic(kind: Kind, id: str, criterion: str, action: str | None) -> topics.Topic:  # noqa: A002 - the model's word
    """The topic of a signal about one entity."""
    namespace, title = split_id(id)
    channel = "twin" if kind == "thing" else None
    return topics.Topic(
        namespace=namespace, name=title, group=_GROUPS[kind], channel=channel, criterion=criterion, action=action
    )


def _id(text: str, topic: topics.Topic, kind: Kind, value: Json) -> str:
    """The id of the entity that a command is about: the topic's, or for a placeholder the value's."""
    found = topic.id
    if found is None and topic.action == "create" and isinstance(value, dict):
        found = value.get("thingId" if kind == "thing" else "policyId")
    if not isinstance(found, str):
        raise topics.TopicUnknown(topic=text, problem="it names no entity; one command is about one")
    (check_thing_id if kind == "thing" else check_policy_id)(found)
    return found


def path_from(text: str, kind: Kind) -> Path:
    """The path in an envelope, with or without the first slash. Raises PointerInvalid, EnvelopePathUnknown, EnvelopePathInvalid (policies)."""
    if not text.startswith("/"):
        text = "/" + text
    if kind == "policy":
        return _policy_path(text)
    try:
        path = pointer.parse(text.removesuffix("/"))
        parts.check_path(path, "retrieve")
    except parts.PathUnknown as error:
        raise EnvelopePathUnknown(path=text) from error
    return path


def _policy_path(text: str) -> Path:
    """A path in a policy: a resource's key (/entries/<label>/resources/thing:/x) keeps its slashes."""
    segments = text[1:].split("/", 3) if text != "/" else []
    if len(segments) == 4 and segments[2] not in {"resources", "subjects"}:
        segments = text[1:].split("/")
    if "" in segments:
        raise EnvelopePathInvalid(path=text, problem="a segment is empty")
    return tuple(segments)


def write_path(path: Path, kind: Kind) -> str:
    """The text of a path in an envelope."""
    return pointer.write(path) if kind == "thing" else "/" + "/".join(path)


def headers_shown(headers: Mapping[str, str]) -> dict[str, Any]:
    """Headers as they stand in an envelope: lists as JSON, the rest as text; what cannot be read stays as it is."""
    shown: dict[str, Any] = dict(headers)
    for title in _AS_JSON.intersection(shown):
        try:
            shown[title] = _value_of(title, headers)
        except SkerryError:
            continue
    return shown


def _value_of(title: str, headers: Mapping[str, str]) -> Json:
    """The value of a header that is no text."""
    if title in _BOOLEAN:
        return ditto_headers.boolean(headers, title, default=True)
    return list(ditto_headers.requested_acks(headers[title])) if title.endswith("-acks") else decode(headers[title])
