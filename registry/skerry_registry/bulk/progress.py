# ruff: noqa: N818 - errors are rows of a table
"""What is remembered of uploads that carry an Idempotency-Key: which of their rows are done."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any

import apsw

from skerry.errors import SkerryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from skerry.signals import Clock

HOUR = 3_600_000_000
ROWS_KEPT = 5_000_000
"""Rows of all uploads together; the oldest uploads are forgotten first."""
UPLOADS_KEPT = 1_000
"""Uploads of one subject; its oldest are forgotten first."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS uploads (
    upload INTEGER PRIMARY KEY, subject TEXT NOT NULL, key TEXT NOT NULL, touched INTEGER NOT NULL,
    rows INTEGER NOT NULL, UNIQUE (subject, key)) STRICT;
CREATE TABLE IF NOT EXISTS rows (
    upload INTEGER NOT NULL, number INTEGER NOT NULL, digest INTEGER NOT NULL, status INTEGER NOT NULL,
    PRIMARY KEY (upload, number)) STRICT, WITHOUT ROWID;
"""


class KeyBusy(SkerryError):
    """An upload with the same key is running."""

    code = "bulk:key.busy"
    status = 409
    message = "An upload with the Idempotency-Key '{key}' is running at this moment."
    description = "Wait until it has ended, or take another key for another upload."


class KeyReused(SkerryError):
    """Another row than the one that was done under the key."""

    code = "bulk:key.reused"
    status = 409
    message = "Row {row} differs from the one that was done under the Idempotency-Key '{key}'."
    description = "The row was passed over. Repeat an upload as it was, or take a new key."


class Upload:
    """One upload of one subject under one key, while it is running."""

    def __init__(self, progress: Progress, number: int, subject: str, key: str) -> None:
        self._progress = progress
        self.number = number
        self.key = key
        self._salt = f"{subject}\0{key}\0".encode()

    def digest(self, row: int, text: bytes) -> int:
        """63 bits that stand for this row of this upload."""
        found = hashlib.blake2b(self._salt + b"%d\0" % row + text, digest_size=8).digest()
        return int.from_bytes(found, "big") >> 1

    def done(self, first: int, last: int) -> dict[int, tuple[int, int]]:
        """Digest and status of the rows `first`..`last` that are done."""
        return self._progress.done(self.number, first, last)

    def note(self, rows: Sequence[tuple[int, int, int]]) -> None:
        """Remember (number, digest, status) of rows that are done."""
        self._progress.note(self.number, rows)

    def close(self) -> None:
        """The upload ended, or broke off."""
        self._progress.end(self.number)


class Progress:
    """The memory of one server; its methods block for a short time and may be called from any thread.

    It may be up to one batch behind what is committed: those rows are known by the digests in the journal.
    """

    def __init__(self, path: Path | None, clock: Clock, *, hours: float = 24.0) -> None:
        """`path` None: in memory only. Uploads that nobody touched for `hours` are forgotten."""
        self._connection = apsw.Connection(":memory:" if path is None else str(path))
        self._connection.set_busy_timeout(10_000)
        self._connection.pragma("journal_mode", "wal")
        self._connection.pragma("synchronous", 1)
        self._connection.execute(_SCHEMA)
        self._clock = clock
        self._age = int(hours * HOUR)
        self._lock = threading.Lock()
        self._running: set[int] = set()

    def begin(self, subject: str, key: str) -> Upload:
        """Begin or go on with an upload. Raises KeyBusy."""
        now = self._clock()
        with self._lock, self._connection as connection:
            self._forget(now)
            row = connection.execute(
                """INSERT INTO uploads (subject, key, touched, rows) VALUES (?, ?, ?, 0)
                   ON CONFLICT (subject, key) DO UPDATE SET touched = excluded.touched RETURNING upload""",
                (subject, key, now),
            ).fetchone()
            assert row is not None
            number: int = row[0]
            if number in self._running:
                raise KeyBusy(key=key)
            self._running.add(number)
        return Upload(self, number, subject, key)

    def done(self, upload: int, first: int, last: int) -> dict[int, tuple[int, int]]:
        """Digest and status of rows that are done."""
        with self._lock:
            rows: list[Any] = self._connection.execute(
                "SELECT number, digest, status FROM rows WHERE upload = ? AND number BETWEEN ? AND ?",
                (upload, first, last),
            ).fetchall()
        return {number: (digest, status) for number, digest, status in rows}

    def note(self, upload: int, rows: Iterable[tuple[int, int, int]]) -> None:
        """Remember rows."""
        with self._lock, self._connection as connection:
            before = connection.total_changes()
            connection.executemany("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?)", [(upload, *row) for row in rows])
            more = connection.total_changes() - before
            connection.execute(
                "UPDATE uploads SET rows = rows + ?, touched = ? WHERE upload = ?", (more, self._clock(), upload)
            )

    def end(self, upload: int) -> None:
        """Let others go on with it."""
        with self._lock:
            self._running.discard(upload)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    def _forget(self, now: int) -> None:
        """Forget what is old, and the oldest where there is too much, of one subject first."""
        uploads: list[Any] = self._connection.execute(
            "SELECT upload, subject, touched, rows FROM uploads ORDER BY touched DESC"
        ).fetchall()
        kept = 0
        of_subject: dict[str, int] = {}
        for upload, subject, touched, rows in uploads:
            kept += rows
            number = of_subject[subject] = of_subject.get(subject, 0) + 1
            if (touched < now - self._age or kept > ROWS_KEPT or number > UPLOADS_KEPT) and upload not in self._running:
                self._connection.execute("DELETE FROM rows WHERE upload = ?", (upload,))
                self._connection.execute("DELETE FROM uploads WHERE upload = ?", (upload,))
