"""What one session wants to be sent: started and stopped by its control frames."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from skerry import times
from skerry.errors import SkerryError
from skerry.ids import split_id
from skerry.live import Sort as LiveSort
from skerry_registry.live import event_filter
from skerry_registry.live.changes import Wanted
from skerry_registry.live.channel import LiveWanted
from skerry_registry.live.desired import DesiredWanted
from skerry_registry.ws.shared import framed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from skerry.live import LiveSignal
    from skerry_registry.announcements import Announcement
    from skerry_registry.live.changes import Told
    from skerry_registry.live.sender import Leave, Sender
    from skerry_registry.ws.controls import Control, Sort
    from skerry_registry.ws.shared import Shared

_LIVE: dict[Sort, LiveSort] = {"MESSAGES": "message", "LIVE-COMMANDS": "command", "LIVE-EVENTS": "event"}
FILTERED = frozenset({"EVENTS", *_LIVE})
"""What heeds a filter; the others pass it over, as Ditto does."""


class Wants:
    """The subscriptions of one session, at most one of a sort.

    `tell` takes frames of what was subscribed to, `reply` what answers a control frame; `room` returns when the session can
    take more.
    """

    __slots__ = ("_leaves", "_reply", "_resuming", "_room", "_sender", "_shared", "_tell")

    def __init__(
        self,
        shared: Shared,
        sender: Sender,
        tell: Callable[[bytes], None],
        reply: Callable[[str], None],
        room: Callable[[], Awaitable[None]],
    ) -> None:
        """Nothing is wanted yet."""
        self._shared = shared
        self._sender = sender
        self._tell = tell
        self._reply = reply
        self._room = room
        self._leaves: dict[Sort, Leave] = {}
        self._resuming: asyncio.Task[None] | None = None

    def start(self, control: Control, refuse: Callable[[SkerryError], None]) -> None:
        """Begin, in place of what there was of the sort, and say so. Raises what is wrong with the parameters.

        `refuse`: told of what shows itself only later.
        """
        control.check_names()
        sort, namespaces, extra, after = control.sort, control.namespaces, control.extra, control.after
        text = control.parameters.get("filter")
        now = self._shared.registry.clock()
        predicate = event_filter.parse(text, now) if text is not None and sort in FILTERED else None
        sender, streams = self._sender, self._shared.streams
        if sort == "EVENTS":
            wanted = Wanted(
                subjects=sender.subjects, reach=sender.reach, namespaces=namespaces, filter=predicate, extra=extra
            )
            self.stop(sort)
            if after is not None:
                self._resuming = asyncio.get_running_loop().create_task(
                    self._resume(wanted, after, control, refuse), name="resuming session"
                )
                return
            self._leaves[sort] = streams.changes.subscribe(wanted, self._changed, session=sender.origin)
        elif sort == "POLICY-ANNOUNCEMENTS":
            self.stop(sort)
            self._leaves[sort] = streams.announcements.subscribe(
                sender.subjects, lambda announcement: self._announced(announcement, namespaces)
            )
        elif sort == "DESIRED":
            self.stop(sort)
            self._leaves[sort] = streams.desired.subscribe(
                DesiredWanted(
                    subjects=sender.subjects, reach=sender.reach, namespaces=namespaces, filter=predicate, extra=extra
                ),
                self._told,
                self._room,
            )
        else:
            live = LiveWanted(
                sort=_LIVE[sort],
                subjects=sender.subjects,
                reach=sender.reach,
                namespaces=namespaces,
                filter=predicate,
                extra=extra,
            )
            self.stop(sort)
            self._leaves[sort] = streams.live.subscribe(live, self._signalled, session=sender.origin)
        self._reply(control.acknowledgement)

    def stop(self, sort: Sort) -> None:
        """Want nothing of a sort any more."""
        if sort == "EVENTS" and self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        leave = self._leaves.pop(sort, None)
        if leave is not None:
            leave()

    def close(self) -> None:
        """Want nothing any more."""
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None
        while self._leaves:
            self._leaves.popitem()[1]()

    async def _resume(
        self, wanted: Wanted, after: int, control: Control, refuse: Callable[[SkerryError], None]
    ) -> None:
        """First what came after a number, then what comes. The acknowledgement stands before the first event."""
        changes = self._shared.streams.changes
        try:
            await changes.check(after)
            self._reply(control.acknowledgement)
            leave = await changes.resume(wanted, after, self._changed, self._room, session=self._sender.origin)
        except SkerryError as error:
            refuse(error)
            return
        self._leaves["EVENTS"] = leave
        self._resuming = None

    def _changed(self, told: Told) -> None:
        self._tell(self._shared.change(told, self._sender.origin))

    def _signalled(self, signal: LiveSignal) -> None:
        self._tell(self._shared.signal(signal, self._sender.origin))

    def _told(self, envelope: dict[str, Any]) -> None:
        self._tell(framed(envelope))

    def _announced(self, announcement: Announcement, namespaces: frozenset[str]) -> None:
        namespace, name = split_id(announcement.policy_id)
        reach = self._sender.reach
        if (namespaces and namespace not in namespaces) or (
            reach is not None and not reach.covers("policy", namespace)
        ):
            return
        asked = {"requested-acks": ",".join(announcement.labels)} if announcement.labels else {}
        headers: dict[str, Any] = {
            "correlation-id": announcement.id,
            "response-required": False,
            "requested-acks": list(self._shared.streams.acks.shown(self._sender.origin, asked)),
            "content-type": "application/json",
        }
        self._told(
            {
                "topic": f"{namespace}/{name}/policies/announcements/subjectDeletion",
                "headers": headers,
                "path": "/",
                "value": {"deleteAt": times.write(announcement.deleted_at), "subjectIds": [announcement.subject]},
            }
        )
