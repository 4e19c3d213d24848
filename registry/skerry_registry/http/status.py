"""`/status`, `/overall/status`, `/stats`: the server's state and numbers in the shapes of Ditto's operations."""

from __future__ import annotations

import os
import platform
import socket
from typing import Any

from litestar import Request as LitestarRequest
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from skerry_registry import levels
from skerry_registry.http.inside import INSTANCE, Inside
from skerry_registry.http.operations import asking, json, require_status

Asked = LitestarRequest[Any, Any, Any]


def status_routes(inside: Inside) -> list[HTTPRouteHandler]:
    """The handlers."""

    @get(["/status", "/overall/status"])
    async def status(request: Asked) -> Response[bytes]:
        require_status(asking(request).caller)
        return json(200, {service: {INSTANCE: _machine()} for service in levels.SERVICES})

    @get(["/status/health", "/overall/status/health"])
    async def health(request: Asked) -> Response[bytes]:
        require_status(asking(request).caller)
        found = inside.health()
        up = found["status"] == "UP"
        return json(200 if up else 503, {"label": "roles", "status": found["status"], "children": _parts(found)})

    @get(["/status/cluster", "/overall/status/cluster"])
    async def cluster(request: Asked) -> Response[bytes]:
        require_status(asking(request).caller)
        return json(200, _cluster())

    @get("/stats/things")
    async def things(request: Asked) -> Response[bytes]:
        require_status(asking(request).caller)
        return json(200, {"hotThings": sum(inside.hot().values())})

    @get("/stats/things/details")
    async def details(request: Asked) -> Response[bytes]:
        require_status(asking(request).caller)
        hot = inside.hot()
        named = request.query_params.getall("namespace", [])
        return json(200, {"thingsNamespacesHotness": {key: hot.get(key, 0) for key in named} if named else hot})

    @get("/stats/search")
    async def search(request: Asked) -> Response[bytes]:
        require_status(asking(request).caller)
        return json(200, {"allThingsCount": await inside.count("thing")})

    return [status, health, cluster, things, details, search]


def _machine() -> dict[str, Any]:
    """What the server runs on."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "name": "skerry",
        "hostname": socket.gethostname(),
        "instance": INSTANCE,
        "python": platform.python_version(),
        "processor-count": os.cpu_count(),
        "total-memory": f"{pages * size // 1_048_576} MB",
    }


def _parts(health: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of the server as children of Ditto's health, each with its facts."""
    children = []
    for label, facts in health.get("parts", {}).items():
        level = "INFO" if facts["status"] == "UP" else "ERROR"
        told = {key: value for key, value in facts.items() if key != "status" and value is not None}
        children.append({"label": label, "status": facts["status"], "details": [{level: told}]})
    return children


def _cluster() -> dict[str, Any]:
    """A cluster of one, which plays every role."""
    member = f"skerry://{socket.gethostname()}"
    role = {"reachable": [member], "unreachable": [], "leader": member}
    return {
        "reachable": [member],
        "unreachable": [],
        "seen-by": [member],
        "leader": member,
        "own-roles": list(levels.SERVICES),
        "roles": dict.fromkeys(levels.SERVICES, role),
    }
