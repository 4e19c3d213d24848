"""What the client of an external broker acknowledges, packet by packet, against a broker that says what the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

from broker_dialog import Dialog
from skerry_adapters.broker.codec import Decoder, encode
from skerry_adapters.broker.packets import (
    V5,
    Connack,
    Connect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
)
from skerry_adapters.inbound import Inbound
from skerry_adapters.mqtt import Address, MqttClient
from skerry_adapters.sources import DEFAULT_SOURCES


class Script(Dialog):
    """The broker's side of one connection: it encodes what a server says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer, V5)
        self._decoder = Decoder()

    def send(self, *packets: Packet) -> None:
        self.writer.write(b"".join(encode(packet, V5) for packet in packets))


class Held:
    """A Take of which each call waits until it is let go."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[bytes], asyncio.Event]] = []
        self.more = asyncio.Condition()

    async def take(self, messages: Sequence[Inbound]) -> None:
        gate = asyncio.Event()
        async with self.more:
            self.calls.append(([message.payload for message in messages], gate))
            self.more.notify_all()
        await gate.wait()

    async def reach(self, number: int) -> None:
        """Until so many calls have begun."""
        async with asyncio.timeout(5), self.more:
            await self.more.wait_for(lambda: len(self.calls) >= number)


@asynccontextmanager
async def scripted(held: Held) -> AsyncIterator[Script]:
    """A client that has connected and subscribed, and the broker's side of its connection."""
    accepted: asyncio.Queue[Script] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accepted.put(Script(reader, writer))

    ticks = count(1)
    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        address = Address.read(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with MqttClient(address, DEFAULT_SOURCES, held.take, lambda: next(ticks), lambda: 0.0):
            script = await asyncio.wait_for(accepted.get(), 5)
            await script.expect(Connect)
            script.send(Connack(False, 0))
            subscribe = await script.expect(Subscribe)
            script.send(Suback(subscribe.mid, tuple(wish.qos for wish in subscribe.filters)))
            yield script
            for _, gate in held.calls:
                gate.set()
        await script.close()


async def test_acknowledgements_keep_their_order_when_a_later_batch_is_done_first() -> None:
    held = Held()
    async with scripted(held) as script:
        for number in (1, 2, 3):
            script.send(Publish("telemetry/x/t/f", b"%d" % number, 1, mid=number))
            await held.reach(number)
        held.calls[2][1].set()
        held.calls[1][1].set()
        await script.silent()
        held.calls[0][1].set()
        assert [(await script.expect(Puback)).mid for _ in range(3)] == [1, 2, 3]


async def test_a_qos_2_message_that_comes_again_before_its_release_is_not_taken_again() -> None:
    held = Held()
    async with scripted(held) as script:
        first = Publish("telemetry/x/t/f", b"1", 2, mid=9)
        again = Publish("telemetry/x/t/f", b"1", 2, dup=True, mid=9)
        script.send(first)
        await held.reach(1)
        await script.silent()
        held.calls[0][1].set()
        assert (await script.expect(Pubrec)).mid == 9
        script.send(again)
        assert (await script.expect(Pubrec)).mid == 9
        script.send(Pubrel(9))
        assert (await script.expect(Pubcomp)).mid == 9
        assert len(held.calls) == 1
        script.send(Publish("telemetry/x/t/f", b"2", 2, mid=9))
        await held.reach(2)
        held.calls[1][1].set()
        assert (await script.expect(Pubrec)).mid == 9
    assert [payloads for payloads, _ in held.calls] == [[b"1"], [b"2"]]
