"""The schemas of the OpenAPI document that are about policies."""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
FLAG = {"type": "boolean"}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _map(name: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": _ref(name)}


def _list(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _ref(name)}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "object", "properties": properties}
    return {**found, "required": required.split()} if required else found


POLICY_SCHEMAS: dict[str, Any] = {
    "Texts": TEXTS,
    "Permission": {"enum": ["READ", "WRITE", "EXECUTE", "READ_TS"]},
    "Policy": _object(policyId=TEXT, imports=_ref("PolicyImports"), entries=_ref("PolicyEntries")),
    "Policies": _list("Policy"),
    "PolicyEntries": _map("PolicyEntry"),
    "PolicyEntry": _object(
        subjects=_ref("Subjects"),
        resources=_ref("Resources"),
        namespaces=TEXTS,
        importable=_ref("Importable"),
        allowedAdditions=TEXTS,
        references=_ref("References"),
    ),
    "Subjects": _map("Subject"),
    "Subject": _object(
        type=TEXT,
        expiry={"type": "string", "format": "date-time"},
        announcement=_ref("Announcement"),
    ),
    "Announcement": _object(
        beforeExpiry={"type": "string", "examples": ["5m"]},
        whenDeleted=FLAG,
        randomizationInterval={"type": "string", "examples": ["5m"]},
        requestedAcks=_object(labels=TEXTS, timeout=TEXT),
    ),
    "Resources": _map("Resource"),
    "Resource": _object(grant=_list("Permission"), revoke=_list("Permission")),
    "Importable": {"enum": ["implicit", "explicit", "never"]},
    "References": {"type": "array", "items": _object("entry", **{"import": TEXT, "entry": TEXT})},
    "PolicyImports": _map("PolicyImport"),
    "PolicyImport": _object(entries=TEXTS, transitiveImports=TEXTS),
    "TokenIntegration": _object(announcement=_ref("Announcement")),
    "ExplainQuestion": _object(
        "subjects resource permission",
        subjects={**TEXTS, "minItems": 1, "examples": [["nginx:ditto"]]},
        resource={"type": "string", "examples": ["thing:/attributes/x"]},
        permission=_ref("Permission"),
    ),
    "Explanation": _object(
        "granted decidedBy missing couldBeGrantedBy",
        granted=FLAG,
        decidedBy={"type": "array", "items": {"type": "object"}},
        missing={"type": "array", "items": {"type": "object"}},
        couldBeGrantedBy={"type": "array", "items": {"type": "object"}},
    ),
    "Simulation": {"type": "object", "additionalProperties": True},
    "Access": {"type": "object", "additionalProperties": True},
    "PermissionQuestions": {
        "type": "object",
        "additionalProperties": _object(
            "resource entityId hasPermissions", resource=TEXT, entityId=TEXT, hasPermissions=_list("Permission")
        ),
    },
    "PermissionAnswers": {"type": "object", "additionalProperties": FLAG},
}
