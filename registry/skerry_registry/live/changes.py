"""Changes of things told to those who want them: at once while they listen, from the journal when they come back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from skerry.signals import Event, Held, Json, Path

if TYPE_CHECKING:
    from skerry.fields import Selector
    from skerry.rql.predicate import Predicate
    from skerry_registry.identities.namespaces import Reach
    from skerry_registry.live.acks import Acks
    from skerry_registry.live.sender import Leave
    from skerry_registry.registry import Registry


class Wanted(Struct, frozen=True, kw_only=True):
    """What a subscriber wants to be told of.

    `subjects`, `reach`: who listens. `namespaces`, `ids`: only these (empty: all). `path`: only changes at, above or below
    it. `filter`: on the changed value, the extra fields and `topic:action`, `resource:path` ... `extra`: what else of the
    thing is told with each change.
    """

    subjects: tuple[str, ...]
    reach: Reach | None = None
    namespaces: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    path: Path = ()
    filter: Predicate | None = None
    extra: Selector | None = None


class Told:
    """One change as one view of it is told; shared by all who have the same view, so do not change it.

    `value`: what of the new value (of the patch) may be read; `extra`: the extra fields, likewise; `held`: the thing after
    the commit.
    """

    __slots__ = ("_text", "event", "extra", "held", "value")

    def __init__(self, event: Event, value: Json | UnsetType, extra: Json | UnsetType, held: Held) -> None:
        self.event = event
        self.value = value
        self.extra = extra
        self.held = held
        self._text: bytes | None = None

    @property
    def number(self) -> int:
        """Its place in the journal."""
        return self.event.number

    @property
    def text(self) -> bytes:
        """The envelope as JSON, made once."""
        raise NotImplementedError

    def envelope(self) -> dict[str, Any]:
        """The envelope of the Ditto Protocol."""
        raise NotImplementedError


Take: TypeAlias = Callable[[Told], None]
"""Takes a change over at once, or lets it go: it must neither wait nor raise."""
Room: TypeAlias = Callable[[], Awaitable[None]]
"""Returns when the subscriber can take more."""


class Changes:
    """The changes of one registry's things. `settled` costs next to nothing while nobody listens."""

    def __init__(self, registry: Registry, acks: Acks) -> None:
        """Listens to the registry's commits from now on."""
        self._registry = registry
        self._acks = acks

    def subscribe(self, wanted: Wanted, take: Take, *, session: str = "") -> Leave:
        """Tell from now on what is wanted and may be read, in the order of the journal.

        `session`: the origin of a session, which is not told what it has caused itself.
        """
        raise NotImplementedError

    async def resume(self, wanted: Wanted, after: int, take: Take, room: Room, *, session: str = "") -> Leave:
        """First tell what came after that number, a page at a time whenever there is `room`, then subscribe; no gap, no double.

        Raises EventsForgotten when the journal does not reach back that far.
        """
        raise NotImplementedError

    async def read(self, wanted: Wanted, after: int, limit: int) -> tuple[list[Told], int]:
        """At most `limit` changes after that number, and from which number to go on. Raises EventsForgotten."""
        raise NotImplementedError

    async def wait(self, wanted: Wanted, after: int, seconds: float) -> None:
        """Return when there may be a change after that number, or the time is up."""
        raise NotImplementedError


NOTHING = UNSET
"""What is told of a value of which nothing may be read: no event at all."""
