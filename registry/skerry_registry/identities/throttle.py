"""How often somebody may fail: a burst at first, then one try after the other, so that nobody is locked out for good."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

from skerry_registry.identities.bounded import keep

KEPT = 10_000


class Throttle:
    """A bucket of tries for each key; it fills up again with time. The oldest of too many keys are forgotten."""

    def __init__(
        self, burst: int, per_second: float, *, clock: Callable[[], float] = time.monotonic, kept: int = KEPT
    ) -> None:
        """`burst` tries at once, then `per_second`; `clock` counts seconds."""
        self._burst = float(burst)
        self._rate = per_second
        self._clock = clock
        self._kept = kept
        self._buckets: dict[Hashable, tuple[float, float]] = {}

    def take(self, key: Hashable) -> bool:
        """Take a try; False when there is none left."""
        left, now = self._left(key)
        if left < 1:
            return False
        keep(self._buckets, key, (left - 1, now), self._kept)
        return True

    def give_back(self, key: Hashable) -> None:
        """Give a try back that did not fail."""
        left, now = self._left(key)
        if left + 1 >= self._burst:
            self._buckets.pop(key, None)
        else:
            self._buckets[key] = (left + 1, now)

    def forget(self, key: Hashable) -> None:
        """Fill a key's bucket."""
        self._buckets.pop(key, None)

    @property
    def patience(self) -> int:
        """Seconds until the next try of one who has none left."""
        return max(1, round(1 / self._rate))

    def _left(self, key: Hashable) -> tuple[float, float]:
        now = self._clock()
        left, since = self._buckets.get(key, (self._burst, now))
        return min(self._burst, left + (now - since) * self._rate), now
