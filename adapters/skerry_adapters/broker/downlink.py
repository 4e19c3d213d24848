"""The way from the server to the devices at the embedded broker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from skerry_adapters.downlink import DEVICE, Outbound

if TYPE_CHECKING:
    from skerry_adapters.broker.packets import Properties
    from skerry_adapters.broker.server import Broker
    from skerry_adapters.broker.sessions import Session

_DESIRED = f"{DEVICE}/+/+/desired"


class _Unknown(Exception):  # noqa: N818 - a fact, caught here
    """Somebody's rights are not in memory."""


class BrokerDownlink:
    """Gives messages to the sessions whose rights are enough for them, each by its own."""

    def __init__(self, broker: Broker) -> None:
        """The broker need not have been entered yet."""
        self._broker = broker

    def hears(self, topic: str) -> bool:
        """Whether anybody has subscribed to it."""
        return self._broker.router.wanted(topic)

    def begins(self, name: str) -> bool:
        """Whether anybody has subscribed to topics with this first level."""
        return self._broker.router.roots(name)

    def send(self, message: Outbound) -> None:
        """Send it on; where rights have to be looked up first, a little later."""
        served: set[Session] = set()
        try:
            self._send(message, served, sure=False)
        except _Unknown:
            self._broker.spawn(self._send_later(message, served))

    async def keep(self, messages: Mapping[str, bytes]) -> None:
        """Retain them; durable on return."""
        await asyncio.gather(
            *(self._broker.publish(topic, payload, 1, retain=True) for topic, payload in messages.items())
        )

    async def kept(self) -> Iterable[tuple[str, bytes]]:
        """The desired state that is retained."""
        return [(message.topic, message.payload) for message in self._broker.router.retained.match(_DESIRED)]

    async def returned(self) -> None:
        """Never: nothing is lost here."""
        await asyncio.Event().wait()

    async def _send_later(self, message: Outbound, served: set[Session]) -> None:
        await self._broker.rights.learn([message.topic])
        if message.reading is not None:
            await self._broker.rights.learn([f"{DEVICE}/{message.reading.thing_id.replace(':', '/', 1)}/live"])
        self._send(message, served, sure=True)

    def _send(self, message: Outbound, served: set[Session], *, sure: bool) -> None:
        broker = self._broker
        rights, reading, subjects = broker.rights, message.reading, message.subjects

        def may(session: Session) -> bool:
            if session in served or (message.origin and session.origin == message.origin):
                return False
            verdicts = session.verdicts
            if subjects is not None and not (verdicts.everything or verdicts.subjects == subjects):
                return False
            if reading is None:
                return True
            found = rights.reads(verdicts, reading)
            if found is None and not sure:
                raise _Unknown
            return bool(found)

        properties: Properties = {}
        if message.correlation is not None:
            properties["correlation_data"] = message.correlation
        if message.seconds is not None:
            properties["message_expiry_interval"] = message.seconds
        for topic in (message.topic, *message.instead):
            made = broker.router.message(topic, message.payload, message.qos, False, dict(properties), None)
            planned = broker.router.plan(made, may)
            served.update(session for session, _ in planned)
            broker.hand_out(planned)
