"""What a caller may read, policy shape by policy shape, and what of a predicate that leaves."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from msgspec import UNSET, json

from skerry.rql.evaluate import at, counted, lookup_in
from skerry.rql.predicate import And, Empty, Exists, Not, Or
from skerry_policies.enforcer import Permits, rules_of
from skerry_registry.search.index import turn
from skerry_registry.search.masks import ALWAYS, NEVER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from skerry.rql.evaluate import ValueOf
    from skerry.rql.predicate import Field, Predicate
    from skerry.signals import Held, Json
    from skerry_registry.registry import Registry
    from skerry_registry.search.column import Term
    from skerry_registry.search.guards import Guards, Shape

READERS = 256
"""Callers whose rights are kept."""
PERMITS = 200_000
"""Compiled rights that are kept for all of them together."""
OPEN = frozenset({"thingId", "_namespace"})
"""What everybody may ask for who sees anything of a thing."""
TOLD = OPEN | {"_revision", "_created", "_modified"}
"""What everybody is told who sees anything of a thing; to order by it tells no more."""
EVERYWHERE = ("thingId", "policyId", "_namespace", "_revision", "_created", "_modified")
"""What every thing has."""
SOMEWHERE = frozenset({"attributes", "features", "definition"})
"""What a thing may have."""
WITNESSES = 16
"""Fields by whose columns it is told whether a caller sees anything of a thing; more of them, and its document tells."""

USES = 32
"""Sets of fields for which what all shapes say is kept, per caller."""

NO, YES, PARTLY = 0, 1, 2
Use: TypeAlias = "tuple[Field, bool]"
"""A field, and whether what is below it matters, too."""
Witness: TypeAlias = "tuple[Field, ...] | None"
"""Fields one of which must exist for anything of a thing to be seen (none: always is something; None: its document tells)."""
Verdict: TypeAlias = "tuple[Witness, tuple[int, ...]]"
"""What tells whether anything is seen, and whether each of some fields may be read."""


class Reader:
    """The rights of one caller to read things, by shape of their policies."""

    def __init__(self, subjects: tuple[str, ...], guards: Guards, registry: Registry) -> None:
        self._subjects = subjects
        self._marks = [json.encode(subject).decode() for subject in subjects]
        self._guards = guards
        self._registry = registry
        self._judged = 0
        self._epoch = guards.epoch
        self.permits: dict[int, Permits] = {}
        """Of the shapes under which anything may be read."""
        self._witness_of: dict[int, Witness] = {}
        self._witnesses: set[Witness] = set()
        self.witnesses: set[Field] = set()
        """The fields of which columns are needed to tell whether anything of a thing is seen."""
        self._verdicts: OrderedDict[tuple[Use, ...], tuple[NDArray[np.int32], list[Verdict]]] = OrderedDict()

    @property
    def is_current(self) -> bool:
        """Whether every shape was judged."""
        return (self._epoch, self._judged) == self._guards.stamp

    async def judge(self) -> None:
        """Judge the shapes that are new, and forget those that are no more; once more where they were numbered anew meanwhile."""
        guards = self._guards
        epoch, shapes = guards.epoch, guards.shapes
        if self._epoch != epoch:
            self._epoch, self._judged = epoch, 0
            self.permits.clear()
            self._witness_of.clear()
            self._witnesses.clear()
            self.witnesses.clear()
        since = time.perf_counter()
        self._verdicts.clear()
        while self._epoch == guards.epoch == epoch and self._judged < len(shapes):
            number = self._judged
            shape = shapes[number]
            permits = None
            if shape is not None:
                permits = self._plain(shape) if shape.lasting else await self._resolved(shape)
                if not self._epoch == guards.epoch == epoch:
                    return
            if permits is not None:
                self._keep(number, permits)
            self._judged = max(self._judged, number + 1)
            if not number % 64:
                since = await turn(since)
        if self._epoch == guards.epoch == epoch:
            for number in [number for number in self.permits if shapes[number] is None]:
                del self.permits[number]
                del self._witness_of[number]
            self._witnesses = {witness for witness in self._witness_of.values() if witness}
            self.witnesses = {field for witness in self._witnesses for field in witness or ()}
            self._verdicts.clear()

    def _keep(self, number: int, permits: Permits) -> None:
        """Keep the rights under a shape that lets something be read of some thing."""
        if permits.holds("thing", (), "READ") or any(permits.holds("thing", (name,), "READ") for name in EVERYWHERE):
            witness: Witness = ()
        else:
            witness = tuple(path for path in permits.grants("thing", "READ") if path[0] in SOMEWHERE)
            if not witness:
                return
            fields = self.witnesses.union(witness)
            known = len(self._witnesses) < WITNESSES or witness in self._witnesses
            if len(fields) > WITNESSES or not known or any(path[:2] == ("features", "*") for path in witness):
                witness = None
            else:
                self._witnesses.add(witness)
                self.witnesses = fields
        self.permits[number] = permits
        self._witness_of[number] = witness

    def _plain(self, shape: Shape) -> Permits | None:
        """The rights that a text alone gives."""
        text = shape.text
        if not any(mark in text for mark in self._marks):
            return None
        return Permits(rules_of(json.decode(text)["entries"].values(), self._subjects).rows)

    async def _resolved(self, shape: Shape) -> Permits | None:
        """The rights under a policy, with all that it rests upon."""
        rights = self._registry.rights
        return await self._registry.memory.known(
            lambda: rights.permits(None, shape.policy_id, self._subjects, shape.namespace)
        )

    def verdicts(self, uses: tuple[Use, ...]) -> tuple[NDArray[np.int32], list[Verdict]]:
        """What the shapes say of the uses: the different verdicts, and which of them, from 1 on, each shape gives (0: nothing is seen)."""
        known = self._verdicts.get(uses)
        if known is None:
            numbers: dict[Verdict, int] = {}
            number_of = np.zeros(len(self._guards.shapes), np.int32)
            for shape, permits in self.permits.items():
                verdict = (self._witness_of[shape], tuple([_verdict(permits, *use) for use in uses]))
                number_of[shape] = numbers.setdefault(verdict, len(numbers) + 1)
            known = self._verdicts[uses] = (number_of, list(numbers))
            if len(self._verdicts) > USES:
                self._verdicts.popitem(last=False)
        else:
            self._verdicts.move_to_end(uses)
        return known

    def readable(self, field: Field, shapes: NDArray[np.int32]) -> NDArray[np.bool_] | None:
        """Where, by the shapes of things, the caller may order by a field and group by it; None: everywhere."""
        if field[0] in TOLD:
            return None
        number_of, verdicts = self.verdicts(((field, False),))
        if all(verdict == (YES,) for _, verdict in verdicts):
            return None
        readable = np.array([False] + [verdict == (YES,) for _, verdict in verdicts])
        judged = shapes < len(number_of)
        return readable[np.where(judged, number_of[np.where(judged, shapes, 0)], 0)]


class Readers:
    """The readers of late."""

    def __init__(self, guards: Guards, registry: Registry) -> None:
        self._guards = guards
        self._registry = registry
        self._readers: OrderedDict[tuple[str, ...], Reader] = OrderedDict()

    def current(self, subjects: tuple[str, ...]) -> Reader | None:
        """The caller's rights as they are now, if that is known."""
        self._guards.expire(self._registry.clock())
        reader = self._readers.get(subjects)
        if reader is None or not reader.is_current:
            return None
        self._readers.move_to_end(subjects)
        return reader

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
    """What a caller's question comes to under each shape: `predicates[number_of[shape]]`; number 0 sees nothing.

    `partly`: the numbers under which that only tells which things may count: their documents tell which do.
    """

    def __init__(
        self,
        reader: Reader,
        guards: Guards,
        predicate: Predicate | None,
        terms: Sequence[Term],
        there: frozenset[Field],
    ) -> None:
        """`terms`: those of the predicate; `there`: the fields that have columns."""
        self.stamp = guards.stamp
        uses = tuple(dict.fromkeys(map(_use, terms)))
        self.number_of, verdicts = reader.verdicts(uses)
        self.predicates: list[Predicate | None] = [NEVER]
        self.partly: set[int] = set()
        for witness, verdict in verdicts:
            asked = predicate
            if predicate is not None and verdict.count(YES) < len(verdict):
                asked = _bound(predicate, dict(zip(uses, verdict, strict=True)), upper=True)
            if PARTLY in verdict or witness is None or not there.issuperset(witness):
                self.partly.add(len(self.predicates))
            elif witness:
                seen = Or(tuple(map(Exists, witness)))
                asked = seen if asked is None else And((asked, seen))
            self.predicates.append(asked)


def _use(term: Term) -> Use:
    """How a term looks at its field: whether it is empty hangs on what is in it."""
    return term.field, type(term) is Empty


def _verdict(permits: Permits, field: Field, whole: bool) -> int:
    """Whether the field may be read; PARTLY: in some features, or not everything in it."""
    if field[0] in OPEN:
        return YES
    if field[:2] == ("features", "*"):
        if permits.may("thing", ("features",), "READ"):
            return YES
        return PARTLY if permits.may_partly("thing", ("features",), "READ") else NO
    ways = _ways(field)
    if not all(permits.holds("thing", way, "READ") for way in ways):
        return NO
    return YES if not whole or all(permits.may("thing", way, "READ") for way in ways) else PARTLY


def _ways(field: Field) -> tuple[Field, ...]:
    """The paths that must be readable for a field: of metadata, that of what it is about, too."""
    return (field, field[1:]) if field[0] == "_metadata" else (field,)


def _bound(predicate: Predicate, said: dict[Use, int], *, upper: bool) -> Predicate:
    """The predicate where what may not be read is absent; of what is known in part, what holds at most (`upper`) or at least."""
    if isinstance(predicate, And | Or):
        return type(predicate)(tuple(_bound(term, said, upper=upper) for term in predicate.terms))
    if isinstance(predicate, Not):
        return Not(_bound(predicate.term, said, upper=not upper))
    verdict = said[_use(predicate)]
    if verdict == YES:
        return predicate
    empty = type(predicate) is Empty
    if verdict == PARTLY:
        return NEVER if not upper else ALWAYS if empty else predicate
    field = predicate.field
    return ALWAYS if empty and (len(field) == 2 or field[:2] != ("features", "*")) else NEVER


def seen_of(held: Held, permits: Permits) -> ValueOf | None:
    """What stands at each field of a thing as far as the caller may read it; None when he sees nothing of the thing."""
    shown = permits.view((), held.document)
    if not isinstance(shown, dict) or not (shown or permits.holds("thing", (), "READ")):
        return None
    document, whole = shown, lookup_in(held)

    def values_at(field: Field) -> Sequence[Json]:
        head = field[0]
        if head in OPEN:
            return whole(field)
        if field[:2] == ("features", "*"):
            found: list[Json] = []
            for name, feature in (document.get("features") or {}).items():
                may = permits.holds("thing", ("features", name, *field[2:]), "READ")
                found.extend((at(feature, field, 2) if may else []) or [UNSET])
            return found
        ways = _ways(field)
        if not all(permits.holds("thing", way, "READ") for way in ways):
            return ()
        if head in SOMEWHERE or head == "policyId":
            return at(document, field, 0)
        values = list(whole(field))
        for way in ways:
            values = [permits.view(way, value) for value in values]
        return values

    return counted(values_at)
