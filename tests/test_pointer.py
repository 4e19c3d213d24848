"""Pointers: text, URL form, and access to documents."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from skerry import pointer
from skerry.values import JsonKeyInvalid

keys = st.text(st.sampled_from("ab~/01Ж "), min_size=1, max_size=4)
paths = st.lists(keys, max_size=4).map(tuple)
json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@given(paths)
def test_the_text_of_a_path_reads_as_the_path(path):
    assert pointer.parse(pointer.write(path)) == path


@given(json, paths, json)
def test_what_was_put_is_got_and_the_document_stays_as_it_was(document, path, value):
    before = copy.deepcopy(document)
    after = pointer.put(document, path, value)
    assert pointer.get(after, path) == value
    assert document == before


@given(json, paths.filter(bool), json)
def test_what_was_removed_is_gone_and_nothing_else(document, path, value):
    after = pointer.put(document, path, value)
    before = copy.deepcopy(after)
    removed = pointer.remove(after, path)
    assert pointer.get(removed, path) is UNSET
    assert after == before
    assert pointer.put(removed, path, value) == after


def test_removing_what_is_not_there_gives_the_same_document():
    document = {"a": {"b": 1}}
    assert pointer.remove(document, ("a", "c", "d")) is document
    assert pointer.remove(document, ("a", "b", "d")) is document


def test_unchanged_parts_are_shared():
    document = {"a": {"x": 1}, "b": {"y": 2}}
    after = pointer.put(document, ("a", "x"), 3)
    assert after["b"] is document["b"]


def test_arrays_are_not_entered():
    assert pointer.get({"a": [1, 2]}, ("a", "0")) is UNSET


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ()),
        ("/", ()),
        ("/a/b", ("a", "b")),
        ("a/b", ("a", "b")),
        ("/a~1b/c~0d", ("a/b", "c~d")),
        ("/a~01", ("a~1",)),
    ],
)
def test_texts_read_as_paths(text, path):
    assert pointer.parse(text) == path


@pytest.mark.parametrize("text", ["//", "/a//b", "/a/", "//a"])
def test_empty_segments_are_refused(text):
    with pytest.raises(pointer.PointerInvalid):
        pointer.parse(text)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"", ()),
        (b"/", ()),
        (b"/attributes", ("attributes",)),
        (b"/attributes/", ("attributes",)),
        (b"/attributes/a/b", ("attributes", "a", "b")),
        (b"/attributes/x%2Fy", ("attributes", "x", "y")),
        (b"/attributes/a%20b+c", ("attributes", "a b+c")),
        (b"/attributes/a~0b", ("attributes", "a~b")),
        (b"/attributes/a~1b", ("attributes", "a~1b")),
        (b"/attributes/%D0%96", ("attributes", "Ж")),
        (b"/features/f/properties/x%2Fy/z/", ("features", "f", "properties", "x", "y", "z")),
        (b"/features/*", ("features", "*")),
        (b"/features/f%3Ag/definition", ("features", "f:g", "definition")),
    ],
)
def test_urls_read_as_ditto_reads_them(raw, path):
    assert pointer.from_url(raw) == path


@pytest.mark.parametrize(
    ("raw", "row"),
    [
        (b"/features/a%2Fb", JsonKeyInvalid),
        (b"/features/%C3%BC", JsonKeyInvalid),
        (b"/attributes/%C3%BC", JsonKeyInvalid),
        (b"/attributes/a%00", JsonKeyInvalid),
        (b"/attributes//a", pointer.PointerInvalid),
        (b"/attributes/a%2F%2Fb", pointer.PointerInvalid),
        (b"/features/f/properties//a", pointer.PointerInvalid),
        (b"/features//properties", pointer.PointerInvalid),
        (b"/attributes/%zz", pointer.PointerInvalid),
        (b"/attributes/%", pointer.PointerInvalid),
        (b"/attributes/%ff", pointer.PointerInvalid),
        (b"/attributes/\xff", pointer.PointerInvalid),
    ],
)
def test_bad_urls_are_refused(raw, row):
    with pytest.raises(row) as error:
        pointer.from_url(raw)
    assert error.type is row


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/entries/L/subjects/nginx:bob", ("entries", "L", "subjects", "nginx:bob")),
        (b"/entries/L/resources/thing:/features/x", ("entries", "L", "resources", "thing:/features/x")),
        (b"/entries/L/resources/thing:%2F", ("entries", "L", "resources", "thing:/")),
        (b"/entries/L/resources/thing:/", ("entries", "L", "resources", "thing:/")),
        (b"/entries/L/resources/thing:/features/", ("entries", "L", "resources", "thing:/features")),
        (b"/entries/L/resources/", ("entries", "L", "resources")),
        (b"/imports/a:b", ("imports", "a:b")),
    ],
)
def test_a_policy_s_resource_keeps_its_slashes(raw, path):
    assert pointer.from_url(raw, "policy") == path
