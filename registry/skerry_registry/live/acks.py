# ruff: noqa: N818 - errors are rows of a table
"""Acknowledgements: who has declared which, who waits for which, and what was given (ditto.md 1.6, 2.2)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import UNSET

from skerry.acks import OURS, WEAK
from skerry.errors import SkerryError
from skerry.headers import check_label, requested_acks
from skerry.protocol import Ack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skerry_registry.announcements import Announcements
    from skerry_registry.heads import Commit
    from skerry_registry.live.sender import Sender

Key = tuple[str, str]
"""Thing id, correlation id."""

NOT_FOR_YOU = (
    "Given by the server, as a weak acknowledgement: the session that declared the label was not handed the signal, because "
    "it has not subscribed to such signals, its filter left it out, or no policy lets it read any of it."
)


class AckLabelsTaken(SkerryError):
    """Labels of acknowledgements that another session has declared."""

    code = "acknowledgement:label.not.unique"
    status = 409
    message = "Another session has declared the acknowledgement '{label}'."
    description = "Choose another label, or end that session first. No label of this session counts as declared."


class AckLabelNotDeclared(SkerryError):
    """An acknowledgement whose label the sender has not declared."""

    code = "acknowledgement:label.not.declared"
    status = 400
    message = "You cannot give the acknowledgement '{label}', for you have not declared it."
    description = "Open the session with the label in declared-acks, in the query of the address or in a header."


class AckLabelForbidden(SkerryError):
    """An acknowledgement that only the server itself gives."""

    code = "acknowledgement:ditto.acklabel.forbidden"
    status = 400
    message = "The acknowledgement '{label}' is given by the server alone."
    description = "Give those that you have declared; a live-response is given by answering."


class AcknowledgementTimeout(SkerryError):
    """An acknowledgement that nobody gave in time."""

    code = "acknowledgement:request.timeout"
    status = 408
    message = "The acknowledgement '{label}' was not given within {seconds} seconds."
    description = (
        "Check the label and whether somebody who has declared it listens, or wait longer by the header timeout."
    )


class Waiting:
    """One who waits for the acknowledgements of one signal.

    `given`: those that came, by label; `pending`: the labels of the others; `reached`: it is known who was handed the signal;
    `committed`: the command has made an event.
    """

    __slots__ = ("_done", "_key", "_origin", "committed", "given", "pending", "reached")

    def __init__(self, key: Key, labels: Collection[str], origin: str) -> None:
        self._key = key
        self._origin = origin
        self.pending = dict.fromkeys(labels)
        self.reached = False
        self._done: asyncio.Future[None] | None = None
        self.committed = False
        self.given: dict[str, Ack] = {}

    async def gather(self, seconds: float, *, of: float | None = None) -> dict[str, Ack]:
        """Wait until all were given or the time is up; who was silent is told of with 408. Empty where none was asked for.

        `of`: the whole time that the caller gave, of which these seconds are left.
        """
        labels = [*self.given, *self.pending]
        if self.pending:
            self._done = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(seconds):
                    await self._done
            except TimeoutError:
                pass
        return {label: self.given.get(label) or self.timed_out(label, of or seconds) for label in labels}

    def timed_out(self, label: str, seconds: float) -> Ack:
        """What stands for an acknowledgement that did not come."""
        error = AcknowledgementTimeout(label=label, seconds=f"{seconds:g}")
        return Ack(
            id=self._key[0],
            label=label,
            status=error.status,
            value=error.payload(),
            headers={"correlation-id": self._key[1], "response-required": "false"},
        )

    def not_sent(self, owners: Mapping[str, str]) -> None:
        """There was no signal after all: whoever has declared a label cannot give it."""
        if not self.reached:
            self.reach((), owners)

    def reach(self, sessions: Collection[str], owners: Mapping[str, str]) -> None:
        """The signal went to these sessions; `owners`: label to the session that declared it."""
        self.reached = True
        for label in list(self.pending):
            owner = owners.get(label)
            if owner is not None and owner != self._origin and owner not in sessions:
                self.take(_weak(self._key, label))

    def take(self, ack: Ack) -> None:
        """Take one in that is awaited."""
        assert ack.label is not None
        del self.pending[ack.label]
        self.given[ack.label] = ack
        if not self.pending and self._done is not None and not self._done.done():
            self._done.set_result(None)


class Acks:
    """The acknowledgements of one server. Labels that a session declares are its own among all sessions."""

    def __init__(self, announcements: Announcements | None = None) -> None:
        """`announcements` are acknowledged too."""
        self._announcements = announcements
        self._owners: dict[str, str] = {}
        self._declared: dict[str, list[str]] = {}
        self._behind: Counter[str] = Counter()
        self._waiting: dict[Key, list[Waiting]] = {}

    @property
    def awaited(self) -> bool:
        """Whether anybody waits at all."""
        return bool(self._waiting)

    def declare(self, session: str, labels: Collection[str]) -> None:
        """Let a session (its sender's origin) give these labels. Raises AckLabelsTaken, AckLabelInvalid; then none is declared."""
        for label in labels:
            check_label(label)
            if self._owners.get(label, session) != session:
                raise AckLabelsTaken(label=label)
        own = [label for label in labels if label not in OURS]
        self._owners.update((label, session) for label in own)
        self._declared.setdefault(session, []).extend(own)

    def withdraw(self, session: str) -> None:
        """The session has ended."""
        for label in self._declared.pop(session, ()):
            self._owners.pop(label, None)

    def shown(self, session: str, headers: Mapping[str, str]) -> tuple[str, ...]:
        """Which of the acknowledgements that a signal asks for a session is told of: those it has declared."""
        owners = self._owners
        asked = headers.get("requested-acks") if owners else None
        if not asked:
            return ()
        return tuple(label for label in requested_acks(asked) if owners.get(label) == session)

    def give(self, ack: Ack, sender: Sender) -> None:
        """Take an acknowledgement in; one that nobody waits for is let go of.

        Raises AckLabelForbidden, and AckLabelNotDeclared; a sender who cannot declare any may give labels that nobody has.
        """
        label = ack.label
        if label is None:
            return
        check_label(label)
        if label in OURS:
            raise AckLabelForbidden(label=label)
        owner = self._owners.get(label)
        if owner != sender.origin and (sender.declares or owner is not None):
            raise AckLabelNotDeclared(label=label)
        correlation = ack.headers.get("correlation-id")
        if correlation is None:
            return
        for waiting in self._waiting.get((ack.id, correlation), ()):
            if label in waiting.pending:
                waiting.take(_kept(ack))
                return
        if self._announcements is not None:
            self._announcements.acknowledge(correlation, label, ack.status)

    @contextmanager
    def expecting(
        self,
        id: str,  # noqa: A002 - the model's word
        correlation_id: str,
        labels: Collection[str],
        *,
        origin: str = "",
    ) -> Iterator[Waiting]:
        """Wait for these labels (those that the server gives itself are passed over) of a signal that is sent inside the block.

        `origin`: of who asks.
        """
        key = (id, correlation_id)
        waiting = Waiting(key, [label for label in labels if label not in OURS], origin)
        if not waiting.pending:
            yield waiting
            return
        self._waiting.setdefault(key, []).append(waiting)
        try:
            yield waiting
        finally:
            waitings = self._waiting[key]
            waitings.remove(waiting)
            if not waitings:
                del self._waiting[key]

    def reached(self, id: str, headers: Mapping[str, str], sessions: Collection[str]) -> None:  # noqa: A002
        """A signal with these headers went to these sessions, by their origins, and to nobody else who could have declared a label.

        For each that is sent while `awaited`, also where it went to none: a label whose session is not among them is given weakly.
        """
        for waiting in self._waiting.get((id, headers.get("correlation-id", "")), ()):
            if not waiting.reached:
                waiting.reach({*sessions, *self._behind} if self._behind else sessions, self._owners)
                return

    @contextmanager
    def behind(self, session: str) -> Iterator[None]:
        """A session is told what it has missed: inside the block it may yet be told of what happens, so nothing is given for it."""
        self._behind[session] += 1
        try:
            yield
        finally:
            self._behind[session] -= 1
            if not self._behind[session]:
                del self._behind[session]

    def settled(self, commit: Commit) -> None:
        """Note which of the commands that somebody waits for have made an event."""
        if not self._waiting:
            return
        for event in commit.events:
            for waiting in self._waiting.get((event.id, event.headers.get("correlation-id", "")), ()):
                if not waiting.committed:
                    waiting.committed = True
                    if event.late is not UNSET:
                        waiting.not_sent(self._owners)
                    break

    def answered(self, waiting: Waiting) -> None:
        """The command that somebody waits for was answered: where it made no event, nobody can acknowledge that."""
        if not waiting.committed:
            waiting.not_sent(self._owners)


def _weak(key: Key, label: str) -> Ack:
    """What the server says in place of a session that was not handed the signal."""
    headers = {"correlation-id": key[1], "response-required": "false", WEAK: "true"}
    return Ack(id=key[0], label=label, status=200, value=NOT_FOR_YOU, headers=headers)


def _kept(ack: Ack) -> Ack:
    """As it is told on: it asks for no answer."""
    return Ack(
        id=ack.id,
        label=ack.label,
        status=ack.status,
        value=ack.value,
        headers=ack.headers | {"response-required": "false"},
    )
