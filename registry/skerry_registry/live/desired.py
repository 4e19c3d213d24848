"""Desired state on its way to devices: what is desired and not reported yet, retained at the broker and told to sessions."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from skerry import topics
from skerry.desired import may_desire, may_open, open_features
from skerry.errors import SkerryError
from skerry.ids import split_id
from skerry.live import LiveSignal
from skerry_adapters.downlink import DownlinkBroken, device_topic, thing_of
from skerry_registry.live import signal_filter, views
from skerry_registry.runs import Lacking

if TYPE_CHECKING:
    from skerry.fields import Selector
    from skerry.rql.predicate import Predicate
    from skerry.signals import Held, Json
    from skerry_adapters.downlink import Downlink
    from skerry_policies.enforcer import Permits
    from skerry_registry.heads import Commit
    from skerry_registry.identities.namespaces import Reach
    from skerry_registry.live.sender import Leave
    from skerry_registry.registry import Registry

log = logging.getLogger(__name__)

LAST = "desired"
PAGE = 500
ABREAST = 100
"""How many things are looked at, or retained, before others have their turn."""
PAUSE_SECONDS = 0.05
"""Where much is touched, one look at a thing serves for the changes of this time."""
RETRY_SECONDS = 1.0
_encode = msgspec.json.Encoder(order="sorted").encode

Take: TypeAlias = Callable[[dict[str, Any]], None]
"""Takes an envelope over at once: it must neither wait nor raise."""
Room: TypeAlias = Callable[[], Awaitable[None]]
"""Returns when the subscriber can take more."""


class DesiredWanted(Struct, frozen=True, kw_only=True):
    """Whose desired state a subscriber wants. `subjects`, `reach`: who listens; `namespaces`, `ids`: only these (empty: all).

    `extra`: what else of the thing to tell; `filter`: a difference for which it does not hold is told as if nothing were open.
    """

    subjects: tuple[str, ...]
    reach: Reach | None = None
    namespaces: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    filter: Predicate | None = None
    extra: Selector | None = None

    def takes(self, thing_id: str) -> bool:
        """Whether the thing is among those wanted."""
        if self.ids and thing_id not in self.ids:
            return False
        namespace = split_id(thing_id)[0]
        if self.namespaces and namespace not in self.namespaces:
            return False
        return self.reach is None or self.reach.covers("thing", namespace)


class _Subscriber:
    """One who wants to be told; `told`: by thing, what tells the difference that was told last apart."""

    __slots__ = ("doubtful", "greeting", "room", "take", "told", "wanted")

    def __init__(self, wanted: DesiredWanted, take: Take, room: Room | None) -> None:
        self.wanted = wanted
        self.take = take
        self.room = room
        self.doubtful = True
        self.told: dict[str, int] = {}
        self.greeting: asyncio.Task[None] | None = None


class Desired:
    """The open differences of one registry's things. `run` it; a commit that opens or closes none costs next to nothing."""

    def __init__(self, registry: Registry) -> None:
        """Listens to the registry's commits from now on."""
        self._registry = registry
        self._open: dict[str, int] = {}
        self._desiring: set[str] = set()  # all things with desired properties, once `_known`, and some that had them
        self._touched: dict[str, None] = {}
        self._woken = asyncio.Event()
        self._known = asyncio.Event()
        self._subscribers: list[_Subscriber] = []
        self._shelf = _Shelf(self._open, self.envelope)
        registry.on_settled(self._note)

    def subscribe(self, wanted: DesiredWanted, take: Take, room: Room | None = None) -> Leave:
        """Tell what is open, as soon as there is `room`, and from now on every change of it; an empty value: nothing is, any more."""
        subscriber = _Subscriber(wanted, take, room)
        self._subscribers.append(subscriber)
        self._begin_greeting(subscriber)

        def leave() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)
            if subscriber.greeting is not None:
                subscriber.greeting.cancel()

        return leave

    async def run(self, downlink: Downlink | None) -> None:
        """Find what is open, then follow every change; with a downlink, also retain it there."""
        tasks = [asyncio.create_task(self._find(), name="open desired state")]
        if downlink is not None:
            tasks.append(asyncio.create_task(self._shelf.run(downlink, self._known), name="retained desired state"))
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                touched, self._touched = list(self._touched), {}
                for start in range(0, len(touched), ABREAST):
                    for thing_id in touched[start : start + ABREAST]:
                        await self._look(thing_id)
                    await asyncio.sleep(0)
                if len(touched) > ABREAST:
                    await asyncio.sleep(PAUSE_SECONDS)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def envelope(self, thing_id: str) -> dict[str, Any]:
        """What is open now, whoever may read it; an empty value says that nothing is."""
        held = await self._held(thing_id)
        return _envelope(held, open_features(held.document))

    def _note(self, commit: Commit) -> None:
        desiring, touched = self._desiring, self._touched
        looking = not self._known.is_set()
        for event, (_, after, _) in zip(commit.events, commit.changes, strict=True):
            if event.kind == "thing":
                if (event.id in desiring or looking or may_desire(event)) and (
                    event.id in self._open or may_open(event, after.document)
                ):
                    desiring.add(event.id)
                    touched[event.id] = None
                if after.document is None:
                    desiring.discard(event.id)
            elif self._subscribers:
                for subscriber in self._subscribers:
                    subscriber.doubtful = True
                    self._begin_greeting(subscriber)
        if touched:
            self._woken.set()

    async def _find(self) -> None:
        """Look once at all things that have desired properties; what changes meanwhile is noted."""
        after = ""
        while True:
            try:
                ids = await self._registry.memory.ids("thing", after, PAGE)
                texts = await self._registry.memory.texts(ids)
            except SkerryError as error:
                log.warning("desired state not read", extra={"reason": str(error)})
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for thing_id in ids:
                text = texts.get(thing_id)
                if text is None or b'"desiredProperties"' in text:
                    self._desiring.add(thing_id)
                    await self._look(thing_id)
            if len(ids) < PAGE:
                break
            after = ids[-1]
            await asyncio.sleep(0)
        self._known.set()

    async def _held(self, thing_id: str) -> Held:
        """The thing as everybody may see it."""
        while True:
            try:
                return self._registry.memory.held("thing", thing_id)
            except Lacking:
                pass
            try:
                return await self._registry.memory.known(lambda: self._registry.memory.held("thing", thing_id))
            except SkerryError as error:
                log.warning("desired state waits for the store", extra={"thing": thing_id, "reason": str(error)})
                await asyncio.sleep(RETRY_SECONDS)

    async def _look(self, thing_id: str) -> None:
        """Compare with what was open before, and tell whom it concerns."""
        held = await self._held(thing_id)
        patch = open_features(held.document)
        mark = _mark(patch)
        if self._open.get(thing_id) == mark:
            return
        if mark is not None:
            self._open[thing_id] = mark
        else:
            del self._open[thing_id]
        self._shelf.put(thing_id)
        for subscriber in tuple(self._subscribers):
            if subscriber.wanted.takes(thing_id):
                await self._tell(subscriber, thing_id)

    def _begin_greeting(self, subscriber: _Subscriber) -> None:
        if subscriber.greeting is None or subscriber.greeting.done():
            work = self._greet(subscriber)
            subscriber.greeting = asyncio.get_running_loop().create_task(work, name="desired state")

    async def _greet(self, subscriber: _Subscriber) -> None:
        """Tell a subscriber who is new, or whose rights may have changed, what is open."""
        await self._known.wait()
        wanted = subscriber.wanted
        while subscriber.doubtful:
            subscriber.doubtful = False
            for place, thing_id in enumerate([*(wanted.ids or self._open)]):
                if not place % ABREAST:
                    await asyncio.sleep(0)
                if thing_id in self._open and wanted.takes(thing_id):
                    if subscriber.room is not None:
                        await subscriber.room()
                    await self._tell(subscriber, thing_id)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _tell(self, subscriber: _Subscriber, thing_id: str) -> None:
        """Tell what the subscriber may read of it, if that is something new to him."""
        held = await self._held(thing_id)
        permits: Permits | None = None
        while held.document is not None:
            permits = await self._permits(held, subscriber.wanted.subjects)
            newer = await self._held(thing_id)
            same = newer.document is not None and newer.document["policyId"] == held.document["policyId"]
            held = newer
            if same:
                break
        patch = {} if held.document is None else open_features(_seen(held.document, permits))
        extra = UNSET if permits is None else _extra(subscriber.wanted, held, patch, permits)
        if not self._passes(subscriber.wanted, held, patch, extra):
            patch = {}
        mark = _mark(patch)
        if subscriber.told.get(thing_id) == mark or subscriber not in self._subscribers:
            return
        if mark is not None:
            subscriber.told[thing_id] = mark
        else:
            del subscriber.told[thing_id]
        subscriber.take(_envelope(held, patch, extra if patch else UNSET))

    def _passes(self, wanted: DesiredWanted, held: Held, patch: dict[str, Json], extra: Json | UnsetType) -> bool:
        """Whether a difference satisfies the subscriber's filter."""
        if wanted.filter is None or not patch:
            return True
        return signal_filter.matches(wanted.filter, _signal(held, patch), extra, self._registry.clock())

    async def _permits(self, held: Held, subjects: tuple[str, ...]) -> Permits | None:
        """The rights of these subjects on the thing, as far as they can be found out."""
        assert held.document is not None
        policy_id, namespace = held.document["policyId"], split_id(held.id)[0]
        try:
            return await self._registry.memory.known(
                lambda: self._registry.rights.permits(None, policy_id, subjects, namespace)
            )
        except SkerryError:
            return None


class _Shelf:
    """Keeps the retained messages at the broker equal to what is open (`found`: by thing, what tells differences apart)."""

    def __init__(self, found: Mapping[str, int], envelope: Callable[[str], Awaitable[dict[str, Any]]]) -> None:
        self._found = found
        self._envelope = envelope
        self._wanting: dict[str, None] = {}
        self._woken = asyncio.Event()
        self._doubtful = True
        self._used = False

    def put(self, thing_id: str) -> None:
        """What is open has changed."""
        if self._used:
            self._wanting[thing_id] = None
            self._woken.set()

    async def run(self, downlink: Downlink, known: asyncio.Event) -> None:
        """Retain every change, however long the broker is away, and all of it anew where the broker may have lost it."""
        await known.wait()
        self._used = True
        watching = asyncio.create_task(self._watch(downlink), name="retained desired state in doubt")
        try:
            while True:
                self._woken.clear()
                try:
                    if self._doubtful:
                        self._doubtful = False
                        await self._compare(downlink)
                    while self._wanting:
                        await self._retain(downlink)
                except DownlinkBroken:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                await self._woken.wait()
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    async def _watch(self, downlink: Downlink) -> None:
        while True:
            await downlink.returned()
            self._doubtful = True
            self._woken.set()

    async def _compare(self, downlink: Downlink) -> None:
        """What is retained and should not be, or should be and is not."""
        try:
            there = {thing_of(topic): payload for topic, payload in await downlink.kept()}
        except DownlinkBroken:
            self._doubtful = True
            raise
        for thing_id, payload in there.items():
            if thing_id is not None and self._found.get(thing_id) != _mark_in(payload):
                self._wanting[thing_id] = None
        self._wanting.update((thing_id, None) for thing_id in self._found if thing_id not in there)

    async def _retain(self, downlink: Downlink) -> None:
        """Some of what is wanting."""
        some = list(itertools.islice(self._wanting, ABREAST))
        for thing_id in some:
            del self._wanting[thing_id]
        messages = {}
        for thing_id in some:
            topic = device_topic(thing_id, LAST)
            if topic is not None:
                envelope = await self._envelope(thing_id)
                messages[topic] = msgspec.json.encode(envelope) if envelope["value"] else b""
        try:
            await downlink.keep(messages)
        except DownlinkBroken:
            self._wanting.update(dict.fromkeys(some))
            raise


def _mark(patch: dict[str, Json]) -> int | None:
    """What tells differences apart."""
    return hash(_encode(patch)) if patch else None


def _mark_in(payload: bytes) -> int | None:
    """That of a retained message; 0, which none has, for one that is not ours."""
    try:
        return hash(_encode(msgspec.json.decode(payload)["value"]))
    except (msgspec.DecodeError, KeyError, TypeError):
        return 0


def _seen(document: dict[str, Any], permits: Permits | None) -> dict[str, Any]:
    """The document's features as far as they may be read."""
    features = UNSET if permits is None else permits.view(("features",), document.get("features") or {})
    return {"features": features} if isinstance(features, dict) else {}


def _signal(held: Held, patch: dict[str, Json]) -> LiveSignal:
    """A live command that merges the patch into the features of the thing, as the device is asked to do."""
    namespace, name = split_id(held.id)
    return LiveSignal(
        sort="command",
        id=held.id,
        topic=topics.write(topics.Topic(namespace=namespace, name=name, channel="live", action="merge")),
        path=("features",),
        value=patch,
    )


def _extra(wanted: DesiredWanted, held: Held, patch: dict[str, Json], permits: Permits) -> Json | UnsetType:
    """The extra fields that the subscriber wants, as far as he may read them."""
    if wanted.extra is None or not patch:
        return UNSET
    return views.extra_of(signal_filter.as_event(_signal(held, patch)), held, permits, wanted.extra)


def _envelope(held: Held, patch: dict[str, Json], extra: Json | UnsetType = UNSET) -> dict[str, Any]:
    """The patch as a device is told it."""
    envelope = {
        "topic": _signal(held, patch).topic,
        "headers": {
            "content-type": "application/merge-patch+json",
            "correlation-id": f"desired-{held.revision}",
            "response-required": False,
        },
        "path": "/features",
        "value": patch,
        "revision": held.revision,
    }
    if extra is not UNSET:
        envelope["extra"] = extra
    return envelope
