"""The way from the server to the devices at an external broker; who may hear what is for that broker to say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from skerry_adapters.downlink import DEVICE, DownlinkBroken, Outbound
from skerry_adapters.inbound import Inbound

WAITING = 10_000
"""Messages that wait for the broker's acknowledgement; more are let go of."""
ANSWER_SECONDS = 10.0
QUIET_SECONDS = 0.5
"""Retained messages have all come when none came for so long."""
_DESIRED = f"{DEVICE}/+/+/desired"


class MqttDownlink:
    """Publishes on the connection of an MqttClient, as long as there is one."""

    def __init__(self) -> None:
        """Not connected yet."""
        self.dropped = 0
        self._client: Client | None = None
        self._five = False
        self._flying: dict[int, asyncio.Future[None]] = {}
        self._lost = asyncio.Event()
        self._sifted: dict[str, bytes] | None = None
        self._arrived = asyncio.Event()
        self._answers: dict[int, asyncio.Future[bool]] = {}

    def begin(self, client: Client, *, five: bool, resumed: bool) -> None:
        """The broker has let the client in; `five`: it speaks MQTT 5, `resumed`: it still knew the session."""
        self._client, self._five = client, five
        if not resumed:
            self._lost.set()

    def end(self) -> None:
        """The connection is over; whoever waits is told."""
        self._client = None
        waiting: list[asyncio.Future[Any]] = [*self._flying.values(), *self._answers.values()]
        self._flying.clear()
        self._answers.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(DownlinkBroken("the connection to the broker was lost"))

    def settle(self, _client: Client, _data: Any, mid: int, code: ReasonCode, _said: Properties | None) -> None:
        """The broker has taken a message, or refuses it, which no repetition would change."""
        del code
        future = self._flying.pop(mid, None)
        if future is not None and not future.done():
            future.set_result(None)

    def answered(self, mid: int, *, granted: bool) -> bool:
        """The broker has answered a subscription; whether it was one of ours."""
        future = self._answers.pop(mid, None)
        if future is not None and not future.done():
            future.set_result(granted)
        return future is not None

    def sift(self, messages: list[Inbound]) -> list[Inbound]:
        """Keep what was asked for in `kept`; the others are for the intake."""
        if self._sifted is None:
            return messages
        mine = [message for message in messages if message.retained and message.topic.startswith(f"{DEVICE}/")]
        if not mine:
            return messages
        self._sifted.update((message.topic, message.payload) for message in mine)
        self._arrived.set()
        return [message for message in messages if message not in mine]

    def hears(self, topic: str) -> bool:
        """Whether it can be sent; who listens is known to the broker only."""
        del topic
        return self._client is not None

    def begins(self, name: str) -> bool:
        """Never: what names no device would go to all of them."""
        del name
        return False

    def send(self, message: Outbound) -> None:
        """Send it, or let go of it."""
        if len(self._flying) >= WAITING:
            self.dropped += 1
            return
        properties = None
        if self._five:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it bare
            if message.correlation is not None:
                properties.CorrelationData = message.correlation
            if message.seconds is not None:
                properties.MessageExpiryInterval = message.seconds
        try:
            self._publish(message.topic, message.payload, message.qos, properties=properties)
        except DownlinkBroken:
            self.dropped += 1

    async def keep(self, messages: Mapping[str, bytes]) -> None:
        """Retain them; returns when the broker has them all. Raises DownlinkBroken."""
        waiting = [self._publish(topic, payload, 1, retain=True) for topic, payload in messages.items()]
        await self._in_time(asyncio.gather(*waiting))

    async def kept(self) -> Iterable[tuple[str, bytes]]:
        """The desired state that is retained there; nothing where the broker does not let us look. Raises DownlinkBroken."""
        if self._client is None:
            raise DownlinkBroken("the broker is away")
        self._sifted = {}
        client = self._client
        try:
            options: Any = SubscribeOptions(qos=0, retainHandling=0) if self._five else 0
            _, mid = client.subscribe([(_DESIRED, options)])
            answer = self._answers[mid or 0] = asyncio.get_running_loop().create_future()
            if await self._in_time(answer):
                await self._until_quiet()
                client.unsubscribe(_DESIRED)
            return list(self._sifted.items())
        finally:
            self._sifted = None

    async def returned(self) -> None:
        """Return when the broker has forgotten the session, for then it may have forgotten more."""
        await self._lost.wait()
        self._lost.clear()

    async def _until_quiet(self) -> None:
        while True:
            self._arrived.clear()
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    await self._arrived.wait()
            except TimeoutError:
                return

    async def _in_time(self, waiting: asyncio.Future[Any]) -> Any:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await waiting
        except TimeoutError:
            raise DownlinkBroken("the broker does not answer") from None

    def _publish(
        self, topic: str, payload: bytes, qos: int, *, retain: bool = False, properties: Properties | None = None
    ) -> asyncio.Future[None]:
        """Hand it to paho; the future is done when the broker has it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._client is None:
            raise DownlinkBroken("the broker is away")
        info = self._client.publish(topic, payload, qos, retain, properties)
        if info.rc not in {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN}:
            raise DownlinkBroken(f"the message was not sent: {info.rc!s}")
        if qos:
            self._flying[info.mid] = future
        else:
            future.set_result(None)
        return future
