# ruff: noqa: N818 - errors are rows of a table
"""What is asked of a search and what it answers."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from skerry.errors import SkerryError
from skerry.rql.predicate import Field
from skerry.signals import Json

Function: TypeAlias = Literal["count", "min", "max", "avg", "sum", "percentile"]


class QueryTimeExceeded(SkerryError):
    """A search that takes too long."""

    code = "thing-search:query.time.exceeded"
    status = 408
    message = "The search was given up after {seconds} seconds."
    description = "Narrow it down: name namespaces, or add a term that fewer things satisfy."


class IndexUnavailable(SkerryError):
    """A search before everything there is could be read."""

    code = "thing-search:index.unavailable"
    status = 503
    message = "Things cannot be searched yet: {reason}"
    description = "Try again in a moment: what there is will be read as soon as the store answers."


class SearchMemoryTaken(SkerryError):
    """Searches that run look at so many fields that there is no room for those of another."""

    code = "thing-search:memory.taken"
    status = 503
    message = "What the searches of this moment look at takes all of the {limit} MB that there are for it."
    description = "Try again in a moment, or ask for fewer fields at a time."


class AggregateTooLarge(SkerryError):
    """More groups than one answer may have."""

    code = "thing-search:aggregate.toolarge"
    status = 400
    message = "The things fall into more than {limit} groups."
    description = "Group by something that fewer values occur of, or filter the things."


class Sort(Struct, frozen=True):
    """One key of an order.

    What is missing or null comes first (last when descending), then numbers, texts, objects, booleans; an array stands
    where its least (descending: greatest) element would.
    """

    field: Field
    descending: bool = False


class After(Struct, frozen=True):
    """The place in an order behind which a page begins: the sort keys of a thing, as `Page.next` gave them, and its id."""

    keys: tuple[tuple[int, Json], ...]
    id: str


class Page(Struct, frozen=True):
    """Ids of things in order; `next` when there are more."""

    ids: list[str]
    next: After | None = None


class Metric(Struct, frozen=True):
    """A figure over the numbers at a field (`count`: of the things that have the field; without a field: of all)."""

    name: str
    function: Function
    field: Field | None = None
    percentile: float = 50.0


class Group(Struct, frozen=True):
    """What the things of one group have in common, in the order of the fields, and their figures by name."""

    keys: tuple[Json, ...]
    figures: dict[str, float | int | None]
