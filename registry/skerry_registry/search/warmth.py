"""Columns made before they are asked for: those that were asked for lately, and those of attributes that many things have."""

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
        columns.unpin(await columns.pin(fields))

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
        """Fields of scalar attributes, the most common first, as the first things have them."""
        found = await self._store.scan([("attributes",)], 0, SAMPLE)
        counts = Counter(
            field for values in found.values[0] for value in values for field in _leaves(value, ("attributes",))
        )
        least = COMMON * len(found.ids)
        return [field for field, count in counts.most_common(ATTRIBUTES) if count >= least]


def _leaves(value: Json, field: Field) -> Iterator[Field]:
    """The fields of scalars in a value."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _leaves(member, (*field, name))
    elif not isinstance(value, list):
        yield field
