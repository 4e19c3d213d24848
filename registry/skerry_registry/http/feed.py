# ruff: noqa: N818 - errors are rows of a table
"""`GET /api/2/feed`: changes of things in the order of the journal, for consumers who fetch them and remember how far they are."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from skerry import fields, headers
from skerry.errors import SkerryError
from skerry.ids import check_thing_id
from skerry.signals import Clock
from skerry_registry.http.answer import JSON, Answer
from skerry_registry.http.errors import MethodNotAllowed, RouteNotFound
from skerry_registry.http.request import ClientGone, Request
from skerry_registry.http.route import Route
from skerry_registry.live import event_filter
from skerry_registry.live.changes import Changes, Told, Wanted

LIMIT, LIMIT_MAX = 100, 1_000
BYTES_MAX = 4_000_000
"""Bytes of items after which an answer takes no more of them."""
IDS_MAX = 1_000
PATH = b"/api/2/feed"
LATEST = "latest"
NAMES = ("after", "limit", "timeout", "filter", "namespaces", "ids", "extraFields")


class FeedQueryInvalid(SkerryError):
    """A parameter that cannot be."""

    code = "feed.query.invalid"
    status = 400
    message = "The parameter {name} cannot be '{value}': {reason}."
    description = "GET /api/2/feed?after=0&limit=100&timeout=20s; then after is what next was."


class Feed:
    """Answers readers of the feed."""

    def __init__(self, changes: Changes, clock: Clock) -> None:
        """`clock` says what time:now means in a filter."""
        self._changes = changes
        self._clock = clock

    async def answer(self, request: Request) -> Answer:
        """A page of changes; `next` is what `after` has to be for the next one. Waits for the first as long as is asked.

        Raises FeedQueryInvalid, EventsForgotten, EventsUnknown.
        """
        request.route = "feed"
        path = request.path.decode("latin-1")
        if request.path.rstrip(b"/") != PATH:
            raise RouteNotFound(path=path)
        if request.method != "GET":
            raise MethodNotAllowed(method=request.method, path=path, allow="GET", headers={"allow": "GET"})
        changes = self._changes
        wanted, after, limit = self._read(request)
        if after < 0:
            after = changes.told
        seconds = headers.timeout(request.ditto.get("timeout"), 0.0)
        end = time.monotonic() + seconds
        found, after = await changes.read(wanted, after, limit)
        if not found and seconds:
            request.begun = time.perf_counter()  # from here on it is the reader's wish that it takes long
            waiting = asyncio.ensure_future(self._first(wanted, after, limit, end))
            gone = asyncio.ensure_future(_gone(request))
            try:
                await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not waiting.done():
                    raise ClientGone
                found, after = waiting.result()
            finally:
                waiting.cancel()
                gone.cancel()
                await asyncio.wait({waiting, gone})
        return Answer(200, _page(found, after), (JSON,))

    async def _first(self, wanted: Wanted, after: int, limit: int, end: float) -> tuple[list[Told], int]:
        """A page, once there is something for it or the time is up."""
        found: list[Told] = []
        while not found and (left := end - time.monotonic()) > 0:
            after = await self._changes.wait(wanted, after, left)
            found, after = await self._changes.read(wanted, after, limit)
        return found, after

    def _read(self, request: Request) -> tuple[Wanted, int, int]:
        """What is asked for, after which number (-1: the latest), and how many changes."""
        query = request.query
        for name, value in query.items():
            if name not in NAMES:
                near = difflib.get_close_matches(name, NAMES, 1, 0.5)
                hint = f"perhaps {near[0]} is meant" if near else f"there are {', '.join(NAMES)}"
                raise FeedQueryInvalid(name=name, value=value, reason=f"there is no such parameter; {hint}")
        ids = _list(query, "ids")
        if len(ids) > IDS_MAX:
            raise FeedQueryInvalid(name="ids", value=f"{ids[0]},…", reason=f"it names {IDS_MAX} things at most")
        for id_ in ids:
            check_thing_id(id_)
        predicate, extra = query.get("filter"), query.get("extraFields")
        assert request.caller is not None
        wanted = Wanted(
            subjects=request.caller.subjects,
            reach=request.reach,
            namespaces=frozenset(_list(query, "namespaces")),
            ids=frozenset(ids),
            filter=event_filter.parse(predicate, self._clock()) if predicate else None,
            extra=fields.parse(extra) if extra else None,
        )
        after = -1 if query.get("after") == LATEST else _number(query, "after", 0, 2**62, 0)
        return wanted, after, _number(query, "limit", 1, LIMIT_MAX, LIMIT)


async def _gone(request: Request) -> None:
    """Return when the reader has hung up."""
    message: Any = await request.receive()
    while message["type"] != "http.disconnect":
        message = await request.receive()


def _page(found: Sequence[Told], after: int) -> bytes:
    """The answer, with as many of the changes as there is room for."""
    items: list[bytes] = []
    size = last = 0
    for told in found:
        item = b'{"number":%d,"event":%b}' % (told.number, told.text)
        size += len(item)
        if items and size > BYTES_MAX:
            after = last
            break
        items.append(item)
        last = told.number
    return b'{"items":[%b],"next":%d}' % (b",".join(items), after)


def _list(query: Mapping[str, str], name: str) -> list[str]:
    """The parts of a parameter that are separated by commas."""
    return [part.strip() for part in query.get(name, "").split(",") if part.strip()]


def _number(query: Mapping[str, str], name: str, least: int, most: int, default: int) -> int:
    """A whole number."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
        raise FeedQueryInvalid(name=name, value=text[:100], reason=f"it is a number from {least} to {most}")
    return int(text)


_TEXT = {"type": "string"}

FEED_ROUTES = (
    Route(
        method="GET",
        path="/api/2/feed",
        summary="Changes of things after a number, in order; waits for the first if asked to",
        tag="Things",
        parameters=(
            "feed-after",
            "feed-limit",
            "feed-timeout",
            "feed-filter",
            "namespaces",
            "feed-ids",
            "feed-extraFields",
        ),
        errors=(400, 401, 410, 503),
        schema="FeedPage",
    ),
)


def _asked(name: str, description: str, schema: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema or _TEXT, **more}


FEED_PARAMETERS: dict[str, dict[str, Any]] = {
    f"feed-{facts['name']}": facts
    for facts in (
        _asked(
            "after",
            "next of the last page: only changes after that number. 0, as when left out: all that are kept; latest: none of those.",
            {"anyOf": [{"type": "integer", "minimum": 0}, {"enum": [LATEST]}], "default": 0},
        ),
        _asked(
            "limit", "Changes of a page.", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT}
        ),
        _asked(
            "timeout", "How long to wait for the first change: seconds, or with ms, s, m; at most 60 s.", example="20s"
        ),
        _asked(
            "filter",
            "RQL on what has changed, the extra fields, topic:action and resource:path.",
            example='eq(topic:action,"created")',
        ),
        _asked(
            "extraFields",
            "What else of the thing each event tells, as it is now: a field selector.",
            example="attributes/location",
        ),
        _asked("ids", "Only of these things, separated by commas.", example="demo:T01,demo:T02"),
    )
}

FEED_SCHEMAS: dict[str, Any] = {
    "FeedPage": {
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": {"$ref": "#/components/schemas/FeedItem"}},
            "next": {"type": "integer", "description": "What after has to be for the next page."},
        },
        "required": ["items", "next"],
    },
    "FeedItem": {
        "type": "object",
        "properties": {
            "number": {"type": "integer", "description": "The change's place in the journal."},
            "event": {
                "type": "object",
                "additionalProperties": True,
                "description": "An envelope of the Ditto Protocol.",
            },
        },
        "required": ["number", "event"],
    },
}
