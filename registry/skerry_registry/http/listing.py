"""`GET /api/2/things`: the things named by ids, or a page of all that the caller may see."""

from __future__ import annotations

import asyncio
import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Raw

from skerry import fields, things
from skerry.ids import check_thing_id
from skerry.signals import Command, Held, Json, Response
from skerry_registry.http.answer import VERSION, Answer, encode, of_json
from skerry_registry.http.door import Door
from skerry_registry.http.errors import SearchOptionInvalid, ThingIdsMissing, ThingsTooLarge
from skerry_registry.http.request import Request

SIZE = 25
SIZE_MAX = 200
NAMESPACES_MAX = 100
TURN = 100
"""Things that are read for one request before others have their turn."""
ANSWER_MAX = 32_000_000
"""Bytes of things in one answer."""
OPTION = re.compile(r"\s*(\w+)\(([^()]*)\)\s*(?:,|$)")
LAST_BEHIND_NAMESPACE = ";"
"""What sorts right behind the colon of `namespace:name`."""


class Option(NamedTuple):
    """The `option` parameter, read."""

    size: int = SIZE
    after: str = ""


async def named(door: Door, request: Request) -> Answer:
    """The things with the given ids, in their order; what the caller may not see is left out, as what is not there."""
    text = request.query["ids"].strip().rstrip(",")
    if not text:
        raise ThingIdsMissing
    wanted = [id_.strip() for id_ in text.split(",")]
    for id_ in wanted:
        check_thing_id(id_)
    _check_fields(request)
    return of_json(200, await _retrieved(door, request, wanted), [VERSION])


async def visible(door: Door, request: Request) -> Answer:
    """A page of everything the caller may see, sorted by id, with relative Link headers to itself and to the next."""
    namespaces = sorted({name.strip() for name in request.query.get("namespaces", "").split(",")} - {""})
    if len(namespaces) > NAMESPACES_MAX:
        raise SearchOptionInvalid(option="namespaces", reason=f"it has more than {NAMESPACES_MAX} of them")
    option = read_option(request.query.get("option", ""), namespaces)
    _check_fields(request)
    assert request.caller is not None
    found = await _find(door, request.caller.subjects, namespaces, option)
    more = len(found) > option.size
    found = found[: option.size]
    if "_policy" in request.query.get("fields", ""):
        values = await _retrieved(door, request, [held.id for held in found])
    else:
        values = [_shown(request, held) for held in found]
    itself = request.query_string.decode("latin-1").replace(">", "%3E")
    links = [_link(itself, "canonical")]
    if more:
        cursor = urlsafe_b64encode(msgspec.json.encode([found[-1].id, namespaces])).rstrip(b"=").decode()
        links.append(_link(_query(request, f"cursor({cursor}),size({option.size})"), "next"))
    return of_json(200, values, [VERSION, (b"link", ", ".join(links).encode())])


def read_option(text: str, namespaces: list[str]) -> Option:
    """Read `size(..),cursor(..),sort(+thingId)`. Raises SearchOptionInvalid."""
    option = Option()
    position = 0
    while position < len(text):
        found = OPTION.match(text, position)
        if found is None:
            raise SearchOptionInvalid(option=text, reason="it is no list of name(value)")
        position = found.end()
        name, value = found[1], found[2].strip()
        if name == "size":
            if not value.isdecimal() or not 1 <= int(value) <= SIZE_MAX:
                raise SearchOptionInvalid(option=text, reason=f"a page has 1 to {SIZE_MAX} things")
            option = option._replace(size=int(value))
        elif name == "cursor":
            option = option._replace(after=_after(value, namespaces, text))
        elif name != "sort" or value.lstrip("+") not in {"thingId", "/thingId"}:
            raise SearchOptionInvalid(option=text, reason=f"{name}({value}) is not known here")
    return option


def _after(cursor: str, namespaces: list[str], text: str) -> str:
    """The id that the last page ended with."""
    try:
        after, known = msgspec.json.decode(
            urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=tuple[str, list[str]]
        )
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise SearchOptionInvalid(option=text, reason="the cursor is not one of ours") from error
    if known != namespaces:
        raise SearchOptionInvalid(option=text, reason="the cursor belongs to a request with other namespaces")
    return after


async def _find(door: Door, subjects: tuple[str, ...], namespaces: list[str], option: Option) -> list[Held]:
    """One more than a page, to know whether there is a next."""
    wanted = option.size + 1
    if not namespaces:
        return await door.things(subjects, option.after, wanted)
    found: list[Held] = []
    for namespace in sorted(namespaces, key=lambda name: name + ":"):
        first = namespace + ":"
        if option.after >= namespace + LAST_BEHIND_NAMESPACE:
            continue
        page = await door.things(subjects, max(option.after, first), wanted - len(found))
        found.extend(held for held in page if held.id.startswith(first))
        if len(found) >= wanted:
            break
    return found


async def _retrieved(door: Door, request: Request, ids: list[str]) -> list[Json]:
    """The things, each read for itself; what is not there for the caller is left out, any other failure raised."""
    found: list[Json] = []
    size = 0
    for start in range(0, len(ids), TURN):
        for answer in await door.handle_all([_retrieve(request, id_) for id_ in ids[start : start + TURN]]):
            if isinstance(answer, Response):
                text = encode(answer.value)
                size += len(text)
                if size > ANSWER_MAX:
                    raise ThingsTooLarge(limit=ANSWER_MAX)
                found.append(Raw(text))
            elif not isinstance(answer, things.ThingNotAccessible):
                raise answer
        await asyncio.sleep(0)  # others have their turn
    return found


def _check_fields(request: Request) -> None:
    """Raise FieldSelectorInvalid even where there is nothing to select from."""
    if "fields" in request.query:
        fields.parse(request.query["fields"])


def _retrieve(request: Request, id_: str) -> Command:
    assert request.caller is not None
    asked = {"correlation-id": request.ditto["correlation-id"]}
    if "fields" in request.query:
        asked["fields"] = request.query["fields"]
    return Command(verb="retrieve", id=id_, subjects=request.caller.subjects, headers=asked)


def _shown(request: Request, held: Held) -> Any:
    assert held.document is not None
    return things.retrieve(held, held.document, _retrieve(request, held.id)).value


def _query(request: Request, option: str) -> str:
    kept: dict[str, str] = {name: request.query[name] for name in ("fields", "namespaces") if name in request.query}
    kept["option"] = option
    return urlencode(kept, safe="(),/", quote_via=quote)


def _link(query: str, relation: str) -> str:
    return f'</api/2/things{query and "?"}{query}>; rel="{relation}"'
