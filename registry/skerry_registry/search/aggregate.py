"""Figures over groups of things: counts, sums, averages, extremes and percentiles of the numbers in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct

from skerry import times
from skerry_registry.search import order
from skerry_registry.search.column import FALSE, FIRST, MISSING, NULL, TRUE
from skerry_registry.search.masks import ID, NAMESPACE, TIMES
from skerry_registry.search.places import NUMBER
from skerry_registry.search.query import AggregateTooLarge, Group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from skerry.rql.predicate import Field
    from skerry.signals import Json
    from skerry_registry.search.index import Index
    from skerry_registry.search.query import Metric


class Seen(Struct, frozen=True, eq=False):
    """The slots of some things, and for each field in which of them it may be read (None: in all)."""

    index: Index
    slots: NDArray[np.int64]
    readable: Mapping[Field, NDArray[np.bool_] | None]

    def codes(self, field: Field) -> NDArray[np.int32]:
        """The codes at a field; missing where it may not be read."""
        codes = self.index.columns[field].codes[self.slots]
        mask = self.readable[field]
        return codes if mask is None else np.where(mask, codes, MISSING)


def groups(seen: Seen, by: Sequence[Field], metrics: Sequence[Metric], limit: int) -> list[Group]:
    """The groups of things by what stands at fields, in the order of that. Raises AggregateTooLarge."""
    slots = seen.slots
    group = np.zeros(len(slots), np.int64)
    for field in by:
        distinct, back = np.unique(_numbered(seen, field), return_inverse=True)
        group = np.unique(group * (len(distinct) + 1) + back, return_inverse=True)[1]
    count = int(group.max()) + 1 if len(slots) else 0
    if count > limit:
        raise AggregateTooLarge(limit=limit)
    if not count and not by:
        count = 1
    figures = [_figures(seen, group, count, metric) for metric in metrics]
    some = np.zeros(count, np.int64)
    some[group] = np.arange(len(slots))
    made = [
        Group(
            tuple(_value(seen, int(some[number]), field) for field in by),
            {metric.name: column[number] for metric, column in zip(metrics, figures, strict=True)},
        )
        for number in range(count)
    ]
    return sorted(made, key=lambda one: [order.stand(value) for value in one.keys])


def _numbered(seen: Seen, field: Field) -> NDArray[np.int64]:
    """A number for each thing that tells apart what stands at the field."""
    index, slots = seen.index, seen.slots
    if field == ID:
        return slots
    if field == NAMESPACE:
        return index.slots.namespace[slots].astype(np.int64)
    column = index.columns[field]
    codes = seen.codes(field).astype(np.int64)
    codes[codes == NULL] = MISSING
    numbers = np.where(codes == NUMBER, column.numbers[slots], 0.0)
    back: NDArray[np.int64] = np.unique(numbers, return_inverse=True)[1]
    return codes * (len(slots) + 1) + back


def _value(seen: Seen, place: int, field: Field) -> Json:
    """What stands at the field in one of the things: None for what is missing and for objects."""
    index, slot = seen.index, int(seen.slots[place])
    if field == ID:
        return index.slots.ids[slot]
    if field == NAMESPACE:
        return index.slots.ids[slot].partition(":")[0]
    mask = seen.readable[field]
    if mask is not None and not mask[place]:
        return None
    column = index.columns[field]
    code = int(column.codes[slot])
    if code == NUMBER:
        number = float(column.numbers[slot])
        if field in TIMES:
            return times.write(int(number))
        return int(number) if number.is_integer() else number
    if code in {TRUE, FALSE}:
        return code == TRUE
    if code < FIRST:
        return None
    value = column.values[code]
    return value[0] if type(value) is list and len(value) == 1 else value


def _figures(seen: Seen, group: NDArray[np.int64], count: int, metric: Metric) -> list[Json]:
    """One figure for every group; None where there is no number."""
    if metric.field is None:
        return list(np.bincount(group, minlength=count).tolist())
    if metric.field in {ID, NAMESPACE}:
        return list(np.bincount(group, minlength=count).tolist()) if metric.function == "count" else [None] * count
    codes = seen.codes(metric.field)
    if metric.function == "count":
        return list(np.bincount(group[codes != MISSING], minlength=count).tolist())
    numbers = _numbers(seen, metric.field, codes)
    there = ~np.isnan(numbers)
    numbers, group = numbers[there], group[there]
    sorting = np.lexsort((numbers, group))
    numbers, group = numbers[sorting], group[sorting]
    ends = np.searchsorted(group, np.arange(count), "right")
    starts = np.searchsorted(group, np.arange(count))
    sizes = ends - starts
    safe = np.minimum(starts, max(len(numbers) - 1, 0))
    if not len(numbers):
        return [None] * count
    if metric.function in {"sum", "avg"}:
        found = np.bincount(group, numbers, count)
        if metric.function == "avg":
            found = found / np.maximum(sizes, 1)
    else:
        share = {"min": 0.0, "max": 1.0}.get(metric.function, metric.percentile / 100)
        place = share * np.maximum(sizes - 1, 0)
        low = safe + np.floor(place).astype(np.int64)
        high = safe + np.ceil(place).astype(np.int64)
        low, high = np.minimum(low, len(numbers) - 1), np.minimum(high, len(numbers) - 1)
        found = numbers[low] + (numbers[high] - numbers[low]) * (place - np.floor(place))
    show = _shown if metric.field not in TIMES or metric.function == "sum" else _instant
    return [show(value) if size else None for value, size in zip(found.tolist(), sizes.tolist(), strict=True)]


def _numbers(seen: Seen, field: Field, codes: NDArray[np.int32]) -> NDArray[np.float64]:
    """The numbers of things; NaN where there is none."""
    column = seen.index.columns[field]
    numbers = np.where(codes == MISSING, np.nan, column.numbers[seen.slots])
    if column.has_special:
        for place in np.flatnonzero(codes >= FIRST).tolist():
            value = column.values[codes[place]]
            if type(value) is list and len(value) == 1 and type(value[0]) is int:
                numbers[place] = float(value[0])
    return numbers


def _shown(value: float) -> Json:
    return value if np.isfinite(value) else None


def _instant(value: float) -> Json:
    return times.write(int(value))
