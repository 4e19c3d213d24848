"""What policies announce of their subjects, from whoever knows it to whoever delivers it, until it is acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from skerry.signals import Micros

WAITING_MAX = 10_000
"""Announcements that wait for acknowledgements at a time; one more counts as not acknowledged, and comes again."""


class Announcement(Struct, frozen=True, kw_only=True):
    """A subject's rights under a policy end, or have ended, at `deleted_at`.

    `id`: its correlation id; `labels`: the acknowledgements that are asked for, within `timeout` seconds.
    """

    id: str
    policy_id: str
    subject: str
    deleted_at: Micros
    labels: tuple[str, ...] = ()
    timeout: float = 60.0


Take: TypeAlias = Callable[[Announcement], None]
"""Takes an announcement over at once, or lets it go: it must neither wait nor raise."""


class Announcements:
    """Hands announcements to those who deliver them to the subject, and their acknowledgements back."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        self._takers: dict[int, tuple[frozenset[str], Take]] = {}
        self._next = 0
        self._waiting: dict[str, tuple[set[str], asyncio.Future[bool]]] = {}

    def subscribe(self, subjects: tuple[str, ...], take: Take) -> Callable[[], None]:
        """Have the announcements for any of the subjects taken; the answer ends that."""
        self._next += 1
        number = self._next
        self._takers[number] = (frozenset(subjects), take)

        def leave() -> None:
            self._takers.pop(number, None)

        return leave

    async def announce(self, announcement: Announcement) -> bool:
        """Publish it; whether all acknowledgements that it asks for were given in time and say success."""
        if announcement.labels and len(self._waiting) >= WAITING_MAX:
            return False
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if announcement.labels:
            self._waiting[announcement.id] = (set(announcement.labels), done)
        try:
            for subjects, take in list(self._takers.values()):
                if announcement.subject in subjects:
                    take(announcement)
            if not announcement.labels:
                return True
            async with asyncio.timeout(announcement.timeout):
                return await done
        except TimeoutError:
            return False
        finally:
            self._waiting.pop(announcement.id, None)

    def acknowledge(self, id: str, label: str, status: int) -> None:  # noqa: A002 - the model's word
        """Take an acknowledgement in. A status that another try may better (408, 424, 5xx) fails this try; others settle the label."""
        waiting = self._waiting.get(id)
        if waiting is None or label not in waiting[0] or waiting[1].done():
            return
        labels, done = waiting
        if status in {408, 424} or status >= 500:
            done.set_result(False)
            return
        labels.discard(label)
        if not labels:
            done.set_result(True)
