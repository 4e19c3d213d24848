# ruff: noqa: N818 - errors are rows of a table
"""Dead letters: messages that could not become a change, kept with the reason, to be listed and replayed."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from skerry.errors import SkerryError
from skerry.signals import Micros

FILE = "dead-letters.sqlite"
FULL_PAYLOAD = 262_144
CUT_PAYLOAD = 4_096
MOST_BYTES = 256_000_000
LOOK_EVERY = 0.25
PATIENCE = 10.0

_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS letters (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  time INTEGER NOT NULL,
  source TEXT NOT NULL,
  topic TEXT NOT NULL,
  qos INTEGER NOT NULL,
  payload BLOB NOT NULL,
  size INTEGER NOT NULL,
  subjects TEXT NOT NULL,
  code TEXT NOT NULL,
  reason TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 1,
  requested INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS requested ON letters (id) WHERE requested;
PRAGMA user_version = 1;
COMMIT;
"""
_COLUMNS = "id, time, source, topic, qos, payload, size, subjects, code, reason, attempts, requested"


class DeadLettersUnavailable(SkerryError):
    """The file could not be read or written."""

    code = "deadletters.unavailable"
    status = 503
    message = "The dead letters in {file} cannot be used: {reason}"
    description = "Check that the data folder exists, is writable and has room."


class LetterCut(SkerryError):
    """A replay of what is no longer whole."""

    code = "deadletters.cut"
    status = 413
    message = "The payload had {size} bytes and only the first {kept} were kept, so it cannot be replayed."
    description = "Have the device send it again, once the cause of the first refusal is gone."


class DeadLetter(Struct, frozen=True, kw_only=True):
    """One message that was refused. `reason`: the error's payload. `size`: bytes the payload had; more than kept if cut.

    `attempts`: how often it was refused; `requested`: a replay was asked for and has not happened yet.
    """

    topic: str
    payload: bytes
    code: str
    reason: dict[str, Any]
    time: Micros
    source: str
    qos: int
    size: int
    subjects: tuple[str, ...] = ()
    id: int = 0
    attempts: int = 1
    requested: bool = False


Letters: TypeAlias = list[DeadLetter]
Again: TypeAlias = Callable[[DeadLetter], Awaitable[SkerryError | None]]
"""Try a letter once more: None when it went through, else why not (a status >= 500: ask again later)."""


class DeadLetters:
    """The dead letters of one data folder; the newest `most` are kept. A second process may list and request beside it.

    The plain methods block and may be called from any thread; `keep` and `watch` are for the event loop. Every method
    raises DeadLettersUnavailable when the file cannot be used.
    """

    def __init__(self, folder: Path, most: int = 10_000) -> None:
        self.file = folder / FILE
        self.most = most
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def add_many(self, letters: Sequence[DeadLetter]) -> None:
        """Keep the letters, durably, and let the oldest go where there are too many."""
        rows = [
            (
                letter.time,
                letter.source,
                letter.topic,
                letter.qos,
                letter.payload if len(letter.payload) <= FULL_PAYLOAD else letter.payload[:CUT_PAYLOAD],
                letter.size,
                msgspec.json.encode(letter.subjects).decode(),
                letter.code,
                msgspec.json.encode(letter.reason).decode(),
                letter.attempts,
            )
            for letter in letters[-self.most :]
        ]
        self._run(lambda connection: self._add(connection, rows))

    def _add(self, connection: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
        connection.executemany(
            "INSERT INTO letters (time, source, topic, qos, payload, size, subjects, code, reason, attempts)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        connection.execute(
            "DELETE FROM letters WHERE id <= (SELECT id FROM letters ORDER BY id DESC LIMIT 1 OFFSET ?)", (self.most,)
        )
        kept = connection.execute(
            "SELECT total(length(payload) + length(topic) + length(reason)) FROM letters"
        ).fetchone()
        if kept[0] > MOST_BYTES:
            connection.execute(
                "DELETE FROM letters WHERE id <= (SELECT max(id) FROM (SELECT id,"
                " sum(length(payload) + length(topic) + length(reason)) OVER (ORDER BY id DESC) AS newer FROM letters)"
                " WHERE newer > ?)",
                (MOST_BYTES,),
            )

    def list(self, limit: int = 50, after: int | None = None, contains: str | None = None) -> Letters:
        """The newest first, at most `limit`; `after`: those older than this id; `contains`: in topic, code or reason."""
        found: list[tuple[Any, ...]] = self._run(
            lambda connection: connection.execute(
                f"SELECT {_COLUMNS} FROM letters WHERE id < ?1 AND (?2 = '' OR instr(topic, ?2) OR instr(code, ?2)"  # noqa: S608 - a constant
                " OR instr(reason, ?2) OR instr(source, ?2)) ORDER BY id DESC LIMIT ?3",
                (2**62 if after is None else after, contains or "", limit),
            ).fetchall()
        )
        return [_letter(row) for row in found]

    def count(self) -> int:
        """How many there are."""
        return int(self._run(lambda connection: connection.execute("SELECT count(*) FROM letters").fetchone()[0]))

    def request_replay(self, ids: Iterable[int] | Literal["all"]) -> int:
        """Ask the running server to try these again; answers how many were there to ask for."""
        if ids == "all":
            return int(self._run(lambda connection: connection.execute("UPDATE letters SET requested = 1").rowcount))
        wanted = [(number,) for number in ids]
        mark = "UPDATE letters SET requested = 1 WHERE id = ?"
        return int(self._run(lambda connection: sum(connection.execute(mark, one).rowcount for one in wanted)))

    def requested(self, limit: int = 500) -> Letters:
        """The letters to be replayed, oldest first."""
        found: list[tuple[Any, ...]] = self._run(
            lambda connection: connection.execute(
                f"SELECT {_COLUMNS} FROM letters WHERE requested ORDER BY id LIMIT ?",  # noqa: S608 - a constant
                (limit,),
            ).fetchall()
        )
        return [_letter(row) for row in found]

    def settle(self, done: Iterable[int], refused: Iterable[tuple[int, SkerryError]]) -> None:
        """Forget the letters that went through; write the new reason to the others and take back their request."""
        gone = [(number,) for number in done]
        again = [(error.code, _reason(error), number) for number, error in refused]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM letters WHERE id = ?", gone)
            connection.executemany(
                "UPDATE letters SET code = ?, reason = ?, attempts = attempts + 1, requested = 0 WHERE id = ?", again
            )

        self._run(write)

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        """`add_many` in a thread of our own; durable when it returns."""
        await self._aside(lambda: self.add_many(letters))

    async def watch(self, again: Again) -> None:
        """Replay what is requested, until cancelled; requests are noticed within half a second."""
        seen = None
        while True:
            try:
                version = await self._aside(self._version)
                if version != seen:
                    seen = version if await self._replay(again) else None
            except DeadLettersUnavailable:
                seen = None
            await asyncio.sleep(LOOK_EVERY)

    async def _replay(self, again: Again) -> bool:
        """Whether nothing is left to do."""
        while letters := await self._aside(self.requested):
            done: list[int] = []
            refused: list[tuple[int, SkerryError]] = []
            later = False
            for letter in letters:
                error: SkerryError | None = None
                if letter.size > len(letter.payload):
                    error = LetterCut(size=letter.size, kept=len(letter.payload))
                else:
                    error = await again(letter)
                if error is None:
                    done.append(letter.id)
                elif error.status < 500:
                    refused.append((letter.id, error))
                else:
                    later = True
                    break
            await self._aside(lambda done=done, refused=refused: self.settle(done, refused))  # type: ignore[misc]
            if later:
                return False
        return True

    async def _aside(self, work: Callable[[], Any]) -> Any:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="dead-letters")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _version(self) -> tuple[int, int]:
        """Changes whenever this or another process has written."""
        look = "PRAGMA data_version"
        version: tuple[int, int] = self._run(lambda file: (file.execute(look).fetchone()[0], file.total_changes))
        return version

    def _run(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _open(self.file)
                with self._connection as connection:
                    return work(connection)
            except sqlite3.Error as error:
                raise DeadLettersUnavailable(file=self.file, reason=str(error)) from error


def letter(  # noqa: PLR0917 - the message's own parts
    topic: str, payload: bytes, qos: int, subjects: tuple[str, ...], source: str, when: Micros, error: SkerryError
) -> DeadLetter:
    """A dead letter of a refused message."""
    return DeadLetter(
        topic=topic,
        payload=payload,
        code=error.code,
        reason=error.payload(),
        time=when,
        source=source,
        qos=qos,
        size=len(payload),
        subjects=subjects,
    )


def _open(file: Path) -> sqlite3.Connection:
    until = time.monotonic() + PATIENCE
    while True:
        connection = sqlite3.connect(file, timeout=PATIENCE, check_same_thread=False)
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            connection.close()
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)  # going over to WAL does not wait for another process that does the same
        else:
            return connection


def _letter(row: Sequence[Any]) -> DeadLetter:
    number, when, source, topic, qos, payload, size, subjects, code, reason, attempts, requested = row
    return DeadLetter(
        id=number,
        time=when,
        source=source,
        topic=topic,
        qos=qos,
        payload=payload,
        size=size,
        subjects=tuple(msgspec.json.decode(subjects)),
        code=code,
        reason=msgspec.json.decode(reason),
        attempts=attempts,
        requested=bool(requested),
    )


def _reason(error: SkerryError) -> str:
    return msgspec.json.encode(error.payload()).decode()
