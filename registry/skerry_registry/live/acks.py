"""Acknowledgements: who has declared which, who waits for which, and what was given (ditto.md 1.6, 2.2)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skerry.protocol import Ack
    from skerry_registry.live.sender import Sender


class Acks:
    """The acknowledgements of one server. Labels that a session declares are its own among all sessions."""

    def declare(self, session: str, labels: Collection[str]) -> None:
        """Let a session (its sender's origin) give these labels. Raises AckLabelsTaken, AckLabelInvalid; then none is declared."""

    def withdraw(self, session: str) -> None:
        """The session has ended."""

    def give(self, ack: Ack, sender: Sender) -> None:
        """Take an acknowledgement in. Raises AckLabelNotDeclared; one that nobody waits for is let go of."""
