"""The rights that policies give at the embedded broker, written as an ACL file for Mosquitto."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from skerry_adapters.broker.rights import ADMINS, DEVICE
from skerry_adapters.sources import PLACEHOLDER, Source

if TYPE_CHECKING:
    from skerry_policies.enforcer import Permits

_NAME = re.compile(r"[^+#/\x00-\x1f\x7f]+")
"""Names that can stand in a topic."""


class Holder(Struct, frozen=True):
    """A user of Mosquitto, and whom it is for policies."""

    name: str
    subjects: tuple[str, ...]
    roles: tuple[str, ...] = ()


class Guarded(Struct, frozen=True):
    """A thing: its id, and the features that it has or that its policy names."""

    id: str
    features: tuple[str, ...]
    policy: str


class Telemetry(Struct, frozen=True):
    """A source whose topics name thing and feature: how a thing and a feature are written as a topic."""

    pattern: tuple[str, ...]
    thing: re.Pattern[str]
    feature: re.Pattern[str]

    def topic(self, thing: str, feature: str | None) -> str | None:
        """The topic of a feature, or the filter of all of them (None); None where the thing is none of this source's."""
        names = self.thing.fullmatch(thing)
        if names is None:
            return None
        known: dict[str, str | None] = dict(names.groupdict())
        if feature is not None:
            found = self.feature.fullmatch(feature)
            if found is None or any(known.get(name, value) != value for name, value in found.groupdict().items()):
                return None
            known.update(found.groupdict())
        levels = []
        for level in self.pattern:
            parts = PLACEHOLDER.split(level)
            filled = [known.get(part) if place % 2 else part for place, part in enumerate(parts)]
            levels.append("+" if None in filled else "".join(part for part in filled if part is not None))
        return "/".join(levels)


def telemetry_of(sources: Iterable[Source]) -> tuple[list[Telemetry], list[str]]:
    """The sources that can be turned into rules, and the names of those that only the payload explains."""
    found, others = [], []
    for source in sources:
        if source.payload == "ditto":
            if any(topic.split("/")[0] != "ditto" for topic in source.topics):
                others.append(source.name)
        elif "{/" in source.thing or "{/" in source.feature:
            others.append(source.name)
        else:
            forms = [_form(source.thing), _form(source.feature)]
            found.append(Telemetry(tuple(source.pattern.split("/")), *forms))
    return found, others


def _form(template: str) -> re.Pattern[str]:
    """What ids of a template look like; a namespace has no colon."""
    parts = PLACEHOLDER.split(template)
    text = ""
    for place, part in enumerate(parts):
        if place % 2:
            text += f"(?P<{part}>[^:/]+)" if place == 1 and ":" in "".join(parts[2:]) else f"(?P<{part}>[^/]+)"
        else:
            text += re.escape(part)
    return re.compile(text)


class Rules:
    """Makes the lines of each user."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._telemetry, self.unexplained = telemetry_of(sources)
        self._ditto = any(topic.split("/")[0] == "ditto" for source in sources for topic in source.topics)

    def of(self, holder: Holder, things: Iterable[Guarded], permits: Mapping[str, Permits]) -> list[str]:
        """`write FILTER`, `read FILTER` and `deny FILTER` of one user; `permits`: his rights by thing. One line for a whole namespace where he may all there is."""
        if any(role in ADMINS for role in holder.roles):
            return ["readwrite #"]
        by_namespace: dict[str, list[Guarded]] = defaultdict(list)
        for thing in things:
            namespace, _, name = thing.id.partition(":")
            if _NAME.fullmatch(namespace) and _NAME.fullmatch(name):
                by_namespace[namespace].append(thing)
        lines: list[str] = []
        for namespace in sorted(by_namespace):
            there = sorted(by_namespace[namespace], key=lambda thing: thing.id)
            each = [set(self._thing(thing, permits[thing.id])) for thing in there]
            whole = [set(self._whole(thing.id)) for thing in there]
            common = {
                rule
                for rule in set(self._whole(f"{namespace}:+"))
                if len(there) > 1 and all(_at(rule, thing.id) in own for thing, own in zip(there, each, strict=True))
            }
            lines += sorted(common)
            for thing, own, full in zip(there, each, whole, strict=True):
                covered = {rule for rule in full if any(_at(wide, thing.id) == rule for wide in common)}
                lines += sorted(own - covered)
        return lines

    def _thing(self, thing: Guarded, permits: Permits) -> Iterator[str]:
        """The rules of one thing."""
        namespace, _, name = thing.id.partition(":")
        if permits.may("thing", (), "READ"):
            yield f"read {DEVICE}/{namespace}/{name}/#"
            if not permits.may("message", (), "READ"):
                yield f"deny {DEVICE}/{namespace}/{name}/live"
        if self._ditto and permits.may("thing", (), "WRITE") and permits.may("message", (), "WRITE"):
            yield f"write ditto/{namespace}/{name}/#"
        every = permits.may("thing", ("features",), "WRITE")
        for source in self._telemetry:
            for feature in (None,) if every else thing.features:
                if feature is not None and not (
                    _NAME.fullmatch(feature) and permits.may("thing", ("features", feature), "WRITE")
                ):
                    continue
                topic = source.topic(thing.id, feature)
                if topic is not None:
                    yield f"write {topic}"

    def _whole(self, thing_id: str) -> Iterator[str]:
        """The rules of somebody who may all with a thing (or with all of a namespace: `namespace:+`)."""
        namespace, _, name = thing_id.partition(":")
        yield f"read {DEVICE}/{namespace}/{name}/#"
        if self._ditto:
            yield f"write ditto/{namespace}/{name}/#"
        for source in self._telemetry:
            topic = source.topic(thing_id, None)
            if topic is not None:
                yield f"write {topic}"


def _at(rule: str, thing_id: str) -> str:
    """The rule of a whole namespace for one of its things: the first + that stands for the name becomes it."""
    return rule.replace("/+", "/" + thing_id.partition(":")[2], 1)


def write(users: Mapping[str, Sequence[str]], notes: Sequence[str]) -> str:
    """The file: notes, then each user's lines."""
    text = "".join(f"# {note}\n" for note in notes)
    for name, rules in users.items():
        if rules:
            text += f"\nuser {name}\n" + "".join(f"topic {rule}\n" for rule in rules)
    return text
