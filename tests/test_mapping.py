"""From messages to commands."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.errors import SkerryError
from skerry.signals import Command, Micros
from skerry_adapters.inbound import Inbound
from skerry_adapters.mapping import EnvelopeElsewhere, _Telemetry, compile_source
from skerry_adapters.sources import DEFAULT_SOURCES, Source

NOW: Micros = 1_795_000_000_000_000
TELEMETRY = DEFAULT_SOURCES[1]


def message(payload: object, topic: str = "telemetry/demo/T01/scada", **fields: Any) -> Inbound:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Inbound(topic=topic, payload=body, **{"qos": 1, "mid": 7, **fields})


def command(payload: object, source: Source = TELEMETRY, **fields: Any) -> Command:
    return compile_source(source, 256_000)(message(payload, **fields), NOW)


def refusal(payload: object, source: Source = TELEMETRY, **fields: Any) -> SkerryError:
    with pytest.raises(SkerryError) as caught:
        command(payload, source, **fields)
    assert caught.value.status < 500
    return caught.value


def test_telemetry_merges_its_values_into_the_feature_at_its_own_time() -> None:
    made = command({"ts": 1_700_000_000_123, "power": 2150.3, "wind": 9.8})
    assert (made.verb, made.id, made.path) == ("merge", "demo:T01", ("features", "scada"))
    assert made.value == {"properties": {"power": 2150.3, "wind": 9.8}}
    assert made.observed == 1_700_000_000_123_000
    assert made.subjects == ("nginx:ditto",)
    assert made.digest is not None
    assert -(2**63) <= made.digest < 2**63


@pytest.mark.parametrize(
    ("stamp", "micros"),
    [
        ("2023-11-14T22:13:20Z", 1_700_000_000_000_000),
        ("2023-11-14T23:13:20.123456+01:00", 1_700_000_000_123_456),
        (1_700_000_000_000, 1_700_000_000_000_000),
        (1_700_000_000_000.5, 1_700_000_000_000_500),
        (0, 0),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_the_time_is_rfc_3339_or_milliseconds(stamp: object, micros: Micros) -> None:
    assert command({"ts": stamp, "a": 1}).observed == micros


@pytest.mark.parametrize(
    ("kind", "stamp", "micros"),
    [
        ("s", 1_700_000_000.25, 1_700_000_000_250_000),
        ("us", 17, 17),
        ("ms", 17, 17_000),
        ("rfc3339", "2023-11-14T22:13:20Z", 1_700_000_000_000_000),
    ],
)
def test_a_source_may_fix_the_unit_of_its_time(kind: Any, stamp: object, micros: Micros) -> None:
    source = Source(name="s", pattern="x/{n}", thing="x:{n}", feature="f", time_format=kind)
    assert command({"ts": stamp, "a": 1}, source, topic="x/1").observed == micros


@pytest.mark.parametrize(
    ("stamp", "said"),
    [
        ("yesterday", "not RFC 3339"),
        ("2023-11-14", "not RFC 3339"),
        ("2023-11-14T22:13:20", "not RFC 3339"),
        (True, "a boolean"),
        ([1], "an array"),
        (-1, "before 1970"),
        ("1969-12-31T23:59:59Z", "before 1970"),
        ("9999-01-01T00:00:00Z", "ahead of the server's clock"),
        (NOW // 1000 + 86_400_001, "ahead of the server's clock"),
        (10**30, "ahead of the server's clock"),
    ],
)
def test_an_absurd_time_is_refused(stamp: object, said: str) -> None:
    error = refusal({"ts": stamp, "a": 1})
    assert error.code == "mapping.time.invalid"
    assert said in str(error)


def test_a_time_a_day_ahead_is_accepted() -> None:
    assert command({"ts": NOW // 1000 + 86_400_000, "a": 1}).observed == NOW + 86_400_000_000


def test_without_a_time_the_command_has_none_and_the_delivery_is_the_mark() -> None:
    first, again, other = command({"a": 1}), command({"a": 1}, redelivered=True), command({"a": 1}, mid=8)
    assert first.observed is None
    assert first.digest == again.digest != other.digest
    assert (first.redelivered, again.redelivered) == (False, True)
    assert command({"a": 1}, qos=0, mid=0).digest is None
    assert command({"ts": None, "a": 1}).observed is None


@pytest.mark.parametrize(
    ("payload", "sender", "mark"),
    [
        ({"a": 1}, {}, 208578316775244756),
        ({"a": 1}, {"subjects": ("nginx:ada",), "client": "c1"}, -1723782014598947904),
        ({"a": 1}, {"subjects": ("nginx:ada", "x:b"), "client": "c1"}, 130024175976764416),
        (b'{"ts":1,"a":1,"b":[2]}', {}, -8227311439701041173),
    ],
)
def test_marks_are_the_same_after_an_update_of_the_server(payload: object, sender: dict[str, Any], mark: int) -> None:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    assert command(body, **sender).digest == mark


def test_names_are_looked_at_before_how_deep_values_are() -> None:
    inbound = compile_source(TELEMETRY, 256_000)
    deep: Any = 1
    for _ in range(70):
        deep = [deep]
    inbound(message({"a": 1, "b": [{"c": 1}]}), NOW)
    for payload, code in [
        ({"a": deep, "x/y": 1}, "mapping.key.invalid"),
        ({"a": deep, "b": 1}, "mapping.json.toodeep"),
        ({"a": 1, "new": deep}, "mapping.json.toodeep"),
    ]:
        with pytest.raises(SkerryError) as caught:
            inbound(message(payload), NOW)
        assert caught.value.code == code


def test_with_a_time_the_values_are_the_mark_whatever_the_delivery() -> None:
    one = command({"ts": 1, "a": 1, "b": 2})
    assert one.digest == command({"b": 2, "a": 1, "ts": "1970-01-01T00:00:00.001Z"}, mid=99, qos=0).digest
    assert one.digest != command({"ts": 1, "a": 1, "b": 3}).digest
    assert one.digest != command({"ts": 2, "a": 1, "b": 2}).digest
    assert one.digest != command({"ts": 1, "a": 1, "b": 2}, topic="telemetry/demo/T02/scada").digest


@pytest.mark.parametrize(
    ("payload", "code", "said"),
    [
        (b"", "mapping.json.malformed", "it is empty"),
        (b"{", "mapping.json.malformed", "truncated"),
        (b'{"a": 1,}', "mapping.json.malformed", "byte 8"),
        (b'{"a": NaN}', "mapping.json.malformed", "NaN or Infinity at byte 6"),
        (b'{"a": -Infinity}', "mapping.json.malformed", "NaN or Infinity at byte"),
        (b'{"a": 1e999}', "mapping.json.malformed", "out of range"),
        (b'{"a": "\xff"}', "mapping.json.malformed", "byte 7 (0xff) is not UTF-8"),
        (b'{"\xc3": 1}', "mapping.json.malformed", "not UTF-8"),
        (b"\x00\x01\x02", "mapping.json.malformed", "byte 0"),
        (b"[1]", "mapping.json.notobject", "an array"),
        (b"12", "mapping.json.notobject", "a number"),
        (b"null", "mapping.json.notobject", "null"),
        (b'{"ts": 1}', "mapping.json.notobject", "without values"),
        (b"{}", "mapping.json.notobject", "without values"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "mapping.json.toodeep", "deeper than 64"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "mapping.json.toodeep", "deeper than 64"),
        (b'{"a/b": 1}', "mapping.key.invalid", "'a/b'"),
        (b'{"": 1}', "mapping.key.invalid", "''"),
        (b'{"a\\u0000": 1}', "mapping.key.invalid", "control character"),
        (b'{"a": "' + b"x" * 256_000 + b'"}', "mapping.payload.toolarge", "256000 are allowed"),
    ],
)
def test_a_payload_that_is_no_set_of_values_is_refused_with_the_place(payload: bytes, code: str, said: str) -> None:
    error = refusal(payload)
    assert error.code == code
    assert said in str(error)
    assert set(error.payload()) >= {"status", "error", "message"}


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        ("telemetry/demo/T01", "mapping.topic.mismatch"),
        ("telemetry/demo//scada", "mapping.topic.mismatch"),
        ("telemetry/1demo/T01/scada", "things:id.invalid"),
    ],
)
def test_a_topic_that_names_no_feature_of_a_thing_is_refused(topic: str, code: str) -> None:
    assert refusal({"a": 1}, topic=topic).code == code


def test_a_null_member_is_kept_for_the_merge_to_delete() -> None:
    assert command({"a": None}).value == {"properties": {"a": None}}


def test_the_authenticated_device_acts_itself() -> None:
    assert command({"a": 1}, subjects=("nginx:t01",)).subjects == ("nginx:t01",)


def test_properties_can_be_picked_by_pointers() -> None:
    source = Source(
        name="s",
        pattern="x/{n}",
        thing="x:{n}",
        feature="scada",
        time="/head/time",
        time_format="s",
        properties={"power": "/body/p/0", "wind": "/body/w", "gone": "/body/gone"},
        constants={"unit": "kW"},
    )
    made = command({"head": {"time": 5}, "body": {"p": [7.5], "w": 3}}, source, topic="x/1")
    assert made.value == {"properties": {"unit": "kW", "power": 7.5, "wind": 3}}
    assert made.observed == 5_000_000


def test_the_values_may_stand_below_a_pointer() -> None:
    source = Source(name="s", pattern="x/{n}", thing="x:{n}", feature="f", values="/values")
    assert command({"ts": 1, "values": {"a": 1}}, source, topic="x/1").value == {"properties": {"a": 1}}
    assert refusal({"ts": 1, "values": 3}, source, topic="x/1").code == "mapping.json.notobject"
    assert refusal({"ts": 1}, source, topic="x/1").code == "mapping.json.notobject"


def test_ids_may_come_from_the_payload() -> None:
    source = Source(name="s", pattern="plant", thing="plant:{/unit}", feature="{/part}")
    made = command({"ts": 1, "unit": 7, "part": "gear", "temp": 61.5}, source, topic="plant")
    assert (made.id, made.path) == ("plant:7", ("features", "gear"))
    assert made.value == {"properties": {"temp": 61.5}}
    assert refusal({"part": "gear", "temp": 1}, source, topic="plant").code == "mapping.value.missing"


def test_a_source_may_do_without_a_time_of_its_own() -> None:
    source = Source(name="s", pattern="x/{n}", thing="x:{n}", feature="f", time="")
    made = command({"ts": 5, "a": 1}, source, topic="x/1")
    assert made.observed is None
    assert made.value == {"properties": {"ts": 5, "a": 1}}


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_whatever_arrives_is_mapped_or_refused(payload: bytes) -> None:
    for source, topic in zip(DEFAULT_SOURCES, ("ditto/x", "telemetry/demo/T01/scada", "e"), strict=True):
        with suppress(SkerryError):
            compile_source(source, 1000)(message(payload, topic=topic), NOW)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(lambda key: key != "ts"),
        st.none()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.integers(-(2**53), 2**53)
        | st.text(max_size=5),
        min_size=1,
    )
)
def test_what_is_sent_is_what_is_merged(values: dict[str, Any]) -> None:
    assert command({"ts": 1, **values}).value == {"properties": values}


def test_an_envelope_from_an_external_broker_speaks_of_the_thing_of_its_topic() -> None:
    source = DEFAULT_SOURCES[0]
    inbound = compile_source(source, 1_000)
    payload = b'{"topic":"x/T1/things/twin/commands/delete","path":"/"}'
    for topic in ("ditto/x/T1", "ditto/x/T1/more", "ditto/any", "ditto"):
        assert inbound(Inbound(topic=topic, payload=payload), NOW).id == "x:T1"
    with pytest.raises(EnvelopeElsewhere):
        inbound(Inbound(topic="ditto/x/T2", payload=payload), NOW)
    assert inbound(Inbound(topic="ditto/x/T2", payload=payload, subjects=("nginx:a",)), NOW).id == "x:T1"


def test_values_alone_on_a_topic_of_hono_are_told_where_to_go() -> None:
    error = refusal({"power": 1}, DEFAULT_SOURCES[2], topic="telemetry/demo/T01")
    assert error.code == "mapping.envelope.missing"
    assert "telemetry/<namespace>/<name>/<feature>" in error.text


def test_targets_of_short_topics_are_remembered_and_all_are_right() -> None:
    telemetry = _Telemetry(DEFAULT_SOURCES[1])
    for _ in range(2):
        for feature in ("f", "f" * 100):
            assert telemetry.target(f"telemetry/x/T1/{feature}", {}) == ("x:T1", ("features", feature))
    assert list(telemetry.targets) == ["telemetry/x/T1/f"]
    assert list(telemetry.paths) == ["f"]
