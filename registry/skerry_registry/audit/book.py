# ruff: noqa: N818 - errors are rows of a table
"""The file of the audit trail: records in order, and how far the journal has been read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apsw
from msgspec import Struct

from skerry.errors import SkerryError
from skerry_registry.audit.record import Record
from skerry_registry.stores.opening import open_reader, open_writer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from skerry.signals import Micros

FILE = "audit.db"
TOGETHER: Micros = 60_000_000
"""How long like refusals go into the record of the first of them."""
RECENT = 10_000
"""Records of refusals that are remembered for that."""
SHARE = 20
"""The part of the records that goes at a time while the file is too large."""
_COLUMNS = (
    "time, outcome, action, kind, entity, path, revision, subject, user, origin, policy, policy_revision, code, count,"
    " until, number"
)
_SCHEMA = """
CREATE TABLE record (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  COLUMNS
);
CREATE INDEX record_entity ON record (entity, id);
CREATE INDEX record_policy ON record (policy, id);
CREATE INDEX record_subject ON record (subject, id);
CREATE INDEX record_time ON record (time);
CREATE UNIQUE INDEX record_number ON record (number) WHERE number IS NOT NULL;
CREATE TABLE place (number INTEGER NOT NULL);
INSERT INTO place VALUES (-1);
""".replace("COLUMNS", _COLUMNS)
_OLDEST = """DELETE FROM record WHERE id IN (SELECT id FROM record WHERE outcome = ? ORDER BY id LIMIT ?) RETURNING 1"""
_AGAIN = "UPDATE record SET count = count + ?, until = ? WHERE id = ? RETURNING 1"
_INSERT = f"INSERT OR IGNORE INTO record ({_COLUMNS}) VALUES ({', '.join('?' * 16)})"  # noqa: S608 - constants


class AuditUnavailable(SkerryError):
    """The file cannot be read or written."""

    code = "audit.unavailable"
    status = 503
    message = "The audit trail cannot be used: {reason}."
    description = "Look at room and rights of the data folder; changes are recorded once it is writable again."


class Wish(Struct, frozen=True, kw_only=True):
    """Which records are asked for. `after`: only records older than the one of this id."""

    thing: str | None = None
    policy: str | None = None
    subject: str | None = None
    outcome: str | None = None
    since: Micros | None = None
    before: Micros | None = None
    after: int | None = None


class Book:
    """Two connections to one file; each is used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        """Open the file, make it where it is not there. Raises the rows of a refused start."""
        path = folder / FILE
        self._writer = open_writer(path, [_SCHEMA])
        self._reader = open_reader(path)
        self._recent: dict[tuple[Any, ...], tuple[int, Micros]] = {}

    def place(self) -> int:
        """The number of the newest event that was dealt with; -1 where none ever was."""
        return int(self._writer.execute("SELECT number FROM place").get)

    def add(self, records: Sequence[Record], place: int) -> None:
        """Keep records, in order of time, and the place they bring us to, in one commit. Raises AuditUnavailable.

        A refusal that is like one of the last minute is counted in the record of that.
        """
        fresh: dict[tuple[Any, ...], tuple[int, Micros]] = {}
        try:
            with self._writer:
                for record in records:
                    if record.outcome != "refused":
                        self._writer.execute(_INSERT, _row(record))
                    elif not self._counted(record, fresh.get(record.likeness) or self._recent.get(record.likeness)):
                        self._writer.execute(_INSERT, _row(record))
                        fresh[record.likeness] = (self._writer.last_insert_rowid(), record.time)
                self._writer.execute("UPDATE place SET number = ?", (place,))
        except apsw.Error as error:
            raise AuditUnavailable(reason=error) from error
        if fresh:
            self._remember(fresh, records[-1].time)

    def _counted(self, record: Record, known: tuple[int, Micros] | None) -> bool:
        """Whether the record (id, time) of a like refusal has taken this one in; it may be too old, or forgotten by now."""
        if known is None or not 0 <= record.time - known[1] < TOGETHER:
            return False
        again = (record.count, record.until or record.time, known[0])
        return bool(self._writer.execute(_AGAIN, again).fetchall())

    def _remember(self, fresh: dict[tuple[Any, ...], tuple[int, Micros]], now: Micros) -> None:
        """Keep in mind which refusals others may still be like; of too many the newest."""
        kept = {like: of for like, of in self._recent.items() if like not in fresh and now - of[1] < TOGETHER} | fresh
        for like in list(kept)[: max(0, len(kept) - RECENT)]:
            del kept[like]
        self._recent = kept

    def find(self, wish: Wish, limit: int) -> list[Record]:
        """The newest first. Raises AuditUnavailable."""
        terms: list[tuple[str, Any]] = [
            ("kind = 'thing' AND entity = ?", wish.thing),
            ("policy = ?", wish.policy),
            ("subject = ?", wish.subject),
            ("outcome = ?", wish.outcome),
            ("coalesce(until, time) >= ?", wish.since),
            ("time < ?", wish.before),
            ("id < ?", wish.after),
        ]
        asked = [(term, value) for term, value in terms if value is not None]
        where = " AND ".join(term for term, _ in asked) or "1"
        query = f"SELECT {_COLUMNS}, id FROM record WHERE {where} ORDER BY id DESC LIMIT ?"  # noqa: S608 - our own terms
        try:
            rows = self._reader.execute(query, (*(value for _, value in asked), limit)).fetchall()
        except apsw.Error as error:
            raise AuditUnavailable(reason=error) from error
        return [_record(row) for row in rows]

    def trim(self, before: Micros, max_bytes: int) -> int:
        """Forget records older than `before` (0: none), and the oldest while the file is larger; answers how many.

        Refusals go first as long as they are more than the changes: whoever is refused a lot shall not drive out what was done.
        """
        try:
            gone = self._writer.execute("DELETE FROM record WHERE time < ? RETURNING 1", (before,)).fetchall()
            count = len(gone)
            while max_bytes and self._size() > max_bytes:
                counted: Any = self._writer.execute("SELECT outcome, count(*) FROM record GROUP BY outcome").fetchall()
                many = dict(counted)
                if not many:
                    break
                outcome = "refused" if many.get("refused", 0) > many.get("changed", 0) else "changed"
                share = max(1, many[outcome] // SHARE)
                count += len(self._writer.execute(_OLDEST, (outcome, share)).fetchall())
            if count:
                self._writer.execute("PRAGMA incremental_vacuum").fetchall()
        except apsw.Error as error:
            raise AuditUnavailable(reason=error) from error
        return count

    def close(self) -> None:
        """Let the file go."""
        self._reader.close()
        self._writer.close()

    def _size(self) -> int:
        """Bytes in use."""
        pages = "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        return int(self._writer.execute(pages).get)


_NAMES = [name.strip() for name in _COLUMNS.split(",")] + ["id"]


def _record(row: Any) -> Record:
    return Record(**dict(zip(_NAMES, row, strict=True)))


def _row(record: Record) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in _NAMES[:-1])
