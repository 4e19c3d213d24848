# ruff: noqa: N818 - errors are rows of a table
"""`PATCH` and `DELETE /api/2/bulk/things`: one change of every thing that a filter names, a row for each."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Sequence
from typing import Any

from litestar.types import Send
from msgspec import UNSET, structs

from skerry.errors import SkerryError
from skerry.headers import boolean
from skerry.signals import Command, Json, Verb
from skerry_registry.http.answer import VERSION, encode, of_error
from skerry_registry.http.edge import answer_in
from skerry_registry.http.errors import MethodNotAllowed
from skerry_registry.http.exchange import EXPLAINED, Exchange
from skerry_registry.http.options import Option
from skerry_registry.http.outbox import Outbox
from skerry_registry.http.request import QUERY_HEADERS, ClientGone, Request
from skerry_registry.http.search import Asked, Searching, asked_of

NDJSON = (b"content-type", b"application/x-ndjson")
BATCH = 100
"""Things that are changed together: others have their turn in between."""
VERBS: dict[str, Verb] = {"PATCH": "merge", "DELETE": "delete"}
GONE = frozenset({404, 412})
"""What a thing answers that no longer is what was searched for."""


class FilterMissing(SkerryError):
    """A change of everything, which nobody means."""

    code = "bulk:filter.missing"
    status = 400
    message = "Nothing says which things are meant."
    description = "Give a filter, as filter=eq(attributes/retired,true); exists(thingId) names all that you may see."


class ParameterUnknown(SkerryError):
    """A parameter that nobody would follow: `dryrun=true` would do what it was to try out."""

    code = "bulk:parameter.unknown"
    status = 400
    message = "There is no parameter '{name}' here; {hint}."
    description = "Nothing was done. Correct the parameter, or leave it out."


def check_parameters(request: Request, *own: str) -> None:
    """Raise ParameterUnknown for one that is neither of these nor a header."""
    names = (*own, "dry-run")
    for name in request.query:
        if name not in own:
            near = difflib.get_close_matches(name.lower().replace("_", "-"), [*names, *QUERY_HEADERS], 1)
            hint = f"did you mean {near[0]}" if near else f"there are {', '.join(names)}"
            raise ParameterUnknown(name=name, hint=hint)


class Selection:
    """Changes what a search finds."""

    def __init__(self, exchange: Exchange, searching: Searching) -> None:
        """`searching` finds the things, `exchange` reads the patch and carries the changes out."""
        self._exchange = exchange
        self._searching = searching

    async def serve(self, request: Request, send: Send) -> None:
        """Answer one request; what is wrong with it as a whole is told before the first row."""
        request.route = "bulk things"
        outbox = Outbox(send)
        try:
            if request.method not in VERBS:
                allow = ", ".join(VERBS)
                path = request.path.decode("latin-1")
                raise MethodNotAllowed(method=request.method, path=path, allow=allow, headers={"allow": allow})
            check_parameters(request, "filter", "namespaces")
            asked = asked_of(request, request.given)
            if not asked.filters:
                raise FilterMissing
            asked = structs.replace(asked, option=Option(size=BATCH))
            value: Json = await self._exchange.value(request) if request.method == "PATCH" else UNSET
            await self._change_all(request, asked, value, outbox)
            await outbox.finish()
        except SkerryError as error:
            if not outbox.started:
                await answer_in(of_error(error), request, send)
                return
            await outbox.put(encode(error.payload()) + b"\n")
            await outbox.finish()
        except ClientGone:
            pass
        finally:
            await outbox.close()

    async def _change_all(self, request: Request, asked: Asked, value: Json, outbox: Outbox) -> None:
        """A row for each thing, and a last one that sums up."""
        rehearsal = boolean(request.ditto, "dry-run", default=False)
        door = self._exchange.door
        carry_out = door.rehearse if rehearsal else door.handle_all
        ids, place = await self._searching.walk(asked, None)
        await outbox.start(200, [NDJSON, VERSION])
        counts = {"matched": 0, "done": 0, "changed": 0, "refused": 0}
        while ids:
            rows: list[bytes] = []
            for command, answer in zip(
                commands := _commands(request, asked, ids, value), await carry_out(commands), strict=True
            ):
                row: dict[str, Any] = {"thingId": command.id, "status": answer.status}
                counts["matched"] += 1
                if not isinstance(answer, SkerryError):
                    counts["done"] += 1
                elif answer.status in GONE:
                    counts["changed"] += 1
                    row |= answer.payload()
                else:
                    counts["refused"] += 1
                    if counts["refused"] <= EXPLAINED:
                        await self._exchange.say_why(request, command, answer)
                        await asyncio.sleep(0)  # a reason may take long to find: others have their turn
                    row |= answer.payload()
                rows.append(encode(row) + b"\n")
            await outbox.put(b"".join(rows))
            if place is None:
                break
            ids, place = await self._searching.walk(asked, place)
        await outbox.put(encode({"summary": {**counts, "dryRun": rehearsal}}) + b"\n")


def _commands(request: Request, asked: Asked, ids: Sequence[str], value: Json) -> list[Command]:
    """The change of each thing, provided that the filter still names it."""
    filters = asked.filters
    condition = filters[0] if len(filters) == 1 else f"and({','.join(filters)})"
    headers = {"correlation-id": request.ditto["correlation-id"], "condition": condition, "if-match": "*"}
    verb = VERBS[request.method]
    origin = request.where
    return [
        Command(verb=verb, id=id_, subjects=asked.subjects, value=value, headers=headers, origin=origin) for id_ in ids
    ]
