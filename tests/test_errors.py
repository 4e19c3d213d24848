# ruff: noqa: N818 - errors are rows of a table
"""The error table: what may be said, under which code and status."""

from __future__ import annotations

import importlib
import json
import pkgutil
import string
from collections import Counter
from pathlib import Path

import pytest

from skerry.errors import SkerryError, rows
from skerry_registry.cli.tables import PACKAGES

GOLDEN = json.loads((Path(__file__).parent / "golden" / "errors.json").read_text())

for package in PACKAGES:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
ROWS = [row for row in rows() if row.__module__.split(".")[0] in PACKAGES]
CURED_BY_THE_MESSAGE = {
    "SkerryError",
    "NotModified",
    "PolicyNotModified",
    "QueryInvalid",
    "OptionInvalid",
    "CheckFailed",
}
"""Rows without a description: their messages say what would be right, or there is nothing to do."""


class Full(SkerryError):
    """Everything that an error may have."""

    code = "test:full"
    status = 418
    message = "There is no {what} in {where}."
    description = "Ask for another {what}."
    extras = ("where", "since")


def test_the_codes_and_statuses_are_those_of_the_golden_table():
    assert {row.code: row.status for row in ROWS if row.__module__.split(".")[0] == "skerry"} == GOLDEN


def test_no_code_appears_twice_with_the_same_status():
    counted = Counter((row.code, row.status) for row in ROWS)
    assert [key for key, times in counted.items() if times > 1] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_every_row_says_what_was_wrong_and_can_be_filled_in(row):
    for text in (row.message, row.description or ""):
        names = [name for _, name, _, _ in string.Formatter().parse(text) if name]
        assert all(name.isidentifier() for name in names)
        text.format_map(dict.fromkeys(names, 1.0))
    assert row.message.endswith((".", "}"))
    assert row.__doc__


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
def test_every_row_says_what_to_do(row):
    assert row.description or row.__name__ in CURED_BY_THE_MESSAGE


def test_a_payload_has_ditto_s_shape():
    error = Full(what="tea", where="the pot", since=5, other=6)
    assert error.payload() == {
        "status": 418,
        "error": "test:full",
        "message": "There is no tea in the pot.",
        "description": "Ask for another tea.",
        "where": "the pot",
        "since": 5,
    }
    assert str(error) == "There is no tea in the pot."


def test_a_fact_that_is_missing_leaves_its_name():
    assert Full(what="tea").payload()["message"] == "There is no tea in {where}."


def test_a_description_may_be_given_and_headers_travel_along():
    error = Full(description="Wait.", headers={"retry-after": "1"})
    assert (error.payload()["description"], error.headers) == ("Wait.", {"retry-after": "1"})


def test_braces_in_facts_are_not_read_again():
    error = Full(what="{where}", where="{what}")
    assert error.text == "There is no {where} in {what}."
