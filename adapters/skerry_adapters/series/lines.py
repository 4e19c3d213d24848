"""InfluxDB's words for ours: names, and samples as line protocol.

A feature is a measurement, the thing and its namespace are tags, a property is a field. A field of InfluxDB has one type
for ever, so texts and booleans have fields of their own: `status~text`, `on~bool`. In a JSON pointer `~` stands only
before 0 or 1, so no property can be called that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from skerry_adapters.series.ports import Samples

LEARNED = "~learned"
"""The field with the time at which we learned of a point's values, in microseconds."""

_UNWRITABLE = re.compile(r'[\x00-\x1f\x7f\\"]')
_UNWRITABLE_IN_IDS = re.compile(r'[\x00-\x1f\x7f\\"~]')
_SPECIAL_IN_MEASUREMENT = re.compile(r"([, ])")
_SPECIAL = re.compile(r"([,= ])")
_PROPERTIES = "/properties/"


class Place(Struct, frozen=True):
    """Where a property's samples are: measurement and field, the field's name without the suffix of its type."""

    measurement: str
    field: str


def place_of(path: str) -> Place:
    """The place of a property (JSON pointer text)."""
    feature, _, rest = path.removeprefix("/features/").partition(_PROPERTIES)
    return Place(_plain(feature), _plain("~time" if rest == "time" else rest))


def tag_of(thing: str) -> str:
    """The value of the tag `thing`: the id itself, but for characters that a tag cannot hold."""
    return _UNWRITABLE_IN_IDS.sub(_code, thing)


def fields_of(place: Place) -> tuple[str, str, str]:
    """The fields of its numbers, booleans and texts."""
    return place.field, f"{place.field}~bool", f"{place.field}~text"


class LineWriter:
    """Samples to lines; keeps the heads of lines and fields it has written before."""

    def __init__(self, *, keep: int = 200_000) -> None:
        """`keep`: how many heads and fields are kept; when there are more it starts over."""
        self._keep = keep
        self._heads: dict[tuple[str, str], str] = {}
        self._places: dict[str, tuple[str, str]] = {}

    def write(self, samples: Samples) -> list[str]:
        """One line per thing, feature and time; of two samples of one property and time the later counts."""
        points: dict[tuple[str, str, int], dict[str, str]] = {}
        places = self._places
        values = samples.values()
        for thing, time, learned, pointers in samples.runs():
            written: dict[str, str] = {}
            newest = ""
            for pointer in pointers:
                measurement, field = places.get(pointer) or self._remember(pointer)
                if measurement != newest:
                    newest = measurement
                    written = points.setdefault((thing, measurement, time), {})
                    written[LEARNED] = f"{learned}i"
                value = next(values)
                if type(value) is float:
                    written[field] = repr(value)
                elif type(value) is bool:
                    written[f"{field}~bool"] = "true" if value else "false"
                else:
                    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
                    written[f"{field}~text"] = f'"{text}"'
        lines = []
        for (thing, measurement, time), written in points.items():
            head = self._heads.get((thing, measurement)) or self._head(thing, measurement)
            lines.append(f"{head} {','.join([f'{name}={value}' for name, value in written.items()])} {time}")
        return lines

    def _remember(self, path: str) -> tuple[str, str]:
        if len(self._places) >= self._keep:
            self._places.clear()
        place = place_of(path)
        written = _SPECIAL_IN_MEASUREMENT.sub(r"\\\1", place.measurement), _SPECIAL.sub(r"\\\1", place.field)
        self._places[path] = written
        return written

    def _head(self, thing: str, measurement: str) -> str:
        if len(self._heads) >= self._keep:
            self._heads.clear()
        tag = tag_of(thing)
        namespace = tag.partition(":")[0]
        head = f"{measurement},{f'namespace={_SPECIAL.sub(_ESCAPED, namespace)},' if namespace else ''}thing={_SPECIAL.sub(_ESCAPED, tag)}"
        self._heads[thing, measurement] = head
        return head


_ESCAPED = r"\\\1"


def _plain(name: str) -> str:
    """The name without characters that line protocol has no way to write, nor a leading underscore (kept for Influx)."""
    name = _UNWRITABLE.sub(_code, name)
    return f"~{name}" if name.startswith(("_", "#")) else name


def _code(found: re.Match[str]) -> str:
    return f"~x{ord(found[0]):02x}"
