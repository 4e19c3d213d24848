"""The steps of a query: their bounds, calendar days included, what fills the empty ones, and the page they come to.

Both stores aggregate between these bounds and hand the values back, so that they answer alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, TypeAlias
from zoneinfo import ZoneInfo

from skerry import times
from skerry.times import DAY
from skerry_adapters.series.ports import Page, Query, Value

if TYPE_CHECKING:
    from skerry.signals import Micros

Step: TypeAlias = tuple[int, int]
"""Start (inclusive) and end (exclusive)."""


def all_steps(query: Query) -> list[Step]:
    """The steps from `query.start` on; the last is cut at `query.end`. Whole days are calendar days of `query.tz`."""
    step = query.step
    assert step is not None
    if step % DAY == 0 and query.tz != "UTC":
        starts = _calendar(query.start, query.end, step // DAY, ZoneInfo(query.tz))
    else:
        starts = list(range(query.start, query.end, step))
    return list(zip(starts, [*starts[1:], query.end], strict=True)) if starts else []


def _calendar(start: Micros, end: Micros, days: int, zone: ZoneInfo) -> list[Micros]:
    local = times.moment(start).astimezone(zone).replace(tzinfo=None)
    starts = [start]
    while True:
        local += timedelta(days=days)
        at = times.micros(local.replace(tzinfo=zone).astimezone(UTC))
        if at >= end:
            return starts
        starts.append(at)


def wanted(query: Query, steps: Sequence[Step]) -> Sequence[Step]:
    """The steps, in order of time, that the query's page needs; all of them where filling looks at neighbours."""
    if query.fill in {"previous", "linear"}:
        return steps
    if query.after is not None:
        at = int(query.after)
        steps = [step for step in steps if (step[0] > at if query.order == "asc" else step[0] < at)]
    if query.fill is None:
        return steps
    return steps[: query.limit + 1] if query.order == "asc" else steps[-query.limit - 1 :]


def runs(steps: Sequence[Step]) -> list[tuple[Micros, Micros, int]]:
    """Consecutive steps of one length as (start, length, count); a last step that was cut counts as whole."""
    found: list[tuple[Micros, Micros, int]] = []
    for place, (start, end) in enumerate(steps):
        if found:
            first, length, count = found[-1]
            if end - start == length or (place == len(steps) - 1 and end - start < length):
                found[-1] = (first, length, count + 1)
                continue
        found.append((start, end - start, 1))
    return found


def step_page(query: Query, steps: Sequence[Step], values: Mapping[Micros, Value | None]) -> Page:
    """The page of an aggregated query: `values` by start of step, absent where a step has no sample."""
    rows: list[tuple[Micros, Value | None]]
    if query.fill is None:
        rows = [(start, values[start]) for start, _ in steps if start in values]
    elif query.fill == "null":
        rows = [(start, values.get(start)) for start, _ in steps]
    elif query.fill == "zero":
        rows = [(start, values.get(start, 0)) for start, _ in steps]
    else:
        rows = _previous(steps, values) if query.fill == "previous" else _linear(steps, values)
    if query.order == "desc":
        rows.reverse()
    return page_of(query, rows)


def page_of(query: Query, rows: Sequence[tuple[Micros, Value | None]]) -> Page:
    """The first `limit` of the rows (in the query's order) behind `after`, and where the next page starts."""
    if query.after is not None:
        at = int(query.after)
        rows = [row for row in rows if (row[0] > at if query.order == "asc" else row[0] < at)]
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    return Page(rows=rows, next=str(rows[-1][0]) if more else None)


def _previous(steps: Sequence[Step], values: Mapping[Micros, Value | None]) -> list[tuple[Micros, Value | None]]:
    rows: list[tuple[Micros, Value | None]] = []
    last: Value | None = None
    for start, _ in steps:
        last = values.get(start, last)
        rows.append((start, last))
    return rows


def _linear(steps: Sequence[Step], values: Mapping[Micros, Value | None]) -> list[tuple[Micros, Value | None]]:
    """Between two numbers a straight line over the starts of the steps; null outside of them and between others."""
    rows: list[tuple[Micros, Value | None]] = []
    gap: list[Micros] = []
    left: tuple[Micros, float] | None = None
    for start, _ in steps:
        value = values.get(start)
        if value is None:
            gap.append(start)
            continue
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        for at in gap:
            if left is None or number is None:
                rows.append((at, None))
            else:
                share = (at - left[0]) / (start - left[0])
                rows.append((at, whole(left[1] + (number - left[1]) * share)))
        gap.clear()
        left = None if number is None else (start, number)
        rows.append((start, value))
    rows.extend((at, None) for at in gap)
    return rows


def whole(number: float) -> float | int:
    """The number as JSON writes it: without a fraction where it has none."""
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
