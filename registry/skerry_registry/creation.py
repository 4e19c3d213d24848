# ruff: noqa: N818 - errors are rows of a table
"""Which policy a new thing gets (ditto.md 1.4): a copy, one given inline, one that exists, or one made for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from msgspec import UNSET, Struct

from skerry import pointer
from skerry.errors import SkerryError
from skerry.ids import check_policy_id, check_thing_id, split_id
from skerry.things import ThingNotAccessible
from skerry.values import JsonInvalid, name
from skerry_policies import policy
from skerry_policies.parts import PolicyNotAccessible

if TYPE_CHECKING:
    from collections.abc import Callable

    from skerry.signals import Command, Held, Kind
    from skerry_policies.enforcer import Permits


class ThingNotCreatable(SkerryError):
    """The policy that the thing would get has its id taken."""

    code = "things:thing.notcreatable"
    status = 400
    message = "The thing '{thing_id}' would get a policy of its own with the id '{policy_id}', and that exists already."
    description: ClassVar[str | None] = (
        "Send the policyId of the policy that the thing shall have; deleting a thing does not delete its policy."
    )


class PolicyNotMade(ThingNotCreatable):
    """The policy would not let its maker write it."""

    code = "things:thing.notcreatable"
    status = 403
    message = "The thing '{thing_id}' is not created, for its policy cannot be: {problem}"
    description: ClassVar[str | None] = "Correct _policy or what _copyPolicyFrom names, or leave both out."


class PolicyNotFounded(PolicyNotMade):
    """The policy imports what is not there."""

    status = 404


class PolicyNotFitting(PolicyNotMade):
    """The policy is too large."""

    status = 413


_NOT_MADE = {row.status: row for row in (PolicyNotMade, PolicyNotFounded, PolicyNotFitting)}


class PolicyConflicting(SkerryError):
    """Two ways to a policy at once."""

    code = "things:policy.conflicting"
    status = 400
    message = "The thing '{thing_id}' comes with two policies."
    description = "Send one of policyId of an existing policy, _policy and _copyPolicyFrom; policyId beside one of the others names the new policy."


class PolicyRefused(SkerryError):
    """The inline policy is no good."""

    code = "things:policy.invalid"
    status = 400
    message = "The thing '{thing_id}' comes with a policy that is not valid: {problem}"
    description = "Correct _policy, or leave it out: the thing then gets a policy that grants you everything."


class ReferenceUnresolved(SkerryError):
    """A placeholder that leads nowhere."""

    code = "placeholder:placeholder.reference.notsupported"
    status = 400
    message = "'{text}' is not a reference to a policy."
    description = "Write a policy id, or {{{{ ref:things/<thing id>/policyId }}}}."


class ReferenceFieldUnknown(SkerryError):
    """A reference to something in a thing that is not there or no text."""

    code = "placeholder:placeholder.reference.unknownfield"
    status = 400
    message = "The thing '{thing_id}' has no text at {path} that you may see, and '{text}' refers to it."
    description = "Refer to policyId, or to an attribute that holds the id of a policy."


_REFERENCE = re.compile(r"\{\{\s*ref:(?i:things)/([^/\s]+)/([^\s}]+)\s*\}\}\Z")
SPECIAL = ("_policy", "_copyPolicyFrom")


PermitsOf: TypeAlias = "Callable[[str, str | None], Permits | None]"


class Birth(Struct, frozen=True, kw_only=True):
    """How a thing comes to its policy: `policy_id`, and the document to be made under it (None: it exists already)."""

    policy_id: str
    document: dict[str, Any] | None
    inline: bool = False
    """Whether the creator wrote the document; he is told more strictly of its faults."""


def plan(
    command: Command,
    value: dict[str, Any],
    held_of: Callable[[Kind, str], Held],
    permits_of: PermitsOf,
) -> Birth:
    """The policy of a thing to be created with `value`.

    `held_of` looks up an entity by kind and id, `permits_of` the caller's rights under a policy (None: no such policy)
    on things of a namespace (None: on the policy).
    """
    thing_id = command.id
    wanted = value.get("policyId")
    if isinstance(wanted, str):
        check_policy_id(wanted)
    elif wanted is not None:
        raise JsonInvalid(at="/policyId", problem=f"it is a text, not {name(wanted)}")
    source, inline = value.get("_copyPolicyFrom"), value.get("_policy")
    if source is not None and inline is not None:
        raise PolicyConflicting(thing_id=thing_id)
    if source is not None:
        policy_id = wanted or thing_id
        document = _copy(source, policy_id, held_of, permits_of)
    elif inline is not None:
        named = inline.get("policyId") if isinstance(inline, dict) else None
        policy_id = wanted or named or thing_id
        document = {**inline, "policyId": policy_id} if isinstance(inline, dict) else inline
    elif wanted is not None:
        _check_existing(wanted, permits_of)
        return Birth(policy_id=wanted, document=None)
    else:
        policy_id = thing_id
        document = policy.implicit(policy_id, command.subjects[0])
    if not isinstance(policy_id, str) or held_of("policy", policy_id).document is not None:
        raise ThingNotCreatable(thing_id=thing_id, policy_id=policy_id)
    return Birth(policy_id=policy_id, document=document, inline=inline is not None)


def _copy(source: Any, policy_id: str, held_of: Callable[[Kind, str], Held], permits_of: PermitsOf) -> dict[str, Any]:
    """The document of another policy, named by its id or by a thing that has it, under a new id."""
    if not isinstance(source, str):
        raise ReferenceUnresolved(text=source)
    if source.startswith("{{"):
        source = _refer(source, held_of, permits_of)
    check_policy_id(source)
    permits = permits_of(source, None)
    found = held_of("policy", source).document
    if found is None or permits is None or not permits.may_partly("policy", (), "READ"):
        raise PolicyNotAccessible(policy_id=source)
    visible = permits.view((), found, "policy")
    if visible is UNSET:
        raise PolicyNotAccessible(policy_id=source)
    return {**visible, "policyId": policy_id}


def _refer(text: str, held_of: Callable[[Kind, str], Held], permits_of: PermitsOf) -> str:
    """The policy id to which a placeholder leads: a text in a thing, as far as the caller may see it."""
    reference = _REFERENCE.match(text)
    if reference is None:
        raise ReferenceUnresolved(text=text)
    thing_id, path = reference[1], pointer.parse(reference[2])
    check_thing_id(thing_id)
    thing = held_of("thing", thing_id).document
    permits = permits_of(thing["policyId"], split_id(thing_id)[0]) if thing is not None else None
    if thing is None or permits is None or not permits.may_partly("thing", (), "READ"):
        raise ThingNotAccessible(thing_id=thing_id)
    found = pointer.get(permits.view((), thing), path)
    if not isinstance(found, str):
        raise ReferenceFieldUnknown(thing_id=thing_id, path=pointer.write(path), text=text)
    return found


def refused(thing_id: str, error: SkerryError) -> SkerryError:
    """The error that answers the creation of a thing whose policy is refused with this one."""
    row = _NOT_MADE.get(error.status)
    if row is not None:
        return row(thing_id=thing_id, problem=error.text)
    return PolicyRefused(thing_id=thing_id, problem=error.text)


def _check_existing(policy_id: Any, permits_of: PermitsOf) -> None:
    """An existing policy must be visible."""
    permits = permits_of(policy_id, None) if isinstance(policy_id, str) else None
    if permits is None or not permits.may_partly("policy", (), "READ"):
        raise PolicyNotAccessible(policy_id=policy_id)
