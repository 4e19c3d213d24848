"""The columns there are: made when a field is first asked for, kept up by events, given up when memory is short."""

from __future__ import annotations

import asyncio
import logging
from sys import getsizeof
from typing import TYPE_CHECKING

from msgspec import UNSET

from skerry.rql.evaluate import at, is_empty
from skerry.signals import PATCHES
from skerry_registry.search.column import Column
from skerry_registry.search.query import SearchMemoryTaken

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence

    from skerry.rql.predicate import Field
    from skerry.signals import Event, Held, Json, Path
    from skerry_registry.ports import Store
    from skerry_registry.search.slots import Slots

log = logging.getLogger(__name__)

EMPTY = "\0empty"
"""Stands behind the field of a column that tells where a field with `*` is empty in some feature."""
SLICE = 4_000
"""Things that are read at a time."""
BYTES = 1_500_000_000
"""What all columns together may take."""
PLACE = 12
"""Bytes that a column takes for each slot."""
WAYS = 16_000_000
"""Bytes that paths of changes take of which is remembered what columns they concern: devices choose how long they are."""
WAY = 500
"""Bytes of one of them besides its names."""
_SCALARS = frozenset({float, int, str, bool})


class _Node:
    """A segment of the fields that have columns."""

    __slots__ = ("below", "column")

    def __init__(self) -> None:
        self.below: dict[str, _Node] = {}
        self.column: Column | None = None


class Columns:
    """Columns by field; `unsaved`: states that a scan of the store may not show yet."""

    def __init__(
        self, slots: Slots, store: Store, unsaved: Callable[[], list[Held]], *, bytes_max: int = BYTES
    ) -> None:
        self._slots = slots
        self._store = store
        self._unsaved = unsaved
        self._bytes_max = bytes_max
        self._columns: dict[Field, Column] = {}
        self._builds: dict[Field, asyncio.Task[None]] = {}
        self._root = _Node()
        self._ways: dict[Path, tuple[list[Column], list[_Node]]] = {}
        self._concerned: dict[tuple[Path | str, ...], list[tuple[str, Column]] | None] = {}
        self._ways_size = 0
        self._always: list[Column] = []
        self._arrayed: set[Field] = set()
        self._clock = 0

    def __getitem__(self, field: Field) -> Column:
        return self._columns[field]

    def __iter__(self) -> Iterator[Column]:
        return iter(self._columns.values())

    def grow(self, capacity: int) -> None:
        """Make room in all of them."""
        for column in self._columns.values():
            column.grow(capacity)

    async def pin(self, fields: Iterable[Field]) -> list[Column]:
        """The columns of these fields, complete; they stay until `unpin`. Raises StoreUnavailable, SearchMemoryTaken."""
        wanted = set(fields)
        self._clock += 1
        missing = [field for field in wanted if field not in self._columns]
        if missing:
            for field in wanted.difference(missing):
                self._columns[field].used = self._clock
            self._make_room(len(missing) * PLACE * self._slots.capacity, wanted)
            task = asyncio.get_running_loop().create_task(self._build(missing), name="columns")
            for field in missing:
                self._add(field)
                self._builds[field] = task
            task.add_done_callback(_seen)
        columns = [self._columns[field] for field in wanted]
        for column in columns:
            column.pins += 1
            column.used = self._clock
        if not self._builds:
            return columns
        try:
            for task in {self._builds[field] for field in wanted if field in self._builds}:
                await asyncio.shield(task)
        except BaseException:
            self.unpin(columns)
            raise
        return columns

    def unpin(self, columns: Iterable[Column]) -> None:
        """The search is over."""
        for column in columns:
            column.pins -= 1

    async def close(self) -> None:
        """End what is being built."""
        tasks = set(self._builds.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def note(self, event: Event, held: Held, slot: int) -> None:
        """A thing has changed: `held` is how it is now, `slot` its place."""
        for column in self._always:
            _put(column, slot, _values(column.field, held))
        path, patch = event.path, event.value
        is_newest = event.revision == held.revision  # another of the same commit may overwrite an older one
        if is_newest and len(path) == 2 and self._note_message(event, slot):
            return
        if event.metadata is not UNSET and path:
            metadata = self._root.below.get("_metadata")
            if metadata is not None:
                _put_all(metadata, slot, held)
        passed, nodes = self._ways.get(path) or self._find_way(path)
        for column in passed:
            _put(column, slot, _values(column.field, held))
        for node in nodes:
            if event.action in PATCHES and isinstance(patch, dict):
                self._put_merged(node, patch, slot, held, len(path))
            else:
                _put_all(node, slot, held)

    def _note_message(self, event: Event, slot: int) -> bool:
        """Set the columns of what a device's plain message says of a feature, where its own values are all that counts; else False."""
        patch = event.value
        if event.action != "merged" or event.metadata is not UNSET or type(patch) is not dict or len(patch) != 1:
            return False
        properties = patch.get("properties")
        if type(properties) is not dict:
            return False
        try:
            concerned = self._concerned[event.path, *properties]
        except KeyError:
            concerned = self._find_concerned(event.path, properties)
        if concerned is None:
            return False
        for name, column in concerned:
            value = properties[name]
            if type(value) not in _SCALARS:
                return False
            _put(column, slot, (value,))
        return True

    def _find_concerned(self, path: Path, names: Collection[str]) -> list[tuple[str, Column]] | None:
        """The columns of some properties of a feature; None where there is more to set than the values of these."""
        passed, nodes = self._find_way(path)
        parents = [node.below["properties"] for node in nodes if "properties" in node.below]
        found = [(name, node.below[name]) for node in parents for name in names if name in node.below]
        columns = [
            (name, node.column) for name, node in found if node.column is not None and node.column.field[1] != "*"
        ]
        alone = len(columns) == len(found) and not any(node.below for _, node in found)
        above = passed or any(node.column is not None for node in (*nodes, *parents))
        plain = alone and not above and path[0] == "features" and not _may_be_patterns(names)
        self._make_way((*path, *names))
        concerned = self._concerned[path, *names] = columns if plain else None
        return concerned

    def _find_way(self, path: Path) -> tuple[list[Column], list[_Node]]:
        """The columns above a path, which a change there is part of, and the nodes at it; remembered while the columns stay."""
        passed: list[Column] = []
        nodes = [self._root]
        for place, segment in enumerate(path):
            passed += [node.column for node in nodes if node.column is not None]
            segments = [segment]
            if place == 1 and path[0] == "features" and segment != "*":
                segments.append("*")
            nodes = [node.below[one] for node in nodes for one in segments if one in node.below]
        self._make_way(path)
        way = self._ways[path] = (passed, nodes)
        return way

    def clear(self, slot: int) -> None:
        """A thing is gone."""
        for column in self._columns.values():
            column.clear(slot)
            if column.fresh is not None:
                column.fresh.add(slot)

    def _put_merged(self, node: _Node, patch: dict[str, Json], slot: int, held: Held, depth: int) -> None:
        """Set the columns that a merge patch at this node touches."""
        below = node.below
        if below and (_may_be_patterns(patch) or (self._arrayed and _is_arrayed(node))):
            _put_all(node, slot, held)
            return
        column = node.column
        if column is not None:
            _put(column, slot, _values(column.field, held))
        if not below:
            return
        if not patch.keys().isdisjoint(below):
            for segment, member in patch.items():
                inner = below.get(segment)
                if inner is None:
                    continue
                if type(member) is dict:
                    self._put_merged(inner, member, slot, held, depth + 1)
                else:
                    _put_all(inner, slot, held)
        wild = below.get("*") if depth == 1 else None
        if wild is not None:
            _put_all(wild, slot, held)

    def _add(self, field: Field) -> None:
        """A column that is not complete yet."""
        column = self._columns[field] = Column(field, self._slots.capacity, self._arrayed)
        column.used = self._clock
        self._forget_ways()
        if field[0] in {"_revision", "_modified"}:
            self._always.append(column)
            return
        node = self._root
        for segment in field:
            node = node.below.setdefault(segment, _Node())
        node.column = column

    def _make_way(self, names: Collection[str]) -> None:
        """Make room to remember what a change with these names concerns."""
        size = WAY + getsizeof(names) + sum(map(getsizeof, names))
        if self._ways_size + size > WAYS:
            self._forget_ways()
        self._ways_size += size

    def _forget_ways(self) -> None:
        """There are other columns now, or too much is remembered."""
        self._ways.clear()
        self._concerned.clear()
        self._ways_size = 0

    def _drop(self, field: Field) -> None:
        """Give a column up."""
        column = self._columns.pop(field)
        self._forget_ways()
        self._arrayed.discard(field)
        if column in self._always:
            self._always.remove(column)
            return
        way = [self._root]
        for segment in field:
            way.append(way[-1].below[segment])
        way[-1].column = None
        for depth in range(len(field), 0, -1):
            if way[depth].column is not None or way[depth].below:
                break
            del way[depth - 1].below[field[depth - 1]]

    async def _build(self, fields: list[Field]) -> None:
        """Read everything there is at the fields."""
        of = self._slots.of
        columns = [self._columns[field] for field in fields]
        try:
            for held in self._unsaved():
                slot = of.get(held.id) if held.kind == "thing" and held.document is not None else None
                if slot is not None:
                    for column in columns:
                        _put(column, slot, _values(column.field, held))
            asked = [field[:-1] if field[-1] == EMPTY else field for field in fields]
            place: int | None = 0
            while place is not None:
                scanned = await self._store.scan(asked, place, SLICE)
                for column, values in zip(columns, scanned.values, strict=True):
                    fresh = column.fresh
                    assert fresh is not None
                    rows = [
                        (slot, _reduced(column.field, found))
                        for id_, found in zip(scanned.ids, values, strict=True)
                        if (slot := of.get(id_, -1)) >= 0 and slot not in fresh
                    ]
                    column.fill([slot for slot, _ in rows], [found for _, found in rows])
                self._make_room(0, set(fields))
                place = scanned.next
        except BaseException:
            for field in fields:
                self._drop(field)
            raise
        finally:
            for field in fields:
                del self._builds[field]
        for column in columns:
            column.fresh = None
        self.shed(self._bytes_max)

    @property
    def room(self) -> int:
        """How many columns of few texts may be there at a time."""
        return self._bytes_max // (PLACE * self._slots.capacity)

    def _make_room(self, wanted: int, kept: set[Field]) -> None:
        """Give up what is in the way of so many bytes. Raises SearchMemoryTaken where what searches use leaves no room."""
        if self.shed(self._bytes_max - wanted, kept) > self._bytes_max - wanted:
            raise SearchMemoryTaken(limit=self._bytes_max // 1_000_000, headers={"retry-after": "2"})

    def shed(self, bytes_max: int, kept: Container[Field] = ()) -> int:
        """Give up what was not used for longest and is not to be `kept`, until no more than so many bytes are taken; answers how many are."""
        total = sum(column.size for column in self._columns.values())
        for column in sorted(self._columns.values(), key=lambda column: column.used):
            if total <= bytes_max:
                break
            if not column.pins and column.fresh is None and column.field not in kept:
                total -= column.size
                self._drop(column.field)
                log.info("search column given up", extra={"field": "/".join(column.field)})
        return total


def _seen(task: asyncio.Task[None]) -> None:
    """Whoever waited has been told."""
    if not task.cancelled():
        task.exception()


def _put(column: Column, slot: int, values: Sequence[Json]) -> None:
    column.set(slot, values)
    if column.fresh is not None:
        column.fresh.add(slot)


def _put_all(node: _Node, slot: int, held: Held) -> None:
    """Set this column and all below."""
    column = node.column
    if column is not None:
        _put(column, slot, _values(column.field, held))
    for below in node.below.values():
        _put_all(below, slot, held)


def _may_be_patterns(names: Iterable[str]) -> bool:
    """Whether there may be a key among the names that stands for others (`patch.is_pattern`); quick to say no."""
    return "{{" in "".join(names)


def _is_arrayed(node: _Node) -> bool:
    """Whether arrays were met here or below: a patch that puts an object in the place of one changes all that was in it."""
    return (node.column is not None and node.column.is_arrayed) or any(map(_is_arrayed, node.below.values()))


def _values(field: Field, held: Held) -> Sequence[Json]:
    """What stands at the field of a thing."""
    head = field[0]
    if head == "_revision":
        return (held.revision,)
    if head == "_modified":
        return (held.modified,)
    if head == "_created":
        return (held.created,)
    if head == "_metadata":
        return () if held.metadata is None else at(held.metadata, field, 1)
    document = held.document
    if document is None:
        return ()
    if head == "features" and len(field) > 1 and field[1] == "*":
        features = document.get("features") or {}
        asked = field[:-1] if field[-1] == EMPTY else field
        found = [value for feature in features.values() for value in at(feature, asked, 2) or [UNSET]]
        return _reduced(field, found)
    return at(document, field, 0)


def _reduced(field: Field, values: Sequence[Json]) -> Sequence[Json]:
    """Values at a field with `*` as its column has them; others as they are."""
    if len(field) < 2 or field[:2] != ("features", "*"):
        return values
    if field[-1] == EMPTY:
        return (any(is_empty(value) for value in values) if values else len(field) == 3,)
    return [value for value in values if value is not UNSET]
