# ruff: noqa: N818 - errors are rows of a table
"""What moves on the live channel: messages, claims, live commands and events, and the answers to them (ditto.md 1.5, 2)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType, field

from skerry import protocol, topics
from skerry.errors import SkerryError
from skerry.ids import check_thing_id
from skerry.protocol import OURS, AdaptableIllegal, EnvelopePathInvalid
from skerry.signals import Json, Path
from skerry.values import JsonFieldMissing, decode, encode, name

Sort: TypeAlias = Literal["message", "command", "event"]

CLAIM: Path = ("inbox", "messages", "claim")
"""Where claims go: sending one takes no right."""
BOXES = ("inbox", "outbox")
LIVE_VERBS = ("create", "retrieve", "modify", "merge", "delete")
VALUED = frozenset({"create", "modify", "merge"})
_STATUSES = range(200, 600)
_TEXT = re.compile(r"text/.*|application/(?:.+\+)?(?:javascript|ecmascript)")
_JSON = re.compile(r"application/(?:.+\+)?json")
_CHARSET = re.compile(r";\s*charset=\"?([\w.:-]+)", re.IGNORECASE)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class SubjectInvalid(SkerryError):
    """Not the subject of a message."""

    code = "messages:subject.invalid"
    status = 400
    message = "'{subject}' is not the subject of a message: {problem}"
    description = (
        "It stands behind /inbox/messages/ or /outbox/messages/; its segments are separated by single slashes."
    )


class LiveSignal(Struct, frozen=True, kw_only=True):
    """One signal on its way to whoever listens, or back.

    `topic`: its text (`ns/name/things/live/messages/ask`), the same in an answer. `path`: of a message
    ("features", "f", "inbox", "messages", "ask"), a subject with slashes being several segments; of commands and events the part of the
    thing. `value`: as an envelope has it: JSON, text, or for content that is neither base64 text. `status`: of an answer, None in what
    asks. `headers`: lower-case names to text; the correlation id is always there. `raw`: a message's payload as it came over HTTP.
    `revision`, `timestamp`: what somebody says of a live event. `origin`: who sent it, as the server knows him; never told.
    """

    sort: Sort
    id: str
    topic: str
    path: Path
    value: Json | UnsetType = UNSET
    headers: dict[str, str] = field(default_factory=dict)
    fields: str | None = None
    status: int | None = None
    extra: Json | UnsetType = UNSET
    raw: bytes | None = None
    revision: int | None = None
    timestamp: str | None = None
    origin: str = ""

    @property
    def action(self) -> str:
        """A command's verb, an event's action, a message's subject; empty for an error."""
        return topics.parse(self.topic).action or ""

    @property
    def correlation(self) -> str:
        """What an answer is known by."""
        return self.headers.get("correlation-id", "")


def is_live(topic: str) -> bool:
    """Whether an envelope with this topic is for `signal_from`: a message, live command, live event or an answer to one."""
    try:
        parsed = topics.parse(topic)
    except topics.TopicUnknown:
        return False
    return parsed.channel == "live" and parsed.criterion in _SORTS


def signal_from(envelope: bytes | str | dict[str, Any], *, correlation: str = "") -> LiveSignal:
    """The message, live command, live event, or the answer to one, in an envelope. Raises SkerryError for what is none.

    `correlation`: the correlation id where the envelope has none.
    """
    members = protocol.members_of(envelope)
    text = protocol.text_of(members, "topic")
    topic = topics.parse(text)
    sort = _SORTS.get(topic.criterion) if topic.channel == "live" else None
    if sort is None:
        raise topics.SignalUnknown(topic=text, problem="it is no message, command, event or error of the live channel")
    thing_id = topic.id
    if thing_id is None:
        raise topics.TopicUnknown(topic=text, problem="it names no thing; a live signal is about one")
    check_thing_id(thing_id)
    status = _status(members)
    if status is None and topic.criterion == "errors":
        raise JsonFieldMissing(name="status", at="/")
    value = members.get("value", UNSET)
    if sort == "command" and status is None:
        if topic.action not in LIVE_VERBS:
            raise topics.CommandUnknown(topic=text, problem="there is no such live command")
        if value is UNSET and topic.action in VALUED:
            raise JsonFieldMissing(name="value", at="/")
    revision = members.get("revision")
    if sort == "event" and not isinstance(revision, int):
        raise JsonFieldMissing(name="revision", at="/")
    headers = protocol.headers_from(members.get("headers"))
    if status is None:
        headers = {title: said for title, said in headers.items() if title not in OURS}
    headers.setdefault("correlation-id", correlation)
    selector, timestamp = members.get("fields"), members.get("timestamp")
    return LiveSignal(
        sort=sort,
        id=thing_id,
        topic=text,
        path=_path(protocol.text_of(members, "path"), topic, text),
        value=value,
        headers=headers,
        fields=_rooted(selector) if isinstance(selector, str) else None,
        status=status,
        extra=members.get("extra", UNSET),
        revision=revision if isinstance(revision, int) else None,
        timestamp=timestamp if isinstance(timestamp, str) else None,
    )


_SORTS: dict[str, Sort] = {"messages": "message", "commands": "command", "events": "event", "errors": "command"}


def _rooted(selector: str) -> str:
    """The fields that a command asks for, each with a slash before it, as Ditto hands them on."""
    if "(" in selector:
        return selector
    return ",".join("/" + one.strip().removeprefix("/") for one in selector.split(","))


def envelope_of(signal: LiveSignal) -> dict[str, Any]:
    """The envelope that whoever listens, or the asker, is sent."""
    envelope: dict[str, Any] = {
        "topic": signal.topic,
        "headers": protocol.headers_shown(signal.headers),
        "path": write_path(signal),
    }
    if signal.revision is not None:
        envelope["headers"]["entity-revision"] = signal.revision
    if signal.value is not UNSET:
        envelope["value"] = signal.value
    if signal.fields is not None:
        envelope["fields"] = signal.fields
    if signal.extra is not UNSET:
        envelope["extra"] = signal.extra
    for title in ("status", "revision", "timestamp"):
        said = getattr(signal, title)
        if said is not None:
            envelope[title] = said
    return envelope


def write_path(signal: LiveSignal) -> str:
    """The text of a signal's path in its envelope: a subject stands there as it is."""
    return f"/{'/'.join(signal.path)}" if signal.sort == "message" else protocol.write_path(signal.path, "thing")


def message_path(box: str, subject: str, feature: str | None = None) -> Path:
    """The path of a message to an inbox or from an outbox. Raises SubjectInvalid."""
    segments = subject.split("/")
    if not any(segments):
        raise SubjectInvalid(subject=subject, problem="there is nothing in it")
    if _CONTROLS.search(subject):
        raise SubjectInvalid(subject=_CONTROLS.sub("?", subject), problem="it has control characters")
    return (*(("features", feature) if feature is not None else ()), box, "messages", *segments)


def subject_of(path: Path) -> str:
    """The subject of the message that has this path."""
    return "/".join(path[4:] if path[0] == "features" else path[2:])


def normal(value: Json, content_type: str) -> Json:
    """A payload from an envelope as it is told on: text as text, what is neither text nor JSON as base64 (as Ditto has it)."""
    if is_json(content_type):
        return value
    text = value if isinstance(value, str) else encode(value).decode()
    return text if is_text(content_type) else base64.b64encode(_bytes_of(text.encode())).decode()


def value_of(raw: bytes, content_type: str) -> Json:
    """A payload as an envelope has it: JSON, text, or base64 of what is neither. Raises JsonInvalid for JSON that is none."""
    if is_json(content_type):
        return decode(raw)
    if is_text(content_type):
        return _decoded(raw, content_type)
    return base64.b64encode(raw).decode()


def payload_of(signal: LiveSignal) -> bytes:
    """A message's payload as bytes, as whoever speaks no envelopes gets it; empty where there is none."""
    if signal.raw is not None:
        return signal.raw
    value = signal.value
    if value is UNSET:
        return b""
    content_type = signal.headers.get("content-type", "")
    if is_json(content_type):
        return encode(value)
    text = value.encode() if isinstance(value, str) else encode(value)
    return text if is_text(content_type) else _bytes_of(text)


def is_json(content_type: str) -> bool:
    """Whether content of this type is JSON."""
    return _JSON.fullmatch(_media(content_type)) is not None


def is_text(content_type: str) -> bool:
    """Whether content of this type is text and no JSON."""
    return _TEXT.fullmatch(_media(content_type)) is not None


def _bytes_of(text: bytes) -> bytes:
    """What base64 text stands for; what is none stands for itself."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return text


def _media(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _decoded(raw: bytes, content_type: str) -> str:
    """Text in the charset that its type says; what is none of it is replaced."""
    found = _CHARSET.search(content_type)
    try:
        return raw.decode(found[1] if found else "utf-8", "replace")
    except (LookupError, ValueError):
        return raw.decode("utf-8", "replace")


def _status(members: dict[str, Any]) -> int | None:
    """The status of an answer; None where the envelope asks."""
    status = members.get("status")
    if status is None:
        return None
    if not isinstance(status, int) or isinstance(status, bool) or status not in _STATUSES:
        raise AdaptableIllegal(
            problem=f"its status is {name(status) if not isinstance(status, int) else status}, not one of HTTP's"
        )
    return status


def _path(text: str, topic: topics.Topic, topic_text: str) -> Path:
    """The path in an envelope: a message's ends with the subject that its topic has. Raises EnvelopePathInvalid, SubjectInvalid."""
    if topic.criterion != "messages":
        return protocol.path_from(text, "thing")
    if topic.action is None:
        raise topics.TopicUnknown(topic=topic_text, problem="it lacks the subject of the message")
    for box in BOXES:
        before, found, after = text.partition(f"/{box}/messages/")
        if not found or after != topic.action:
            continue
        if not before:
            return message_path(box, topic.action)
        feature = before.removeprefix("/features/")
        if feature != before and feature and "/" not in feature:
            return message_path(box, topic.action, feature.replace("~1", "/").replace("~0", "~"))
    raise EnvelopePathInvalid(
        path=text,
        problem="it does not go with the topic",
        description=f"A message with this topic has the path /inbox/messages/{topic.action} or /outbox/messages/{topic.action}, "
        "below /features/<id> if it is for a feature.",
    )
