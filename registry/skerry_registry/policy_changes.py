"""What becomes of commands on policies: the caller's rights, what may be imported, then the model's decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from skerry import pointer
from skerry.errors import SkerryError
from skerry.preconditions import CONDITIONAL
from skerry.signals import Command
from skerry.values import JsonFieldMissing, JsonInvalid, JsonKeyInvalid
from skerry_policies import actions, lockout, parts, policy
from skerry_policies.enforcer import compile_permits
from skerry_policies.imports import ImportInvalid
from skerry_registry import importing, policy_view
from skerry_registry.creation import PolicyRefused, refused

if TYPE_CHECKING:
    from skerry.signals import Decision, Held, Micros, Response
    from skerry_policies.document import Terms
    from skerry_policies.enforcer import Permits
    from skerry_registry.creation import Birth
    from skerry_registry.identities.creation import Creation
    from skerry_registry.rights import Rights
    from skerry_registry.runs import Run


class PolicyChanges:
    """Decisions on policies; all of it raises Lacking for policies that are not in memory."""

    def __init__(self, rights: Rights, terms: Terms, creation: Creation | None) -> None:
        """`creation` are the operator's rules of who may create what."""
        self._rights = rights
        self._terms = terms
        self._creation = creation

    def retrieve(self, run: Run, held: Held, command: Command) -> Response:
        """A policy or a part of it, as far as the caller may see."""
        if not command.path and policy_view.is_resolved(command.headers) and held.document is not None:
            return policy_view.resolved(self._rights, run, held, command)
        if held.document is None:
            raise parts.PolicyNotAccessible(policy_id=held.id)
        return policy.retrieve(held, self._permits(run, held.id, held.document, command), command)

    def _permits(self, run: Run, policy_id: str, document: dict[str, Any], command: Command) -> Permits:
        """The caller's rights on a policy; by its own entries where its imports have no end, or nobody could repair it."""
        try:
            return self._rights.permits_under(run, policy_id, document, command.subjects)
        except ImportInvalid:
            return compile_permits(document, command.subjects)

    def decide(self, run: Run, held: Held, command: Command, now: Micros) -> Decision:
        """A write or an action on a policy, there or not. Raises what the model refuses, and the 403 of the part."""
        if held.document is not None:
            if isinstance(command.value, actions.Expired):
                return actions.expire(held, command, now)
            if actions.action_of(command.path) is not None:
                permits = self._rights.permits_under(run, held.id, held.document, command.subjects)
                return actions.decide(
                    held, command, permits, now, lambda change: policy.decide(held, change, now, self._terms)
                )
        elif actions.action_of(command.path) is not None or isinstance(command.value, actions.Expired):
            raise parts.PolicyNotAccessible(policy_id=held.id)
        elif self._creation is not None and not command.path and command.verb != "delete":
            self._creation.check("policy", held.id, command.subjects)
        return self._change(run, held, command, now)

    def _change(self, run: Run, held: Held, command: Command, now: Micros) -> Decision:
        """A write: what is sent must be sound, the caller entitled, and what it imports readable."""
        command = policy.checked(command, now, self._terms)
        if held.document is not None and command.verb != "create":
            permits = self._permits(run, held.id, held.document, command)
            if not permits.may("policy", parts.resource_path(command.path), "WRITE"):
                raise parts.not_modifiable(held.id, command.path)
        if len(command.path) <= 2 or pointer.get(held.document, command.path[:2]) is not UNSET:
            importing.check(self._rights, run, command)

        def permits_of(document: dict[str, Any]) -> Permits:
            return self._rights.permits_under(run, held.id, document, command.subjects)

        return policy.carry_out(held, command, now, self._terms, permits_of)

    def make(self, run: Run, held: Held, birth: Birth, command: Command, now: Micros) -> Decision:
        """The decision that makes the policy of the thing that the command creates. Raises what `creation.refused` makes of its errors."""
        if self._creation is not None:
            self._creation.check("policy", birth.policy_id, command.subjects)
        making = Command(
            verb="create",
            kind="policy",
            id=birth.policy_id,
            subjects=command.subjects,
            value=birth.document,
            headers={name: text for name, text in command.headers.items() if name not in CONDITIONAL},
        )
        try:
            making = policy.checked(making, now, self._terms)
            if birth.inline and self._terms.lockout_prevention:
                lockout.check(making.value)  # type: ignore[arg-type]  # `checked` has made it an object
        except (JsonInvalid, JsonFieldMissing, JsonKeyInvalid) as error:
            raise refused(command.id, error) from error
        except lockout.PolicyLocked as error:
            raise PolicyRefused(thing_id=command.id, problem=error.text) from error
        try:
            return self._change(run, held, making, now)
        except SkerryError as error:
            raise refused(command.id, error) from error
