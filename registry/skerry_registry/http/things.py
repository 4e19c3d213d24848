"""`/api/2/things` and everything below a thing: URL and body to Command, Response to HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from msgspec import UNSET

from skerry import headers, pointer, things
from skerry.ids import ThingIdInvalid, check_thing_id
from skerry.signals import Command, Json, NewId, Verb
from skerry_registry.http import listing
from skerry_registry.http.answer import Answer
from skerry_registry.http.errors import NotProvided, RouteNotFound, StreamOnly, ThingNotCreatableLive
from skerry_registry.http.exchange import Exchange
from skerry_registry.http.messages import Messages, box_in, path_in
from skerry_registry.http.request import Request
from skerry_registry.http.search import Searching
from skerry_registry.http.spots import Spot, Spots, id_in, segments
from skerry_registry.live import commands

PREFIX = b"/api/2/things"
DEFAULT_NAMESPACE = "org.eclipse.ditto"
VERBS: dict[str, Verb] = {
    "GET": "retrieve",
    "PUT": "modify",
    "PATCH": "merge",
    "DELETE": "delete",
    "POST": "migrate",
}

SELECTABLE = {"thing", "attributes", "features", "feature", "properties", "desiredProperties"}
"""The routes whose reads heed `fields`."""
COLLECTION = ("GET", "POST")
CLAIM = b"/inbox/claim"
ANY = ("GET", "PUT", "PATCH", "DELETE")
KEPT = ("GET", "PUT", "PATCH")


_SINGLE: dict[bytes, tuple[str, tuple[str, ...]]] = {
    b"policyId": ("policyId", KEPT),
    b"definition": ("definition", ANY),
    b"access": ("access", ("GET",)),
    b"migrateDefinition": ("migrateDefinition", ("POST",)),
}
"""What stands by itself below a thing."""

Question = Callable[[Request, str], Awaitable[Answer]]
"""Answers something about one thing."""


class Things:
    """Answers requests on things."""

    def __init__(
        self, exchange: Exchange, new_id: NewId, searching: Searching, access: Question, messages: Messages
    ) -> None:
        """`new_id` names things that come without an id; `searching` finds those that nobody named; `access`: who may what.

        `messages` carries what is for the live channel.
        """
        self._exchange = exchange
        self._messages = messages
        self._access = access
        self._searching = searching
        self._new_id = new_id
        self._spots = Spots(spot_of)

    async def answer(self, request: Request) -> Answer:
        """Answer one request; raises SkerryError."""
        spot, method = self._spots.named(request), request.method
        ditto = request.ditto
        accept = ditto.get("accept", "")
        if accept.startswith("application/td+json"):
            raise NotProvided(what="Thing Descriptions")
        if not spot.id:
            return await self._collection(request)
        if spot.route == "access":
            return await self._access(request, spot.id)
        if spot.route == "message":
            return await self._message(request, spot)
        value: Json = UNSET
        if method == "GET":
            if "fields" in request.query and spot.route in SELECTABLE:
                ditto["fields"] = request.query["fields"]
        elif method != "DELETE":
            value = await self._exchange.value(request)
        live = headers.is_live(ditto) or commands.CONDITION in ditto
        if (live or method != "GET") and (own := request.of_sender()):
            ditto = own | ditto
        assert request.caller is not None
        command = Command(
            verb=VERBS[method],
            id=spot.id,
            subjects=request.caller.subjects,
            path=() if spot.route == "migrateDefinition" else spot.path,
            value=value,
            headers=ditto,
            origin=request.where,
        )
        if live and spot.route != "migrateDefinition":
            return await self._messages.command(request, command, request.path)
        return await self._exchange.carry_out(request, command, request.path)

    async def _collection(self, request: Request) -> Answer:
        if request.method == "POST":
            return await self._create(request)
        if "ids" in request.query:
            return await self._exchange.in_time(request, lambda: listing.named(self._exchange.door, request))
        return await self._exchange.in_time(request, lambda: listing.visible(self._searching, request))

    async def _message(self, request: Request, spot: Spot) -> Answer:
        if request.method == "GET":
            raise StreamOnly(path=request.path.decode("latin-1"))
        if not spot.path:
            raise RouteNotFound(path=request.path.decode("latin-1"))
        return await self._messages.message(request, spot.id, spot.path)

    async def _create(self, request: Request) -> Answer:
        """A thing with an id of our making."""
        if headers.is_live(request.ditto):
            raise ThingNotCreatableLive
        value = await self._exchange.value(request)
        if isinstance(value, dict) and "thingId" in value:
            raise things.ThingIdNotSettable(thing_id=value["thingId"])
        thing_id = f"{request.query.get('namespace') or DEFAULT_NAMESPACE}:{self._new_id()}"
        check_thing_id(thing_id)
        assert request.caller is not None
        command = Command(
            verb="create",
            id=thing_id,
            subjects=request.caller.subjects,
            value=value,
            headers=request.of_sender() | request.ditto,
            origin=request.where,
        )
        return await self._exchange.carry_out(request, command, PREFIX + b"/" + quote(thing_id, safe=":").encode())


def spot_of(raw: bytes) -> Spot:
    """What the raw path names. Raises RouteNotFound, NotProvided, and what is wrong with ids and pointers."""
    parts = segments(raw, PREFIX)
    if not parts:
        return Spot("", (), COLLECTION, "things")
    thing_id = thing_id_in(parts[0])
    if len(parts) == 1:
        return Spot(thing_id, (), ANY, "thing")
    below = raw[len(PREFIX) + 1 + len(parts[0]) :]
    path = path_in(below)
    if path is not None:
        return Spot(thing_id, path, ("POST",) if below.rstrip(b"/") == CLAIM else COLLECTION, "message")
    if box_in(below) is not None:
        return Spot(thing_id, (), COLLECTION, "message")
    route, methods = _route_of(parts[1:], raw)
    return Spot(thing_id, pointer.from_url(below), methods, route)


def thing_id_in(segment: bytes) -> str:
    """The id in a segment of a URL. Raises ThingIdInvalid."""
    thing_id = id_in(segment, ThingIdInvalid)
    check_thing_id(thing_id)
    return thing_id


def _route_of(parts: list[bytes], raw: bytes) -> tuple[str, tuple[str, ...]]:
    """The class of route below a thing, and its methods."""
    head, count = parts[0], len(parts)
    if head == b"attributes":
        return "attributes" if count == 1 else "attribute", ANY
    if head in _SINGLE and count == 1:
        return _SINGLE[head]
    if head == b"features":
        if count <= 2:
            return ("features", "feature")[count - 1], ANY
        if parts[2] in {b"properties", b"desiredProperties"}:
            name = parts[2].decode()
            return name if count == 3 else {"properties": "property"}.get(name, "desiredProperty"), ANY
        if parts[2] == b"definition" and count == 3:
            return "featureDefinition", ANY
    raise RouteNotFound(path=raw.decode("latin-1"))
