"""The words of the OpenAPI document: parameters, schemas, what a status means."""

from __future__ import annotations

from typing import Any, get_args

from skerry_adapters.series.ports import Aggregate, Fill
from skerry_registry.http.audit import AUDIT_PARAMETERS, AUDIT_SCHEMAS
from skerry_registry.http.feed import FEED_PARAMETERS, FEED_SCHEMAS
from skerry_registry.http.message_routes import MESSAGE_PARAMETERS, MESSAGE_SCHEMAS
from skerry_registry.http.operation_routes import OPERATION_SCHEMAS
from skerry_registry.http.policy_schemas import POLICY_SCHEMAS
from skerry_registry.http.search_routes import SEARCH_PARAMETERS, SEARCH_SCHEMAS
from skerry_registry.http.sse_routes import STREAM_PARAMETERS

TEXT = {"type": "string"}
OBJECT: dict[str, Any] = {"type": "object", "additionalProperties": True}


def _in(place: str, description: str, schema: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"in": place, "description": description, "schema": schema or TEXT, **more}


def _path(description: str, example: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return _in("path", description, schema, required=True, example=example)


ENTITY_ID = {
    "type": "string",
    "pattern": r"^([a-zA-Z]\w*([.-][a-zA-Z]\w*)*)?:[^\x00-\x1f\x7f-\xff/]+$",
    "maxLength": 256,
}


PARAMETERS: dict[str, dict[str, Any]] = {
    **AUDIT_PARAMETERS,
    **FEED_PARAMETERS,
    **MESSAGE_PARAMETERS,
    **SEARCH_PARAMETERS,
    **STREAM_PARAMETERS,
    "thingId": _path("namespace:name of the thing.", "demo:T01"),
    "featureId": _path("Id of the feature.", "scada"),
    "attributePath": _path("A JSON pointer below attributes, without its first slash.", "position/lat"),
    "propertyPath": _path("A JSON pointer below the properties, without its first slash.", "power"),
    "policyId": _path("namespace:name of the policy.", "demo:T01", ENTITY_ID),
    "importedPolicyId": _path("namespace:name of the policy that is imported.", "demo:fleet", ENTITY_ID),
    "label": _path("Label of the entry.", "DEFAULT"),
    "subjectId": _path("issuer:subject, percent-encoded where it has slashes.", "nginx:ditto"),
    "resourcePath": _path("type:/pointer; the slashes stand as they are.", "thing:/features"),
    "service": _path("Part of the server.", "things"),
    "instance": _path("Its instance: there is one.", "1"),
    "file": _path("Name of the file.", "style.css"),
    "ids": _in(
        "query",
        "Ids separated by commas. Things that are not there, or not visible to you, are left out.",
        example="demo:T01,demo:T02",
    ),
    "fields": _in(
        "query",
        "Which fields to answer: names and pointers separated by commas, sub-selectors in parentheses, * for any feature.",
        example="thingId,features/*/properties/power,_revision",
    ),
    "namespaces": _in("query", "Namespaces separated by commas; all if left out.", example="demo"),
    "namespace": _in(
        "query", "Namespace of the new id (org.eclipse.ditto if left out), or of what is counted.", example="demo"
    ),
    "option": _in(
        "query",
        "size(1..200), cursor(...) from the Link header of the last page; separated by commas.",
        example="size(50)",
    ),
    "subject": _in(
        "query", "Only policies that name this subject; * and ? stand for any characters.", example="nginx:*"
    ),
    "resource": _in(
        "query", "Only policies that speak of this resource or of anything below.", example="thing:/features"
    ),
    "policy-view": _in(
        "query",
        "resolved: with the entries of imports and references merged in, as they are enforced; without an ETag.",
        {"enum": ["original", "resolved"], "default": "original"},
    ),
    "timeout": _in(
        "query", "Time to wait for the answer: seconds, or with ms, s, m; at most 60 s. 0 does not wait.", example="10s"
    ),
    "response-required": _in("query", "false: answer 202 and nothing else.", {"type": "boolean", "default": True}),
    "requested-acks": _in(
        "query",
        "Acknowledgements to wait for, separated by commas: twin-persisted (stored durably), search-persisted (found by a search).",
        example="twin-persisted",
    ),
    "If-Match": _in("header", "Do it only if the ETag is one of these; * for: if it exists.", example='"rev:1"'),
    "If-None-Match": _in(
        "header", "Do it only if the ETag is none of these; * for: if it does not exist.", example="*"
    ),
    "condition": _in(
        "query",
        "Do it only if the thing satisfies this RQL expression; also as a header.",
        example="gt(features/scada/properties/power,0)",
    ),
    "merge-thing-patch-conditions": _in(
        "header",
        "An object: pointer within the patch to RQL expression; parts whose condition does not hold are left out.",
        example='{"/attributes/site":"not(exists(attributes/site))"}',
    ),
    "at-historical-revision": _in("query", "What it was at this revision.", {"type": "integer"}, example=1),
    "at-historical-timestamp": _in(
        "query", "What it was at this time, RFC 3339.", {"type": "string", "format": "date-time"}
    ),
    "if-equal": _in(
        "header",
        "What to do if the value would not change: update, skip (answers 412), skip-minimizing-merge.",
        {"enum": ["update", "skip", "skip-minimizing-merge"], "default": "update"},
    ),
    "put-metadata": _in("header", 'Metadata to store with the change: [{"key":"/features/*/unit","value":"kW"}].'),
    "get-metadata": _in("header", "Metadata to answer in the header ditto-metadata: pointers separated by commas."),
    "delete-metadata": _in("header", "Metadata to delete with the change: pointers separated by commas."),
    "allow-policy-lockout": _in(
        "header",
        "true: take a _policy in which you have no WRITE on policy:/ yourself.",
        {"type": "boolean", "default": False},
    ),
    "correlation-id": _in(
        "header", "An id of yours for this request; the answer carries it, one is made if you send none."
    ),
    "includeDisabledLoggers": _in(
        "query", "true: also loggers that inherit their level.", {"type": "boolean", "default": False}
    ),
    "path": _in("query", "Dotted path of a setting or of a table of them; all if left out.", example="http.port"),
    "paths": _in(
        "query", "JSON pointers of properties, separated by commas.", example="/features/scada/properties/power"
    ),
    "from": _in("query", "First time, inclusive: RFC 3339, or relative as now-1h.", example="now-1h"),
    "to": _in("query", "Last time, exclusive: RFC 3339, or relative; now if left out.", example="now"),
    "step": _in("query", "Length of a step, aligned to from; raw samples if left out.", example="1m"),
    "agg": _in(
        "query",
        "How a step sums up its samples.",
        {"enum": list(get_args(Aggregate)), "default": "avg"},
    ),
    "percentile": _in(
        "query",
        "Which percentile; with agg=percentile and nothing else.",
        {"type": "number", "minimum": 0, "maximum": 100},
        example="95",
    ),
    "fill": _in(
        "query",
        "What stands in a step without samples; such steps are left out otherwise.",
        {"enum": list(get_args(Fill))},
    ),
    "limit": _in("query", "Rows of a page.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1000}),
    "cursor": _in("query", "nextCursor of the last page."),
    "order": _in("query", "Oldest or newest first.", {"enum": ["asc", "desc"], "default": "asc"}),
    "tz": _in(
        "query", "IANA time zone of days, and of times without an offset; UTC if left out.", example="Europe/Copenhagen"
    ),
    "timeFormat": _in(
        "query",
        "How times are written: ISO 8601, or milliseconds since 1970.",
        {"enum": ["iso", "ms"], "default": "iso"},
    ),
}

STATUSES: dict[int, str] = {
    200: "Here it is.",
    201: "Created; the body is the new value.",
    202: "Taken in; nothing is told of the outcome.",
    204: "Done.",
    304: "Not modified since the ETag of If-None-Match.",
    400: "The request makes no sense: see message and description.",
    401: "Not logged in, or the login is wrong.",
    403: "The policy does not let you; where you may read it, why says what decided and what is missing.",
    404: "Not there, or not visible to you.",
    405: "Not possible there.",
    406: "Only as a stream of events: send Accept: text/event-stream.",
    408: "Not done in time.",
    409: "Something else refers to it.",
    410: "What comes after that number is no longer kept, or was never there: start over from what is there now.",
    412: "A precondition does not hold.",
    413: "Too large.",
    414: "The path and query are too long.",
    415: "The body is of an unsupported media type.",
    422: "The JSON is no envelope of the Ditto Protocol.",
    424: "One of several acknowledgements failed: the body has one entry per label.",
    429: "Too many at a time, or too many logins that failed; try again after Retry-After seconds.",
    503: "Not possible at this moment; try again.",
}

_THING_PROPERTIES: dict[str, Any] = {
    "thingId": {"type": "string", "examples": ["demo:T01"]},
    "policyId": {"$ref": "#/components/schemas/PolicyId"},
    "definition": {"$ref": "#/components/schemas/Definition"},
    "attributes": {"$ref": "#/components/schemas/Attributes"},
    "features": {"$ref": "#/components/schemas/Features"},
}

SCHEMAS: dict[str, Any] = {
    "Json": {"description": "Any JSON value."},
    "MergePatch": {
        "description": "A JSON merge patch (RFC 7396): null deletes, objects are merged, all else is replaced."
    },
    "PolicyId": {"type": "string", "examples": ["demo:T01"]},
    "Definition": {"type": ["string", "null"], "examples": ["wind:Turbine:1.0.0"]},
    "Attributes": OBJECT,
    "Features": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Feature"}},
    "FeatureDefinition": {"type": "array", "items": TEXT, "minItems": 1},
    "Feature": {
        "type": ["object", "null"],
        "properties": {
            "definition": {"$ref": "#/components/schemas/FeatureDefinition"},
            "properties": OBJECT,
            "desiredProperties": OBJECT,
        },
    },
    "Thing": {"type": "object", "properties": _THING_PROPERTIES},
    "Things": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}},
    "Migration": {
        "type": "object",
        "properties": {
            "thingDefinitionUrl": {"type": "string", "format": "uri"},
            "migrationPayload": {"$ref": "#/components/schemas/MergePatch"},
            "patchConditions": {
                "type": "object",
                "description": "thing:/pointer within the payload to RQL expression; parts whose condition does not hold are left out.",
                "additionalProperties": TEXT,
            },
            "initializeMissingPropertiesFromDefaults": {"type": "boolean", "const": False},
        },
        "required": ["thingDefinitionUrl"],
    },
    "Migrated": {
        "type": "object",
        "properties": {
            "thingId": TEXT,
            "patch": {"$ref": "#/components/schemas/MergePatch"},
            "mergeStatus": {"enum": ["APPLIED", "DRY_RUN"]},
        },
    },
    **POLICY_SCHEMAS,
    **AUDIT_SCHEMAS,
    **FEED_SCHEMAS,
    **MESSAGE_SCHEMAS,
    **SEARCH_SCHEMAS,
    **OPERATION_SCHEMAS,
    "SeriesList": {"type": "array", "items": {"$ref": "#/components/schemas/Series"}},
    "Series": {
        "type": "object",
        "description": "One property: its rows, and where the next page starts.",
        "additionalProperties": True,
    },
    "WhoAmI": {
        "type": "object",
        "properties": {"defaultSubject": TEXT, "subjects": {"type": "array", "items": TEXT}},
        "required": ["defaultSubject", "subjects"],
    },
    "Health": {
        "type": "object",
        "properties": {"status": {"enum": ["UP", "DOWN"]}},
        "required": ["status"],
        "additionalProperties": True,
    },
    "Error": {
        "type": "object",
        "properties": {"status": {"type": "integer"}, "error": TEXT, "message": TEXT, "description": TEXT},
        "required": ["status", "error", "message"],
        "additionalProperties": True,
    },
}
