"""Percentile, derivative, rate and integral: laws of the reckoning, and that DuckDB's SQL comes to the same."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry_adapters.series.duckdb import DuckSeries
from skerry_adapters.series.ports import Query, Sample, Samples
from skerry_adapters.series.steps import all_steps, step_page
from skerry_adapters.series.windows import REACH, area, derivative, percentile, rate, reckon

SECOND = 1_000_000
POWER = "/features/scada/properties/power"
AGGREGATES = ["percentile", "derivative", "rate", "integral"]
values = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
numbers = st.dictionaries(st.integers(0, 100 * SECOND), values, min_size=1, max_size=40).map(
    lambda d: sorted(d.items())
)


def asking(agg: Any, *, start: int = 0, end: int = 100 * SECOND + 1, step: int | None = None, **more: Any) -> Query:
    percent = 50.0 if agg == "percentile" else None
    return Query(
        **{"thing": "a:b", "path": POWER, "start": start, "end": end, "step": step or end - start, "agg": agg}
        | {"percentile": percent, **more}
    )


@given(numbers)
def test_the_ends_and_the_middle_of_percentiles_are_known(found: Any) -> None:
    own = [value for _, value in found]
    assert percentile(found, 0) == min(own)
    assert percentile(found, 100) == max(own)
    assert percentile(found, 50) == pytest.approx(statistics.median(own))


@given(numbers, st.floats(0, 100), st.floats(0, 100))
def test_a_higher_percentile_is_no_lower(found: Any, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert percentile(found, low) <= percentile(found, high) + 1e-9


@given(numbers, st.integers(1, 100))
def test_percentiles_lie_on_lines_between_ranks_as_in_a_textbook(found: Any, parts: int) -> None:
    own = [value for _, value in found]
    if len(own) < 2:
        return
    cuts = statistics.quantiles(own, n=100, method="inclusive")
    if parts < 100:
        assert percentile(found, parts) == pytest.approx(cuts[parts - 1])


@given(numbers)
def test_a_counter_that_never_falls_has_its_derivative_as_rate(found: Any) -> None:
    rising = list(zip([time for time, _ in found], sorted(value for _, value in found), strict=True))
    expected = derivative(rising)
    assert rate(rising) == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=30), st.data())
def test_a_counter_that_begins_again_loses_nothing_that_was_seen(increases: list[int], data: st.DataObject) -> None:
    resets = data.draw(st.sets(st.integers(1, len(increases) - 1)))
    shown, total, found = 0, 0, []
    for at, more in enumerate(increases):
        fell = at in resets and more < shown
        shown = more if fell else shown + more
        total += more if at else 0
        found.append((at * SECOND, float(shown)))
    assert rate(found) == pytest.approx(total / (len(increases) - 1))


@given(numbers, st.integers(SECOND // 2, 100 * SECOND), st.integers(0, 50 * SECOND))
def test_integrals_of_steps_add_up_to_the_integral_of_the_whole(found: Any, step: int, start: int) -> None:
    inside = asking("integral", start=start, step=step)
    before = [row for row in found if row[0] < start][-1:]
    own = [*before, *(row for row in found if row[0] >= start)]
    parts = reckon(inside, all_steps(inside), own)
    whole = reckon(asking("integral", start=start), [(start, inside.end)], own)
    total = sum(value or 0 for value in parts.values())
    assert total == pytest.approx(sum(value or 0 for value in whole.values()), rel=1e-6, abs=1e-3)
    lines = (area(left, right, max(start, left[0]), right[0]) for left, right in pairwise(own))
    assert total == pytest.approx(sum(lines), rel=1e-6, abs=1e-3)


def test_a_constant_comes_to_its_value_times_the_time() -> None:
    found = [(at * 10 * SECOND, 5.0) for at in range(-1, 12)]
    query = asking("integral", end=100 * SECOND, step=30 * SECOND)
    assert reckon(query, all_steps(query), found) == {
        0: 150,
        30 * SECOND: 150,
        60 * SECOND: 150,
        90 * SECOND: 50,
    }


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DuckSeries]:
    async with DuckSeries(tmp_path / "series.duckdb") as series:
        yield series


names = count()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    found=numbers,
    span=st.tuples(st.integers(0, 60 * SECOND), st.integers(1, 90 * SECOND)),
    step=st.integers(SECOND // 2, 40 * SECOND),
    agg=st.sampled_from(AGGREGATES),
    order=st.sampled_from(["asc", "desc"]),
    fill=st.sampled_from([None, "null", "previous"]),
)
async def test_duckdb_comes_to_the_same(
    store: DuckSeries, found: Any, span: tuple[int, int], step: int, agg: str, order: str, fill: str | None
) -> None:
    thing = f"law:{next(names)}"
    await store.write(Samples.of(Sample(thing, POWER, time, time, value) for time, value in found), 1)
    start, length = span
    query = asking(agg, start=start, end=start + length, step=step, order=order, fill=fill, thing=thing)
    reached = [row for row in found if start - REACH <= row[0] < query.end + REACH]
    before = [row for row in reached if row[0] < start][-1:]
    behind = [row for row in reached if row[0] >= query.end][:1]
    own = [*before, *(row for row in reached if start <= row[0] < query.end), *behind]
    steps = all_steps(query)
    expected = step_page(query, steps, reckon(query, steps, own))
    page = await store.query(query)
    assert [time for time, _ in page.rows] == [time for time, _ in expected.rows]
    assert [value for _, value in page.rows] == [
        None if value is None else pytest.approx(value, rel=1e-9, abs=1e-6) for _, value in expected.rows
    ]
