"""Changes of things told to those who want them: at once while they listen, from the journal when they come back."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from msgspec import UNSET

from skerry_registry.live.audience import Audiences, Member, Take, Wanted
from skerry_registry.live.views import Told, is_told
from skerry_registry.ports import StoreUnavailable
from skerry_registry.runs import Lacking

if TYPE_CHECKING:
    from skerry.signals import Event, Held
    from skerry_registry.heads import Commit
    from skerry_registry.live.acks import Acks
    from skerry_registry.live.sender import Leave
    from skerry_registry.registry import Registry

log = logging.getLogger(__name__)
__all__ = ["Changes", "Room", "Take", "Told", "Wanted"]

PATIENCE = 1.0
"""Seconds until the store is asked again for policies that it could not give."""
Room: TypeAlias = Callable[[], Awaitable[None]]
"""Returns when the subscriber can take more."""


class Changes:
    """The changes of one registry's things. `settled` costs next to nothing while nobody listens."""

    def __init__(self, registry: Registry, acks: Acks) -> None:
        """Listens to the registry's commits from now on."""
        self._registry = registry
        self._acks = acks
        self._audiences = Audiences(registry.rights, registry.clock)
        self._behind: deque[tuple[Event, Held]] = deque()
        self._catching_up: asyncio.Task[None] | None = None
        registry.on_settled(self.settled)

    def subscribe(self, wanted: Wanted, take: Take, *, session: str = "") -> Leave:
        """Tell from now on what is wanted and may be read, in the order of the journal.

        `session`: the origin of a session, which is not told what it has caused itself.
        """
        return self._audiences.join(wanted, Member(take, session, 0))

    async def resume(self, wanted: Wanted, after: int, take: Take, room: Room, *, session: str = "") -> Leave:
        """First tell what came after that number, a page at a time whenever there is `room`, then subscribe; no gap, no double.

        Raises EventsForgotten when the journal does not reach back that far.
        """
        raise NotImplementedError

    async def read(self, wanted: Wanted, after: int, limit: int) -> tuple[list[Told], int]:
        """At most `limit` changes after that number, and from which number to go on. Raises EventsForgotten."""
        raise NotImplementedError

    async def wait(self, wanted: Wanted, after: int, seconds: float) -> None:
        """Return when there may be a change after that number, or the time is up."""
        raise NotImplementedError

    def settled(self, commit: Commit) -> None:
        """Tell what a commit has changed, to all who may know."""
        if not (self._audiences or self._acks.awaited):
            return
        for event in commit.events:
            if event.kind == "policy":
                self._audiences.policy_changed(event.id)
        for event, (_, after, _) in zip(commit.events, commit.changes, strict=True):
            if not is_told(event):
                continue
            if self._behind:
                self._behind.append((event, after))
                continue
            try:
                self._tell(event, after)
            except Lacking:
                self._behind.append((event, after))
                self._catching_up = asyncio.get_running_loop().create_task(self._catch_up())

    async def _catch_up(self) -> None:
        """Tell what had to wait for policies that were not in memory, in order."""
        while self._behind:
            tell = partial(self._tell, *self._behind[0])
            try:
                await self._registry.known(tell)
            except StoreUnavailable as error:
                log.warning("changes wait for their policies", extra={"reason": error.text})
                await asyncio.sleep(PATIENCE)
                continue
            self._behind.popleft()

    def _tell(self, event: Event, held: Held) -> None:
        """Tell one change to every view of it. Raises Lacking before anybody is told."""
        asking = self._acks.awaited and "requested-acks" in event.headers
        reached: set[str] | None = set() if asking else None
        policy_id = guard_of(event, held)
        if policy_id is not None and self._audiences:
            namespace = event.id.partition(":")[0]
            number = event.number
            origin = event.by.origin if event.by is not None else ""
            now = event.timestamp
            plain: Told | None = None
            for view in self._audiences.views(policy_id, namespace, event.id):
                told = view.question.answer(event, held, view.permits, now)
                if told is None:
                    continue
                if told.event is event and told.extra is UNSET:
                    told = plain = plain or told
                for group in view.groups:
                    for member in group.members.copy():
                        if number > member.after and not (origin and member.session == origin):
                            member.take(told)
                            if reached is not None and member.session:
                                reached.add(member.session)
        if reached is not None:
            self._acks.reached(event.id, event.headers, reached)


def guard_of(event: Event, held: Held) -> str | None:
    """The policy that says who may know of a change: the thing's, or the one that it had when it was deleted."""
    if held.document is not None:
        policy_id: str = held.document["policyId"]
        return policy_id
    return event.by.policy_id or None if event.by is not None else None
