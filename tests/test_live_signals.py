"""Envelopes of the live channel and signals, each made from the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from skerry.errors import SkerryError
from skerry.live import (
    CLAIM,
    LiveSignal,
    SubjectInvalid,
    envelope_of,
    is_live,
    message_path,
    normal,
    payload_of,
    signal_from,
    subject_of,
    value_of,
)

QUESTION = {
    "topic": "ns/t1/things/live/messages/ask/the/time",
    "headers": {"correlation-id": "c1", "content-type": "text/plain", "timeout": "10s"},
    "path": "/features/lamp/inbox/messages/ask/the/time",
    "value": "what time is it?",
}


def test_a_message_comes_out_of_its_envelope_and_goes_back_into_it() -> None:
    signal = signal_from(QUESTION)
    assert signal.sort == "message"
    assert signal.id == "ns:t1"
    assert signal.path == ("features", "lamp", "inbox", "messages", "ask", "the", "time")
    assert signal.status is None
    assert signal.correlation == "c1"
    assert subject_of(signal.path) == signal.action == "ask/the/time"
    assert envelope_of(signal) == QUESTION


def test_an_answer_has_a_status() -> None:
    signal = signal_from({**QUESTION, "status": 200, "value": "noon"})
    assert signal.status == 200
    assert envelope_of(signal)["status"] == 200


def test_an_error_is_an_answer_to_a_command() -> None:
    envelope = {
        "topic": "ns/t1/things/live/errors",
        "headers": {"correlation-id": "c1"},
        "path": "/",
        "value": {"status": 404, "error": "things:attribute.notfound"},
        "status": 404,
    }
    signal = signal_from(envelope)
    assert (signal.sort, signal.status, signal.action) == ("command", 404, "")
    assert envelope_of(signal)["value"] == envelope["value"]


def test_what_has_no_correlation_id_is_given_one() -> None:
    envelope = {"topic": "ns/t1/things/live/commands/retrieve", "path": "/attributes"}
    assert signal_from(envelope, correlation="made-up").correlation == "made-up"


def test_a_live_event_needs_a_revision() -> None:
    envelope = {"topic": "ns/t1/things/live/events/modified", "path": "/attributes/a", "value": 1}
    with pytest.raises(SkerryError, match="revision"):
        signal_from(envelope)
    signal = signal_from({**envelope, "revision": 7, "timestamp": "2026-01-01T00:00:00Z"})
    assert envelope_of(signal)["revision"] == 7
    assert envelope_of(signal)["timestamp"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"topic": "ns/t1/things/twin/commands/modify"}, "protocoladapter:unknown.signal"),
        ({"topic": "_/_/things/live/messages/ask/the/time"}, "protocoladapter:unknown.topicpath"),
        ({"topic": "ns/t1/things/live/messages"}, "protocoladapter:unknown.topicpath"),
        ({"topic": "ns/t1/things/live/messages/other"}, "protocoladapter:invalid.path"),
        ({"path": "/inbox/ask/the/time"}, "protocoladapter:invalid.path"),
        ({"path": "/features//inbox/messages/ask/the/time"}, "protocoladapter:invalid.path"),
        ({"topic": "ns/t1/things/live/messages//", "path": "/inbox/messages//"}, "messages:subject.invalid"),
        ({"topic": "ns/t1/things/live/messages/a\n", "path": "/inbox/messages/a\n"}, "messages:subject.invalid"),
        ({"topic": "ns/t1/things/live/commands/migrate", "path": "/"}, "protocoladapter:unknown.command"),
        ({"status": "fine"}, "protocoladapter:illegal.adaptable"),
        ({"status": True}, "protocoladapter:illegal.adaptable"),
        ({"status": 99}, "protocoladapter:illegal.adaptable"),
        ({"topic": "ns/t1/things/live/errors", "path": "/"}, "json.field.missing"),
    ],
)
def test_what_is_no_live_signal_is_refused(change: dict[str, object], code: str) -> None:
    with pytest.raises(SkerryError) as caught:
        signal_from({**QUESTION, **change})
    assert caught.value.code == code


def test_a_change_needs_a_value_and_its_answer_does_not() -> None:
    envelope = {"topic": "ns/t1/things/live/commands/modify", "path": "/attributes/a"}
    with pytest.raises(SkerryError, match="value"):
        signal_from(envelope)
    assert signal_from({**envelope, "status": 204}).value is UNSET


def test_headers_of_a_server_are_taken_from_answers_only() -> None:
    envelope = {"topic": "ns/t1/things/live/commands/retrieve", "path": "/", "headers": {"etag": '"rev:1"'}}
    assert "etag" not in signal_from(envelope).headers
    assert signal_from({**envelope, "status": 200, "value": {}}).headers["etag"] == '"rev:1"'


def test_which_topics_are_live() -> None:
    assert is_live("ns/t/things/live/messages/a")
    assert is_live("ns/t/things/live/commands/modify")
    assert not is_live("ns/t/things/live/acks/custom")
    assert not is_live("ns/t/things/twin/commands/modify")
    assert not is_live("nonsense")


def _message(value: object, content_type: str) -> LiveSignal:
    headers = {"content-type": content_type}
    return LiveSignal(
        sort="message", id="ns:t", topic="ns/t/things/live/messages/claim", path=CLAIM, value=value, headers=headers
    )


@given(st.binary(), st.sampled_from(["application/octet-stream", "image/png", "", "application/xml"]))
def test_bytes_travel_as_base64(raw: bytes, content_type: str) -> None:
    assert payload_of(_message(value_of(raw, content_type), content_type)) == raw


@given(st.text(), st.sampled_from(["text/plain", "text/html; charset=utf-8", "application/javascript"]))
def test_text_travels_as_text(text: str, content_type: str) -> None:
    value = value_of(text.encode("utf-8", "replace"), content_type)
    assert payload_of(_message(value, content_type)) == text.encode("utf-8", "replace")


def test_what_says_nothing_of_its_type_is_told_on_as_bytes() -> None:
    assert normal("hello", "") == "aGVsbG8="
    assert normal("aGVsbG8=", "") == "aGVsbG8="
    assert normal({"a": 1}, "image/png") == "eyJhIjoxfQ=="
    assert normal({"a": 1}, "text/plain") == '{"a":1}'
    assert normal("x", "application/json") == "x"


def test_json_travels_as_json() -> None:
    assert value_of(b'{"a": [1, null]}', "application/json") == {"a": [1, None]}
    assert value_of(b'"text"', "application/vnd.acme+json; charset=utf-8") == "text"
    assert payload_of(_message({"a": 1}, "application/json")) == b'{"a":1}'
    assert payload_of(_message("text", "application/json")) == b'"text"'
    with pytest.raises(SkerryError):
        value_of(b"{", "application/json")


def test_an_object_of_another_type_is_told_as_its_text() -> None:
    assert payload_of(_message({"a": 1}, "text/plain")) == b'{"a":1}'
    assert payload_of(_message("no base64!", "image/png")) == b"no base64!"
    assert payload_of(_message(UNSET, "image/png")) == b""


@given(st.text(alphabet="ab/~%ä ", min_size=1, max_size=12), st.sampled_from([None, "f", "a/b"]))
def test_a_subject_comes_back_out_of_a_path(subject: str, feature: str | None) -> None:
    if not subject.strip("/"):
        with pytest.raises(SubjectInvalid):
            message_path("outbox", subject, feature)
    else:
        assert subject_of(message_path("outbox", subject, feature)) == subject
