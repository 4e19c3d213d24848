# ruff: noqa: N818 - errors are rows of a table
"""`/api/2/search/things` and `/count`: what the caller may see of the things that a filter names, a page at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from msgspec import Raw, Struct, structs

from skerry import fields, things
from skerry.errors import SkerryError
from skerry.rql.predicate import Predicate
from skerry.signals import Command, Response
from skerry_registry.http import aggregate
from skerry_registry.http.answer import VERSION, Answer, encode, of_json
from skerry_registry.http.door import Door
from skerry_registry.http.errors import (
    MediaTypeUnsupported,
    MethodNotAllowed,
    RouteNotFound,
    SearchOptionInvalid,
    ThingsTooLarge,
)
from skerry_registry.http.exchange import Exchange
from skerry_registry.http.options import Option, Place, after_of, cursor_of, order, read_option
from skerry_registry.http.request import Request, parameters_in
from skerry_registry.identities.namespaces import Reach
from skerry_registry.memory import Memory
from skerry_registry.search.query import After
from skerry_registry.search.search import Search
from skerry_registry.search.wishes import predicate_of, reached

PREFIX = b"/api/2/search/things"
FORM = "application/x-www-form-urlencoded"
FORM_MAX = 1_048_576
NAMESPACES_MAX = 100
TURN = 100
"""Things that are read for one request before others have their turn."""
ANSWER_MAX = 32_000_000
"""Bytes of things in one answer."""
OFFSET_MAX = 1_000_000
ALL = ("GET", "POST")

Given: TypeAlias = "list[tuple[str, str]]"


class NamespacesInvalid(SkerryError):
    """Namespaces that cannot be searched."""

    code = "thing-search:search.namespaces.invalid"
    status = 400
    message = "The namespaces cannot be searched: {problem}."
    description = "Separate them by commas; leave the parameter out to search all that you may see."


class Asked(Struct, frozen=True):
    """A search as somebody asks for it. `filters` hold all together; `namespaces` None: all."""

    subjects: tuple[str, ...]
    filters: tuple[str, ...] = ()
    namespaces: tuple[str, ...] | None = None
    fields: str | None = None
    option: Option = Option()
    reach: Reach | None = None


class Found(Struct, frozen=True):
    """A page: its things, encoded, and the cursor of the next one."""

    items: list[Raw]
    cursor: str | None
    offset: int | None


class Searching:
    """Answers searches."""

    def __init__(self, exchange: Exchange, search: Search) -> None:
        """`search` says which things there are, `exchange` how they are read."""
        self._exchange = exchange
        self._door: Door = exchange.door
        self._search = search

    async def answer(self, request: Request) -> Answer:
        """Answer one request; raises SkerryError."""
        tail = request.path[len(PREFIX) :].removesuffix(b"/")
        given = [*request.given]
        if tail.startswith(b"/count&"):  # Ditto's Explorer writes so where it has only namespaces to ask for
            given += parameters_in(tail[len(b"/count&") :])
            tail = b"/count"
        request.route = "search" + tail.decode("latin-1").replace("/", " ") if tail in _ROUTES else "other"
        if tail not in _ROUTES:
            raise RouteNotFound(path=request.path.decode("latin-1"))
        methods = ("POST",) if tail == b"/aggregate" else ALL
        if request.method not in methods:
            allow = ", ".join(methods)
            raise MethodNotAllowed(
                method=request.method, path=request.path.decode("latin-1"), allow=allow, headers={"allow": allow}
            )
        if tail == b"/aggregate":
            return await self._aggregate(request)
        if request.method == "POST":
            given += await _form(request)
        asked = asked_of(request, given)
        if tail == b"/count":
            number = await self._exchange.in_time(request, lambda: self.count(asked))
            return of_json(200, number, [VERSION])
        found = await self._exchange.in_time(request, lambda: self.page(asked, request.ditto["correlation-id"]))
        page: dict[str, Any] = {"items": found.items}
        if found.cursor is not None:
            page["cursor"] = found.cursor
        else:
            page["nextPageOffset"] = -1 if found.offset is None else found.offset
        return of_json(200, page, [VERSION])

    async def count(self, asked: Asked) -> int:
        """How many things there are."""
        predicate = self.predicate(asked.filters)
        namespaces = await self._within(asked.namespaces, asked.reach)
        return await self._search.count(asked.subjects, predicate, namespaces=namespaces)

    async def walk(self, asked: Asked, after: After | None) -> tuple[list[str], After | None]:
        """The ids of a page behind a place, and the place of the next page."""
        namespaces = await self._within(asked.namespaces, asked.reach)
        page = await self._search.find(
            asked.subjects,
            self.predicate(asked.filters),
            namespaces=namespaces,
            sort=order(asked.option.sort) if asked.option.sort else (),
            after=after,
            size=asked.option.size,
        )
        return page.ids, page.next

    async def ids(self, asked: Asked) -> tuple[list[str], str | None]:
        """The ids of a page, and the cursor of the next."""
        option = asked.option
        predicate = self.predicate(asked.filters)
        page = await self._search.find(
            asked.subjects,
            predicate,
            namespaces=await self._within(asked.namespaces, asked.reach),
            sort=order(option.sort) if option.sort else (),
            after=None if option.place is None else after_of(option.place),
            skip=option.offset or 0,
            size=option.size,
        )
        if page.next is None:
            return page.ids, None
        return page.ids, cursor_of(
            Place(asked.filters, option.sort or "", asked.namespaces, page.next.keys, page.next.id)
        )

    async def page(self, asked: Asked, correlation: str) -> Found:
        """A page of things. Raises RqlInvalid, FieldSelectorInvalid, ThingsTooLarge."""
        option = asked.option
        if asked.fields is not None:
            fields.parse(asked.fields)
        if option.offset is not None and option.size == 0:
            return Found([], None, -1)
        ids, cursor = await self.ids(asked)
        if asked.fields in {"thingId", "/thingId"}:
            items = [Raw(encode({"thingId": id_})) for id_ in ids]
        else:
            whole = self._search.sees_all(asked.subjects) if asked.fields is None else None
            items = await retrieved(self._door, ids, asked.subjects, asked.fields, correlation, whole)
        if option.offset is None:
            return Found(items, cursor, None)
        return Found(items, None, -1 if cursor is None else option.offset + option.size)

    async def _aggregate(self, request: Request) -> Answer:
        """Groups and their figures."""
        assert request.caller is not None
        wanted = aggregate.read(await self._exchange.value(request))
        predicate = self.predicate(wanted.filters)
        subjects = request.caller.subjects
        asked_for = namespaces_of(",".join(wanted.namespaces)) if wanted.namespaces else None
        namespaces = await self._within(asked_for, request.reach)
        groups = await self._exchange.in_time(
            request,
            lambda: self._search.aggregate(
                subjects, predicate, namespaces=namespaces, by=wanted.by, metrics=wanted.metrics
            ),
        )
        return of_json(200, aggregate.shown(wanted, groups), [VERSION])

    async def _within(self, namespaces: tuple[str, ...] | None, reach: Reach | None) -> tuple[str, ...] | None:
        return await reached(self._search, namespaces, reach)

    def predicate(self, filters: Sequence[str]) -> Predicate | None:
        """What all filters say together. Raises RqlInvalid."""
        return predicate_of(filters, self._door.clock()) if filters else None


_ROUTES = (b"", b"/count", b"/aggregate")


def asked_of(request: Request, given: Given) -> Asked:
    """The search in the parameters; what a cursor brings along needs not be said again. Raises SearchOptionInvalid."""
    assert request.caller is not None
    known: dict[str, str] = {}
    filters: list[str] = []
    for name, value in given:
        if name == "filter":
            if value:
                filters.append(value)
        else:
            known.setdefault(name, value)
    option = read_option(known.get("option", ""))
    if (option.offset or 0) > OFFSET_MAX:
        raise SearchOptionInvalid(option=known["option"], reason=f"an offset is at most {OFFSET_MAX}; use a cursor")
    namespaces = namespaces_of(known["namespaces"]) if "namespaces" in known else None
    asked = Asked(request.caller.subjects, tuple(filters), namespaces, known.get("fields"), option, request.reach)
    return asked if option.place is None else _continued(asked, option.place, known["option"])


def _continued(asked: Asked, place: Place, text: str) -> Asked:
    """The search that the cursor belongs to. Raises SearchOptionInvalid where the request says another."""
    for name, said, bound in (
        ("filter", asked.filters or None, place.filters),
        ("namespaces", asked.namespaces, place.namespaces),
        ("sort", asked.option.sort, place.sort),
    ):
        if said is not None and said != bound:
            raise SearchOptionInvalid(option=text, reason=f"the cursor belongs to a search with another {name}")
    option = structs.replace(asked.option, sort=place.sort)
    return structs.replace(asked, filters=place.filters, namespaces=place.namespaces, option=option)


def namespaces_of(text: str) -> tuple[str, ...]:
    """The namespaces in a list, sorted; what can be none has no things, as in Ditto. Raises NamespacesInvalid."""
    found = sorted({name.strip() for name in text.split(",")} - {""})
    if len(found) > NAMESPACES_MAX:
        raise NamespacesInvalid(problem=f"there are more than {NAMESPACES_MAX} of them")
    return tuple(found)


async def retrieved(  # noqa: PLR0917 - who asks for what, and how
    door: Door,
    ids: Sequence[str],
    subjects: tuple[str, ...],
    selector: str | None,
    correlation: str,
    whole: Callable[[str], bool] | None = None,
) -> list[Raw]:
    """The things, each read for itself; what is not there for the caller is left out, any other failure raised.

    `whole` says which of them he may read all of: without a selector these are taken as they are, nobody being asked what to leave out.
    """
    return [thing for _, thing in await shown(door, ids, subjects, selector, correlation, whole)]


async def shown(  # noqa: PLR0917 - as `retrieved`
    door: Door,
    ids: Sequence[str],
    subjects: tuple[str, ...],
    selector: str | None,
    correlation: str,
    whole: Callable[[str], bool] | None = None,
) -> list[tuple[str, Raw]]:
    """As `retrieved`, each with its id."""
    headers = {"correlation-id": correlation}
    if selector is not None:
        headers["fields"] = selector
    found: list[tuple[str, Raw]] = []
    size = 0
    for start in range(0, len(ids), TURN):
        if start:
            await asyncio.sleep(0)  # others have their turn
        part = ids[start : start + TURN]
        texts = await _taken(door.memory, part, whole) if whole is not None and selector is None else {}
        commands = [
            Command(verb="retrieve", id=id_, subjects=subjects, headers=headers) for id_ in part if id_ not in texts
        ]
        answers = iter(await door.handle_all(commands) if commands else ())
        for id_ in part:
            known = texts.get(id_)
            text = _answered(next(answers)) if known is None else known
            if text is not None:
                size += len(text)
                if size > ANSWER_MAX:
                    raise ThingsTooLarge(limit=ANSWER_MAX)
                found.append((id_, Raw(text)))
    return found


async def _taken(memory: Memory, ids: Sequence[str], whole: Callable[[str], bool]) -> dict[str, bytes]:
    """Documents of things that may be read whole, also when they are here: rights may change while some are read."""
    found = await memory.found(filter(whole, ids))
    return {id_: text for id_, text in found.items() if whole(id_)}


def _answered(answer: Response | SkerryError) -> bytes | None:
    """What a read answered; None where there is nothing for the caller."""
    if isinstance(answer, Response):
        return encode(answer.value)
    if isinstance(answer, things.ThingNotAccessible):
        return None
    raise answer


async def _form(request: Request) -> Given:
    """The parameters in a form. Raises MediaTypeUnsupported."""
    given = request.edge.get("content-type", "")
    if given.partition(";")[0].strip().lower() != FORM:
        raise MediaTypeUnsupported(given=given, method="POST", accepted=FORM)
    return parameters_in(await request.body_in_time(FORM_MAX))
