"""`time:now` and what can be said of it: `time:now-5m[h]`, `time:now_epoch_millis+1d` (ditto.md 4.4)."""

from __future__ import annotations

import re
from datetime import timedelta

from skerry.signals import Micros
from skerry.times import micros, moment

_FORM = re.compile(
    r"now(_epoch_millis)?(?:([+-])(\d{1,12})(ms|s|mo|m|h|d|w|y)?)?(?:\[(ms|s|mo|m|h|d|w|y)?\])?", re.ASCII
)
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_YEAR = 31_556_952 * _SECOND
_UNITS: dict[str | None, int] = {
    "ms": 1_000,
    "s": _SECOND,
    None: _SECOND,
    "m": 60 * _SECOND,
    "h": 3_600 * _SECOND,
    "d": _DAY,
    "w": 7 * _DAY,
    "mo": _YEAR // 12,
    "y": _YEAR,
}
"""Months and years are those of the mean Gregorian year, as Ditto counts them."""

FORM = "now or now_epoch_millis, then perhaps + or - and a number with ms, s, m, h, d, w, mo or y, then perhaps such a unit in brackets"


def resolve(name: str, now: Micros) -> str | int | None:
    """What `name` (without `time:`) stands for: ISO 8601 text, or milliseconds since 1970; None when it is no such name."""
    found = _FORM.fullmatch(name)
    if found is None:
        return None
    time = now
    if found[2] is not None:
        span = int(found[3]) * _UNITS[found[4]]
        time = time - span if found[2] == "-" else time + span
    try:
        if found[0].endswith("]"):
            time = _truncated(time, found[5] or "s")
        if found[1]:
            return time // 1_000
        return f"{moment(time).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    except OverflowError:
        return None


def _truncated(time: Micros, unit: str) -> Micros:
    """The beginning of the unit of UTC time that the instant lies in."""
    if unit not in {"w", "mo", "y"}:
        return time - time % _UNITS[unit]
    day = moment(time - time % _DAY)
    if unit == "w":
        return micros(day - timedelta(days=day.weekday()))
    return micros(day.replace(day=1) if unit == "mo" else day.replace(day=1, month=1))
