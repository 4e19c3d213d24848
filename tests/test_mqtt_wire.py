"""The socket under paho: messages to us, everything else to paho, however the bytes are cut."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_adapters.inbound import Inbound
from skerry_adapters.mqtt_wire import Wire, WireBroken


def packet(head: int, body: bytes) -> bytes:
    size, length = len(body), b""
    while True:
        size, digit = divmod(size, 128)
        length += bytes([digit | (128 if size else 0)])
        if not size:
            return bytes([head]) + length + body


def publish(message: Inbound, properties: bytes = b"") -> bytes:
    head = 0x30 | message.redelivered << 3 | message.qos << 1 | message.retained
    topic = message.topic.encode()
    mid = message.mid.to_bytes(2) if message.qos else b""
    return packet(head, len(topic).to_bytes(2) + topic + mid + properties + message.payload)


@contextmanager
def wired(*, properties: bool = False) -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    wire = Wire(ours, properties=properties)
    try:
        yield wire, theirs
    finally:
        wire.close()
        theirs.close()


def control(wire: Wire) -> bytes:
    found = b""
    while wire.for_paho and (data := wire.recv(7)):
        found += data
    return found


MESSAGES = st.builds(
    lambda topic, payload, qos, mid, flags: Inbound(
        topic=topic, payload=payload, qos=qos, mid=mid if qos else 0, redelivered=flags[0], retained=flags[1]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    st.binary(max_size=200),
    st.integers(0, 2),
    st.integers(1, 65_535),
    st.tuples(st.booleans(), st.booleans()),
)


@given(
    parts=st.lists(MESSAGES | st.integers(1, 65_535) | st.just(b"\xd0\x00"), max_size=12),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=8),
)
def test_packets_are_told_apart_wherever_the_bytes_are_cut(
    parts: Sequence[Inbound | int | bytes], cuts: Sequence[int]
) -> None:
    stream = b"".join(
        publish(part)
        if isinstance(part, Inbound)
        else part
        if isinstance(part, bytes)
        else packet(0x62, part.to_bytes(2))
        for part in parts
    )
    messages: list[Inbound] = []
    released: list[int] = []
    with wired() as (wire, theirs):
        at = turn = 0
        while at < len(stream):
            size = cuts[turn % len(cuts)]
            theirs.sendall(stream[at : at + size])
            got, freed = wire.read()
            messages += got
            released += freed
            at, turn = at + size, turn + 1
        assert control(wire) == b"".join(part for part in parts if isinstance(part, bytes))
    assert messages == [part for part in parts if isinstance(part, Inbound)]
    assert released == [part for part in parts if isinstance(part, int)]


def test_mqtt_5_properties_are_skipped_or_read() -> None:
    plain = Inbound(topic="a/b", payload=b"{}", qos=1, mid=5)
    with wired(properties=True) as (wire, theirs):
        theirs.sendall(publish(plain, b"\x00") + publish(plain, b"\x08" + b"\x08\x00\x01r\x09\x00\x01c"))
        (first, second), _ = wire.read()
    assert first == plain
    assert (second.payload, second.response_topic, second.correlation) == (b"{}", "r", b"c")


@pytest.mark.parametrize(
    "data",
    [b"\x30\xff\xff\xff\xff\xff", b"\x36\x06\x00\x01a\x00\x01x", b"\x32\x03\x00\x09a", b"\x32\x01a", b"\x32\x00"],
)
def test_what_is_not_mqtt_breaks_the_wire(data: bytes) -> None:
    with wired() as (wire, theirs):
        theirs.sendall(data)
        with pytest.raises((WireBroken, IndexError)):
            wire.read()


def test_the_end_of_the_connection_is_told_to_paho() -> None:
    with wired() as (wire, theirs):
        with pytest.raises(BlockingIOError):
            wire.recv(1)
        theirs.close()
        assert wire.read() == ([], [])
        assert wire.for_paho
        assert wire.recv(1) == b""


def test_what_does_not_fit_is_kept_until_there_is_room() -> None:
    watched: list[bool] = []
    with wired() as (wire, theirs):
        wire.watch_writable = watched.append
        data = bytes(range(256)) * 8192
        wire.write(data)
        assert watched == [True]
        wire.write(b"end")
        got = bytearray()
        while len(got) < len(data) + 3:
            got += theirs.recv(65_536)
            wire.flush()
        assert bytes(got) == data + b"end"
        assert watched == [True, False]
