# ruff: noqa: N818 - errors are rows of a table
"""One call of `handle_all` on its way: its commands, answers, commits, and what it still lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skerry.errors import SkerryError
    from skerry.signals import Command, Response
    from skerry_registry.heads import Commit, Entry, Key


class Lacking(Exception):
    """The decision needs entities or knowledge of deliveries that only the store has."""

    def __init__(self, keys: Iterable[Key] = (), *, deliveries: bool = False) -> None:
        super().__init__()
        self.keys = set(keys)
        self.deliveries = deliveries


class Run:
    """The state of one call; `next` is the first command without an answer."""

    __slots__ = ("answers", "changed", "commands", "commit", "depends", "fetched", "next", "pinned", "seen", "tries")

    def __init__(self, commands: Sequence[Command], *, tries: int = 0) -> None:
        self.commands = commands
        self.tries = tries
        self.answers: list[Response | SkerryError] = []
        self.next = 0
        self.fetched = False  # whether everything that can be foreseen was asked for
        self.commit: Commit | None = None  # being filled, not yet handed to the journal
        self.depends: dict[Commit, list[int]] = {}  # answers that hold only if the commit succeeds
        self.changed: set[Key] = set()
        self.pinned: list[Entry] = []
        self.seen: dict[tuple[int, int], bool] = {}

    def depend(self, commit: Commit | None) -> None:
        """The answer to the current command holds only when the commit does."""
        if commit is not None:
            self.depends.setdefault(commit, []).append(self.next)
