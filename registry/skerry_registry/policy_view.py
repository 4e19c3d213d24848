# ruff: noqa: N818 - errors are rows of a table
"""A policy as it is enforced: with the entries of imports, references and root policies merged in (ditto.md 3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from skerry import fields
from skerry.errors import SkerryError
from skerry.signals import Response
from skerry_policies import explain, parts, policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skerry.signals import Command, Held
    from skerry_registry.rights import Rights
    from skerry_registry.runs import Run


class PolicyViewInvalid(SkerryError):
    """A view that there is not."""

    code = "policies:view.invalid"
    status = 400
    message = "'{view}' is no view of a policy."
    description = "Ask for policy-view=original, what was written, or policy-view=resolved, what is enforced."


def is_resolved(headers: Mapping[str, str]) -> bool:
    """Whether the headers ask for the policy as it is enforced. Raises PolicyViewInvalid."""
    text = headers.get("policy-view", "")
    view = text.strip().lower()
    if view not in {"", "original", "resolved"}:
        raise PolicyViewInvalid(view=text)
    return view == "resolved"


def resolved(rights: Rights, run: Run, held: Held, command: Command) -> Response:
    """The policy as it is enforced, as far as the caller may read it and its entries where they come from.

    It has no ETag, and preconditions are passed over: it changes with other policies, too. Raises PolicyNotAccessible,
    ImportInvalid, Lacking.
    """
    permits = rights.permits(run, held.id, command.subjects)
    whole = rights.effective(held.id, run=run)
    if permits is None or whole is None or not permits.may_partly("policy", (), "READ"):
        raise parts.PolicyNotAccessible(policy_id=held.id)

    def readable(policy_id: str, label: str) -> bool:
        there = rights.permits(run, policy_id, command.subjects)
        return there is not None and there.may_partly("policy", ("entries", label), "READ")

    value = permits.view((), policy.shown(explain.resolved_view(whole, readable)), "policy")
    value = {"policyId": held.id, **({} if value is UNSET else value)}
    selector = command.headers.get("fields")
    if selector:
        value = fields.select(value, fields.parse(selector))
    return Response(status=200, value=value, revision=held.revision)
