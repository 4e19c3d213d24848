"""What a series store does, whichever it is, and the words it speaks in."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
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


class Samples:
    """Samples in the order in which they came, as columns; iterate over them to have them one by one.

    A run is what one change has set: its samples share what `things`, `times` and `learned` have of it; `pointers` has the
    paths of all of them. `numbers` is by sample: booleans are 0 and 1 there and texts 0, their values in `others`, by place.
    """

    __slots__ = ("learned", "numbers", "others", "pointers", "things", "times")

    def __init__(self) -> None:
        self.things: list[str] = []
        self.times: array[int] = array("q")
        self.learned: array[int] = array("q")
        self.pointers: list[tuple[str, ...]] = []
        self.numbers: array[float] = array("d")
        self.others: dict[int, bool | str] = {}

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Self:
        """The columns of samples, each a run of its own."""
        made = cls()
        for sample in samples:
            made.add(sample.thing, sample.time, sample.learned, (sample.path,), (sample.value,))
        return made

    def add(
        self, thing: str, time: Micros, learned: Micros, pointers: tuple[str, ...], values: Sequence[Value]
    ) -> None:
        """Add a run, one value for each pointer."""
        self.things.append(thing)
        self.times.append(time)
        self.learned.append(learned)
        self.pointers.append(pointers)
        for value in values:
            if isinstance(value, bool | str):
                self.others[len(self.numbers)] = value
            self.numbers.append(0.0 if isinstance(value, str) else value)

    def extend(self, samples: Samples) -> None:
        """Add all of these."""
        place = len(self.numbers)
        self.others.update((place + at, value) for at, value in samples.others.items())
        self.things += samples.things
        self.times += samples.times
        self.learned += samples.learned
        self.pointers += samples.pointers
        self.numbers += samples.numbers

    def runs(self) -> Iterator[tuple[str, Micros, Micros, tuple[str, ...]]]:
        """Thing, time, time of learning and pointers of every run."""
        return zip(self.things, self.times, self.learned, self.pointers, strict=True)

    def values(self) -> Iterator[Value]:
        """The value of every sample; all numbers are floats."""
        others = self.others
        if not others:
            return iter(self.numbers)
        return (others.get(place, number) for place, number in enumerate(self.numbers))

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Sample]:
        values = self.values()
        for thing, time, learned, pointers in self.runs():
            for pointer in pointers:
                yield Sample(thing, pointer, time, learned, next(values))


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

    async def write(self, samples: Samples, upto: int) -> None:
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
