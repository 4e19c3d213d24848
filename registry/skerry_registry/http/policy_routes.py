"""The rows of the table of HTTP routes that are about policies."""

from __future__ import annotations

from skerry_registry.http.route import Route

POLICY = "/api/2/policies/{policyId}"
ENTRY = POLICY + "/entries/{label}"
IMPORT = POLICY + "/imports/{importedPolicyId}"
PRECONDITIONS = ("If-Match", "If-None-Match")
READS = (*PRECONDITIONS, "at-historical-revision", "at-historical-timestamp", "timeout", "correlation-id")
WRITES = (*PRECONDITIONS, "if-equal", "requested-acks", "response-required", "timeout", "correlation-id")
CREATIONS = ("allow-policy-lockout", "requested-acks", "response-required", "timeout", "correlation-id")
READ_ERRORS = (304, 400, 401, 404, 408, 412)
WRITE_ERRORS = (400, 401, 403, 404, 408, 409, 412, 413, 415, 424)
ASK_ERRORS = (400, 401, 404, 408, 413, 415)


def _read(path: str, what: str, schema: str, more: tuple[str, ...] = ()) -> Route:
    return Route(
        method="GET",
        path=path,
        summary=f"Retrieve {what}",
        tag="Policies",
        parameters=(*more, *READS),
        errors=READ_ERRORS,
        schema=schema,
    )


def _put(
    path: str, what: str, schema: str, *, success: tuple[int, ...] = (201, 204), more: tuple[str, ...] = ()
) -> Route:
    return Route(
        method="PUT",
        path=path,
        summary=f"Replace {what}" if success == (204,) else f"Create or replace {what}",
        tag="Policies",
        success=success,
        parameters=(*WRITES, *more),
        errors=WRITE_ERRORS,
        schema=schema if 201 in success else None,
        body=schema,
    )


def _delete(path: str, what: str) -> Route:
    return Route(
        method="DELETE",
        path=path,
        summary=f"Delete {what}",
        tag="Policies",
        success=(204,),
        parameters=tuple(name for name in WRITES if name != "if-equal"),
        errors=tuple(status for status in WRITE_ERRORS if status not in {413, 415}),
    )


def _kept(path: str, what: str, schema: str) -> tuple[Route, ...]:
    """What is always there: it is read and replaced."""
    return _read(path, what, schema), _put(path, what, schema, success=(204,))


def _part(path: str, what: str, schema: str, *, success: tuple[int, ...] = (201, 204)) -> tuple[Route, ...]:
    """What may be there or not."""
    return _read(path, what, schema), _put(path, what, schema, success=success), _delete(path, what)


def _action(path: str, name: str, where: str) -> Route:
    verb = "Let a token's integration in at" if name.startswith("activate") else "Let a token's integration go from"
    return Route(
        method="POST",
        path=f"{path}/actions/{name}",
        summary=f"{verb} {where}; only with a JSON Web Token",
        tag="Policies",
        success=(204,),
        parameters=("timeout", "correlation-id"),
        errors=(400, 401, 403, 404, 408, 415),
        body="TokenIntegration" if name.startswith("activate") else None,
        body_optional=True,
    )


ACTIONS = ("activateTokenIntegration", "deactivateTokenIntegration")

POLICY_ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/api/2/policies",
        summary="List the policies you may read, or search them",
        tag="Policies",
        parameters=("namespaces", "subject", "resource", "fields", "option", "timeout", "correlation-id"),
        errors=(400, 401, 408, 414),
        schema="Policies",
    ),
    Route(
        method="POST",
        path="/api/2/policies",
        summary="Create a policy under an id made by the server",
        tag="Policies",
        success=(201,),
        parameters=("namespace", *CREATIONS),
        errors=WRITE_ERRORS,
        schema="Policy",
        body="Policy",
    ),
    _read(POLICY, "a policy", "Policy", ("fields", "policy-view")),
    _put(POLICY, "a policy", "Policy", more=("allow-policy-lockout",)),
    _delete(POLICY, "a policy"),
    *(_action(POLICY, name, "every entry that fits") for name in ACTIONS),
    *_kept(POLICY + "/entries", "all entries", "PolicyEntries"),
    *_part(ENTRY, "an entry", "PolicyEntry"),
    *(_action(ENTRY, name, "one entry") for name in ACTIONS),
    *_kept(ENTRY + "/subjects", "the subjects of an entry", "Subjects"),
    *_part(ENTRY + "/subjects/{subjectId}", "a subject of an entry", "Subject"),
    *_kept(ENTRY + "/resources", "the resources of an entry", "Resources"),
    *_part(ENTRY + "/resources/{resourcePath}", "a resource of an entry, as thing:/features/x", "Resource"),
    *_kept(ENTRY + "/importable", "how an entry may be imported", "Importable"),
    *_kept(ENTRY + "/namespaces", "the namespaces an entry is for", "Texts"),
    *_part(ENTRY + "/allowedAdditions", "what a reference to an entry may add", "Texts", success=(204,)),
    *_part(ENTRY + "/references", "the references of an entry", "References"),
    *_part(POLICY + "/imports", "all imports", "PolicyImports", success=(204,)),
    *_part(IMPORT, "an import", "PolicyImport"),
    *_kept(IMPORT + "/entries", "the labels that an import names", "Texts"),
    *_kept(IMPORT + "/transitiveImports", "which of its own imports an import takes along", "Texts"),
    Route(
        method="POST",
        path=POLICY + "/explain",
        summary="Say why somebody may do something or not, and what is missing",
        tag="Policies",
        parameters=("timeout", "correlation-id"),
        errors=ASK_ERRORS,
        schema="Explanation",
        body="ExplainQuestion",
    ),
    Route(
        method="POST",
        path=POLICY + "/simulate",
        summary="Say who would gain or lose what, on which things, if the policy were as sent",
        tag="Policies",
        parameters=("timeout", "correlation-id"),
        errors=(*ASK_ERRORS, 403),
        schema="Simulation",
        body="Policy",
    ),
    Route(
        method="GET",
        path="/api/2/things/{thingId}/access",
        summary="Every subject with its rights on a thing",
        tag="Policies",
        parameters=("timeout", "correlation-id"),
        errors=(400, 401, 404, 408),
        schema="Access",
    ),
    Route(
        method="POST",
        path="/api/2/checkPermissions",
        summary="Say for many questions at once whether you may",
        tag="Policies",
        parameters=("timeout", "correlation-id"),
        errors=(400, 401, 408, 413, 415),
        schema="PermissionAnswers",
        body="PermissionQuestions",
    ),
)
