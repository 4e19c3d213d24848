"""`GET /api/2/policies`: a page of the policies that the caller may read, of all or of those that are sought."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import quote, urlencode

import msgspec

from skerry import fields
from skerry_registry.http.answer import VERSION, Answer, of_json
from skerry_registry.http.errors import SearchOptionInvalid
from skerry_registry.http.exchange import Exchange
from skerry_registry.http.permissions import asker_of
from skerry_registry.http.request import Request
from skerry_registry.policy_list import PolicyList, Sought

SIZE, SIZE_MAX = 25, 200
NAMESPACES_MAX = 100
OPTION = re.compile(r"\s*(\w+)\(([^()]*)\)\s*(?:,|$)")
FILTERS = ("namespaces", "namespace", "subject", "resource")


class PolicyListing:
    """Answers the list."""

    def __init__(self, exchange: Exchange, policies: PolicyList) -> None:
        """`policies` finds; `exchange` minds the time."""
        self._exchange = exchange
        self._policies = policies

    async def answer(self, request: Request, _: str) -> Answer:
        """A page, sorted by id, with relative Link headers to itself and to the next. Raises SearchOptionInvalid."""
        query = request.query
        names = query.get("namespaces") or query.get("namespace") or ""
        namespaces = tuple(sorted({name.strip() for name in names.split(",")} - {""}))
        if len(namespaces) > NAMESPACES_MAX:
            raise SearchOptionInvalid(option="namespaces", reason=f"it has more than {NAMESPACES_MAX} of them")
        sought = Sought(namespaces, query.get("subject", ""), query.get("resource", ""))
        size, after = _read_option(query.get("option", ""), sought)
        selector = fields.parse(query["fields"]) if "fields" in query else None
        asker = asker_of(request)
        found = await self._exchange.in_time(request, lambda: self._policies.find(asker, after, size + 1, sought))
        page = found[:size]
        values = [held.document if selector is None else fields.select(held.document, selector) for held in page]
        links = [_link(request.query_string.decode("latin-1").replace(">", "%3E"), "canonical")]
        if len(found) > size:
            cursor = urlsafe_b64encode(msgspec.json.encode((page[-1].id, sought))).rstrip(b"=").decode()
            kept = {name: query[name] for name in (*FILTERS, "fields") if name in query}
            kept["option"] = f"cursor({cursor}),size({size})"
            links.append(_link(urlencode(kept, safe="(),/:*", quote_via=quote), "next"))
        return of_json(200, values, [VERSION, (b"link", ", ".join(links).encode())])


def _read_option(text: str, sought: Sought) -> tuple[int, str]:
    """Size and place of `size(..),cursor(..)`. Raises SearchOptionInvalid."""
    size, after, position = SIZE, "", 0
    while position < len(text):
        found = OPTION.match(text, position)
        if found is None:
            raise SearchOptionInvalid(option=text, reason="it is no list of name(value)")
        position = found.end()
        name, value = found[1], found[2].strip()
        if name == "size":
            if not value.isdecimal() or not 1 <= int(value) <= SIZE_MAX:
                raise SearchOptionInvalid(option=text, reason=f"a page has 1 to {SIZE_MAX} policies")
            size = int(value)
        elif name == "cursor":
            after = _after(value, sought, text)
        else:
            raise SearchOptionInvalid(option=text, reason=f"{name}({value}) is not known here")
    return size, after


def _after(cursor: str, sought: Sought, text: str) -> str:
    """The id that the last page ended with."""
    try:
        after, known = msgspec.json.decode(
            urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=tuple[str, Sought]
        )
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise SearchOptionInvalid(option=text, reason="the cursor is not one of ours") from error
    if known != sought:
        raise SearchOptionInvalid(option=text, reason="the cursor belongs to a request with other filters")
    return after


def _link(query: str, relation: str) -> str:
    return f'</api/2/policies{query and "?"}{query}>; rel="{relation}"'
