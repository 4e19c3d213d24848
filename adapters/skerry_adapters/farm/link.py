"""The radio between turbines and broker, as bad as real ones: outages with a burst of late records, duplicates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import numpy as np
from msgspec import Struct

How: TypeAlias = Literal["onTime", "late", "duplicate"]
_KEPT = 3600


class Sending(Struct, frozen=True):
    """One message that goes out: whose, what, and whether it is late or a duplicate."""

    turbine: int
    record: bytes
    how: How


class Link:
    """Each turbine's link fails now and then; what it measures meanwhile goes out when the link is back (the last hour of it)."""

    def __init__(
        self, count: int, rng: np.random.Generator, *, outages_per_day: float, outage: float, duplicates: float
    ) -> None:
        self._rng = rng
        self._rate = outages_per_day / 86_400.0
        self._outage = outage
        self._duplicates = duplicates
        self._down = np.zeros(count)
        self._waiting: dict[int, list[bytes]] = {}

    def carry(self, records: Sequence[bytes], dt: float) -> Iterator[Sending]:
        """What goes out at this step, in order."""
        count = len(records)
        luck, lasts, twice = (
            self._rng.random(count),
            self._rng.exponential(self._outage, count),
            self._rng.random(count),
        )
        self._down = np.maximum(self._down - dt, 0.0)
        fails = (self._down == 0.0) & (luck < -math.expm1(-self._rate * dt))
        self._down[fails] = lasts[fails]
        down, again = (self._down > 0.0).tolist(), (twice < self._duplicates).tolist()
        for turbine, record in enumerate(records):
            if down[turbine]:
                kept = self._waiting.setdefault(turbine, [])
                kept.append(record)
                del kept[:-_KEPT]
                continue
            for late in self._waiting.pop(turbine, ()):
                yield Sending(turbine, late, "late")
            yield Sending(turbine, record, "onTime")
            if again[turbine]:
                yield Sending(turbine, record, "duplicate")

    def flush(self) -> Iterator[Sending]:
        """What still waits, at the end."""
        for turbine, kept in sorted(self._waiting.items()):
            for late in kept:
                yield Sending(turbine, late, "late")
        self._waiting.clear()
