"""The search over things: who asks sees what he may read, as it is at the moment of asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from skerry.rql.evaluate import lookup_in, matches
from skerry_registry.search.query import After, Group, Metric, Page, Sort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skerry.rql.predicate import Field, Predicate
    from skerry_registry.ports import Store
    from skerry_registry.registry import Registry

SECONDS = 10.0
"""How long one search may take."""


class Search:
    """Finds things of a registry. Enter before the first search, leave to end what runs in the background."""

    def __init__(self, registry: Registry, store: Store, *, seconds: float = SECONDS) -> None:
        """`seconds`: the time after which a search is given up."""
        self._registry = registry
        self._store = store
        self._seconds = seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

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

        Only what the caller may read counts: terms over other fields neither hold nor fail, keys over them are missing.
        `namespaces`: only things of these (None: of all). Raises QueryTimeExceeded.
        """
        found = await self._matching(subjects, predicate, namespaces)
        found = [id_ for id_ in found if after is None or id_ > after.id][skip:]
        page = found[:size]
        return Page(page, After((), page[-1]) if len(found) > size else None)

    async def count(
        self, subjects: tuple[str, ...], predicate: Predicate | None = None, *, namespaces: Sequence[str] | None = None
    ) -> int:
        """How many things `find` would find. Raises QueryTimeExceeded."""
        return len(await self._matching(subjects, predicate, namespaces))

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

        A thing counts only where the caller may read everything that is grouped by and figured. Raises
        QueryTimeExceeded, AggregateTooLarge for more than `limit` groups.
        """
        raise NotImplementedError

    async def _matching(
        self, subjects: tuple[str, ...], predicate: Predicate | None, namespaces: Sequence[str] | None
    ) -> list[str]:
        """Ids, sorted."""
        found: list[str] = []
        after = ""
        while page := await self._registry.things(subjects, after, 200):
            after = page[-1].id
            found.extend(
                held.id
                for held in page
                if (namespaces is None or held.id.partition(":")[0] in namespaces)
                and (predicate is None or matches(predicate, lookup_in(held)))
            )
        return found
