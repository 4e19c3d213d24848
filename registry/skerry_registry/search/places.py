"""Where values are: slots sorted by value once, for columns that change little and are asked for equality often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMBER = 4
"""The code of numbers in columns."""
EAGER = 8
"""Equality asked so often makes places by value worth their while."""


class Places:
    """Slots in the order of their values as they were once, and those changed since.

    Made when they are `wanted`: `begin`, then sort a copy (in any thread), then `take`.
    """

    def __init__(self) -> None:
        self.wanted = False
        self.following = False
        self.changed: set[int] = set()
        self._sorted: Sorted | None = None
        self._begun = 0
        self._asked = 0
        self._dropped = 0

    def drop(self) -> None:
        """Forget it."""
        self._sorted = None
        self.following = False
        self.changed = set()

    def begin(self) -> int:
        """They will be sorted soon: from now on changes are noted. Answers what `take` wants to know."""
        self.wanted = False
        self._begun += 1
        self.following = True
        self.changed = set()
        return self._begun

    def take(self, found: Sorted, begun: int) -> None:
        """Use what was sorted, unless it was given up meanwhile."""
        if self.following and begun == self._begun:
            self._sorted = found

    def find(self, total: int, code: int, number: float | None) -> NDArray[np.int64] | None:
        """Slots among which are all with this code (and number); None while that is not known."""
        if self.following and len(self.changed) > 500 + total // 100:
            self.drop()
            self._dropped += 1
            self._asked = 0
        if self._sorted is None:
            self._asked += 1
            self.wanted = not self.following and self._asked >= EAGER << min(2 * self._dropped, 20)
            return None
        found = self._sorted.find(code, number)
        if self.changed:
            found = np.union1d(found, np.fromiter(self.changed, np.int64, len(self.changed)))
        return found


class Sorted:
    """Slots by code and number."""

    def __init__(self, codes: NDArray[np.int32], numbers: NDArray[np.float64]) -> None:
        self._slots = np.lexsort((numbers, codes))
        ordered = codes[self._slots]
        # By code: where it begins; one more, where the last one ends.
        self._firsts: NDArray[np.int64] = np.searchsorted(ordered, np.arange(int(ordered[-1]) + 2, dtype=np.int32))
        first, last = self._range(NUMBER)
        self._numbers = numbers[self._slots[first:last]]

    def find(self, code: int, number: float | None) -> NDArray[np.int64]:
        """The slots with this code and number."""
        first, last = self._range(code)
        if number is not None:
            wanted = as_float(number)
            last = first + int(self._numbers.searchsorted(wanted, "right"))
            first += int(self._numbers.searchsorted(wanted))
        return self._slots[first:last]

    def _range(self, code: int) -> tuple[int, int]:
        """Where a code begins and ends; nowhere, where no slot has it."""
        firsts = self._firsts
        return (firsts.item(code), firsts.item(code + 1)) if 0 <= code < len(firsts) - 1 else (0, 0)


def as_float(number: float) -> float:
    """The nearest float; infinite beyond the largest."""
    try:
        return float(number)
    except OverflowError:
        return np.inf if number > 0 else -np.inf
