"""The search over things: who asks sees what he may read, as it is at the moment of asking."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

import numpy as np

from skerry.rql.evaluate import matches
from skerry.rql.predicate import Empty
from skerry_registry.patience import within
from skerry_registry.ports import StoreUnavailable
from skerry_registry.runs import Lacking
from skerry_registry.search import aggregate, order
from skerry_registry.search.index import Index, turn
from skerry_registry.search.masks import ID, NAMESPACE, Masks, term_field, terms_of
from skerry_registry.search.places import Sorted
from skerry_registry.search.query import After, Group, IndexUnavailable, Metric, Page, QueryTimeExceeded, Sort
from skerry_registry.search.visibility import Readers, Views, seen_of
from skerry_registry.search.warmth import Warmth

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from skerry.rql.predicate import Field, Predicate
    from skerry.signals import Held, Json
    from skerry_registry.ports import Store
    from skerry_registry.registry import Registry
    from skerry_registry.search.column import Column
    from skerry_registry.search.visibility import Reader

log = logging.getLogger(__name__)

RETRY, RETRY_MAX = 0.1, 5.0
"""Seconds until the index is read again after the store was away: at first, and later."""
SECONDS = 10.0
"""How long one search may take."""
PIECE = 32_768
"""Slots that are looked at in one go."""
FEW = 8
"""Among how many slots one must be in question for those in question to be looked at one by one."""
SINGLY = 4
"""So many slots in question, or fewer, are judged one by one, which takes no arrays."""
DOCUMENTS = 200
"""Things that are looked into one by one between others' turns."""

T = TypeVar("T")
Slots: TypeAlias = "NDArray[np.int64]"


class _Look:
    """A search under way: who asks what, when it must be over, and the columns that it holds, of these fields."""

    __slots__ = ("columns", "fields", "predicate", "subjects", "terms", "until")

    def __init__(self, subjects: tuple[str, ...], predicate: Predicate | None, until: float) -> None:
        self.subjects = subjects
        self.predicate = predicate
        self.terms = terms_of(predicate)
        self.until = until
        self.fields: frozenset[Field] = frozenset()
        self.columns: list[Column] = []


class Search:
    """Finds things of a registry. Enter before the first search, leave to end what runs in the background."""

    def __init__(
        self, registry: Registry, store: Store, *, memory: Path | None = None, seconds: float = SECONDS
    ) -> None:
        """`seconds`: the time after which a search is given up; `memory`: the file that keeps which fields are asked for."""
        self._registry = registry
        self._seconds = seconds
        self.index = Index(registry, store)
        self._masks = Masks(self.index.slots, self.index.columns)
        self._readers = Readers(self.index.guards, registry)
        self._warmth = Warmth(self.index, store, memory)
        self._loading: asyncio.Task[None] | None = None
        self._attempt: asyncio.Future[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._trouble: str | None = None
        self._work: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._attempt = loop.create_future()
        self._loading = loop.create_task(self._load(), name="search index")
        self._warming = self._spawn(self._warm())
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = [task for task in (self._loading, *self._work) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self.index.columns.close()
        await self._warmth.save()

    async def ready(self) -> None:
        """Until everything there is has been read; searches wait for it anyway. Raises IndexUnavailable, while it is tried again."""
        assert self._attempt is not None
        await asyncio.shield(self._attempt)
        if self._trouble is not None:
            raise IndexUnavailable(reason=self._trouble, headers={"retry-after": "2"})

    async def find(
        self,
        subjects: tuple[str, ...],
        predicate: Predicate | None = None,
        *,
        namespaces: Sequence[str] | None = None,
        sort: Sequence[Sort] = (),
        after: After | None = None,
        skip: int = 0,
        size: int = 25,
    ) -> Page:
        """The ids of things that the predicate holds for (None: of all), in order; ties and no order: by ascending id.

        What the caller may not read counts as absent, in terms and in keys; so do things of which he sees nothing.
        `namespaces`: only things of these (None: of all). `after` belongs to the same `sort`. Raises QueryTimeExceeded.
        """
        sort = needed(sort)
        look = await self._begin(subjects, predicate, [key.field for key in sort])
        try:
            reader, slots = await self._matching(look, namespaces)
            return self._page(reader, slots, sort, after, skip, size)
        finally:
            self._end(look)

    def sees_all(self, subjects: tuple[str, ...]) -> Callable[[str], bool]:
        """Which things the caller may read whole, as far as that is known without waiting."""
        reader = self._readers.current(subjects)
        index = self.index

        def whole(id_: str) -> bool:
            slot = index.slots.of.get(id_)
            if slot is None or reader is None or not reader.is_current:
                return False
            permits = reader.permits.get(int(index.guards.shape[index.guard[slot]]))
            return permits is not None and permits.sees_all

        return whole

    async def count(
        self, subjects: tuple[str, ...], predicate: Predicate | None = None, *, namespaces: Sequence[str] | None = None
    ) -> int:
        """How many things `find` would find. Raises QueryTimeExceeded."""
        look = await self._begin(subjects, predicate, ())
        try:
            return len((await self._matching(look, namespaces))[1])
        finally:
            self._end(look)

    async def aggregate(
        self,
        subjects: tuple[str, ...],
        predicate: Predicate | None = None,
        *,
        namespaces: Sequence[str] | None = None,
        by: Sequence[Field] = (),
        metrics: Sequence[Metric] = (),
        limit: int = 10_000,
    ) -> list[Group]:
        """Figures over the things that `find` would find, by what stands at the fields `by` (missing: None), sorted by that.

        What the caller may not read is missing. Raises QueryTimeExceeded, AggregateTooLarge for more than `limit` groups.
        """
        fields = [*by, *(metric.field for metric in metrics if metric.field is not None)]
        look = await self._begin(subjects, predicate, fields)
        try:
            reader, slots = await self._matching(look, namespaces)
            slots = slots[self.index.slots.alive[slots]]
            seen = aggregate.Seen(self.index, slots, {field: self._readable(reader, slots, field) for field in fields})
            return aggregate.groups(seen, by, metrics, limit)
        finally:
            self._end(look)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("search index not prepared", extra={"reason": str(error)})

    async def warm(self) -> None:
        """Until the columns are ready that will probably be asked for; searches do not wait for them."""
        if self._warming is not None:
            await asyncio.wait({self._warming})

    async def _load(self) -> None:
        """Read everything there is, as often as the store is away."""
        attempt = self._attempt
        assert attempt is not None
        pause = RETRY
        while True:
            try:
                await self.index.load()
            except StoreUnavailable as error:
                self._trouble = str(error.facts.get("reason", error.text))
                log.warning("search index not loaded", extra={"reason": error.text})
                if not attempt.done():
                    attempt.set_result(None)
                await asyncio.sleep(pause)
                pause = min(2 * pause, RETRY_MAX)
            else:
                self._trouble = None
                if not attempt.done():
                    attempt.set_result(None)
                return

    async def _loaded(self, until: float) -> None:
        """Wait for the first attempt to read everything. Raises IndexUnavailable when there was none that succeeded."""
        if self._loading is None or not self._loading.done():
            await self._within(until, self.ready())

    async def namespaces(self) -> list[str]:
        """The namespaces of all things there are or were, whoever may see them."""
        await self._loaded(time.perf_counter() + self._seconds)
        return list(self.index.slots.namespaces)

    async def _warm(self) -> None:
        assert self._loading is not None
        await asyncio.shield(self._loading)
        await self._warmth.warm()

    async def _begin(self, subjects: tuple[str, ...], predicate: Predicate | None, others: Iterable[Field]) -> _Look:
        """Begin a search, holding the columns that it needs; `_end` must follow."""
        look = _Look(subjects, predicate, time.perf_counter() + self._seconds)
        await self._loaded(look.until)
        self.index.slots.enter()
        try:
            fields = {*map(term_field, look.terms), *others} - {ID, NAMESPACE}
            fields |= (await self._within(look.until, self._readers.reader(subjects))).witnesses
            look.fields = frozenset(fields)
            if fields:
                look.columns = await self._within(look.until, self.index.columns.pin(fields))
            await self._prepare(look)
        except BaseException:
            self._end(look)
            raise
        return look

    def _end(self, look: _Look) -> None:
        """Hold no columns any more; make places by value in those that want them."""
        self.index.columns.unpin(look.columns)
        for column in look.columns:
            if column.places.wanted:
                self._spawn(_sort(column, column.places.begin()))
        self.index.slots.leave()

    async def _within(self, until: float, work: Coroutine[Any, Any, T]) -> T:
        """Wait, but not for longer than a search may take."""
        try:
            return await within(until - time.perf_counter(), work)
        except TimeoutError:
            raise QueryTimeExceeded(seconds=self._seconds) from None

    async def _prepare(self, look: _Look) -> None:
        """Judge the distinct values of the predicate's columns, a few at a time."""
        columns = self.index.columns
        since = time.perf_counter()
        for term in look.terms:
            if term.field in {ID, NAMESPACE} or type(term) is Empty:
                continue
            column = columns[term.field]
            while column.prepare(term, 2_000):
                since = await self._turn(since, look.until)

    async def _turn(self, since: float, until: float) -> float:
        if time.perf_counter() > until:
            raise QueryTimeExceeded(seconds=self._seconds)
        return await turn(since)

    async def _matching(self, look: _Look, namespaces: Sequence[str] | None) -> tuple[Reader, Slots]:
        """The slots of all things that count."""
        index, predicate = self.index, look.predicate
        reader, views = await self._views(look)
        candidates = None if predicate is None else self._masks.candidates(predicate)
        if candidates is not None and len(candidates) > index.slots.used // FEW:
            candidates = None
        total = index.slots.used if candidates is None else len(candidates)
        found: list[Slots] = []
        since = time.perf_counter()
        for start in range(0, total, PIECE):
            if start:
                since = await self._turn(since, look.until)
                while not reader.is_current or views.stamp != index.guards.stamp:
                    reader, views = await self._views(look)
            end = min(start + PIECE, total)
            at = slice(start, end) if candidates is None else candidates[start:end]
            if isinstance(at, np.ndarray) and len(at) <= SINGLY:
                some, unsure = self._one_by_one(at, views, namespaces)
            else:
                some, unsure = self._piece(at, views, namespaces)
            found.append(some)
            if len(unsure):
                found.append(await self._looked_into(unsure, look))
        return reader, found[0] if len(found) == 1 else np.concatenate([np.empty(0, np.int64), *found])

    async def _views(self, look: _Look) -> tuple[Reader, Views]:
        """The rights of who asks as they are now, and what his question comes to under them."""
        reader = await self._readers.reader(look.subjects)
        return reader, Views(reader, self.index.guards, look.predicate, look.terms, look.fields)

    def _piece(
        self, at: slice | Slots, views: Views, namespaces: Sequence[str] | None
    ) -> tuple[Slots, list[tuple[int, str]]]:
        """The slots among `at` that count, and the things that must be looked into to know."""
        index, masks = self.index, self._masks
        guards, shapes = index.guard, index.guards.shape
        if namespaces is not None:
            codes = [index.slots.code_of(name) for name in namespaces]
            inside = np.isin(index.slots.namespace[at], codes)
            at = np.flatnonzero(inside) + at.start if isinstance(at, slice) else at[inside]
        if len(views.predicates) == 1:
            return np.empty(0, np.int64), []
        if len(views.predicates) == 2 and not views.partly:
            found = masks.select(views.predicates[1], at)
            return found[views.number_of[shapes[guards[found]]] == 1], []
        numbers = views.number_of[shapes[guards[at]]]
        places = np.arange(at.start, at.stop) if isinstance(at, slice) else at
        sure: list[Slots] = []
        unsure: list[tuple[int, str]] = []
        for number in np.unique(numbers).tolist():
            predicate = views.predicates[number]
            found = masks.select(predicate, places[numbers == number])
            if number in views.partly:
                unsure.extend((slot, index.slots.ids[slot]) for slot in found.tolist())
            else:
                sure.append(found)
        return np.sort(np.concatenate([np.empty(0, np.int64), *sure])), unsure

    def _one_by_one(
        self, at: Slots, views: Views, namespaces: Sequence[str] | None
    ) -> tuple[Slots, list[tuple[int, str]]]:
        """As `_piece`, slot by slot."""
        slots, guard, shape = self.index.slots, self.index.guard, self.index.guards.shape
        sure: list[int] = []
        unsure: list[tuple[int, str]] = []
        for slot in at.tolist():
            number = views.number_of.item(shape.item(guard.item(slot)))
            predicate = views.predicates[number]
            if not slots.alive.item(slot) or (predicate is not None and not self._masks.holds(predicate, slot)):
                continue
            if namespaces is not None and slots.namespaces[slots.namespace.item(slot)] not in namespaces:
                continue
            if number in views.partly:
                unsure.append((slot, slots.ids[slot]))
            else:
                sure.append(slot)
        return np.array(sure, np.int64), unsure

    async def _looked_into(self, unsure: list[tuple[int, str]], look: _Look) -> Slots:
        """The slots of things of which the caller sees something, and for which the predicate holds as far as he sees them."""
        index, subjects, predicate = self.index, look.subjects, look.predicate
        found: list[int] = []
        since = time.perf_counter()
        for start in range(0, len(unsure), DOCUMENTS):
            some = unsure[start : start + DOCUMENTS]
            await self._registry.memory.bring("thing", [id_ for _, id_ in some])
            for slot, id_ in some:
                reader = await self._readers.reader(subjects)
                held = await self._held(id_)
                while not reader.is_current:
                    reader = await self._readers.reader(subjects)
                    held = await self._held(id_)
                permits = reader.permits.get(int(index.guards.shape[index.guard[slot]]))
                if permits is None or held.document is None or index.slots.of.get(id_) != slot:
                    continue
                value_of = seen_of(held, permits)
                if value_of is not None and (predicate is None or matches(predicate, value_of)):
                    found.append(slot)
            since = await self._turn(since, look.until)
        return np.array(found, np.int64)

    async def _held(self, id_: str) -> Held:
        while True:
            try:
                return self._registry.memory.held("thing", id_)
            except Lacking:
                await self._registry.memory.bring("thing", [id_])

    def _page(  # noqa: PLR0917 - as `find` was asked
        self, reader: Reader, slots: Slots, sort: Sequence[Sort], after: After | None, skip: int, size: int
    ) -> Page:
        """Put in order, and cut out."""
        index = self.index
        slots = slots[index.slots.alive[slots]]
        if len(slots) < 2 and size and after is None:
            return Page([index.slots.ids[slot] for slot in slots[skip:].tolist()])
        ranks = index.slots.rank[slots]
        keys: list[order.Key] = []
        places: list[tuple[int, float]] = []
        readable = [self._readable(reader, slots, key.field) for key in sort]
        for number, key in enumerate(sort):
            pivot = after.keys[number] if after is not None else None
            made, place = self._key(key, slots, readable[number], pivot)
            keys.append(made)
            if place is not None:
                places.append(place)
        if after is not None:
            left = order.behind(keys, places, ranks, index.slots.below(after.id, including=True))
            slots, ranks = slots[left], ranks[left]
            readable = [None if mask is None else mask[left] for mask in readable]
            keys = [key.cut(left) for key in keys]
        shown = order.first(keys, ranks, skip + size + 1)[skip:]
        ids = [index.slots.ids[slot] for slot in slots[shown[:size]].tolist()]
        if len(shown) <= size:
            return Page(ids)
        last = int(shown[size - 1])
        told = [
            self._told(key, int(slots[last]), mask is None or bool(mask[last]))
            for key, mask in zip(sort, readable, strict=True)
        ]
        return Page(ids, After(tuple(told), ids[-1]))

    def _readable(self, reader: Reader, slots: Slots, field: Field) -> NDArray[np.bool_] | None:
        """Where the caller may read the field; None: everywhere."""
        return reader.readable(field, self.index.guards.shape[self.index.guard[slots]])

    def _key(
        self, key: Sort, slots: Slots, readable: NDArray[np.bool_] | None, pivot: tuple[int, Json] | None
    ) -> tuple[order.Key, tuple[int, float] | None]:
        """The sort key of slots, and the place of a pivot."""
        all_slots = self.index.slots
        if key.field not in {ID, NAMESPACE}:
            return order.key(self.index.columns[key.field], slots, readable, pivot, descending=key.descending)
        kinds = np.full(len(slots), order.TEXT, np.int8)
        sign = -1 if key.descending else 1
        if key.field == ID:
            values = all_slots.rank[slots]
            place: float | None = None
            if pivot is not None:
                place = sign * all_slots.below(str(pivot[1]), including=False)
                if key.descending and str(pivot[1]) not in all_slots.of:
                    place += 1
        else:
            names = sorted(all_slots.namespaces)
            by_code = np.array([names.index(name) for name in all_slots.namespaces], np.int64)
            values = by_code[all_slots.namespace[slots]] if names else np.empty(0, np.int64)
            place = None if pivot is None else sign * order.place_among(names, str(pivot[1]))
        made = order.Key(kinds, values, descending=key.descending)
        return made, None if place is None else (sign * order.TEXT, place)

    def _told(self, key: Sort, slot: int, readable: bool) -> tuple[int, Json]:
        """The sort key of one thing, for the cursor."""
        if key.field == ID:
            return order.TEXT, self.index.slots.ids[slot]
        if key.field == NAMESPACE:
            return order.TEXT, self.index.slots.ids[slot].partition(":")[0]
        return order.told(self.index.columns[key.field], slot, readable=readable, descending=key.descending)


async def _sort(column: Column, begun: int) -> None:
    """Make places by value."""
    column.places.take(await asyncio.to_thread(Sorted, column.codes.copy(), column.numbers.copy()), begun)


def needed(sort: Sequence[Sort]) -> Sequence[Sort]:
    """The keys that matter: none behind the id, and the ascending id stands at the end anyway."""
    for place, key in enumerate(sort):
        if key.field == ID:
            return sort[: place + key.descending]
    return sort
