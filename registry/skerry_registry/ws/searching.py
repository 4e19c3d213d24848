"""Searches over a session (criterion `search`): pages of what a filter names, as many as are demanded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import structs

from skerry import fields, protocol, topics
from skerry.errors import SkerryError
from skerry.values import JsonInvalid
from skerry_registry.http.errors import SearchOptionInvalid
from skerry_registry.http.options import order, read_option
from skerry_registry.http.search import namespaces_of, shown
from skerry_registry.search.wishes import predicate_of, reached
from skerry_registry.ws.subscriptions import IDLE_SECONDS, OF_SEARCH, Subscriptions, member, value_of
from skerry_registry.ws.wire import FRAME_MAX

if TYPE_CHECKING:
    from msgspec import Raw

    from skerry.signals import Json
    from skerry_registry.live.sender import Sender
    from skerry_registry.registry import Registry
    from skerry_registry.search.query import After
    from skerry_registry.search.search import Search
    from skerry_registry.ws.subscriptions import Room, Send

TOPIC = topics.Topic(namespace=topics.ANYTHING, name=topics.ANYTHING, criterion="search")
PAGE_BYTES = FRAME_MAX - 4_096
"""Bytes of things in one page."""
ACTIONS = ("subscribe", "request", "cancel")


class Searching:
    """The searches of one session."""

    def __init__(
        self, registry: Registry, search: Search, send: Send, room: Room, *, idle: float = IDLE_SECONDS
    ) -> None:
        """`send`: takes what is told; `room`: waited for before each page."""
        self._registry = registry
        self._search = search
        self._send = send
        self._subscriptions = Subscriptions(send, room, OF_SEARCH, idle=idle)

    def handle(self, envelope: dict[str, Any], sender: Sender) -> None:
        """Carry out `subscribe`, `request` or `cancel`; an error is told as an envelope."""
        headers: dict[str, str] = {}
        try:
            headers = protocol.headers_from(envelope.get("headers"))
            action = _action(envelope)
            value = value_of(envelope, needed=action != "subscribe")
            if action == "subscribe":
                pages = _Pages(self._registry, self._search, sender, envelope.get("fields"), value)
                self._subscriptions.open(TOPIC, headers, pages)
            else:
                self._subscriptions.carry_on(structs.replace(TOPIC, action=action), headers, value)
        except SkerryError as error:
            self._send(protocol.error_envelope(error, None, headers))

    def close(self) -> None:
        """The session has ended."""
        self._subscriptions.close()


class _Pages:
    """What one search finds, a page after the other; it is read when it is asked for, and not before.

    Where the things of a page are too large for one frame, the page is shorter, and the next one goes on from there.
    """

    def __init__(
        self, registry: Registry, search: Search, sender: Sender, selector: Json, value: dict[str, Json]
    ) -> None:
        self._registry = registry
        self._search = search
        self._sender = sender
        self._fields: str | None = _selector(selector)
        self._filter: str | None = member(value, "filter", str)
        self._options: str = member(value, "options", str) or ""
        self._namespaces = _namespaces(member(value, "namespaces", list))
        self._ids: list[str] = []
        self._after: After | None = None
        self._done = False

    async def next(self) -> dict[str, Json] | None:
        """The next page, full where there is enough for it."""
        option = read_option(self._options)
        if option.place is not None or option.offset is not None:
            raise SearchOptionInvalid(
                option=self._options,
                reason="the pages of a subscription come one after the other; leave cursor and limit out",
            )
        if self._fields is not None:
            fields.parse(self._fields)
        predicate = predicate_of([self._filter] if self._filter else [], self._registry.clock())
        namespaces = await reached(self._search, self._namespaces, self._sender.reach)
        sort = order(option.sort) if option.sort else ()
        items: list[Raw] = []
        room = PAGE_BYTES
        while len(items) < option.size and room > 0 and not (self._done and not self._ids):
            if not self._ids:
                page = await self._search.find(
                    self._sender.subjects,
                    predicate,
                    namespaces=namespaces,
                    sort=sort,
                    after=self._after,
                    size=option.size - len(items),
                )
                self._ids, self._after, self._done = page.ids, page.next, page.next is None
            taken = await self._retrieved(self._ids)
            for place, (_, item) in enumerate(taken):
                room -= len(bytes(item)) + 1
                if (room < 0 and items) or len(items) == option.size:
                    self._ids = [id_ for id_, _ in taken[place:]]
                    break
                items.append(item)
            else:
                self._ids = []
        return {"items": items} if items else None

    async def more(self) -> bool:
        """Whether something may be left."""
        return bool(self._ids) or not self._done

    async def _retrieved(self, ids: list[str]) -> list[tuple[str, Raw]]:
        """The things as the caller may see them, each with its id."""
        subjects = self._sender.subjects
        whole = self._search.sees_all(subjects) if self._fields is None else None
        return await shown(self._registry, ids, subjects, self._fields, "", whole)


def _action(envelope: dict[str, Any]) -> str:
    """What is to be done. Raises TopicUnknown."""
    text = protocol.text_of(envelope, "topic")
    topic = topics.parse(text)
    if topic.group != "things" or topic.channel != "twin":
        raise topics.TopicUnknown(topic=text, problem="things are searched, and their twins")
    if topic.action not in ACTIONS:
        raise topics.TopicUnknown(topic=text, problem=f"the action is none of {', '.join(ACTIONS)}")
    return topic.action


def _selector(selector: Json) -> str | None:
    """The field selector in an envelope. Raises JsonInvalid."""
    if selector is not None and not isinstance(selector, str):
        raise JsonInvalid(at="/fields", problem="they are a text, such as thingId,attributes/a")
    return selector


def _namespaces(given: list[Json] | None) -> tuple[str, ...] | None:
    """The namespaces that are searched; None and an empty list mean all. Raises JsonInvalid, NamespacesInvalid."""
    if not given:
        return None
    if not all(isinstance(one, str) for one in given):
        raise JsonInvalid(at="/value/namespaces", problem="namespaces are texts")
    return namespaces_of(",".join(given))
