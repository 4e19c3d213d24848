"""Takes subjects away from policies when their time is over, and has it announced before or after (ditto.md 3.3)."""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from typing import TYPE_CHECKING, Any, TypeAlias

from skerry import times
from skerry.errors import SkerryError
from skerry.signals import Command
from skerry_policies import subjects
from skerry_policies.actions import Expired
from skerry_registry.announcements import Announcement

if TYPE_CHECKING:
    from skerry.signals import Micros
    from skerry_registry.announcements import Announcements
    from skerry_registry.heads import Commit
    from skerry_registry.ports import Store
    from skerry_registry.registry import Registry

log = logging.getLogger(__name__)

SECOND = 1_000_000
GRACE = 4 * 3600 * SECOND
"""How long after its end a subject's announcement is tried again."""
BACKOFF_FIRST, BACKOFF_MOST = 1 * SECOND, 3600 * SECOND
TIMEOUT_MOST = 60.0
"""Seconds in which acknowledgements are waited for."""
SPREAD_MS = 300_000
"""Milliseconds over which announcements before the end are spread, where the subject says nothing of it."""
LONGEST_SLEEP = 60.0
"""Clocks are set: due times are looked at again after so many seconds."""
RETRY_SECONDS = 5 * SECOND
"""When a removal is tried again that the store could not take."""
PAGE = 200
ROOM = 1_000
"""Due times that may be kept at least before those that no longer count are thrown away."""

Place: TypeAlias = tuple[str, str, str]
"""Policy id, label, subject."""


class _Watch:
    """One subject with an end or with something to announce."""

    __slots__ = (
        "acknowledged",
        "announcement",
        "announcing",
        "backoff",
        "deleted_at",
        "ends",
        "facts",
        "place",
        "underway",
        "version",
    )

    def __init__(self, place: Place, facts: dict[str, Any]) -> None:
        self.place = place
        self.facts = facts
        expiry = facts.get("expiry")
        self.ends: Micros | None = times.parse(expiry) if isinstance(expiry, str) else None
        self.announcement: dict[str, Any] = facts.get("announcement") or {}
        self.announcing = self.ends is not None and "beforeExpiry" in self.announcement
        self.acknowledged = False
        self.underway = False  # an announcement waits for its acknowledgements at this moment
        self.deleted_at: Micros | None = None
        self.backoff = 0
        self.version = 0

    @property
    def gives_up(self) -> Micros:
        """When nobody is told any more."""
        return (self.ends if self.ends is not None else self.deleted_at or 0) + GRACE


class Expiry:
    """Watches over the subjects of all policies. `run` it; it finds again what was due while the server was down."""

    def __init__(self, registry: Registry, store: Store, announcements: Announcements) -> None:
        """`store` is the registry's; it is read through once."""
        self._registry = registry
        self._store = store
        self._announcements = announcements
        self._watches: dict[str, dict[Place, _Watch]] = {}
        self._heap: list[tuple[Micros, int, _Watch, int]] = []
        self._count = 0
        self._room = ROOM
        self._changed = asyncio.Event()
        self._settled: set[str] | None = set()
        self._busy: set[asyncio.Task[None]] = set()
        registry.on_settled(self._note)

    async def run(self) -> None:
        """Read all policies through, then do what is due when it is due."""
        try:
            scanning = asyncio.create_task(self._scan(), name="subjects that end")
            self._keep(scanning)
            while True:
                self._changed.clear()
                delay = self._do_what_is_due()
                try:
                    async with asyncio.timeout(delay):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            for task in list(self._busy):
                task.cancel()
            if self._busy:
                await asyncio.wait(self._busy)

    def look(self) -> None:
        """Look at the clock now, rather than when it was thought to strike."""
        self._changed.set()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._busy.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("work on a subject's end failed", exc_info=error)

    async def _scan(self) -> None:
        """Take in the policies that are there, save those that have changed meanwhile."""
        after = ""
        while ids := await self._store.ids("policy", after, PAGE):
            for policy_id in ids:
                if self._settled is not None and policy_id not in self._settled:
                    held = await self._store.load("policy", policy_id)
                    if policy_id not in self._settled:
                        self._take(policy_id, held.document)
            after = ids[-1]
        self._settled = None
        self._changed.set()

    def _note(self, commit: Commit) -> None:
        """Look at the policies that a commit changed."""
        for event, (_, after, _) in zip(commit.events, commit.changes, strict=True):
            if event.kind == "policy":
                if self._settled is not None:
                    self._settled.add(event.id)
                self._take(event.id, after.document)

    def _take(self, policy_id: str, document: dict[str, Any] | None) -> None:
        """Watch over the subjects of a policy as it is now; those that are gone may have to be announced."""
        before = self._watches.pop(policy_id, {})
        found = _watched(policy_id, document)
        if not before and not found:
            return
        now = self._registry.clock()
        watches: dict[Place, _Watch] = {}
        for place, facts in found.items():
            watch = before.pop(place, None)
            if watch is None or watch.facts != facts:
                if watch is not None:
                    watch.version += 1
                watch = self._begin(place, facts, now)
            if watch is not None:
                watches[place] = watch
        if watches:
            self._watches[policy_id] = watches
        for watch in before.values():
            self._ended(watch, now)
        self._changed.set()

    def _begin(self, place: Place, facts: dict[str, Any], now: Micros) -> _Watch | None:
        try:
            watch = _Watch(place, facts)
        except (AttributeError, TypeError, ValueError):
            return None  # written before expiries were checked
        if watch.announcing:
            assert watch.ends is not None
            before = subjects.millis(watch.announcement["beforeExpiry"]) or 0
            spread = subjects.millis(watch.announcement.get("randomizationInterval", f"{SPREAD_MS}ms")) or 0
            earlier = before + (random.randrange(spread) if spread else 0)  # noqa: S311 - spreads load, keeps no secret
            self._schedule(watch, max(now, watch.ends - earlier * 1_000))
        elif watch.ends is not None:
            self._schedule(watch, watch.ends)
        return watch

    def _ended(self, watch: _Watch, now: Micros) -> None:
        """The subject is gone: have that announced where it is wanted and nobody was told before."""
        watch.deleted_at = now
        if watch.underway:
            return
        if watch.acknowledged or not watch.announcement.get("whenDeleted"):
            watch.version += 1
            return
        watch.announcing = True
        self._schedule(watch, now)

    def _schedule(self, watch: _Watch, due: Micros) -> None:
        watch.version += 1
        self._count += 1
        if len(self._heap) >= self._room:
            self._heap = [item for item in self._heap if item[3] == item[2].version]
            heapq.heapify(self._heap)
            self._room = max(ROOM, 2 * len(self._heap))
        heapq.heappush(self._heap, (due, self._count, watch, watch.version))
        self._changed.set()

    def _do_what_is_due(self) -> float:
        """Begin what is due; the seconds until there is more to do."""
        now = self._registry.clock()
        due: dict[str, None] = {}
        while self._heap:
            at, _, watch, version = self._heap[0]
            if version == watch.version and at > now:
                break
            heapq.heappop(self._heap)
            if version != watch.version:
                continue
            watch.version += 1
            if watch.announcing:
                watch.underway = True
                self._keep(asyncio.create_task(self._announce(watch), name="announcement"))
            elif watch.deleted_at is None:
                due[watch.place[0]] = None
        for policy_id in due:
            self._keep(asyncio.create_task(self._remove(policy_id), name="removal"))
        return min(LONGEST_SLEEP, (self._heap[0][0] - now) / SECOND) if self._heap else LONGEST_SLEEP

    async def _announce(self, watch: _Watch) -> None:
        """Announce it once, and see what comes next."""
        now = self._registry.clock()
        asked = watch.announcement.get("requestedAcks") or {}
        timeout = subjects.millis(asked["timeout"]) if "timeout" in asked else None
        version = watch.version
        policy_id, _, subject = watch.place
        announcement = Announcement(
            id=self._registry.new_id(),
            policy_id=policy_id,
            subject=subject,
            deleted_at=watch.deleted_at or watch.ends or now,
            labels=tuple(asked.get("labels", ())),
            timeout=TIMEOUT_MOST if timeout is None else min(TIMEOUT_MOST, timeout / 1_000),
        )
        log.info("subject's end announced", extra={"policy": policy_id, "announcement": announcement.id})
        good = await self._announcements.announce(announcement)
        watch.underway = False
        if version != watch.version:
            return  # the subject is another by now
        now = self._registry.clock()
        if good:
            watch.acknowledged = True
            watch.announcing = False
            if watch.deleted_at is None and watch.ends is not None:
                self._schedule(watch, max(now, watch.ends))
            return
        watch.backoff = min(BACKOFF_MOST, max(BACKOFF_FIRST, 2 * watch.backoff))
        if now + watch.backoff < watch.gives_up:
            self._schedule(watch, now + watch.backoff)
        elif watch.deleted_at is None:
            watch.announcing = False
            watch.acknowledged = True
            self._schedule(watch, now)
        else:
            log.warning("subject's end never acknowledged", extra={"policy": policy_id})

    async def _remove(self, policy_id: str) -> None:
        """Take away the subjects of a policy whose time is over, save those whose announcement is still under way."""
        watches = self._watches.get(policy_id, {})
        spared = tuple((label, subject) for (_, label, subject), watch in watches.items() if watch.announcing)
        command = Command(
            verb="delete",
            kind="policy",
            id=policy_id,
            subjects=(),
            value=Expired(spared),
            headers={"correlation-id": self._registry.new_id()},
            origin="server subject-expiry",
        )
        try:
            await self._registry.handle(command)
        except SkerryError as error:
            log.warning("subjects not taken away", extra={"policy": policy_id, "reason": error.text})
            now = self._registry.clock()
            for watch in self._watches.get(policy_id, {}).values():
                if watch.ends is not None and watch.ends <= now and not watch.announcing:
                    self._schedule(watch, now + RETRY_SECONDS)


def _watched(policy_id: str, document: dict[str, Any] | None) -> dict[Place, dict[str, Any]]:
    """The subjects of a policy that have an end or something to announce."""
    return {
        (policy_id, label, subject): facts
        for label, entry in (document or {}).get("entries", {}).items()
        for subject, facts in entry["subjects"].items()
        if isinstance(facts, dict) and ("expiry" in facts or "announcement" in facts)
    }
