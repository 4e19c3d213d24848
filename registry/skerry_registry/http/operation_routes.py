"""The rows of the table of HTTP routes that are about running the server, and CloudEvents; with their schemas."""

from __future__ import annotations

from typing import Any

from skerry_registry.http.route import Route

OBJECT: dict[str, Any] = {"type": "object", "additionalProperties": True}
ERRORS = (400, 401, 404)
WRITE_ERRORS = (*ERRORS, 413)
PLACES = ("", "/{service}", "/{service}/{instance}")
OF = ("of every part of the server", "of one part", "of one instance")

OPERATION_SCHEMAS: dict[str, Any] = {
    "Operations": {**OBJECT, "description": "By service and instance, or of the one that the path names."},
    "Acknowledgements": {
        "type": "object",
        "description": "By label.",
        "additionalProperties": {
            "type": "object",
            "properties": {"status": {"type": "integer"}, "payload": {}, "headers": OBJECT},
            "required": ["status"],
        },
    },
    "LoggerConfig": {
        "type": "object",
        "properties": {
            "logger": {"type": "string", "examples": ["skerry_registry"]},
            "level": {"enum": ["off", "error", "warn", "info", "debug", "trace", "all"]},
        },
        "required": ["level"],
    },
    "Piggyback": {
        "type": "object",
        "properties": {
            "targetActorSelection": {"type": "string"},
            "headers": OBJECT,
            "piggybackCommand": {
                "type": "object",
                "properties": {"type": {"type": "string", "examples": ["common.commands:retrieveConfig"]}},
                "required": ["type"],
                "additionalProperties": True,
            },
        },
        "required": ["targetActorSelection", "headers", "piggybackCommand"],
    },
    "CloudEvent": {
        "type": "object",
        "properties": {
            "specversion": {"enum": ["1.0"]},
            "id": {"type": "string", "minLength": 1},
            "source": {"type": "string", "minLength": 1},
            "type": {"type": "string", "minLength": 1},
            "datacontenttype": {"enum": ["application/json", "application/vnd.eclipse.ditto+json"]},
            "dataschema": {"type": "string", "examples": ["ditto:some-schema"]},
            "data": {**OBJECT, "description": "A command as an envelope of the Ditto Protocol."},
        },
        "required": ["specversion", "id", "source", "type", "data"],
    },
    "HotThings": {"type": "object", "properties": {"hotThings": {"type": "integer"}}, "required": ["hotThings"]},
    "Hotness": {
        "type": "object",
        "properties": {"thingsNamespacesHotness": {"type": "object", "additionalProperties": {"type": "integer"}}},
        "required": ["thingsNamespacesHotness"],
    },
    "AllThings": {
        "type": "object",
        "properties": {"allThingsCount": {"type": "integer"}},
        "required": ["allThingsCount"],
    },
}


def _devops(method: str, path: str, summary: str, schema: str = "Operations", **more: Any) -> Route:
    return Route(
        method=method,
        path=path,
        summary=summary,
        tag="Operations",
        schema=schema,
        **{"login": "devops", "errors": ERRORS if "{" in path else (400, 401), **more},
    )


def _status(path: str) -> tuple[Route, ...]:
    """The state of the server below a path."""
    return (
        _devops("GET", path, "Tell what the server runs on", login="status"),
        _devops("GET", path + "/health", "Tell how each part of the server is", success=(200, 503), login="status"),
        _devops("GET", path + "/cluster", "Tell who plays which role: this server all of them", login="status"),
    )


OPERATION_ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/api/2/cloudevents",
        summary="Carry out a command that comes in a CloudEvent",
        tag="Things",
        success=(202,),
        parameters=("timeout", "correlation-id"),
        errors=(400, 401, 403, 404, 405, 408, 409, 412, 413, 415, 422),
        body="CloudEvent",
        media="application/cloudevents+json",
    ),
    *(
        route
        for place, of in zip(PLACES, OF, strict=True)
        for route in (
            _devops(
                "GET", f"/devops/logging{place}", f"Tell the log levels {of}", parameters=("includeDisabledLoggers",)
            ),
            _devops(
                "PUT",
                f"/devops/logging{place}",
                f"Change a log level {of}",
                body="LoggerConfig",
                errors=WRITE_ERRORS,
            ),
            _devops("GET", f"/devops/config{place}", f"Tell the settings {of}", parameters=("path",)),
            _devops(
                "POST",
                f"/devops/piggyback{place}",
                f"Hand in a command, answered in the name {of}",
                parameters=("timeout",),
                body="Piggyback",
                errors=WRITE_ERRORS,
            ),
        )
    ),
    *_status("/status"),
    *_status("/overall/status"),
    _devops("GET", "/stats/things", "Count the things in memory", "HotThings", login="status"),
    _devops(
        "GET",
        "/stats/things/details",
        "Count the things in memory by namespace",
        "Hotness",
        parameters=("namespace",),
        login="status",
    ),
    _devops("GET", "/stats/search", "Count all things", "AllThings", login="status"),
)
