"""Server-sent events of things: their changes, as they happen or as the journal has them, and messages (ditto.md 1.7)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from skerry import pointer
from skerry.headers import HeaderInvalid
from skerry.ids import check_thing_id
from skerry.live import payload_of, subject_of
from skerry.misspelt import check_names
from skerry.values import JsonFormatInvalid
from skerry_registry.http.errors import RouteNotFound
from skerry_registry.http.messages import box_in, path_in
from skerry_registry.http.search import namespaces_of
from skerry_registry.http.spots import segments
from skerry_registry.http.sse import Heart, Stream, event, place
from skerry_registry.http.sse_views import View, check, selector_of
from skerry_registry.http.things import CLAIM, PREFIX, thing_id_in
from skerry_registry.live import event_filter
from skerry_registry.live.changes import Wanted
from skerry_registry.live.channel import LiveWanted
from skerry_registry.live.persisted import EVER, Span, instant_of
from skerry_registry.live.sender import Sender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from litestar.types import Send

    from skerry.live import LiveSignal
    from skerry.signals import Micros, Path
    from skerry_registry.http.request import Request
    from skerry_registry.live.changes import Told
    from skerry_registry.live.persisted import Persisted
    from skerry_registry.live.sender import Leave
    from skerry_registry.live.streams import Streams
    from skerry_registry.registry import Registry

FROM_REVISION, TO_REVISION = "from-historical-revision", "to-historical-revision"
FROM_TIME, TO_TIME = "from-historical-timestamp", "to-historical-timestamp"
NAMES = (
    *("ids", "namespaces", "fields", "extraFields", "filter", "last-event-id"),
    *(FROM_REVISION, TO_REVISION, FROM_TIME, TO_TIME, "at-historical-revision", "at-historical-timestamp"),
)
"""Parameters that are not taken for misspelt ones; those of states in the past mean nothing here."""
PARTS = frozenset({"policyId", "definition", "attributes", "features"})
"""Members of a thing whose changes are told at their own paths."""
_NUMBER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)


BOUNDS = (
    "A revision is a whole number (-3: the third last), a timestamp an instant such as 2026-11-21T14:43:14Z or now-1h."
)


class ThingEvents:
    """Serves the streams below /api/2/things."""

    def __init__(
        self,
        registry: Registry,
        streams: Streams,
        persisted: Persisted,
        holds: Callable[[Request], Awaitable[bool]],
        heart: Heart,
    ) -> None:
        """`persisted`: the events of one thing; `holds`: whether a caller's login is still good."""
        self._registry = registry
        self._streams = streams
        self._persisted = persisted
        self._holds = holds
        self._heart = heart
        self._views: WeakValueDictionary[tuple[str | None, Path], View] = WeakValueDictionary()

    async def serve(self, request: Request, send: Send) -> None:
        """Answer one request. Raises SkerryError before the answer has begun."""
        request.route = "sse"
        thing_id, path, of_messages = _spot(request.path)
        stream = Stream(request, send, self._heart, holds=lambda: self._holds(request))
        if of_messages:
            await self._serve_messages(request, stream, thing_id, path)
            return
        check_names(request.query, NAMES)
        selector = selector_of(request.query.get("fields")) if not path else None
        if path:
            check(path[0])
        view = self._view(request.query.get("fields") if not path else None, path, lambda: View(selector, path))
        span = _span(request, self._registry.clock())
        if span is not None:
            if not thing_id:
                thing_id = _only(request.query.get("ids", ""))
            await self._serve_history(request, stream, view, thing_id, span)
        else:
            await self._serve_changes(request, stream, view, self._wanted(request, thing_id, path))

    def _view(self, fields: str | None, path: Path, make: Callable[[], View]) -> View:
        """The one view of all who ask for the same, so that a change is written once for all of them."""
        view = self._views.get((fields, path))
        if view is None:
            view = self._views[fields, path] = make()
        return view

    def _wanted(self, request: Request, thing_id: str, path: Path) -> Wanted:
        """Which changes are asked for. Raises ThingIdInvalid, RqlInvalid, FieldSelectorInvalid, ThingFieldsInvalid."""
        assert request.caller is not None
        query = request.query
        ids = [thing_id] if thing_id else [id_.strip() for id_ in query["ids"].split(",")] if "ids" in query else []
        for id_ in ids:
            check_thing_id(id_)
        extra = selector_of(query.get("extraFields"))
        filter_ = query.get("filter")
        return Wanted(
            subjects=request.caller.subjects,
            reach=request.reach,
            namespaces=_namespaces(request),
            ids=frozenset(ids),
            path=path if path[:1] and path[0] in PARTS and extra is None else (),
            filter=event_filter.parse(filter_, self._registry.clock()) if filter_ else None,
            extra=extra,
        )

    async def _serve_changes(self, request: Request, stream: Stream, view: View, wanted: Wanted) -> None:
        """Changes as they happen; first those that a reader who comes back has missed."""

        def take(told: Told) -> None:
            chunk = view.chunk(told)
            if chunk is not None:
                stream.put(chunk)

        after = _after(request)
        changes = self._streams.changes
        left: list[Leave] = []

        async def catch_up(after: int) -> None:
            left.append(await changes.resume(wanted, after, take, stream.room))
            stream.place = lambda: changes.told

        if after is None:
            left.append(changes.subscribe(wanted, take))
            stream.put(place(changes.told))
            stream.place = lambda: changes.told
        else:
            await changes.check(after)
        try:
            await stream.run(None if after is None else catch_up(after))
        finally:
            for leave in left:
                leave()

    async def _serve_history(self, request: Request, stream: Stream, view: View, thing_id: str, span: Span) -> None:
        """The events of one thing that the journal still has, and then the end. Raises ThingNotAccessible."""
        assert request.caller is not None
        sender = Sender(subjects=request.caller.subjects, reach=request.reach, origin=request.where)
        events = await self._persisted.events("thing", thing_id, sender, span)

        async def tell(events: AsyncIterator[Told]) -> None:
            async for told in events:
                chunk = view.chunk(told)
                if chunk is not None:
                    await stream.room()
                    stream.put(chunk)
            stream.end()

        await stream.run(tell(events))

    async def _serve_messages(self, request: Request, stream: Stream, thing_id: str, path: Path) -> None:
        """Messages as they are sent: the subject names the event, the payload is its data."""
        assert request.caller is not None
        everything = not subject_of(path)
        wanted = LiveWanted(
            sort="message",
            subjects=request.caller.subjects,
            reach=request.reach,
            namespaces=_namespaces(request),
            ids=frozenset((thing_id,)),
            path=path,
        )

        def take(signal: LiveSignal) -> None:
            if everything or signal.path == path:
                stream.put(event(_payload(signal), name=subject_of(signal.path)))

        leave = self._streams.live.subscribe(wanted, take)
        try:
            await stream.run()
        finally:
            leave()


def _spot(raw: bytes) -> tuple[str, Path, bool]:
    """The thing that a raw path names (none: all of them), the path within, and whether that is of messages.

    Raises RouteNotFound, ThingIdInvalid, PointerInvalid, SubjectInvalid.
    """
    parts = segments(raw, PREFIX)
    if not parts:
        return "", (), False
    thing_id = thing_id_in(parts[0])
    below = raw[len(PREFIX) + 1 + len(parts[0]) :]
    box = box_in(below) or (None if below.rstrip(b"/") == CLAIM else path_in(below))
    return thing_id, box or pointer.from_url(below), box is not None


def _namespaces(request: Request) -> frozenset[str]:
    return frozenset(namespaces_of(request.query.get("namespaces", "")))


def _only(ids: str) -> str:
    """The one thing whose history is asked for. Raises RouteNotFound, ThingIdInvalid."""
    thing_id, *others = [id_.strip() for id_ in ids.split(",")]
    if not thing_id or others:
        raise RouteNotFound(
            path="/api/2/things", description="The history is that of one thing: /api/2/things/{thingId}."
        )
    check_thing_id(thing_id)
    return thing_id


def _after(request: Request) -> int | None:
    """The number of the newest event that the reader knows, None where it has none. Raises HeaderInvalid."""
    text = request.edge.get("last-event-id") or request.query.get("last-event-id")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise HeaderInvalid(name="last-event-id", value=text, problem="it is the number of an event, 0 for the first")
    return int(text)


def _span(request: Request, now: Micros) -> Span | None:
    """The part of a history that is asked for; None where none is. Raises JsonFormatInvalid, RqlInvalid."""
    query = request.query
    if FROM_REVISION not in query and FROM_TIME not in query:
        for name in (TO_REVISION, TO_TIME):
            if name in query:
                raise _bound_invalid(name, query[name], f"it needs a from-{name[3:]} beside it")
        return None
    first, last = _revision(query, FROM_REVISION), _revision(query, TO_REVISION)
    after, before = _time(query, FROM_TIME, now), _time(query, TO_TIME, now)
    filter_ = query.get("filter")
    return Span(
        first=0 if first is None else first,
        last=EVER if last is None else last,
        after=after,
        before=before,
        filter=event_filter.parse(filter_, now) if filter_ else None,
    )


def _revision(query: dict[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text.strip()):
        raise _bound_invalid(name, text, "it is no whole number")
    return int(text)


def _time(query: dict[str, str], name: str, now: Micros) -> Micros | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        return instant_of(text.strip(), now)
    except ValueError as error:
        raise _bound_invalid(name, text, "it is no instant") from error


def _bound_invalid(name: str, value: str, problem: str) -> JsonFormatInvalid:
    """The error for a beginning or end of a history, under Ditto's code."""
    return JsonFormatInvalid(problem=f"{name} cannot be '{value}': {problem}", description=BOUNDS)


def _payload(signal: LiveSignal) -> str:
    """What a message carries, as text in UTF-8."""
    raw = payload_of(signal)
    charset = _CHARSET.search(signal.headers.get("content-type", ""))
    try:
        return raw.decode(charset[1] if charset else "utf-8", "replace")
    except LookupError:
        return raw.decode("utf-8", "replace")
