"""The Ditto Protocol: envelopes in and out."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from skerry import protocol, things, times, topics
from skerry.errors import SkerryError
from skerry.signals import Command, Event, Held, Response

GOLDEN = json.loads((Path(__file__).parent / "golden" / "envelopes.json").read_text())
NOW = 1_767_225_600_000_000
SUBJECTS = ("nginx:ditto",)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_an_envelope_comes_to_the_response_and_event_of_the_golden_case(case):
    before = NOW - 1_000_000
    held = Held(kind="thing", id="ns:t1", revision=6, created=before, modified=before, document=case["held"])
    if case["held"] is None:
        held = Held(kind="thing", id="ns:t1", revision=6)
    event = None
    try:
        command = protocol.command_from(msgspec.json.encode(case["envelope"]), SUBJECTS)
        if command.verb == "retrieve":
            response = things.retrieve(held, held.document, command)
        else:
            decision = things.decide(held, command, NOW, 100_000)
            response, event = decision.response, decision.event
        answer = protocol.response_envelope(command, response)
    except SkerryError as error:
        headers = protocol.headers_from(case["envelope"].get("headers"))
        answer = protocol.error_envelope(error, case["envelope"].get("topic"), headers)
        answer["value"] = {"status": error.status, "error": error.code}
    assert answer == case["response"]
    assert (None if event is None else protocol.event_envelope(event)) == case.get("event")


segments = st.text(st.sampled_from("ab~Ж:"), min_size=1, max_size=3)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("xy", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(segments, inner, max_size=2),
    max_leaves=5,
)
part_paths = st.one_of(
    st.just(()),
    st.lists(segments, max_size=3).map(lambda rest: ("attributes", *rest)),
    st.tuples(st.just("features"), segments),
    st.lists(segments, max_size=2).map(lambda rest: ("features", "f", "properties", *rest)),
)
events = st.builds(
    Event,
    kind=st.just("thing"),
    id=st.sampled_from(["ns:t1", ":t", "a.b:c:d", "x:Ж"]),
    action=st.sampled_from(["created", "modified", "merged"]),
    revision=st.integers(1, 10**9),
    timestamp=st.integers(0, 2 * 10**15),
    path=part_paths,
    value=json_values,
    headers=st.sampled_from(
        [{}, {"correlation-id": "c"}, {"device": "x", "requested-acks": '["my:label"]', "ditto-originator": "nginx:u"}]
    ),
    observed=st.none() | st.integers(0, 2 * 10**15),
    metadata=st.just(UNSET) | st.just({"a": 1}) | st.none(),
)


@given(events)
def test_an_envelope_says_all_of_its_event(event):
    envelope = protocol.event_envelope(event)
    topic = topics.parse(envelope["topic"])
    assert (topic.id, topic.criterion, topic.action) == (event.id, "events", event.action)
    assert protocol.path_from(envelope["path"], event.kind) == event.path
    assert envelope.get("value", UNSET) == event.value
    assert (envelope["revision"], times.parse(envelope["timestamp"])) == (event.revision, event.timestamp)
    told = protocol.headers_from(envelope["headers"])
    assert {title: told.get(title) for title in event.headers if not title.startswith("ditto-")} == {
        title: text for title, text in event.headers.items() if not title.startswith("ditto-")
    }


def test_what_was_late_is_told_to_nobody():
    event = Event(
        kind="thing",
        id="ns:t1",
        action="merged",
        revision=3,
        timestamp=NOW,
        path=("features", "f"),
        late={"properties": {"a": 1}},
        observed=5,
        digest=7,
    )
    envelope = protocol.event_envelope(event)
    assert envelope["value"] == {}
    assert "late" not in str(envelope)
    assert "digest" not in str(envelope)


@given(st.sampled_from(["create", "modify", "merge", "delete", "retrieve"]), part_paths, json_values)
def test_a_command_comes_back_from_its_envelope(verb, path, value):
    envelope = {
        "topic": f"ns/t1/things/twin/commands/{verb}",
        "path": protocol.write_path(path, "thing"),
        "value": value,
    }
    command = protocol.command_from(msgspec.json.encode(envelope), SUBJECTS)
    assert (command.verb, command.id, command.path, command.value, command.headers) == (verb, "ns:t1", path, value, {})
    assert (command.kind, command.subjects, command.topic) == ("thing", SUBJECTS, envelope["topic"])


def test_headers_are_text_by_lower_case_name_and_ours_cannot_be_set():
    given_headers = {
        "Correlation-ID": "c",
        "response-required": False,
        "requested-acks": ["a:b:c"],
        "Timeout": 5,
        "ditto-sudo": True,
        "Ditto-Originator": "x",
        "none": None,
    }
    assert protocol.headers_from(given_headers) == {
        "correlation-id": "c",
        "response-required": "false",
        "requested-acks": '["a:b:c"]',
        "timeout": "5",
    }
    assert protocol.headers_from(None) == {}


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        (b"", "json.format.invalid"),
        (b"nonsense", "json.invalid"),
        (b'{"topic":"\xff"}', "json.invalid"),
        (b"[" * 5_000, "json.invalid"),
        (b'{"topic":1e999}', "json.invalid"),
        (b"[]", "json.invalid"),
        ({}, "json.field.missing"),
        ({"topic": 5}, "json.invalid"),
        ({"topic": "ns/t1/things/twin/commands/modify", "value": 1}, "json.field.missing"),
        ({"topic": "ns/t1/things/twin/commands/modify", "path": "/"}, "json.field.missing"),
        (
            {"topic": "ns/t1/things/twin/commands/modify", "path": "/attributes//a", "value": 1},
            "json.pointer.invalid",
        ),
        (
            {"topic": "ns/t1/things/twin/commands/modify", "path": "/nothing", "value": 1},
            "protocoladapter:unknown.path",
        ),
        ({"topic": "ns/t1/things/twin/commands/nothing", "path": "/", "value": 1}, "protocoladapter:unknown.topicpath"),
        ({"topic": "ns/t1/policies/commands/migrate", "path": "/", "value": 1}, "protocoladapter:unknown.command"),
        ({"topic": "ns/t1/things/live/commands/modify", "path": "/", "value": 1}, "protocoladapter:unknown.channel"),
        ({"topic": "ns/t1/things/dead/commands/modify", "path": "/", "value": 1}, "protocoladapter:unknown.topicpath"),
        ({"topic": "ns/t1/things/twin/events/modified", "path": "/", "value": 1}, "protocoladapter:unknown.signal"),
        ({"topic": "ns/t1/things/twin/nothing", "path": "/", "value": 1}, "protocoladapter:unknown.topicpath"),
        ({"topic": "ns/t1", "path": "/", "value": 1}, "protocoladapter:unknown.topicpath"),
        (
            {"topic": "_/_/things/twin/commands/retrieve", "path": "/", "value": {"thingIds": []}},
            "protocoladapter:unknown.topicpath",
        ),
        ({"topic": "1/t1/things/twin/commands/modify", "path": "/", "value": 1}, "things:id.invalid"),
        ({"topic": "1/t1/policies/commands/modify", "path": "/", "value": 1}, "policies:id.invalid"),
        ({"topic": "ns/t1/things/twin/commands/modify", "path": "/", "value": 1, "headers": []}, "json.invalid"),
        (
            {"topic": "ns/t1/things/twin/commands/modify", "path": "/", "value": 1, "headers": {"correlation-id": ""}},
            "header.invalid",
        ),
        (
            {"topic": "ns/t1/things/twin/commands/modify", "path": "/", "value": 1, "headers": {"a": "x" * 5_000}},
            "headers.too.large",
        ),
    ],
)
def test_what_is_no_command_is_refused(envelope, code):
    with pytest.raises(SkerryError) as error:
        protocol.command_from(envelope, SUBJECTS)
    assert error.value.code == code


def test_a_placeholder_stands_for_the_id_in_the_value():
    envelope = {"topic": "_/_/things/twin/commands/create", "path": "/", "value": {"thingId": "ns:t9"}}
    assert protocol.command_from(envelope, ()).id == "ns:t9"


def test_policies_have_no_channel_and_resources_keep_their_slashes():
    envelope = {
        "topic": "ns/p1/policies/commands/modify",
        "path": "/entries/L/resources/thing:/features/x",
        "value": {},
    }
    command = protocol.command_from(envelope, SUBJECTS)
    assert (command.kind, command.id, command.path) == (
        "policy",
        "ns:p1",
        ("entries", "L", "resources", "thing:/features/x"),
    )
    answer = protocol.response_envelope(command, Response(status=204))
    assert (answer["topic"], answer["path"]) == (envelope["topic"], envelope["path"])


def test_a_response_without_a_topic_of_its_own_gets_the_usual_one():
    command = Command(verb="modify", id=":t1", subjects=(), path=("attributes",))
    assert protocol.response_envelope(command, Response(status=204))["topic"] == "/t1/things/twin/commands/modify"


@pytest.mark.parametrize(
    ("topic", "about"),
    [
        (None, "unknown/unknown/things/twin/errors"),
        ("nonsense", "unknown/unknown/things/twin/errors"),
        ("ns/t1/things/live/messages/a/b", "ns/t1/things/live/errors"),
        ("ns/p1/policies/commands/modify", "ns/p1/policies/errors"),
    ],
)
def test_errors_are_about_the_entity_of_the_topic(topic, about):
    envelope = protocol.error_envelope(
        things.ThingNotAccessible(thing_id="a:b", headers={"etag": '"x"'}),
        topic,
        {"correlation-id": "c", "if-match": "*"},
    )
    assert (envelope["topic"], envelope["path"], envelope["status"]) == (about, "/", 404)
    assert envelope["headers"] == {
        "correlation-id": "c",
        "etag": '"x"',
        "content-type": "application/json",
        "response-required": False,
        **({"channel": "live"} if "/live/" in (topic or "") else {}),
    }
    assert envelope["value"]["error"] == "things:thing.notfound"


@pytest.mark.parametrize(
    "text",
    [
        "ns/t1/things/twin/commands/modify",
        "/t1/things/twin/events/merged",
        "_/_/things/twin/commands/retrieve",
        "ns/_/things/twin/commands/retrieve",
        "ns/n/things/live/messages/a/b/c",
        "ns/n/things/twin/acks/my:label",
        "ns/n/things/twin/acks",
        "ns/n/things/twin/errors",
        "_/_/things/twin/search/subscribe",
        "ns/n/things/twin/streaming/subscribeForPersistedEvents",
        "ns/pol/policies/announcements/subjectDeletion",
        "_/_/policies/commands/checkPermissions",
        "_/c1/connections/announcements/opened",
    ],
)
def test_topics_are_taken_apart_and_put_together(text):
    assert topics.write(topics.parse(text)) == text


def test_an_event_s_topic_needs_a_known_action():
    with pytest.raises(topics.TopicUnknown):
        topics.parse("ns/n/things/twin/events/changed")


def test_acks_come_back_from_their_envelopes():
    for ack in (
        protocol.Ack(id="ns:t1", label="my:label", status=200, value={"a": 1}, headers={"correlation-id": "c"}),
        protocol.Ack(id="ns:t1", status=424, value={"my:label": {"status": 408}}),
        protocol.Ack(id="ns:t1", label="my:label", status=204),
    ):
        assert protocol.ack_from(msgspec.json.encode(protocol.ack_envelope(ack))) == ack


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        ({"topic": "ns/t1/things/twin/acks/abc", "path": "/"}, "json.field.missing"),
        ({"topic": "ns/t1/things/twin/acks/a", "path": "/", "status": 200}, "acknowledgement:label.invalid"),
        ({"topic": "ns/t1/things/twin/commands/modify", "path": "/", "status": 200}, "protocoladapter:unknown.signal"),
    ],
)
def test_what_is_no_ack_is_refused(envelope, code):
    with pytest.raises(SkerryError) as error:
        protocol.ack_from(envelope)
    assert error.value.code == code


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["*", "*/k", "//", '["a"]', "rev:1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["properties", "features", "{{ ~a*~ }}", "policyId"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
names = st.sampled_from(
    [
        "if-match",
        "if-equal",
        "put-metadata",
        "get-metadata",
        "delete-metadata",
        "fields",
        "requested-acks",
        "timeout",
        "x",
    ]
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["create", "modify", "merge", "delete", "retrieve"]),
    st.lists(
        st.sampled_from(["attributes", "features", "properties", "definition", "a", "", "~", "*"]), max_size=5
    ).map("/".join),
    anything,
    st.dictionaries(names, anything, max_size=3),
)
def test_whatever_comes_is_answered_or_refused(verb, path, value, headers):
    held = Held(
        kind="thing",
        id="ns:t1",
        revision=1,
        document={
            "thingId": "ns:t1",
            "policyId": "ns:t1",
            "attributes": {"a": {"a": 1}},
            "features": {"a": {"properties": {"a": 1}}},
        },
    )
    envelope = {"topic": f"ns/t1/things/twin/commands/{verb}", "path": f"/{path}", "value": value, "headers": headers}
    try:
        command = protocol.command_from(envelope, SUBJECTS)
        if verb == "retrieve":
            protocol.response_envelope(command, things.retrieve(held, held.document, command))
            return
        decision = things.decide(held, command, NOW, 100_000)
        things.apply(held, decision.event)
        protocol.response_envelope(command, decision.response)
        protocol.event_envelope(decision.event)
    except SkerryError as error:
        assert error.status < 500  # noqa: PT017 - many of them succeed
        texts = {
            name: text if isinstance(text, str) else msgspec.json.encode(text).decode()
            for name, text in headers.items()
        }
        protocol.error_envelope(error, envelope["topic"], texts)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"path": "/attributes" + "/a" * 20_000, "value": 1}, "json.invalid"),
        (
            {"path": "/attributes", "value": {}, "headers": {"put-metadata": [{"key": "/a" * 1_000, "value": 1}]}},
            "things:metadata.notmodifiable",
        ),
        ({"path": "/", "fields": "a/" * 20_000 + "a"}, "json.fieldselector.invalid"),
        ({"path": "/", "fields": "a(" * 90 + "b/c/d/e/f/g/h/i/j/k/l/m" + ")" * 90}, "json.fieldselector.invalid"),
    ],
)
def test_depth_is_bounded_wherever_it_may_come_from(change, code):
    held = Held(kind="thing", id="ns:t1", revision=1, document={"thingId": "ns:t1", "policyId": "ns:t1"})
    verb = "modify" if "value" in change else "retrieve"
    with pytest.raises(SkerryError) as error:  # noqa: PT012 - in either place
        command = protocol.command_from({"topic": f"ns/t1/things/twin/commands/{verb}", **change}, SUBJECTS)
        if verb == "modify":
            things.decide(held, command, NOW, 100_000)
        else:
            things.retrieve(held, held.document, command)
    assert error.value.code == code
    assert len(error.value.text) < 500


def test_metadata_has_the_limit_of_a_thing():
    held = Held(kind="thing", id="ns:t1", revision=1, document={"thingId": "ns:t1", "policyId": "ns:t1"})
    envelope = {
        "topic": "ns/t1/things/twin/commands/modify",
        "path": "/attributes",
        "value": {"a": 1},
        "headers": {"put-metadata": [{"key": "*/k", "value": "x" * 300}]},
    }
    with pytest.raises(things.ThingTooLarge):
        things.decide(held, protocol.command_from(envelope, SUBJECTS), NOW, 200)


def test_headers_that_only_the_server_says_are_dropped_from_commands():
    said = {
        "ditto-originator": "nginx:root",
        "Ditto-Sudo": "true",
        "skerry-observed": "2000-01-01T00:00:00Z",
        "ETag": '"rev:1"',
        "entity-revision": 9,
        "mine": "stays",
    }
    envelope = {"topic": "a/b/things/twin/commands/modify", "headers": said, "path": "/attributes/a", "value": 1}
    assert protocol.command_from(envelope, ("nginx:ditto",)).headers == {"mine": "stays"}
