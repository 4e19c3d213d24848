"""Changes of things told to those who want them: at once while they listen, from the journal when they come back."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import UNSET

from skerry_registry.live.audience import Audiences, Key, Member, Question, Reader, Take, Wanted
from skerry_registry.live.backlog import TOGETHER, Backlog
from skerry_registry.live.views import POLICY, Told, at_its_end, is_told
from skerry_registry.ports import StoreUnavailable
from skerry_registry.runs import Lacking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skerry.signals import Event, Held
    from skerry_policies.enforcer import Permits
    from skerry_registry.heads import Commit
    from skerry_registry.live.acks import Acks
    from skerry_registry.live.sender import Leave
    from skerry_registry.registry import Registry

log = logging.getLogger(__name__)
__all__ = ["Changes", "Room", "Take", "Told", "Wanted"]

PATIENCE = 1.0
"""Seconds until the store is asked again for policies that it could not give."""
TURN = 5_000
"""Subscribers that are told of a change in one turn of the loop; others get theirs before more are told."""
BEHIND_MAX = 10_000
"""Changes that wait to be told; those who make more wait with them."""
READING = 4
"""Readers of the journal that have their turn at a time."""
KEPT = 4_000
"""Answers to readers of the journal that are kept for others, of things with at most"""
SMALL = 16_384
"""bytes of JSON."""
EVENTS_MAX = 20_000
"""Events that are looked through in one reading, whatever is found."""
Room: TypeAlias = Callable[[], Awaitable[None]]
"""Returns when the subscriber can take more."""


class Changes:
    """The changes of one registry's things. `settled` costs next to nothing while nobody listens."""

    def __init__(self, registry: Registry, acks: Acks) -> None:
        """Listens to the registry's commits from now on."""
        self._registry = registry
        self._acks = acks
        self._audiences = Audiences(registry.rights, registry.clock)
        self._backlog = Backlog(registry)
        self._turns = asyncio.Semaphore(READING)
        self._kept: dict[tuple[int, int, int, Key], tuple[Permits, Told | None]] = {}
        self._behind: deque[tuple[Event, Held, Held | None]] = deque()
        self._catching_up: asyncio.Task[None] | None = None
        registry.on_settled(self.settled)

    def subscribe(self, wanted: Wanted, take: Take, *, session: str = "") -> Leave:
        """Tell from now on what is wanted and may be read, in the order of the journal.

        `session`: the origin of a session, which is not told what it has caused itself.
        """
        return self._audiences.join(wanted, Member(take, session, 0))

    async def resume(self, wanted: Wanted, after: int, take: Take, room: Room, *, session: str = "") -> Leave:
        """First tell what came after that number, a page at a time whenever there is `room`, then subscribe; no gap, no double.

        0: all that the journal has. What is told from the journal is told by the rights of the moment, and with the extra
        fields of the moment. Raises EventsForgotten, EventsUnknown, before anything is told if that is so from the start.
        """
        await self.check(after)
        journal = self._registry.journal
        after = after or await journal.beginning()
        reader = Reader(wanted)
        with self._acks.behind(session):
            while after < journal.last:
                events = await self._backlog.after(after)
                for start in range(0, len(events), TOGETHER):
                    await room()
                    some = events[start : start + TOGETHER]
                    for told in await self._answers(reader, some):
                        if not (session and told.event.by is not None and told.event.by.origin == session):
                            take(told)
                    after = some[-1].number
            return self._audiences.join(wanted, Member(take, session, after))

    async def read(self, wanted: Wanted, after: int, limit: int) -> tuple[list[Told], int]:
        """At most `limit` changes after that number (0: from the first that is kept), and from which number to go on.

        Fewer come at the end, or when many events were looked through. Raises EventsForgotten, EventsUnknown.
        """
        await self.check(after)
        journal = self._registry.journal
        after = after or await journal.beginning()
        reader = Reader(wanted)
        found: list[Told] = []
        looked = 0
        while looked < EVENTS_MAX and after < journal.last:
            events = await self._backlog.after(after)
            for start in range(0, len(events), TOGETHER):
                some = events[start : start + TOGETHER]
                for told in await self._answers(reader, some):
                    found.append(told)
                    if len(found) == limit:
                        return found, told.number
                after = some[-1].number
                looked += len(some)
        return found, after

    async def wait(self, wanted: Wanted, after: int, seconds: float) -> int:
        """From which number to read on once there may be a change after that one, or the time is up."""
        if self.told > after:
            return after
        changed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def take(told: Told) -> None:
            if not changed.done():
                changed.set_result(told.number - 1)

        leave = self._audiences.join(wanted, Member(take, "", after))
        try:
            async with asyncio.timeout(seconds):
                return await changed
        except TimeoutError:
            return max(after, self.told)
        finally:
            leave()

    async def check(self, after: int) -> None:
        """Raise EventsForgotten or EventsUnknown unless it can be told what came after that number."""
        await self._registry.journal.check(after)

    @property
    def told(self) -> int:
        """The number up to which everything has been told to those who listen."""
        return self._behind[0][0].number - 1 if self._behind else self._registry.journal.last

    def settled(self, commit: Commit) -> None:
        """Tell what a commit has changed, to all who may know."""
        if not (self._audiences or self._acks.awaited):
            return
        for event in commit.events:
            if event.kind == "policy":
                self._audiences.policy_changed(event.id)
        spent = 0
        for place, (event, (_, after, _)) in enumerate(zip(commit.events, commit.changes, strict=True)):
            if not is_told(event):
                continue
            before = at_its_end(event, commit.ended.get(place)) if commit.ended else None
            if not self._behind and spent < TURN:
                try:
                    spent += self._tell(event, after, before)
                    continue
                except Lacking:
                    pass
            self._behind.append((event, after, before))
        if self._behind:
            self._hurry()

    def _hurry(self) -> None:
        """See to it that what waits is told, some of it at once if it is too much."""
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = asyncio.get_running_loop().create_task(self._catch_up())
        if len(self._behind) > BEHIND_MAX:
            with suppress(Lacking):
                self._tell_some(len(self._behind) - BEHIND_MAX)

    async def _answers(self, reader: Reader, events: Sequence[Event]) -> list[Told]:
        """What of some events a reader is told; few readers get their turn at a time, and others of the loop in between."""
        async with self._turns:
            readable = await self._backlog.readable(events, reader)
            answers = [self._answer(reader.question, *one) for one in readable]
            await asyncio.sleep(0)
        return [told for told in answers if told is not None]

    def _answer(
        self, question: Question, event: Event, held: Held, permits: Permits, before: Held | None
    ) -> Told | None:
        """What is told of an event, kept for the next reader with the same view."""
        key = (event.number, held.revision, id(permits), question.key)
        known = self._kept.get(key)
        if known is not None and known[0] is permits:
            return known[1]
        told = question.answer(event, held, permits, before, self._policy_of)
        if question.extra is not None and POLICY in question.extra:
            return told
        if len(self._kept) >= KEPT:
            self._kept.clear()
        if told is None or 0 < held.size <= SMALL:
            self._kept[key] = permits, told
        return told

    def _policy_of(self, policy_id: str) -> dict[str, Any] | None:
        """A policy's document, for those who want it told with a change; None where it is not in memory any more."""
        try:
            return self._registry.memory.held("policy", policy_id).document
        except Lacking:
            return None

    async def _catch_up(self) -> None:
        """Tell what had to wait, in order: for policies that were not in memory, or for its turn."""
        while self._behind:
            try:
                await self._registry.memory.known(self._tell_some)
            except StoreUnavailable as error:
                log.warning("changes wait for their policies", extra={"reason": error.text})
                await asyncio.sleep(PATIENCE)
            await asyncio.sleep(0)

    def _tell_some(self, least: int = 0) -> None:
        """Tell what waits until a turn's work is done, but so many events at `least`. Raises Lacking; what was told does not come again."""
        spent = 0
        while self._behind and (spent < TURN or least > 0):
            spent += self._tell(*self._behind[0])
            self._behind.popleft()
            least -= 1

    def _tell(self, event: Event, held: Held, before: Held | None) -> int:
        """Tell one change to every view of it; how much work that was. Raises Lacking before anybody is told."""
        spent = 1
        asking = self._acks.awaited and "requested-acks" in event.headers
        reached: set[str] | None = set() if asking else None
        policy_id = guard_of(event, held)
        if policy_id is not None and self._audiences:
            namespace = event.id.partition(":")[0]
            number = event.number
            origin = event.by.origin if event.by is not None else ""
            plain: Told | None = None
            for view in self._audiences.views(policy_id, namespace, event.id):
                told = view.question.answer(event, held, view.permits, before, self._policy_of)
                if told is None:
                    continue
                if told.event is event and told.extra is UNSET:
                    told = plain = plain or told
                for group in view.groups:
                    spent += len(group.members)
                    for member in group.members.copy():
                        if number > member.after and not (origin and member.session == origin):
                            member.take(told)
                            if reached is not None and member.session:
                                reached.add(member.session)
        if reached is not None:
            self._acks.reached(event.id, event.headers, reached)
        return spent


def guard_of(event: Event, held: Held) -> str | None:
    """The policy that says who may know of a change: the thing's, or the one that it had when it was deleted."""
    if held.document is not None:
        policy_id: str = held.document["policyId"]
        return policy_id
    return event.by.policy_id or None if event.by is not None else None
