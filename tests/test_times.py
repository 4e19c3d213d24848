"""Instants as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry import times


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_the_text_of_an_instant_reads_as_the_instant(time):
    assert times.parse(times.write(time)) == time


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:01", 1_000_000),
    ],
)
def test_texts_read_as_utc(text, time):
    assert times.parse(text) == time


@pytest.mark.parametrize("text", ["", "now", "1970-13-01T00:00:00Z", "12"])
def test_what_is_no_instant_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011 - the standard library's texts
        times.parse(text)
