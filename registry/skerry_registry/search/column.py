"""What stands at one field in every thing, as arrays: a number for each value, and the value itself where it is a number."""

from __future__ import annotations

from functools import partial
from operator import eq, ge, gt, le, lt, ne
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import json

from skerry.rql import evaluate
from skerry.rql.predicate import Compare, Empty, Exists, In
from skerry_registry.search.places import NUMBER, Places, as_float
from skerry_registry.search.slots import grown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    from numpy.typing import NDArray

    from skerry.rql.predicate import Field
    from skerry.signals import Json

    Term: TypeAlias = Compare | In | Exists | Empty
    Mask: TypeAlias = NDArray[np.bool_]
    At: TypeAlias = slice | NDArray[np.int64]

MISSING, NULL, FALSE, TRUE, EMPTY_OBJECT, OBJECT = 0, 1, 2, 3, 5, 6
FIRST = 8
"""The first code of values that are kept as they are: texts, arrays, numbers that no float is exact for."""
_PLAIN: dict[int, list[Json]] = {
    MISSING: [],
    NULL: [None],
    FALSE: [False],
    TRUE: [True],
    EMPTY_OBJECT: [{}],
    OBJECT: [{"": None}],
}
EXACT = 1 << 53
"""Whole numbers up to this are floats, too."""
PREPARED = 500_000
"""Characters of values that are judged at a time."""
VERDICTS = 64
"""Terms of which a column remembers what they say of its values."""

_encode = json.Encoder().encode


class Column:
    """The values at one field. `fresh`: slots that changes have set while the rest was still being read (None: all there)."""

    def __init__(self, field: Field, capacity: int, arrayed: set[Field]) -> None:
        """`arrayed`: the fields at which arrays were met, of all columns."""
        self.field = field
        self._arrayed = arrayed
        self.codes = np.zeros(capacity, np.int32)
        self.numbers = np.full(capacity, np.nan)
        self.fresh: set[int] | None = set()
        self.pins = 0
        self.used = 0
        self.values: list[Any] = [None] * FIRST
        """By code: a text, or a list of values."""
        self._code_of: dict[Any, int] = {}
        self._holders: list[int] = [0] * FIRST
        self._free: list[int] = []
        self._special: set[int] = set()
        self._given: list[int] = []
        self._verdicts: dict[Any, _Verdict] = {}
        self._text_bytes = 0
        self.places = Places()
        self._order: tuple[int, list[str], NDArray[np.float64]] | None = None

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return 12 * len(self.codes) + self._text_bytes + 150 * len(self._code_of)

    @property
    def is_arrayed(self) -> bool:
        """Whether arrays were met."""
        return self.field in self._arrayed

    def grow(self, capacity: int) -> None:
        """Make room."""
        self.codes = grown(self.codes, capacity)
        self.numbers = grown(self.numbers, capacity, np.nan)

    def set(self, slot: int, values: Sequence[Json]) -> None:
        """Let these values stand in the slot."""
        before = self.codes.item(slot)
        code, number = self._code(values) if values else (MISSING, np.nan)
        if code != before:
            self.codes[slot] = code
        if NUMBER in {code, before}:
            self.numbers[slot] = number
        if before >= FIRST:
            self._release(before)
        if self.places.following:
            self.places.changed.add(slot)

    def fill(self, slots: Sequence[int], found: Iterable[Sequence[Json]]) -> None:
        """Let values stand in slots that have none yet."""
        places: list[int] = []
        numbers: list[float] = []
        codes = self.codes
        code_of, holders = self._code_of, self._holders
        for slot, values in zip(slots, found, strict=True):
            if len(values) == 1:
                value = values[0]
                kind = type(value)
                if kind is float:
                    places.append(slot)
                    numbers.append(value)
                elif kind is str and value in code_of:
                    code = code_of[value]
                    holders[code] += 1
                    codes[slot] = code
                else:
                    self.set(slot, values)
            elif values:
                self.set(slot, values)
        codes[places] = NUMBER
        self.numbers[places] = numbers
        self.places.drop()

    def clear(self, slot: int) -> None:
        """Let nothing stand there."""
        self.set(slot, ())

    def _code(self, values: Sequence[Json]) -> tuple[int, float]:
        """The code and number of any values."""
        if len(values) > 1:
            return self._intern_many(values), np.nan
        value = values[0]
        kind = type(value)
        if kind is float:
            return NUMBER, value
        if kind is int:
            if -EXACT <= value <= EXACT:
                return NUMBER, float(value)
            return self._intern((value,), [value]), np.nan
        if kind is str:
            return self._intern(value, value), np.nan
        if value is None:
            return NULL, np.nan
        if kind is bool:
            return (TRUE if value else FALSE), np.nan
        if kind is dict:
            return (OBJECT if value else EMPTY_OBJECT), np.nan
        return self._intern_many(values), np.nan

    def _intern_many(self, values: Sequence[Json]) -> int:
        if any(type(value) is list for value in values):
            self._arrayed.add(self.field)
        kept = [_bare(value) for value in values]
        return self._intern(_encode(kept), kept)

    def _intern(self, key: Any, value: Any) -> int:
        code = self._code_of.get(key)
        if code is not None:
            self._holders[code] += 1
            return code
        if self._free:
            code = self._free.pop()
            self.values[code] = value
            self._holders[code] = 1
        else:
            code = len(self.values)
            self.values.append(value)
            self._holders.append(1)
        self._code_of[key] = code
        if type(value) is str:
            self._text_bytes += len(value)
        else:
            self._special.add(code)
            self._text_bytes += 8 * len(key)
        self._given.append(code)
        if len(self._given) > 10_000 + 2 * len(self.values):
            self._given = []
            self._verdicts.clear()
            self._order = None
        return code

    def _release(self, code: int) -> None:
        holders = self._holders
        holders[code] -= 1
        if holders[code]:
            return
        value = self.values[code]
        if type(value) is str:
            del self._code_of[value]
            self._text_bytes -= len(value)
        else:
            self._special.discard(code)
            key = (value[0],) if len(value) == 1 and type(value[0]) is int else _encode(value)
            del self._code_of[key]
            self._text_bytes -= 8 * len(key)
        self.values[code] = None
        self._free.append(code)

    def at(self, slot: int) -> Sequence[Json]:
        """What stands in the slot, as far as terms tell values apart."""
        code = self.codes.item(slot)
        if code == NUMBER:
            return (self.numbers.item(slot),)
        value = _PLAIN[code] if code < FIRST else self.values[code]
        return (value,) if type(value) is str else value

    def mask(self, term: Term, at: At) -> Mask:
        """Where the term holds."""
        codes = self.codes[at]
        kind = type(term)
        if kind is Compare:
            operator, wanted = term.operator, term.value  # type: ignore[union-attr] # it is a Compare
            if operator == "eq" and type(wanted) is str and not self._special:
                code = self._code_of.get(wanted, -1)
                mask: Mask = codes == code
                return mask
            if type(wanted) in _NUMBERS and operator in _NUMERIC:
                mask = _NUMERIC[operator](self.numbers[at], wanted)
                if operator == "ne":
                    mask &= codes == NUMBER
                elif not self._special:
                    return mask
                return mask | self._verdict(term)[codes]
        elif kind is Exists:
            there: Mask = codes != MISSING
            return there
        elif kind is In:
            mask = self._verdict(term)[codes]
            numbers: list[Any] = [value for value in term.values if type(value) in _NUMBERS]  # type: ignore[union-attr] # it is an In
            for number in numbers:
                mask |= _equal(self.numbers[at], number)
            return mask
        return self._verdict(term)[codes]

    def prepare(self, term: Term, upto: int) -> bool:
        """Judge about so many values more, fewer of long ones; False when nothing is left to judge."""
        if (type(term) is Compare and term.operator == "eq") or type(term) in {Exists, Empty}:
            return False
        length = self._text_bytes // (1 + len(self._code_of))
        return self._judged(term).go_on(self, max(1, min(upto, PREPARED // (1 + length))))

    def _verdict(self, term: Term) -> Mask:
        """By code: whether the term holds for the value (False for numbers, whose value the code does not tell, unless any does)."""
        verdict = self._judged(term)
        while verdict.go_on(self, 1 << 40):
            pass
        return verdict.mask

    def _judged(self, term: Term) -> _Verdict:
        key = _key(term)
        verdict = self._verdicts.pop(key, None)
        if verdict is None:
            if len(self._verdicts) >= VERDICTS:
                del self._verdicts[next(iter(self._verdicts))]
            verdict = _Verdict(term, len(self._given))
        self._verdicts[key] = verdict
        return verdict

    def given(self, since: int) -> list[int]:
        """The codes that were given to new values since there were so many of them."""
        return self._given[since:]

    def places_of(self, term: Term) -> NDArray[np.int64] | None:
        """Slots among which are all where an equality holds, when that can be told quickly and they are few."""
        if type(term) is not Compare or term.operator != "eq" or self.fresh is not None:
            return None
        wanted: Any = term.value
        if type(wanted) is str and not self._special:
            code = self._code_of.get(wanted, -1)
        elif type(wanted) in _NUMBERS and not self._special:
            code = NUMBER
        else:
            return None
        return self.places.find(len(self.codes), code, wanted if code == NUMBER else None)

    def text_order(self) -> tuple[list[str], NDArray[np.float64]]:
        """All texts in order, and by code the place of each."""
        known = self._order
        if known is None or known[0] != len(self._given):
            texts = sorted((value, code) for code, value in enumerate(self.values) if type(value) is str)
            places = np.zeros(len(self.values))
            places[[code for _, code in texts]] = np.arange(len(texts))
            known = self._order = (len(self._given), [text for text, _ in texts], places)
        return known[1:]

    @property
    def is_ordered(self) -> bool:
        """Whether `text_order` is at hand."""
        return self._order is not None and self._order[0] == len(self._given)

    @property
    def has_special(self) -> bool:
        """Whether values other than texts are kept."""
        return bool(self._special)


class _Verdict:
    """What a term says of the values of a column, code by code."""

    def __init__(self, term: Term, given: int) -> None:
        self._term = term
        self._given = given
        self._done = 0
        self._test = _test(term)
        self.mask: Mask = np.zeros(FIRST, np.bool_)

    def go_on(self, column: Column, upto: int) -> bool:
        """Judge at most about so many codes; whether some are left."""
        values = column.values
        if not self._done:
            for code, plain in _PLAIN.items():
                self.mask[code] = evaluate.matches(self._term, lambda _: plain)  # noqa: B023 - called at once
            self.mask[NUMBER] = (
                type(self._term) is Compare and self._term.operator == "ne" and type(self._term.value) not in _NUMBERS
            )
            self._done = FIRST
        if len(self.mask) < len(values):
            self.mask = grown(self.mask, len(values) + len(values) // 4)
        if self._done < len(values):
            end = min(len(values), self._done + upto)
            test = self._test
            self.mask[self._done : end] = [test(value) for value in values[self._done : end]]
            self._done = end
            if end < len(values):
                return True
        for code in column.given(self._given):
            self.mask[code] = self._test(values[code])
        self._given += len(column.given(self._given))
        return False


def _bare(value: Json) -> Json:
    """The value without what no term can tell apart: the members of objects."""
    if type(value) is dict:
        return {"": None} if value else {}
    if type(value) is list:
        return [_bare(member) for member in value]
    return value


def _test(term: Term) -> Callable[[Any], bool]:
    """Whether the term holds for a text or a list of values."""
    plain = _test_of_texts(term)

    def test(value: Any) -> bool:
        if type(value) is str:
            return plain(value)
        return value is not None and evaluate.matches(term, lambda _: value)

    return test


def _test_of_texts(term: Term) -> Callable[[str], bool]:
    if isinstance(term, Compare):
        wanted: Any = term.value
        if term.operator in {"like", "ilike"}:
            return evaluate.like(str(wanted), ignoring_case=term.operator == "ilike").fullmatch
        if type(wanted) is not str:
            return lambda _: term.operator == "ne"
        return partial(_ORDER[term.operator], wanted)
    if isinstance(term, In):
        return frozenset(value for value in term.values if type(value) is str).__contains__
    if isinstance(term, Empty):
        return "".__eq__
    return lambda _: True


def _key(term: Term) -> Any:
    """What tells terms of one column apart (1, 1.0 and true are equal for Python)."""
    if type(term) is Compare:
        return (term.operator, type(term.value), term.value)
    if type(term) is In:
        return tuple((type(value), value) for value in term.values)
    return type(term)


def _equal(numbers: NDArray[np.float64], wanted: float) -> Mask:
    near = as_float(wanted)
    mask: Mask = numbers == near if near == wanted else np.zeros(len(numbers), np.bool_)
    return mask


def _greater(numbers: NDArray[np.float64], wanted: float) -> Mask:
    near = as_float(wanted)
    return numbers >= near if near > wanted else numbers > near


def _less(numbers: NDArray[np.float64], wanted: float) -> Mask:
    near = as_float(wanted)
    return numbers <= near if near < wanted else numbers < near


def _at_least(numbers: NDArray[np.float64], wanted: float) -> Mask:
    near = as_float(wanted)
    return numbers > near if near < wanted else numbers >= near


def _at_most(numbers: NDArray[np.float64], wanted: float) -> Mask:
    near = as_float(wanted)
    return numbers < near if near > wanted else numbers <= near


def _unequal(numbers: NDArray[np.float64], wanted: float) -> Mask:
    return ~_equal(numbers, wanted)


_NUMBERS = frozenset({int, float})
_ORDER: dict[str, Callable[[str, str], bool]] = {
    "eq": eq,
    "ne": ne,
    "gt": lt,
    "ge": le,
    "lt": gt,
    "le": ge,
}
"""Called with the wanted text first."""
_NUMERIC: dict[str, Callable[[NDArray[np.float64], Any], Mask]] = {
    "eq": _equal,
    "ne": _unequal,
    "gt": _greater,
    "ge": _at_least,
    "lt": _less,
    "le": _at_most,
}
