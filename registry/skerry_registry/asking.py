"""Who asks about rights, and what of policies he may be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from skerry.ids import split_id
from skerry_policies.parts import PolicyNotAccessible

if TYPE_CHECKING:
    from skerry.signals import Kind
    from skerry_policies.effective import EffectivePolicy
    from skerry_registry.identities.namespaces import Reach
    from skerry_registry.registry import Registry


class Asker(Struct, frozen=True):
    """Who asks: his subjects, and what the operator lets him reach at all (None: everything)."""

    subjects: tuple[str, ...]
    reach: Reach | None = None

    def reaches(self, kind: Kind, id: str) -> bool:  # noqa: A002 - the model's word
        """Whether the entity's namespace is open to him."""
        return self.reach is None or self.reach.covers(kind, split_id(id)[0])


class Asking:
    """What of policies an asker may be told. Its methods raise Lacking, so they are for `Memory.known`."""

    def __init__(self, registry: Registry, asker: Asker) -> None:
        """`registry` has the policies."""
        self._rights = registry.rights
        self._asker = asker
        self.subjects = asker.subjects

    def policy(self, policy_id: str) -> EffectivePolicy:
        """All that counts under a policy of which the asker may read something. Raises PolicyNotAccessible."""
        permits = self._rights.permits(None, policy_id, self.subjects)
        whole = self._rights.effective(policy_id)
        within = self._asker.reaches("policy", policy_id)
        if whole is None or permits is None or not within or not permits.may_partly("policy", (), "READ"):
            raise PolicyNotAccessible(policy_id=policy_id)
        return whole

    def may_read(self, policy_id: str, label: str) -> bool:
        """Whether the asker may read all of an entry."""
        if not self._asker.reaches("policy", policy_id):
            return False
        permits = self._rights.permits(None, policy_id, self.subjects)
        return permits is not None and permits.may("policy", ("entries", label), "READ")
