"""What a caller may search for: filters as one predicate, namespaces within his reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from skerry.rql.parse import SIZE_LIMIT, RqlInvalid, parse
from skerry.rql.predicate import And, Predicate
from skerry.rql.predicate import fields as fields_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skerry.signals import Micros
    from skerry_registry.identities.namespaces import Reach
    from skerry_registry.search.search import Search

FIELDS_MAX = 50
"""Fields that one search may look at: each takes memory for every thing there is."""


def predicate_of(filters: Sequence[str], now: Micros) -> Predicate | None:
    """What all filters say together, None where there is none. Raises RqlInvalid."""
    length = sum(map(len, filters))
    if length > SIZE_LIMIT:
        _refuse(f"all filters together have {length} characters, {SIZE_LIMIT} are allowed")
    terms = tuple(parse(text, now) for text in filters)
    if not terms:
        return None
    predicate = terms[0] if len(terms) == 1 else And(terms)
    if (count := len(fields_of(predicate))) > FIELDS_MAX:
        _refuse(f"it looks at {count} fields, {FIELDS_MAX} are allowed")
    return predicate


async def reached(search: Search, namespaces: tuple[str, ...] | None, reach: Reach | None) -> tuple[str, ...] | None:
    """The namespaces (None: all) as far as the operator's rules let the caller reach them."""
    if reach is None:
        return namespaces
    if namespaces is None:
        namespaces = tuple(await search.namespaces())
    return tuple(name for name in namespaces if reach.covers("thing", name))


def _refuse(problem: str) -> NoReturn:
    raise RqlInvalid(position=1, problem=problem, near="▸ (all of it)", sound=True)
