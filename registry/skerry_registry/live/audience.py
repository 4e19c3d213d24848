"""Who is told of the changes of a thing: subscribers in groups that want the same, groups in views that see the same."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from msgspec import UNSET, Struct, UnsetType, json

from skerry import times
from skerry.rql.parse import write as write_rql
from skerry.signals import PATCHES
from skerry_policies.imports import ImportInvalid
from skerry_registry.live import event_filter
from skerry_registry.live.views import Told, extra_of, seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from skerry.fields import Selector
    from skerry.rql.predicate import Predicate
    from skerry.signals import Event, Held, Json, Micros, Path
    from skerry_policies.enforcer import Permits
    from skerry_registry.identities.namespaces import Reach
    from skerry_registry.live.views import PolicyOf
    from skerry_registry.rights import Rights

PLACES = 200_000
"""Places of groups in audiences that are kept; over that the oldest audiences go. Each takes"""
ITSELF = 8
"""places for itself."""


class Wanted(Struct, frozen=True, kw_only=True):
    """What a subscriber wants to be told of.

    `subjects`, `reach`: who listens. `namespaces`, `ids`: only these (empty: all). `path`: only changes at, above or below
    it. `filter`: on the changed value, the extra fields and `topic:action`, `resource:path` ... (`event_filter.parse`).
    `extra`: what else of the thing is told with each change.
    """

    subjects: tuple[str, ...]
    reach: Reach | None = None
    namespaces: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    path: Path = ()
    filter: Predicate | None = None
    extra: Selector | None = None


Take: TypeAlias = "Callable[[Told], None]"
"""Takes a change over at once, or lets it go: it must neither wait nor raise."""
Key: TypeAlias = "tuple[object, ...]"


class Question:
    """What is asked of each change, whoever asks: equal where the `key` is."""

    __slots__ = ("extra", "filter", "key", "path")

    def __init__(self, wanted: Wanted) -> None:
        self.path = wanted.path
        self.filter = wanted.filter
        self.extra = wanted.extra
        predicate = "" if wanted.filter is None else write_rql(wanted.filter)
        self.key: Key = (wanted.path, predicate, b"" if wanted.extra is None else json.encode(wanted.extra))

    def answer(
        self,
        event: Event,
        held: Held,
        permits: Permits,
        before: Held | None = None,
        policy_of: PolicyOf | None = None,
    ) -> Told | None:
        """What is told of a change to one with these rights; None where that is nothing.

        `before`: of a thing's deletion, the thing `at_its_end`. `policy_of`: where its policy is found.
        """
        if self.path and not touches(event, self.path):
            return None
        shown = seen(event, permits)
        if shown is None:
            return None
        extra: Json | UnsetType = UNSET
        if self.extra is not None:
            extra = extra_of(event, before or held, permits, self.extra, policy_of)
        if self.filter is not None and not event_filter.matches(self.filter, shown, extra, event.timestamp):
            return None
        return Told(shown, shown.value, extra, held)


def touches(event: Event, path: Path) -> bool:
    """Whether an event changes, or may have changed, what is at the path."""
    at = event.path
    if at[: len(path)] == path:
        return True
    if path[: len(at)] != at:
        return False
    if event.action not in PATCHES:
        return True
    value = event.value
    for segment in path[len(at) :]:
        if type(value) is not dict:
            return True
        if segment not in value:
            return any(key.startswith("{{") for key in value)
        value = value[segment]
    return True


class Reader:
    """One who reads changes from the journal."""

    __slots__ = ("question", "wanted")

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.question = Question(wanted)

    def concerns(self, event: Event) -> bool:
        """Whether the event's thing is wanted and within reach, and the path touched."""
        wanted, namespace = self.wanted, event.id.partition(":")[0]
        return (
            (not wanted.ids or event.id in wanted.ids)
            and (not wanted.namespaces or namespace in wanted.namespaces)
            and (wanted.reach is None or wanted.reach.covers("thing", namespace))
            and (not wanted.path or touches(event, wanted.path))
        )


class Member:
    """One subscriber. `after`: it has been told of everything up to that number."""

    __slots__ = ("after", "session", "take")

    def __init__(self, take: Take, session: str, after: int) -> None:
        self.take = take
        self.session = session
        self.after = after


class Group:
    """Subscribers that want the same and have the same subjects."""

    __slots__ = ("ids", "key", "members", "namespaces", "question", "reach", "subjects")

    def __init__(self, key: Key, wanted: Wanted, question: Question) -> None:
        self.key = key
        self.subjects = wanted.subjects
        self.reach = wanted.reach
        self.namespaces = wanted.namespaces
        self.ids = wanted.ids
        self.question = question
        self.members: list[Member] = []

    def concerns(self, namespace: str) -> bool:
        """Whether things of a namespace are wanted, and within reach."""
        if self.namespaces and namespace not in self.namespaces:
            return False
        return self.reach is None or self.reach.covers("thing", namespace)


class View:
    """Groups that ask the same and may read the same: they are told the same."""

    __slots__ = ("groups", "permits", "question")

    def __init__(self, permits: Permits, question: Question) -> None:
        self.permits = permits
        self.question = question
        self.groups: list[Group] = []


class _Log:
    """The groups that listen to all things, or to one, in the order in which they came; `age` is another when it was made anew."""

    __slots__ = ("age", "groups", "live")

    def __init__(self, age: int) -> None:
        self.age = age
        self.live = 0
        self.groups: list[Group] = []


class _Audience:
    """The views under one policy in one namespace, as far as the log had come when it was asked last."""

    __slots__ = ("age", "documents", "known", "size", "subjects", "until", "views")

    def __init__(self, age: int, subjects: frozenset[str], documents: Iterable[str], until: Micros | None) -> None:
        self.age = age
        self.known = 0
        self.size = ITSELF
        self.subjects = subjects
        self.documents = tuple(documents)
        self.until = until
        self.views: dict[tuple[int, Key], View] = {}


class Audiences:
    """All subscribers, and for each policy those who may read something by it, found out once until a policy changes."""

    def __init__(self, rights: Rights, clock: Callable[[], Micros]) -> None:
        """Nobody listens yet."""
        self._rights = rights
        self._clock = clock
        self._groups: dict[Key, Group] = {}
        self._ages = itertools.count()
        self._all = _Log(next(self._ages))
        self._of_things: dict[str, _Log] = {}
        self._audiences: OrderedDict[tuple[str, str, str], _Audience] = OrderedDict()
        self._resting: dict[str, set[tuple[str, str, str]]] = {}
        self._places = 0

    def __len__(self) -> int:
        """How many groups there are."""
        return len(self._groups)

    def join(self, wanted: Wanted, member: Member) -> Callable[[], None]:
        """Take a subscriber in; what it answers takes it out again."""
        question = Question(wanted)
        key: Key = (frozenset(wanted.subjects), wanted.reach, wanted.namespaces, wanted.ids, *question.key)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key, wanted, question)
            for log in self._logs(group):
                log.groups.append(group)
                log.live += 1
        group.members.append(member)

        def leave() -> None:
            if member in group.members:
                group.members.remove(member)
                if not group.members:
                    self._drop(group)

        return leave

    def views(self, policy_id: str, namespace: str, thing_id: str) -> list[View]:
        """The views in which changes of a thing are told, under a policy. Raises Lacking."""
        found: list[View] = []
        try:
            if self._all.live:
                found.extend(self._of((policy_id, namespace, ""), self._all).views.values())
            log = self._of_things.get(thing_id) if self._of_things else None
            if log is not None:
                found.extend(self._of((policy_id, namespace, thing_id), log).views.values())
        except ImportInvalid:  # nobody may anything by such a policy
            return []
        return found

    def policy_changed(self, policy_id: str) -> None:
        """Forget what rests upon a policy."""
        for key in self._resting.pop(policy_id, ()):
            self._forget(key)

    def _logs(self, group: Group) -> list[_Log]:
        """Where a group stands."""
        if not group.ids:
            return [self._all]
        for id_ in group.ids:
            if id_ not in self._of_things:
                self._of_things[id_] = _Log(next(self._ages))
        return [self._of_things[id_] for id_ in group.ids]

    def _drop(self, group: Group) -> None:
        """Nobody is left in a group."""
        del self._groups[group.key]
        for log in self._logs(group):
            log.live -= 1
            if 2 * log.live < len(log.groups):
                log.groups = [one for one in log.groups if one.members]
                log.age = next(self._ages)
        for id_ in group.ids:
            if not self._of_things[id_].live:
                del self._of_things[id_]
        if not self._groups:
            self._audiences.clear()
            self._resting.clear()
            self._places = 0

    def _of(self, key: tuple[str, str, str], log: _Log) -> _Audience:
        """The audience, with the groups that have come since it was asked last."""
        audience = self._audiences.get(key)
        if audience is not None and (
            audience.age != log.age or (audience.until is not None and self._clock() >= audience.until)
        ):
            self._forget(key)
            audience = None
        if audience is None:
            audience = self._make(key, log)
        else:
            self._audiences.move_to_end(key)
        if audience.known < len(log.groups):
            before = audience.size
            try:
                self._extend(audience, key, log)
            finally:
                self._places += audience.size - before
        return audience

    def _make(self, key: tuple[str, str, str], log: _Log) -> _Audience:
        """An audience of nobody yet, and room for it."""
        effective = self._rights.effective(key[0], key[1])
        if effective is None:
            audience = _Audience(log.age, frozenset(), (key[0],), None)
        else:
            holders = [entry.entry["subjects"] for entry in effective.entries]
            expiries = [facts["expiry"] for held in holders for facts in held.values() if facts.get("expiry")]
            now = self._clock()
            until = min((ends for text in expiries if (ends := times.parse(text)) > now), default=None)
            subjects: frozenset[str] = frozenset().union(*holders)
            audience = _Audience(log.age, subjects, effective.documents, until)
        while self._audiences and self._places > PLACES:
            self._forget(next(iter(self._audiences)))
        self._audiences[key] = audience
        self._places += audience.size
        for document in audience.documents:
            self._resting.setdefault(document, set()).add(key)
        return audience

    def _extend(self, audience: _Audience, key: tuple[str, str, str], log: _Log) -> None:
        """Find the views of the groups that have come."""
        policy_id, namespace, _ = key
        while audience.known < len(log.groups):
            group = log.groups[audience.known]
            if group.members and not audience.subjects.isdisjoint(group.subjects) and group.concerns(namespace):
                permits = self._rights.permits(None, policy_id, group.subjects, namespace)
                if permits is not None and permits.may_partly("thing", (), "READ"):
                    place = (id(permits), group.question.key)
                    view = audience.views.get(place)
                    if view is None:
                        view = audience.views[place] = View(permits, group.question)
                        audience.size += 1
                    view.groups.append(group)
                    audience.size += 1
            audience.known += 1

    def _forget(self, key: tuple[str, str, str]) -> None:
        """Give up an audience."""
        audience = self._audiences.pop(key, None)
        if audience is None:
            return
        self._places -= audience.size
        for document in audience.documents:
            resting = self._resting.get(document)
            if resting is not None:
                resting.discard(key)
                if not resting:
                    del self._resting[document]
