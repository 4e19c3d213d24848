# ruff: noqa: N818 - errors are rows of a table
"""What `POST /api/2/search/things/aggregate` takes and answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta, Struct

from skerry.errors import SkerryError
from skerry.rql.parse import parse
from skerry.rql.predicate import Exists, Field
from skerry.signals import Json
from skerry_registry.search.query import Group, Metric

GROUPS = 100
GROUPS_MAX = 10_000


class AggregateInvalid(SkerryError):
    """A body that asks for no aggregate."""

    code = "thing-search:aggregate.invalid"
    status = 400
    message = "The aggregate cannot be formed: {problem}."
    description = (
        'A body reads {{"filter": "eq(attributes/farm,\\"A\\")", "groupBy": ["attributes/site"], '
        '"aggregates": {{"power": {{"op": "avg", "path": "features/scada/properties/power"}}}}, '
        '"sort": ["-power"], "limit": 10}}.'
    )


Op: TypeAlias = Literal["count", "min", "max", "avg", "sum", "percentile"]
OPS = get_args(Op)


class Figure(Struct, frozen=True, forbid_unknown_fields=True):
    """One figure of each group."""

    op: Op
    path: str | None = None
    p: Annotated[float, Meta(ge=0, le=100)] | None = None


class Body(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body as it comes in."""

    filter: str | tuple[str, ...] = ()
    namespaces: tuple[str, ...] | None = None
    group_by: Annotated[tuple[str, ...], Meta(max_length=10)] = ()
    aggregates: Annotated[dict[str, Figure], Meta(max_length=50)] = {}
    sort: tuple[str, ...] = ()
    limit: Annotated[int, Meta(ge=1, le=GROUPS_MAX)] = GROUPS


class Wanted(Struct, frozen=True):
    """An aggregate that makes sense. `sort`: (name of a figure or text of a path, descending)."""

    filters: tuple[str, ...]
    namespaces: tuple[str, ...] | None
    names: tuple[str, ...]
    by: tuple[Field, ...]
    metrics: tuple[Metric, ...]
    sort: tuple[tuple[str, bool], ...]
    limit: int


def read(value: Json) -> Wanted:
    """What the body asks for. Raises AggregateInvalid."""
    try:
        body = msgspec.convert(value, Body)
    except msgspec.ValidationError as error:
        raise AggregateInvalid(problem=_problem(str(error))) from error
    filters = (body.filter,) if isinstance(body.filter, str) else body.filter
    metrics = tuple(_metric(name, figure) for name, figure in (body.aggregates or {"count": Figure("count")}).items())
    known = {*body.group_by, *(metric.name for metric in metrics)}
    sort = tuple((text.removeprefix("+").removeprefix("-"), text.startswith("-")) for text in body.sort)
    for name, _ in sort:
        if name not in known:
            raise AggregateInvalid(problem=f"it is sorted by '{name}', which is no figure and not in groupBy")
    by = tuple(_field(path) for path in body.group_by)
    return Wanted(
        tuple(text for text in filters if text), body.namespaces, body.group_by, by, metrics, sort, body.limit
    )


def shown(wanted: Wanted, groups: Sequence[Group]) -> dict[str, Any]:
    """The answer: `{groups: [{by: {path: value}, figure: number ...}], more?}`; what is missing sorts first."""
    rows = [({**dict(zip(wanted.names, group.keys, strict=True)), **group.figures}, group) for group in groups]
    for name, descending in reversed(wanted.sort):
        rows.sort(key=lambda row: _rank(row[0].get(name)), reverse=descending)
    answer: dict[str, Any] = {
        "groups": [
            {"by": dict(zip(wanted.names, group.keys, strict=True)), **group.figures}
            for _, group in rows[: wanted.limit]
        ]
    }
    if len(rows) > wanted.limit:
        answer["more"] = len(rows) - wanted.limit
    return answer


def _problem(text: str) -> str:
    """What msgspec says of the body, with what would be right."""
    for word, names in (("enum value", OPS), ("unknown field", (*Body.__struct_encode_fields__, "op", "path", "p"))):
        if word in text:
            text = f"{text}; possible are {', '.join(names)}"
    return text[:1].lower() + text[1:].replace("`", "'").replace("$", "the body")


def _metric(name: str, figure: Figure) -> Metric:
    if name == "by" or not name:
        raise AggregateInvalid(problem=f"a figure cannot be called '{name}'")
    if figure.path is None and figure.op != "count":
        raise AggregateInvalid(problem=f"'{name}' lacks its path")
    if (figure.p is None) is (figure.op == "percentile"):
        raise AggregateInvalid(problem=f"'{name}': p belongs to percentile, and percentile needs it")
    path = None if figure.path is None else _field(figure.path)
    return Metric(name, figure.op, path, 50.0 if figure.p is None else figure.p)


def _field(path: str) -> Field:
    try:
        term = parse(f"exists({path})", 0)
    except SkerryError as error:
        raise AggregateInvalid(problem=f"'{path}' names no field of a thing") from error
    if not isinstance(term, Exists):
        raise AggregateInvalid(problem=f"'{path}' names no field of a thing")
    return term.field


def _rank(value: Json) -> tuple[int, Any]:
    """What can be compared with any other: nothing, numbers, texts, booleans, anything else as text."""
    if value is None:
        return 0, 0
    if isinstance(value, bool):
        return 3, value
    if isinstance(value, int | float):
        return 1, value
    return (2, value) if isinstance(value, str) else (4, msgspec.json.encode(value))
