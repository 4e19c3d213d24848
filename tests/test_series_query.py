"""The parameters of a time series query."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_adapters.series.ports import Query
from skerry_adapters.series.query import HOUR, QueryInvalid, cursor_of, iso, query_of, read
from skerry_adapters.series.steps import all_steps, runs

NOW = 1_769_904_000_000_000  # 2026-02-01T00:00:00Z
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("now", NOW),
        ("now-1h", NOW - HOUR),
        ("now-1h30m", NOW - HOUR * 3 // 2),
        ("now-1w", NOW - 7 * DAY),
        ("2026-01-31T23:00:00Z", NOW - HOUR),
        ("2026-01-31T23:00:00.000001Z", NOW - HOUR + 1),
        ("2026-01-31T23:00:00+01:00", NOW - 2 * HOUR),
        ("2026-01-31T23:00:00 01:00", NOW - 2 * HOUR),
        ("2026-01-31T23:00", NOW - HOUR),
        ("2026-01-31", NOW - DAY),
        (str((NOW - HOUR) // 1000), NOW - HOUR),
    ],
)
def test_a_time_is_iso_8601_or_relative_to_now_or_milliseconds(text: str, time: int) -> None:
    assert read({"from": text, "to": "now+1h"}, NOW).start == time


def test_a_time_without_offset_is_in_the_time_zone_asked_for() -> None:
    assert read({"from": "2026-01-31T23:00", "tz": "Europe/Berlin"}, NOW).start == NOW - 2 * HOUR


def test_the_range_is_the_last_hour_unless_said_otherwise() -> None:
    asked = read({}, NOW)
    assert (asked.start, asked.end, asked.step, asked.limit, asked.order) == (NOW - HOUR, NOW, None, 1000, "asc")
    asked = read({"to": "now-1h"}, NOW)
    assert (asked.start, asked.end) == (NOW - 2 * HOUR, NOW - HOUR)


@pytest.mark.parametrize("text", ["0", "100", "99.9", "2.5"])
def test_a_percentile_is_any_number_from_0_to_100(text: str) -> None:
    query = query_of(read({"agg": "percentile", "percentile": text}, NOW), "a:b", "/x")
    assert query.percentile == float(text)


def test_an_aggregate_without_step_is_one_row_for_the_range() -> None:
    query = query_of(read({"agg": "count", "from": "now-3d", "tz": "Europe/Berlin"}, NOW), "a:b", "/x")
    assert all_steps(query) == [(NOW - 3 * DAY, NOW)]
    assert query.agg == "count"


def test_a_step_without_aggregate_is_averaged() -> None:
    asked = read({"step": "10m"}, NOW)
    assert (asked.step, asked.agg) == (HOUR // 6, "avg")


@pytest.mark.parametrize(
    ("params", "name", "hint"),
    [
        ({"form": "now-1h"}, "form", "did you mean 'from'"),
        ({"tagFilter": "x"}, "tagFilter", "known are"),
        ({"from": "yesterday"}, "from", "now-1h"),
        ({"from": "now-1x"}, "from", "no duration"),
        ({"from": "1500-01-01"}, "from", "outside"),
        ({"from": "now-99999999w"}, "from", "outside"),
        ({"from": "now", "to": "now-1h"}, "from", "not before"),
        ({"to": "2026-13-01"}, "to", "no time"),
        ({"step": "10"}, "step", "write 10s"),
        ({"step": "0s"}, "step", "longer than 0"),
        ({"step": "1ms", "from": "now-1d"}, "step", "86400000 of them"),
        ({"agg": "median"}, "agg", "avg, min"),
        ({"agg": "percentile"}, "percentile", "percentile=95"),
        ({"agg": "max", "percentile": "95"}, "percentile", "agg=percentile"),
        ({"percentile": "95"}, "percentile", "agg=percentile"),
        ({"agg": "percentile", "percentile": "101"}, "percentile", "0 to 100"),
        ({"agg": "percentile", "percentile": "-1"}, "percentile", "0 to 100"),
        ({"agg": "percentile", "percentile": "nan"}, "percentile", "0 to 100"),
        ({"agg": "percentile", "percentile": "٩"}, "percentile", "0 to 100"),
        ({"fill": "zero"}, "fill", "step=10m"),
        ({"fill": "zero", "agg": "avg"}, "fill", "step=10m"),
        ({"fill": "none", "step": "1m"}, "fill", "null, previous"),
        ({"tz": "Mars/Base"}, "tz", "Europe/Berlin"),
        ({"tz": "../etc/passwd"}, "tz", "Europe/Berlin"),
        ({"limit": "0"}, "limit", "1 to 1000"),
        ({"limit": "1001"}, "limit", "cursor"),
        ({"limit": "²"}, "limit", "1 to 1000"),
        ({"order": "up"}, "order", "asc, desc"),
        ({"timeFormat": "s"}, "timeFormat", "iso, ms"),
        ({"cursor": "abc"}, "cursor", "nextCursor"),
    ],
)
def test_what_cannot_be_answered_is_refused_naming_the_parameter_and_the_cure(
    params: dict[str, str], name: str, hint: str
) -> None:
    with pytest.raises(QueryInvalid) as refused:
        read(params, NOW)
    payload = refused.value.payload()
    assert payload["status"] == 400
    assert payload["error"] == "timeseries:query.invalid"
    assert f"'{name}'" in payload["message"]
    assert hint in payload["message"]


def test_a_cursor_keeps_the_range_of_the_first_page_though_now_moves_on() -> None:
    params = {"from": "now-1d", "limit": "10"}
    first = read(params, NOW)
    cursor = cursor_of(first, "a:b", "/x", "123")
    second = query_of(read({**params, "cursor": cursor}, NOW + HOUR), "a:b", "/x")
    assert (second.start, second.end, second.after) == (first.start, first.end, "123")


@pytest.mark.parametrize(
    "change", [{"from": "now-2d"}, {"step": "1m"}, {"order": "desc"}, {"agg": "percentile", "percentile": "5"}]
)
def test_a_cursor_of_another_query_is_refused(change: dict[str, str]) -> None:
    params = {"from": "now-1d"}
    cursor = cursor_of(read(params, NOW), "a:b", "/x", "123")
    with pytest.raises(QueryInvalid, match="another query"):
        query_of(read({**params, **change, "cursor": cursor}, NOW), "a:b", "/x")
    with pytest.raises(QueryInvalid, match="another query"):
        query_of(read({**params, "cursor": cursor}, NOW), "a:b", "/y")


def test_times_are_written_with_no_more_digits_than_they_have() -> None:
    assert iso(NOW) == "2026-02-01T00:00:00Z"
    assert iso(NOW + 120_000) == "2026-02-01T00:00:00.120Z"
    assert iso(NOW + 7) == "2026-02-01T00:00:00.000007Z"


@given(
    st.integers(-(10**15), 2 * 10**15),
    st.integers(1, 400 * DAY),
    st.integers(1, 20),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia"]),
)
def test_steps_cover_the_range_without_gap_or_overlap(start: int, length: int, days: int, tz: str) -> None:
    steps = all_steps(Query(thing="a:b", path="/x", start=start, end=start + length, step=days * DAY, tz=tz))
    assert steps[0][0] == start
    assert steps[-1][1] == start + length
    assert all(one[1] == other[0] for one, other in pairwise(steps))
    assert all(first < last for first, last in steps)
    starts = [first + length * place for first, length, count in runs(steps) for place in range(count)]
    assert starts == [first for first, _ in steps]


@pytest.mark.parametrize("text", ["--123456789", "-12345678-", "99999999999999999", "\uff11" * 9])
def test_a_time_of_odd_digits_is_refused(text: str) -> None:
    with pytest.raises(QueryInvalid):
        read({"from": text}, NOW)


@pytest.mark.parametrize("facts", [[-(10**30), 10**30, "0"], [0, 1, "9" * 30], [0, 2**63 - 1, "0"]])
def test_a_cursor_of_impossible_times_is_refused(facts: list[Any]) -> None:
    text = urlsafe_b64encode(json.dumps(["x", *facts]).encode()).decode()
    with pytest.raises(QueryInvalid, match="not one of ours"):
        read({"cursor": text}, NOW)
