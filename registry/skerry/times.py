"""Instants as text: RFC 3339 in UTC on the outside, microseconds since 1970 inside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from skerry.signals import Micros

DAY: Micros = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)


def moment(time: Micros) -> datetime:
    """The instant as Python has it, in UTC. Raises OverflowError beyond the years 1 to 9999."""
    return _EPOCH + time * _MICRO


def micros(moment: datetime) -> Micros:
    """The instant as we have it; `moment` names its zone."""
    return (moment - _EPOCH) // _MICRO


def write(time: Micros) -> str:
    """The text of an instant: 2026-11-21T14:43:14.123456Z."""
    return (
        moment(time).isoformat(timespec="microseconds" if time % 1_000_000 else "seconds").removesuffix("+00:00") + "Z"
    )


def parse(text: str) -> Micros:
    """The instant in an RFC 3339 text, UTC where it names no zone. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return micros(found if found.tzinfo is not None else found.replace(tzinfo=UTC))
