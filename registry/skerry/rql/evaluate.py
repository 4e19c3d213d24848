# ruff: noqa: N818 - errors are rows of a table
"""Whether what is known of one thing satisfies a predicate (ditto.md 1.8)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeAlias

from msgspec import UNSET

from skerry.errors import SkerryError
from skerry.rql.predicate import And, Compare, Empty, Exists, Field, In, Not, Or, Predicate, Scalar
from skerry.signals import Held, Json
from skerry.times import write

ValueOf: TypeAlias = Callable[[Field], Sequence[Json]]
"""What stands at a field: nothing, one value, or one for each feature when the field names any feature (`*`, UNSET for a
feature without it).

An array on the way is entered: what its members have at the field stands together, as an array.
"""


EFFORT_LIMIT = 200_000
"""Comparisons that one evaluation over one thing may take, each element of an array counted."""
STRIDE = 32
"""Characters of a text that count as one more comparison."""


class RqlTooWide(SkerryError):
    """Too many terms over too many elements."""

    code = "rql.expression.toowide"
    status = 400
    message = "The RQL expression asks for more than {limit} comparisons with one thing."
    description = "Use fewer terms on long arrays; in(field,value,…) compares any number of values at once."


def matches(predicate: Predicate, value_of: ValueOf) -> bool:
    """Whether the predicate holds. One of the values of a field suffices; of an array, one element.

    Only values of one type compare: numbers by size, texts by code point, booleans and null for equality. `ne` holds
    where the field is there and no element equals.
    """
    kind = type(predicate)
    if kind is Compare:
        test = _TESTS[predicate.operator]  # type: ignore[union-attr] # it is a Compare
        wanted = predicate.value  # type: ignore[union-attr] # it is a Compare
        return any(test(value, wanted) for value in value_of(predicate.field))  # type: ignore[union-attr] # it is a Compare
    if isinstance(predicate, And):
        return all(matches(term, value_of) for term in predicate.terms)
    if isinstance(predicate, Or):
        return any(matches(term, value_of) for term in predicate.terms)
    if isinstance(predicate, Not):
        return not matches(predicate.term, value_of)
    if isinstance(predicate, Exists):
        return any(value is not UNSET for value in value_of(predicate.field))
    if isinstance(predicate, Empty):
        values = value_of(predicate.field)
        if not values:
            return len(predicate.field) == 2 or predicate.field[:2] != ("features", "*")
        return any(is_empty(value) for value in values)
    assert isinstance(predicate, In)
    wanted = {(_KINDS[type(value)], value) for value in predicate.values}
    return any(_is_in(value, wanted) for value in value_of(predicate.field))


def is_empty(value: Json) -> bool:
    """Whether a value is missing, null, "", [] or {}."""
    return value is None or value is UNSET or (type(value) in {str, list, dict} and not value)


def _is_in(value: Json, wanted: set[tuple[str, Scalar]]) -> bool:
    """Whether a value, or an element of an array, is among those with their kinds: however many, one look at each."""
    if type(value) is list:
        return any(_is_in(member, wanted) for member in value)
    kind = _KINDS.get(type(value))
    return kind is not None and (kind, value) in wanted


def _alike(one: Json, other: Scalar) -> bool:
    """Whether two scalars are of one type: numbers, texts or booleans."""
    first, second = type(one), type(other)
    return first is second or (first in _NUMBERS and second in _NUMBERS)


_KINDS: dict[type, str] = {int: "number", float: "number", str: "text", bool: "boolean", type(None): "null"}
_NUMBERS = frozenset({int, float})
_ORDERED = frozenset({int, float, str})


def _equals(value: Json, wanted: Scalar) -> bool:
    if type(value) is list:
        return any(_equals(member, wanted) for member in value)
    return bool(value == wanted) and _alike(value, wanted)


def _differs(value: Json, wanted: Scalar) -> bool:
    return value is not UNSET and not _equals(value, wanted)


def _ordered(compare: Callable[[Json, Json], bool]) -> Callable[[Json, Scalar], bool]:
    """A test of order, for texts and for numbers."""

    def test(value: Json, wanted: Scalar) -> bool:
        if type(value) is list:
            return any(test(member, wanted) for member in value)
        return type(value) in _ORDERED and _alike(value, wanted) and compare(value, wanted)

    return test


def _like(value: Json, wanted: Scalar) -> bool:
    if type(value) is list:
        return any(_like(member, wanted) for member in value)
    return type(value) is str and like(str(wanted), ignoring_case=False).fullmatch(value)


def _ilike(value: Json, wanted: Scalar) -> bool:
    if type(value) is list:
        return any(_ilike(member, wanted) for member in value)
    return type(value) is str and like(str(wanted), ignoring_case=True).fullmatch(value)


_TESTS: dict[str, Callable[[Json, Scalar], bool]] = {
    "eq": _equals,
    "ne": _differs,
    "gt": _ordered(lambda value, wanted: value > wanted),
    "ge": _ordered(lambda value, wanted: value >= wanted),
    "lt": _ordered(lambda value, wanted: value < wanted),
    "le": _ordered(lambda value, wanted: value <= wanted),
    "like": _like,
    "ilike": _ilike,
}


class Like:
    """A `like` pattern: `*` any characters, `?` one, anchored; costs about as much as the text is long.

    Each asterisk stands for as little as the text behind it allows, and is not reconsidered, save the last.
    """

    __slots__ = ("_first", "_fold", "_last", "_least", "_middle")

    def __init__(self, pattern: str, *, ignoring_case: bool) -> None:
        self._fold = _folded if ignoring_case else None
        parts = (_folded(pattern) if ignoring_case else pattern).split("*")
        self._least = sum(map(len, parts))
        self._first = _Part(parts[0])
        self._middle = [_Part(part) for part in parts[1:-1] if part]
        self._last = _Part(parts[-1]) if len(parts) > 1 else None

    def fullmatch(self, text: str) -> bool:
        """Whether the pattern takes the whole text."""
        if self._fold is not None:
            text = self._fold(text)
        first, last = self._first, self._last
        if last is None:
            return len(text) == self._least and first.stands(text, 0)
        if len(text) < self._least or not first.stands(text, 0):
            return False
        place, end = first.length, len(text) - last.length
        for part in self._middle:
            found = part.find(text, place, end)
            if found < 0:
                return False
            place = found + part.length
        return last.stands(text, end)


class _Part:
    """What stands between two asterisks."""

    __slots__ = ("_expression", "_text", "length")

    def __init__(self, text: str) -> None:
        self.length = len(text)
        self._text = text
        self._expression = None
        if "?" in text:
            self._expression = re.compile("".join("." if sign == "?" else re.escape(sign) for sign in text), re.DOTALL)

    def stands(self, text: str, place: int) -> bool:
        """Whether it stands there."""
        if self._expression is None:
            return text.startswith(self._text, place)
        return self._expression.match(text, place) is not None

    def find(self, text: str, place: int, end: int) -> int:
        """Where it stands first; -1 for nowhere."""
        if self._expression is None:
            return text.find(self._text, place, end)
        found = self._expression.search(text, place, end)
        return -1 if found is None else found.start()


def _folded(text: str) -> str:
    """The text in one case, sign by sign."""
    if text.isascii():
        return text.lower()
    return "".join(next((form for form in (sign.casefold(), sign.lower()) if len(form) == 1), sign) for sign in text)


@lru_cache(maxsize=1_024)
def like(pattern: str, *, ignoring_case: bool) -> Like:
    """A `like` pattern made ready."""
    return Like(pattern, ignoring_case=ignoring_case)


def lookup_in(held: Held) -> ValueOf:
    """What stands at each field of a thing that is there, for one evaluation. Raises RqlTooWide when that takes too long."""
    document = held.document
    assert document is not None
    return counted(lambda field: _values(held, document, field))


def counted(values_at: ValueOf) -> ValueOf:
    """What stands at each field, asked once per field, for one evaluation. Raises RqlTooWide when that takes too long."""
    known: dict[Field, tuple[Sequence[Json], int]] = {}
    spent = 0

    def value_of(field: Field) -> Sequence[Json]:
        nonlocal spent
        found = known.get(field)
        if found is None:
            values = values_at(field)
            known[field] = found = values, sum(map(_places, values))
        spent += found[1]
        if spent > EFFORT_LIMIT:
            raise RqlTooWide(limit=EFFORT_LIMIT)
        return found[0]

    return value_of


def _places(value: Json) -> int:
    """How many values there are to compare; long texts count for more, as looking through them takes long."""
    if type(value) is list:
        return 1 + sum(map(_places, value))
    return 1 + len(value) // STRIDE if type(value) is str else 1


def _values(held: Held, document: dict[str, Json], field: Field) -> Sequence[Json]:
    """What stands at a field of a thing."""
    head = field[0]
    special = _SPECIAL.get(head)
    if special is not None:
        return [special(held)]
    if head == "_metadata":
        return [] if held.metadata is None else at(held.metadata, field, 1)
    if head == "features" and len(field) > 1 and field[1] == "*":
        features = document.get("features") or {}
        return [value for feature in features.values() for value in at(feature, field, 2) or [UNSET]]
    return at(document, field, 0)


_SPECIAL: dict[str, Callable[[Held], Json]] = {
    "_namespace": lambda held: held.id.partition(":")[0],
    "_revision": lambda held: held.revision,
    "_created": lambda held: write(held.created),
    "_modified": lambda held: write(held.modified),
}


def at(value: Json, field: Field, start: int) -> list[Json]:
    """What stands at a field below a value, from its segment `start` on: nothing or one value."""
    for place in range(start, len(field)):
        kind = type(value)
        if kind is dict:
            if field[place] not in value:
                return []
            value = value[field[place]]
        elif kind is list:
            members = [found for member in value for found in at(member, field, place)]
            return [members] if members else []
        else:
            return []
    return [value]
