"""History: what the properties of a thing were, for those who may read them, and no older than what was acknowledged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from skerry import pointer
from skerry.parts import PropertyNotFound, ThingNotAccessible
from skerry.signals import Command
from skerry_adapters.series import query
from skerry_adapters.series.query import QueryInvalid

if TYPE_CHECKING:
    from skerry.signals import Clock, Json, Micros, Path, Response
    from skerry_adapters.series.ports import Page, Series, Value
    from skerry_policies.enforcer import Permits

PATHS_MAX = 100
PATIENCE = 3.0
"""Seconds that an answer waits for the series to hold what the journal held when it was asked."""


class Registry(Protocol):
    """The registry, as far as history knows it."""

    @property
    def clock(self) -> Clock:
        """What time it is."""
        ...

    async def permits(self, subjects: tuple[str, ...], thing_id: str) -> Permits:
        """The caller's rights on a thing; raises ThingNotAccessible where it is hidden and its history, too."""
        ...

    async def reborn(self, thing_id: str) -> Micros | None:
        """When the thing was made, where another had its id before; else None."""
        ...

    async def handle(self, command: Command) -> Response:
        """Carry out one command; raises SkerryError."""
        ...


class History:
    """Answers time series queries."""

    def __init__(self, registry: Registry, series: Series, caught_up: Callable[[float], Awaitable[bool]]) -> None:
        """`caught_up(seconds)`: wait until the series holds all that is in the journal now; False if that takes longer.

        That is `lambda seconds: sink.reach(journal.last, seconds)`.
        """
        self._registry = registry
        self._series = series
        self._caught_up = caught_up

    async def answer(
        self, subjects: tuple[str, ...], thing_id: str, paths: Sequence[Path], params: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """One object per property that the caller may read: {thingId, path, query, result, data: [{t, v}]}.

        Raises ThingNotAccessible, PropertyNotFound (where none may be read), QueryInvalid, SeriesUnavailable.
        """
        permits = await self._registry.permits(subjects, thing_id)
        learned = await self._registry.reborn(thing_id)
        asked = query.read(params, self._registry.clock())
        check(paths)
        readable = [path for path in paths if may_read(permits, path)]
        if not readable:
            raise PropertyNotFound(thing_id=thing_id, feature_id=paths[0][1], path=pointer.write(paths[0][3:]))
        texts = [pointer.write(path) for path in readable]
        queries = [query.query_of(asked, thing_id, text, learned) for text in texts]
        current = await self._caught_up(PATIENCE)
        units = await self._units(subjects, thing_id)
        answers = []
        for path, text, one in zip(readable, texts, queries, strict=True):
            page = await self._series.query(one)
            cursor = None if page.next is None else query.cursor_of(asked, thing_id, text, page.next)
            answers.append(
                {
                    "thingId": thing_id,
                    "path": text,
                    "query": query.shown(asked),
                    "result": _result(
                        page, cursor, current, unit_of(units, path, one.agg if one.step is not None else None)
                    ),
                    "data": _data(page, milliseconds=asked.milliseconds),
                }
            )
        return answers

    async def _units(self, subjects: tuple[str, ...], thing_id: str) -> Json:
        """What the thing's attribute `units` tells the caller; None if nothing."""
        command = Command(verb="retrieve", id=thing_id, subjects=subjects, path=("attributes", "units"))
        try:
            return (await self._registry.handle(command)).value
        except ThingNotAccessible:
            return None


def may_read(permits: Permits, path: Path) -> bool:
    """Whether the history at a path may be read: READ_TS decides where anything is said of it, else READ (decision 0009)."""
    said = permits.said("thing", path, "READ_TS")
    return permits.holds("thing", path, "READ") if said is None else said


def unit_of(units: Json, path: Path, agg: str | None) -> str | None:
    """The unit of a property's rows: of its samples, or of what `agg` makes of them; None where the thing tells none.

    `units` has the shape of the properties; a text stands for all that is below it.
    """
    for segment in path[3:]:
        if not isinstance(units, dict):
            break
        units = units.get(segment)
    if not isinstance(units, str) or not units or agg == "count":
        return None
    if agg not in _UNIT_CHANGES:
        return units
    return f"{units if units.isalnum() else f'({units})'}{_UNIT_CHANGES[agg]}"


def check(paths: Sequence[Path]) -> None:
    """Refuse what can have no series. Raises QueryInvalid."""
    if not 1 <= len(paths) <= PATHS_MAX:
        raise QueryInvalid(name="paths", reason=f"{len(paths)} properties are asked for; name 1 to {PATHS_MAX}")
    for path in paths:
        if len(path) < 4 or path[0] != "features" or path[2] != "properties":
            raise QueryInvalid(
                name="paths",
                reason=f"{pointer.write(path)} has no history; name properties, such as /features/scada/properties/power",
            )


def _result(page: Page, cursor: str | None, current: bool, unit: str | None) -> dict[str, Any]:
    result: dict[str, Any] = {"count": len(page.rows), "dataType": _data_type(page), "hasMore": cursor is not None}
    if unit is not None:
        result["unit"] = unit
    if cursor is not None:
        result["nextCursor"] = cursor
    if not current:
        result["upToDate"] = False
    return result


def _data_type(page: Page) -> str | None:
    kinds = {_KINDS[type(value)] for _, value in page.rows if value is not None}
    return None if not kinds else kinds.pop() if len(kinds) == 1 else "mixed"


_UNIT_CHANGES: Mapping[str | None, str] = {"derivative": "/s", "rate": "/s", "integral": "·s"}
_KINDS: Mapping[type[Value], str] = {float: "number", int: "number", bool: "boolean", str: "string"}


def _data(page: Page, *, milliseconds: bool) -> list[dict[str, Any]]:
    write: Callable[[Micros], Any] = _milliseconds if milliseconds else query.iso
    return [{"t": write(time), "v": value} for time, value in page.rows]


def _milliseconds(time: Micros) -> float:
    whole, rest = divmod(time, 1_000)
    return whole + rest / 1_000 if rest else whole
