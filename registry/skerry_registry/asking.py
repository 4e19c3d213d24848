"""Who asks about rights, and what of policies he may be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry_policies.parts import PolicyNotAccessible

if TYPE_CHECKING:
    from skerry_policies.effective import EffectivePolicy
    from skerry_registry.registry import Registry


class Asking:
    """Somebody who asks. Its methods raise Lacking, so they are for `Registry.known`."""

    def __init__(self, registry: Registry, subjects: tuple[str, ...]) -> None:
        """`subjects` are the asker's own."""
        self._rights = registry.rights
        self.subjects = subjects

    def policy(self, policy_id: str) -> EffectivePolicy:
        """All that counts under a policy of which the asker may read something. Raises PolicyNotAccessible."""
        permits = self._rights.permits(None, policy_id, self.subjects)
        whole = self._rights.effective(policy_id)
        if whole is None or permits is None or not permits.may_partly("policy", (), "READ"):
            raise PolicyNotAccessible(policy_id=policy_id)
        return whole

    def may_read(self, policy_id: str, label: str) -> bool:
        """Whether the asker may read all of an entry."""
        permits = self._rights.permits(None, policy_id, self.subjects)
        return permits is not None and permits.may("policy", ("entries", label), "READ")
