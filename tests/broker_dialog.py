"""An embedded broker to test, and a client that speaks packet by packet, so that a test can say anything to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from skerry_adapters.broker import Broker, Login, Verdicts
from skerry_adapters.broker.codec import Decoder, encode
from skerry_adapters.broker.packets import (
    V5,
    Connack,
    Connect,
    Filter,
    Packet,
    Puback,
    Publish,
    Reason,
    Suback,
    Subscribe,
)
from skerry_adapters.downlink import Reading
from skerry_adapters.inbound import Inbound

Kind = TypeVar("Kind")


def clock() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


async def authenticate(name: str, password: str, _address: str) -> Login | None:
    """Everybody whose password is `secret`."""
    return Login(name, (f"nginx:{name}",)) if password == "secret" else None


class Asked:
    """Rights that are asked for each time: `may(subjects, "publish" | "subscribe" | "receive", topic)`."""

    def __init__(self, may: Callable[[tuple[str, ...], str, str], bool]) -> None:
        self.may = may

    def verdicts(self, login: Login) -> Verdicts:
        return Verdicts(login.subjects)

    def publish(self, verdicts: Verdicts, topic: str) -> Reason | None:
        if topic[:1] == "$":
            return Reason.TOPIC_NAME_INVALID
        return Reason.SUCCESS if self.may(verdicts.subjects, "publish", topic) else Reason.NOT_AUTHORIZED

    def subscribe(self, verdicts: Verdicts, pattern: str) -> bool | None:
        return self.may(verdicts.subjects, "subscribe", pattern)

    def receive(self, verdicts: Verdicts, topic: str) -> bool | None:
        return self.may(verdicts.subjects, "receive", topic)

    def reads(self, verdicts: Verdicts, reading: Reading) -> bool | None:
        return self.may(verdicts.subjects, "read", reading.thing_id)

    async def learn(self, topics: Iterable[str]) -> None:
        """Nothing is lacking."""


class Taker:
    """A `take` that remembers, and that waits while its gate is closed."""

    def __init__(self) -> None:
        self.messages: list[Inbound] = []
        self.begun = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, messages: Sequence[Inbound]) -> None:
        self.begun += len(messages)
        await self.gate.wait()
        self.messages += messages


@asynccontextmanager
async def serving(folder: Path | None = None, take: Any = None, **options: Any) -> AsyncIterator[Broker]:
    """A broker on a free port."""
    options = {"authenticate": authenticate, "clock": clock, **options}
    async with Broker("127.0.0.1", 0, take=take or Taker(), folder=folder, **options) as broker:
        yield broker


async def until(ready: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        await asyncio.sleep(0.01)


class Dialog:
    """One connection, packet by packet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int) -> None:
        self.reader = reader
        self.writer = writer
        self.version = version
        self.connack: Connack
        self._decoder = Decoder(version=version)
        self._found: list[Packet] = []

    @classmethod
    async def open(
        cls, broker: Broker, client_id: str = "c", *, version: int = V5, login: bool = True, **fields: Any
    ) -> Self:
        """Connect and read the CONNACK."""
        dialog = cls(*await asyncio.open_connection("127.0.0.1", broker.port), version)
        user = {"username": "ada", "password": b"secret"} if login else {}
        dialog.send(Connect(client_id, version, **{**user, **fields}))
        dialog.connack = await dialog.expect(Connack)
        return dialog

    def send(self, *packets: Packet) -> None:
        """Say it."""
        self.writer.write(b"".join(encode(packet, self.version) for packet in packets))

    async def receive(self, seconds: float = 20) -> Packet | None:
        """The next packet; None at the end of the connection."""
        async with asyncio.timeout(seconds):
            while not self._found:
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    data = b""
                if not data:
                    return None
                self._found += self._decoder.feed(data)
                assert self._decoder.violation is None
        return self._found.pop(0)

    async def expect(self, kind: type[Kind], seconds: float = 20) -> Kind:
        """The next packet, which is of this kind."""
        packet = await self.receive(seconds)
        assert isinstance(packet, kind), f"wanted {kind.__name__}, got {packet}"
        return packet

    async def silent(self, seconds: float = 0.15) -> None:
        """Nothing comes for a while."""
        try:
            packet = await self.receive(seconds)
        except TimeoutError:
            return
        raise AssertionError(f"got {packet}")

    async def subscribe(self, topic: str, qos: int = 1, **options: Any) -> int:
        """Subscribe and answer the reason."""
        self.send(Subscribe(1, (Filter(topic, qos, **options),)))
        return (await self.expect(Suback)).reasons[0]

    async def publish(self, topic: str, payload: bytes, qos: int = 1, mid: int = 1, **fields: Any) -> int:
        """Publish at QoS 0 or 1 and answer the reason; what comes before the acknowledgement waits."""
        self.send(Publish(topic, payload, qos, mid=mid if qos else 0, **fields))
        if not qos:
            return 0
        before: list[Packet] = []
        while isinstance(packet := await self.receive(), Publish):
            before.append(packet)
        self._found[:0] = before
        assert isinstance(packet, Puback), f"wanted Puback, got {packet}"
        return packet.reason

    async def close(self) -> None:
        """Break the connection, without DISCONNECT."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return
