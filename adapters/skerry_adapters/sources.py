"""Sources: which MQTT messages are taken in, and how a message becomes a change of a thing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeAlias

from msgspec import NODEFAULT, Meta, Struct, structs

from skerry.signals import Json
from skerry_adapters.hono import HONO_TOPICS

TimeFormat: TypeAlias = Literal["auto", "rfc3339", "s", "ms", "us"]

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LONGEST_TOPIC = 65_535


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Topic filters and what their messages mean: a Ditto Protocol envelope, or telemetry mapped by the fields below.

    `pattern`: the topic with placeholders, `farm1/{turbine}/scada`. `thing`, `feature`: templates of the ids, filled from
    the topic (`{turbine}`) or the payload (`{/deviceId}`, a JSON pointer). `values`: pointer to the object whose members
    are the properties. `properties`: property name -> pointer, where not every member is one. `constants`: properties
    with a fixed value. `time`: pointer to the observed time; absent in the payload, the time of arrival counts.
    `max_ahead`: how many seconds ahead of our clock that time may be. Raises ValueError naming the source and the cure.
    """

    name: str
    topics: tuple[str, ...] = ()
    payload: Literal["ditto", "telemetry"] = "telemetry"
    qos: Literal[0, 1, 2] = 1
    subjects: tuple[str, ...] = ("nginx:ditto",)
    pattern: str = ""
    thing: str = "{namespace}:{name}"
    feature: str = "{feature}"
    values: str = ""
    properties: dict[str, str] = {}
    constants: dict[str, Json] = {}
    time: str = "/ts"
    time_format: TimeFormat = "auto"
    max_ahead: Annotated[int, Meta(ge=0)] = 86_400

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        for problem in _problems(self):
            raise ValueError(f"source '{self.name}': {problem}")

    @property
    def filters(self) -> tuple[str, ...]:
        """The topic filters to subscribe to: those given, or the pattern with `+` for each placeholder."""
        if self.topics or not self.pattern:
            return self.topics
        return ("/".join("+" if "{" in level else level for level in self.pattern.split("/")),)


_TELEMETRY_ONLY = set(Source.__struct_fields__) - {"name", "topics", "payload", "qos", "subjects"}


def _default(field: structs.FieldInfo) -> object:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


def _problems(source: Source) -> Iterable[str]:
    if not source.name:
        yield 'it has no name; add name = "..." to it'
    if not source.subjects or not all(source.subjects):
        yield 'subjects is empty, so nobody would be asking; give at least one, e.g. subjects = ["nginx:ditto"]'
    for topic in source.topics:
        yield from _filter_problems(topic)
    if source.payload == "ditto":
        if not source.topics:
            yield 'topics is empty; say which topics carry Ditto envelopes, e.g. topics = ["ditto/#"]'
        for field in structs.fields(Source):
            if field.name in _TELEMETRY_ONLY and getattr(source, field.name) != _default(field):
                yield f'{field.name} has no meaning for Ditto envelopes; remove it, or set payload = "telemetry"'
        return
    yield from _telemetry_problems(source)


def _filter_problems(topic: str) -> Iterable[str]:
    if not topic or len(topic) > _LONGEST_TOPIC or "\0" in topic:
        yield f"the topic filter '{topic[:80]}' is empty, too long or holds a NUL"
    levels = topic.split("/")
    for place, level in enumerate(levels):
        if "{" in level:
            yield f"the topic filter '{topic}' holds a placeholder; write + there, and the placeholder in pattern"
        if ("+" in level and level != "+") or ("#" in level and (level != "#" or place != len(levels) - 1)):
            yield f"in the topic filter '{topic}' + must be a whole level and # the last one"


def _telemetry_problems(source: Source) -> Iterable[str]:
    if not source.pattern:
        yield 'telemetry needs pattern, the topic with placeholders, e.g. pattern = "farm1/{turbine}/scada"'
    names = PLACEHOLDER.findall(source.pattern)
    yield from _pattern_problems(source.pattern, names)
    for topic in source.topics:
        if not _overlap(source.pattern, topic):
            yield (
                f"no topic of the filter '{topic}' can have the form of pattern '{source.pattern}'; "
                "change one of them, or leave topics away"
            )
    yield from _member_problems(source)
    for field, text in (("thing", source.thing), ("feature", source.feature)):
        yield from _template_problems(field, text, names)
    if not PLACEHOLDER.search(source.thing) and ":" not in source.thing:
        yield f"thing '{source.thing}' has no namespace; write namespace:name"


def _pattern_problems(pattern: str, names: Sequence[str]) -> Iterable[str]:
    for name in names:
        if not _NAME.fullmatch(name):
            yield f"pattern has the placeholder '{{{name}}}'; a placeholder is a name of letters, digits and _"
        if names.count(name) > 1:
            yield f"pattern has the placeholder '{{{name}}}' twice; give the second another name"
    bare = PLACEHOLDER.sub("", pattern)
    if any(character in bare for character in "{}+#"):
        yield f"pattern '{pattern}' may not hold +, # or a lone brace; write a placeholder such as {{name}}"


def _member_problems(source: Source) -> Iterable[str]:
    for field, pointer in (("time", source.time), ("values", source.values), *source.properties.items()):
        if pointer and not pointer.startswith("/"):
            yield f"{field} is '{pointer}', which is no JSON pointer; write '/{pointer}'"
    if source.properties and source.values:
        yield "values and properties are both given; the pointers of properties start at the payload, so remove values"
    for name in (*source.properties, *source.constants):
        if not name or "/" in name:
            yield f"'{name}' cannot be the name of a property: it is empty or holds a /"


def _template_problems(field: str, text: str, names: Sequence[str]) -> Iterable[str]:
    if not text or any(brace in PLACEHOLDER.sub("", text) for brace in "{}"):
        yield f"{field} '{text}' is empty or has a lone brace"
    for name in PLACEHOLDER.findall(text):
        if name in names or name.startswith("/"):
            continue
        near = difflib.get_close_matches(name, names, 1, 0.5)
        there = ", ".join(f"{{{known}}}" for known in names) or "none"
        cure = (
            f"did you mean {{{near[0]}}}?"
            if near
            else f"add it to pattern, or set {field} to what pattern has ({there})"
        )
        yield f"{field} uses '{{{name}}}', which pattern does not have; {cure}"


def _overlap(pattern: str, topic: str) -> bool:
    """Whether some topic has the pattern's form and passes the filter."""
    levels, filters = pattern.split("/"), bare_filter(topic).split("/")
    for place, wanted in enumerate(filters):
        if wanted == "#":
            return True
        if place >= len(levels):
            return False
        if wanted != "+" and "{" not in levels[place] and wanted != levels[place]:
            return False
    return len(levels) == len(filters)


def bare_filter(topic: str) -> str:
    """A filter without the `$share/group/` of a shared subscription."""
    return topic.split("/", 2)[2] if topic.startswith("$share/") and topic.count("/") > 1 else topic


def matcher(filters: Sequence[str]) -> re.Pattern[str]:
    """A pattern that matches the topics that one of the MQTT filters passes (MQTT 5, 4.7)."""
    alternatives = []
    for topic in filters:
        levels = bare_filter(topic).split("/")
        hidden = "" if levels[0].startswith("$") else r"(?!\$)"
        text = "/".join("[^/]*" if level == "+" else re.escape(level) for level in levels if level != "#")
        if levels[-1] == "#":
            text = f"{text}(?:/.*)?" if len(levels) > 1 else ".*"
        alternatives.append(hidden + text)
    return re.compile(f"(?s:{'|'.join(alternatives)})" if alternatives else r"(?!)")


DEFAULT_SOURCES: tuple[Source, ...] = (
    Source(name="ditto", topics=("ditto/#",), payload="ditto"),
    Source(
        name="telemetry",
        topics=("telemetry/+/+/+",),
        payload="telemetry",
        pattern="telemetry/{namespace}/{name}/{feature}",
    ),
    Source(name="hono", topics=HONO_TOPICS, payload="ditto"),
)
