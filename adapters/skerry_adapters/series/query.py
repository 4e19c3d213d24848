"""The parameters of a time series query, from text to Query, and the cursor of the next page."""

from __future__ import annotations

import binascii
import difflib
import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Struct

from skerry import times
from skerry.errors import SkerryError
from skerry.signals import Micros
from skerry_adapters.series.ports import Aggregate, Fill, Query

PARAMETERS = ("from", "to", "step", "agg", "percentile", "fill", "tz", "limit", "cursor", "order", "timeFormat")
ROWS_MAX = 1_000
STEPS_MAX = 50_000
HOUR: Micros = 3_600_000_000
UNITS: Mapping[str, Micros] = {
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": HOUR,
    "d": 24 * HOUR,
    "w": 7 * 24 * HOUR,
}
_DURATION = re.compile(r"(?:\d{1,12}(?:ms|[smhdw]))+")
_PART = re.compile(r"(\d+)(ms|[smhdw])")
_PERCENT = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,9})?")
_RELATIVE = re.compile(r"now(?:([+-])(.+))?")
_SPACED_OFFSET = re.compile(r" (\d\d:?\d\d)$")
_SINCE_1970 = re.compile(r"-?[0-9]{8,15}")


class QueryInvalid(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """A parameter that cannot be answered."""

    code = "timeseries:query.invalid"
    status = 400
    message = "The parameter '{name}' cannot be answered: {reason}."


def unsuited(agg: str, kind: str = "text") -> QueryInvalid:
    """The refusal of an aggregate that needs numbers, for a property that has none throughout the range."""
    reason = f"{agg} needs numbers and the property is {kind} here; ask for count, first or last"
    return QueryInvalid(name="agg", reason=reason)


def too_large(agg: str) -> QueryInvalid:
    """The refusal of an aggregate whose value is beyond what a double holds."""
    return QueryInvalid(name="agg", reason=f"the numbers are too large for {agg}; ask for min or max")


class Asked(Struct, frozen=True, kw_only=True):
    """What the parameters ask of any property: the range and how its rows are to be made and written.

    `whole`: `agg` without `step`, one row for the range. `cursor`: the position in it, None on the first page.
    """

    start: Micros
    end: Micros
    step: Micros | None
    step_text: str | None
    whole: bool
    agg: Aggregate
    percentile: float | None
    fill: Fill | None
    tz: str
    limit: int
    order: Literal["asc", "desc"]
    milliseconds: bool
    cursor: _Cursor | None
    digest: str


class _Cursor(Struct, frozen=True, array_like=True):
    """Where a page ended; the range is in it so that `now` means the same on every page."""

    digest: str
    start: Micros
    end: Micros
    after: str


def read(params: Mapping[str, str], now: Micros) -> Asked:
    """The parameters of a request. Raises QueryInvalid, which names the parameter and what would be right."""
    for name in params:
        if name not in PARAMETERS:
            near = difflib.get_close_matches(name, PARAMETERS, 1)
            hint = f"did you mean '{near[0]}'" if near else f"known are {', '.join(PARAMETERS)}"
            raise QueryInvalid(name=name, reason=f"it is not known here; {hint}")
    tz = _zone(params.get("tz", "UTC"))
    end = _time("to", params.get("to", "now"), now, tz)
    start = _time("from", params["from"], now, tz) if "from" in params else end - HOUR
    cursor = _cursor(params["cursor"]) if "cursor" in params else None
    if cursor is not None:
        start, end = cursor.start, cursor.end
    if start >= end:
        raise QueryInvalid(name="from", reason=f"{iso(start)} is not before 'to' ({iso(end)})")
    agg = _choice(params, "agg", Aggregate, None)
    fill = _choice(params, "fill", Fill, None)
    step, whole = None, False
    if "step" in params:
        step = duration("step", params["step"])
        if -((start - end) // step) > STEPS_MAX:
            raise QueryInvalid(
                name="step",
                reason=f"the range has {-((start - end) // step)} of them, at most {STEPS_MAX} are answered; "
                "take a longer step or a shorter range",
            )
    elif agg is not None:
        step, whole = end - start, True
    if fill is not None and "step" not in params:
        raise QueryInvalid(
            name="fill", reason="it fills empty steps, and there is no 'step'; add one, such as step=10m"
        )
    same = [params.get(name) for name in ("from", "to", "step", "agg", "percentile", "fill", "tz", "order")]
    return Asked(
        start=start,
        end=end,
        step=step,
        step_text=params.get("step"),
        whole=whole,
        agg=agg or "avg",
        percentile=_percentile(params.get("percentile"), agg),
        fill=fill,
        tz=tz,
        limit=_limit(params.get("limit")),
        order=_choice(params, "order", Literal["asc", "desc"], "asc"),
        milliseconds=_choice(params, "timeFormat", Literal["iso", "ms"], "iso") == "ms",
        cursor=cursor,
        digest="\x1f".join(str(text) for text in same),
    )


def query_of(asked: Asked, thing: str, path: str, learned: Micros | None = None) -> Query:
    """The query for one property, of what was learned since then. Raises QueryInvalid for the cursor of another query."""
    if asked.cursor is not None and asked.cursor.digest != _digest(asked, thing, path):
        raise QueryInvalid(
            name="cursor",
            reason="it belongs to another query; send the same thing, property and parameters as for the page it came with",
        )
    return Query(
        thing=thing,
        path=path,
        start=asked.start,
        end=asked.end,
        learned=learned,
        step=asked.step,
        agg=asked.agg,
        percentile=asked.percentile,
        fill=asked.fill,
        limit=asked.limit,
        after=asked.cursor.after if asked.cursor is not None else None,
        order=asked.order,
        tz="UTC" if asked.whole else asked.tz,
    )


def cursor_of(asked: Asked, thing: str, path: str, after: str) -> str:
    """The text that asks for the page behind `after`."""
    cursor = _Cursor(_digest(asked, thing, path), asked.start, asked.end, after)
    return urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()


def shown(asked: Asked) -> dict[str, Any]:
    """The query as it was understood, for the answer."""
    facts: dict[str, Any] = {"from": iso(asked.start), "to": iso(asked.end)}
    if asked.step is not None:
        if asked.step_text is not None:
            facts["step"] = asked.step_text
        facts["agg"] = asked.agg
    if asked.percentile is not None:
        facts["percentile"] = asked.percentile
    if asked.fill is not None:
        facts["fill"] = asked.fill
    return {**facts, "tz": asked.tz, "limit": asked.limit, "order": asked.order}


def iso(time: Micros) -> str:
    """The time as ISO 8601 in UTC, with no more digits than it has."""
    try:
        text = times.write(time)
    except OverflowError:
        return f"{time} µs"
    return f"{text[:-4]}Z" if text.endswith("000Z") and "." in text else text


def duration(name: str, text: str) -> Micros:
    """A length of time such as 10m or 1h30m. Raises QueryInvalid."""
    if not _DURATION.fullmatch(text):
        raise QueryInvalid(name=name, reason=f"'{text}' is no duration; write 10s, 5m, 1h, 1d, 1w or 1h30m")
    length = sum(int(number) * UNITS[unit] for number, unit in _PART.findall(text))
    if length == 0:
        raise QueryInvalid(name=name, reason="a duration is longer than 0")
    return length


def _digest(asked: Asked, thing: str, path: str) -> str:
    return hashlib.blake2b(f"{thing}\x1f{path}\x1f{asked.digest}".encode(), digest_size=6).hexdigest()


def _cursor(text: str) -> _Cursor:
    try:
        cursor = msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=_Cursor)
        if not all(_FIRST <= time <= _LAST for time in (cursor.start, cursor.end, int(cursor.after))):
            raise ValueError(text)  # noqa: TRY301 - told below
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise QueryInvalid(
            name="cursor", reason="it is not one of ours; send the nextCursor of the last page"
        ) from error
    return cursor


def _choice(params: Mapping[str, str], name: str, choices: Any, default: Any) -> Any:
    text = params.get(name)
    if text is None:
        return default
    known: Sequence[str] = get_args(choices)
    if text not in known:
        raise QueryInvalid(name=name, reason=f"'{text}' is none of {', '.join(known)}")
    return text


def _percentile(text: str | None, agg: Aggregate | None) -> float | None:
    if (text is not None) != (agg == "percentile"):
        reason = "agg=percentile needs it; add one from 0 to 100, such as percentile=95"
        if text is not None:
            reason = "it belongs to agg=percentile; ask for that or leave it out"
        raise QueryInvalid(name="percentile", reason=reason)
    if text is None:
        return None
    if not _PERCENT.fullmatch(text) or float(text) > 100:
        raise QueryInvalid(name="percentile", reason=f"'{text}' is no number from 0 to 100, such as 95 or 99.9")
    return float(text)


def _limit(text: str | None) -> int:
    if text is None:
        return ROWS_MAX
    if not text.isascii() or not text.isdecimal() or len(text) > 6 or not 1 <= int(text) <= ROWS_MAX:
        raise QueryInvalid(name="limit", reason=f"'{text}' is no number from 1 to {ROWS_MAX}; page on with 'cursor'")
    return int(text)


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise QueryInvalid(name="tz", reason=f"'{text}' is no time zone; write it as Europe/Berlin or UTC") from error
    return text


def instant(name: str, text: str, now: Micros) -> Micros:
    """A time of the parameter `name`, UTC where it names no zone. Raises QueryInvalid."""
    return _time(name, text, now, "UTC")


def _time(name: str, text: str, now: Micros, tz: str) -> Micros:
    """ISO 8601 (in `tz` where it has no offset), `now`, `now-1h`, or milliseconds since 1970."""
    relative = _RELATIVE.fullmatch(text)
    if relative:
        sign, length = relative.groups()
        away = duration(name, length) if length else 0
        return _within(name, text, now - away if sign == "-" else now + away)
    if _SINCE_1970.fullmatch(text):
        return _within(name, text, int(text) * 1_000)
    try:
        moment = datetime.fromisoformat(_SPACED_OFFSET.sub(r"+\1", text))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=ZoneInfo(tz))
        return _within(name, text, times.micros(moment))
    except (ValueError, OverflowError) as error:
        raise QueryInvalid(
            name=name, reason=f"'{text}' is no time; write 2026-01-31T12:00:00Z, now, now-1h or milliseconds since 1970"
        ) from error


def _within(name: str, text: str, time: Micros) -> Micros:
    if not _FIRST <= time <= _LAST:
        raise QueryInvalid(name=name, reason=f"'{text}' lies outside the years 1900 to 2099")
    return time


_FIRST: Micros = times.micros(datetime(1900, 1, 1, tzinfo=UTC))
_LAST: Micros = times.micros(datetime(2100, 1, 1, tzinfo=UTC))
