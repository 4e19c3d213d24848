"""The routes of search and bulk, and the words of their description."""

from __future__ import annotations

from typing import Any

from skerry_registry.http.route import Route

SEARCHED = ("filter", "namespaces")
TEXT = {"type": "string"}

SEARCH_PARAMETERS: dict[str, dict[str, Any]] = {
    "filter": {
        "in": "query",
        "description": "An RQL expression; several filters hold together.",
        "schema": TEXT,
        "example": "gt(features/scada/properties/power,1000)",
    },
    "wantedFilter": {
        "name": "filter",
        "in": "query",
        "required": True,
        "description": "An RQL expression; several filters hold together. It is asked again of each thing when its turn comes.",
        "schema": TEXT,
        "example": "eq(attributes/retired,true)",
    },
    "searchOption": {
        "name": "option",
        "in": "query",
        "description": "size(1..200), sort(+field,-field), cursor(...) of the last page, or limit(offset,count).",
        "schema": TEXT,
        "example": "size(50),sort(-attributes/power,+thingId)",
    },
    "atomic": {
        "in": "query",
        "description": "true: all rows or none.",
        "schema": {"type": "boolean", "default": False},
    },
    "dry-run": {
        "in": "query",
        "description": "true: answer what would happen, and change nothing.",
        "schema": {"type": "boolean", "default": False},
    },
    "Idempotency-Key": {
        "in": "header",
        "description": "A name of this upload: rows that are done under it are not done again.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    },
}

SEARCH_SCHEMAS: dict[str, Any] = {
    "SearchPage": {
        "type": "object",
        "properties": {
            "items": {"$ref": "#/components/schemas/Things"},
            "cursor": {**TEXT, "description": "Where the next page begins; none on the last."},
            "nextPageOffset": {
                "type": "integer",
                "description": "-1 on the last page; where the next one begins with limit(..) only.",
            },
        },
        "required": ["items"],
    },
    "Count": {"type": "integer", "minimum": 0},
    "SearchForm": {
        "type": "object",
        "properties": {"filter": TEXT, "namespaces": TEXT, "fields": TEXT, "option": TEXT},
    },
    "Aggregate": {
        "type": "object",
        "properties": {
            "filter": TEXT,
            "namespaces": {"type": "array", "items": TEXT},
            "groupBy": {"type": "array", "items": TEXT, "maxItems": 10, "examples": [["attributes/site"]]},
            "aggregates": {
                "type": "object",
                "maxProperties": 50,
                "additionalProperties": {
                    "type": "object",
                    "properties": {
                        "op": {"enum": ["count", "min", "max", "avg", "sum", "percentile"]},
                        "path": {**TEXT, "examples": ["features/scada/properties/power"]},
                        "p": {"type": "number", "minimum": 0, "maximum": 100},
                    },
                    "required": ["op"],
                    "additionalProperties": False,
                },
            },
            "sort": {"type": "array", "items": TEXT, "examples": [["-power"]]},
            "limit": {"type": "integer", "minimum": 1, "maximum": 10000, "default": 100},
        },
        "additionalProperties": False,
    },
    "Groups": {
        "type": "object",
        "properties": {
            "groups": {"type": "array", "items": {"type": "object", "additionalProperties": True}},
            "more": {"type": "integer", "description": "How many groups the limit left out."},
        },
        "required": ["groups"],
    },
}

SEARCH_ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/api/2/search/things",
        summary="Search things by an RQL filter",
        tag="Search",
        parameters=(*SEARCHED, "fields", "searchOption", "timeout", "correlation-id", "Last-Event-ID"),
        stream=True,
        errors=(400, 401, 408, 413),
        schema="SearchPage",
    ),
    Route(
        method="POST",
        path="/api/2/search/things",
        summary="The same, with the parameters as a form",
        tag="Search",
        parameters=("correlation-id",),
        errors=(400, 401, 408, 413, 415),
        schema="SearchPage",
        body="SearchForm",
        media="application/x-www-form-urlencoded",
        body_optional=True,
    ),
    Route(
        method="GET",
        path="/api/2/search/things/count",
        summary="Count things by an RQL filter",
        tag="Search",
        parameters=(*SEARCHED, "timeout", "correlation-id"),
        errors=(400, 401, 408),
        schema="Count",
    ),
    Route(
        method="POST",
        path="/api/2/search/things/count",
        summary="The same, with the parameters as a form",
        tag="Search",
        parameters=("correlation-id",),
        errors=(400, 401, 408, 415),
        schema="Count",
        body="SearchForm",
        media="application/x-www-form-urlencoded",
        body_optional=True,
    ),
    Route(
        method="POST",
        path="/api/2/search/things/aggregate",
        summary="Figures over the things of a filter, by groups",
        tag="Search",
        parameters=("timeout", "correlation-id"),
        errors=(400, 401, 408, 413, 415),
        schema="Groups",
        body="Aggregate",
    ),
    Route(
        method="POST",
        path="/api/2/bulk",
        summary="Carry out rows of Ditto Protocol commands",
        tag="Bulk",
        success=(200, 424),
        parameters=("atomic", "dry-run", "Idempotency-Key", "correlation-id"),
        errors=(400, 401, 408, 409, 413, 415),
        schema="Json",
        body="Json",
        media="application/x-ndjson",
        answer_media="application/x-ndjson",
        body_optional=True,
    ),
    Route(
        method="PATCH",
        path="/api/2/bulk/things",
        summary="Merge a patch into every thing of a filter",
        tag="Bulk",
        parameters=("wantedFilter", "namespaces", "dry-run", "correlation-id"),
        errors=(400, 401, 408, 413, 415),
        schema="Json",
        body="MergePatch",
        answer_media="application/x-ndjson",
    ),
    Route(
        method="DELETE",
        path="/api/2/bulk/things",
        summary="Delete every thing of a filter",
        tag="Bulk",
        parameters=("wantedFilter", "namespaces", "dry-run", "correlation-id"),
        errors=(400, 401, 408),
        schema="Json",
        answer_media="application/x-ndjson",
    ),
    Route(
        method="GET",
        path="/devops/backup",
        summary="A backup of the running server, as a tar archive",
        tag="Operations",
        errors=(401, 409),
        schema="Json",
        answer_media="application/x-tar",
        login="devops",
    ),
)
