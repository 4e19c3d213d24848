"""What a device is told of its envelopes: answers and errors, where it asks for them or else at its own topic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from skerry import headers as ditto_headers
from skerry import protocol, topics
from skerry.errors import SkerryError
from skerry_adapters.downlink import DEVICE, Outbound, device_topic, thing_of
from skerry_adapters.hono import DOWNLINKS, device_of

if TYPE_CHECKING:
    from skerry.signals import Command, Response
    from skerry_adapters.downlink import Downlink
    from skerry_adapters.inbound import Inbound

LAST = "replies"
OURS = frozenset({"live", "desired"})
"""What only the server says on a device's topics; no answer may pass for it."""


class Replies:
    """Sends replies, and makes them only where somebody may be listening."""

    def __init__(self, downlink: Downlink) -> None:
        """`downlink`: the way to the devices."""
        self._downlink = downlink

    def answer(self, message: Inbound, command: Command, answer: Response | SkerryError) -> None:
        """Tell what became of a command that the message held."""
        if not _wanted(command.headers):
            return
        topic = self.place(message, command.id if command.kind == "thing" else None)
        if topic is None:
            return
        if isinstance(answer, SkerryError):
            self._send(topic, message, protocol.error_envelope(answer, command.topic, command.headers))
        else:
            self._send(topic, message, protocol.response_envelope(command, answer))

    def refuse(self, message: Inbound, error: SkerryError) -> None:
        """Tell why the message could not be read."""
        topic = self.place(message, None)
        if topic is None:
            return
        about, headers = _legible(message.payload)
        if _wanted(headers):
            self._send(topic, message, protocol.error_envelope(error, about, headers))

    def reply(self, message: Inbound, envelope: Mapping[str, Any]) -> None:
        """Send an envelope that answers the message."""
        topic = self.place(message, _thing_of(envelope))
        if topic is not None:
            self._send(topic, message, envelope)

    def place(self, message: Inbound, thing_id: str | None) -> str | None:
        """Where the device hears of it; None where nobody listens. `thing_id`: of which the envelope is about."""
        own = _named(message.topic) or thing_id
        asked = message.response_topic
        usable = asked is not None and _usable(asked) and (bool(message.subjects) or _is_below(asked, own))
        topic = asked if usable else None
        if topic is None and own is not None:
            topic = device_topic(own, LAST)
        return topic if topic is not None and self._downlink.hears(topic) else None

    def _send(self, topic: str, message: Inbound, envelope: Mapping[str, Any]) -> None:
        self._downlink.send(
            Outbound(
                topic=topic,
                payload=msgspec.json.encode(envelope),
                qos=min(message.qos, 1),
                correlation=message.correlation,
                subjects=message.subjects or None,
            )
        )


def _wanted(headers: Mapping[str, str]) -> bool:
    """Whether the sender wants to be told; one whose wish cannot be read is."""
    try:
        return ditto_headers.response_required(headers)
    except SkerryError:
        return True


def _named(topic: str) -> str | None:
    """The thing that an MQTT topic names: ditto/{namespace}/{name}/..., t/{tenant}/{thing}."""
    levels = topic.split("/", 3)
    if len(levels) < 3:
        return None
    return f"{levels[1]}:{levels[2]}" if levels[0] == "ditto" else device_of(levels)


def _is_below(topic: str, thing_id: str | None) -> bool:
    """Whether a topic is one of the thing's: where a broker hides the publisher, there is no other that he surely may read."""
    return thing_id is not None and thing_of(topic) == thing_id


def _usable(topic: str) -> bool:
    """Whether a reply may go there."""
    levels = topic.split("/", 3)
    if "+" in topic or "#" in topic or "\0" in topic or topic[:1] in {"$", ""} or levels[0] in DOWNLINKS:
        return False
    return levels[0] != DEVICE or (len(levels) == 4 and levels[3].split("/", 1)[0] not in OURS)


def _thing_of(envelope: Mapping[str, Any]) -> str | None:
    """The thing that an envelope is about."""
    try:
        topic = topics.parse(envelope.get("topic", ""))
    except topics.TopicUnknown:
        return None
    return topic.id if topic.group == "things" else None


def _legible(payload: bytes) -> tuple[str | None, dict[str, str]]:
    """What can be read of the topic and the headers of something that is no proper envelope."""
    try:
        members = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, {}
    if not isinstance(members, dict):
        return None, {}
    topic, headers = members.get("topic"), members.get("headers")
    found = headers if isinstance(headers, dict) else {}
    known = {name: found[name] for name in ("correlation-id", "response-required") if isinstance(found.get(name), str)}
    if found.get("response-required") is False:
        known["response-required"] = "false"
    return topic if isinstance(topic, str) else None, known
