"""The schemas of the OpenAPI document that are about policies."""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
FLAG = {"type": "boolean"}
SHARE = {"enum": ["all", "part", "none"]}


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
    "Permission": {"type": "string", "examples": ["READ", "WRITE", "EXECUTE", "READ_TS"]},
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
        "type",
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
    "Resource": _object("grant revoke", grant=_list("Permission"), revoke=_list("Permission")),
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
        thingId=TEXT,
    ),
    "Explanation": _object(
        "granted decidedBy missing couldBeGrantedBy",
        granted=FLAG,
        partly={"type": "boolean", "description": "Granted on part of it at least."},
        decidedBy=_list("Rule"),
        missing=_list("Share"),
        couldBeGrantedBy=_list("Giver"),
    ),
    "Rule": _object(
        "policyId entry resource effect permission subject",
        policyId=TEXT,
        entry=TEXT,
        resource=TEXT,
        effect={"enum": ["grant", "revoke"]},
        permission=TEXT,
        subject=TEXT,
    ),
    "Giver": {
        "description": "An entry one of whose subjects would have what is missing.",
        **_object("policyId entry subjects", policyId=TEXT, entry=TEXT, subjects=TEXTS),
    },
    "Simulation": _object(
        "policyId changes things", policyId=TEXT, changes=_list("Difference"), things=_ref("Affected")
    ),
    "Difference": _object(
        "subject gains loses things",
        subject=TEXT,
        gains=_list("Share"),
        loses=_list("Share"),
        things=_ref("Affected"),
    ),
    "Share": {
        "description": "A permission on a resource and all below it, except where it stays as it was.",
        **_object("resource permission", resource=TEXT, permission=TEXT, **{"except": TEXTS}),
    },
    "Affected": {
        "description": "How many things, and the ids of the first of them.",
        **_object("count ids", count={"type": "integer", "minimum": 0}, ids=TEXTS),
    },
    "Access": _object("thingId policyId subjects", thingId=TEXT, policyId=TEXT, subjects=_list("SubjectAccess")),
    "SubjectAccess": _object(
        "subject permissions read write entries",
        subject=TEXT,
        permissions={"type": "object", "additionalProperties": TEXTS},
        read=SHARE,
        write=SHARE,
        entries=TEXTS,
    ),
    "PermissionQuestions": {
        "type": "object",
        "additionalProperties": _object(
            "resource entityId hasPermissions", resource=TEXT, entityId=TEXT, hasPermissions=_list("Permission")
        ),
    },
    "PermissionAnswers": {"type": "object", "additionalProperties": FLAG},
}
