# ruff: noqa: N818 - errors are rows of a table
"""`/devops`: log levels, the effective settings, piggyback commands; for those who operate the server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from skerry import headers
from skerry.errors import SkerryError
from skerry.signals import Json
from skerry.values import JsonFieldMissing, JsonInvalid, name
from skerry_registry import levels
from skerry_registry.http import bodies
from skerry_registry.http.answer import Answer, of_json
from skerry_registry.http.errors import MethodNotAllowed, RouteNotFound
from skerry_registry.http.inside import INSTANCE, Inside
from skerry_registry.http.operations import require_devops
from skerry_registry.http.piggyback import Piggyback, Signal, configured, logging_of
from skerry_registry.http.request import Request

PREFIX = "/devops/"
BODY_MAX = 1_048_576
PATIENCE = 10.0
METHODS = {"logging": ("GET", "PUT"), "config": ("GET",), "piggyback": ("POST",)}
DEEPEST = 3

log = logging.getLogger(__name__)


class ServiceUnknown(SkerryError):
    """A service or an instance that is not there."""

    code = "devops:service.notfound"
    status = 404
    message = "There is no service '{service}' here."
    description = "The parts of this server are {services}; each has the one instance {instance}."


class Devops:
    """Answers requests of operators."""

    def __init__(self, inside: Inside) -> None:
        """`inside`: what they may see and change."""
        self._inside = inside
        self._piggyback = Piggyback(inside)

    async def answer(self, request: Request) -> Answer:
        """Answer one request; raises SkerryError."""
        require_devops(request.caller)
        path = request.path.decode("latin-1")
        what, *where = path.removesuffix("/").removeprefix(PREFIX).split("/")
        if what not in METHODS or len(where) >= DEEPEST or "" in where:
            raise RouteNotFound(path=path)
        request.route = what
        if request.method not in METHODS[what]:
            allow = ", ".join(METHODS[what])
            raise MethodNotAllowed(method=request.method, path=path, allow=allow, headers={"allow": allow})
        service, instance = ([unquote(part) for part in where] + ["", ""])[:2]
        if (service and service not in levels.SERVICES) or instance not in {"", INSTANCE}:
            raise ServiceUnknown(service="/".join(where), services=", ".join(levels.SERVICES), instance=INSTANCE)
        if request.method != "GET":
            assert request.caller is not None
            log.info("operator changes or asks", extra={"by": request.caller.name, "path": path})
        headers.timeout(request.ditto.get("timeout"), PATIENCE)
        if what == "piggyback":
            return await self._handed_in(request, service)
        if what == "config":
            return of_json(200, self._config(service, instance, request.query.get("path", "")))
        if request.method == "PUT":
            return of_json(200, self._change(service, instance, await _object(request)))
        silent = request.query.get("includeDisabledLoggers", "").lower() == "true"
        return of_json(200, _within(service, instance, lambda one: _levels(one, silent=silent)))

    def _change(self, service: str, instance: str, wanted: Signal) -> Json:
        if "level" not in wanted:
            raise JsonFieldMissing(name="level", at="/")
        for one in [service] if service else levels.SERVICES:
            levels.change(one, wanted.get("logger"), wanted["level"])
        return _within(service, instance, _changed)

    def _config(self, service: str, instance: str, path: str) -> Json:
        answer = {"type": "common.responses:retrieveConfig", "status": 200, "config": configured(self._inside, path)}
        return answer if instance else _of_each(service, lambda _: answer)

    async def _handed_in(self, request: Request, service: str) -> Answer:
        given = await _object(request)
        for member, kind in (("targetActorSelection", str), ("headers", dict), ("piggybackCommand", dict)):
            if member not in given:
                raise JsonFieldMissing(name=member, at="/")
            if not isinstance(given[member], kind):
                raise JsonInvalid(at=f"/{member}", problem=f"it is {name(given[member])}")
        target, command = given["targetActorSelection"], given["piggybackCommand"]
        if str(given["headers"].get("aggregate", True)).lower() == "false":
            return of_json(200, await self._piggyback.carry_out(service or "gateway", target, command))
        services = [service] if service else list(levels.SERVICES)
        found = {one: {INSTANCE: await self._piggyback.carry_out(one, target, command)} for one in services}
        return of_json(200, found)


def _levels(service: str, *, silent: bool) -> Signal:
    return {"type": "devops.responses:retrieveLoggerConfig", "status": 200, **logging_of(service, silent=silent)}


def _changed(service: str) -> Signal:
    return {
        "type": "devops.responses:changeLogLevel",
        "status": 200,
        "serviceName": service,
        "instance": INSTANCE,
        "successful": True,
    }


def _of_each(service: str, tell: Callable[[str], Signal]) -> Signal:
    """What every service tells, by its name and instance; of one service only if it is named."""
    return {one: {INSTANCE: tell(one)} for one in ([service] if service else levels.SERVICES)}


def _within(service: str, instance: str, tell: Callable[[str], Signal]) -> Json:
    """The same, from the service (and instance) on that the path names."""
    found: Any = _of_each(service, tell)
    if service:
        found = found[service]
    return found[instance] if instance else found


async def _object(request: Request) -> Signal:
    """The body, an object. A page of another site must say that it is JSON, so that its browser asks first."""
    if "origin" in request.edge:
        bodies.check_media_type(request.method, request.edge.get("content-type", ""), browser=True)
    value = bodies.decode(await request.body_in_time(BODY_MAX))
    if not isinstance(value, dict):
        raise JsonInvalid(at="/", problem=f"it is {name(value)}, and should be an object")
    return value
