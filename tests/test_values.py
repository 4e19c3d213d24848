"""JSON values."""

from __future__ import annotations

import pytest

from skerry import values


@pytest.mark.parametrize("body", [b"", b" \n", ""])
def test_an_empty_body_has_its_own_row(body):
    with pytest.raises(values.JsonFormatInvalid) as error:
        values.decode(body)
    assert error.value.code == "json.format.invalid"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"9" * 5_000,
        b"'a'",
        b'{"a":1,}',
        b"\xff",
        b'"\xff"',
        b'"\\ud800"',
        b"1 2",
        b"[" * 100_000,
    ],
)
def test_what_is_no_strict_json_is_refused(body):
    with pytest.raises(values.JsonInvalid) as error:
        values.decode(body)
    assert (error.value.code, error.value.status) == ("json.invalid", 400)


def test_strict_json_is_decoded():
    assert values.decode(b' {"a": [1, 2.5, null, true, "\\u00fc"]} ') == {"a": [1, 2.5, None, True, "ü"]}


@pytest.mark.parametrize(
    "value", [2**63, -(2**63) - 1, float("nan"), [float("inf")], {"a": object()}, (1,), {1: 2}.keys()]
)
def test_what_json_or_a_store_cannot_keep_is_refused(value):
    with pytest.raises(values.JsonInvalid):
        values.check(value)


def test_the_largest_numbers_are_kept():
    values.check([2**63 - 1, -(2**63), 1e308, -0.0])


def test_equality_is_that_of_json():
    assert values.same({"a": 1, "b": [1]}, {"b": [1], "a": 1})
    assert not values.same(1, 1.0)
    assert not values.same(1, True)
    assert not values.same([1, 2], [2, 1])


def test_types_have_json_s_names():
    named = [values.name(value) for value in (None, {}, [], "", True, 1, 1.5)]
    assert named == ["null", "an object", "an array", "a text", "a boolean", "a number", "a number"]
