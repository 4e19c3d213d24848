# ruff: noqa: N818 - errors are rows of a table
"""Which policy a new thing gets (ditto.md 1.4): a copy, one given inline, one that exists, or one made for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Struct

from skerry.errors import SkerryError
from skerry.ids import check_policy_id
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
    description = (
        "Send the policyId of the policy that the thing shall have; deleting a thing does not delete its policy."
    )


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


class PolicyNotAllowed(SkerryError):
    """An inline policy for a thing that exists."""

    code = "things:policy.notallowed"
    status = 400
    message = "The thing '{thing_id}' exists; it cannot be given a policy with _policy."
    description = "Change its policy under /api/2/policies, or set another policyId."


class ReferenceUnresolved(SkerryError):
    """A placeholder that leads nowhere."""

    code = "placeholder:placeholder.reference.notsupported"
    status = 400
    message = "'{text}' is not a reference to a policy."
    description = "Write a policy id, or {{{{ ref:things/<thing id>/policyId }}}}."


_REFERENCE = re.compile(r"\{\{\s*ref:things/([^/]+)/policyId\s*\}\}\Z")
SPECIAL = ("_policy", "_copyPolicyFrom")


class Birth(Struct, frozen=True, kw_only=True):
    """How a thing comes to its policy: `policy_id`, and the document to be made under it (None: it exists already)."""

    policy_id: str
    document: dict[str, Any] | None


def plan(
    command: Command,
    value: dict[str, Any],
    held_of: Callable[[Kind, str], Held],
    permits_of: Callable[[str], Permits | None],
) -> Birth:
    """The policy of a thing to be created with `value`.

    `held_of` looks up an entity by kind and id, `permits_of` the caller's rights under a policy (None: no such policy).
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
        if wanted is not None and named is not None and wanted != named:
            raise PolicyConflicting(thing_id=thing_id)
        policy_id = wanted or named or thing_id
        document = inline
    elif wanted is not None:
        _check_existing(wanted, permits_of)
        return Birth(policy_id=wanted, document=None)
    else:
        policy_id = thing_id
        document = policy.implicit(policy_id, command.subjects[0])
    if not isinstance(policy_id, str) or held_of("policy", policy_id).document is not None:
        raise ThingNotCreatable(thing_id=thing_id, policy_id=policy_id)
    return Birth(policy_id=policy_id, document=document)


def _copy(
    source: Any, policy_id: str, held_of: Callable[[Kind, str], Held], permits_of: Callable[[str], Permits | None]
) -> dict[str, Any]:
    """The document of another policy, named by its id or by a thing that has it, under a new id."""
    if not isinstance(source, str):
        raise ReferenceUnresolved(text=source)
    if source.startswith("{{"):
        reference = _REFERENCE.match(source)
        if reference is None:
            raise ReferenceUnresolved(text=source)
        thing = held_of("thing", reference[1]).document
        permits = permits_of(thing["policyId"]) if thing is not None else None
        if thing is None or permits is None or not permits.may_partly("thing", ("policyId",), "READ"):
            raise ReferenceUnresolved(
                text=source, description=f"No thing '{reference[1]}' with a policyId is visible to you."
            )
        source = thing["policyId"]
    check_policy_id(source)
    permits = permits_of(source)
    found = held_of("policy", source).document
    if found is None or permits is None or not permits.may_partly("policy", (), "READ"):
        raise PolicyNotAccessible(policy_id=source)
    visible = permits.view((), found, "policy")
    if visible is UNSET:
        raise PolicyNotAccessible(policy_id=source)
    return {**visible, "policyId": policy_id}


def _check_existing(policy_id: Any, permits_of: Callable[[str], Permits | None]) -> None:
    """An existing policy must be visible."""
    permits = permits_of(policy_id) if isinstance(policy_id, str) else None
    if permits is None or not permits.may_partly("policy", (), "READ"):
        raise PolicyNotAccessible(policy_id=policy_id)
