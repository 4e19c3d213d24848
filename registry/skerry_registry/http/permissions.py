"""Questions about rights over HTTP: checkPermissions, explain, simulate and access."""

from __future__ import annotations

from msgspec import structs

from skerry.values import JsonInvalid
from skerry_policies.document import resource_key
from skerry_registry import checks
from skerry_registry.asking import Asker
from skerry_registry.http.answer import VERSION, Answer, of_json
from skerry_registry.http.errors import MethodNotAllowed, RouteNotFound
from skerry_registry.http.exchange import Exchange
from skerry_registry.http.request import Request
from skerry_registry.inquiries import Inquiries, Question

CHECK = b"/api/2/checkPermissions"
PERMISSIONS = ("READ", "WRITE", "EXECUTE", "READ_TS")


class Permissions:
    """Answers the questions."""

    def __init__(self, exchange: Exchange, inquiries: Inquiries) -> None:
        """`inquiries` knows; `exchange` reads bodies and minds the time."""
        self._exchange = exchange
        self._inquiries = inquiries

    async def check(self, request: Request) -> Answer:
        """`POST /checkPermissions`. Raises JsonInvalid and what is wrong with ids."""
        request.route = "checkPermissions"
        if request.path.rstrip(b"/") != CHECK:
            raise RouteNotFound(path=request.path.decode("latin-1"))
        if request.method != "POST":
            path = request.path.decode("latin-1")
            raise MethodNotAllowed(method=request.method, path=path, allow="POST", headers={"allow": "POST"})
        asked = checks.read_checks(await self._exchange.value(request))
        asker = asker_of(request)
        answers = await self._exchange.in_time(request, lambda: self._inquiries.check(asker, asked))
        return of_json(200, answers, [VERSION])

    async def explain(self, request: Request, policy_id: str) -> Answer:
        """`POST /policies/{id}/explain`. Raises JsonInvalid for a resource or permission that nothing asks for."""
        question = checks.read(await self._exchange.value(request), Question)
        if question.permission not in PERMISSIONS:
            problem = f"'{question.permission}' is none of {', '.join(PERMISSIONS)}"
            raise JsonInvalid(at="/permission", problem=problem)
        question = structs.replace(question, resource=resource_key("/resource", question.resource))
        asker = asker_of(request)
        found = await self._exchange.in_time(request, lambda: self._inquiries.explain(asker, policy_id, question))
        return of_json(200, found, [VERSION])

    async def simulate(self, request: Request, policy_id: str) -> Answer:
        """`POST /policies/{id}/simulate`."""
        changed = await self._exchange.value(request)
        asker = asker_of(request)
        found = await self._exchange.in_time(request, lambda: self._inquiries.simulate(asker, policy_id, changed))
        return of_json(200, found, [VERSION])

    async def access(self, request: Request, thing_id: str) -> Answer:
        """`GET /things/{id}/access`."""
        asker = asker_of(request)
        found = await self._exchange.in_time(request, lambda: self._inquiries.access(asker, thing_id))
        return of_json(200, found, [VERSION])


def asker_of(request: Request) -> Asker:
    """Who asks."""
    assert request.caller is not None
    return Asker(request.caller.subjects, request.reach)
