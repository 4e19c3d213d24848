"""Why a policy refused a command: what decided, what is missing and who could give it, put into the refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skerry import pointer
from skerry.errors import SkerryError
from skerry.ids import split_id
from skerry_policies import explain, parts
from skerry_policies.actions import ActionNotAllowed, action_of
from skerry_policies.explain import Explanation, Right
from skerry_policies.parts import PolicyNotAccessible
from skerry_registry.asking import Asker, Asking

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from skerry.signals import Command, Path
    from skerry_registry.identities.namespaces import Reach
    from skerry_registry.registry import Registry

LEAVES = 8
"""Parts of one change that are looked at for what is missing."""
OF_ENTRY = 4
"""Segments of an action's path that names its entry; one for all entries lacks nothing in particular."""


class Reasons:
    """Knows why the policies of a registry refuse."""

    def __init__(self, registry: Registry) -> None:
        """`registry` has refused."""
        self._registry = registry

    async def attach(self, command: Command, error: SkerryError, reach: Reach | None = None) -> None:
        """Put `why` into a refusal, where it is the policy's and the caller, who has this reach, may read the policy.

        Where the reason cannot be found (the store is away, the policy's imports have no end) the refusal goes without.
        """
        try:
            why = await self._registry.memory.known(lambda: self._why(command, error, reach))
        except SkerryError:
            return
        if why is not None:
            error.facts["why"] = why

    async def attach_to_message(
        self,
        error: SkerryError,
        thing_id: str,
        path: Path,
        subjects: tuple[str, ...],
        reach: Reach | None = None,
    ) -> None:
        """The same for a message to or from the thing, which takes WRITE at its path."""

        def why() -> Explanation | None:
            document = self._registry.memory.held("thing", thing_id).document
            if document is None:
                return None
            asking = Asking(self._registry, Asker(subjects, reach))
            try:
                whole = asking.policy(document["policyId"])
            except PolicyNotAccessible:
                return None
            asked = Right(f"message:{pointer.write(path)}", "WRITE")
            return explain.explain(
                whole,
                subjects,
                asked,
                asking.may_read,
                namespace=split_id(thing_id)[0],
                now=self._registry.clock(),
            )

        try:
            found = await self._registry.memory.known(why)
        except SkerryError:
            return
        if found is not None:
            error.facts["why"] = found

    def _why(self, command: Command, error: SkerryError, reach: Reach | None) -> Explanation | None:
        """The reason of a refusal; None where no policy refused, or the caller may not read the one that did."""
        asking = Asking(self._registry, Asker(command.subjects, reach))
        namespace = split_id(command.id)[0] if command.kind == "thing" else None
        permission = "EXECUTE" if isinstance(error, ActionNotAllowed) else "WRITE"
        for policy_id, paths in self._grounds(command, permission):
            permits = self._registry.rights.permits(None, policy_id, command.subjects, namespace)
            lacking = [
                path for path in paths if permits is not None and not permits.may(command.kind, path, permission)
            ]
            if not lacking:
                continue
            try:
                whole = asking.policy(policy_id)
            except PolicyNotAccessible:
                return None
            return _together(
                [
                    explain.explain(
                        whole,
                        command.subjects,
                        Right(f"{command.kind}:{pointer.write(path)}", permission),
                        asking.may_read,
                        namespace=namespace,
                        now=self._registry.clock(),
                    )
                    for path in lacking[:LEAVES]
                ]
            )
        return None

    def _grounds(self, command: Command, permission: str) -> Iterator[tuple[str, Iterable[Path]]]:
        """The policies that may have refused, and the paths they were asked about."""
        if command.kind == "policy":
            if len(command.path) == OF_ENTRY if permission == "EXECUTE" else action_of(command.path) is None:
                yield command.id, [parts.resource_path(command.path)]
            return
        document = self._registry.memory.held("thing", command.id).document
        if document is not None:
            yield document["policyId"], _touched(command)
        value = command.value if command.path == ("policyId",) else None
        if not command.path and isinstance(command.value, dict) and "_policy" not in command.value:
            value = command.value.get("policyId")
        if isinstance(value, str):
            yield value, [()]  # who gives a thing a policy must be able to write the thing under it


def _touched(command: Command) -> Iterable[Path]:
    """The paths that a command must have permission for: of a merge, its leaves."""
    if command.verb != "merge" or not isinstance(command.value, dict) or not command.value:
        return [command.path]
    found: list[Path] = []
    waiting: list[tuple[Path, Any]] = [(command.path, command.value)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict) and value and not any(key.startswith("{{") for key in value):
            waiting.extend(((*path, key), member) for key, member in reversed(value.items()))
        else:
            found.append(path)
    return found


def _together(reasons: Sequence[Explanation]) -> Explanation | None:
    """One explanation of several refusals: all that decided and is missing, and who could give everything."""
    if not reasons:
        return None
    if len(reasons) == 1:
        return reasons[0]
    givers = [giver for giver in reasons[0].could_be_granted_by if all(giver in r.could_be_granted_by for r in reasons)]
    return Explanation(
        granted=False,
        partly=any(reason.partly for reason in reasons),
        decided_by=_once(rule for reason in reasons for rule in reason.decided_by),
        missing=_once(right for reason in reasons for right in reason.missing),
        could_be_granted_by=givers,
    )


def _once(items: Iterable[Any]) -> list[Any]:
    """Each item once, in order; no more than an explanation names."""
    found: list[Any] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found[: explain.NAMED]
