"""The outermost layer of HTTP: correlation id, limits, CORS, login, errors, measures; the routes are within."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any
from urllib.parse import unquote

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from skerry.errors import SkerryError
from skerry.signals import NewId
from skerry_registry.http.answer import Answer, Header, of_error, send_answer, send_early
from skerry_registry.http.errors import ApiVersionNotSupported, AuthenticationFailed, RequestInvalid
from skerry_registry.http.operations import require_devops, require_status
from skerry_registry.http.request import Request, Room
from skerry_registry.identities.caller import Caller
from skerry_registry.identities.logins import PRE_AUTHENTICATED, Identities
from skerry_registry.identities.namespaces import NamespaceRules, headers_of

log = logging.getLogger(__name__)

PUBLIC = {
    *(b"/alive", b"/ready", b"/health", b"/openapi.json"),
    *(b"/apidoc", b"/apidoc/", b"/apidoc/2", b"/apidoc/apidoc.css", b"/apidoc/apidoc.js"),
}
"""Paths without a login."""
OPERATIONS = (b"/metrics", b"/devops", b"/api/2/connections")
STATUS = (b"/status", b"/overall/status", b"/stats")
ENTITY = re.compile(rb"/api/2/(?:timeseries/)?(things|policies)/([^/]*(?::|%3[aA])[^/]*)")
"""Paths to or below one thing or policy."""
HOST = re.compile(r"[\w.~%:\[\]-]*", re.ASCII)
METHODS = b"GET, POST, PUT, PATCH, DELETE, OPTIONS"
EXPOSED = (
    b"correlation-id, response-required, dry-run, channel, etag, ditto-originator, requested-acks, timeout, location,"
    b" ditto-metadata, traceparent, tracestate, entity-revision, link, retry-after"
)
GONE = 499
"""What is counted where the client went away before there was an answer."""
NOSNIFF = (b"x-content-type-options", b"nosniff")

Measure = Callable[[Request, int, float], None]
Refused = Callable[[Request, SkerryError], None]
REFUSALS = (401, 403, 429)


class Edge:
    """Wraps the routes. A request it lets through stands in the scope as `skerry`, with its caller."""

    def __init__(
        self,
        routes: ASGIApp,
        identities: Identities,
        new_id: NewId,
        measure: Measure,
        *,
        cors_origins: str = "",
        namespaces: NamespaceRules | None = None,
        refused: Refused | None = None,
        mounts: Mapping[bytes, ASGIApp] | None = None,
    ) -> None:
        """`cors_origins`: comma separated, or `*`; `namespaces`: the rules on who may reach which; `refused`: for the audit trail.

        `mounts`: those of the routes below `/api/2` that most requests are for, which need no router to find them.
        """
        self._routes = routes
        self._mounts = mounts or {}
        self._identities = identities
        self._namespaces = namespaces
        self._refused = refused
        self._run = new_id()
        self._numbers = itertools.count(1)
        self._measure = measure
        self._origins = {origin.strip() for origin in cors_origins.split(",") if origin.strip()}
        self._room = Room()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP:
            await self._routes(scope, receive, send)
            return
        began = perf_counter()
        request = Request(scope, receive, self._room)
        reply = Reply(send, silent=request.method == "HEAD")
        if reply.silent:
            request.method = scope["method"] = "GET"
        try:
            await self._answer(request, scope, reply)
        except Exception:
            log.exception("request failed", extra={"correlation": request.ditto.get("correlation-id")})
            if not reply.status:
                await answer_in(of_error(SkerryError()), request, reply.send)
        finally:
            seconds = (request.begun or perf_counter()) - began
            self._measure(request, reply.status or GONE, seconds)
            if log.isEnabledFor(logging.DEBUG):
                log.debug("request answered", extra=_facts(request, reply.status, seconds))

    async def _answer(self, request: Request, scope: Scope, reply: Reply) -> None:
        try:
            try:
                request.read_headers(scope["headers"])
            finally:
                reply.headers = self._common(request)
            if reply.silent:
                request.ditto.pop("accept", None)  # a stream without its body would have no end
            if request.method == "OPTIONS":
                await send_answer(self._preflight(request), reply.send)
                return
            if not HOST.fullmatch(request.edge.get("host", "")):
                raise RequestInvalid(problem="the host has characters that no host has")
            await self._login(request, scope)
            scope["skerry"] = request  # type: ignore[typeddict-unknown-key]
            words = request.path.split(b"/", 5)
            mount = self._mounts.get(b"/".join(words[:4])) or self._mounts.get(b"/".join(words[:5])) or self._routes
            await mount(scope, request.receive, reply.send)
        except SkerryError as error:
            if self._refused is not None and error.status in REFUSALS and _tried(request):
                self._refused(request, error)
            await answer_in(of_error(error), request, reply.send)

    def _common(self, request: Request) -> list[Header]:
        """Headers of every answer."""
        correlation = request.ditto.get("correlation-id")
        if not correlation:
            correlation = request.ditto["correlation-id"] = f"{self._run}-{next(self._numbers)}"
        headers = [(b"correlation-id", correlation.encode()), NOSNIFF]
        if "x-correlation-id" in request.edge:
            headers.append((b"x-correlation-id", request.edge["x-correlation-id"].encode()))
        origin = request.edge.get("origin")
        if origin is not None and self._origins:
            headers.append((b"vary", b"origin"))
            if "*" in self._origins or origin in self._origins:
                headers.append((b"access-control-allow-origin", origin.encode()))
                headers.append((b"access-control-expose-headers", EXPOSED))
            # A browser that remembers a Basic login must not lend it to any site there is, only to those named.
            if origin in self._origins:
                headers.append((b"access-control-allow-credentials", b"true"))
        return headers

    def _preflight(self, request: Request) -> Answer:
        headers: list[Header] = [(b"allow", METHODS)]
        if "origin" in request.edge and "access-control-request-method" in request.edge:
            headers.append((b"access-control-allow-methods", METHODS))
            headers.append((b"access-control-max-age", b"3600"))
            asked = request.edge.get("access-control-request-headers")
            if asked is not None:
                headers.append((b"access-control-allow-headers", asked.encode()))
        return Answer(204, b"", tuple(headers))

    async def _login(self, request: Request, scope: Scope) -> None:
        """Find out who asks. Raises AuthenticationFailed where a login is needed and missing."""
        path = request.path
        if path.startswith(b"/api/") and not path.startswith(b"/api/2") and len(path) > len(b"/api/"):
            raise ApiVersionNotSupported(version=path.split(b"/")[2].decode("latin-1"))
        if path.startswith(OPERATIONS):
            request.caller = await self._identities.operator(request.edge, request.client)
            require_devops(request.caller)
        elif path.startswith(STATUS):
            request.caller = await self._identities.observer(request.edge, request.client)
            require_status(request.caller)
        else:
            request.caller = await self._caller(request, public=path in PUBLIC)
        if self._namespaces and request.caller is not None:
            request.reach = self._namespaces.reach(request.caller, headers_of(scope["headers"]))
            _check_reach(request)

    def _is_foreign(self, request: Request) -> bool:
        """Whether a page of another site sends it, one that is not named: no proxy vouches for what such a page says."""
        origin = request.edge.get("origin")
        return origin is not None and origin not in self._origins and origin != request.origin

    async def _caller(self, request: Request, *, public: bool) -> Caller | None:
        """Who asks; what anybody may see, one may see with a token that is no good as well."""
        if PRE_AUTHENTICATED in request.edge and self._is_foreign(request):
            del request.edge[PRE_AUTHENTICATED]
        try:
            caller = await self._identities.identify(request.edge, None, request.client)
        except SkerryError as error:
            if public:
                return None
            if isinstance(error, AuthenticationFailed):
                error.headers.update(challenge("Skerry"))
            raise
        if caller is None and not public:
            raise AuthenticationFailed(headers=challenge("Skerry"))
        return caller


def _check_reach(request: Request) -> None:
    """Refuse a path to a thing or policy whose namespace is closed to the caller. Raises NamespaceNotAccessible."""
    named = ENTITY.match(request.path)
    if named is not None and request.reach is not None:
        kind = "policy" if named[1] == b"policies" else "thing"
        request.reach.check(kind, unquote(named[2].decode("latin-1")))


def _tried(request: Request) -> bool:
    """Whether somebody is known or has tried to be: a browser's first request without a login is no refusal."""
    return request.caller is not None or "authorization" in request.edge


def challenge(realm: str) -> dict[str, str]:
    """The header that makes a browser ask for a password."""
    return {"www-authenticate": f'Basic realm="{realm}", charset="UTF-8"'}


class Reply:
    """The way back: notes the status, adds what every answer carries, and holds the body back from a HEAD."""

    __slots__ = ("_send", "headers", "silent", "status")

    def __init__(self, send: Send, *, silent: bool) -> None:
        """`headers` are set once they are known."""
        self._send = send
        self.silent = silent
        self.status = 0
        self.headers: Sequence[Header] = ()

    def send(self, message: Any) -> Awaitable[None]:
        """Pass one message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self.headers]
        elif self.silent:
            message["body"] = b""
        return self._send(message)


def _facts(request: Request, status: int, seconds: float) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path.decode("latin-1"),
        "status": status,
        "ms": round(seconds * 1000, 2),
        "correlation": request.ditto.get("correlation-id"),
    }


async def answer_in(answer: Answer, request: Request, send: Send) -> None:
    """Send the answer in the way that the state of the request's body asks for."""
    if request.body_waits:
        await send_early(answer, request.receive, send)
    else:
        await send_answer(answer, send)
