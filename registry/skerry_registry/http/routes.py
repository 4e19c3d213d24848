"""The table of HTTP routes: what `skerry routes` prints and the OpenAPI document is made of."""

from __future__ import annotations

import re

from skerry_registry.http.audit import AUDIT_ROUTES
from skerry_registry.http.feed import FEED_ROUTES
from skerry_registry.http.message_routes import MESSAGE_ROUTES
from skerry_registry.http.operation_routes import OPERATION_ROUTES
from skerry_registry.http.policy_routes import POLICY_ROUTES
from skerry_registry.http.route import Route
from skerry_registry.http.search_routes import SEARCH_ROUTES
from skerry_registry.http.sse_routes import ALL_THINGS, BELOW, STREAM_ROUTES

READS = (
    "fields",
    "If-Match",
    "If-None-Match",
    "condition",
    "at-historical-revision",
    "at-historical-timestamp",
    "timeout",
    "get-metadata",
    "channel",
    "live-channel-condition",
    "live-channel-timeout-strategy",
    "correlation-id",
)
WRITES = (
    "If-Match",
    "If-None-Match",
    "condition",
    "if-equal",
    "put-metadata",
    "delete-metadata",
    "requested-acks",
    "response-required",
    "timeout",
    "channel",
    "correlation-id",
)
DELETES = (
    "If-Match",
    "If-None-Match",
    "condition",
    "delete-metadata",
    "requested-acks",
    "response-required",
    "timeout",
    "channel",
    "correlation-id",
)
SERIES = ("from", "to", "step", "agg", "percentile", "fill", "limit", "cursor", "order", "tz", "timeFormat")
SELECTABLE = ("{thingId}", "/attributes", "/features", "{featureId}", "/properties", "/desiredProperties")
"""Ends of the paths whose reads heed `fields`."""
READ_ERRORS = (304, 400, 401, 404, 408, 410, 412)
WRITE_ERRORS = (400, 401, 403, 404, 408, 412, 413, 415, 424)
DELETE_ERRORS = (400, 401, 403, 404, 408, 412, 424)


def _four(path: str, what: str, schema: str, tag: str, *, without: tuple[str, ...] = ()) -> list[Route]:
    """Retrieve, replace, merge and delete something of a thing."""
    found = [
        Route(
            method="GET",
            path=path,
            summary=f"Retrieve {what}",
            tag=tag,
            parameters=(*(READS if path.endswith(SELECTABLE) else READS[1:]), *BELOW),
            stream=True,
            errors=READ_ERRORS,
            schema=schema,
        ),
        Route(
            method="PUT",
            path=path,
            summary=f"Create or replace {what}",
            tag=tag,
            success=(204,) if path.endswith("/policyId") else (201, 204),
            parameters=(*WRITES, "allow-policy-lockout") if path.endswith("{thingId}") else WRITES,
            errors=WRITE_ERRORS,
            schema=schema,
            body=schema,
        ),
        Route(
            method="PATCH",
            path=path,
            summary=f"Merge into {what}",
            tag=tag,
            success=(201, 204) if path.endswith("{thingId}") else (204,),
            parameters=(*WRITES, "merge-thing-patch-conditions"),
            errors=WRITE_ERRORS,
            schema=schema if path.endswith("{thingId}") else None,
            body="MergePatch",
        ),
        Route(
            method="DELETE",
            path=path,
            summary=f"Delete {what}",
            tag=tag,
            success=(204,),
            parameters=DELETES,
            errors=DELETE_ERRORS,
        ),
    ]
    return [route for route in found if route.method not in without]


THING = "/api/2/things/{thingId}"
FEATURE = THING + "/features/{featureId}"

ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/api/2/things",
        summary="List things: those named by ids, or a page of all you may see",
        tag="Things",
        parameters=(
            *("ids", "fields", "filter", "namespaces", "searchOption", "timeout", "correlation-id"),
            *ALL_THINGS,
        ),
        stream=True,
        errors=(400, 401, 408, 410, 414),
        schema="Things",
    ),
    Route(
        method="POST",
        path="/api/2/things",
        summary="Create a thing under an id made by the server",
        tag="Things",
        success=(201,),
        parameters=(
            "namespace",
            "allow-policy-lockout",
            "requested-acks",
            "response-required",
            "timeout",
            "correlation-id",
        ),
        errors=WRITE_ERRORS,
        schema="Thing",
        body="Thing",
    ),
    *_four(THING, "a thing", "Thing", "Things"),
    *_four(THING + "/policyId", "the id of a thing's policy", "PolicyId", "Things", without=("DELETE",)),
    *_four(THING + "/definition", "a thing's definition", "Definition", "Things"),
    Route(
        method="POST",
        path=THING + "/migrateDefinition",
        summary="Migrate a thing to another definition",
        tag="Things",
        success=(200, 202),
        parameters=(
            *("dry-run", "If-Match", "If-None-Match", "condition", "put-metadata", "requested-acks"),
            *("response-required", "timeout", "correlation-id"),
        ),
        errors=WRITE_ERRORS,
        schema="Migrated",
        body="Migration",
    ),
    *_four(THING + "/attributes", "all attributes", "Attributes", "Attributes"),
    *_four(THING + "/attributes/{attributePath}", "an attribute, at any depth", "Json", "Attributes"),
    *_four(THING + "/features", "all features", "Features", "Features"),
    *_four(FEATURE, "a feature", "Feature", "Features"),
    *_four(FEATURE + "/definition", "a feature's definition", "FeatureDefinition", "Features"),
    *_four(FEATURE + "/properties", "all properties of a feature", "Attributes", "Features"),
    *_four(FEATURE + "/properties/{propertyPath}", "a property, at any depth", "Json", "Features"),
    *_four(FEATURE + "/desiredProperties", "all desired properties of a feature", "Attributes", "Features"),
    *_four(FEATURE + "/desiredProperties/{propertyPath}", "a desired property, at any depth", "Json", "Features"),
    *MESSAGE_ROUTES,
    *STREAM_ROUTES,
    *POLICY_ROUTES,
    *SEARCH_ROUTES,
    Route(
        method="GET",
        path="/api/2/timeseries/things/{thingId}",
        summary="History of several properties of a thing",
        tag="History",
        parameters=("paths", *SERIES),
        errors=(400, 401, 404, 503),
        schema="SeriesList",
    ),
    Route(
        method="GET",
        path="/api/2/timeseries/things/{thingId}/features/{featureId}/properties/{propertyPath}",
        summary="History of one property",
        tag="History",
        parameters=SERIES,
        errors=(400, 401, 404, 503),
        schema="SeriesList",
    ),
    Route(method="GET", path="/api/2/whoami", summary="Tell who you are", tag="Operations", schema="WhoAmI"),
    Route(
        method="GET",
        path="/health",
        summary="Tell whether everything works; details for devops",
        tag="Operations",
        success=(200, 503),
        errors=(),
        schema="Health",
        login="nobody",
    ),
    Route(
        method="GET",
        path="/alive",
        summary="Tell that the process answers",
        tag="Operations",
        errors=(),
        schema="Health",
        login="nobody",
    ),
    Route(
        method="GET",
        path="/ready",
        summary="Tell that the journal is recovered and requests are served",
        tag="Operations",
        success=(200,),
        errors=(),
        schema="Health",
        login="nobody",
    ),
    *AUDIT_ROUTES,
    *FEED_ROUTES,
    *OPERATION_ROUTES,
    Route(method="GET", path="/metrics", summary="Measures for Prometheus", tag="Operations", login="devops"),
    Route(
        method="GET",
        path="/openapi.json",
        summary="This description",
        tag="Documentation",
        errors=(),
        schema="Json",
        login="nobody",
    ),
    Route(
        method="GET",
        path="/apidoc",
        summary="This description, to read",
        tag="Documentation",
        errors=(),
        login="nobody",
    ),
    Route(method="GET", path="/apidoc/2", summary="The same", tag="Documentation", errors=(), login="nobody"),
    Route(method="GET", path="/", summary="The farm, as a map and a table", tag="Page"),
    Route(method="GET", path="/page/{file}", summary="A file of the page", tag="Page", errors=(401, 404)),
)


def routes() -> list[tuple[str, str, str]]:
    """(method, path, summary) of every route, in the order of the table."""
    return [(route.method, route.path, route.summary) for route in ROUTES]


def allowed(path: str) -> list[str]:
    """The methods that are there at a path."""
    return [route.method for route in ROUTES if _pattern(route.path).fullmatch(path.rstrip("/") or "/")]


def _pattern(path: str) -> re.Pattern[str]:
    text = re.escape(path).replace(r"\{", "{").replace(r"\}", "}")
    text = re.sub(r"{\w+Path}", ".+", text)
    return re.compile(re.sub(r"{\w+}", "[^/]+", text))
