"""What operators and their tools ask: alive, ready, healthy, measures; and who a login makes of you."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from litestar import Request as LitestarRequest
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from skerry.signals import Json
from skerry_registry.http.answer import encode
from skerry_registry.http.errors import AuthenticationFailed
from skerry_registry.http.request import Request
from skerry_registry.identities.caller import DEVOPS, STATUS, Caller

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)

Health = Callable[[], dict[str, Any]]
"""The server's state in detail; its `status` is UP or DOWN."""


class Gauge(Struct, frozen=True):
    """A number that is read when somebody looks: `skerry_<name>`."""

    name: str
    description: str
    read: Callable[[], float]
    kind: Literal["gauge", "counter"] = "gauge"


class Measures:
    """Counts and times of requests, and the gauges of the other parts."""

    def __init__(self, gauges: Sequence[Gauge]) -> None:
        """Own registry: two servers in one process do not mix."""
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "skerry_http_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "skerry_http_seconds",
            "Time to the end of the answer.",
            ("route", "method"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.registry.register(Gauges(gauges))

    def note(self, request: Request, status: int, seconds: float) -> None:
        """Count one request."""
        key = (request.route, request.method, status)
        known = self._known.get(key)
        if known is None:
            method = request.method if request.method in METHODS else "other"
            known = (
                self._requests.labels(request.route, method, str(status)),
                self._seconds.labels(request.route, method),
            )
            if method != "other":
                self._known[key] = known
        known[0].inc()
        known[1].observe(seconds)


METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Gauges(Collector):
    """Hands the gauges to Prometheus."""

    def __init__(self, gauges: Sequence[Gauge]) -> None:
        """Take them over."""
        self._gauges = gauges

    def collect(self) -> list[Metric]:
        """Read every gauge."""
        families: list[Metric] = []
        for gauge in self._gauges:
            family = CounterMetricFamily if gauge.kind == "counter" else GaugeMetricFamily
            families.append(family(f"skerry_{gauge.name}", gauge.description, value=gauge.read()))
        return families


def operations(health: Health, measures: Measures) -> list[HTTPRouteHandler]:
    """The handlers."""

    @get("/alive")
    async def alive() -> Response[bytes]:
        return json(200, {"status": "UP"})

    @get("/ready")
    async def ready() -> Response[bytes]:
        return json(200, {"status": "UP"})  # whoever gets an answer finds the journal recovered: HTTP is opened last

    @get("/health")
    async def health_(request: LitestarRequest[Any, Any, Any]) -> Response[bytes]:
        details = health()
        status = 200 if details.get("status") == "UP" else 503
        caller = asking(request).caller
        if caller is None or not caller.has(DEVOPS):
            details = {"status": details.get("status")}
        return json(status, details)

    @get("/metrics")
    async def metrics(request: LitestarRequest[Any, Any, Any]) -> Response[bytes]:
        require_devops(asking(request).caller)
        return Response(generate_latest(measures.registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    @get("/api/2/whoami")
    async def whoami(request: LitestarRequest[Any, Any, Any]) -> Response[bytes]:
        caller = asking(request).caller
        assert isinstance(caller, Caller)
        return json(200, {"defaultSubject": caller.subjects[0], "subjects": list(caller.subjects)})

    return [alive, ready, health_, metrics, whoami]


def require_devops(caller: Caller | None) -> None:
    """Raise AuthenticationFailed unless the caller may operate the server; asked where a route is, however its URL is written."""
    if caller is None or not caller.has(DEVOPS):
        raise AuthenticationFailed(
            headers={"www-authenticate": 'Basic realm="Skerry operations", charset="UTF-8"'},
            description="This needs a user with the role devops: `skerry user add NAME --role devops`.",
        )


def require_status(caller: Caller | None) -> None:
    """Raise AuthenticationFailed unless the caller may see how the server is."""
    if caller is None or not (caller.has(DEVOPS) or caller.has(STATUS)):
        raise AuthenticationFailed(
            headers={"www-authenticate": 'Basic realm="Skerry status", charset="UTF-8"'},
            description="This needs a user with the role status or devops, or devops with auth_status_password.",
        )


def asking(request: LitestarRequest[Any, Any, Any]) -> Request:
    """Our own view of the request, as the edge left it."""
    request_: Request = request.scope["skerry"]  # type: ignore[typeddict-item]
    return request_


def json(status: int, value: Json) -> Response[bytes]:
    """A JSON answer of a Litestar handler."""
    return Response(encode(value), status_code=status, media_type="application/json")
