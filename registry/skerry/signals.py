"""What moves: commands in, responses and events out; and what the store holds of an entity.

Times are integers, microseconds since 1970-01-01T00:00:00Z. Paths are tuples of JSON-pointer segments, unescaped:
`()` is the whole entity, `("features", "f", "properties", "power")` a property.

Nothing in here ever leads back to itself, so that the garbage collector need not look (`gc=False`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType, field

from skerry.errors import SkerryError

Json: TypeAlias = Any
Path: TypeAlias = tuple[str, ...]
Micros: TypeAlias = int

Kind: TypeAlias = Literal["thing", "policy"]
Verb: TypeAlias = Literal["create", "retrieve", "modify", "merge", "delete", "migrate"]
Action: TypeAlias = Literal["created", "modified", "merged", "deleted", "migrated"]
PATCHES: frozenset[Action] = frozenset({"merged", "migrated"})
"""Actions whose events carry a merge patch."""


class Command(Struct, frozen=True, kw_only=True, gc=False):
    """What somebody wants done with one entity.

    `subjects`: who asks, the first being the default subject. `headers`: lower-case Ditto header names to text, as they
    came in (if-match, condition, put-metadata, correlation-id ...). `observed`: when the device saw the values of a
    telemetry change. `digest`: 64 bits that identify one delivery (see `Registry`); `redelivered`: the broker marked it so.
    `topic`: the Ditto Protocol topic it came with, which its response repeats. A read's field selector is the header `fields`.
    `origin`: from where it came, for the audit trail: `http 10.0.0.7`, `mqtt client-7 10.0.0.7`; empty leaves no trace.
    """

    verb: Verb
    id: str
    subjects: tuple[str, ...]
    kind: Kind = "thing"
    path: Path = ()
    value: Json | UnsetType = UNSET
    headers: dict[str, str] = field(default_factory=dict)
    observed: Micros | None = None
    digest: int | None = None
    redelivered: bool = False
    topic: str | None = None
    origin: str = ""


class By(Struct, frozen=True, array_like=True):
    """Who made a change: the default subject, from where, and under which policy and revision it had the right to.

    Without an `origin` it is not for the audit trail: it says under which policy a thing was when it was deleted.
    """

    subject: str
    origin: str
    policy_id: str = ""
    policy_revision: int = 0


class Event(Struct, kw_only=True, omit_defaults=True, gc=False):
    """One change of one entity, as the journal keeps it; `number` is its global place there, set once by the append.

    `value`: the new value at `path` (created, modified), the merge patch (merged, migrated), nothing (deleted). `late`: telemetry
    older than what the twin shows already, a patch at `path` that history takes and the twin does not. `metadata`: the
    whole new `_metadata` of the thing where the change touched it. `by`: never told; not of telemetry.
    """

    kind: Kind
    id: str
    action: Action
    revision: int
    timestamp: Micros
    path: Path = ()
    value: Json | UnsetType = UNSET
    headers: dict[str, str] = field(default_factory=dict)
    observed: Micros | None = None
    late: Json | UnsetType = UNSET
    digest: int | None = None
    metadata: Json | UnsetType = UNSET
    by: By | None = None
    number: int = 0


class Held(Struct, frozen=True, kw_only=True, eq=False, gc=False):
    """What is known of one entity: its document (None: never made, or deleted), revision and times.

    Documents are never changed in place: `apply` copies along the changed path and shares the rest. `observed`: feature
    id -> top-level property -> the device time of the value shown (only where telemetry brought one). `gone`: the newest
    device time of values that are no longer shown, for their messages may come again. `earlier`: another thing had the id
    before, and was deleted. `size`: an upper bound of the
    document's bytes as JSON (0: not measured), `slack` what was added to it since it was measured; both are a memory of
    `apply` that stores need not keep and that equality passes over.
    """

    kind: Kind
    id: str
    document: dict[str, Any] | None = None
    revision: int = 0
    number: int = 0
    created: Micros = 0
    modified: Micros = 0
    metadata: Json | None = None
    observed: dict[str, dict[str, Micros]] = field(default_factory=dict)
    gone: Micros = 0
    earlier: bool = False
    size: int = 0
    slack: int = 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Held):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _KEPT)

    __hash__ = None  # type: ignore[assignment] # it holds dicts


_KEPT = tuple(name for name in Held.__struct_fields__ if name not in {"size", "slack"})


class Response(Struct, frozen=True, kw_only=True, gc=False):
    """The answer to one command. `value` is UNSET for an empty body (204). `etag` includes its quotes."""

    status: int
    value: Json | UnsetType = UNSET
    etag: str | None = None
    revision: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Decision(Struct, frozen=True, kw_only=True, gc=False):
    """What a command comes to: the answer, and the event that must be durable before it is given (None: no change).

    `after`: the state that applying the event makes, where the decision came upon it anyway.
    """

    response: Response
    event: Event | None = None
    after: Held | None = None


Clock: TypeAlias = Callable[[], Micros]
NewId: TypeAlias = Callable[[], str]
Handle: TypeAlias = Callable[[Sequence[Command]], Awaitable[list[Response | SkerryError]]]
"""The one door, for many commands at once: each stands alone, all share one group commit; answers in order."""
