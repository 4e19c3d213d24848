"""Devices over MQTT on the live channel: what is for a thing goes to its topics, and their envelopes are carried out."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, cast

import msgspec

from skerry import headers, live, protocol
from skerry.errors import SkerryError
from skerry.ids import check_thing_id, split_id
from skerry.things import ThingNotAccessible
from skerry_adapters.downlink import Outbound, Reading, device_topic
from skerry_adapters.hono import DOWNLINKS, command_topics
from skerry_registry.live.channel import LiveWanted
from skerry_registry.live.gathering import acks_envelope, gather
from skerry_registry.live.listeners import resource_of
from skerry_registry.live.sender import Sender
from skerry_registry.live.wishes import wish_of

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from skerry.live import LiveSignal
    from skerry.signals import Command, Response
    from skerry_adapters.downlink import Downlink
    from skerry_adapters.inbound import Aside, Inbound
    from skerry_registry.identities.namespaces import Reach
    from skerry_registry.live.envelopes import Envelopes
    from skerry_registry.live.sender import Leave
    from skerry_registry.live.streams import Streams
    from skerry_registry.registry import Registry

LAST = "live"
FRESH_SECONDS = 60
"""How long a signal is kept for a device that is slow, or away for a moment, where its sender does not say."""
REQUESTS = 10_000
"""Hono commands whose answers can be told apart by their request ids."""
EXTERNAL = "mqtt"
"""The origin of everything that comes from another broker, which hides the publisher."""


class Devices:
    """What devices say and are told, beside their telemetry; the Converse seam of the intake."""

    def __init__(self, registry: Registry, streams: Streams, envelopes: Envelopes, downlink: Downlink) -> None:
        """Nobody is told anything before `listen`."""
        self._registry = registry
        self._streams = streams
        self._envelopes = envelopes
        self._downlink = downlink
        self._requests: OrderedDict[str, LiveSignal] = OrderedDict()

    def listen(self) -> Leave:
        """Send messages and live commands to devices from now on."""
        subscribe = self._streams.live.subscribe
        leaves = [
            subscribe(LiveWanted(sort="message", subjects=None), self._take),
            subscribe(LiveWanted(sort="command", subjects=None), self._take),
        ]

        def leave() -> None:
            for one in leaves:
                one()

        return leave

    async def converse(self, aside: Aside, message: Inbound) -> dict[str, Any] | None:
        """Carry out an envelope that is no plain change; the reply, None where none is wanted."""
        if aside.desired:
            return await self._desired(aside, message)
        members = self._answer(aside, message) if aside.request or not aside.members else aside.members
        if not members:
            return None
        reach = cast("Reach | None", message.reach)  # what our own logins have
        sender = Sender(subjects=aside.subjects, reach=reach, origin=message.origin, declares=False)
        return await self._envelopes.handle(members, sender, {})

    async def _desired(self, aside: Aside, message: Inbound) -> dict[str, Any]:
        """The desired state, for whoever may read the whole thing."""
        thing_id = aside.desired
        try:
            check_thing_id(thing_id)
            if message.reach is not None and not message.reach.covers("thing", split_id(thing_id)[0]):
                raise ThingNotAccessible(thing_id=thing_id)
            permits = await self._registry.permits(aside.subjects, thing_id)
            if not permits.may("thing", (), "READ"):
                raise ThingNotAccessible(thing_id=thing_id)
        except SkerryError as error:
            return protocol.error_envelope(error, f"{thing_id.replace(':', '/', 1)}/things/live/commands/merge", {})
        return await self._streams.desired.envelope(thing_id)

    async def settle(self, command: Command, handling: Awaitable[Response]) -> dict[str, Any] | None:
        """Wait for a change and the acknowledgements it asks for; the reply."""
        try:
            wish = wish_of(command.headers, query=False, acknowledged=command.kind == "thing")
            gathered = await gather(handling, command, wish, self._streams.acks)
        except SkerryError as error:
            return protocol.error_envelope(error, command.topic, command.headers)
        if gathered.plain and gathered.response is not None:
            return protocol.response_envelope(command, gathered.response)
        return acks_envelope(command.id, gathered.acks, command.headers.get("correlation-id", ""))

    def _take(self, signal: LiveSignal) -> None:
        """Send a signal to the devices that listen for it."""
        if signal.origin == EXTERNAL and "outbox" in signal.path[:3]:
            return  # the device's own word
        downlink = self._downlink
        topic = device_topic(signal.id, LAST)
        if topic is None:
            return
        heard: list[tuple[str, ...]] = [(topic,)] if downlink.hears(topic) else []
        if any(downlink.begins(root) for root in DOWNLINKS):
            commands = tuple(filter(downlink.hears, self._command_topics(signal)))
            heard += [commands] if commands else []
        if not heard:
            return
        payload = msgspec.json.encode(live.envelope_of(signal))
        is_message = signal.sort == "message"
        reading = Reading(
            thing_id=signal.id,
            resource="message" if is_message else "thing",
            path=resource_of(signal.path) if is_message else signal.path,
        )
        for first, *rest in heard:
            downlink.send(
                Outbound(
                    topic=first,
                    instead=tuple(rest),
                    payload=payload,
                    seconds=_fresh(signal),
                    reading=reading,
                    origin=signal.origin,
                )
            )

    def _command_topics(self, signal: LiveSignal) -> list[str]:
        """The signal as a Hono command: with an id where an answer is wanted."""
        request = ""
        if signal.headers.get("response-required") != "false":
            request = self._registry.new_id()
            self._requests[request] = signal
            if len(self._requests) > REQUESTS:
                self._requests.popitem(last=False)
        return command_topics(signal.id, request, signal.action)

    def _answer(self, aside: Aside, message: Inbound) -> dict[str, Any]:
        """The envelope that answers a Hono command; empty where it is not known what is answered."""
        asked = self._requests.pop(aside.request, None)
        members: dict[str, Any] = dict(aside.members)
        if asked is not None and not members:
            value, content_type = _content(message.payload)
            members = {"topic": asked.topic, "path": live.write_path(asked), "headers": {"content-type": content_type}}
            if message.payload:
                members["value"] = value
        if not members:
            return members
        members.setdefault("status", aside.status)
        said = members.get("headers")
        if asked is not None and (said is None or isinstance(said, dict)):
            members["headers"] = {"correlation-id": asked.correlation, **(said or {})}
        return members


def _fresh(signal: LiveSignal) -> int:
    """For how many seconds somebody may be waiting for what a device says to it."""
    try:
        seconds = headers.timeout(signal.headers.get("timeout"), 0.0)
    except SkerryError:
        seconds = 0.0
    return math.ceil(seconds) or FRESH_SECONDS


def _content(payload: bytes) -> tuple[Any, str]:
    """Any payload as the value of an envelope, and its type."""
    for content_type in ("application/json", "text/plain"):
        try:
            if content_type == "text/plain":
                return payload.decode(), content_type
            return live.value_of(payload, content_type), content_type
        except (SkerryError, UnicodeDecodeError):
            continue
    content_type = "application/octet-stream"
    return live.value_of(payload, content_type), content_type
