"""The OpenAPI 3.1 document, made from the table of routes."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from skerry_registry.http.parameters import PARAMETERS, SCHEMAS, STATUSES
from skerry_registry.http.route import Route
from skerry_registry.http.routes import ROUTES

NAMED = re.compile(r"{(\w+)}")
BODY_TYPES = {"PATCH": "application/merge-patch+json"}
TAGS = {
    "Things": "Digital twins: a thing has an id, a policy, a definition, attributes and features.",
    "Attributes": "What describes a thing and changes seldom.",
    "Features": "What a thing does and measures; devices keep the properties current over MQTT.",
    "Messages": "What is said to and by things, while somebody listens.",
    "Policies": "Who may do what with things, messages and the policies themselves, and why.",
    "Search": "Finding, counting and summing up things; what is acknowledged is found at once.",
    "Bulk": "Many changes in one request.",
    "History": "Past values of properties, raw or in steps.",
    "Operations": "For operators and their tools.",
    "Documentation": "What you are reading.",
    "Page": "For people.",
}


def document() -> bytes:
    """The document as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Skerry",
                "version": "2",
                "summary": "Digital twins of wind farms, in the manner of Eclipse Ditto.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "security": [{"basic": []}, {"bearer": []}],
            "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
            "paths": paths,
            "components": {
                "securitySchemes": {
                    "basic": {"type": "http", "scheme": "basic"},
                    "bearer": {"type": "http", "scheme": "bearer", "description": "A JSON Web Token or an API token."},
                },
                "parameters": {name: {"name": name, **facts} for name, facts in PARAMETERS.items()},
                "schemas": SCHEMAS,
            },
        }
    )


ROLES = {"devops": "Needs the role devops.", "status": "Needs the role status or devops."}
LOGIN_ERRORS = (400, 401, 429, 503)
"""What a login may be answered with: a token that is none, nobody, too many guesses, an issuer that is away."""


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [route.tag],
        "responses": _responses(route),
    }
    names = [*NAMED.findall(route.path), *route.parameters]
    if names:
        operation["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in names]
    if route.body is not None:
        media = route.media or BODY_TYPES.get(route.method, "application/json")
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": {media: {"schema": _schema(route.body)}},
        }
    if route.login == "nobody":
        operation["security"] = []
    if route.login in ROLES:
        operation["description"] = ROLES[route.login]
    return operation


def _responses(route: Route) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status in route.success:
        response: dict[str, Any] = {"description": STATUSES[status]}
        if status != 204 and route.schema is not None:
            response["content"] = {route.answer_media: {"schema": _schema(route.schema)}}
        if status == 200 and route.stream:
            response.setdefault("content", {})["text/event-stream"] = {"schema": {"type": "string"}}
        if status == 201:
            response["headers"] = {"Location": {"schema": {"type": "string"}}, "ETag": {"schema": {"type": "string"}}}
        responses[str(status)] = response
    of_login = set(LOGIN_ERRORS if route.login != "nobody" else ()) - set(route.success)
    for status in sorted({*route.errors, *of_login}):
        responses[str(status)] = {"description": STATUSES[status]}
        if status != 304:
            body = "Acknowledgements" if status == 424 else "Error"
            responses[str(status)]["content"] = {"application/json": {"schema": _schema(body)}}
    if "response-required" in route.parameters:
        responses.setdefault("202", {"description": STATUSES[202]})
    if "requested-acks" in route.parameters:
        content = {"application/json": {"schema": _schema("Acknowledgements")}}
        responses.setdefault(
            "200", {"description": "Several acknowledgements were asked for and given.", "content": content}
        )
    return responses


def _schema(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _operation_id(route: Route) -> str:
    words = re.findall(r"\w+", route.path.replace("/api/2/", "/")) or ["page"]
    return route.method.lower() + "".join(word[:1].upper() + word[1:] for word in words)
