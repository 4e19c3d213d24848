"""What an RQL expression says, as a tree: terms about fields of a thing, joined by and, or, not (ditto.md 1.8).

A field is a path as commands have it: ("attributes", "x"), ("features", "*", "properties", "power") where `*` is any
feature, ("thingId",), ("policyId",), ("definition",), ("_namespace",), ("_revision",), ("_created",), ("_modified",),
("_metadata", ...). In event filters there are ("topic:action",), ("resource:path",), ("time:now",) ... as single segments.
Values are scalars; `time:now-5m` stands resolved, as ISO 8601 text.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

Scalar: TypeAlias = str | int | float | bool | None
Field: TypeAlias = tuple[str, ...]
Operator: TypeAlias = Literal["eq", "ne", "gt", "ge", "lt", "le", "like", "ilike"]


class Compare(Struct, frozen=True):
    """A field against a value; of an array, any element. `like`: `*` any characters, `?` one, anchored."""

    operator: Operator
    field: Field
    value: Scalar


class In(Struct, frozen=True):
    """A field against several values: any of them."""

    field: Field
    values: tuple[Scalar, ...]


class Exists(Struct, frozen=True):
    """The field is there, be it null."""

    field: Field


class Empty(Struct, frozen=True):
    """The field is absent, null, "", [] or {}."""

    field: Field


class And(Struct, frozen=True):
    """All terms hold."""

    terms: tuple[Predicate, ...]


class Or(Struct, frozen=True):
    """One of the terms holds."""

    terms: tuple[Predicate, ...]


class Not(Struct, frozen=True):
    """The term does not hold."""

    term: Predicate


Predicate: TypeAlias = Compare | In | Exists | Empty | And | Or | Not


def denying(predicate: Predicate) -> Predicate:
    """The predicate with each `ne` made the opposite of `eq`: outside searches it holds of a missing field too, as in Ditto."""
    if isinstance(predicate, And | Or):
        return type(predicate)(tuple(denying(term) for term in predicate.terms))
    if isinstance(predicate, Not):
        return Not(denying(predicate.term))
    if isinstance(predicate, Compare) and predicate.operator == "ne":
        return Not(Compare("eq", predicate.field, predicate.value))
    return predicate


def fields(predicate: Predicate) -> set[Field]:
    """Every field that the predicate looks at."""
    if isinstance(predicate, And | Or):
        return set().union(*(fields(term) for term in predicate.terms))
    if isinstance(predicate, Not):
        return fields(predicate.term)
    return {predicate.field}
