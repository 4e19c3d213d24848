"""What a series store does, whichever it is, and the words it speaks in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeAlias, runtime_checkable

from msgspec import Struct

from skerry.errors import SkerryError
from skerry.signals import Micros

Value: TypeAlias = float | int | bool | str
Aggregate: TypeAlias = Literal[
    "avg", "min", "max", "sum", "count", "first", "last", "stddev", "percentile", "derivative", "rate", "integral"
]
Fill: TypeAlias = Literal["null", "previous", "zero", "linear"]


class SeriesUnavailable(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """The series store is away or full; nothing is lost, the journal keeps what it has not taken."""

    code = "timeseries:series.unavailable"
    status = 503
    message = "The series store does not answer: {reason}"
    description = "Nothing is lost: samples are stored as soon as it is back. Try again; the operator sees /health."

    def payload(self) -> dict[str, Any]:
        """The error without its reason, which names files and addresses: that is for the operator's eyes."""
        return {**super().payload(), "message": "The series store does not answer."}


class Sample(Struct, frozen=True, gc=False):
    """One value at one time: what a device saw at `time` (and we learned at `learned`). `path`: JSON pointer text."""

    thing: str
    path: str
    time: Micros
    learned: Micros
    value: Value


class Query(Struct, frozen=True, kw_only=True):
    """One property's samples with start <= time < end; raw where `step` is None, else one row per step, from `start` on.

    `learned`: only samples that we learned of then or later. `after`: continue behind this position (opaque text from the previous page). `limit`: rows per page. `percentile`: 0
    to 100, with that `agg`. `windows` says what derivative, rate, integral and percentile are.
    """

    thing: str
    path: str
    start: Micros
    end: Micros
    step: Micros | None = None
    learned: Micros | None = None
    agg: Aggregate = "avg"
    percentile: float | None = None
    fill: Fill | None = None
    limit: int = 1000
    after: str | None = None
    order: Literal["asc", "desc"] = "asc"
    tz: str = "UTC"


class Page(Struct, frozen=True, kw_only=True):
    """Rows (time, value; None where a step is empty and `fill` says so) and where the next page starts."""

    rows: Sequence[tuple[Micros, Value | None]]
    next: str | None = None


@runtime_checkable
class Copied(Protocol):
    """A series store in a file of its own, of which copies can be made."""

    async def copy(self, path: Path) -> None:
        """A copy of all that is durable."""
        ...


class Series(Protocol):
    """A store of samples. Entering opens, leaving closes. One contract suite runs on every implementation."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def write(self, samples: Sequence[Sample], upto: int) -> None:
        """Store the samples durably, and that every event numbered <= `upto` is in. The same sample twice counts once."""
        ...

    async def cursor(self) -> int:
        """The `upto` of the last durable write; 0 at first."""
        ...

    async def query(self, query: Query) -> Page:
        """Answer one property's page. Raises SeriesUnavailable (503) when the store is away."""
        ...

    async def trim(self, before: Micros) -> None:
        """Forget samples that were learned < `before`: a recording of years ago, replayed today, is kept as long as others."""
        ...
