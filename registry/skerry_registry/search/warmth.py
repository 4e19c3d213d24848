"""Columns made before they are asked for: those that were asked for lately, and those of attributes and texts that many things have."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from skerry_registry.search.columns import EMPTY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from skerry.rql.predicate import Field
    from skerry.signals import Json
    from skerry_registry.ports import Store
    from skerry_registry.search.index import Index

log = logging.getLogger(__name__)

SAMPLE = 500
"""Things that are looked at for what attributes there are."""
ATTRIBUTES = 32
"""Attributes that columns are made of beforehand."""
TEXTS = 16
"""Texts in features that columns are made of beforehand: numbers there change too often for that."""
COMMON = 0.02
"""The share of things that an attribute must be in."""
REMEMBERED = 64
"""Fields that are remembered from one run to the next."""


class Warmth:
    """Knows which fields will probably be asked for."""

    def __init__(self, index: Index, store: Store, memory: Path | None) -> None:
        """`memory`: the file with the fields of the last run."""
        self._index = index
        self._store = store
        self._memory = memory

    async def warm(self) -> None:
        """Make columns of what was asked for last, and of common attributes."""
        fields = await asyncio.to_thread(self._remembered)
        if len(self._index.slots):
            fields = list(dict.fromkeys([*fields, *await self._common()]))
        columns = self._index.columns
        columns.unpin(await columns.pin(fields[: columns.room // 2]))

    async def save(self) -> None:
        """Remember what was asked for."""
        if self._memory is not None:
            asked = sorted(self._index.columns, key=lambda column: -column.used)
            fields = [column.field for column in asked if column.field[-1] != EMPTY][:REMEMBERED]
            try:
                await asyncio.to_thread(self._memory.write_bytes, msgspec.json.encode(fields))
            except OSError as error:
                log.warning("asked-for fields not remembered", extra={"reason": str(error)})

    def _remembered(self) -> list[Field]:
        if self._memory is None:
            return []
        try:
            return msgspec.json.decode(self._memory.read_bytes(), type=list[tuple[str, ...]])
        except (OSError, msgspec.MsgspecError):
            return []

    async def _common(self) -> list[Field]:
        """Fields of scalar attributes and of texts in features, the most common first, as the first things have them."""
        found = await self._store.scan([("attributes",), ("features",)], 0, SAMPLE)
        least = COMMON * len(found.ids)
        attributes: Counter[Field] = Counter()
        properties: Counter[Field] = Counter()
        for values in found.values[0]:
            attributes.update(field for value in values for field, _ in _leaves(value, ("attributes",)))
        for values in found.values[1]:
            properties.update(
                field for value in values for field, leaf in _leaves(value, ("features",)) if isinstance(leaf, str)
            )
        common = [*attributes.most_common(ATTRIBUTES), *properties.most_common(TEXTS)]
        return [field for field, count in common if count >= least]


def _leaves(value: Json, field: Field) -> Iterator[tuple[Field, Json]]:
    """The scalars in a value, with their fields."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _leaves(member, (*field, name))
    elif not isinstance(value, list):
        yield field, value
