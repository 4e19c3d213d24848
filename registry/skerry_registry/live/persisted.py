"""What happened to one entity, as the journal has it: the events of a span of revisions and times (ditto.md 5.2)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec import UNSET, Struct, structs

from skerry import times
from skerry.parts import ThingNotAccessible
from skerry.rql import instant
from skerry.signals import Command, Event, Held, Kind, Micros, Path
from skerry_policies.enforcer import compile_permits
from skerry_policies.parts import PolicyNotAccessible
from skerry_registry.identities.refusals import NamespaceNotAccessible
from skerry_registry.journal.replay import rebuild
from skerry_registry.live import event_filter, views
from skerry_registry.live.views import Told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from skerry.rql.predicate import Predicate
    from skerry_policies.enforcer import Permits
    from skerry_registry.live.sender import Sender
    from skerry_registry.registry import Registry

PAGE = 200
"""Revisions that are read at a time."""
EVER = 1 << 63
"""No revision is as large."""


class Span(Struct, frozen=True, kw_only=True):
    """Which events are meant: those that all of its bounds admit.

    `first` and `last` are revisions, both included; below 0 `first` counts back from the newest (-1: only that), and from 0
    on down so does `last` (0: up to the newest, -1: up to the one before it). `after` and `before` are times, excluded.
    `path`: only changes at, above or below it. `filter`: on what was changed, as `event_filter.parse` reads it.
    """

    first: int = 0
    last: int = EVER
    after: Micros | None = None
    before: Micros | None = None
    path: Path = ()
    filter: Predicate | None = None


def instant_of(text: str, now: Micros) -> Micros:
    """The time in a text such as 2026-11-21T14:43:14Z, now or now-1h. Raises ValueError."""
    found = instant.resolve(text, now) if text.startswith("now") else text
    try:
        return times.parse(found)  # type: ignore[arg-type] # what is no text is refused with the rest
    except (TypeError, OverflowError) as error:
        raise ValueError(text) from error


class Persisted:
    """The events that are kept of things and policies, for those who may read them now."""

    def __init__(self, registry: Registry) -> None:
        """`registry` knows events and rights."""
        self._registry = registry

    async def events(self, kind: Kind, id: str, sender: Sender, span: Span) -> AsyncIterator[Told]:  # noqa: A002
        """The events up to the newest of this moment, oldest first, each as much of it as may be read when it is handed out.

        Raises at once: ThingNotAccessible, PolicyNotAccessible where nothing at the path may be read, NamespaceNotAccessible.
        """
        asked = Command(
            verb="retrieve", kind=kind, id=id, subjects=sender.subjects, path=span.path, origin=sender.origin
        )
        if sender.reach is not None:
            try:
                sender.reach.check(kind, id)
            except NamespaceNotAccessible as error:
                self._registry.refuse(asked, error)
                raise
        held = await self._held(kind, id)
        permits = await self._permits(held, sender)
        if held.document is None and held.revision and kind == "thing":
            permits = (await self._earlier(*await self._end(held), sender))[1]
        if permits is None or not permits.may_partly(kind, span.path, "READ"):
            hidden = ThingNotAccessible(thing_id=id) if kind == "thing" else PolicyNotAccessible(policy_id=id)
            if held.document is not None:
                self._registry.refuse(asked, hidden)
            raise hidden
        first, last = _bounds(span, held.revision)
        if span.after is not None:
            first = max(first, await self._registry.past.revision_at(kind, id, span.after))
        first = max(first, 1 + await self._registry.past.revision_at(kind, id, 0))
        return self._told(held, sender, span, first, min(last, held.revision))

    async def _told(self, held: Held, sender: Sender, span: Span, first: int, last: int) -> AsyncIterator[Told]:
        past = self._registry.past
        kind, id_ = held.kind, held.id
        born = await past.revision_at(kind, id_, held.created) if held.earlier else 0
        if held.document is None:
            born = held.revision
        before = await past.state(kind, id_, first - 1) if first <= min(born, last) else None
        while first <= last:
            events = await past.events(kind, id_, first, min(last, first + PAGE - 1))
            for event in events:
                if span.before is not None and event.timestamp >= span.before:
                    return
                now = await self._held(kind, id_)
                if now.created != held.created:
                    return
                if event.revision <= born:
                    before, permits = await self._earlier(before, event, sender)
                else:
                    permits = await self._permits(now, sender)
                    if permits is None:
                        return
                seen = None if permits is None else _seen(event, permits)
                if seen is not None and _is_asked(seen, span, self._registry.clock()):
                    yield Told(seen, seen.value, UNSET, _held_after(seen))
            first += PAGE
            await asyncio.sleep(0)  # others have their turn

    async def _end(self, held: Held) -> tuple[Held | None, Event]:
        """What a thing that is gone was last, and how it went."""
        past, last = self._registry.past, held.revision
        gone = Event(kind="thing", id=held.id, action="deleted", revision=last, timestamp=held.modified)
        return await past.state("thing", held.id, last - 1), gone

    async def _earlier(self, before: Held | None, event: Event, sender: Sender) -> tuple[Held | None, Permits | None]:
        """What the entity was after an event of a former life, and the rights under the policy that guarded it then.

        None where that policy is not known, or is another one by now.
        """
        after = rebuild(before, [event])
        document = next((held.document for held in (after, before) if held is not None and held.document), None)
        if document is None:
            return after, None
        if event.kind == "policy":
            return after, compile_permits(document, sender.subjects)
        guard = await self._held("policy", document["policyId"])
        if guard.document is None or guard.created > event.timestamp:
            return after, None
        return after, await self._permits(Held(kind="thing", id=event.id, document=document), sender)

    async def _held(self, kind: Kind, id: str) -> Held:  # noqa: A002
        """What the entity is now."""
        await self._registry.memory.bring(kind, [id])
        return await self._registry.memory.known(lambda: self._registry.memory.held(kind, id))

    async def _permits(self, held: Held, sender: Sender) -> Permits | None:
        """The caller's rights on an entity as they are now; None where it is not there."""
        registry, subjects, document = self._registry, sender.subjects, held.document
        if document is None:
            return None
        if held.kind == "policy":
            return await registry.memory.known(lambda: registry.rights.permits(None, held.id, subjects))
        namespace = held.id.partition(":")[0]
        return await registry.memory.known(
            lambda: registry.rights.permits(None, document["policyId"], subjects, namespace)
        )


def _bounds(span: Span, newest: int) -> tuple[int, int]:
    """The first and the last revision, counted from the beginning."""
    first = span.first if span.first >= 0 else newest + span.first + 1
    last = span.last if span.last > 0 else newest + span.last
    return max(first, 1), last


def _held_after(event: Event) -> Held:
    """What is known of the entity from one of its events."""
    return Held(kind=event.kind, id=event.id, revision=event.revision, number=event.number, modified=event.timestamp)


def _seen(event: Event, permits: Permits) -> Event | None:
    """The event as somebody with these rights is told it; None where nothing of it is for him."""
    if event.kind == "thing":
        return views.seen(event, permits) if views.is_told(event) else None
    if event.value is UNSET:
        return event if permits.may_partly("policy", event.path, "READ") else None
    value = permits.view(event.path, event.value, "policy")
    return None if value is UNSET else structs.replace(event, value=value)


def _is_asked(event: Event, span: Span, now: Micros) -> bool:
    """Whether a span means the event, as its reader sees it."""
    if event.path[: len(span.path)] != span.path[: len(event.path)]:
        return False
    if span.after is not None and event.timestamp <= span.after:
        return False
    return span.filter is None or event_filter.matches(span.filter, event, UNSET, now)
