"""The HTTP application: which routes there are, and what stands before them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from litestar import Litestar, asgi
from litestar import Request as LitestarRequest
from litestar import Response as LitestarResponse
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.handlers import ASGIRouteHandler
from litestar.types import Receive, Scope, Send

from skerry.errors import SkerryError
from skerry.signals import NewId
from skerry_registry.bulk.backup import Backup
from skerry_registry.bulk.progress import Progress
from skerry_registry.http.answer import Answer, of_error
from skerry_registry.http.backups import Backups
from skerry_registry.http.bulk import Bounds, Bulk
from skerry_registry.http.cloudevents import CloudEvents
from skerry_registry.http.devops import Devops
from skerry_registry.http.edge import Edge, Refused, answer_in
from skerry_registry.http.errors import MethodNotAllowed, RequestInvalid, RouteNotFound
from skerry_registry.http.exchange import Exchange
from skerry_registry.http.feed import Feed
from skerry_registry.http.inside import Inside
from skerry_registry.http.messages import Messages
from skerry_registry.http.operations import Gauge, Health, Measures, operations
from skerry_registry.http.pages import pages
from skerry_registry.http.permissions import Permissions
from skerry_registry.http.policies import Policies, Question
from skerry_registry.http.policy_listing import PolicyListing
from skerry_registry.http.request import ClientGone, Request
from skerry_registry.http.routes import allowed
from skerry_registry.http.search import Searching
from skerry_registry.http.selection import Selection
from skerry_registry.http.sse import Heart, is_asked, still_holds
from skerry_registry.http.sse_search import SearchEvents
from skerry_registry.http.sse_things import ThingEvents
from skerry_registry.http.status import status_routes
from skerry_registry.http.things import Things
from skerry_registry.http.upgrades import ask_for_upgrade
from skerry_registry.identities.logins import Identities
from skerry_registry.identities.namespaces import NamespaceRules
from skerry_registry.identities.refusals import NamespaceNotAccessible
from skerry_registry.inquiries import Holders, Inquiries
from skerry_registry.live.persisted import Persisted
from skerry_registry.live.streams import Streams
from skerry_registry.policy_list import PolicyList
from skerry_registry.reasons import Reasons
from skerry_registry.registry import Registry
from skerry_registry.search.search import Search
from skerry_registry.settings import Settings

log = logging.getLogger(__name__)

Answering = Callable[[Request], Awaitable[Answer]]
Serving = Callable[[Request, Send], Awaitable[None]]


def create_http(
    door: Registry,
    identities: Identities,
    settings: Settings,
    *,
    new_id: NewId,
    health: Health,
    search: Search,
    streams: Streams,
    history: Answering | None = None,
    audit: Answering | None = None,
    refused: Refused | None = None,
    inside: Inside | None = None,
    progress: Progress | None = None,
    backup: Backup | None = None,
    page_folder: Path | None = None,
    gauges: Sequence[Gauge] = (),
) -> Litestar:
    """The application.

    `history` answers below /api/2/timeseries, `audit` /api/2/audit; `refused` is told of logins and operations that were; `inside` is what operators see; `streams` is what happens now; `page_folder` holds the page at `/`.
    """
    heart = Heart()
    measures = Measures([*gauges, Gauge("sse_streams", "Streams of server-sent events that are open.", heart.streams)])
    largest = max(settings.thing_max_bytes, settings.policy_max_bytes)
    reasons = Reasons(door)
    exchange = Exchange(door, max_bytes=largest, reasons=reasons, acks=streams.acks)
    permissions = Permissions(exchange, Inquiries(door, Holders(search).things_of))
    searching = Searching(exchange, search)
    messages = Messages(door, streams.live, max_bytes=settings.message_max_bytes, cors_origins=settings.cors_origins)
    things = Things(exchange, new_id, searching, permissions.access, messages)
    questions: dict[str, Question] = {
        "policies": PolicyListing(exchange, PolicyList(door)).answer,
        "explain": permissions.explain,
        "simulate": permissions.simulate,
    }
    policies = Policies(exchange, new_id, questions, integration_subject=settings.token_integration_subject)
    mount = partial(_mount, refused=refused)
    holds = partial(still_holds, identities)
    events = ThingEvents(door, streams, Persisted(door), holds, heart)
    results = SearchEvents(exchange, searching, holds, heart, per_second=settings.sse_search_results_per_second)
    mounts = [mount("/api/2/things", things.answer, stream=events.serve), mount("/api/2/policies", policies.answer)]
    mounts.append(mount("/api/2/checkPermissions", permissions.check))
    mounts.append(mount("/api/2/cloudevents", CloudEvents(exchange).answer))
    mounts.append(mount("/api/2/search/things", searching.answer, stream=results.serve))
    mounts.append(mount("/ws", ask_for_upgrade))
    mounts.append(mount("/api/2/feed", Feed(streams.changes, door.clock).answer))
    if audit is not None:
        mounts.append(mount("/api/2/audit", audit))
    if inside is not None:
        mounts.extend([mount("/devops", Devops(inside).answer), *status_routes(inside)])
    if backup is not None:
        mounts.append(_stream("/devops/backup", Backups(backup).serve, below=False))
    if progress is not None:
        bounds = Bounds(settings.bulk_max_rows, settings.bulk_max_bytes, settings.bulk_atomic_rows, exchange.max_bytes)
        mounts.append(
            _stream("/api/2/bulk", Bulk(door, progress, bounds, Selection(exchange, searching), reasons).serve)
        )
    if history is not None:
        mounts.append(mount("/api/2/timeseries", history))
    app = Litestar(
        route_handlers=[*mounts, *operations(health, measures), *pages(page_folder)],
        openapi_config=None,
        exception_handlers={HTTPException: _refused, SkerryError: _failed, Exception: _broken},
        logging_config=None,
    )
    app.asgi_handler = Edge(
        app.asgi_handler,
        identities,
        new_id,
        measures.note,
        cors_origins=settings.cors_origins,
        refused=refused,
        namespaces=NamespaceRules(settings.namespace_access, identities.clock),
        mounts={
            path.encode(): mount.fn
            for mount in mounts
            if isinstance(mount, ASGIRouteHandler)
            for path in mount.paths
            if mount.is_mount
        },
    )
    return app


def _mount(path: str, answer: Answering, *, refused: Refused | None, stream: Serving | None = None) -> Any:
    """Everything below the path goes to one function, which reads the raw path itself.

    `stream` serves those who ask for server-sent events. `refused` is told where the operator's rules, which no policy knows of,
    keep the caller from what its answer would touch.
    """

    @asgi(path, is_mount=True, copy_scope=False)
    async def mount(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - Litestar's signature
        request: Request = scope["skerry"]  # type: ignore[typeddict-item]
        try:
            if stream is not None and is_asked(request):
                await stream(request, send)
                return
            found = await answer(request)
        except SkerryError as error:
            if refused is not None and isinstance(error, NamespaceNotAccessible):
                refused(request, error)
            found = of_error(error)
        except ClientGone:
            return
        await answer_in(found, request, send)

    return mount


def _stream(path: str, serve: Serving, *, below: bool = True) -> Any:
    """As `_mount`, of a function that sends its answer itself, piece by piece; `below`: for the paths below as well."""

    @asgi(path, is_mount=below, copy_scope=False)
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - Litestar's signature
        request: Request = scope["skerry"]  # type: ignore[typeddict-item]
        await serve(request, send)

    return stream


def _refused(request: LitestarRequest[Any, Any, Any], error: HTTPException) -> LitestarResponse[bytes]:
    """What Litestar's routing refuses, in Ditto's shape."""
    path = request.scope["raw_path"].decode("latin-1")
    if isinstance(error, MethodNotAllowedException):
        allow = ", ".join(allowed(path))
        return _failed(
            request, MethodNotAllowed(method=request.method, path=path, allow=allow, headers={"allow": allow})
        )
    if isinstance(error, NotFoundException):
        return _failed(request, RouteNotFound(path=path))
    if error.status_code < 500:
        return _failed(request, RequestInvalid(problem=error.detail.lower()))
    return _broken(request, error)


def _failed(_: LitestarRequest[Any, Any, Any], error: SkerryError) -> LitestarResponse[bytes]:
    answer = of_error(error)
    return LitestarResponse(
        answer.body,
        status_code=answer.status,
        media_type="application/json",
        headers={name.decode(): value.decode() for name, value in answer.headers if name != b"content-type"},
    )


def _broken(request: LitestarRequest[Any, Any, Any], error: Exception) -> LitestarResponse[bytes]:
    """An exception nobody expected: the log has it, the caller the correlation id."""
    asked: Request = request.scope["skerry"]  # type: ignore[typeddict-item]
    log.error("request failed", exc_info=error, extra={"correlation": asked.ditto.get("correlation-id")})
    return _failed(request, SkerryError())
