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
    from collections.abc import Iterator

    from skerry.fields import Selector
    from skerry.rql.predicate import Predicate
    from skerry.signals import Micros
    from skerry_policies.enforcer import Permits
    from skerry_registry.identities.namespaces import Reach
    from skerry_registry.live.sender import Leave

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


class Listener:
    """One subscriber."""

    __slots__ = ("session", "take", "wanted")

    def __init__(self, wanted: LiveWanted, take: Take, session: str) -> None:
        """`session`: which does not get what it sends itself."""
        self.wanted = wanted
        self.take = take
        self.session = session


class Listeners:
    """All subscribers, found by what a signal is about."""

    def __init__(self) -> None:
        """Nobody listens yet."""
        self._numbers = itertools.count()
        self._all: dict[Sort, dict[int, Listener]] = {"message": {}, "command": {}, "event": {}}
        self._of_things: dict[tuple[Sort, str], dict[int, Listener]] = {}

    def join(self, listener: Listener) -> Leave:
        """Take a subscriber in; what is answered takes it out again."""
        number = next(self._numbers)
        sort, ids = listener.wanted.sort, listener.wanted.ids
        if not ids:
            self._all[sort][number] = listener
        for id_ in ids:
            self._of_things.setdefault((sort, id_), {})[number] = listener

        def leave() -> None:
            self._all[sort].pop(number, None)
            for id_ in ids:
                found = self._of_things.get((sort, id_), {})
                found.pop(number, None)
                if not found:
                    self._of_things.pop((sort, id_), None)

        return leave

    def handed(
        self, signal: LiveSignal, held: Held, permits_of: PermitsOf, now: Micros
    ) -> list[tuple[Listener, LiveSignal]]:
        """Who gets the signal, and what of it; whoever sent it does not. May raise Lacking."""
        found: list[tuple[Listener, LiveSignal]] = []
        seen: dict[tuple[str, ...], LiveSignal | None] = {}
        for listener in self._concerned(signal):
            subjects = listener.wanted.subjects
            if subjects is None:
                found.append((listener, signal))
                continue
            permits = permits_of(subjects)
            if permits is None:
                continue
            if subjects not in seen:
                seen[subjects] = shown(signal, permits)
            told = seen[subjects]
            if told is not None:
                told = _completed(told, listener.wanted, held, permits, now)
            if told is not None:
                found.append((listener, told))
        return found

    def _concerned(self, signal: LiveSignal) -> Iterator[Listener]:
        """Those who want signals about the thing, there, and are not the sender."""
        namespace, path = split_id(signal.id)[0], signal.path
        for listeners in (self._all[signal.sort], self._of_things.get((signal.sort, signal.id), {})):
            for listener in listeners.values():
                wanted = listener.wanted
                if (
                    not (listener.session and listener.session == signal.origin)
                    and path[: len(wanted.path)] == wanted.path
                    and (not wanted.namespaces or namespace in wanted.namespaces)
                    and (wanted.reach is None or wanted.reach.covers("thing", namespace))
                ):
                    yield listener


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


def _completed(signal: LiveSignal, wanted: LiveWanted, held: Held, permits: Permits, now: Micros) -> LiveSignal | None:
    """The signal with the extra fields that are wanted; None where the filter leaves it out."""
    extra = UNSET
    if wanted.extra is not None:
        extra = views.extra_of(signal_filter.as_event(signal), held, permits, wanted.extra)
    if wanted.filter is not None and not signal_filter.matches(wanted.filter, signal, extra, now):
        return None
    return signal if extra is UNSET else structs.replace(signal, extra=extra)
