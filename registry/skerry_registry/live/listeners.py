"""Who listens to the live channel, and what of a signal each of them is handed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from msgspec import UNSET, Struct, structs

from skerry.ids import split_id
from skerry.live import LiveSignal, Sort
from skerry.signals import Held, Path
from skerry_registry.live import signal_filter, views

if TYPE_CHECKING:
    from collections.abc import Collection

    from skerry.fields import Selector
    from skerry.rql.predicate import Predicate
    from skerry.signals import Micros
    from skerry_policies.enforcer import Permits
    from skerry_registry.identities.namespaces import Reach
    from skerry_registry.live.sender import Leave
    from skerry_registry.live.views import PolicyOf

CHANGES = frozenset({"create", "modify", "merge"})
"""Live commands that carry a value, all of which whoever gets them must be able to read."""


class LiveWanted(Struct, frozen=True, kw_only=True):
    """Which live signals a subscriber wants.

    `subjects`, `reach`: who listens; None: the server itself, which sees to rights as it passes them on. `ids`, `namespaces`:
    only these (empty: all). `path`: only at or below it (a message's inbox, a subject).
    """

    sort: Sort
    subjects: tuple[str, ...] | None
    reach: Reach | None = None
    namespaces: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    path: Path = ()
    filter: Predicate | None = None
    extra: Selector | None = None


Take: TypeAlias = Callable[[LiveSignal], None]
"""Takes a signal over at once, or lets it go: it must neither wait nor raise."""
PermitsOf: TypeAlias = "Callable[[tuple[str, ...]], Permits | None]"
"""The rights of somebody under the policy of the thing that a signal is about. May raise Lacking."""


Holders: TypeAlias = "Callable[[], Collection[str]]"
"""The subjects whom that policy names. May raise Lacking."""


class Listener:
    """One subscriber."""

    __slots__ = ("session", "take", "wanted")

    def __init__(self, wanted: LiveWanted, take: Take, session: str) -> None:
        """`session`: which does not get what it sends itself."""
        self.wanted = wanted
        self.take = take
        self.session = session


class _Group:
    """Subscribers with the same subjects, to everything of one sort or to that of one thing."""

    __slots__ = ("listeners", "subjects")

    def __init__(self, subjects: tuple[str, ...]) -> None:
        self.subjects = subjects
        self.listeners: dict[int, Listener] = {}


class Listeners:
    """All subscribers, found by what a signal is about and by whom the thing's policy names."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        self._numbers = itertools.count()
        self._server: dict[Sort, dict[int, Listener]] = {"message": {}, "command": {}, "event": {}}
        self._groups: dict[tuple[Sort, str, tuple[str, ...]], _Group] = {}
        self._of_subjects: dict[tuple[Sort, str, str], dict[tuple[str, ...], _Group]] = {}

    def join(self, listener: Listener) -> Leave:
        """Take a subscriber in; what is answered takes it out again."""
        number, wanted = next(self._numbers), listener.wanted
        subjects = wanted.subjects
        if subjects is None:
            self._server[wanted.sort][number] = listener
        else:
            for id_ in wanted.ids or ("",):
                self._group(wanted.sort, id_, subjects).listeners[number] = listener

        def leave() -> None:
            if subjects is None:
                self._server[wanted.sort].pop(number, None)
                return
            for id_ in wanted.ids or ("",):
                self._leave(wanted.sort, id_, subjects, number)

        return leave

    def handed(
        self,
        signal: LiveSignal,
        held: Held,
        holders: Holders,
        permits_of: PermitsOf,
        now: Micros,
        *,
        policy_of: PolicyOf,
    ) -> list[tuple[Listener, LiveSignal]]:
        """Who gets the signal, and what of it; whoever sent it does not. May raise Lacking."""
        namespace = split_id(signal.id)[0]
        found = [
            (listener, signal)
            for listener in self._server[signal.sort].values()
            if _concerns(listener, signal, namespace) and signal.id in (listener.wanted.ids or (signal.id,))
        ]
        for group in self._within(signal, holders):
            permits = permits_of(group.subjects)
            told = None if permits is None else shown(signal, permits)
            if permits is None or told is None:
                continue
            for listener in group.listeners.values():
                if _concerns(listener, signal, namespace):
                    whole = _completed(told, listener.wanted, held, permits, now, policy_of=policy_of)
                    if whole is not None:
                        found.append((listener, whole))
        return found

    def _within(self, signal: LiveSignal, holders: Holders) -> list[_Group]:
        """The subscribers whom the thing's policy names."""
        if not self._groups:
            return []
        found: dict[tuple[str, tuple[str, ...]], _Group] = {}
        for id_ in ("", signal.id):
            for subject in holders():
                for subjects, group in self._of_subjects.get((signal.sort, id_, subject), {}).items():
                    found[id_, subjects] = group
        return list(found.values())

    def _group(self, sort: Sort, id_: str, subjects: tuple[str, ...]) -> _Group:
        """The group of a subscriber."""
        group = self._groups.get((sort, id_, subjects))
        if group is None:
            group = self._groups[sort, id_, subjects] = _Group(subjects)
            for subject in subjects:
                self._of_subjects.setdefault((sort, id_, subject), {})[subjects] = group
        return group

    def _leave(self, sort: Sort, id_: str, subjects: tuple[str, ...], number: int) -> None:
        """One of a group is gone."""
        group = self._groups.get((sort, id_, subjects))
        if group is None or group.listeners.pop(number, None) is None or group.listeners:
            return
        del self._groups[sort, id_, subjects]
        for subject in dict.fromkeys(subjects):
            found = self._of_subjects[sort, id_, subject]
            del found[subjects]
            if not found:
                del self._of_subjects[sort, id_, subject]


def _concerns(listener: Listener, signal: LiveSignal, namespace: str) -> bool:
    """Whether somebody wants such signals, and is not the sender."""
    wanted = listener.wanted
    return (
        not (listener.session and listener.session == signal.origin)
        and signal.path[: len(wanted.path)] == wanted.path
        and (not wanted.namespaces or namespace in wanted.namespaces)
        and (wanted.reach is None or wanted.reach.covers("thing", namespace))
    )


def shown(signal: LiveSignal, permits: Permits) -> LiveSignal | None:
    """What of a signal may be read with these rights; None: nothing."""
    if signal.sort == "message":
        return signal if permits.holds("message", resource_of(signal.path), "READ") else None
    if signal.sort == "event":
        event = views.seen(signal_filter.as_event(signal), permits)
        return None if event is None else structs.replace(signal, path=event.path, value=event.value)
    may = permits.may if signal.action in CHANGES else permits.holds
    return signal if may("thing", signal.path, "READ") else None


def resource_of(path: Path) -> Path:
    """The path that policies know a message's path by: slashes that follow each other are one there."""
    return tuple(segment for segment in path if segment)


def _completed(
    signal: LiveSignal, wanted: LiveWanted, held: Held, permits: Permits, now: Micros, *, policy_of: PolicyOf
) -> LiveSignal | None:
    """The signal with the extra fields that are wanted; None where the filter leaves it out."""
    extra = UNSET
    if wanted.extra is not None:
        extra = views.extra_of(signal_filter.as_event(signal), held, permits, wanted.extra, policy_of)
    if wanted.filter is not None and not signal_filter.matches(wanted.filter, signal, extra, now):
        return None
    return signal if extra is UNSET else structs.replace(signal, extra=extra)
