"""Events into samples: which leaves of a change are values of a series, and at which time."""

from __future__ import annotations

from array import array
from itertools import chain
from math import isfinite
from sys import getsizeof
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from skerry_adapters.series.ports import Samples

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from skerry.signals import Event, Json, Micros, Path
    from skerry_adapters.series.ports import Value

LONGEST_TEXT = 4096
"""A longer text is a document rather than a sample, and makes none."""
KEPT = 16_000_000
"""Bytes that the sets of properties take whose pointers are remembered: devices choose how many names there are in one."""

_LARGEST = 1.7976931348623157e308
_FARTHEST: Micros = 9_000_000_000_000_000  # about the years 1685 to 2255, which is what a store of nanoseconds can hold
_NUMBERS = frozenset({float, int})


class Sampling:
    """Makes samples of events, and remembers the pointers of properties that were set together before."""

    def __init__(self) -> None:
        self._pointers: dict[tuple[Path | str, ...], tuple[str, ...]] = {}
        self._size = 0

    def add(self, events: Iterable[Event], samples: Samples) -> None:
        """Add every number, boolean and text below `properties` of a feature that the events set, late values included.

        Nulls and deletions make no sample, nor do arrays (policies and pointers name no array element), NaN, infinities,
        integers beyond a double's range, times centuries away and texts longer than LONGEST_TEXT. Attributes and desired properties are no series.
        """
        found = Samples()
        values: list[Json] = []
        known = self._pointers
        for event in events:
            learned = event.timestamp
            time = learned if event.observed is None else event.observed
            if event.kind != "thing" or not -_FARTHEST < time < _FARTHEST:
                continue
            for place, properties in _set_by(event):
                pointers = known.get((place, *properties)) or self._remember(place, properties)
                found.things.append(event.id)
                found.times.append(time)
                found.learned.append(learned)
                found.pointers.append(pointers)
                values += properties.values()
        numbers = _as_numbers(values)
        if numbers is None:
            found = _leaves(found, values)
        else:
            found.numbers = numbers
        samples.extend(found)

    def _remember(self, place: Path, names: Collection[str]) -> tuple[str, ...]:
        """The pointers of properties of a feature at `place`, or of members of a property there."""
        way = "/".join(map(_escape, place if len(place) > 2 else (*place, "properties")))
        pointers = tuple([f"/{way}/{_escape(name)}" for name in names])
        key: tuple[Path | str, ...] = (place, *names)
        size = 2 * sum(map(getsizeof, (key, pointers, *key, *pointers)))
        self._size += size
        if self._size > KEPT:
            self._pointers.clear()
            self._size = size
        self._pointers[key] = pointers
        return pointers


def _set_by(event: Event) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The properties that an event sets, with the place of their feature, or members of one of them, with their own."""
    return chain(_below(event.path, event.value), _below(event.path, event.late))


def _below(path: Path, value: Json) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The same of one value at a path."""
    depth = len(path)
    if depth == 0:
        value = value.get("features") if isinstance(value, dict) else None
    elif path[0] != "features" or value is UNSET:
        return
    if depth > 3:
        if path[2] == "properties":
            yield path[:-1] if depth > 4 else path[:2], {path[-1]: value}
        return
    if not isinstance(value, dict):
        return
    if depth == 3:
        if path[2] == "properties" and value:
            yield path[:2], value
        return
    features = {path[1]: value} if depth == 2 else value
    for name, feature in features.items():
        properties = feature.get("properties") if isinstance(feature, dict) else None
        if properties and isinstance(properties, dict):
            yield ("features", name), properties


def _as_numbers(values: list[Json]) -> array[float] | None:
    """The values as floats; None unless all are numbers that a series can hold."""
    if not _NUMBERS.issuperset(map(type, values)):
        return None
    try:
        numbers = array("d", values)
    except OverflowError:
        return None
    return numbers if isfinite(sum(numbers)) else None


def _leaves(found: Samples, values: list[Json]) -> Samples:
    """Samples of the same, without what is no value of a series, and with members in the place of objects."""
    leaves = Samples()
    end = 0
    for thing, time, learned, pointers in found.runs():
        start, end = end, end + len(pointers)
        kept: list[tuple[str, Value]] = []
        for pointer, value in zip(pointers, values[start:end], strict=True):
            _add_leaves(kept, pointer, value)
        if kept:
            leaves.add(thing, time, learned, tuple([pointer for pointer, _ in kept]), [value for _, value in kept])
    return leaves


def _add_leaves(kept: list[tuple[str, Value]], pointer: str, value: Json) -> None:
    kind = type(value)
    if kind is float or kind is int:
        if -_LARGEST <= value <= _LARGEST:
            kept.append((pointer, value))
    elif kind is dict:
        for name, member in value.items():
            _add_leaves(kept, f"{pointer}/{_escape(name)}", member)
    elif kind is bool or (kind is str and len(value) <= LONGEST_TEXT):
        kept.append((pointer, value))


def _escape(segment: str) -> str:
    if "~" in segment or "/" in segment:
        return segment.replace("~", "~0").replace("/", "~1")
    return segment
