"""Ditto's headers."""

from __future__ import annotations

import pytest

from skerry import headers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, 10.0), ("5", 5.0), ("0", 0.0), ("500ms", 0.5), ("10s", 10.0), ("1m", 60.0), ("60", 60.0), (" 7s ", 7.0)],
)
def test_timeouts_read_as_seconds(text, seconds):
    assert headers.timeout(text, 10.0) == seconds


@pytest.mark.parametrize("text", ["abc", "-1", "", "1h", "1.5", "5 s", "٣", "1e3"])
def test_what_is_no_timeout_is_refused(text):
    with pytest.raises(headers.TimeoutInvalid) as error:
        headers.timeout(text, 10.0)
    assert error.value.code == "timeout.invalid"


@pytest.mark.parametrize(("name", "value"), [("channel", "both"), ("live-channel-timeout-strategy", "wait")])
def test_a_header_of_few_words_says_one_of_them(name, value):
    headers.check_types({"channel": " Twin", "live-channel-timeout-strategy": "use-twin"})
    with pytest.raises(headers.HeaderInvalid):
        headers.check_types({name: value})


@pytest.mark.parametrize("text", ["61", "2m", "60001ms", "999999999m"])
def test_a_long_timeout_is_refused(text):
    with pytest.raises(headers.TimeoutTooLong) as error:
        headers.timeout(text, 10.0)
    assert error.value.code == "gateway:timeout.invalid"


def test_booleans_are_true_or_false():
    assert headers.response_required({})
    assert not headers.response_required({"response-required": "False"})
    with pytest.raises(headers.HeaderInvalid):
        headers.response_required({"response-required": "yes"})


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (None, ()),
        ("", ()),
        ("[]", ()),
        ("twin-persisted", ("twin-persisted",)),
        ("twin-persisted, my:label,twin-persisted", ("twin-persisted", "my:label")),
        ('["twin-persisted","search-persisted"]', ("twin-persisted", "search-persisted")),
    ],
)
def test_requested_acks_are_a_list_or_an_array(text, labels):
    assert headers.requested_acks(text) == labels


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("ab", headers.HeaderInvalid),
        ("a b c", headers.HeaderInvalid),
        ("x" * 101, headers.HeaderInvalid),
        ("abc,", headers.HeaderInvalid),
        ("[1]", headers.HeaderInvalid),
        ("[", headers.HeaderInvalid),
    ],
)
def test_bad_labels_are_refused(text, row):
    with pytest.raises(row):
        headers.requested_acks(text)


def test_headers_have_a_limit_together():
    headers.check_size({"a": "x" * 4_999})
    with pytest.raises(headers.HeadersTooLarge) as error:
        headers.check_size({"a": "x" * 5_000})
    assert error.value.status == 431


@pytest.mark.parametrize("name", sorted(headers.UNSUPPORTED))
def test_a_header_that_would_change_the_meaning_is_never_passed_over(name):
    with pytest.raises(headers.HeaderNotSupported) as error:
        headers.check_supported({name: "x", "correlation-id": "1"}, "retrieve")
    assert (error.value.code, error.value.status) == ("header.notsupported", 400)


def test_a_live_condition_is_not_for_changes_and_the_live_channel_is_not_there():
    with pytest.raises(headers.LiveConditionNotAllowed) as error:
        headers.check_supported({"live-channel-condition": "eq(a,1)"}, "modify")
    assert error.value.status == 405
    with pytest.raises(headers.HeaderNotSupported):
        headers.check_supported({"channel": "live"}, "modify")
    headers.check_supported({"channel": "twin", "if-match": "*"}, "modify")


def test_foreign_headers_travel_to_events_and_responses_and_our_own_end_with_the_command():
    given = {
        "correlation-id": "c",
        "device": "x",
        "if-match": "*",
        "timeout": "5",
        "response-required": "false",
        "ditto-sudo": "1",
        "authorization": "s",
        "put-metadata": "[]",
        "condition": "x",
        "requested-acks": "abc",
        "reply-to": "t",
    }
    assert headers.for_event(given) == {
        "correlation-id": "c",
        "device": "x",
        "timeout": "5",
        "requested-acks": "abc",
        "reply-to": "t",
    }
    assert headers.for_response(given) == {
        "correlation-id": "c",
        "device": "x",
        "timeout": "5",
        "response-required": "false",
        "requested-acks": "abc",
        "reply-to": "t",
    }
