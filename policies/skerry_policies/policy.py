# ruff: noqa: N818 - errors are rows of a table
"""Policies as entities: checking a document, deciding a command on one, applying an event to one (ditto.md 3.1, 3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType, structs

from skerry import fields, headers, pointer, preconditions, times, values
from skerry.errors import SkerryError
from skerry.ids import check_policy_id
from skerry.signals import Command, Decision, Event, Held, Response
from skerry_policies import document, lockout, parts, references, sharing
from skerry_policies.document import TERMS, Terms
from skerry_policies.enforcer import compile_permits

if TYPE_CHECKING:
    from collections.abc import Callable

    from skerry.signals import Json, Micros, Path
    from skerry_policies.enforcer import Permits


class PolicyExists(SkerryError):
    """Creation of what is there already."""

    code = "policies:policy.conflict"
    status = 409
    message = "The policy '{policy_id}' exists already."
    description = "Choose another id, or modify the policy that exists."


class PolicyNotCreatable(SkerryError):
    """The creator would lock itself out."""

    code = "policies:policy.notcreatable"
    status = 403
    message = "The policy '{policy_id}' would not let you write it."
    description = "Grant one of your subjects WRITE on policy:/, or send allow-policy-lockout=true."


class PolicyTooLarge(SkerryError):
    """Over the limit."""

    code = "policies:policy.toolarge"
    status = 413
    message = "The policy '{policy_id}' would be {size} bytes of JSON; the limit is {limit}."
    description = "Use fewer entries, or raise the setting policy_max_bytes."


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


def checked(command: Command, now: Micros, terms: Terms = TERMS) -> Command:
    """The command with its value in full form. Raises what `document.check` does, PathUnknown."""
    if command.verb == "merge":
        raise parts.unknown(command.path, "merged")
    check_policy_id(command.id)
    part = parts.part_of(command.path)
    if command.verb == "delete":
        if part not in DELETABLE:
            raise parts.unknown(command.path, "deleted")
        return command
    value = document.check(command.id, command.path, command.value, now, terms)
    if part == "resource":
        label = command.path[1]
        key = document.resource_key(f"/entries/{label}/resources/{command.path[3]}", command.path[3])
        return structs.replace(command, value=value, path=(*command.path[:3], key))
    return structs.replace(command, value=sharing.share(value) if part == "policy" else value)


DELETABLE = frozenset({"policy", "entry", "subject", "resource", "allowedAdditions", "references", "imports", "import"})
"""The parts that can be taken away."""

OWN = frozenset({"policy", "entry", "subject", "resource", "import", "references"})
"""The parts that a change may create; the others are there as soon as what holds them is."""


def decide(
    held: Held,
    command: Command,
    now: Micros,
    terms: Terms = TERMS,
    permits_of: Callable[[dict[str, Any]], Permits] | None = None,
) -> Decision:
    """Check a command's value and carry it out; raises what `checked` and `carry_out` do."""
    return carry_out(held, checked(command, now, terms), now, terms, permits_of)


def carry_out(
    held: Held,
    command: Command,
    now: Micros,
    terms: Terms = TERMS,
    permits_of: Callable[[dict[str, Any]], Permits] | None = None,
) -> Decision:
    """Create, replace or delete a policy or a part of it; the value is in full form, the rights on what exists are checked.

    `permits_of`: the creator's rights under the new document, imports included. Raises the rows above, those of
    `references` and `lockout`, PreconditionFailed.
    """
    policy_id, path = held.id, command.path
    part = parts.part_of(path)
    before = held.document
    found = UNSET if before is None else pointer.get(before, path)
    there = _there(part, path, before, found)
    if not (command.verb == "delete" and there is UNSET):
        preconditions.check(command.headers, _etag(part, held.revision, path, there), command.verb, "policy")
    if before is None:
        return _create(held, command, now, terms, permits_of)
    if command.verb == "create":
        raise PolicyExists(policy_id=policy_id)
    if command.verb == "delete":
        if not path:
            return _decision(held, command, now, created=False)
        if found is UNSET and not _is_void(policy_id, part, path, before):
            etag = _etag(part, held.revision, path, there)
            return Decision(response=Response(status=204, etag=etag, revision=held.revision))
        after: dict[str, Any] = pointer.remove(before, path)
    else:
        _check_within(policy_id, path, before)
        _check_if_equal(held, command, there)
        after = _with(before, path, command.value)
        document.check_imports(policy_id, len(after.get("imports", ())))
        if part in {"policy", "entries", "entry", "references"}:
            references.check(after)
    if path:
        references.check_kept(policy_id, part, path, before, after)
    if terms.lockout_prevention:
        lockout.check(after, part, path)
    _check_size(after, terms)
    made = found is UNSET and part in OWN and not (part == "references" and not command.value)
    return _decision(held, command, now, created=made)


def _check_if_equal(held: Held, command: Command, found: Json | UnsetType) -> None:
    """Refuse a change that would change nothing, where the caller wants that. Raises PolicyPreconditionFailed."""
    wish = command.headers.get("if-equal", "").strip()
    if wish == "skip" and found is not UNSET and values.same(found, command.value):
        etag = str(_etag("", held.revision, command.path, found))
        raise preconditions.PolicyPreconditionFailed(
            headers={"etag": etag},
            header="if-equal",
            wanted=wish,
            etag=etag,
            description="The change would change nothing.",
        )


_TAGLESS = frozenset({"importable", "namespaces", "import transitiveImports"})
"""Parts that Ditto gives no ETag, and that are never there in the eyes of a precondition."""


def _there(part: str, path: Path, before: dict[str, Any] | None, found: Json | UnsetType) -> Json | UnsetType:
    """What preconditions take for the part: some that the policy says nothing of are there, and empty."""
    if found is UNSET and before is not None and part in {"allowedAdditions", "imports"}:
        return _WHEN_ABSENT[part] if len(path) == 1 or pointer.get(before, path[:2]) is not UNSET else UNSET
    return found


def _create(
    held: Held,
    command: Command,
    now: Micros,
    terms: Terms,
    permits_of: Callable[[dict[str, Any]], Permits] | None,
) -> Decision:
    """A policy that is not there yet."""
    if command.path or command.verb == "delete":
        raise parts.PolicyNotAccessible(policy_id=held.id)
    after: dict[str, Any] = command.value  # type: ignore[assignment]  # `checked` has made it an object
    if command.headers.get("allow-policy-lockout") != "true":
        permits = compile_permits(after, command.subjects) if permits_of is None else permits_of(after)
        if not permits.may("policy", (), "WRITE"):
            raise PolicyNotCreatable(policy_id=held.id)
    references.check(after)
    if terms.lockout_prevention:
        lockout.check(after)
    _check_size(after, terms)
    return _decision(held, command, now, created=True)


def _check_size(after: dict[str, Any], terms: Terms) -> None:
    """Raise PolicyTooLarge for more JSON than is allowed."""
    size = len(msgspec.json.encode(after))
    if size > terms.limit:
        raise PolicyTooLarge(policy_id=after["policyId"], size=size, limit=terms.limit)


def _is_void(policy_id: str, part: str, path: Path, before: dict[str, Any]) -> bool:
    """Whether deleting what is not there counts as a change all the same (Ditto tells of it); raises where it is an error."""
    if part not in {"allowedAdditions", "references", "imports"}:
        raise _missing(policy_id, path, before)
    _check_within(policy_id, path, before)
    return part != "allowedAdditions"


def _check_within(policy_id: str, path: Path, before: dict[str, Any]) -> None:
    """Raise unless the policy has the entry or the import in which the part stands."""
    if len(path) > 2 and pointer.get(before, path[:2]) is UNSET:
        raise _missing(policy_id, path, before)


def _missing(policy_id: str, path: Path, before: dict[str, Any]) -> parts.PolicyNotAccessible:
    """The error for what is not there: it speaks of the entry or the import where that is missing altogether."""
    whole = path[:2] if len(path) > 2 and pointer.get(before, path[:2]) is UNSET else path
    return parts.not_accessible(policy_id, whole)


def _with(before: dict[str, Any], path: Path, value: Json) -> dict[str, Any]:
    """The document with the value at the path; what is empty and means nothing is left out, as in the full form."""
    after: dict[str, Any]
    if not value and (path == ("imports",) or path[2:] in {("references",), ("transitiveImports",)}):
        after = pointer.remove(before, path)
    else:
        after = pointer.put(before, path, value)
    if path[2:] == ("transitiveImports",) and "entries" not in after["imports"][path[1]]:
        after = pointer.put(after, (*path[:2], "entries"), [])
    return after


_WHEN_ABSENT: dict[str, Json] = {
    "imports": {},
    "references": [],
    "allowedAdditions": [],
    "import transitiveImports": [],
}
"""Parts that are read as something empty when the policy says nothing."""


def retrieve(held: Held, permits: Permits, command: Command) -> Response:
    """A policy or a part of it, as far as the caller may read it.

    Raises the 404 of the part, NotModified, PathUnknown.
    """
    path, whole = command.path, held.document
    part = parts.part_of(path)
    if whole is None:
        raise parts.PolicyNotAccessible(policy_id=held.id)
    if not permits.may_partly("policy", parts.resource_path(path), "READ"):
        raise parts.not_accessible(held.id, path)
    value = shown(whole) if not path else pointer.get(whole, path)
    if value is UNSET:
        _check_within(held.id, path, whole)
        if part == "import entries":
            value = []
        elif part in _WHEN_ABSENT:
            value = _WHEN_ABSENT[part]
        else:
            raise parts.not_accessible(held.id, path)
    etag = None if part == "import entries" else _etag(part, held.revision, path, value)
    if etag is not None:
        preconditions.check(command.headers, etag, command.verb, "policy")
    if type(value) is dict:
        value = permits.view(path, value, "policy")
        value = {} if value is UNSET else value
        if not path:
            value = {"policyId": held.id, **value}
    selected = command.headers.get("fields")
    if selected is not None and not path and type(value) is dict:
        selector = fields.parse(selected)
        value = fields.select({**value, **_special(held, selector)}, selector)
    return Response(status=200, value=value, etag=etag, revision=held.revision)


def _special(held: Held, selector: fields.Selector) -> dict[str, Any]:
    """What is told of a policy only where it is named."""
    known = {
        "_namespace": held.id.partition(":")[0],
        "_revision": held.revision,
        "_created": times.write(held.created),
        "_modified": times.write(held.modified),
    }
    return {name: value for name, value in known.items() if name in selector}


def shown(whole: dict[str, Any]) -> dict[str, Any]:
    """A policy's document as it is read: `imports` is always there."""
    return {"policyId": whole["policyId"], "imports": {}, **whole}


def _etag(part: str, revision: int, path: Path, value: Json | UnsetType) -> str | None:
    """The tag of a policy or a part of it; None for what is not there, or has none."""
    if value is UNSET or part in _TAGLESS or (part == "references" and not value):
        return None
    return preconditions.value_etag(value) if path else preconditions.thing_etag(revision)


def _decision(held: Held, command: Command, now: Micros, *, created: bool) -> Decision:
    """The event and the answer."""
    revision, path = held.revision + 1, command.path
    part = parts.part_of(path)
    value = UNSET if command.verb == "delete" else command.value
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
        value=UNSET if not created or value is UNSET else value if path else shown(value),
        etag=_etag(part, revision, path, [] if part == "allowedAdditions" and value is UNSET else value),
        revision=revision,
    )
    return Decision(response=answer, event=event)


def apply(held: Held, event: Event) -> Held:
    """The policy after the event."""
    after: Json
    if event.action == "deleted":
        after = pointer.remove(held.document, event.path) if event.path else None
    elif event.path and held.document is not None:
        after = _with(held.document, event.path, event.value)
    else:
        after = event.value
    return Held(
        kind="policy",
        id=event.id,
        document=after,
        revision=event.revision,
        number=event.number,
        created=event.timestamp if held.document is None else held.created,
        modified=event.timestamp,
    )
