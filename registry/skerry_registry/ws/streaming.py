"""Histories over a session (criterion `streaming`): the events of a thing or policy, as many as are demanded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct, json, structs

from skerry import headers as ditto_headers
from skerry import protocol, topics
from skerry.errors import SkerryError
from skerry.ids import check_policy_id, check_thing_id
from skerry.values import JsonInvalid
from skerry_registry.live import event_filter
from skerry_registry.live.persisted import EVER, Persisted, Span, instant_of
from skerry_registry.past import TOLD
from skerry_registry.ws.subscriptions import IDLE_SECONDS, OF_STREAMING, Subscriptions, member, value_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from skerry.signals import Clock, Json, Kind, Micros
    from skerry_registry.live.sender import Sender
    from skerry_registry.live.views import Told
    from skerry_registry.registry import Registry
    from skerry_registry.ws.subscriptions import Room, Send

SUBSCRIBE = "subscribeForPersistedEvents"
ACTIONS = (SUBSCRIBE, "request", "cancel")


class _History(Struct, frozen=True):
    """Where histories are read."""

    persisted: Persisted
    clock: Clock


class Streaming:
    """The histories that one session reads."""

    def __init__(self, registry: Registry, send: Send, room: Room, *, idle: float = IDLE_SECONDS) -> None:
        """`send`: takes what is told; `room`: waited for before each event."""
        self._history = _History(Persisted(registry), registry.clock)
        self._send = send
        self._subscriptions = Subscriptions(send, room, OF_STREAMING, idle=idle)

    def handle(self, envelope: dict[str, Any], sender: Sender) -> None:
        """Carry out `subscribeForPersistedEvents`, `request` or `cancel`; an error is told as an envelope."""
        headers: dict[str, str] = {}
        about: str | None = None
        try:
            headers = protocol.headers_from(envelope.get("headers"))
            topic = _topic(envelope)
            about = topics.write(topic)
            if topic.action == SUBSCRIBE:
                self._subscriptions.open(topic, headers, _Events(self._history, sender, envelope, headers))
            else:
                self._subscriptions.carry_on(topic, headers, value_of(envelope, needed=True))
        except SkerryError as error:
            self._send(protocol.error_envelope(error, about, headers))

    def close(self) -> None:
        """The session has ended."""
        self._subscriptions.close()


class _Events:
    """The events of one history, read as they are asked for: none is kept while nobody wants it."""

    def __init__(self, history: _History, sender: Sender, envelope: dict[str, Any], headers: Mapping[str, str]) -> None:
        self._history = history
        self._sender = sender
        self._headers = headers
        topic = _topic(envelope)
        self._id = str(topic.id)
        self._kind: Kind = "policy" if topic.group == "policies" else "thing"
        value = value_of(envelope, needed=False)
        self._filter: str | None = member(value, "filter", str)
        now = history.clock()
        self._span = Span(
            first=member(value, "fromHistoricalRevision", int) or 0,
            last=_or(member(value, "toHistoricalRevision", int), EVER),
            after=_instant(value, "fromHistoricalTimestamp", now),
            before=_instant(value, "toHistoricalTimestamp", now),
            path=protocol.path_from(protocol.text_of(envelope, "path"), self._kind),
        )
        self._stream: AsyncIterator[Told] | None = None

    async def next(self) -> dict[str, Json] | None:
        """The next event."""
        told = await self._next()
        return None if told is None else {"item": self._item(told)}

    async def more(self) -> bool:
        """Whether there is another event for this caller at this moment."""
        told = await self._next()
        if told is None:
            return False
        self._span = structs.replace(self._span, first=told.event.revision)
        self._stream = None
        return True

    async def _next(self) -> Told | None:
        if self._stream is None:
            if self._filter:
                predicate = event_filter.parse(self._filter, self._history.clock())
                self._span = structs.replace(self._span, filter=predicate)
            self._stream = await self._history.persisted.events(self._kind, self._id, self._sender, self._span)
        return await anext(self._stream, None)

    def _item(self, told: Told) -> dict[str, Any]:
        """The envelope of an event, with the headers of the question and what is kept of its own."""
        envelope = told.envelope()
        shown = envelope["headers"]
        del shown["requested-acks"]
        shown[TOLD] = json.decode(shown[TOLD])
        envelope["headers"] = {
            **protocol.headers_shown(ditto_headers.for_response(self._headers)),
            **({"ditto-originator": self._sender.subjects[0]} if self._sender.subjects else {}),
            **shown,
        }
        return envelope


def _topic(envelope: dict[str, Any]) -> topics.Topic:
    """The topic of an envelope. Raises TopicUnknown, ThingIdInvalid, PolicyIdInvalid."""
    text = protocol.text_of(envelope, "topic")
    topic = topics.parse(text)
    if topic.group == "connections" or topic.channel == "live":
        raise topics.TopicUnknown(topic=text, problem="the histories of things' twins and of policies can be read")
    if topic.action not in ACTIONS:
        raise topics.TopicUnknown(topic=text, problem=f"the action is none of {', '.join(ACTIONS)}")
    check = check_policy_id if topic.group == "policies" else check_thing_id
    check("_:_" if topic.id is None else topic.id)
    return topic


def _or(found: int | None, other: int) -> int:
    return other if found is None else found


def _instant(value: dict[str, Json], title: str, now: Micros) -> Micros | None:
    """A time in the value. Raises JsonInvalid."""
    text = member(value, title, str)
    if text is None:
        return None
    try:
        return instant_of(text, now)
    except ValueError as error:
        problem = "it is an instant such as 2026-11-21T14:43:14Z, or now-1h"
        raise JsonInvalid(at=f"/value/{title}", problem=problem) from error
