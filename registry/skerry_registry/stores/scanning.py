"""The embedded store read through: what stands at some fields of every snapshot, a slice of entities at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apsw
from msgspec import UNSET, json

from skerry.rql.evaluate import at
from skerry_registry.ports import Scanned, Texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skerry.rql.predicate import Field
    from skerry.signals import Json, Kind

# `+` and CROSS JOIN keep SQLite from looking through all ids of a kind for each slice.
_UNSAFE = frozenset('"\\')
"""What stands escaped in keys, which paths of SQLite do not reach."""

_decode = json.Decoder(list[list[Any]]).decode
_names = json.Decoder(list[str]).decode


def things(connection: apsw.Connection, fields: Sequence[Field], after: int, limit: int) -> Scanned:
    """What stands at the fields of things whose entity numbers are > `after`."""
    plans = [_Plan(field) for field in fields]
    row = "||','||".join(["json_quote(id)", *(plan.sql for plan in plans)])
    text, place, count = connection.execute(
        f"""SELECT '[' || coalesce(group_concat('[' || {row} || ']'), '') || ']', max(entity), count(*)
          FROM (SELECT entities.entity, id, held FROM entities CROSS JOIN snapshots USING (entity)
                WHERE +kind = 'thing' AND +alive AND entities.entity > ? ORDER BY entities.entity LIMIT ?)""",  # noqa: S608 - paths are quoted
        (after, limit),
    ).get
    rows = _decode(text)
    values = [
        [plan.values(row[number]) for row in rows]
        if plan.wild
        else [row[number] if type(row[number]) is list else plan.rest(row[number]) for row in rows]
        for number, plan in enumerate(plans, 1)
    ]
    return Scanned([row[0] for row in rows], values, place if count == limit else None)


def texts(connection: apsw.Connection, kind: Kind, after: int, limit: int) -> Texts:
    """The documents of entities whose numbers are > `after`."""
    ids, documents, place, count = connection.execute(
        """SELECT json_group_array(id), json_group_array(document), max(entity), count(*)
           FROM (SELECT entities.entity, id, CAST(held -> '$.document' AS TEXT) || '' AS document
                 FROM entities CROSS JOIN snapshots USING (entity)
                 WHERE +kind = ? AND +alive AND entities.entity > ? ORDER BY entities.entity LIMIT ?)""",
        (kind, after, limit),
    ).get
    return Texts(_names(ids), _names(documents), place if count == limit else None)


class _Plan:
    """How SQL comes by what stands at a field: a JSON array of it, or of the part of the way that SQL can go an object."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self.wild = False
        self.sql: str
        if field[0] in {"_revision", "_created", "_modified"}:
            self.sql = f"'['||(held ->> '$.{field[0][1:]}')||']'"
        elif field[0] == "features" and len(field) > 1 and field[1] == "*":
            self.wild = True
            self.sql = self._any_feature(field)
        elif field[0] == "_metadata":
            self.sql = self._direct(("metadata", *field[1:]), 1)
        else:
            self.sql = self._direct(("document", *field), 2)

    def rest(self, found: dict[str, Json]) -> list[Json]:
        """What stands at the field, given what stands at its first segments."""
        (place, value), *_ = found.items()
        return at(value, self._field, int(place))

    def values(self, found: list[list[Json]] | dict[str, Json]) -> list[Json]:
        """What stands at the field in every feature, given lists of it, or the features."""
        if isinstance(found, list):
            return [value[0] if value else UNSET for value in found]
        features = next(iter(found.values())) or {}
        return [value for feature in features.values() for value in at(feature, self._field, 2) or [UNSET]]

    def _direct(self, path: tuple[str, ...], top: int) -> str:
        """Straight down; where something on the way is an array (or has a key that cannot be named), as far as `top`."""
        head = path[:top]
        if len(path) <= top or any(_UNSAFE.intersection(segment) for segment in path[: top + 1]):
            if not any(_UNSAFE.intersection(segment) for segment in path):
                return f"coalesce('['||(held -> {_path(path)})||']', '[]')"
            return f"""coalesce('{{"{top - 1}":'||(held -> {_path(head)})||'}}', '[]')"""
        way = f"""'{{"{top}":'||(held -> {_path(path[: top + 1])})||'}}'"""
        if any(_UNSAFE.intersection(segment) for segment in path):
            return f"coalesce({way}, '[]')"
        found = f"'['||(held -> {_path(path)})||']'"
        if len(path) == top + 1:
            return f"coalesce({found}, '[]')"
        kinds = [f"json_type(held, {_path(path[:length])}) = 'array'" for length in range(top + 1, len(path))]
        return f"coalesce({found}, CASE WHEN {' OR '.join(kinds)} THEN {way} END, '[]')"

    def _any_feature(self, field: Field) -> str:
        """Over all features; where SQL cannot go further, the features as they are."""
        if len(field) > 4 or any(_UNSAFE.intersection(segment) for segment in field):
            return """coalesce('{"1":'||(held -> '$.document.features')||'}', '[]')"""
        value = f"value -> {_path(field[2:])}" if len(field) > 2 else "value"
        missing = "'[]'" if len(field) > 2 else "'[null]'"
        inner = f"""SELECT '['||coalesce(group_concat(
                      coalesce(CASE type WHEN 'object' THEN '['||({value})||']' END, {missing})), '')||']'
                    FROM json_each(held, '$.document.features')"""  # noqa: S608 - paths are quoted
        return f"({inner})"


def _path(segments: Sequence[str]) -> str:
    """An SQL text with the JSON path."""
    path = "$" + "".join(f'."{segment}"' for segment in segments)
    return "'" + path.replace("'", "''") + "'"
