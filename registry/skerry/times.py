"""Instants as text: RFC 3339 in UTC on the outside, microseconds since 1970 inside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from skerry.signals import Micros

DAY: Micros = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)


def write(time: Micros) -> str:
    """The text of an instant: 2026-11-21T14:43:14.123456Z."""
    moment = _EPOCH + time * _MICRO
    return moment.isoformat(timespec="microseconds" if time % 1_000_000 else "seconds").removesuffix("+00:00") + "Z"


def parse(text: str) -> Micros:
    """The instant in an RFC 3339 text, UTC where it names no zone. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICRO
