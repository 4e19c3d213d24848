"""The WebSocket sessions of a server: who may open one, and what becomes of it."""

from __future__ import annotations

import itertools
import logging
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from skerry import headers
from skerry.errors import SkerryError
from skerry_registry.http.answer import of_error
from skerry_registry.http.edge import challenge
from skerry_registry.http.errors import AuthenticationFailed
from skerry_registry.http.operations import Gauge
from skerry_registry.http.request import Request
from skerry_registry.http.upgrades import check_path
from skerry_registry.identities.logins import ACCESS_TOKEN, PRE_AUTHENTICATED
from skerry_registry.identities.namespaces import NamespaceRules, headers_of
from skerry_registry.live.envelopes import Envelopes
from skerry_registry.live.sender import Sender
from skerry_registry.ws.session import Session
from skerry_registry.ws.shared import RECHECK, Shared
from skerry_registry.ws.wire import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from skerry.signals import NewId
    from skerry_registry.identities.caller import Caller
    from skerry_registry.identities.logins import Identities
    from skerry_registry.identities.namespaces import Reach
    from skerry_registry.live.streams import Streams
    from skerry_registry.registry import Registry
    from skerry_registry.search.search import Search
    from skerry_registry.settings import Settings
    from skerry_registry.ws.wire import Handshake, Listener

log = logging.getLogger(__name__)

_OWN = frozenset({"accept", "correlation-id", "declared-acks"})
"""Headers of a handshake that say nothing about its commands."""


class Sessions:
    """Opens sessions at /ws/2."""

    def __init__(
        self,
        registry: Registry,
        identities: Identities,
        settings: Settings,
        *,
        streams: Streams,
        search: Search,
        new_id: NewId,
        refused: Callable[[Request, SkerryError], None] | None = None,
        recheck: float = RECHECK,
    ) -> None:
        """`streams`: what sessions subscribe to; `search`: answers their searches; `refused`: told of handshakes that come to nothing."""
        self._identities = identities
        self._namespaces = NamespaceRules(settings.namespace_access, identities.clock)
        self._origins = {origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()}
        self._new_id = new_id
        self._refused = refused
        self._run = new_id().partition("-")[0]
        self._numbers = itertools.count(1)
        self._shared = Shared(
            registry,
            identities=identities,
            streams=streams,
            envelopes=Envelopes(registry, streams),
            search=search,
            frames_per_second=settings.ws_frames_per_second,
            recheck=recheck,
        )

    async def open(self, handshake: Handshake) -> Listener | Refusal:
        """A session for somebody who is known, or why there is none."""
        scope: Any = {
            "method": "GET",
            "raw_path": handshake.path,
            "query_string": handshake.query_string,
            "scheme": "http",
            "client": (handshake.client, 0),
        }
        request = Request(scope, _nothing)
        request.route = "ws"
        try:
            request.read_headers(handshake.headers)
            check_path(request.path)
            headers.timeout(request.ditto.get("timeout"), 0, inf)
            request.caller = caller = await self._login(request)
            reach_of = None
            if self._namespaces:
                header = headers_of(handshake.headers)
                reach_of = partial(self._namespaces.reach, header=header)
                request.reach = reach_of(caller)
            return self._session(request, caller, reach_of)
        except SkerryError as error:
            if self._refused is not None and error.status in {401, 403, 429} and _tried(request):
                self._refused(request, error)
            return self._refusal(error, request)
        except Exception:
            log.exception("handshake failed", extra={"correlation": request.ditto.get("correlation-id")})
            return self._refusal(SkerryError(), request)

    def gauges(self) -> list[Gauge]:
        """What Prometheus reads."""
        counts = self._shared.counts
        return [
            Gauge("ws_sessions", "WebSocket sessions that are open.", lambda: counts.sessions),
            Gauge("ws_received", "Frames that WebSocket sessions have sent.", lambda: counts.received, "counter"),
            Gauge("ws_sent", "Frames sent to WebSocket sessions.", lambda: counts.sent, "counter"),
            Gauge("ws_slow", "WebSocket sessions ended because they read too slowly.", lambda: counts.slow, "counter"),
        ]

    def _session(self, request: Request, caller: Caller, reach_of: Callable[[Caller], Reach | None] | None) -> Session:
        labels = headers.declared_acks(request.ditto.get("declared-acks"))
        number = f"{self._run}-{next(self._numbers)}"
        sender = Sender(
            subjects=caller.subjects,
            reach=request.reach,
            origin=f"ws {request.client} {number}",
        )
        return Session(
            self._shared,
            sender,
            self._identities.lasting(caller),
            id=request.ditto.get("correlation-id") or self._new_id(),
            defaults={name: said for name, said in request.ditto.items() if name not in _OWN},
            labels=labels,
            reach_of=reach_of if caller.kind == "jwt" else None,
        )

    async def _login(self, request: Request) -> Caller:
        """Who asks. Raises AuthenticationFailed and what is wrong with tokens.

        A page of another site could open a session with what the browser remembers, a Basic login, or through a proxy that
        vouches for everybody: neither counts from a page that the settings do not name. A token that the page itself has does.
        """
        if self._is_foreign(request):
            request.edge.pop(PRE_AUTHENTICATED, None)
            if request.edge.get("authorization", "")[:6].lower() == "basic ":
                del request.edge["authorization"]
        try:
            caller = await self._identities.identify(request.edge, request.query, request.client)
        except AuthenticationFailed as error:
            error.headers.update(challenge("Skerry"))
            raise
        if caller is None:
            raise AuthenticationFailed(headers=challenge("Skerry"))
        return caller

    def _is_foreign(self, request: Request) -> bool:
        origin = request.edge.get("origin")
        if origin is None or origin in self._origins:
            return False
        host = request.edge.get("host", "")
        return origin.partition("://")[2] != host

    def _refusal(self, error: SkerryError, request: Request) -> Refusal:
        answer = of_error(error)
        correlation = request.ditto.get("correlation-id") or self._new_id()
        return Refusal(
            status=answer.status,
            body=answer.body,
            headers=(*answer.headers, (b"correlation-id", correlation.encode())),
        )


def _tried(request: Request) -> bool:
    """Whether somebody is known or has tried to be."""
    return request.caller is not None or "authorization" in request.edge or ACCESS_TOKEN in request.query


async def _nothing() -> Any:
    """There is no body."""
    return {"type": "http.request", "body": b"", "more_body": False}
