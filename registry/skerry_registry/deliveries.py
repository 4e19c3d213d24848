"""Which deliveries have been taken in already: an at-least-once broker's repetitions must change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skerry.signals import Command, Held, Micros
    from skerry_registry.heads import Commit

Mark: TypeAlias = "tuple[Micros, int] | int"
"""(observed, digest) of telemetry with a time of its own; the digest alone without."""


class Deliveries:
    """The newest deliveries in memory: those being committed with their commit, durable ones without.

    The oldest go when there are a sixteenth more than `limit`, many at a time: finding them means passing by all that went before.
    """

    def __init__(self, limit: int = 65_536) -> None:
        self._limit = limit
        self._known: dict[Mark, Commit | None] = {}

    def refill(self, digests: Iterable[int]) -> None:
        """Remember what the store has, oldest first (at the start)."""
        self._known.update(dict.fromkeys(digests))

    def knows(self, mark: Mark) -> bool:
        """Whether it was taken in, as far as memory reaches."""
        return mark in self._known

    def commit_of(self, mark: Mark) -> Commit | None:
        """The commit that a known delivery still waits for."""
        return self._known[mark]

    def begin(self, mark: Mark, commit: Commit) -> None:
        """It is part of this commit."""
        self._known[mark] = commit
        commit.keys.append(mark)

    def settle(self, commit: Commit) -> None:
        """The commit is durable."""
        known = self._known
        for mark in commit.keys:
            known[mark] = None
        surplus = len(known) - self._limit
        if surplus > self._limit // 16:
            oldest = [mark for mark, _ in zip(known, range(surplus), strict=False)]
            for mark in oldest:
                if known[mark] is None:
                    del known[mark]

    def drop(self, commit: Commit) -> None:
        """The commit failed: none of it was taken in."""
        for mark in commit.keys:
            if self._known.get(mark) is commit:
                del self._known[mark]


def is_behind(held: Held, command: Command) -> bool:
    """Whether the twin shows, or has shown, values that are as new or newer, so that the command may be a repetition."""
    observed = command.observed
    if observed is None or len(command.path) < 2:
        return False
    if held.gone >= observed:
        return True
    times = held.observed.get(command.path[1])
    return times is not None and max(times.values(), default=observed - 1) >= observed
