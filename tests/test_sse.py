"""Server-sent events: their form on the wire, and what is shown of a change."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from skerry.signals import Event, Held
from skerry_registry.http.sse import event
from skerry_registry.http.sse_views import View, selector_of
from skerry_registry.live.views import Told

TEXT = st.text(st.characters(exclude_categories=("Cs",)))


def parsed(text: str) -> tuple[str, str, str]:
    """Data, name and id of one event, as the standard has them read."""
    assert text.endswith("\n\n")
    assert "\n\n" not in text[:-2]
    assert "\r" not in text
    data, name, id_ = [], "", ""
    for line in text[:-2].split("\n"):
        field, colon, value = line.partition(":")
        assert colon
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        else:
            assert field == "id"
            id_ = value
    return "\n".join(data), name, id_


@given(TEXT, st.sampled_from(["", "ask", "ask/more"]), st.sampled_from(["", "12", "demo:T01"]))
@example("a\r\nb\rc\n\nd\n", "ask", "1")
def test_whatever_the_data_are_they_are_read_as_they_were_but_for_the_ends_of_lines(data, name, id_):
    lines = data.replace("\r\n", "\n").replace("\r", "\n")
    assert parsed(event(data, name=name, id=id_).decode()) == (lines, name, id_)


def told(action, path, value, extra=None, **more):
    """A change as a view has it."""
    change = Event(
        kind="thing",
        id="demo:T01",
        action=action,
        revision=3,
        timestamp=5_000_000,
        path=path,
        value=value,
        number=9,
        **more,
    )
    held = Held(kind="thing", id="demo:T01", document={}, revision=3, created=1_000_000)
    return Told(change, value, {} if extra is None else extra, held)


def test_a_change_is_written_once_for_all_readers_of_a_view():
    view = View()
    change = told("modified", ("attributes", "a"), 5)
    first = view.chunk(change)
    assert first == b'data:{"thingId":"demo:T01","attributes":{"a":5}}\nid:9\n\n'
    assert view.chunk(change) is first
    assert view.chunk(told("modified", ("attributes", "a"), 6)) is not first


def test_the_change_goes_before_the_extra_fields():
    extra = {"attributes": {"a": 1, "b": {"c": 2, "d": 3}}, "policyId": "demo:P"}
    assert View().shown(told("modified", ("attributes", "b"), {"c": 9}, extra)) == {
        "thingId": "demo:T01",
        "policyId": "demo:P",
        "attributes": {"a": 1, "b": {"c": 9, "d": 3}},
    }
    assert View().shown(told("modified", ("attributes",), {"a": [1]}, {"attributes": {"a": {"x": 1}}})) == {
        "thingId": "demo:T01",
        "attributes": {"a": [1]},
    }


def test_the_value_at_a_pointer_is_shown_where_the_change_has_one():
    view = View(at=("attributes", "a"))
    assert view.shown(told("modified", ("attributes", "a", "deep"), 1)) == {"deep": 1}
    assert view.shown(told("modified", ("attributes",), {"a": None})) is None
    assert view.chunk(told("modified", ("attributes",), {"b": 1})) is None
    assert view.chunk(told("merged", (), {"attributes": {"a": None}})) is None


def test_a_selector_shows_hidden_fields_only_where_it_names_them():
    view = View(selector_of("thingId,_revision,_created"))
    assert view.shown(told("modified", ("policyId",), "demo:P")) == {"thingId": "demo:T01", "_revision": 3}
    assert view.shown(told("created", (), {"thingId": "demo:T01"}))["_created"] == "1970-01-01T00:00:01Z"
