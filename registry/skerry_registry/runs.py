# ruff: noqa: N818 - errors are rows of a table
"""One call of `handle_all` on its way: its commands, answers, commits, and what it still lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from skerry.errors import SkerryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skerry.signals import Command, Held, Response
    from skerry_registry.heads import Commit, Entry, Key


class Lacking(Exception):
    """The decision needs entities or knowledge of deliveries that only the store has."""

    def __init__(self, keys: Iterable[Key] = (), *, deliveries: bool = False) -> None:
        super().__init__()
        self.keys = set(keys)
        self.deliveries = deliveries


class NotDone(SkerryError):
    """A command that could have been carried out, had the others not been refused."""

    code = "bulk:row.notdone"
    status = 424
    message = "Nothing was done, because other rows of the same atomic request were refused."
    description = "See the answers of the other rows; correct them and send all of them again."


class Run:
    """The state of one call; `next` is the first command without an answer.

    `way`: each command for itself; all of them together or none; or all tried and undone (a rehearsal).
    """

    __slots__ = (
        *("answers", "changed", "commands", "commit", "depends", "fetched", "next", "pinned", "seen", "tries"),
        *("undo", "way"),
    )

    def __init__(
        self, commands: Sequence[Command], *, tries: int = 0, way: Literal["each", "together", "rehearsed"] = "each"
    ) -> None:
        self.commands = commands
        self.tries = tries
        self.way = way
        self.undo: list[tuple[Entry, Held, Commit | None]] | None = None if way == "each" else []
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

    def take_back(self) -> Commit | None:
        """Undo what was decided and not handed on, as if it had never been; answers the commit that came to nothing.

        Only right as long as nobody else has decided anything meanwhile: within one turn of the loop.
        """
        commit, self.commit = self.commit, None
        while self.undo:
            entry, head, before = self.undo.pop()
            entry.head, entry.commit = head, before
        if commit is not None:
            self.depends.pop(commit, None)
        self.changed.clear()
        return commit

    def begin_again(self) -> None:
        """Forget every answer."""
        self.answers.clear()
        self.depends.clear()
        self.next = 0
