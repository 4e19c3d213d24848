"""Control frames, read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import SkerryError
from skerry.values import JsonInvalid, decode
from skerry_registry.ws.controls import SORTS, Control, Token, read


@pytest.mark.parametrize("sort", SORTS)
def test_what_is_to_be_sent_is_started_and_stopped(sort):
    start, stop = read(f"START-SEND-{sort}"), read(f"STOP-SEND-{sort}?x=y")
    assert isinstance(start, Control)
    assert isinstance(stop, Control)
    assert (start.sort, start.start, start.acknowledgement) == (sort, True, f"START-SEND-{sort}:ACK")
    assert (stop.sort, stop.start, stop.acknowledgement) == (sort, False, f"STOP-SEND-{sort}:ACK")


def test_parameters_are_decoded_as_in_a_url():
    control = read(
        "START-SEND-EVENTS?namespaces=a.b,c&filter=eq(attributes%2Fa,%22x%26y%22)&extraFields=attributes(a,b)&resume-from=17"
    )
    assert isinstance(control, Control)
    assert control.namespaces == {"a.b", "c"}
    assert control.parameters["filter"] == 'eq(attributes/a,"x&y")'
    assert control.extra == {"attributes": {"a": None, "b": None}}
    assert control.after == 17


def test_without_parameters_everything_is_wanted_from_now_on():
    control = read("START-SEND-EVENTS?extraFields=&namespaces=")
    assert isinstance(control, Control)
    assert (control.namespaces, control.extra, control.after) == (frozenset(), None, None)


@pytest.mark.parametrize("text", ["resume-from=", "resume-from=-1", "resume-from=x", "resume-from=9999999999999999999"])
def test_a_place_in_the_journal_is_a_number(text):
    control = read(f"START-SEND-EVENTS?{text}")
    assert isinstance(control, Control)
    with pytest.raises(SkerryError):
        _ = control.after


def test_a_token_comes_in_a_parameter():
    assert read("JWT-TOKEN?jwtToken=a.b-c_d.e") == Token("a.b-c_d.e")
    assert read("JWT-TOKEN") == Token("")


@given(st.text())
def test_nothing_else_is_a_control_frame(text):
    if text.strip().startswith(("START-SEND-", "STOP-SEND-", "JWT-TOKEN")):
        return
    try:
        assert read(text) is None
    except JsonInvalid:
        with pytest.raises(JsonInvalid):
            decode(text)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '"x"', "1", "true", "null"])
def test_json_is_left_to_whoever_reads_envelopes(text):
    assert read(text) is None


@pytest.mark.parametrize("text", ["START-SEND-", "START-SEND-EVENTSX", "start-send-events", "JWT-TOKENS?x=y", "hello"])
def test_what_only_looks_like_one_is_told_what_there_is(text):
    with pytest.raises(JsonInvalid) as caught:
        read(text)
    assert "START-SEND-EVENTS" in caught.value.payload()["description"]
