"""Who may read which records: those who may write the policy that guards the entity, and devops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry_registry.audit.book import Wish

if TYPE_CHECKING:
    from skerry_registry.audit.record import Record
    from skerry_registry.audit.trail import Trail
    from skerry_registry.registry import Registry

PAGE = 500
PAGES = 20
"""Pages that one answer looks at for records that the caller may read."""


class Readers:
    """The trail as a caller may read it."""

    def __init__(self, trail: Trail, registry: Registry) -> None:
        """The registry knows policies and the things that they guard."""
        self._trail = trail
        self._registry = registry

    async def page(
        self, wish: Wish, limit: int, subjects: tuple[str, ...], *, everything: bool
    ) -> tuple[list[Record], int | None]:
        """At most `limit` records, the newest first, and the id to go on after (None: that was all)."""
        if everything:
            found = await self._trail.find(wish, limit + 1)
            return found[:limit], found[limit - 1].id if len(found) > limit else None
        shown: list[Record] = []
        verdicts: dict[tuple[str, str, str], bool] = {}
        after = wish.after
        for _ in range(PAGES):
            found = await self._trail.find(_after(wish, after), PAGE)
            for record in found:
                key = (record.kind, record.entity, record.policy)
                if key not in verdicts:
                    verdicts[key] = await self._may_read(record, subjects)
                if verdicts[key]:
                    if len(shown) == limit:
                        return shown, shown[-1].id
                    shown.append(record)
                after = record.id
            if len(found) < PAGE:
                return shown, None
        return shown, after

    async def _may_read(self, record: Record, subjects: tuple[str, ...]) -> bool:
        """WRITE on policy:/ of the thing's policy; of a thing that is gone, of the one that guarded it then."""
        registry = self._registry
        policy = record.policy
        if record.kind == "thing":
            thing = await registry.known(lambda: registry.held_now("thing", record.entity))
            policy = thing.document["policyId"] if thing.document is not None else policy
        elif record.kind == "policy":
            policy = record.entity
        if not policy:
            return False
        permits = await registry.known(lambda: registry.rights.permits(None, policy, subjects))
        return permits is not None and permits.may("policy", (), "WRITE")


def _after(wish: Wish, after: int | None) -> Wish:
    return Wish(
        thing=wish.thing,
        policy=wish.policy,
        subject=wish.subject,
        outcome=wish.outcome,
        since=wish.since,
        before=wish.before,
        after=after,
    )
