"""`/api/2/things` and everything below a thing: URL and body to Command, Response to HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from msgspec import UNSET

from skerry import headers, pointer, things
from skerry.ids import ThingIdInvalid, check_thing_id
from skerry.signals import Command, Json, NewId, Path, Verb
from skerry_registry.http import listing
from skerry_registry.http.answer import Answer
from skerry_registry.http.errors import (
    MethodNotAllowed,
    NotProvided,
    RouteNotFound,
    ThingNotCreatableLive,
)
from skerry_registry.http.exchange import Exchange
from skerry_registry.http.request import Request
from skerry_registry.http.search import Searching

PREFIX = b"/api/2/things"
DEFAULT_NAMESPACE = "org.eclipse.ditto"
VERBS: dict[str, Verb] = {"GET": "retrieve", "PUT": "modify", "PATCH": "merge", "DELETE": "delete"}
REMEMBERED = 8_192
SHORT = 512
"""Bytes of paths that are worth remembering."""

SELECTABLE = {"thing", "attributes", "features", "feature", "properties", "desiredProperties"}
"""The routes whose reads heed `fields`."""
COLLECTION = ("GET", "POST")
ANY = ("GET", "PUT", "PATCH", "DELETE")
KEPT = ("GET", "PUT", "PATCH")


_SINGLE: dict[bytes, tuple[str, tuple[str, ...]]] = {
    b"policyId": ("policyId", KEPT),
    b"definition": ("definition", ANY),
    b"access": ("access", ("GET",)),
}
"""What stands by itself below a thing."""

Question = Callable[[Request, str], Awaitable[Answer]]
"""Answers something about one thing."""


class Spot(NamedTuple):
    """What a URL names: the thing (empty: all of them), the path within, the methods there, and the class of route."""

    id: str
    path: Path
    methods: tuple[str, ...]
    route: str


class Things:
    """Answers requests on things."""

    def __init__(self, exchange: Exchange, new_id: NewId, searching: Searching, access: Question) -> None:
        """`new_id` names things that come without an id; `searching` finds those that nobody named; `access`: who may what."""
        self._exchange = exchange
        self._access = access
        self._searching = searching
        self._new_id = new_id
        self._spots: dict[bytes, Spot] = {}

    async def answer(self, request: Request) -> Answer:
        """Answer one request; raises SkerryError."""
        spot = self._spots.get(request.path)
        if spot is None:
            spot = self._remember(request.path)
        request.route = spot.route
        method = request.method
        if method not in spot.methods:
            allow = ", ".join(spot.methods)
            raise MethodNotAllowed(
                method=method, path=request.path.decode("latin-1"), allow=allow, headers={"allow": allow}
            )
        ditto = request.ditto
        accept = ditto.get("accept", "")
        if accept.startswith("text/event-stream"):
            raise NotProvided(what="Server-sent events")
        if accept.startswith("application/td+json"):
            raise NotProvided(what="Thing Descriptions")
        if not spot.id:
            return await self._collection(request)
        if spot.route == "access":
            return await self._access(request, spot.id)
        value: Json = UNSET
        if method == "GET":
            if "fields" in request.query and spot.route in SELECTABLE:
                ditto["fields"] = request.query["fields"]
        elif method != "DELETE":
            value = await self._exchange.value(request)
        assert request.caller is not None
        command = Command(
            verb=VERBS[method],
            id=spot.id,
            subjects=request.caller.subjects,
            path=spot.path,
            value=value,
            headers=ditto,
            origin=request.where,
        )
        return await self._exchange.carry_out(request, command, request.path)

    async def _collection(self, request: Request) -> Answer:
        if request.method == "POST":
            return await self._create(request)
        if "ids" in request.query:
            return await self._exchange.in_time(request, lambda: listing.named(self._exchange.door, request))
        return await self._exchange.in_time(request, lambda: listing.visible(self._searching, request))

    async def _create(self, request: Request) -> Answer:
        """A thing with an id of our making."""
        if headers.is_live(request.ditto):
            raise ThingNotCreatableLive
        value = await self._exchange.value(request)
        if isinstance(value, dict) and "thingId" in value:
            raise things.ThingIdNotSettable(thing_id=value["thingId"])
        thing_id = f"{request.query.get('namespace', DEFAULT_NAMESPACE)}:{self._new_id()}"
        check_thing_id(thing_id)
        assert request.caller is not None
        command = Command(
            verb="create",
            id=thing_id,
            subjects=request.caller.subjects,
            value=value,
            headers=request.ditto,
            origin=request.where,
        )
        return await self._exchange.carry_out(request, command, PREFIX + b"/" + quote(thing_id, safe=":").encode())

    def _remember(self, raw: bytes) -> Spot:
        spot = spot_of(raw)
        if len(raw) <= SHORT:
            if len(self._spots) >= REMEMBERED:
                self._spots.clear()
            self._spots[raw] = spot
        return spot


def spot_of(raw: bytes) -> Spot:
    """What the raw path names. Raises RouteNotFound, NotProvided, and what is wrong with ids and pointers."""
    rest = raw[len(PREFIX) :]
    if rest in {b"", b"/"}:
        return Spot("", (), COLLECTION, "things")
    parts = rest[1:].split(b"/")
    if parts[-1] == b"" and len(parts) > 1:
        parts.pop()
    if not rest.startswith(b"/") or b"" in parts[:2]:
        raise RouteNotFound(path=raw.decode("latin-1"))
    thing_id = thing_id_in(parts[0])
    if len(parts) == 1:
        return Spot(thing_id, (), ANY, "thing")
    route, methods = _route_of(parts[1:], raw)
    return Spot(thing_id, pointer.from_url(rest[1 + len(parts[0]) :]), methods, route)


def thing_id_in(segment: bytes) -> str:
    """The id in a segment of a URL. Raises ThingIdInvalid."""
    if pointer.has_bad_escape(segment):
        raise ThingIdInvalid(id=segment.decode("latin-1"), problem="a '%' is not followed by two hexadecimal digits")
    try:
        thing_id = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise ThingIdInvalid(id=segment.decode("latin-1"), problem="it is not UTF-8 once decoded") from error
    check_thing_id(thing_id)
    return thing_id


def _route_of(parts: list[bytes], raw: bytes) -> tuple[str, tuple[str, ...]]:
    """The class of route below a thing, and its methods."""
    head, count = parts[0], len(parts)
    if head == b"attributes":
        return "attributes" if count == 1 else "attribute", ANY
    if head in _SINGLE and count == 1:
        return _SINGLE[head]
    if head == b"migrateDefinition" and count == 1:
        raise NotProvided(what="Migrations of a definition")
    if head == b"features":
        if count <= 2:
            return ("features", "feature")[count - 1], ANY
        if parts[2] in {b"properties", b"desiredProperties"}:
            name = parts[2].decode()
            return name if count == 3 else {"properties": "property"}.get(name, "desiredProperty"), ANY
        if parts[2] == b"definition" and count == 3:
            return "featureDefinition", ANY
        parts = parts[2:]
    if parts[0] in {b"inbox", b"outbox"}:
        raise NotProvided(what="Messages to things")
    raise RouteNotFound(path=raw.decode("latin-1"))
