"""What a step comes to where the order and spacing of its numbers matter: the definitions, and the reckoning in Python.

DuckDB reckons the same in SQL; the contract suite and laws hold the two to each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from skerry_adapters.series.query import too_large
from skerry_adapters.series.steps import Step, whole

if TYPE_CHECKING:
    from skerry.signals import Micros
    from skerry_adapters.series.ports import Query

Numbers: TypeAlias = Sequence[tuple[int, float]]
"""Numbers by time, no time twice."""

WINDOWED = frozenset({"derivative", "rate", "integral", "percentile"})
REACH: Micros = 3_600_000_000
"""How far outside the query's range an integral looks for the samples on both sides of it."""
_SECOND = 1_000_000


def reckon(query: Query, steps: Sequence[Step], numbers: Numbers) -> dict[Micros, float | None]:
    """The values by start of step; None where a step has numbers, but too few; absent where it has none.

    `numbers`: in order of time, those of the steps; for an integral also the nearest before and behind them, if any.
    """
    if query.agg == "integral":
        return _integrals(steps, numbers)
    function = _percentile(query.percentile) if query.agg == "percentile" else _FUNCTIONS[query.agg]
    return {start: settled(query.agg, function(own)) for start, own in _split(steps, numbers)}


def settled(agg: str, value: float | None) -> float | None:
    """The value as it is answered. Raises QueryInvalid where the numbers were too large."""
    if value is None:
        return None
    if not math.isfinite(value):
        raise too_large(agg)
    return whole(float(value))


def derivative(numbers: Numbers) -> float | None:
    """Change per second between the first and the last number."""
    return _per_second(numbers, numbers[-1][1] - numbers[0][1])


def rate(numbers: Numbers) -> float | None:
    """Increase per second between the first and the last number of a counter; one that fell had begun again at zero."""
    return _per_second(
        numbers, sum(after - before if after >= before else after for (_, before), (_, after) in pairwise(numbers))
    )


def percentile(numbers: Numbers, percent: float) -> float:
    """The number that `percent` of the numbers do not exceed, on a straight line between two ranks."""
    values = sorted(value for _, value in numbers)
    rank = (len(values) - 1) * (percent / 100)
    below = math.floor(rank)
    share = rank - below
    return values[below] if share == 0 else values[below] + (values[below + 1] - values[below]) * share


def area(left: tuple[Micros, float], right: tuple[Micros, float], start: Micros, end: Micros) -> float:
    """The area in value times seconds between start and end, below the straight line through two samples."""
    (t0, v0), (t1, v1) = left, right
    middle = v0 + (v1 - v0) * (((start - t0) + (end - t0)) / 2 / (t1 - t0))
    return middle * ((end - start) / _SECOND)


_FUNCTIONS: dict[str, Callable[[Numbers], float | None]] = {"derivative": derivative, "rate": rate}


def _percentile(percent: float | None) -> Callable[[Numbers], float | None]:
    assert percent is not None
    return lambda numbers: percentile(numbers, percent)


def _per_second(numbers: Numbers, change: float) -> float | None:
    return None if len(numbers) < 2 else change / ((numbers[-1][0] - numbers[0][0]) / _SECOND)


def _split(steps: Sequence[Step], numbers: Numbers) -> Iterator[tuple[Micros, Numbers]]:
    """The numbers of each step that has any."""
    at, count = 0, len(numbers)
    for start, end in steps:
        while at < count and numbers[at][0] < start:
            at += 1
        first = at
        while at < count and numbers[at][0] < end:
            at += 1
        if at > first:
            yield start, numbers[first:at]


def _integrals(steps: Sequence[Step], numbers: Numbers) -> dict[Micros, float | None]:
    """The areas, a line that crosses the edge of a step being cut there."""
    areas: dict[Micros, float] = {}
    at = 0
    for left, right in pairwise(numbers):
        while at < len(steps) and steps[at][1] <= left[0]:
            at += 1
        for place in range(at, len(steps)):
            start, end = steps[place]
            if start >= right[0]:
                break
            piece = area(left, right, max(start, left[0]), min(end, right[0]))
            areas[start] = areas.get(start, 0.0) + piece
    found: dict[Micros, float | None] = {start: settled("integral", value) for start, value in areas.items()}
    for start, _ in _split(steps, numbers):
        found.setdefault(start, None)
    return found
