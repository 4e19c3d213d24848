"""What every series store does, whichever it is. Run on DuckDB and on a real InfluxDB 2.7."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from servers import Influx, influxd
from skerry_adapters.series.duckdb import DuckSeries
from skerry_adapters.series.influx import InfluxSeries
from skerry_adapters.series.ports import Page, Query, Sample, Samples, Series
from skerry_adapters.series.query import QueryInvalid
from skerry_adapters.series.steps import all_steps
from skerry_adapters.series.windows import reckon

T0 = 1_769_904_000_000_000  # 2026-02-01T00:00:00Z
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 3600 * SECOND
DAY = 24 * HOUR
POWER = "/features/scada/properties/power"
Open = Callable[[], Any]
WINDOWED = ("percentile", "derivative", "rate", "integral")


@pytest.fixture(scope="module", params=["duckdb", "influx"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx | None]:
    """The server of the store, for all tests; None for the embedded one."""
    if request.param == "duckdb":
        yield None
    else:
        with influxd(tmp_path_factory.mktemp("influx")) as server:
            yield server


@pytest.fixture
def opened(server: Influx | None, tmp_path: Path) -> Open:
    """Opens the store of this test, again and again; what was written before is still there."""
    if server is None:
        return lambda: DuckSeries(tmp_path / "series.duckdb")
    kept = {"cursor": 0}

    async def load() -> int:
        return kept["cursor"]

    async def save(number: int) -> None:
        kept["cursor"] = number

    return lambda: InfluxSeries(
        server.url, token=server.token, org=server.org, bucket=server.bucket, load_cursor=load, save_cursor=save
    )


@pytest.fixture
async def series(opened: Open) -> AsyncIterator[Series]:
    async with opened() as store:
        yield store


@pytest.fixture
def thing(request: pytest.FixtureRequest) -> str:
    """An id of the test's own: the stores are shared."""
    return f"test:{request.node.name}"


def samples(thing: str, values: dict[int, Any], path: str = POWER) -> Samples:
    return Samples.of(Sample(thing, path, T0 + at, T0 + at + 5, value) for at, value in values.items())


def asking(thing: str, **changes: Any) -> Query:
    return Query(**{"thing": thing, "path": POWER, "start": T0, "end": T0 + HOUR, **changes})


def rows(page: Page) -> list[tuple[int, Any]]:
    return [(time - T0, value) for time, value in page.rows]


async def test_samples_come_back_in_order_with_their_own_types(series: Series, thing: str) -> None:
    values = {30: 3, 10: 1.5, 20: True, 40: "idle", 50: 'a "b", \\ c\nd é', 60: -2e-9, 70: False, 80: ""}
    await series.write(samples(thing, values), 7)
    found = rows(await series.query(asking(thing)))
    assert found == sorted(values.items())
    assert [type(value) for _, value in found] == [float, bool, int, str, str, float, bool, str]


async def test_each_property_of_a_change_has_its_own_value(series: Series, thing: str) -> None:
    names = ("wind", "status", "on", "power")
    pointers = tuple(f"/features/scada/properties/{name}" for name in names)
    changes = {f"{thing}2": [1.0, "idle", True, 2.0], thing: [3.0, "fault", False, 4.0], f"{thing}1": [5, "", True, 6]}
    written = Samples()
    for at in (0, 10):
        for one, values in changes.items():
            written.add(one, T0 + at, T0, pointers, values)
    assert len(written) == 24
    await series.write(written, 1)
    for one, values in changes.items():
        for pointer, value in zip(pointers, values, strict=True):
            assert rows(await series.query(asking(one, path=pointer))) == [(0, value), (10, value)]


async def test_extreme_values_come_back(series: Series, thing: str) -> None:
    values = {
        0: "\x00nul",
        1: "😀\u2028",
        2: 10**30,
        3: -1.7976931348623157e308,
        4: 5e-324,
        5: 2**53 - 1,
        6: "${x}\t=,",
    }
    await series.write(samples(thing, values), 1)
    assert rows(await series.query(asking(thing))) == list((values | {2: 1e30}).items())


async def test_the_range_includes_its_start_and_excludes_its_end(series: Series, thing: str) -> None:
    await series.write(samples(thing, {0: 1, 10: 2, 20: 3}), 1)
    assert rows(await series.query(asking(thing, end=T0 + 20))) == [(0, 1), (10, 2)]


@pytest.mark.parametrize("agg", ["count", "first", "last", "avg", "min", "max", "sum"])
async def test_a_last_step_that_is_cut_excludes_the_end_of_the_range_too(series: Series, thing: str, agg: Any) -> None:
    await series.write(samples(thing, {0: 1, 10: 1, 20: 1, 25: 7}), 1)
    page = await series.query(asking(thing, end=T0 + 25, step=10, agg=agg))
    assert rows(page) == [(0, 1), (10, 1), (20, 1)]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("more", [{}, {"step": 10, "end": T0 + 20}, {"step": 10, "fill": "zero", "end": T0 + 20}])
async def test_a_last_page_that_is_just_full_has_no_next(
    series: Series, thing: str, more: dict[str, Any], order: Any
) -> None:
    await series.write(samples(thing, {0: 1, 10: 2}), 1)
    page = await series.query(asking(thing, limit=2, order=order, **more))
    assert sorted(rows(page)) == [(0, 1), (10, 2)]
    assert page.next is None


async def test_what_was_never_written_is_empty(series: Series, thing: str) -> None:
    assert await series.query(asking(thing)) == Page(rows=[])
    assert await series.query(asking(thing, step=HOUR)) == Page(rows=[])


async def test_the_cursor_and_the_samples_survive_closing(opened: Open, thing: str) -> None:
    async with opened() as store:
        assert await store.cursor() == 0
        await store.write(samples(thing, {0: 1}), 41)
        await store.write(Samples(), 42)
    async with opened() as store:
        assert await store.cursor() == 42
        assert rows(await store.query(asking(thing))) == [(0, 1)]
        await store.write(Samples.of([*samples(thing, {1: 2}), *samples(thing + "2", {1: 2})]), 43)
        assert rows(await store.query(asking(thing))) == [(0, 1), (1, 2)]


async def test_only_what_was_learned_since_is_looked_at_where_that_is_asked(series: Series, thing: str) -> None:
    """The id had another thing before; `learned` is when the present one was made."""
    made = T0 + HOUR
    before = {0: 1, 11: True, 20: "old", 30: 4, 2 * HOUR: 5}
    await series.write(Samples.of([Sample(thing, POWER, T0 + at, made - 1, value) for at, value in before.items()]), 1)
    assert await series.query(asking(thing, learned=made)) == Page(rows=[])
    for agg in ("count", "first", "last", "avg", *WINDOWED):
        percentile = 50 if agg == "percentile" else None
        page = await series.query(asking(thing, step=HOUR, agg=agg, learned=made, percentile=percentile))
        assert rows(page) == [], agg
    since = {5: 10, 10: 20, 15: False, 25: "new", 35: 30}
    await series.write(Samples.of([Sample(thing, POWER, T0 + at, made, value) for at, value in since.items()]), 2)
    assert rows(await series.query(asking(thing, learned=made))) == list(since.items())
    latest = await series.query(asking(thing, learned=made, order="desc", limit=2))
    assert rows(latest) == [(35, 30), (25, "new")]
    further = await series.query(asking(thing, learned=made, order="desc", limit=2, after=latest.next))
    assert rows(further) == [(15, False), (10, 20)]
    wanted = {"count": 5, "first": 10, "last": 30, "max": 30, "sum": 60, "percentile": 20, "derivative": 20 / 30e-6}
    for agg, value in wanted.items():
        percentile = 50 if agg == "percentile" else None
        page = await series.query(asking(thing, step=HOUR, agg=agg, learned=made, percentile=percentile))
        assert rows(page) == [(0, pytest.approx(value))], agg
    counts = await series.query(asking(thing, end=T0 + 40, step=20, agg="count", learned=made))
    assert rows(counts) == [(0, 3), (20, 2)]
    assert len(rows(await series.query(asking(thing)))) == len({**before, **since}) - 1


async def test_a_sample_written_again_counts_once_and_the_later_value_wins(series: Series, thing: str) -> None:
    await series.write(samples(thing, {0: 1, 10: 2}), 1)
    await series.write(samples(thing, {0: 1, 10: 5}), 2)
    await series.write(Samples.of([*samples(thing, {20: 1}), *samples(thing, {20: 9})]), 3)
    assert rows(await series.query(asking(thing))) == [(0, 1), (10, 5), (20, 9)]
    assert rows(await series.query(asking(thing, step=HOUR, agg="count"))) == [(0, 3)]
    assert rows(await series.query(asking(thing, step=HOUR, agg="sum"))) == [(0, 15)]


async def test_late_samples_stand_at_their_own_time(series: Series, thing: str) -> None:
    await series.write(samples(thing, {100: 1}), 1)
    await series.write(samples(thing, {50: 2}), 2)
    assert rows(await series.query(asking(thing))) == [(50, 2), (100, 1)]


async def test_things_and_properties_are_kept_apart(series: Series, thing: str) -> None:
    other = "/features/scada/properties/nacelle/yaw"
    strange = "/features/a b,=c/properties/~0~1 x=y,z"
    await series.write(
        Samples.of(
            [
                *samples(thing, {0: 1}),
                *samples(thing + "x", {0: 2}),
                *samples(thing, {0: 3}, other),
                *samples(thing, {0: 4}, strange),
                *samples(thing, {0: 5}, "/features/_x/properties/time"),
                *samples(thing, {0: "six"}, "/features/_x/properties/${a}\\"),
            ]
        ),
        1,
    )
    for path, value in (
        (POWER, 1),
        (other, 3),
        (strange, 4),
        ("/features/_x/properties/time", 5),
        ("/features/_x/properties/${a}\\", "six"),
    ):
        assert rows(await series.query(asking(thing, path=path))) == [(0, value)], path
    assert rows(await series.query(asking(thing + "x"))) == [(0, 2)]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_of_samples_join_without_gap_or_overlap(series: Series, thing: str, order: Any) -> None:
    await series.write(samples(thing, {at: at / 2 for at in range(25)}), 1)
    found: list[tuple[int, Any]] = []
    after: str | None = None
    for size in (10, 10, 5):
        page = await series.query(asking(thing, limit=10, after=after, order=order))
        assert len(page.rows) == size
        found += rows(page)
        after = page.next
    assert after is None
    assert found == sorted(((at, at / 2) for at in range(25)), reverse=order == "desc")


@pytest.mark.parametrize(
    ("agg", "expected"),
    [
        ("avg", [(1, 2), (11, 7)]),
        ("min", [(1, 1), (11, 7)]),
        ("max", [(1, 3), (11, 7)]),
        ("sum", [(1, 6), (11, 7)]),
        ("count", [(1, 3), (11, 1)]),
        ("first", [(1, 2), (11, 7)]),
        ("last", [(1, 3), (11, 7)]),
        ("stddev", [(1, 1), (11, None)]),
    ],
)
async def test_steps_are_aligned_to_the_start_and_labelled_by_it(
    series: Series, thing: str, agg: Any, expected: list[tuple[int, float]]
) -> None:
    await series.write(samples(thing, {0: 50, 1: 2, 5: 1, 10: 3, 11: 7, 31: 9}), 1)
    page = await series.query(asking(thing, start=T0 + 1, end=T0 + 31, step=10, agg=agg))
    assert rows(page) == expected


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        (None, [(10, 1), (40, 4), (50, 7)]),
        ("null", [(0, None), (10, 1), (20, None), (30, None), (40, 4), (50, 7), (60, None)]),
        ("zero", [(0, 0), (10, 1), (20, 0), (30, 0), (40, 4), (50, 7), (60, 0)]),
        ("previous", [(0, None), (10, 1), (20, 1), (30, 1), (40, 4), (50, 7), (60, 7)]),
        ("linear", [(0, None), (10, 1), (20, 2), (30, 3), (40, 4), (50, 7), (60, None)]),
    ],
)
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1000, 2])
async def test_empty_steps_are_filled_as_asked_on_every_page(
    series: Series, thing: str, fill: Any, expected: list[tuple[int, float]], order: Any, limit: int
) -> None:
    await series.write(samples(thing, {15: 1, 45: 4, 55: 7}), 1)
    found: list[tuple[int, Any]] = []
    after: str | None = None
    while True:
        query = asking(thing, end=T0 + 65, step=10, fill=fill, order=order, limit=limit, after=after)
        page = await series.query(query)
        found += rows(page)
        after = page.next
        if after is None:
            break
        assert len(page.rows) == limit
    assert found == (expected if order == "asc" else expected[::-1])


async def test_percentiles_lie_on_a_line_between_ranks(series: Series, thing: str) -> None:
    own = [7, 1, 4, 10]
    await series.write(samples(thing, {at * SECOND: value for at, value in enumerate(own)} | {MINUTE: 3}), 1)
    for percentile, expected in ((0, 1), (25, 3.25), (50, 5.5), (90, 9.1), (100, 10)):
        query = asking(thing, step=MINUTE, agg="percentile", percentile=percentile)
        assert rows(await series.query(query)) == [(0, pytest.approx(expected)), (MINUTE, 3)]


async def test_a_derivative_is_the_change_from_first_to_last_of_a_step_per_second(series: Series, thing: str) -> None:
    values = {0: 100, 20 * SECOND: 500, 50 * SECOND: 90, 60 * SECOND: 7, 130 * SECOND: 1, 140 * SECOND: 2.5}
    await series.write(samples(thing, values), 1)
    page = await series.query(asking(thing, step=MINUTE, agg="derivative"))
    assert rows(page) == [(0, pytest.approx(-0.2)), (MINUTE, None), (2 * MINUTE, pytest.approx(0.15))]


async def test_a_rate_takes_a_counter_that_fell_to_have_begun_again_at_zero(series: Series, thing: str) -> None:
    values = {0: 90, 10 * SECOND: 100, 20 * SECOND: 5, 50 * SECOND: 15, 70 * SECOND: 20, 125 * SECOND: 3}
    await series.write(samples(thing, values | {130 * SECOND: 3}), 1)
    page = await series.query(asking(thing, step=MINUTE, agg="rate"))
    assert rows(page) == [(0, pytest.approx(0.5)), (MINUTE, None), (2 * MINUTE, 0)]


async def test_an_integral_cuts_its_lines_at_the_edges_of_steps(series: Series, thing: str) -> None:
    values = {30 * SECOND: 0, 90 * SECOND: 60, 100 * SECOND: 60, 240 * SECOND: 60}
    await series.write(samples(thing, values), 1)
    page = await series.query(asking(thing, step=MINUTE, agg="integral"))
    assert rows(page) == [
        (0, 450),
        (MINUTE, 1350 + 1800),
        (2 * MINUTE, 3600),  # without a sample, between two
        (3 * MINUTE, 3600),
        (4 * MINUTE, None),  # nothing behind its only sample, at its very start
    ]
    whole = await series.query(asking(thing, step=HOUR, agg="integral"))
    assert rows(whole) == [(0, 450 + 3150 + 7200)]


async def test_an_integral_reaches_an_hour_beyond_the_range_for_the_lines_over_its_ends(
    series: Series, thing: str
) -> None:
    await series.write(samples(thing, {0: 10, 10 * MINUTE: 10, 20 * MINUTE: 10, 79 * MINUTE: 10, 200 * MINUTE: 1}), 1)

    async def integral(start: int, end: int) -> list[tuple[int, Any]]:
        query = asking(thing, start=T0 + start * MINUTE, end=T0 + end * MINUTE, step=(end - start) * MINUTE)
        return rows(await series.query(replace(query, agg="integral")))

    assert await integral(0, 20) == [(0, 12_000)]
    assert await integral(5, 15) == [(5 * MINUTE, 6000)]
    assert await integral(12, 15) == [(12 * MINUTE, 1800)]
    assert await integral(15, 30) == [(15 * MINUTE, 9000)]
    assert await integral(70, 100) == [(70 * MINUTE, 5400)]
    assert await integral(100, 130) == []
    assert await integral(190, 201) == [(190 * MINUTE, None)]


@pytest.mark.parametrize("agg", WINDOWED)
async def test_what_needs_numbers_in_order_is_refused_for_texts_and_booleans(
    series: Series, thing: str, agg: Any
) -> None:
    await series.write(
        Samples.of([*samples(thing, {0: "idle", 1: "fault"}), *samples(thing, {0: True, 1: False}, POWER + "On")]), 1
    )
    percentile = 50.0 if agg == "percentile" else None
    for path in (POWER, POWER + "On"):
        with pytest.raises(QueryInvalid, match="text or boolean here; ask for count, first or last"):
            await series.query(asking(thing, path=path, step=HOUR, agg=agg, percentile=percentile))
    await series.write(samples(thing, {2: 4, 1_000_002: 6}), 2)
    expected = {"percentile": 5, "derivative": 2, "rate": 2, "integral": 5}[agg]
    assert rows(await series.query(asking(thing, step=HOUR, agg=agg, percentile=percentile))) == [(0, expected)]
    nothing = asking(thing, path=POWER + "Off", step=HOUR, agg=agg, percentile=percentile)
    assert rows(await series.query(nothing)) == []


@pytest.mark.parametrize("agg", WINDOWED)
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("tz", ["UTC", "Europe/Berlin"])
async def test_pages_and_calendar_days_come_to_what_a_plain_reckoning_does(
    series: Series, thing: str, agg: Any, order: Any, tz: str
) -> None:
    wind = random.Random(5)
    start = 54 * DAY + 7 * HOUR  # three days around 2026-03-29, of 23 hours in Berlin
    values = {start + wind.randrange(-2 * HOUR, 5 * DAY): float(wind.randrange(1000)) for _ in range(400)}
    await series.write(samples(thing, values), 1)
    percentile = 37.5 if agg == "percentile" else None
    more: dict[str, Any] = {"agg": agg, "percentile": percentile, "tz": tz, "order": order, "limit": 2}
    query = asking(thing, start=T0 + start, end=T0 + start + 4 * DAY + HOUR, step=DAY, **more)
    found: list[tuple[int, Any]] = []
    after: str | None = None
    for _ in range(3):
        page = await series.query(replace(query, after=after))
        found += page.rows
        after = page.next
    assert after is None
    known = sorted((T0 + at, value) for at, value in values.items())
    before = [row for row in known if query.start - HOUR <= row[0] < query.start][-1:]
    behind = [row for row in known if query.end <= row[0] < query.end + HOUR][:1]
    own = [*before, *(row for row in known if query.start <= row[0] < query.end), *behind]
    expected = sorted(reckon(query, all_steps(query), own).items(), reverse=order == "desc")
    assert found == [(time, pytest.approx(value)) for time, value in expected]
    assert len(found) == 5


async def test_days_follow_the_time_zone_over_a_change_of_the_clock(series: Series, thing: str) -> None:
    berlin_midnight = T0 + 55 * DAY - HOUR  # 2026-03-28T00:00+01:00; the 29th has 23 hours
    hours = {(berlin_midnight - T0) + at * HOUR: 1 for at in range(96)}
    await series.write(samples(thing, hours), 1)
    query = asking(
        thing, start=berlin_midnight, end=berlin_midnight + 4 * DAY, step=DAY, agg="count", tz="Europe/Berlin"
    )
    found = [((at - berlin_midnight + T0) // HOUR, count) for at, count in rows(await series.query(query))]
    assert found == [(0, 24), (24, 23), (47, 24), (71, 24), (95, 1)]
    utc = asking(thing, start=berlin_midnight, end=berlin_midnight + 4 * DAY, step=DAY, agg="count")
    assert [count for _, count in rows(await series.query(utc))] == [24] * 4


async def test_texts_can_be_counted_and_picked_but_not_averaged(series: Series, thing: str) -> None:
    await series.write(samples(thing, {0: "idle", 1: "fault"}), 1)
    for agg, value in (("first", "idle"), ("last", "fault"), ("count", 2)):
        assert rows(await series.query(asking(thing, step=HOUR, agg=agg))) == [(0, value)]
    with pytest.raises(QueryInvalid, match="count, first or last"):
        await series.query(asking(thing, step=HOUR, agg="avg"))


async def test_booleans_are_averaged_as_zero_and_one(series: Series, thing: str) -> None:
    await series.write(samples(thing, {0: True, 1: False, 2: True, 3: True}), 1)
    assert rows(await series.query(asking(thing, step=HOUR, agg="avg"))) == [(0, 0.75)]
    assert rows(await series.query(asking(thing, step=HOUR, agg="last"))) == [(0, True)]


async def test_a_property_may_change_its_type(series: Series, thing: str) -> None:
    await series.write(samples(thing, {0: 4, 1: "broken"}), 1)
    await series.write(samples(thing, {2: True, 3: 7.5}), 2)
    assert rows(await series.query(asking(thing))) == [(0, 4), (1, "broken"), (2, True), (3, 7.5)]
    for agg, value in (("count", 4), ("first", 4), ("last", 7.5), ("sum", 12.5), ("max", 7.5)):
        assert rows(await series.query(asking(thing, step=HOUR, agg=agg))) == [(0, value)], agg


async def test_aggregates_agree_with_a_plain_reckoning(series: Series, thing: str) -> None:
    wind = random.Random(3)
    values = {wind.randrange(3600 * 1000) * 1000: wind.gauss(1000, 300) for _ in range(5000)}
    await series.write(samples(thing, values), 1)
    step, start = 7 * 60 * SECOND, 123_456
    page = await series.query(asking(thing, start=T0 + start, step=step, agg="avg"))
    cells: dict[int, list[float]] = {}
    for at, value in values.items():
        if at >= start:
            cells.setdefault(start + (at - start) // step * step, []).append(value)
    assert [at for at, _ in rows(page)] == sorted(cells)
    assert dict(rows(page)) == pytest.approx({at: sum(cell) / len(cell) for at, cell in cells.items()})


async def test_times_before_1970_are_times_like_others(series: Series, thing: str) -> None:
    start = -10 * DAY - 7
    await series.write(Samples.of([Sample(thing, POWER, start + at, T0, at) for at in (0, 5, 10, 25)]), 1)
    query = asking(thing, start=start, end=start + 30)
    assert [time - start for time, _ in (await series.query(query)).rows] == [0, 5, 10, 25]
    for agg, expected in (
        ("avg", [(0, 2.5), (10, 10), (20, 25)]),
        ("count", [(0, 2), (10, 1), (20, 1)]),
        ("last", [(0, 5), (10, 10), (20, 25)]),
    ):
        page = await series.query(asking(thing, start=start, end=start + 30, step=10, agg=agg))
        assert [(time - start, value) for time, value in page.rows] == expected


@pytest.mark.parametrize("agg", ["avg", "sum", "stddev", "max", "derivative", "rate", "integral", "percentile"])
async def test_numbers_too_large_to_add_up_break_nothing(series: Series, thing: str, agg: Any) -> None:
    await series.write(samples(thing, {0: 1.7e308, 1: 1.7e308, 2: -1.7e308}), 1)
    try:
        percentile = 10.0 if agg == "percentile" else None
        page = await series.query(asking(thing, step=HOUR, agg=agg, percentile=percentile))
    except QueryInvalid as refused:
        assert "too large" in refused.text  # noqa: PT017 - a refusal is as good as an infinite sum
    else:
        assert len(page.rows) == 1
    assert len((await series.query(asking(thing))).rows) == 3


async def test_the_widest_range_is_answered(series: Series, thing: str) -> None:
    await series.write(samples(thing, {0: 2}), 1)
    wide = {"start": -25_567 * DAY, "end": 47_482 * DAY}  # the years 1900 to 2099
    query = asking(thing, **wide, step=wide["end"] - wide["start"], agg="max")
    assert [value for _, value in (await series.query(query)).rows] == [2]


async def test_the_embedded_store_forgets_what_came_in_long_ago_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "series.duckdb"
    async with DuckSeries(path) as store:
        for upto in range(1, 6):
            await store.write(samples("a:b", dict.fromkeys(range(300000), upto)), upto)
        await store.write(Samples.of([Sample("a:old", POWER, T0 - 400 * DAY, T0 + 200_005, 1)]), 5)
        await store.trim(T0 + 200_005)
        await store.write(samples("a:b", {200_000: 9, 300_000: 10}), 6)
        long_ago = asking("a:old", start=T0 - 401 * DAY, limit=2)
        assert rows(await store.query(long_ago)) == [(-400 * DAY, 1)]
        count = asking("a:b", step=HOUR, agg="count")
        assert rows(await store.query(count)) == [(0, 100_001)]
        assert rows(await store.query(asking("a:b", limit=2))) == [(200_000, 9), (200_001, 5)]
        assert rows(await store.query(asking("a:b", limit=1, order="desc"))) == [(300_000, 10)]
    async with DuckSeries(path) as store:
        assert rows(await store.query(count)) == [(0, 100_001)]
        assert await store.cursor() == 6
