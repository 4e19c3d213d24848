# ruff: noqa: N818 - errors are rows of a table
"""The subjects of an entry: their ids, when they expire and what is announced of that (ditto.md 3.3)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from skerry import times
from skerry.errors import SkerryError
from skerry.values import JsonFieldMissing, JsonInvalid

if TYPE_CHECKING:
    from skerry.signals import Json, Micros

SECOND: Final = 1_000_000


class SubjectIdInvalid(SkerryError):
    """A subject without an issuer."""

    code = "policies:subjectid.invalid"
    status = 400
    message = "'{subject}' is not a subject id."
    description = "A subject id reads <issuer>:<subject>, nginx:ditto for instance, without control characters."


class SubjectExpiryInvalid(SkerryError):
    """An expiry that is no instant, or past."""

    code = "policies:subjectexpiry.invalid"
    status = 400
    message = "The expiry '{expiry}' of a subject {problem}."
    description = "Send an instant in the future with its zone, 2030-01-31T12:00:00Z for instance."


class SubjectAnnouncementInvalid(SkerryError):
    """An announcement with a duration that is none."""

    code = "policies:subjectannouncement.invalid"
    status = 400
    message = "'{text}' is not a duration for {at} of an announcement."
    description = "Durations are whole numbers with a unit, ms, s, m or h: 90s for instance; beforeExpiry takes no ms."


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\xff]")
_INSTANT = re.compile(r"[+-]?\d{4,}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{0,9})?)?(Z|[+-]\d\d:?\d\d)", re.IGNORECASE)
_DURATION = re.compile(r"[+]?(\d{1,9})(ms|s|m|h|)")
_MILLIS = {"ms": 1, "s": 1_000, "": 1_000, "m": 60_000, "h": 3_600_000}


def check_id(subject: str) -> None:
    """Raise SubjectIdInvalid unless the text is an issuer and a subject, or holds a placeholder."""
    if "{{" in subject or "${" in subject:
        return
    _, colon, name = subject.partition(":")
    if not (colon and name) or _CONTROL.search(subject):
        raise SubjectIdInvalid(subject=subject)


def check(at: str, value: Json, *, now: Micros, granularity: float, announced: float) -> dict[str, Any]:
    """All subjects of an entry in full form; `granularity` of expiries and `announced` of announcements in seconds."""
    if not isinstance(value, dict):
        raise JsonInvalid(at=at, problem="the subjects are not an object")
    found: dict[str, Any] = {}
    for subject, facts in value.items():
        check_id(subject)
        found[subject] = check_one(f"{at}/{subject}", facts, now=now, granularity=granularity, announced=announced)
    return found


def check_one(at: str, facts: Json, *, now: Micros, granularity: float, announced: float) -> dict[str, Any]:
    """What is said of one subject in full form, its expiry rounded up. Raises the rows above, JsonInvalid, JsonFieldMissing."""
    if not isinstance(facts, dict):
        raise JsonInvalid(at=at, problem="the subject is not an object")
    kind = facts.get("type")
    if kind is None:
        raise JsonFieldMissing(name="type", at=at)
    if not isinstance(kind, str):
        raise JsonInvalid(at=f"{at}/type", problem="it is not a text")
    found: dict[str, Any] = {"type": kind}
    expiry = facts.get("expiry")
    if expiry is not None:
        found["expiry"] = _check_expiry(f"{at}/expiry", expiry, now, granularity)
    announcement = facts.get("announcement")
    if announcement is not None:
        found["announcement"] = _check_announcement(f"{at}/announcement", announcement, announced)
    return found


def _check_expiry(at: str, value: Json, now: Micros, granularity: float) -> str:
    """The instant's text, rounded up."""
    if not isinstance(value, str):
        raise JsonInvalid(at=at, problem="it is not a text")
    if not _INSTANT.fullmatch(value):
        raise SubjectExpiryInvalid(expiry=value, problem="is not an instant")
    try:
        ends = round_up(times.parse(value), granularity)
        text = instant(ends)
    except (ValueError, OverflowError) as error:
        raise SubjectExpiryInvalid(expiry=value, problem="is not an instant") from error
    if ends < now:
        raise SubjectExpiryInvalid(expiry=value, problem="is in the past")
    return text


def instant(time: Micros) -> str:
    """The text of an instant with no, three or six digits of a second, as Ditto writes it."""
    text = times.write(time)
    return f"{text[:-4]}Z" if time % SECOND and not time % 1_000 else text


_UNITS = ((86_400, None), (3_600, 86_400), (60, 3_600), (1, 60))
"""Days (counted within the month), hours, minutes and seconds, each with the unit within which it is counted."""


def round_up(time: Micros, granularity: float) -> Micros:
    """The next instant that is a multiple of the granularity (seconds), counted from the start of the next larger unit."""
    for unit, parent in _UNITS:
        amount = int(granularity // unit)
        if amount:
            step = amount * unit * SECOND
            start = _month(time) if parent is None else time - time % (parent * SECOND)
            return start + -((start - time) // step) * step
    step = int(granularity * SECOND)
    return time if step <= 0 else time + -time % step


def _month(time: Micros) -> Micros:
    """The start of the month."""
    moment = times.moment(time)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return times.micros(midnight - timedelta(days=moment.day - 1))


def millis(text: str) -> int | None:
    """The milliseconds of a duration's text; None when it is none."""
    found = _DURATION.fullmatch(text)
    return None if found is None else int(found[1]) * _MILLIS[found[2]]


def _check_duration(at: str, value: Json) -> str:
    """A duration's text."""
    if not isinstance(value, str):
        raise JsonInvalid(at=at, problem="it is not a text")
    if millis(value) is None:
        raise SubjectAnnouncementInvalid(text=value, at=at.rpartition("/")[2])
    return value


def _check_announcement(at: str, value: Json, granularity: float) -> dict[str, Any]:
    """What is announced, in full form; the time before the expiry is rounded up."""
    if not isinstance(value, dict):
        raise JsonInvalid(at=at, problem="it is not an object")
    found: dict[str, Any] = {}
    before = value.get("beforeExpiry")
    if before is not None:
        found["beforeExpiry"] = _round_before(f"{at}/beforeExpiry", before, granularity)
    when = value.get("whenDeleted")
    if when is not None and not isinstance(when, bool):
        raise JsonInvalid(at=f"{at}/whenDeleted", problem="it is neither true nor false")
    found["whenDeleted"] = bool(when)
    acks = value.get("requestedAcks")
    if acks is not None:
        found.update(_check_acks(f"{at}/requestedAcks", acks))
    interval = value.get("randomizationInterval")
    if interval is not None:
        found["randomizationInterval"] = _check_duration(f"{at}/randomizationInterval", interval)
    return found


def _round_before(at: str, value: Json, granularity: float) -> str:
    """The time before the expiry, a multiple of the granularity, in its own unit."""
    text = _check_duration(at, value)
    unit = text.lstrip("+0123456789")
    length = millis(text)
    if unit == "ms" or length is None:
        raise SubjectAnnouncementInvalid(text=text, at="beforeExpiry")
    step = max(1, int(granularity * 1_000))
    rounded = -(-max(step, length) // step) * step
    return f"{-(-rounded // _MILLIS[unit])}{unit}"


def _check_acks(at: str, value: Json) -> dict[str, Any]:
    """The acknowledgements that an announcement asks for."""
    if not isinstance(value, dict):
        raise JsonInvalid(at=at, problem="it is not an object")
    found: dict[str, Any] = {}
    labels = value.get("labels")
    if labels is not None:
        if not isinstance(labels, list):
            raise JsonInvalid(at=f"{at}/labels", problem="it is not an array")
        if texts := [label for label in labels if isinstance(label, str)]:
            found["labels"] = texts
    timeout = value.get("timeout")
    if timeout is not None:
        found["timeout"] = _check_duration(f"{at}/timeout", timeout)
    return {"requestedAcks": found} if found else {}
