"""The MQTT codec: round trips, any cutting of the stream, and nothing but a clean refusal of anything else."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_adapters.broker import properties as p
from skerry_adapters.broker.codec import Decoder, encode
from skerry_adapters.broker.packets import (
    V5,
    V311,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Filter,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Reason,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=20)
blobs = st.binary(max_size=40)
mids = st.integers(1, 65535)
bytes_ = st.integers(0, 255)

SHAPES: dict[str, st.SearchStrategy[Any]] = {
    "byte": st.integers(0, 1),
    "two": st.integers(1, 65535),
    "four": st.integers(1, 2**32 - 1),
    "varint": st.integers(1, 268_435_455),
    "text": texts,
    "binary": blobs,
    "pair": st.lists(st.tuples(texts, texts), min_size=1, max_size=3),
}


def properties(kind: int) -> st.SearchStrategy[dict[str, Any]]:
    """Any properties that a packet may carry."""
    choices = {name: SHAPES[shape] for name, shape in p.allowed(kind).items()}
    if kind == p.PUBLISH:
        choices["subscription_identifier"] = st.lists(SHAPES["varint"], min_size=1, max_size=3)
    return st.fixed_dictionaries({}, optional=choices)


def packets(version: int) -> st.SearchStrategy[Packet]:
    """Any packet of a version but CONNECT."""
    five = version == V5

    def props(kind: int) -> st.SearchStrategy[dict[str, Any]]:
        return properties(kind) if five else st.just({})

    def acks(kind: Any, number: int) -> st.SearchStrategy[Any]:
        return st.builds(kind, mids, bytes_, props(number)) if five else st.builds(kind, mids)

    options = st.booleans() if five else st.just(False)
    handling = st.integers(0, 2) if five else st.just(0)
    publishes = st.builds(
        lambda topic, payload, qos, retain, dup, mid, found: Publish(
            topic, payload, qos, retain, dup and qos > 0, mid if qos else 0, found or None
        ),
        names,
        blobs,
        st.integers(0, 2),
        st.booleans(),
        st.booleans(),
        mids,
        props(p.PUBLISH),
    )
    ways = [
        publishes,
        acks(Puback, p.PUBACK),
        acks(Pubrec, p.PUBREC),
        acks(Pubrel, p.PUBREL),
        acks(Pubcomp, p.PUBCOMP),
        st.builds(Connack, st.booleans(), bytes_, props(p.CONNACK)),
        st.builds(
            Subscribe,
            mids,
            st.lists(
                st.builds(Filter, texts, st.integers(0, 2), options, options, handling), min_size=1, max_size=4
            ).map(tuple),
            props(p.SUBSCRIBE),
        ),
        st.builds(Suback, mids, st.lists(bytes_, max_size=4).map(tuple), props(p.SUBACK)),
        st.builds(Unsubscribe, mids, st.lists(texts, min_size=1, max_size=4).map(tuple), props(p.UNSUBSCRIBE)),
        st.builds(Unsuback, mids, st.lists(bytes_, max_size=4).map(tuple) if five else st.just(()), props(p.UNSUBACK)),
        st.just(Pingreq()),
        st.just(Pingresp()),
        st.builds(Disconnect, bytes_, props(p.DISCONNECT)) if five else st.just(Disconnect()),
    ]
    if five:
        ways.append(st.builds(Auth, bytes_, props(p.AUTH)))
    return st.one_of(ways)


@st.composite
def connects(draw: st.DrawFn) -> Connect:
    version = draw(st.sampled_from([V311, V5]))
    five = version == V5
    will = None
    if draw(st.booleans()):
        found = draw(properties(p.WILL)) if five else {}
        will = Will(draw(names), draw(blobs), draw(st.integers(0, 2)), draw(st.booleans()), found)
    user = draw(st.none() | texts)
    password = draw(st.none() | blobs) if user is not None or five else None
    found = draw(properties(p.CONNECT)) if five else {}
    return Connect(draw(texts), version, draw(st.booleans()), draw(st.integers(0, 65535)), user, password, will, found)


streams = st.sampled_from([V311, V5]).flatmap(lambda v: st.tuples(st.just(v), st.lists(packets(v), max_size=8)))


@given(streams, st.lists(st.integers(1, 30), min_size=1))
def test_packets_survive_any_cutting_of_the_stream(stream: tuple[int, list[Packet]], cuts: list[int]) -> None:
    version, sent = stream
    data = b"".join(encode(packet, version) for packet in sent)
    decoder = Decoder(version=version)
    found: list[Packet] = []
    position = turn = 0
    while position < len(data):
        step = cuts[turn % len(cuts)]
        found += decoder.feed(data[position : position + step])
        position, turn = position + step, turn + 1
    assert decoder.violation is None
    assert found == sent


@given(connects())
def test_connect_survives_the_round_trip_and_sets_the_version(connect: Connect) -> None:
    decoder = Decoder()
    assert decoder.feed(encode(connect, connect.version)) == [connect]
    assert decoder.version == connect.version


@settings(max_examples=500)
@given(st.sampled_from([None, V311, V5]), st.lists(st.binary(max_size=200), max_size=4))
def test_noise_is_refused_cleanly_or_waited_for(version: int | None, chunks: list[bytes]) -> None:
    decoder = Decoder(version=version)
    for chunk in chunks:
        decoder.feed(chunk)
    if decoder.violation is not None:
        assert decoder.violation.reason >= Reason.MALFORMED
        assert decoder.feed(b"\xc0\x00") == []


@settings(max_examples=500)
@given(streams.filter(lambda s: bool(s[1])), st.integers(0), bytes_)
def test_a_changed_byte_gives_packets_or_a_clean_refusal(
    stream: tuple[int, list[Packet]], where: int, value: int
) -> None:
    version, sent = stream
    data = bytearray(b"".join(encode(packet, version) for packet in sent))
    data[where % len(data)] = value
    decoder = Decoder(version=version)
    for packet in decoder.feed(bytes(data)):
        assert Decoder(version=version).feed(encode(packet, version)) == [packet]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xc0\x00", Reason.PROTOCOL_ERROR),
        (b"\x10\x10\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x02ab", Reason.UNSUPPORTED_VERSION),
        (b"\x10\x0c\x00\x04MQTT\x09\x02\x00\x3c\x00\x00", Reason.UNSUPPORTED_VERSION),
        (b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x3c\x00\x00", Reason.MALFORMED),
        (b"\x10\x0c\x00\x04MQTT\x04\x42\x00\x3c\x00\x00", Reason.MALFORMED),
        (b"GET / HTTP/1.1\r\n\r\n", Reason.PROTOCOL_ERROR),
        (b"\x10\xff\xff\xff\xff\x01", Reason.MALFORMED),
    ],
)
def test_a_wrong_first_packet_is_refused_with_its_reason(data: bytes, reason: Reason) -> None:
    decoder = Decoder()
    decoder.feed(data + bytes(100))
    assert decoder.violation is not None
    assert decoder.violation.reason is reason


@pytest.mark.parametrize(
    ("version", "data", "reason"),
    [
        (V311, b"\x36\x05\x00\x01a\x00\x01", Reason.MALFORMED),
        (V311, b"\x38\x03\x00\x01a", Reason.MALFORMED),
        (V311, b"\x32\x05\x00\x01a\x00\x00", Reason.PROTOCOL_ERROR),
        (V311, b"\x30\x03\x00\x01#", Reason.TOPIC_NAME_INVALID),
        (V311, b"\x30\x02\x00\x00", Reason.TOPIC_NAME_INVALID),
        (V311, b"\x30\x04\x00\x02\xc3\x28", Reason.MALFORMED),
        (V311, b"\x30\x04\x00\x02a\x00", Reason.MALFORMED),
        (V311, b"\x30\x01\x00", Reason.MALFORMED),
        (V311, b"\x80\x06\x00\x01\x00\x01a\x00", Reason.MALFORMED),
        (V311, b"\x82\x02\x00\x01", Reason.PROTOCOL_ERROR),
        (V311, b"\x82\x06\x00\x01\x00\x01a\x03", Reason.MALFORMED),
        (V311, b"\x00\x00", Reason.MALFORMED),
        (V311, b"\xf0\x00", Reason.MALFORMED),
        (V5, b"\x30\x03\x00\x00\x00", Reason.PROTOCOL_ERROR),
        (V5, b"\x30\x06\x00\x01a\x02\x01\x02", Reason.PROTOCOL_ERROR),
        (V5, b"\x30\x07\x00\x01a\x03\x23\x00\x00", Reason.PROTOCOL_ERROR),
        (V5, b"\x30\x08\x00\x01a\x04\x01\x00\x01\x00", Reason.PROTOCOL_ERROR),
        (V5, b"\x30\x06\x00\x01a\x02\x24\x00", Reason.MALFORMED),
        (V5, b"\x30\x05\x00\x01a\x7f\x00", Reason.MALFORMED),
        (V5, b"\x40\x01\x00", Reason.MALFORMED),
    ],
)
def test_a_broken_packet_is_refused_with_its_reason(version: int, data: bytes, reason: Reason) -> None:
    decoder = Decoder(version=version)
    assert decoder.feed(b"\xc0\x00" + data) == [Pingreq()]
    assert decoder.violation is not None
    assert decoder.violation.reason is reason


def test_a_packet_over_the_limit_is_refused_before_it_has_come() -> None:
    decoder = Decoder(limit=1000, version=V5)
    assert decoder.feed(b"\x30\xe9\x07") == []
    assert decoder.violation is not None
    assert decoder.violation.reason is Reason.PACKET_TOO_LARGE


def test_a_large_packet_in_tiny_pieces_costs_little() -> None:
    data = encode(Publish("a", bytes(500_000)), V5)
    decoder = Decoder(version=V5)
    start = time.perf_counter()
    found = [packet for byte in data for packet in decoder.feed(bytes((byte,)))]
    assert time.perf_counter() - start < 5
    assert found == [Publish("a", bytes(500_000))]


@pytest.mark.parametrize("version", [V311, V5])
def test_topics_are_known_to_all_connections_but_for_long_ones_and_none(version: int) -> None:
    topics: dict[bytes, str] = {}
    for _ in range(2):
        decoder = Decoder(version=version, topics=topics)
        for topic in ("a/b", "c" * 97, "ä"):
            assert decoder.feed(encode(Publish(topic, b"1"), version)) == [Publish(topic, b"1")]
    assert topics == {b"a/b": "a/b"}
    Decoder(version=V5, topics=topics).feed(encode(Publish("", b"1", properties={"topic_alias": 1}), V5))
    assert topics == {b"a/b": "a/b"}
    nameless = Decoder(version=V311, topics=topics)
    assert nameless.feed(encode(Publish("", b"1"), V311)) == []
    assert nameless.violation is not None


def test_only_so_many_topics_are_known() -> None:
    topics: dict[bytes, str] = {}
    decoder = Decoder(version=V311, topics=topics)
    decoder.feed(b"".join(encode(Publish(f"t/{number}", b""), V311) for number in range(140_000)))
    assert len(topics) == 140_000 - 131_072


def test_publishes_are_parsed_faster_than_devices_send_them() -> None:
    data = b"".join(
        encode(Publish(f"telemetry/demo/T{i % 100}/scada", bytes(150), 1, mid=i + 1), V5) for i in range(20_000)
    )
    decoder = Decoder(version=V5)
    start = time.perf_counter()
    assert len(decoder.feed(data)) == 20_000
    assert 20_000 / (time.perf_counter() - start) > 40_000
