"""Things by number: which places of the index's arrays are theirs, and where each stands in the order of ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sortedcontainers import SortedList  # type: ignore[import-untyped] # it has no types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

GAP = 1 << 40
"""Between the ranks of neighbours at first."""
STEP = 1 << 20
"""Between the ranks of ids that come in ascending order."""


def grown(array: NDArray[Any], capacity: int, fill: float = 0) -> NDArray[Any]:
    """The array with room for so many."""
    larger = np.full(capacity, fill, array.dtype)
    larger[: len(array)] = array
    return larger


class Slots:
    """Slot numbers of thing ids. A slot that a search may still look at is not given to another thing."""

    def __init__(self, on_growth: Callable[[int], None]) -> None:
        """`on_growth` is told of a new capacity."""
        self._on_growth = on_growth
        self.capacity = 1_024
        self.used = 0
        """Slots below this may be taken."""
        self.of: dict[str, int] = {}
        self.ids: list[str] = []
        self.alive = np.zeros(self.capacity, np.bool_)
        self.rank = np.zeros(self.capacity, np.int64)
        self.namespace = np.zeros(self.capacity, np.int32)
        self.namespaces: list[str] = []
        self._namespace_codes: dict[str, int] = {}
        self._order: Any = SortedList()
        self._free: list[int] = []
        self._resting: list[int] = []
        self._readers = 0

    def __len__(self) -> int:
        return len(self.of)

    def fill(self, ids: list[str]) -> None:
        """Take in all there are at first, sorted."""
        count = len(ids)
        self._grow(count)
        self.used = count
        self.ids = list(ids)
        self.of = {id_: slot for slot, id_ in enumerate(ids)}
        self._order = SortedList(ids)
        self.alive[:count] = True
        self.rank[:count] = np.arange(1, count + 1, dtype=np.int64) * min(GAP, (1 << 61) // (count + 1))
        self.namespace[:count] = [self._namespace(id_) for id_ in ids]

    def add(self, id_: str) -> int:
        """A slot for a thing that has none."""
        if self._free:
            slot = self._free.pop()
            self.ids[slot] = id_
        else:
            slot = self.used
            self._grow(slot + 1)
            self.used += 1
            self.ids.append(id_)
        self.of[id_] = slot
        self.namespace[slot] = self._namespace(id_)
        self._order.add(id_)
        self._rank(id_, slot)
        self.alive[slot] = True
        return slot

    def drop(self, id_: str) -> int:
        """Forget a thing; answers the slot that was its own."""
        slot = self.of.pop(id_)
        self._order.remove(id_)
        self.alive[slot] = False
        (self._resting if self._readers else self._free).append(slot)
        return slot

    def enter(self) -> None:
        """A search begins."""
        self._readers += 1

    def leave(self) -> None:
        """A search is over."""
        self._readers -= 1
        if not self._readers and self._resting:
            self._free.extend(self._resting)
            self._resting = []

    def code_of(self, namespace: str) -> int:
        """The number of a namespace; -1 for one without things."""
        return self._namespace_codes.get(namespace, -1)

    def below(self, id_: str, *, including: bool) -> int:
        """A rank that is greater than those of all ids < (or <=) `id_`, and not greater than the others'."""
        place = self._order.bisect_right(id_) if including else self._order.bisect_left(id_)
        if place == len(self._order):
            return 1 << 62
        return int(self.rank[self.of[self._order[place]]])

    def starting(self, prefix: str) -> NDArray[np.int64]:
        """The slots of ids that start with this text."""
        found: Iterable[str] = self._order.irange(prefix, prefix + "\U0010ffff" * 8)
        return np.array([self.of[id_] for id_ in found if id_.startswith(prefix)], np.int64)

    def _namespace(self, id_: str) -> int:
        name = id_.partition(":")[0]
        code = self._namespace_codes.get(name)
        if code is None:
            code = self._namespace_codes[name] = len(self.namespaces)
            self.namespaces.append(name)
        return code

    def _rank(self, id_: str, slot: int) -> None:
        """Find a number between those of the neighbours."""
        order = self._order
        place = order.bisect_left(id_)
        low = int(self.rank[self.of[order[place - 1]]]) if place else 0
        if place + 1 == len(order):
            if low < (1 << 61):
                self.rank[slot] = low + STEP
                return
        else:
            high = int(self.rank[self.of[order[place + 1]]])
            middle = low + min(STEP, (high - low) // 2)
            if middle > low:
                self.rank[slot] = middle
                return
        gap = min(GAP, (1 << 61) // (len(order) + 1))
        places = np.fromiter((self.of[known] for known in order), np.int64, len(order))
        self.rank[places] = np.arange(1, len(order) + 1, dtype=np.int64) * gap

    def _grow(self, wanted: int) -> None:
        if wanted <= self.capacity:
            return
        while self.capacity < wanted:
            self.capacity += max(self.capacity // 2, 1_024)
        self.alive = grown(self.alive, self.capacity)
        self.rank = grown(self.rank, self.capacity)
        self.namespace = grown(self.namespace, self.capacity)
        self._on_growth(self.capacity)
