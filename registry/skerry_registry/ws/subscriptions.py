# ruff: noqa: N818 - errors are rows of a table
"""Streams that a session asks for and takes at its own pace: so many pages or events as it demands (ditto.md 2.1)."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from msgspec import Struct, structs

from skerry import headers as ditto_headers
from skerry import protocol, topics
from skerry.errors import SkerryError
from skerry.signals import Json
from skerry.values import JsonFieldMissing, JsonInvalid, name
from skerry_registry.users import TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

IDLE_SECONDS = 60.0
"""How long a subscription stays of which nothing is asked."""
OPEN_MAX = 100
"""Subscriptions that a session has open at a time, of one sort."""
ENDED_MAX = 1_000
"""Subscriptions that are remembered to have been there."""
DEMAND_MAX = 1 << 63

Send: TypeAlias = Callable[[dict[str, Any]], None]
"""Takes an envelope over at once."""
Room: TypeAlias = Callable[[], Awaitable[None]]
"""Returns when the session can take more."""


class SubscriptionNotFound(SkerryError):
    """A search that was never asked for, or has ended."""

    code = "thing-search:subscription.not.found"
    status = 404
    message = "There is no subscription '{subscription}' in this session."
    description = "Subscribe first: the answer 'created' names the subscriptionId."


class SubscriptionMisused(SkerryError):
    """Something is asked of a search that it cannot do."""

    code = "thing-search:subscription.protocol.error"
    status = 400
    message = "The subscription '{subscription}' cannot do this: {problem}."
    description = "Subscribe anew, and request pages (demand, 1 or more) until 'complete' or 'failed' comes."


class SubscriptionTimeout(SkerryError):
    """A search of which nothing is asked any more."""

    code = "thing-search:subscription.timeout"
    status = 408
    message = "Nothing was asked of the subscription '{subscription}' for {seconds} seconds, so it has ended."
    description = "Subscribe anew, and request pages as long as you need them."


class StreamNotFound(SubscriptionNotFound):
    """A stream of events that was never asked for, or has ended."""

    code = "streaming.subscription.not.found"


class StreamMisused(SubscriptionMisused):
    """Something is asked of a stream of events that it cannot do."""

    code = "streaming.subscription.protocol.error"
    description = "Subscribe anew, and request events (demand, 1 or more) until 'complete' or 'failed' comes."


class StreamTimeout(SubscriptionTimeout):
    """A stream of events of which nothing is asked any more."""

    code = "streaming.subscription.timeout"
    description = "Subscribe anew, and request events as long as you need them."


class Rows(Struct, frozen=True):
    """The errors of one sort of subscriptions."""

    unknown: type[SubscriptionNotFound]
    misused: type[SubscriptionMisused]
    idle: type[SubscriptionTimeout]


OF_SEARCH = Rows(SubscriptionNotFound, SubscriptionMisused, SubscriptionTimeout)
OF_STREAMING = Rows(StreamNotFound, StreamMisused, StreamTimeout)


class Source(Protocol):
    """What a subscription gives, piece by piece."""

    async def next(self) -> dict[str, Json] | None:
        """The members of the next piece; None when there are no more. Raises SkerryError."""
        ...

    async def more(self) -> bool:
        """Whether there may be another piece; where it says no there is none. Raises SkerryError."""
        ...


class Subscriptions:
    """The subscriptions of one session, of one sort."""

    def __init__(self, send: Send, room: Room, rows: Rows, *, idle: float = IDLE_SECONDS) -> None:
        """`room`: waited for before each piece."""
        self.send = send
        self.room = room
        self.rows = rows
        self.idle = idle
        self._open: dict[str, _Subscription] = {}
        self._ended: dict[str, None] = {}
        self._ids = itertools.count()

    def open(self, topic: topics.Topic, headers: dict[str, str], source: Source) -> None:
        """Begin a subscription and say so. Raises TooManyRequests."""
        if len(self._open) >= OPEN_MAX:
            raise TooManyRequests(
                reason=f"this session has {OPEN_MAX} subscriptions open",
                description="Take what they give, or cancel some.",
            )
        id_ = str(next(self._ids))
        self._open[id_] = _Subscription(id_, topic, headers, source, self)

    def carry_on(self, topic: topics.Topic, headers: dict[str, str], value: Json) -> None:
        """Carry a `request` or `cancel` out. Raises SkerryError for what is not written as one."""
        id_ = member(value, "subscriptionId", str)
        if id_ is None:
            raise JsonFieldMissing(name="subscriptionId", at="/value")
        demand = (member(value, "demand", int) or 0) if topic.action == "request" else 0
        found = self._open.get(id_)
        if found is None:
            if topic.action == "cancel" and id_ in self._ended:
                return
            error: SkerryError = self.rows.unknown(subscription=id_)
            if id_ in self._ended:
                error = self.rows.misused(subscription=id_, problem="it has ended")
            self.send(_failed(topic, headers, id_, error))
        elif topic.action == "cancel":
            found.end()
        else:
            found.request(headers, demand)

    def forget(self, id_: str) -> None:
        """A subscription has ended."""
        self._open.pop(id_, None)
        self._ended[id_] = None
        while len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]

    def close(self) -> None:
        """End all of them; nothing is sent any more."""
        for subscription in [*self._open.values()]:
            subscription.end()


class _Subscription:
    """One subscription: its demand, and the task that meets it."""

    def __init__(
        self, id_: str, topic: topics.Topic, headers: dict[str, str], source: Source, session: Subscriptions
    ) -> None:
        self._id = id_
        self._topic = topic
        self._headers = headers
        self._source = source
        self._session = session
        self._demand = 0
        self._pumping: asyncio.Task[None] | None = None
        self._idle = self._wind()
        self._tell("created", {})

    def request(self, headers: dict[str, str], demand: int) -> None:
        """Give so many pieces more."""
        self._headers = headers
        if demand < 1:
            self._fail(self._session.rows.misused(subscription=self._id, problem=f"the demand {demand} is below 1"))
            return
        self._demand = min(self._demand + demand, DEMAND_MAX)
        self._idle.cancel()
        if self._pumping is None or self._pumping.done():
            self._pumping = asyncio.get_running_loop().create_task(self._pump())

    def end(self) -> None:
        """Give nothing more."""
        self._idle.cancel()
        pumping = self._pumping
        if pumping is not None and pumping is not asyncio.current_task():
            pumping.cancel()
        self._session.forget(self._id)

    async def _pump(self) -> None:
        """Give what is demanded; then say whether that was all."""
        try:
            while self._demand:
                await self._session.room()
                piece = await self._source.next()
                if piece is None:
                    self._finish("complete", {})
                    return
                self._demand -= 1
                self._tell("next", piece)
                if not self._demand and not await self._source.more():
                    self._finish("complete", {})
                    return
            self._idle = self._wind()
        except SkerryError as error:
            self._fail(error)
        except Exception:
            log.exception("subscription failed", extra={"topic": topics.write(self._topic)})
            self._fail(SkerryError())

    def _wind(self) -> asyncio.TimerHandle:
        """End it when nothing is asked of it for too long."""
        return asyncio.get_running_loop().call_later(self._session.idle, self._run_down)

    def _run_down(self) -> None:
        row = self._session.rows.idle
        self._fail(row(subscription=self._id, seconds=self._session.idle))

    def _fail(self, error: SkerryError) -> None:
        self._finish("failed", {"error": error.payload()})

    def _finish(self, action: str, value: dict[str, Json]) -> None:
        self.end()
        self._tell(action, value)

    def _tell(self, action: str, value: dict[str, Json]) -> None:
        value = {"subscriptionId": self._id, **value}
        self._session.send(envelope_of(self._topic, action, self._headers, value))


def envelope_of(topic: topics.Topic, action: str, headers: Mapping[str, str], value: Json) -> dict[str, Any]:
    """What is told of a subscription, with the headers of the command that is answered."""
    shown = protocol.headers_shown(ditto_headers.for_response(headers))
    return {
        "topic": topics.write(structs.replace(topic, action=action)),
        "headers": {**shown, "content-type": "application/json"},
        "path": "/",
        "value": value,
    }


def value_of(envelope: dict[str, Any], *, needed: bool) -> dict[str, Any]:
    """The object that stands in an envelope's value. Raises JsonFieldMissing, JsonInvalid."""
    value = envelope.get("value")
    if value is None and not needed:
        return {}
    if value is None:
        raise JsonFieldMissing(name="value", at="/")
    if not isinstance(value, dict):
        raise JsonInvalid(at="/value", problem=f"it is an object, not {name(value)}")
    return value


def member(value: dict[str, Any], title: str, kind: type[Any]) -> Any:
    """A member of such a value, None where it is not there. Raises JsonInvalid for one of another type."""
    found = value.get(title)
    if found is not None and type(found) is not kind:
        raise JsonInvalid(at=f"/value/{title}", problem=f"it is {_NAMES[kind]}, not {name(found)}")
    return found


_NAMES: dict[type[Any], str] = {str: "a text", int: "a whole number", list: "an array"}


def _failed(topic: topics.Topic, headers: Mapping[str, str], id_: str, error: SkerryError) -> dict[str, Any]:
    return envelope_of(topic, "failed", headers, {"subscriptionId": id_, "error": error.payload()})
