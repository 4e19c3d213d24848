"""`/api/2/timeseries`: a thing's history; URL and parameters in, the History's answer out."""

from __future__ import annotations

import logging

from skerry import pointer
from skerry.signals import Path
from skerry_adapters.series.ports import SeriesUnavailable
from skerry_adapters.series.query import QueryInvalid
from skerry_registry.history import History
from skerry_registry.http.answer import Answer, of_json
from skerry_registry.http.errors import MethodNotAllowed, RouteNotFound
from skerry_registry.http.request import Request
from skerry_registry.http.things import thing_id_in

log = logging.getLogger(__name__)

PREFIX = b"/api/2/timeseries/things/"


class Timeseries:
    """Answers requests below PREFIX."""

    def __init__(self, history: History) -> None:
        self._history = history

    async def answer(self, request: Request) -> Answer:
        """Answer one request; raises SkerryError."""
        request.route = "timeseries"
        if request.method != "GET":
            raise MethodNotAllowed(
                method=request.method, path=request.path.decode("latin-1"), allow="GET", headers={"allow": "GET"}
            )
        thing_id, path = _named(request.path)
        params = dict(request.query)
        paths = [path] if path else _paths(params)
        assert request.caller is not None
        try:
            return of_json(200, await self._history.answer(request.caller.subjects, thing_id, paths, params))
        except SeriesUnavailable as error:  # the reason names files and addresses: for the operator only
            log.warning("history not answered", extra={"reason": error.facts.get("reason")})
            raise


def _named(raw: bytes) -> tuple[str, Path]:
    """The thing and, where the URL goes on, the property. Raises RouteNotFound and what is wrong with id or pointer."""
    if not raw.startswith(PREFIX):
        raise RouteNotFound(path=raw.decode("latin-1"))
    thing, _, rest = raw[len(PREFIX) :].partition(b"/")
    if not thing:
        raise RouteNotFound(path=raw.decode("latin-1"))
    thing_id = thing_id_in(thing)
    path = pointer.from_url(b"/" + rest) if rest else ()
    if path and (len(path) < 4 or path[0] != "features" or path[2] != "properties"):
        raise RouteNotFound(path=raw.decode("latin-1"))
    return thing_id, path


def _paths(params: dict[str, str]) -> list[Path]:
    """The properties that `paths` names, taken out of the parameters."""
    text = params.pop("paths", "")
    if not text:
        raise QueryInvalid(
            name="paths", reason="it is missing; name properties, such as /features/scada/properties/power"
        )
    return [pointer.parse(one.strip()) for one in text.split(",")]
