"""Earlier states of entities in the embedded store, made from the bases that are kept of them and the events since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import json

from skerry.signals import Held, Kind, Micros
from skerry_registry.journal.replay import rebuild
from skerry_registry.stores import reader

if TYPE_CHECKING:
    import apsw

PAGE = 1_000
"""Events that are read at a time."""

_NEWEST = """SELECT held FROM (
  SELECT revision, held FROM snapshots WHERE entity = :entity AND revision <= :revision UNION ALL
  SELECT * FROM (SELECT revision, held FROM bases WHERE entity = :entity AND revision <= :revision
    ORDER BY revision DESC LIMIT 1))
  ORDER BY revision DESC LIMIT 1"""

_held = json.Decoder(Held).decode


def at(connection: apsw.Connection, kind: Kind, id: str, revision: int) -> Held | None:  # noqa: A002
    """The state at a revision, as far as it can be made of what is kept."""
    entity = _entity(connection, kind, id)
    if entity is None:
        return None
    text = connection.execute(_NEWEST, {"entity": entity, "revision": revision}).get
    held = _held(text) if text is not None else None
    if held is None:
        first = _bounds(connection, entity)[0]
        after = revision if first is None else first - 1
    else:
        after = held.revision
    while after < revision:
        upto = min(revision, after + PAGE)
        held = rebuild(held, reader.history(connection, kind, id, after + 1, upto))
        after = upto
    return held if held is not None and held.revision == revision else None


def revision_at(connection: apsw.Connection, kind: Kind, id: str, time: Micros) -> int:  # noqa: A002
    """The newest revision before a time, or the one before the oldest kept event; by halving, for times grow with revisions."""
    entity = _entity(connection, kind, id)
    if entity is None:
        return 0
    first, last = _bounds(connection, entity)
    if first is None or last is None:
        found = connection.execute("SELECT revision FROM snapshots WHERE entity = ?", (entity,)).get
        return int(found or 0)
    low, high = first, last + 1
    while low < high:
        middle = (low + high) // 2
        row = "SELECT timestamp FROM journal WHERE entity = ? AND revision = ?"
        if connection.execute(row, (entity, middle)).get < time:
            low = middle + 1
        else:
            high = middle
    return low - 1


def _entity(connection: apsw.Connection, kind: Kind, id: str) -> int | None:  # noqa: A002
    found: int | None = connection.execute("SELECT entity FROM entities WHERE kind = ? AND id = ?", (kind, id)).get
    return found


def _bounds(connection: apsw.Connection, entity: int) -> tuple[int | None, int | None]:
    """The oldest and the newest revision of which the event is kept."""
    row: Any = connection.execute(
        "SELECT (SELECT min(revision) FROM journal WHERE entity = ?1), (SELECT max(revision) FROM journal WHERE entity = ?1)",
        (entity,),
    ).fetchone()
    return row[0], row[1]
