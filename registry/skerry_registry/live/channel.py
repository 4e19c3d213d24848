"""The live channel: messages, live commands and live events to whoever listens, and the first answer back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct, field

from skerry.live import LiveSignal, Sort
from skerry.protocol import Ack
from skerry.signals import Path

if TYPE_CHECKING:
    from skerry.fields import Selector
    from skerry.rql.predicate import Predicate
    from skerry_registry.identities.namespaces import Reach
    from skerry_registry.live.acks import Acks
    from skerry_registry.live.sender import Leave, Sender
    from skerry_registry.registry import Registry


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


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of a signal: the first answer (None: none was wanted), and the acknowledgements that were asked for."""

    answer: LiveSignal | None = None
    acks: dict[str, Ack] = field(default_factory=dict)


class Live:
    """The live channel of one server."""

    def __init__(self, registry: Registry, acks: Acks) -> None:
        """`registry` knows things and rights."""
        self._registry = registry
        self._acks = acks

    def subscribe(self, wanted: LiveWanted, take: Take, *, session: str = "") -> Leave:
        """Hand over from now on what is wanted and may be read. `session`: which does not get what it sends itself."""
        raise NotImplementedError

    async def send(
        self, signal: LiveSignal, sender: Sender, *, seconds: float, labels: tuple[str, ...] = ("live-response",)
    ) -> Outcome:
        """Check the sender's right, hand the signal to all who listen, wait for the answer and other acknowledgements in `labels`.

        `seconds` of 0 waits for nothing. Raises MessageNotAllowed, ThingNotAccessible ..., and LiveTimeout for an answer
        that did not come.
        """
        raise NotImplementedError

    def answer(self, signal: LiveSignal, sender: Sender) -> bool:
        """Take the answer to a signal that somebody waits for; whether anybody did. The first one counts.

        Raises what a sender without the right to answer is told.
        """
        raise NotImplementedError
