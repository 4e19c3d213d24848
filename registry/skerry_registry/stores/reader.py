"""The embedded store's reading side: queries that answer in one row, because each further one costs Python's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import apsw
from msgspec import Raw, Struct, json

from skerry.signals import Event, Held, Kind, Micros
from skerry_registry.journal.replay import replay
from skerry_registry.ports import StoreUnavailable
from skerry_registry.stores.writer import signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skerry_registry.stores.lane import Job


class Load(Struct, frozen=True, eq=False):
    """The newest state of one entity."""

    kind: Kind
    id: str


class Documents(Struct, frozen=True, eq=False):
    """The documents of things, as their snapshots have them."""

    ids: Sequence[str]


Task: TypeAlias = Load | Documents | Callable[[apsw.Connection], Any]


class _Stored(Struct):
    """What the database has of an entity: its snapshot and the events after it, with their numbers."""

    held: Held | None
    events: list[Event]
    numbers: list[int]


class _Saved(Struct):
    """The document in a snapshot, as it is written there."""

    document: Raw = Raw(b"null")


class _Digest(Struct):
    """The digest of an event."""

    digest: int


_STORED = """'{"held":' || coalesce(snapshots.held, 'null')
  || ',"events":[' || coalesce((SELECT group_concat(event) FROM (SELECT event FROM journal
       WHERE journal.entity = entities.entity AND journal.revision > coalesce(snapshots.revision, 0)
       ORDER BY journal.revision)), '')
  || '],"numbers":[' || coalesce((SELECT group_concat(number) FROM (SELECT number FROM journal
       WHERE journal.entity = entities.entity AND journal.revision > coalesce(snapshots.revision, 0)
       ORDER BY journal.revision)), '') || ']}'"""
_LOAD = f"""SELECT '[' || group_concat(coalesce({_STORED}, 'null')) || ']' FROM json_each(?) AS wanted
  LEFT JOIN entities ON entities.kind = wanted.value ->> 0 AND entities.id = wanted.value ->> 1
  LEFT JOIN snapshots ON snapshots.entity = entities.entity"""  # noqa: S608 - no text from outside
_DOCUMENTS = """SELECT CAST(group_concat(coalesce(held, 'null'), char(10)) AS BLOB) FROM (
    SELECT snapshots.held AS held FROM json_each(?) AS wanted
    LEFT JOIN entities ON entities.kind = 'thing' AND entities.id = wanted.value AND entities.alive
    LEFT JOIN snapshots ON snapshots.entity = entities.entity AND snapshots.revision >= coalesce(
      (SELECT max(revision) FROM journal WHERE journal.entity = entities.entity), 0) ORDER BY wanted.key)"""
_LAGGING = """SELECT json_group_array(json_array(kind, id)) FROM entities WHERE entity IN (
    SELECT journal.entity FROM journal LEFT JOIN snapshots ON snapshots.entity = journal.entity
    WHERE journal.number > (SELECT number FROM marks WHERE name = 'checkpoint')
      AND journal.revision > coalesce(snapshots.revision, 0))"""

_encode = json.Encoder().encode
_stored = json.Decoder(list[_Stored | None]).decode
_snapshots = json.Decoder(_Saved | None).decode_lines
_events = json.Decoder(list[Event]).decode
_digests = json.Decoder(list[_Digest]).decode
_numbers = json.Decoder(list[int]).decode
_keys = json.Decoder(list[tuple[Kind, str]]).decode
_names = json.Decoder(list[str]).decode


def work(connection: apsw.Connection, jobs: list[Job[Task]]) -> list[Job[Task]]:
    """Answer all loads that wait by one query, or all questions for documents, or else the first other question."""
    loads = [job for job in jobs if isinstance(job.task, Load)]
    asked = [] if loads else [job for job in jobs if isinstance(job.task, Documents)]
    done = loads or asked or jobs[:1]
    try:
        if loads:
            held = load(connection, [(job.task.kind, job.task.id) for job in loads])  # type: ignore[union-attr]
            for job, result in zip(loads, held, strict=True):
                job.result = result
        elif asked:
            found = documents(connection, [id_ for job in asked for id_ in job.task.ids])  # type: ignore[union-attr]
            for job in asked:
                job.result = {id_: found[id_] for id_ in job.task.ids if id_ in found}  # type: ignore[union-attr]
        else:
            task = jobs[0].task
            assert not isinstance(task, Load | Documents)
            jobs[0].result = task(connection)
    except apsw.Error as error:
        for job in done:
            job.error = StoreUnavailable(reason=f"{error}.")
    return done


def load(connection: apsw.Connection, keys: Sequence[tuple[Kind, str]]) -> list[Held]:
    """The newest states, in order."""
    states: list[Held] = []
    text = connection.execute(_LOAD, (_encode(keys).decode(),)).get
    for (kind, id_), stored in zip(keys, _stored(text), strict=True):
        if stored is None:
            states.append(Held(kind=kind, id=id_))
            continue
        for event, number in zip(stored.events, stored.numbers, strict=True):
            event.number = number
        states.append(replay(stored.held or Held(kind=kind, id=id_), stored.events))
    return states


def documents(connection: apsw.Connection, ids: Sequence[str]) -> dict[str, bytes]:
    """The documents of those that exist and whose snapshots do not lag."""
    if not ids:
        return {}
    lines = connection.execute(_DOCUMENTS, (_encode(ids).decode(),)).get
    found = zip(ids, _snapshots(lines), strict=True)
    texts = ((id_, b"null" if saved is None else bytes(saved.document)) for id_, saved in found)
    return {id_: text for id_, text in texts if text != b"null"}


def recover(connection: apsw.Connection) -> list[Held]:
    """Every entity whose snapshot is older than its newest event."""
    keys = _keys(connection.execute(_LAGGING).get)
    states: list[Held] = []
    for start in range(0, len(keys), 500):
        states.extend(load(connection, keys[start : start + 500]))
    return states


def last(connection: apsw.Connection) -> int:
    """The newest number."""
    return _number(
        connection,
        "SELECT coalesce((SELECT max(number) FROM journal), (SELECT number FROM marks WHERE name = 'trimmed'))",
    )


def oldest(connection: apsw.Connection) -> int:
    """The oldest number kept."""
    return _number(
        connection,
        "SELECT coalesce((SELECT min(number) FROM journal), (SELECT number + 1 FROM marks WHERE name = 'trimmed'))",
    )


def checkpoint(connection: apsw.Connection) -> int:
    """How far snapshots are complete."""
    return _number(connection, "SELECT number FROM marks WHERE name = 'checkpoint'")


def page(connection: apsw.Connection, after: int, limit: int) -> list[Event]:
    """Events by number."""
    return _with_numbers(
        connection,
        "SELECT group_concat(event), group_concat(number) FROM"
        " (SELECT event, number FROM journal WHERE number > ? ORDER BY number LIMIT ?)",
        (after, limit),
    )


def history(connection: apsw.Connection, kind: Kind, id: str, first: int, last: int) -> list[Event]:  # noqa: A002
    """Events by revision."""
    return _with_numbers(
        connection,
        """SELECT group_concat(event), group_concat(number) FROM (SELECT event, number FROM journal
           WHERE entity = (SELECT entity FROM entities WHERE kind = ? AND id = ?) AND revision BETWEEN ? AND ?
           ORDER BY revision)""",
        (kind, id, first, last),
    )


def ids(connection: apsw.Connection, kind: Kind, after: str, limit: int) -> list[str]:
    """Ids of what exists."""
    return _names(
        connection.execute(
            """SELECT json_group_array(id) FROM
               (SELECT id FROM entities WHERE kind = ? AND alive AND id > ? ORDER BY id LIMIT ?)""",
            (kind, after, limit),
        ).get
    )


def count(connection: apsw.Connection, kind: Kind) -> int:
    """How many exist."""
    return _number(connection, "SELECT count(*) FROM entities WHERE kind = ? AND alive", (kind,))


def seen(connection: apsw.Connection, keys: Sequence[tuple[Micros, int]]) -> set[tuple[Micros, int]]:
    """Which pairs the journal carries."""
    wanted = [(observed, signed(digest)) for observed, digest in keys]
    places = connection.execute(
        """SELECT json_group_array(key) FROM json_each(?) AS wanted WHERE EXISTS (SELECT 1 FROM journal
           WHERE observed = wanted.value ->> 0 AND digest = wanted.value ->> 1)""",
        (_encode(wanted).decode(),),
    ).get
    return {keys[place] for place in _numbers(places)}


def deliveries(connection: apsw.Connection, limit: int) -> list[int]:
    """Digests of events without a time of their own, among the newest events."""
    text = connection.execute(
        """SELECT '[' || coalesce(group_concat(event), '') || ']' FROM (SELECT event FROM journal
           WHERE number > (SELECT max(number) FROM journal) - 200000 AND observed IS NULL AND digest IS NOT NULL
           ORDER BY number DESC LIMIT ?)""",
        (limit,),
    ).get
    return [found.digest for found in reversed(_digests(text))]


def cursor(connection: apsw.Connection, name: str) -> int:
    """A consumer's place."""
    return _number(connection, "SELECT coalesce((SELECT number FROM cursors WHERE name = ?), 0)", (name,))


def cursors(connection: apsw.Connection) -> dict[str, int]:
    """All consumers' places."""
    rows: list[Any] = connection.execute("SELECT name, number FROM cursors").fetchall()
    return dict(rows)


def size(connection: apsw.Connection) -> int:
    """Bytes in use."""
    return _number(
        connection,
        """SELECT (page_count - freelist_count) * page_size
           FROM pragma_page_count, pragma_freelist_count, pragma_page_size""",
    )


def _number(connection: apsw.Connection, query: str, bindings: tuple[Any, ...] = ()) -> int:
    """A query that answers one number."""
    return int(connection.execute(query, bindings).get)


def _with_numbers(connection: apsw.Connection, query: str, bindings: tuple[Any, ...]) -> list[Event]:
    """A query that answers events and numbers, each joined by commas."""
    events, numbers = connection.execute(query, bindings).get
    if events is None:
        return []
    found = _events(f"[{events}]")
    for event, number in zip(found, _numbers(f"[{numbers}]"), strict=True):
        event.number = number
    return found
