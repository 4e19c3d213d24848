"""Metadata mirrors the thing."""

from __future__ import annotations

import msgspec
import pytest

from skerry import metadata, things
from skerry.headers import HeaderInvalid
from skerry.signals import Command, Held

LIMIT = 100_000
ID = "demo:T01"
THING = {
    "policyId": ID,
    "attributes": {"a": 1, "b": {"c": 2}},
    "features": {"lamp": {"properties": {"on": True, "color": {"r": 1, "g": 2}}}, "fan": {"properties": {"speed": 3}}},
}


def send(held, verb, path=(), value=None, observed=None, **asked):
    names = {name.replace("_", "-"): text for name, text in asked.items()}
    more = {} if verb == "delete" else {"value": value}
    command = Command(verb=verb, id=ID, subjects=("u",), path=path, headers=names, observed=observed, **more)
    return things.apply(held, things.decide(held, command, held.revision + 1, LIMIT).event)


def read(held, path=(), **asked):
    names = {name.replace("_", "-"): text for name, text in asked.items()}
    return things.retrieve(
        held, held.document, Command(verb="retrieve", id=ID, subjects=("u",), path=path, headers=names)
    )


def entries(**pairs):
    return msgspec.json.encode([{"key": key, "value": value} for key, value in pairs.items()]).decode()


@pytest.fixture
def held():
    return send(Held(kind="thing", id=ID), "modify", value=THING)


def test_a_wildcard_key_stands_at_every_changed_leaf(held):
    held = send(
        held,
        "modify",
        ("features", "lamp", "properties"),
        {"on": False, "color": {"r": 5}},
        put_metadata=entries(**{"*/by": "me"}),
    )
    assert held.metadata == {"features": {"lamp": {"properties": {"on": {"by": "me"}, "color": {"r": {"by": "me"}}}}}}


def test_an_absolute_key_names_its_place(held):
    held = send(
        held, "modify", ("attributes", "a"), 2, put_metadata=entries(**{"/features/lamp/properties/on/label": "On"})
    )
    assert held.metadata == {"features": {"lamp": {"properties": {"on": {"label": "On"}}}}}


def test_wildcards_within_attributes_and_features_stand_where_something_changed(held):
    change = {
        "attributes": {"a": 5, "b": {"c": 6}},
        "features": {"lamp": {"properties": {"on": False}}, "fan": {"properties": {"speed": 4}}},
    }
    after = send(held, "merge", (), change, put_metadata=entries(**{"attributes/*/k": 1}))
    assert after.metadata == {"attributes": {"a": {"k": 1}, "b": {"k": 1}}}
    after = send(held, "merge", (), change, put_metadata=entries(**{"features/*/properties/*/k": 2}))
    assert after.metadata == {
        "features": {"lamp": {"properties": {"on": {"k": 2}}}, "fan": {"properties": {"speed": {"k": 2}}}}
    }
    after = send(held, "merge", (), change, put_metadata=entries(**{"features/fan/properties/*/k": 3}))
    assert after.metadata == {"features": {"fan": {"properties": {"speed": {"k": 3}}}}}


def test_metadata_goes_with_its_value(held):
    key = entries(**{"*/by": "me"})
    held = send(
        held,
        "merge",
        (),
        {"attributes": {"a": 1, "b": {"c": 1}}, "features": {"fan": {"properties": {"speed": 1}}}},
        put_metadata=key,
    )
    assert send(held, "delete", ("attributes", "a")).metadata["attributes"] == {"b": {"c": {"by": "me"}}}
    assert "attributes" not in send(held, "modify", (), {"features": THING["features"]}).metadata
    assert send(held, "merge", ("attributes",), {"b": None}).metadata["attributes"] == {"a": {"by": "me"}}
    assert (
        "features" not in send(held, "merge", ("features", "fan"), {"properties": {"speed": None}}, observed=5).metadata
    )
    assert send(held, "modify", ("attributes", "a"), 7).metadata == held.metadata
    assert send(held, "delete").metadata is None


def test_metadata_can_be_deleted_by_key(held):
    held = send(
        held, "merge", (), {"attributes": {"a": 1, "b": {"c": 1}}}, put_metadata=entries(**{"*/by": "me", "*/at": 5})
    )
    after = send(held, "modify", ("attributes", "a"), 2, delete_metadata="/attributes/a/by")
    assert after.metadata == {"attributes": {"a": {"at": 5}, "b": {"c": {"by": "me", "at": 5}}}}
    after = send(held, "modify", ("attributes",), {"a": 2, "b": {"c": 1}}, delete_metadata="*/by,*/at")
    assert after.metadata is None


def test_metadata_is_read_by_fields_and_by_header(held):
    held = send(
        held, "modify", ("features", "fan", "properties", "speed"), 9, put_metadata=entries(**{"*/unit": "rpm"})
    )
    tree = {"features": {"fan": {"properties": {"speed": {"unit": "rpm"}}}}}
    assert read(held, fields="_metadata").value == {"_metadata": tree}
    assert "_metadata" not in read(held).value
    relative = {"properties": {"speed": {"unit": "rpm"}}}
    for key in ("/features/fan/properties/speed/unit", "properties/speed/unit", "properties/*/unit", "*"):
        told = read(held, ("features", "fan"), get_metadata=key).headers
        assert msgspec.json.decode(told["ditto-metadata"]) == relative
    told = read(held, ("features", "lamp"), get_metadata="properties/*/unit").headers
    assert told["ditto-metadata"] == "{}"
    told = read(held, get_metadata="*/unit").headers
    assert msgspec.json.decode(told["ditto-metadata"]) == tree


def test_what_a_reader_may_not_see_has_no_metadata_for_him_either(held):
    held = send(
        held,
        "merge",
        (),
        {"attributes": {"a": 1}, "features": {"fan": {"properties": {"speed": 1}}}},
        put_metadata=entries(**{"*/by": "me"}),
    )
    visible = {"thingId": ID, "attributes": {"a": 1}}
    command = Command(verb="retrieve", id=ID, subjects=("u",), headers={"fields": "_metadata"})
    assert things.retrieve(held, visible, command).value == {"_metadata": {"attributes": {"a": {"by": "me"}}}}


def test_only_one_metadata_header_at_a_time(held):
    with pytest.raises(metadata.MetadataConflict) as error:
        send(held, "modify", ("attributes", "a"), 1, put_metadata="[]", get_metadata="*/a")
    assert error.value.code == "things:metadata.headersconflict"
    with pytest.raises(metadata.MetadataConflict):
        read(held, put_metadata="[]", delete_metadata="*/a")


@pytest.mark.parametrize("text", ["nonsense", "{}", '[{"key":1}]', "[1]"])
def test_a_put_metadata_that_is_no_json_is_passed_over(held, text):
    assert send(held, "modify", ("attributes", "a"), 1, put_metadata=text).metadata is None


@pytest.mark.parametrize("key", ["*", "/", "x", ""])
def test_a_key_without_a_place_is_refused(held, key):
    with pytest.raises(metadata.MetadataNotModifiable):
        send(held, "merge", (), {"attributes": {"a": 1}}, put_metadata=entries(**{key: 1}))


def test_metadata_too_large_are_refused_whatever_the_size_of_the_thing(held):
    text = entries(**{"attributes/a/note": "x" * LIMIT})
    with pytest.raises(things.ThingTooLarge):
        send(held, "modify", ("attributes", "a"), 1, put_metadata=text)
    with pytest.raises(things.ThingTooLarge):
        send(held, "merge", ("attributes",), {"a": 1}, put_metadata=entries(**{"/attributes/a/note": "x" * LIMIT}))


RICH = {
    "attributes": {"a": 5, "b": {"c": 6}},
    "features": {
        "lamp": {"definition": ["x:y:1"], "properties": {"on": {"deep": 1}}, "desiredProperties": {"on": 2}},
        "fan": {"properties": {"speed": 4, "on": 5}},
    },
}
K = {"k": 1}


@pytest.mark.parametrize(
    ("path", "key", "tree"),
    [
        ((), "features/*/properties/on/k", {"lamp": {"properties": {"on": K}}, "fan": {"properties": {"on": K}}}),
        ((), "features/fan/properties/*/k", {"fan": {"properties": {"speed": K, "on": K}}}),
        ((), "/features/*/desiredProperties/*/k", {"lamp": {"desiredProperties": {"on": K}}}),
        ((), "features/*/definition/k", {"lamp": {"definition": K}}),
        (
            ("features",),
            "*/properties/*/k",
            {"lamp": {"properties": {"on": K}}, "fan": {"properties": {"speed": K, "on": K}}},
        ),
        (("features",), "fan/properties/*/k", {"fan": {"properties": {"speed": K, "on": K}}}),
        (("features",), "*/properties/speed/k", {"fan": {"properties": {"speed": K}}}),
        (("features", "lamp"), "properties/*/k", {"lamp": {"properties": {"on": K}}}),
        (("features", "lamp"), "properties/on/k", {"lamp": {"properties": {"on": K}}}),
        (("features", "lamp", "properties"), "*/k", {"lamp": {"properties": {"on": {"deep": K}}}}),
        (("features", "lamp", "properties", "on"), "k", {"lamp": {"properties": {"on": K}}}),
        (("features", "lamp", "properties", "on"), "/k", {"lamp": {"properties": {"on": K}}}),
    ],
)
def test_an_asterisk_stands_for_one_level_or_for_every_leaf(path, key, tree):
    held = send(Held(kind="thing", id=ID), "modify", value={"policyId": ID, **RICH})
    value = RICH
    for segment in path:
        value = value[segment]
    after = send(held, "merge", path, value, put_metadata=entries(**{key: 1}))
    assert after.metadata == {"features": tree}
    shown = msgspec.json.decode(read(after, path, get_metadata=key).headers["ditto-metadata"])
    below = after.metadata
    for segment in path:
        below = below[segment]
    assert shown == below
    assert send(after, "merge", path, value, delete_metadata=key).metadata is None


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ((), "attributes/*/*/k"),
        ((), "*/*/k"),
        ((), "features/*/k"),
        ((), "features/*/properties/*"),
        ((), "features/*/other/*/k"),
        (("features",), "*/k"),
        (("features", "lamp"), "*/k"),
        (("attributes",), "a/*/k"),
        (("features", "lamp", "properties"), "features/*/properties/*/k"),
    ],
)
def test_an_asterisk_stands_nowhere_else(held, path, key):
    value = THING
    for segment in path:
        value = value[segment]
    for header in ("put_metadata", "delete_metadata"):
        text = entries(**{key: 1}) if header == "put_metadata" else key
        tagged = send(held, "modify", ("attributes", "a"), 1, put_metadata=entries(k=1))
        with pytest.raises(HeaderInvalid):
            send(tagged, "merge", path, value, **{header: text})
    with pytest.raises(HeaderInvalid):
        read(held, path, get_metadata=key)


def test_a_creation_may_bring_its_metadata_in_the_body():
    tree = {"attributes": {"a": {"unit": "m"}}}
    held = send(Held(kind="thing", id=ID), "modify", value={**THING, "_metadata": tree})
    assert held.metadata == tree
    assert "_metadata" not in held.document
    with pytest.raises(metadata.MetadataNotModifiable):
        send(
            Held(kind="thing", id=ID), "modify", value={**THING, "_metadata": tree}, put_metadata=entries(**{"*/k": 1})
        )
