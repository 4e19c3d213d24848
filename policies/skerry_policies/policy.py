# ruff: noqa: N818 - errors are rows of a table
"""Policies as entities: checking a document, deciding a command on one, applying an event to one (ditto.md 3.1, 3.4)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from skerry import fields, headers, pointer, preconditions, values
from skerry.errors import SkerryError
from skerry.ids import check_policy_id
from skerry.signals import Command, Decision, Event, Held, Response
from skerry.values import DEPTH_LIMIT
from skerry_policies.enforcer import compile_permits

if TYPE_CHECKING:
    from skerry.signals import Json, Micros, Path


class PolicyNotAccessible(SkerryError):
    """No such policy, as far as the caller can know."""

    code = "policies:policy.notfound"
    status = 404
    message = "No policy '{policy_id}' is visible to you."
    description = "Either it does not exist or it lets you read no part of it."


class PartNotFound(SkerryError):
    """A part of a policy that is not there."""

    code = "policies:entry.notfound"
    status = 404
    message = "The policy '{policy_id}' has nothing at {path} that you may see."
    description = "Look at the whole policy to see what it has."


class PolicyExists(SkerryError):
    """Creation of what is there already."""

    code = "policies:policy.conflict"
    status = 409
    message = "The policy '{policy_id}' exists already."
    description = "Choose another id, or modify the policy that exists."


class PolicyNotModifiable(SkerryError):
    """The caller may not write the policy."""

    code = "policies:policy.notmodifiable"
    status = 403
    message = "You may not change the policy '{policy_id}' at {path}."
    description = "It takes WRITE on policy:{path} and on everything below."


class PolicyNotCreatable(SkerryError):
    """The creator would lock itself out."""

    code = "policies:policy.notcreatable"
    status = 403
    message = "The policy '{policy_id}' would not let you write it."
    description = "Grant one of your subjects WRITE on policy:/, or send allow-policy-lockout=true."


class PolicyLocked(SkerryError):
    """Nobody could ever change the policy again."""

    code = "policies:policy.modificationinvalid"
    status = 403
    message = "The policy '{policy_id}' would leave nobody with WRITE on policy:/."
    description = "Keep at least one subject without expiry in an entry that grants WRITE on policy:/ itself."


class PolicyTooLarge(SkerryError):
    """Over the limit."""

    code = "policies:policy.toolarge"
    status = 413
    message = "The policy '{policy_id}' would be {size} bytes of JSON; the limit is {limit}."
    description = "Use fewer entries, or raise the setting policy_max_bytes."


class PolicyInvalid(SkerryError):
    """Not a policy document."""

    code = "policies:entry.invalid"
    status = 400
    message = "The policy is not valid at {at}: {problem}"
    description = 'Its shape: {{"entries": {{"<label>": {{"subjects": {{"<issuer>:<subject>": {{"type": "<text>"}}}}, "resources": {{"thing:/": {{"grant": ["READ"], "revoke": []}}}}}}}}}}.'


class LabelInvalid(SkerryError):
    """An entry's label that is reserved or empty."""

    code = "policies:label.invalid"
    status = 400
    message = "'{label}' cannot be the label of an entry."
    description = "Labels are not empty, carry no slash, and do not begin with 'imported' or 'nsimported-'."


class SubjectIdInvalid(SkerryError):
    """A subject without an issuer."""

    code = "policies:subjectid.invalid"
    status = 400
    message = "'{subject}' in the entry '{label}' is not a subject id."
    description = "A subject id reads <issuer>:<subject>, nginx:ditto for instance."


class PolicyIdNotSettable(SkerryError):
    """The body names another policy than the path."""

    code = "policies:id.notsettable"
    status = 400
    message = "The body's policyId '{found}' is not the policy '{policy_id}' that is addressed."
    description = "Leave policyId out of the body, or make both the same."


PERMISSIONS = frozenset({"READ", "WRITE", "EXECUTE"})
_RESOURCE = re.compile(r"[a-zA-Z][\w\-]*:/.*\Z", re.DOTALL)


def implicit(policy_id: str, subject: str) -> dict[str, Any]:
    """The document of the policy that a thing gets when its creator names none: the creator may everything."""
    everything = {"grant": ["READ", "WRITE"], "revoke": []}
    return {
        "policyId": policy_id,
        "entries": {
            "DEFAULT": {
                "subjects": {subject: {"type": "generated"}},
                "resources": {"thing:/": everything, "policy:/": everything, "message:/": everything},
                "importable": "implicit",
            }
        },
    }


def check(policy_id: str, value: Json) -> dict[str, Any]:
    """The document in its full form: policyId first, grant and revoke always there. Raises one of the rows above."""
    if not isinstance(value, dict):
        raise PolicyInvalid(at="/", problem="it is not an object")
    values.check(value, addressable=False)
    found = value.get("policyId", policy_id)
    if found != policy_id:
        raise PolicyIdNotSettable(found=found, policy_id=policy_id)
    entries = value.get("entries", {})
    if not isinstance(entries, dict):
        raise PolicyInvalid(at="/entries", problem="it is not an object")
    imports = value.get("imports", {})
    if not isinstance(imports, dict):
        raise PolicyInvalid(at="/imports", problem="it is not an object")
    checked: dict[str, Any] = {"policyId": policy_id}
    if imports:
        checked["imports"] = imports
    checked["entries"] = {label: _check_entry(label, entry) for label, entry in entries.items()}
    return checked


def _check_entry(label: str, entry: Json) -> dict[str, Any]:
    """One entry in its full form."""
    if not label or "/" in label or label.startswith(("imported", "nsimported-")):
        raise LabelInvalid(label=label)
    at = f"/entries/{label}"
    if not isinstance(entry, dict):
        raise PolicyInvalid(at=at, problem="it is not an object")
    subjects = entry.get("subjects", {})
    resources = entry.get("resources", {})
    if not isinstance(subjects, dict):
        raise PolicyInvalid(at=f"{at}/subjects", problem="it is not an object")
    if not isinstance(resources, dict):
        raise PolicyInvalid(at=f"{at}/resources", problem="it is not an object")
    for subject, facts in subjects.items():
        issuer, colon, name = subject.partition(":")
        if not (issuer and colon and name):
            raise SubjectIdInvalid(subject=subject, label=label)
        if not isinstance(facts, dict):
            raise PolicyInvalid(at=f"{at}/subjects/{subject}", problem="it is not an object")
    rest = {key: value for key, value in entry.items() if key not in {"subjects", "resources", "importable"}}
    return {
        "subjects": subjects,
        "resources": {key: _check_resource(f"{at}/resources/{key}", key, rights) for key, rights in resources.items()},
        "importable": entry.get("importable", "implicit"),
        **rest,
    }


def _check_resource(at: str, key: str, rights: Json) -> dict[str, list[str]]:
    """The rights on one resource in their full form."""
    if not _RESOURCE.match(key):
        raise PolicyInvalid(at=at, problem="a resource reads <type>:/<path>, thing:/features for instance")
    if key.count("/") > DEPTH_LIMIT:
        raise PolicyInvalid(at=at[:100], problem=f"the resource's path is deeper than {DEPTH_LIMIT} levels")
    if not isinstance(rights, dict):
        raise PolicyInvalid(at=at, problem="it is not an object")
    full: dict[str, list[str]] = {}
    for effect in ("grant", "revoke"):
        names = rights.get(effect, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise PolicyInvalid(at=f"{at}/{effect}", problem="it is not an array of permissions")
        unknown = [name for name in names if name not in PERMISSIONS]
        if unknown:
            raise PolicyInvalid(at=f"{at}/{effect}", problem=f"'{unknown[0]}' is none of READ, WRITE, EXECUTE")
        full[effect] = names
    return full


def check_lockout(document: dict[str, Any]) -> None:
    """Refuse a document that nobody could change any more (skipped when it imports others)."""
    if document.get("imports"):
        return
    for entry in document["entries"].values():
        rights = entry["resources"].get("policy:/")
        if rights is None or "WRITE" not in rights["grant"] or "WRITE" in rights["revoke"]:
            continue
        if any("expiry" not in facts for facts in entry["subjects"].values()):
            return
    raise PolicyLocked(policy_id=document["policyId"])


def decide(held: Held, command: Command, now: Micros, limit: int) -> Decision:
    """Create, replace or delete a policy or a part of it. The caller's rights on a policy that exists are checked before.

    Raises the rows above, PreconditionFailed.
    """
    policy_id, path = held.id, command.path
    before = held.document
    found = UNSET if before is None else pointer.get(before, path)
    preconditions.check(command.headers, _etag(held.revision, path, found), command.verb, "policy")
    if command.verb == "merge":
        raise PolicyInvalid(at=pointer.write(path), problem="a policy cannot be merged, send the whole part instead")
    if before is None and (path or command.verb == "delete"):
        raise PolicyNotAccessible(policy_id=policy_id)
    if command.verb == "create" and before is not None:
        raise PolicyExists(policy_id=policy_id)
    if command.verb == "delete":
        if found is UNSET:
            raise PartNotFound(policy_id=policy_id, path=pointer.write(path))
        if not path:
            return _decision(held, command, now, None, created=False)
        document = check(policy_id, pointer.remove(before, path))
    elif path:
        document = check(policy_id, pointer.put(before, path, command.value))
    else:
        check_policy_id(policy_id)
        document = check(policy_id, command.value if command.value is not UNSET else None)
    check_lockout(document)
    if before is None:
        _check_creator(document, command)
    size = len(msgspec.json.encode(document))
    if size > limit:
        raise PolicyTooLarge(policy_id=policy_id, size=size, limit=limit)
    return _decision(held, command, now, document, created=found is UNSET)


def _check_creator(document: dict[str, Any], command: Command) -> None:
    """Refuse a new policy that its maker could not change, unless that is meant."""
    if command.headers.get("allow-policy-lockout") == "true":
        return
    if not compile_permits(document, command.subjects).may("policy", (), "WRITE"):
        raise PolicyNotCreatable(policy_id=document["policyId"])


def retrieve(held: Held, visible: Json, command: Command) -> Response:
    """A policy or a part of it; `visible` is the document without what the caller may not read. Raises NotModified."""
    value = pointer.get(visible, command.path)
    if value is UNSET:
        raise PartNotFound(policy_id=held.id, path=pointer.write(command.path))
    etag = _etag(held.revision, command.path, value)
    preconditions.check(command.headers, etag, command.verb, "policy")
    selector = command.headers.get("fields")
    if selector and not command.path:
        value = fields.select(value, fields.parse(selector))
    return Response(status=200, value=value, etag=etag, revision=held.revision)


def _etag(revision: int, path: Path, value: Json | UnsetType) -> str | None:
    """The tag of a policy or a part of it; None for what is not there."""
    if value is UNSET:
        return None
    return preconditions.value_etag(value) if path else preconditions.thing_etag(revision)


def _decision(held: Held, command: Command, now: Micros, document: dict[str, Any] | None, *, created: bool) -> Decision:
    """The event and the answer; `document` is the whole policy as it will be, None when it is deleted."""
    revision, path = held.revision + 1, command.path
    value = UNSET if command.verb == "delete" else pointer.get(document, path)
    event = Event(
        kind="policy",
        id=held.id,
        action="deleted" if value is UNSET else "created" if created else "modified",
        revision=revision,
        timestamp=now,
        path=path,
        value=value,
        headers=headers.for_event(command.headers),
        digest=command.digest,
    )
    answer = Response(
        status=201 if created else 204,
        value=value if created else UNSET,
        etag=_etag(revision, path, value),
        revision=revision,
    )
    return Decision(response=answer, event=event)


def apply(held: Held, event: Event) -> Held:
    """The policy after the event."""
    document: dict[str, Any] | None
    if event.action == "deleted":
        document = pointer.remove(held.document, event.path) if event.path else None
    else:
        document = pointer.put(held.document or {}, event.path, event.value)
    return Held(
        kind="policy",
        id=event.id,
        document=document,
        revision=event.revision,
        number=event.number,
        created=event.timestamp if held.document is None else held.created,
        modified=event.timestamp,
    )
