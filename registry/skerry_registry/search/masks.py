"""Where in the index a predicate holds, as masks over slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skerry import times
from skerry.rql import evaluate
from skerry.rql.predicate import And, Compare, Empty, Exists, In, Not, Or
from skerry_registry.search.columns import EMPTY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from skerry.rql.predicate import Field, Predicate
    from skerry_registry.search.column import At, Mask, Term
    from skerry_registry.search.columns import Columns
    from skerry_registry.search.slots import Slots

ID, NAMESPACE = ("thingId",), ("_namespace",)
TIMES = frozenset({("_created",), ("_modified",)})
COMPUTED = TIMES | {ID, NAMESPACE}
"""Fields whose terms are not what their columns' masks are, or that have no columns."""
NEVER, ALWAYS = Or(()), And(())


def term_field(term: Term) -> Field:
    """The field of the column that a term is asked of."""
    if type(term) is Empty and term.field[:2] == ("features", "*"):
        return (*term.field, EMPTY)
    return term.field


def terms_of(predicate: Predicate | None) -> list[Term]:
    """The terms that a predicate is made of."""
    if isinstance(predicate, And | Or):
        return [term for part in predicate.terms for term in terms_of(part)]
    if isinstance(predicate, Not):
        return terms_of(predicate.term)
    return [] if predicate is None else [predicate]


class Masks:
    """Evaluates predicates; `at` are slots, all or those given."""

    def __init__(self, slots: Slots, columns: Columns) -> None:
        self._slots = slots
        self._columns = columns

    def candidates(self, predicate: Predicate) -> NDArray[np.int64] | None:
        """Slots among which are all where it holds, when that can be told without looking at each; None otherwise."""
        if isinstance(predicate, And):
            found = [part for term in predicate.terms if (part := self.candidates(term)) is not None]
            return min(found, key=len) if found else None
        if isinstance(predicate, Or):
            parts = [self.candidates(term) for term in predicate.terms]
            some = [part for part in parts if part is not None]
            if len(some) < len(parts):
                return None
            return np.unique(np.concatenate(some)) if some else np.empty(0, np.int64)
        if isinstance(predicate, Compare | In) and predicate.field == ID:
            return self._ids(predicate)
        if isinstance(predicate, Compare) and predicate.operator == "eq" and predicate.field not in COMPUTED:
            return self._columns[predicate.field].places_of(predicate)
        return None

    def _ids(self, term: Compare | In) -> NDArray[np.int64] | None:
        """Where the id is one of those, or starts as they must."""
        if isinstance(term, Compare):
            if term.operator == "like" and isinstance(term.value, str):
                prefix = term.value.partition("*")[0].partition("?")[0]
                return self._slots.starting(prefix) if len(prefix) > 1 else None
            if term.operator != "eq":
                return None
        wanted = (term.value,) if isinstance(term, Compare) else term.values
        of = self._slots.of
        return np.array(sorted({of[id_] for id_ in wanted if isinstance(id_, str) and id_ in of}), np.int64)

    def select(self, predicate: Predicate | None, at: At) -> NDArray[np.int64]:
        """The slots among `at` where it holds."""
        if isinstance(predicate, And):
            for term in sorted(predicate.terms, key=_cost):
                at = self._narrow(at, self.mask(term, at))
        elif predicate is not None:
            at = self._narrow(at, self.mask(predicate, at))
        found = np.arange(at.start, at.stop) if isinstance(at, slice) else at
        return found[self._slots.alive[at]]

    def _narrow(self, at: At, mask: Mask) -> NDArray[np.int64]:
        """The slots where the mask is set."""
        found = mask.nonzero()[0]
        return found + at.start if isinstance(at, slice) else at[found]

    def mask(self, predicate: Predicate, at: At) -> Mask:
        """Where it holds."""
        if isinstance(predicate, And | Or):
            whole: Mask | None = None
            for term in predicate.terms:
                mask = self.mask(term, at)
                whole = mask if whole is None else whole & mask if isinstance(predicate, And) else whole | mask
            return whole if whole is not None else self._all(at, isinstance(predicate, And))
        if isinstance(predicate, Not):
            return ~self.mask(predicate.term, at)
        field = term_field(predicate)
        if field in COMPUTED:
            return self._computed(predicate, at)
        if field[-1] == EMPTY:
            return self._columns[field].mask(Compare("eq", field, True), at)
        return self._columns[field].mask(predicate, at)

    def holds(self, predicate: Predicate, slot: int) -> bool:
        """Whether it holds of one slot: as `mask` says, in less time than arrays take."""
        if isinstance(predicate, And):
            return all(self.holds(term, slot) for term in predicate.terms)
        if isinstance(predicate, Or):
            return any(self.holds(term, slot) for term in predicate.terms)
        if isinstance(predicate, Not):
            return not self.holds(predicate.term, slot)
        field = term_field(predicate)
        if field in TIMES or field[-1] == EMPTY:
            return bool(self.mask(predicate, np.array([slot]))[0])
        if field == ID:
            return _holds(predicate, self._slots.ids[slot])
        if field == NAMESPACE:
            return _holds(predicate, self._slots.namespaces[self._slots.namespace.item(slot)])
        values = self._columns[field].at(slot)
        return evaluate.matches(predicate, lambda _: values)

    def _computed(self, term: Term, at: At) -> Mask:
        """A term about a field that is more, or less, than a column."""
        if term.field == ID:
            return self._id_mask(term, at)
        return self._namespace_mask(term, at) if term.field == NAMESPACE else self._time_mask(term, at)

    def _all(self, at: At, holds: bool) -> Mask:
        return np.full(len(self._slots.alive[at]), holds, np.bool_)

    def _id_mask(self, term: Term, at: At) -> Mask:
        """A term about the id."""
        slots = self._slots
        if isinstance(term, Exists | Empty):
            return self._all(at, isinstance(term, Exists))
        found = self._ids(term)
        if found is not None and not (isinstance(term, Compare) and term.operator == "like"):
            mask = np.zeros(slots.capacity, np.bool_)
            mask[found] = True
            return mask[at]
        assert isinstance(term, Compare)
        operator, wanted = term.operator, term.value
        if operator in {"gt", "ge", "lt", "le"} and isinstance(wanted, str):
            bound = slots.below(wanted, including=operator in {"gt", "le"})
            ranks = slots.rank[at]
            return ranks >= bound if operator[0] == "g" else ranks < bound
        ids = slots.ids
        places = range(at.start, at.stop) if isinstance(at, slice) else at.tolist()
        return np.fromiter((_holds(term, ids[slot]) for slot in places), np.bool_, len(places))

    def _namespace_mask(self, term: Term, at: At) -> Mask:
        holds = np.array([_holds(term, name) for name in self._slots.namespaces], np.bool_)
        return holds[self._slots.namespace[at]] if len(holds) else self._all(at, holds=False)

    def _time_mask(self, term: Term, at: At) -> Mask:
        """A term about an instant: compared as instants where the term's text is one, else as text."""
        column = self._columns[term.field]
        if isinstance(term, Exists | Empty):
            return column.mask(term, at)
        if isinstance(term, Compare) and isinstance(term.value, str) and term.operator not in {"like", "ilike"}:
            try:
                return column.mask(Compare(term.operator, term.field, times.parse(term.value)), at)
            except (ValueError, OverflowError):
                pass
        numbers = column.numbers[at]
        return np.fromiter(
            (number == number and _holds(term, times.write(int(number))) for number in numbers.tolist()),  # noqa: PLR0124 - not NaN
            np.bool_,
            len(numbers),
        )


def _holds(term: Term, value: Any) -> bool:
    """Whether a term holds for one value."""
    return evaluate.matches(term, lambda _: (value,))


def _cost(term: Predicate) -> int:
    """Cheap terms, and those that leave little, first."""
    if isinstance(term, Compare):
        return 0 if term.operator == "eq" else 2 if term.operator in {"like", "ilike"} else 1
    return 1 if isinstance(term, In | Exists) else 3
