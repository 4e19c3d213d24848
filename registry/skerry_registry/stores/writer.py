"""The embedded store's writing side, run by its one writer thread: group commit, snapshots, places, trimming."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeAlias

import apsw
from msgspec import Struct, json

from skerry.signals import Event, Held, Kind
from skerry_registry.ports import EventNotStorable, RevisionConflict, StoreUnavailable
from skerry_registry.stores import bases

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skerry_registry.stores.lane import Job

log = logging.getLogger(__name__)

Key: TypeAlias = tuple[Kind, str]

GROUP = 2_000
"""Events per transaction at most, so that nobody waits long."""

_COLUMNS = 7
_ROWS = tuple(1 << power for power in range(9))
_ROW = "(" + ",".join("?" * _COLUMNS) + ")"
# One statement takes many rows: each step of SQLite gives up Python's lock and has to get it back. Rows that are not
# needed are null and left out, so that few different statements serve every number of rows.
_INSERTS = {
    rows: f"INSERT INTO journal SELECT * FROM (VALUES {','.join([_ROW] * rows)}) WHERE column1 IS NOT NULL"  # noqa: S608 - no text from outside
    for rows in _ROWS
}
_BIRTHS = """INSERT INTO entities SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?) WHERE true
  ON CONFLICT (entity) DO UPDATE SET alive = excluded.alive"""
_SIGN = 1 << 63
_encode = json.Encoder().encode


class Append(Struct, frozen=True, eq=False):
    """Store events, all or none."""

    events: Sequence[Event]


class Save(Struct, frozen=True, eq=False):
    """Write snapshots."""

    held: Sequence[Held]
    upto: int


class Move(Struct, frozen=True, eq=False):
    """Remember a consumer's place."""

    name: str
    number: int


class Trim(Struct, frozen=True, eq=False):
    """Forget events numbered from `start` to below `before`."""

    start: int
    before: int


class Shrink(Struct, frozen=True, eq=False):
    """Give unused pages back to the file system; answers how many are left."""

    pages: int


Task: TypeAlias = Append | Save | Move | Trim | Shrink


class _Known:
    """An entity's row number and newest revision."""

    __slots__ = ("entity", "revision")

    def __init__(self, entity: int, revision: int) -> None:
        self.entity = entity
        self.revision = revision


def signed(digest: int) -> int:
    """64 bits as SQLite has them."""
    return digest - 2 * _SIGN if digest >= _SIGN else digest


class Writer:
    """What the writer thread does with its jobs; appends that wait together become one transaction."""

    def __init__(self, connection: apsw.Connection, cache: int = 200_000) -> None:
        """`cache`: of how many entities the row number and revision are kept in memory."""
        self._connection = connection
        self._cache = cache
        self._known: dict[Key, _Known] = {}
        self._number = 0
        self._sure = False  # whether memory and disk are known to agree
        self._entity = 0
        self._learn()

    def work(self, connection: apsw.Connection, jobs: list[Job[Task]]) -> list[Job[Task]]:
        """Do the appends, or when there is none the first other job; answers what was done."""
        appends: list[Job[Task]] = []
        events = 0
        for job in jobs:
            if isinstance(job.task, Append):
                if appends and events + len(job.task.events) > GROUP:
                    break
                appends.append(job)
                events += len(job.task.events)
        if appends:
            self._append(appends)
            return appends
        job = jobs[0]
        try:
            job.result = self._others(connection, job.task)
        except apsw.Error as error:
            self._roll_back()
            job.error = StoreUnavailable(reason=_words(error))
        return [job]

    def _append(self, jobs: list[Job[Task]]) -> None:
        """Commit the jobs' events together; those that conflict stay out."""
        try:
            if not self._sure:
                self._learn()
            sound, rows, births, fresh = self._prepare(jobs)
        except apsw.Error as error:
            self._sure = False
            _fail(jobs, error)
            return
        if not rows:
            return
        try:
            self._commit(rows, births)
        except apsw.Error as error:
            self._roll_back()
            self._sure = False
            log.warning("commit failed", extra={"reason": str(error), "events": len(rows) // _COLUMNS})
            if not self._is_in(rows):
                _fail(sound, error)
                return
        self._known.update(fresh)
        for job in sound:
            for event in job.task.events:  # type: ignore[union-attr]  # appends only
                self._number += 1
                event.number = self._number
                fresh[event.kind, event.id].revision = event.revision
        while len(self._known) > self._cache:
            del self._known[next(iter(self._known))]

    def _prepare(
        self, jobs: list[Job[Task]]
    ) -> tuple[list[Job[Task]], list[Any], list[tuple[int, Kind, str, int]], dict[Key, _Known]]:
        """The jobs without conflict, their rows (flat), the entities that come or go, and all entities touched."""
        sound: list[Job[Task]] = []
        rows: list[Any] = []
        births: list[tuple[int, Kind, str, int]] = []
        revisions: dict[Key, int] = {}
        touched: dict[Key, _Known] = {}
        number = self._number
        entity = self._entity
        for job in jobs:
            events = job.task.events  # type: ignore[union-attr]  # appends only
            texts = _texts(job, events)
            if texts is None or not self._fits(job, events, revisions, touched):
                continue
            sound.append(job)
            for event, text in zip(events, texts, strict=True):
                number += 1
                key = (event.kind, event.id)
                known = touched[key]
                if known.entity == 0:
                    entity += 1
                    known.entity = entity
                if event.revision == 1 or (not event.path and event.action in {"created", "deleted"}):
                    births.append((known.entity, event.kind, event.id, int(event.action != "deleted")))
                digest = None if event.digest is None else signed(event.digest)
                rows += (number, known.entity, event.revision, event.timestamp, event.observed, digest, text)
        self._entity = entity
        return sound, rows, births, touched

    def _fits(
        self, job: Job[Task], events: Sequence[Event], revisions: dict[Key, int], touched: dict[Key, _Known]
    ) -> bool:
        """Whether every event follows on what its entity has; if so `revisions` moves on."""
        after: dict[Key, int] = {}
        for event in events:
            key = (event.kind, event.id)
            known = touched.get(key)
            if known is None:
                known = touched[key] = self._known.get(key) or self._look_up(key)
            before = after.get(key)
            if before is None:
                before = revisions.get(key, known.revision)
            if event.revision != before + 1:
                job.error = RevisionConflict(event.kind, event.id)
                return False
            after[key] = event.revision
        revisions.update(after)
        return True

    def _look_up(self, key: Key) -> _Known:
        """Row number and newest revision from the database; zeros for what never was."""
        row = self._connection.execute(
            """SELECT entity, max(
                 coalesce((SELECT max(revision) FROM journal WHERE journal.entity = entities.entity), 0),
                 coalesce((SELECT revision FROM snapshots WHERE snapshots.entity = entities.entity), 0))
               FROM entities WHERE kind = ? AND id = ?""",
            key,
        ).fetchone()
        return _Known(*row) if row else _Known(0, 0)

    def _commit(self, rows: list[Any], births: list[tuple[int, Kind, str, int]]) -> None:
        """One transaction; a single statement is one by itself."""
        execute = self._connection.execute
        count = len(rows) // _COLUMNS
        if not births and count <= _ROWS[-1]:
            self._insert(rows, count)
            return
        execute("BEGIN IMMEDIATE")
        if births:
            execute(_BIRTHS, (_encode(births).decode(),))
        size = _ROWS[-1]
        for start in range(0, count, size):
            part = rows[start * _COLUMNS : (start + size) * _COLUMNS]
            self._insert(part, len(part) // _COLUMNS)
        execute("COMMIT")

    def _insert(self, rows: list[Any], count: int) -> None:
        """Rows into the journal by one statement."""
        room = next(room for room in _ROWS if room >= count)
        if room > count:
            rows = rows + [None] * ((room - count) * _COLUMNS)
        self._connection.execute(_INSERTS[room], rows)

    def _learn(self) -> None:
        """Read from disk where we stand."""
        row = self._connection.execute(
            "SELECT coalesce((SELECT max(number) FROM journal), (SELECT number FROM marks WHERE name = 'trimmed')),"
            " (SELECT coalesce(max(entity), 0) FROM entities)"
        ).fetchone()
        assert row is not None
        self._number, self._entity = row
        self._known.clear()
        self._sure = True

    def _is_in(self, rows: list[Any]) -> bool:
        """After an error of a commit: whether the rows are on disk all the same."""
        expected = self._number
        try:
            self._learn()
        except apsw.Error:
            return False
        there = bool(self._number == rows[-_COLUMNS])
        if there:
            self._number = expected
        return there

    def _roll_back(self) -> None:
        """Leave a transaction that failed."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error as error:
            log.warning("rollback failed", extra={"reason": str(error)})

    def _others(self, connection: apsw.Connection, task: Task) -> int:
        """Everything that is not an append, each a transaction."""
        execute = connection.execute
        if isinstance(task, Save):
            self._save(execute, task)
        elif isinstance(task, Move):
            execute(
                "INSERT INTO cursors VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET number = excluded.number",
                (task.name, task.number),
            )
        elif isinstance(task, Trim):
            execute("BEGIN IMMEDIATE")
            bases.forget(execute, task.start, task.before)
            execute("DELETE FROM journal WHERE number >= ? AND number < ?", (task.start, task.before))
            changed = connection.changes()
            execute("UPDATE marks SET number = max(number, ?) WHERE name = 'trimmed'", (task.before - 1,))
            execute("COMMIT")
            return changed
        elif isinstance(task, Shrink):
            execute(f"PRAGMA incremental_vacuum({task.pages:d})").fetchall()
            return int(connection.pragma("freelist_count"))
        return 0

    def _save(self, execute: Callable[..., Any], task: Save) -> None:
        """Snapshots, never replacing a newer one by an older, and the checkpoint."""
        execute("BEGIN IMMEDIATE")
        rows: list[tuple[int, int, str]] = []
        saved: list[tuple[int, Held]] = []
        for held in task.held:
            known = self._known.get((held.kind, held.id)) or self._look_up((held.kind, held.id))
            if known.entity:
                rows.append((known.entity, held.revision, _encode(held).decode()))
                saved.append((known.entity, held))
        if rows:
            bases.keep(execute, saved)
            flat = [value for row in rows for value in row]
            marks = ",".join(["(?, ?, ?)"] * len(rows))
            execute(
                f"""INSERT INTO snapshots VALUES {marks} ON CONFLICT (entity) DO UPDATE
                    SET revision = excluded.revision, held = excluded.held
                    WHERE excluded.revision > snapshots.revision""",  # noqa: S608 - question marks only
                flat,
            )
        execute("UPDATE marks SET number = max(number, ?) WHERE name = 'checkpoint'", (task.upto,))
        execute("COMMIT")


def _texts(job: Job[Task], events: Sequence[Event]) -> list[str] | None:
    """The events as JSON, without numbers; None (and the job's error) when one is not fit for that."""
    texts: list[str] = []
    for event in events:
        event.number = 0
        try:
            texts.append(_encode(event).decode())
        except (UnicodeEncodeError, RecursionError) as error:
            job.error = EventNotStorable(id=event.id, problem=error)
            return None
    return texts


def _words(error: Exception) -> str:
    """What went wrong, for people."""
    if isinstance(error, apsw.FullError):
        return "the disk is full."
    return f"{error}."


def _fail(jobs: list[Job[Task]], error: Exception) -> None:
    """Nothing of these was stored."""
    for job in jobs:
        if job.error is None:
            job.error = StoreUnavailable(reason=_words(error))
