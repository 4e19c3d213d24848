"""Events into samples: which leaves of a change are values of a series, and at which time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from skerry_adapters.series.ports import Sample

if TYPE_CHECKING:
    from skerry.signals import Event, Json, Micros, Path

LONGEST_TEXT = 4096
"""A longer text is a document rather than a sample, and makes none."""

_LARGEST = 1.7976931348623157e308
_FARTHEST: Micros = 9_000_000_000_000_000  # about the years 1685 to 2255, which is what a store of nanoseconds can hold


def samples_of(event: Event) -> list[Sample]:
    """Every number, boolean and text below `properties` of a feature that the event sets, late values included.

    Nulls and deletions make no sample, nor do arrays (policies and pointers name no array element), NaN, infinities,
    integers beyond a double's range, times centuries away and texts longer than LONGEST_TEXT. Attributes and desired properties are no series.
    """
    found: list[Sample] = []
    if event.kind == "thing" and event.action != "deleted":
        time = event.timestamp if event.observed is None else event.observed
        if not -_FARTHEST < time < _FARTHEST:
            return found
        if event.value is not UNSET:
            _of_thing(found, event.id, event.path, event.value, time, event.timestamp)
        if event.late is not UNSET:
            _of_thing(found, event.id, event.path, event.late, time, event.timestamp)
    return found


def _of_thing(found: list[Sample], thing: str, path: Path, value: Json, time: Micros, learned: Micros) -> None:  # noqa: PLR0917 - the hot path
    depth = len(path)
    if depth == 0:
        value = value.get("features") if isinstance(value, dict) else None
    elif path[0] != "features":
        return
    if depth > 3:
        if path[2] == "properties":
            prefix = "/features/" + "/".join((_escape(path[1]), *map(_escape, path[2:-1])))
            _leaves(found, thing, prefix + "/", {path[-1]: value}, time, learned)
        return
    if not isinstance(value, dict):
        return
    if depth == 3:
        if path[2] == "properties":
            _leaves(found, thing, f"/features/{_escape(path[1])}/properties/", value, time, learned)
        return
    features = {path[1]: value} if depth == 2 else value
    for name, feature in features.items():
        properties = feature.get("properties") if isinstance(feature, dict) else None
        if isinstance(properties, dict):
            _leaves(found, thing, f"/features/{_escape(name)}/properties/", properties, time, learned)


def _leaves(  # noqa: PLR0917 - the hot path
    found: list[Sample], thing: str, prefix: str, values: dict[str, Any], time: Micros, learned: Micros
) -> None:
    for key, value in values.items():
        kind = type(value)
        if kind is float or kind is int:
            if -_LARGEST <= value <= _LARGEST:
                found.append(Sample(thing, prefix + _escape(key), time, learned, value))
        elif kind is dict:
            _leaves(found, thing, f"{prefix}{_escape(key)}/", value, time, learned)
        elif kind is bool or (kind is str and len(value) <= LONGEST_TEXT):
            found.append(Sample(thing, prefix + _escape(key), time, learned, value))


def _escape(segment: str) -> str:
    if "~" in segment or "/" in segment:
        return segment.replace("~", "~0").replace("/", "~1")
    return segment
