# ruff: noqa: N818 - errors are rows of a table
"""From an MQTT message to a command: pure, compiled once per source."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, structs

from skerry import headers, protocol, times, topics
from skerry.errors import SkerryError
from skerry.headers import HeaderInvalid
from skerry.ids import check_feature_id, check_thing_id
from skerry.pointer import parse
from skerry.signals import Command, Json, Micros, Path
from skerry.values import KEY_LIMIT, JsonKeyInvalid, check_key
from skerry.values import name as kind_of
from skerry_adapters.hono import HONO_ANSWERS, UPLINKS, device_of, hono_answer
from skerry_adapters.inbound import Aside, Inbound
from skerry_adapters.sources import PLACEHOLDER, Source, TimeFormat

Inbounder: TypeAlias = Callable[[Inbound, Micros], "Command | Aside"]

DEEPEST = 64
_CHANGES = frozenset({"create", "modify", "merge", "delete", "migrate"})
_KNOWN_TOPICS = 150_000
_KNOWN_KEYS = 50_000
_SHORT_TOPIC = 96
_DESIRED = re.compile(r"ditto/([^/]+)/([^/]+)/desired")
_UNITS = {"auto": 1_000, "ms": 1_000, "s": 1_000_000, "us": 1}

_Instant = Annotated[datetime, Meta(tz=True)]
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="sorted").encode


class MappingError(SkerryError):
    """The message is no change of a thing as it stands; it goes to the dead letters."""

    code = "mapping.invalid"
    status = 400
    message = "The payload cannot be mapped."
    description = "The server failed over it, and its log says how; it can be replayed once that is mended."


class PayloadMalformed(MappingError):
    """Not JSON."""

    code = "mapping.json.malformed"
    message = "The payload is not valid JSON: {reason}."
    description = "Send one JSON object in UTF-8. NaN and Infinity are not JSON; leave such a value out."


class PayloadNotObject(MappingError):
    """JSON, but no object, or one without values."""

    code = "mapping.json.notobject"
    message = "{where} is {found}, not a JSON object with at least one value."
    description = 'Send an object such as {{"ts": 1700000000000, "power": 2150.3}}.'


class PayloadTooDeep(MappingError):
    """Nested beyond reason."""

    code = "mapping.json.toodeep"
    message = "The payload is nested deeper than {limit} levels."
    description = "Send flat values, or fewer levels."


class PayloadTooLarge(MappingError):
    """More bytes than a message may have."""

    code = "mapping.payload.toolarge"
    status = 413
    message = "The payload has {size} bytes; {limit} are allowed."
    description = "Send less in one message, or raise the setting message_max_bytes."


class KeyInvalid(MappingError):
    """A member name that cannot be a property."""

    code = "mapping.key.invalid"
    message = "The member '{key}' cannot be a property: a name has 1 to {limit} characters, none of them a / or a control character."
    description = "Rename it on the device, or map it with properties = {{ name = '/pointer' }} in the source."


class TimeInvalid(MappingError):
    """An observed time that is none."""

    code = "mapping.time.invalid"
    message = "The time at {pointer} is {reason}."
    description = "{cure}"


class TopicMismatch(MappingError):
    """The filter let it in, the pattern does not fit."""

    code = "mapping.topic.mismatch"
    message = "The topic '{topic}' does not have the form '{pattern}' of source '{source}'."
    description = "Publish to a topic of that form, or change pattern or topics of the source."


class EnvelopeElsewhere(MappingError):
    """An envelope about another thing than the topic."""

    code = "mapping.envelope.elsewhere"
    status = 403
    message = "The envelope is about '{thing_id}', its topic '{topic}' about another thing."
    description = "Publish it to ditto/<namespace>/<name> of that very thing; a broker guards things by their topics."


class EnvelopeMissing(MappingError):
    """Values alone on one of Hono's topics: mostly `telemetry/<namespace>/<name>` without the feature."""

    code = "mapping.envelope.missing"
    message = (
        "'{topic}' takes envelopes of the Ditto Protocol, and the payload has no 'topic' as they have. "
        "Values alone go to telemetry/<namespace>/<name>/<feature>."
    )
    description = "Publish it to that topic, or send an envelope."


class ValueMissing(MappingError):
    """A pointer of the source that leads nowhere in this payload."""

    code = "mapping.value.missing"
    message = "The payload has nothing usable at {pointer}, which source '{source}' needs for {use}."
    description = "Send it, or change the source."


def compile_source(source: Source, limit: int) -> Inbounder:
    """The source's mapping: `inbound(message, now)` gives the command, or an envelope that is none, or raises a SkerryError.

    `limit`: payload bytes.
    """
    inbound: Inbounder = _ditto(source) if source.payload == "ditto" else _Telemetry(source).command

    def checked(message: Inbound, now: Micros) -> Command | Aside:
        if len(message.payload) > limit:
            raise PayloadTooLarge(size=len(message.payload), limit=limit)
        made = inbound(message, now)
        if message.reach is not None and isinstance(made, Command):
            message.reach.check_command(made)
        return made

    return checked


def _ditto(source: Source) -> Inbounder:
    def command(message: Inbound, _now: Micros) -> Command | Aside:
        subjects = message.subjects or source.subjects
        if message.topic.startswith(HONO_ANSWERS):
            return hono_answer(message, subjects)
        if not message.payload and (wanted := _DESIRED.fullmatch(message.topic)) is not None:
            return Aside(members={}, subjects=subjects, desired=f"{wanted[1]}:{wanted[2]}")
        members = protocol.members_of(message.payload)
        if "topic" not in members and message.topic.split("/", 1)[0] in UPLINKS:
            raise EnvelopeMissing(topic=message.topic)
        if not is_change(members):
            if not message.subjects:
                _check_topic(message.topic, ":".join(members["topic"].split("/", 2)[:2]))
            return Aside(members=members, subjects=subjects, asks=_asks(members))
        made = protocol.command_from(members, subjects, message.origin)
        if not message.subjects:
            _check_topic(message.topic, made.id)
        if "requested-acks" in made.headers and headers.timeout(made.headers.get("timeout"), 1.0) == 0:
            raise HeaderInvalid(
                name="timeout", value="0", problem="acknowledgements are asked for, and no time to wait"
            )
        if not message.qos:
            return made
        return structs.replace(made, digest=delivery(source.name, message), redelivered=message.redelivered)

    return command


def _check_topic(topic: str, thing_id: str) -> None:
    """Refuse an envelope about another thing than its topic: on an external broker topics are what tells publishers apart."""
    levels = topic.split("/", 3)
    if levels[0] == "ditto":
        elsewhere = len(levels) > 2 and f"{levels[1]}:{levels[2]}" != thing_id
    else:
        elsewhere = device_of(levels) not in {None, thing_id}
    if elsewhere:
        raise EnvelopeElsewhere(topic=topic, thing_id=thing_id)


def is_change(members: dict[str, Json]) -> bool:
    """Whether an envelope wants a twin or a policy changed (or is so wrong that whoever reads it as that says why)."""
    try:
        topic = topics.parse(protocol.text_of(members, "topic"))
    except SkerryError:
        return True
    return (
        topic.criterion == "commands"
        and topic.channel != "live"
        and topic.action in _CHANGES
        and "status" not in members
    )


def _asks(members: dict[str, Json]) -> bool:
    """Whether an envelope asks for something, rather than answers or tells it."""
    return "status" not in members and topics.parse(members["topic"]).criterion in {"commands", "messages"}


def delivery(source: str, message: Inbound) -> int:
    """64 bits that a redelivery by the broker has in common with the first delivery."""
    subjects = "\0".join(message.subjects) + "\0" if message.subjects else ""
    whom = f"{source}\0{subjects}{message.client}\0{message.topic}\0"
    return _digest(whom.encode() + message.mid.to_bytes(2) + message.payload)


def _digest(data: bytes) -> int:
    """64 bits of BLAKE2."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), signed=True)


class _Telemetry:
    """A telemetry source, made ready; it remembers the ids that topics stand for and the keys found valid."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.pattern = topic_form(source.pattern)
        self.thing = _template(source.thing)
        self.feature = _template(source.feature)
        self.by_topic = not any(isinstance(part, tuple) for part in (*self.thing, *self.feature))
        self.targets: dict[str, tuple[str, Path]] = {}
        self.paths: dict[str, Path] = {}
        self.keys: set[str] = set()
        self.time = parse(source.time) if source.time else ()
        self.values = parse(source.values) if source.values else ()
        self.properties = [(name, pointer, parse(pointer)) for name, pointer in source.properties.items()]
        others = (self.time, *(part for part in (*self.thing, *self.feature) if isinstance(part, tuple)))
        prefix = len(self.values)
        self.not_values = [path[prefix] for path in others if len(path) == prefix + 1 and path[:prefix] == self.values]
        self.flat = (
            not self.values and len(self.time) == 1 and self.not_values == [self.time[0]] and not self.properties
        )

    def command(self, message: Inbound, now: Micros) -> Command:
        """Merge the payload's values into the feature that the topic names."""
        source = self.source
        payload = _object(message.payload)
        target = self.targets.get(message.topic) if self.by_topic else None
        if target is None:
            target = self.target(message.topic, payload)
        thing, path = target
        if self.flat:
            stamp = payload.pop(self.time[0], None)
            values = payload
        else:
            stamp = _found(payload, self.time) if self.time else None
            values = self.picked(payload)
        if source.constants:
            values = {**source.constants, **values}
        if not values:
            raise PayloadNotObject(where=source.values or "The payload", found="without values")
        known = self.keys
        for key, value in values.items():
            if key not in known or type(value) is dict or type(value) is list:
                self.check(values)
                break
        if stamp is None:
            observed = None
            digest = delivery(source.name, message) if message.qos else None
        else:
            observed = moment(stamp, source, now)
            digest = _digest(f"{thing}\0{path[1]}\0{observed}\0".encode() + _encode(values))
        return Command(
            verb="merge",
            id=thing,
            subjects=message.subjects or source.subjects,
            path=path,
            value={"properties": values},
            observed=observed,
            digest=digest,
            redelivered=message.redelivered,
            origin=message.origin,
        )

    def target(self, topic: str, payload: dict[str, Json]) -> tuple[str, Path]:
        """The thing and the path of the feature; ids are checked once per topic."""
        match = self.pattern.fullmatch(topic)
        if match is None:
            raise TopicMismatch(topic=topic, pattern=self.source.pattern, source=self.source.name)
        names = match.groupdict()
        thing = self.filled("thing", self.thing, names, payload)
        feature = self.filled("feature", self.feature, names, payload)
        check_thing_id(thing)
        check_feature_id(feature)
        path = self.paths.get(feature) or ("features", feature)
        target = thing, path
        if self.by_topic and len(topic) <= _SHORT_TOPIC and topic.isascii():
            if len(self.targets) >= _KNOWN_TOPICS:
                self.targets.clear()
                self.paths.clear()
            self.paths[feature] = path  # features of many things bear the same few names
            self.targets[topic] = target
        return target

    def filled(self, use: str, template: Sequence[str | Path], names: dict[str, str], payload: dict[str, Json]) -> str:
        """The template with names from the topic and values from the payload."""
        text = ""
        for place, part in enumerate(template):
            if isinstance(part, tuple):
                value = _found(payload, part)
                if isinstance(value, bool) or not isinstance(value, str | int):
                    raise ValueMissing(pointer="/" + "/".join(part), source=self.source.name, use=use)
                text += str(value)
            else:
                text += names[part] if place % 2 else part
        return text

    def picked(self, payload: dict[str, Json]) -> dict[str, Json]:
        """The properties, where they are not simply the other members of the payload."""
        if self.properties:
            found = {name: _found(payload, path, self) for name, _, path in self.properties}
            return {name: value for name, value in found.items() if value is not self}
        values = _found(payload, self.values)
        if not isinstance(values, dict):
            raise PayloadNotObject(where=self.source.values, found=kind_of(values))
        for key in self.not_values:
            values.pop(key, None)
        return values

    def check(self, values: dict[str, Json]) -> None:
        """Refuse member names that cannot be properties, remembering the others, and values that are too deep."""
        new = [key for key in values if key not in self.keys]
        for key in new:
            try:
                check_key(key)
            except JsonKeyInvalid:
                raise KeyInvalid(key=key[:KEY_LIMIT], limit=KEY_LIMIT) from None
        if len(self.keys) + len(new) > _KNOWN_KEYS:
            self.keys.clear()
        self.keys.update(new)
        _check_depth(values, DEEPEST + 1)


def topic_form(pattern: str) -> re.Pattern[str]:
    """The form of topics that a source's pattern gives; a group for each placeholder."""
    return re.compile("/".join(_level(level) for level in pattern.split("/")))


def _level(level: str) -> str:
    parts = PLACEHOLDER.split(level)
    return "".join(f"(?P<{part}>[^/]+)" if place % 2 else re.escape(part) for place, part in enumerate(parts))


def _template(text: str) -> list[str | Path]:
    """Text, placeholder, text, ...; a placeholder that starts with / is a pointer into the payload."""
    parts = PLACEHOLDER.split(text)
    return [parse(part) if place % 2 and part.startswith("/") else part for place, part in enumerate(parts)]


def _object(payload: bytes) -> dict[str, Json]:
    try:
        value = _decode(payload)
    except UnicodeDecodeError as error:
        raise PayloadMalformed(reason=_utf8(payload) or str(error)) from None
    except RecursionError:
        raise PayloadTooDeep(limit=DEEPEST) from None
    except msgspec.DecodeError as error:
        raise PayloadMalformed(reason=_utf8(payload) or _reason(payload, str(error))) from None
    if type(value) is not dict:
        raise PayloadNotObject(where="The payload", found=kind_of(value))
    return value


def _utf8(payload: bytes) -> str:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        return f"byte {error.start} (0x{payload[error.start]:02x}) is not UTF-8"
    return ""


def _reason(payload: bytes, said: str) -> str:
    if not payload:
        return "it is empty"
    at = re.search(r"\(byte (\d+)\)", said)
    said = said.removeprefix("JSON is malformed: ").partition(" - at ")[0]
    if at and re.match(rb"-?(NaN|Infinity)", payload[int(at[1]) :]):
        return f"NaN or Infinity at byte {at[1]}"
    return said[0].lower() + said[1:]


def _check_depth(value: Json, room: int) -> None:
    if room == 0:
        raise PayloadTooDeep(limit=DEEPEST)
    inner = value.values() if isinstance(value, dict) else value
    for child in inner:
        if type(child) is dict or type(child) is list:
            _check_depth(child, room - 1)


def _found(document: Json, path: Path, missing: Json = None) -> Json:
    """What stands at the path, array places included."""
    value = document
    for segment in path:
        if isinstance(value, dict) and segment in value:
            value = value[segment]
        elif isinstance(value, list) and segment.isdecimal() and int(segment) < len(value):
            value = value[int(segment)]
        else:
            return missing
    return value


def moment(stamp: Json, source: Source, now: Micros) -> Micros:
    """The observed time in microseconds; between 1970 and `max_ahead` seconds from now."""
    kind: TimeFormat = source.time_format
    if type(stamp) is str and kind in {"auto", "rfc3339"}:
        try:
            micros = times.micros(msgspec.convert(stamp, _Instant))
        except (msgspec.ValidationError, OverflowError):
            raise TimeInvalid(
                pointer=source.time,
                reason=f"'{stamp[:60]}', which is not RFC 3339",
                cure="Send it like 2026-01-31T12:00:00.5Z, with a time zone, or as milliseconds since 1970.",
            ) from None
    elif type(stamp) is int and kind != "rfc3339":
        micros = stamp * _UNITS[kind]
    elif type(stamp) is float and kind != "rfc3339":
        micros = round(stamp * _UNITS[kind])
    else:
        wanted = {"auto": "RFC 3339 text or milliseconds since 1970", "rfc3339": "RFC 3339 text"}
        raise TimeInvalid(
            pointer=source.time,
            reason=f"{kind_of(stamp)}, not {wanted.get(kind, f'a number ({kind} since 1970)')}",
            cure="Send it so, or set time_format of the source.",
        )
    if micros < 0:
        raise TimeInvalid(pointer=source.time, reason="before 1970", cure="Set the clock of the device.")
    if micros > now + source.max_ahead * 1_000_000:
        raise TimeInvalid(
            pointer=source.time,
            reason=f"more than {source.max_ahead} s ahead of the server's clock",
            cure="Set the clock of the device, check the unit (auto takes a number as milliseconds), or raise max_ahead.",
        )
    return micros
