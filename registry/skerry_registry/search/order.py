"""The order of what was found: keys that columns give, compared as arrays."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from skerry_registry.search.column import EMPTY_OBJECT, FALSE, FIRST, MISSING, NULL, OBJECT, TRUE
from skerry_registry.search.places import NUMBER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from skerry.signals import Json
    from skerry_registry.search.column import Column

ABSENT, NUMERIC, TEXT, THING, BOOLEAN = range(5)
"""What comes before what."""
_KINDS = np.zeros(FIRST, np.int8)
_KINDS[[NUMBER]] = NUMERIC
_KINDS[[EMPTY_OBJECT, OBJECT]] = THING
_KINDS[[FALSE, TRUE]] = BOOLEAN
MANY = 5_000
"""For more things than this the texts of a whole column are put in order, once."""


class Key:
    """One sort key of some slots: `kinds`, then `values`; smaller comes first."""

    def __init__(
        self, kinds: NDArray[np.int8], values: NDArray[np.float64] | NDArray[np.int64], *, descending: bool
    ) -> None:
        self.kinds = -kinds if descending else kinds
        self.values = -values if descending else values

    def cut(self, left: NDArray[np.bool_]) -> Key:
        """The key of some of the slots."""
        return Key(self.kinds[left], self.values[left], descending=False)


def key(
    column: Column,
    slots: NDArray[np.int64],
    readable: NDArray[np.bool_] | None,
    pivot: tuple[int, Json] | None,
    *,
    descending: bool,
) -> tuple[Key, tuple[int, float] | None]:
    """The key that a column gives for slots (missing where not `readable`), and where a pivot stands among it."""
    codes = column.codes[slots]
    if readable is not None:
        codes = np.where(readable, codes, MISSING)
    values = np.where(codes == NUMBER, column.numbers[slots], 0.0)
    plain = np.minimum(codes, FIRST - 1)
    kinds = _KINDS[plain]
    values[codes == TRUE] = 1.0
    kept = np.flatnonzero(codes >= FIRST)
    texts: list[str] = []
    if len(kept):
        texts = _set_kept(column, codes, kept, kinds, values, descending=descending)
    place = None
    if pivot is not None:
        kind, value = pivot
        number = place_among(texts, value) if kind == TEXT else float(value or 0)
        place = (-kind, -number) if descending else (kind, number)
    return Key(kinds, values, descending=descending), place


def _set_kept(
    column: Column,
    codes: NDArray[np.int32],
    kept: NDArray[np.int64],
    kinds: NDArray[np.int8],
    values: NDArray[np.float64],
    *,
    descending: bool,
) -> list[str]:
    """Set kind and value of texts and arrays; answers the texts in order, whose places are the values."""
    if not column.has_special and (column.is_ordered or len(kept) > MANY):
        texts, places_of = column.text_order()
        kinds[kept] = TEXT
        values[kept] = places_of[codes[kept]]
        return texts
    distinct, back = np.unique(codes[kept], return_inverse=True)
    stands = [_least(column.values[code], greatest=descending) for code in distinct.tolist()]
    texts = sorted({value for kind, value in stands if kind == TEXT})
    places = {text: place for place, text in enumerate(texts)}
    kinds[kept] = np.array([kind for kind, _ in stands], np.int8)[back]
    numbers = [places[value] if kind == TEXT else value for kind, value in stands]
    values[kept] = np.array(numbers, np.float64)[back]
    return texts


def place_among(texts: list[str], text: str) -> float:
    """Where a text stands among others: a whole number for one of them, else halfway between its neighbours."""
    place = bisect_left(texts, text)
    return float(place) if place < len(texts) and texts[place] == text else place - 0.5


def told(column: Column, slot: int, *, readable: bool, descending: bool) -> tuple[int, Json]:
    """The key of one slot, to be given to `key` as pivot later."""
    code = int(column.codes[slot])
    if not readable or code in {MISSING, NULL}:
        return ABSENT, None
    if code == NUMBER:
        return NUMERIC, float(column.numbers[slot])
    if code < FIRST:
        return int(_KINDS[code]), int(code == TRUE)
    return _least(column.values[code], greatest=descending)


def _least(value: str | list[Json], *, greatest: bool) -> tuple[int, Json]:
    """Where a text, or the least (or greatest) of several values stands."""
    if type(value) is str:
        return TEXT, value
    stands = [_stand(member, greatest=greatest) for member in value]
    return (max(stands) if greatest else min(stands)) if stands else (ABSENT, 0)


def _stand(value: Json, *, greatest: bool) -> tuple[int, Json]:
    kind = type(value)
    if kind is str:
        return TEXT, value
    if kind is int or kind is float:
        return NUMERIC, float(value)
    if kind is bool:
        return BOOLEAN, int(value)
    if kind is list:
        return _least(value, greatest=greatest)
    return (ABSENT, 0) if value is None else (THING, 0)


def stand(value: Json, *, greatest: bool = False) -> tuple[int, Json]:
    """Where a value stands among others of all types; an array where its least (or greatest) element would."""
    return _stand(value, greatest=greatest)


def behind(
    keys: Sequence[Key], places: Sequence[tuple[int, float]], ranks: NDArray[np.int64], rank: int
) -> NDArray[np.bool_]:
    """Which stand behind a pivot."""
    mask = ranks >= rank
    for key_, (kind, value) in zip(reversed(keys), reversed(places), strict=True):
        same = key_.kinds == kind
        greater = (key_.kinds > kind) | (same & (key_.values > value))
        mask = greater | (same & (key_.values == value) & mask)
    return mask


def first(keys: Sequence[Key], ranks: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The places of the first so many, in order."""
    among = np.arange(len(ranks))
    if 4 * count < len(ranks):
        among = _near(keys[0], count) if keys else np.argpartition(ranks, count)[:count]
    columns: list[NDArray[np.float64] | NDArray[np.int64] | NDArray[np.int8]] = [ranks[among]]
    for key_ in reversed(keys):
        columns += [key_.values[among], key_.kinds[among]]
    return among[np.lexsort(columns)[:count]]


def _near(key_: Key, count: int) -> NDArray[np.int64]:
    """Places among which are the first so many by one key."""
    kinds, values = key_.kinds, key_.values
    before = 0
    for kind in range(-BOOLEAN, BOOLEAN + 1):
        here = kinds == kind
        number = int(np.count_nonzero(here))
        if before + number >= count:
            some = values[here]
            bound = np.partition(some, count - before - 1)[count - before - 1]
            return np.flatnonzero((kinds < kind) | (here & (values <= bound)))
        before += number
    return np.arange(len(kinds))
