"""Search results as server-sent events: every thing that a filter names, one event each, as fast as they are taken (ditto.md 1.7)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec import structs

from skerry import fields, times
from skerry.ids import check_thing_id
from skerry.rql import evaluate
from skerry.signals import Command
from skerry_registry.http.answer import encode
from skerry_registry.http.edge import answer_in
from skerry_registry.http.errors import SearchOptionInvalid
from skerry_registry.http.options import Option, order
from skerry_registry.http.search import PREFIX, asked_of, shown
from skerry_registry.http.sse import Stream, event
from skerry_registry.search.masks import TIMES
from skerry_registry.search.order import NUMERIC, TEXT, stand
from skerry_registry.search.query import After
from skerry_registry.search.search import needed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from litestar.types import Send

    from skerry.signals import Json
    from skerry_registry.http.exchange import Exchange
    from skerry_registry.http.request import Request
    from skerry_registry.http.search import Asked, Searching
    from skerry_registry.http.sse import Heart
    from skerry_registry.search.query import Sort

PAGE = 50
"""Things that are read at a time."""
EVERYTHING = "thingId,policyId,definition,attributes,features,_namespace,_revision,_created,_modified,_metadata"


class SearchEvents:
    """Serves /api/2/search/things as a stream."""

    def __init__(
        self,
        exchange: Exchange,
        searching: Searching,
        holds: Callable[[Request], Awaitable[bool]],
        heart: Heart,
        *,
        per_second: int,
    ) -> None:
        """`per_second`: results that one stream gets in a second (0: no bound)."""
        self._exchange = exchange
        self._searching = searching
        self._holds = holds
        self._heart = heart
        self._per_second = per_second

    async def serve(self, request: Request, send: Send) -> None:
        """Answer one request. Raises SkerryError before the answer has begun."""
        if request.path.removesuffix(b"/") != PREFIX:
            await answer_in(await self._searching.answer(request), request, send)
            return
        request.route = "sse search"
        asked = asked_of(request, request.given)
        for name in ("cursor", "limit"):
            if f"{name}(" in request.query.get("option", ""):
                raise SearchOptionInvalid(
                    option=request.query["option"],
                    reason=f"a stream has no pages, so no {name}; it goes on behind Last-Event-ID",
                )
        if asked.fields is not None:
            fields.parse(asked.fields)
        sort = order(asked.option.sort) if asked.option.sort else ()
        asked = structs.replace(asked, option=Option(size=PAGE, sort=asked.option.sort))
        last = request.edge.get("last-event-id") or request.query.get("last-event-id")
        after = await self._behind(request, sort, last) if last else None
        ids, after = await self._searching.walk(asked, after)
        stream = Stream(request, send, self._heart, holds=lambda: self._holds(request))
        await stream.run(self._tell(stream, asked, ids, after, request.ditto["correlation-id"]))

    async def _tell(self, stream: Stream, asked: Asked, ids: list[str], after: After | None, correlation: str) -> None:
        """Put one thing after the other, page by page, and end."""
        pace = Pace(self._per_second)
        while True:
            if asked.fields in {"thingId", "/thingId"}:
                for id_ in ids:
                    await pace.next()
                    stream.put(event(b'{"thingId":%b}' % encode(id_), id=id_))
            else:
                door = self._exchange.door
                for id_, thing in await shown(door, ids, asked.subjects, asked.fields, correlation):
                    await pace.next()
                    stream.put(event(bytes(thing), id=id_))
            if after is None:
                break
            await stream.room()
            ids, after = await self._searching.walk(asked, after)
        stream.end()

    async def _behind(self, request: Request, sort: tuple[Sort, ...], last: str) -> After:
        """The place behind the thing that a reader saw last. Raises ThingIdInvalid, and ThingNotAccessible where an order needs it."""
        check_thing_id(last)
        keys = needed(sort)
        if not keys:
            return After((), last)
        assert request.caller is not None
        command = Command(
            verb="retrieve",
            id=last,
            subjects=request.caller.subjects,
            headers={"fields": EVERYTHING},
            origin=request.where,
        )
        thing = (await self._exchange.door.handle(command)).value
        return After(tuple(_key(thing, key) for key in keys), last)


def _key(thing: Json, key: Sort) -> tuple[int, Json]:
    """Where a thing stands by one key."""
    field = key.field
    if field == ("thingId",):
        return TEXT, thing["thingId"]
    if field in TIMES:
        return NUMERIC, float(times.parse(thing[field[0]]))
    if field[:2] == ("features", "*"):
        features = thing.get("features") or {}
        values = [value for feature in features.values() for value in evaluate.at(feature, field, 2)]
    else:
        values = evaluate.at(thing, field, 0)
    return stand(values[0] if len(values) == 1 else values or None, greatest=key.descending)


class Pace:
    """Lets so many through in a second, the first of them at once."""

    def __init__(self, per_second: int) -> None:
        """0: no bound."""
        self._per_second = per_second
        self._count = 0
        self._began = 0.0

    async def next(self) -> None:
        """Wait for the next one's turn."""
        if not self._per_second:
            return
        loop = asyncio.get_running_loop()
        if not self._count:
            self._began = loop.time()
        due = self._began + (self._count - self._per_second) / self._per_second
        self._count += 1
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
