"""Who may read which records: those who may write the policy that guards the entity, and devops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry_registry.audit.book import Wish

if TYPE_CHECKING:
    from skerry.signals import Held, Kind
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
        verdicts: dict[str, bool] = {}
        after = wish.after
        for _ in range(PAGES):
            found = await self._trail.find(_after(wish, after), PAGE)
            for record in found:
                if await self._may_read(record, subjects, verdicts):
                    if len(shown) == limit:
                        return shown, shown[-1].id
                    shown.append(record)
                after = record.id
            if len(found) < PAGE:
                return shown, None
        return shown, after

    async def _may_read(self, record: Record, subjects: tuple[str, ...], verdicts: dict[str, bool]) -> bool:
        """WRITE on policy:/ of the thing's policy; of a thing that is gone or was made anew since, of the one that guarded it then.

        Who takes an id that others had before is told nothing of what they did.
        """
        policy = record.policy
        if record.kind == "thing":
            thing = await self._held("thing", record.entity)
            if thing.document is not None and thing.created <= record.time:
                policy = thing.document["policyId"]
                return await self._may_write(policy, subjects, verdicts)
        elif record.kind == "policy":
            policy = record.entity
        if not policy or (await self._held("policy", policy)).created > record.time:
            return False
        return await self._may_write(policy, subjects, verdicts)

    async def _held(self, kind: Kind, id: str) -> Held:  # noqa: A002 - the model's word
        return await self._registry.memory.known(lambda: self._registry.memory.held(kind, id))

    async def _may_write(self, policy: str, subjects: tuple[str, ...], verdicts: dict[str, bool]) -> bool:
        """Whether these subjects may write the whole policy."""
        known = verdicts.get(policy)
        if known is None:
            registry = self._registry
            permits = await registry.memory.known(lambda: registry.rights.permits(None, policy, subjects))
            known = verdicts[policy] = permits is not None and permits.may("policy", (), "WRITE")
        return known


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
