"""`GET /api/2/things`: the things named by ids, or a page of all that the caller may see."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from skerry import fields
from skerry.ids import check_thing_id, split_id
from skerry_registry.http.answer import VERSION, Answer, of_json
from skerry_registry.http.door import Door
from skerry_registry.http.request import Request
from skerry_registry.http.search import Searching, asked_of, retrieved


async def named(door: Door, request: Request) -> Answer:
    """The things with the given ids, in their order; what the caller may not see is left out, as what is not there."""
    text = request.query["ids"].strip().rstrip(",")
    wanted = [id_.strip() for id_ in text.split(",")]
    for id_ in wanted:
        check_thing_id(id_)
    selector = request.query.get("fields")
    if selector is not None:
        fields.parse(selector)
    assert request.caller is not None
    if request.reach is not None:
        wanted = [id_ for id_ in wanted if request.reach.covers("thing", split_id(id_)[0])]
    found = await retrieved(door, wanted, request.caller.subjects, selector, request.ditto["correlation-id"])
    return of_json(200, found, [VERSION])


async def visible(searching: Searching, request: Request) -> Answer:
    """A page of everything the caller may see, with relative Link headers to itself and to the next."""
    asked = asked_of(request, request.given)
    found = await searching.page(asked, request.ditto["correlation-id"])
    itself = request.query_string.decode("latin-1").replace(">", "%3E")
    links = [_link(itself, "canonical")]
    if found.cursor is not None:
        links.append(_link(_query(request, f"cursor({found.cursor}),size({asked.option.size})"), "next"))
    return of_json(200, found.items, [VERSION, (b"link", ", ".join(links).encode())])


def _query(request: Request, option: str) -> str:
    kept: dict[str, str] = {name: request.query[name] for name in ("fields", "namespaces") if name in request.query}
    kept["option"] = option
    return urlencode(kept, safe="(),/", quote_via=quote)


def _link(query: str, relation: str) -> str:
    return f'</api/2/things{query and "?"}{query}>; rel="{relation}"'
