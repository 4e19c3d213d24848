"""What a caller may read, policy shape by policy shape, and what of a predicate that leaves."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from msgspec import UNSET, json

from skerry.rql.predicate import And, Empty, Not, Or
from skerry_policies.enforcer import Permits, rules_of
from skerry_registry.search.index import turn
from skerry_registry.search.masks import NEVER, terms_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from skerry.rql.predicate import Field, Predicate
    from skerry_registry.registry import Registry
    from skerry_registry.search.column import Term
    from skerry_registry.search.guards import Guards, Shape

READERS = 256
"""Callers whose rights are kept."""
PERMITS = 200_000
"""Compiled rights that are kept for all of them together."""
OPEN = frozenset({"thingId", "_namespace", "_revision", "_created", "_modified"})
"""What everybody sees who sees anything of a thing."""

USES = 32
"""Sets of fields for which what all shapes say is kept, per caller."""

NO, YES, PARTLY = 0, 1, 2
Use: TypeAlias = "tuple[Field, bool]"
"""A field, and whether all below it must be readable, too."""


class Reader:
    """The rights of one caller to read things, by shape of their policies."""

    def __init__(self, subjects: tuple[str, ...], guards: Guards, registry: Registry) -> None:
        self._subjects = subjects
        self._marks = [json.encode(subject).decode() for subject in subjects]
        self._guards = guards
        self._registry = registry
        self._judged = 0
        self.permits: dict[int, Permits] = {}
        """Of the shapes under which anything may be read."""
        self._verdicts: OrderedDict[tuple[Use, ...], tuple[NDArray[np.int32], list[tuple[int, ...]]]] = OrderedDict()

    @property
    def is_current(self) -> bool:
        """Whether every shape was judged."""
        return self._judged == len(self._guards.shapes)

    async def judge(self) -> None:
        """Judge the shapes that are new, and forget those that are no more."""
        shapes = self._guards.shapes
        since = time.perf_counter()
        while self._judged < len(shapes):
            number = self._judged
            shape = shapes[number]
            permits = None
            if shape is not None:
                permits = self._plain(shape) if shape.lasting else await self._resolved(shape)
            if permits is not None and permits.may_partly("thing", (), "READ"):
                self.permits[number] = permits
            self._judged = max(self._judged, number + 1)
            if not number % 64:
                since = await turn(since)
        for number in [number for number in self.permits if shapes[number] is None]:
            del self.permits[number]
        self._verdicts.clear()

    def _plain(self, shape: Shape) -> Permits | None:
        """The rights that a text alone gives."""
        text = shape.text
        if not any(mark in text for mark in self._marks):
            return None
        return Permits(rules_of(json.decode(text)["entries"].values(), self._subjects).rows)

    async def _resolved(self, shape: Shape) -> Permits | None:
        """The rights under a policy, with all that it rests upon."""
        rights = self._registry.rights
        return await self._registry.known(
            lambda: rights.permits(None, shape.policy_id, self._subjects, shape.namespace)
        )

    def verdicts(self, uses: tuple[Use, ...]) -> tuple[NDArray[np.int32], list[tuple[int, ...]]]:
        """What the shapes say of the uses: the different verdicts, and which of them each shape gives (-1: nothing is seen)."""
        known = self._verdicts.get(uses)
        if known is None:
            numbers: dict[tuple[int, ...], int] = {}
            number_of = np.full(len(self._guards.shapes), -1, np.int32)
            for shape, permits in self.permits.items():
                verdict = tuple([_verdict(permits, *use) for use in uses])
                number_of[shape] = numbers.setdefault(verdict, len(numbers))
            known = self._verdicts[uses] = (number_of, list(numbers))
            if len(self._verdicts) > USES:
                self._verdicts.popitem(last=False)
        else:
            self._verdicts.move_to_end(uses)
        return known


class Readers:
    """The readers of late."""

    def __init__(self, guards: Guards, registry: Registry) -> None:
        self._guards = guards
        self._registry = registry
        self._readers: OrderedDict[tuple[str, ...], Reader] = OrderedDict()

    async def reader(self, subjects: tuple[str, ...]) -> Reader:
        """The caller's rights as they are now."""
        self._guards.expire(self._registry.clock())
        reader = self._readers.get(subjects)
        if reader is None:
            reader = self._readers[subjects] = Reader(subjects, self._guards, self._registry)
            self._make_room()
        self._readers.move_to_end(subjects)
        while not reader.is_current:
            await reader.judge()
        return reader

    def _make_room(self) -> None:
        total = sum(len(reader.permits) for reader in self._readers.values())
        while len(self._readers) > 1 and (len(self._readers) > READERS or total > PERMITS):
            _, reader = self._readers.popitem(last=False)
            total -= len(reader.permits)


class Views:
    """What a caller's question comes to under each shape: `predicates[number_of[shape]]`; number 0 sees nothing."""

    def __init__(self, reader: Reader, predicate: Predicate | None, needed: Iterable[Field]) -> None:
        """`needed`: fields without which a thing does not count at all."""
        terms = [] if predicate is None else list(terms_of(predicate))
        required = dict.fromkeys((field, False) for field in needed)
        uses = tuple(dict.fromkeys([*required, *map(_use, terms)]))
        number_of, verdicts = reader.verdicts(uses)
        self.predicates: list[Predicate | None] = [NEVER]
        self.partly: set[int] = set()
        numbers = np.zeros(len(verdicts) + 1, np.int32)  # the last one is that of shapes which show nothing
        for place, verdict in enumerate(verdicts):
            if any(each != YES for each in verdict[: len(required)]):
                continue
            numbers[place] = len(self.predicates)
            whole = predicate is None or all(each == YES for each in verdict)
            said = dict(zip(uses, verdict, strict=True))
            self.predicates.append(predicate if whole or predicate is None else _sure(predicate, said))
            if PARTLY in verdict:
                self.partly.add(int(numbers[place]))
        self.number_of: NDArray[np.int32] = numbers[number_of]


def _use(term: Term) -> Use:
    """How a term looks at its field: whether it is empty hangs on all that is in it."""
    return term.field, type(term) is Empty


def _verdict(permits: Permits, field: Field, whole: bool) -> int:
    """Whether the field may be read; PARTLY: in some features."""
    if field[0] in OPEN:
        return YES
    if field[:2] == ("features", "*"):
        if permits.may("thing", ("features",), "READ"):
            return YES
        if whole and len(field) == 2:  # that there is no feature can only be said of all of them
            return NO
        return PARTLY if permits.may_partly("thing", ("features",), "READ") else NO
    if field[0] == "_metadata":
        own = may_read(permits, field, whole=whole)
        return YES if own and may_read(permits, field[1:], whole=whole) else NO
    return YES if may_read(permits, field, whole=whole) else NO


def may_read(permits: Permits, field: Field, *, whole: bool) -> bool:
    """Whether the field itself may be read, and all below it if `whole`."""
    if whole:
        return permits.may("thing", field, "READ")
    return permits.view(field, True) is not UNSET


def _sure(predicate: Predicate, said: dict[Use, int]) -> Predicate:
    """What must hold, as far as may be read, for the predicate to hold whatever the rest is."""
    if isinstance(predicate, And | Or):
        return type(predicate)(tuple(_sure(term, said) for term in predicate.terms))
    if isinstance(predicate, Not):
        return _refuted(predicate.term, said)
    return predicate if said[_use(predicate)] != NO else NEVER


def _refuted(predicate: Predicate, said: dict[Use, int]) -> Predicate:
    """What must hold for the predicate not to hold, whatever the rest is."""
    if isinstance(predicate, And | Or):
        other = Or if isinstance(predicate, And) else And
        return other(tuple(_refuted(term, said) for term in predicate.terms))
    if isinstance(predicate, Not):
        return _sure(predicate.term, said)
    return Not(predicate) if said[_use(predicate)] == YES else NEVER
