"""What the broker must not forget, in one SQLite file: sessions, subscriptions, queued messages, QoS 2 ids, retained messages."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import apsw
import msgspec

from skerry.errors import SkerryError
from skerry_adapters.broker.packets import Properties

log = logging.getLogger(__name__)

Row: TypeAlias = tuple[Any, ...]
VERSION = 1
RETRY_SECONDS = 0.5
_SCHEMA = """
CREATE TABLE session (id INTEGER PRIMARY KEY, user TEXT NOT NULL, client TEXT NOT NULL, expiry INTEGER NOT NULL, "left" INTEGER) STRICT;
CREATE TABLE subscription (session INTEGER, filter TEXT, qos INTEGER NOT NULL, options INTEGER NOT NULL, identifier INTEGER NOT NULL,
  PRIMARY KEY (session, filter)) STRICT, WITHOUT ROWID;
CREATE TABLE queued (session INTEGER, seq INTEGER, mid INTEGER NOT NULL, state INTEGER NOT NULL, topic TEXT NOT NULL,
  payload BLOB NOT NULL, qos INTEGER NOT NULL, retain INTEGER NOT NULL, expires INTEGER, properties BLOB,
  PRIMARY KEY (session, seq)) STRICT;
CREATE TABLE received (session INTEGER, mid INTEGER, PRIMARY KEY (session, mid)) STRICT, WITHOUT ROWID;
CREATE TABLE retained (topic TEXT PRIMARY KEY, payload BLOB NOT NULL, qos INTEGER NOT NULL, expires INTEGER, properties BLOB) STRICT;
"""

PUT_SESSION = 'INSERT OR REPLACE INTO session (id, user, client, expiry, "left") VALUES (?, ?, ?, ?, ?)'
PUT_SUBSCRIPTION = (
    "INSERT OR REPLACE INTO subscription (session, filter, qos, options, identifier) VALUES (?, ?, ?, ?, ?)"
)
DROP_SUBSCRIPTION = "DELETE FROM subscription WHERE session = ? AND filter = ?"
PUT_QUEUED = "INSERT OR REPLACE INTO queued VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
SENT_QUEUED = "UPDATE queued SET state = 1, mid = ? WHERE session = ? AND seq = ?"
RELEASE_QUEUED = "UPDATE queued SET state = 2 WHERE session = ? AND seq = ?"
DROP_QUEUED = "DELETE FROM queued WHERE session = ? AND seq = ?"
PUT_RECEIVED = "INSERT OR IGNORE INTO received VALUES (?, ?)"
DROP_RECEIVED = "DELETE FROM received WHERE session = ? AND mid = ?"
PUT_RETAINED = "INSERT OR REPLACE INTO retained VALUES (?, ?, ?, ?, ?)"
DROP_RETAINED = "DELETE FROM retained WHERE topic = ?"
_DROP_SESSION = tuple(
    f"DELETE FROM {table} WHERE {key} = ?"  # noqa: S608 - the names stand here
    for table, key in (("session", "id"), ("subscription", "session"), ("queued", "session"), ("received", "session"))
)


class SessionsUnreadable(SkerryError):  # noqa: N818 - a row of the error table
    """The broker's file is of another program, of a newer version, damaged, or used by another server."""

    code = "broker.sessions.unreadable"
    status = 500
    message = "The MQTT sessions in {path} cannot be opened: {reason}"
    description = "Stop the other server that uses the file, or move the file away: sessions and retained messages start afresh then."


class Kept(msgspec.Struct):
    """Everything that was in the file when it was opened, as rows."""

    sessions: list[Row]
    subscriptions: dict[int, list[Row]]
    queued: dict[int, list[Row]]
    received: dict[int, list[int]]
    retained: list[Row]


def pack(properties: Properties | None) -> bytes | None:
    """Properties as a cell."""
    return msgspec.msgpack.encode(properties) if properties else None


def unpack(cell: bytes | None) -> Properties | None:
    """The cell as properties."""
    if cell is None:
        return None
    found: Properties = msgspec.msgpack.decode(cell)
    if "user_property" in found:
        found["user_property"] = [(name, value) for name, value in found["user_property"]]
    return found


class Storage:
    """A writer thread with group commit. `write` is remembered in order; `then` is called once all before it is on disk.

    While nothing can be written (full disk) it tries again and again, so whatever waits for `then` waits.
    """

    def __init__(self, path: Path | None) -> None:
        """Without a path everything is forgotten when the broker stops."""
        self._path = path
        self._lock = threading.Condition()
        self._writes: list[tuple[str, Row]] = []
        self._calls: list[Callable[[], None]] = []
        self._batch: tuple[list[tuple[str, Row]], list[Callable[[], None]]] | None = None
        self._busy = False
        self._stopping = False
        self._woken = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._copying: tuple[str, asyncio.Future[None]] | None = None
        self.failing: str | None = None

    def open(self) -> Kept:
        """Open the file, answer what is in it, start the writer."""
        name = ":memory:" if self._path is None else str(self._path)
        try:
            database = apsw.Connection(name)
            database.pragma("locking_mode", "EXCLUSIVE")
            database.pragma("journal_mode", "WAL")
            database.pragma("synchronous", "FULL")
            with database:
                found = database.pragma("user_version")
                if found == 0:
                    database.execute(_SCHEMA)
                    database.pragma("user_version", VERSION)
                elif found != VERSION:
                    raise SessionsUnreadable(path=name, reason=f"it has version {found}, this program knows {VERSION}")
                for table in ("subscription", "queued", "received"):
                    database.execute(f"DELETE FROM {table} WHERE session NOT IN (SELECT id FROM session)")  # noqa: S608
            kept = _read(database)
        except apsw.Error as error:
            raise SessionsUnreadable(path=name, reason=str(error)) from None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, args=(database, self._loop), name="broker-sessions")
        self._thread.start()
        return kept

    def write(self, statement: str, *row: Any) -> None:
        """Remember a change; it joins the next commit."""
        self._writes.append((statement, row))
        self._wake()

    def drop_session(self, number: int) -> None:
        """Forget a session and all that is its."""
        self._writes.extend((statement, (number,)) for statement in _DROP_SESSION)
        self._wake()

    def then(self, call: Callable[[], None]) -> None:
        """Call back in the loop when everything written so far is durable; at once if it is."""
        if not self._writes and not self._busy:
            call()
            return
        self._calls.append(call)
        self._wake()

    async def settled(self) -> None:
        """Until everything written so far is durable."""
        if self._writes or self._busy:
            done = asyncio.get_running_loop().create_future()
            self.then(lambda: None if done.done() else done.set_result(None))
            await done

    async def copy(self, path: Path) -> None:
        """A copy of what is durable, at a path; the file itself is this broker's alone. Raises SessionsUnreadable."""
        await self.settled()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._copying = (str(path), done)
            self._lock.notify()
        await done

    async def close(self, seconds: float = 5) -> None:
        """Write what is left, if that is possible, and stop the thread."""
        if self._thread is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await self.settled()
        except TimeoutError:
            log.error("broker sessions not written", extra={"reason": self.failing})  # noqa: TRY400 - the reason is the fact
        with self._lock:
            self._stopping = True
            self._lock.notify()
        await asyncio.to_thread(self._thread.join)
        self._thread = None

    def _wake(self) -> None:
        """Hand over once per turn of the loop, so that a turn's changes share a commit."""
        if not self._woken and not self._busy and self._loop is not None:
            self._woken = True
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        """Give the writer what has come together; it takes the next when it is done."""
        self._woken = False
        if self._busy or not (self._writes or self._calls):
            return
        self._busy = True
        with self._lock:
            self._batch = (self._writes, self._calls)
            self._lock.notify()
        self._writes, self._calls = [], []

    def _done(self, calls: Sequence[Callable[[], None]]) -> None:
        """In the loop, after a commit."""
        for call in calls:
            call()
        self._busy = False
        self._hand_over()

    def _run(self, database: apsw.Connection, loop: asyncio.AbstractEventLoop) -> None:
        """The writer thread."""
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._batch is not None or self._stopping or self._copying is not None)
                batch, self._batch = self._batch, None
                copying, self._copying = self._copying, None
            if copying is not None:
                loop.call_soon_threadsafe(_tell, copying[1], _copy(database, copying[0]))
            if batch is None:
                if copying is not None:
                    continue
                break
            writes, calls = batch
            while not self._commit(database, writes):
                with self._lock:
                    if self._lock.wait_for(lambda: self._stopping, RETRY_SECONDS):
                        database.close()
                        return
            loop.call_soon_threadsafe(self._done, calls)
        database.close()

    def _commit(self, database: apsw.Connection, writes: list[tuple[str, Row]]) -> bool:
        """One transaction; False when the disk refused."""
        try:
            with database:
                for statement, row in writes:
                    database.execute(statement, row)
        except apsw.Error as error:
            if self.failing is None:
                log.warning("broker sessions cannot be written", extra={"reason": str(error)})
            self.failing = str(error)
            return False
        if self.failing is not None:
            log.info("broker sessions are written again")
            self.failing = None
        return True


def _copy(database: apsw.Connection, path: str) -> SessionsUnreadable | None:
    """Copy the database; what went wrong, if it did."""
    try:
        target = apsw.Connection(path)
        try:
            with target.backup("main", database, "main") as work:
                work.step(-1)
            target.pragma("journal_mode", "delete")
        finally:
            target.close()
    except apsw.Error as error:
        return SessionsUnreadable(path=path, reason=str(error))
    return None


def _tell(done: asyncio.Future[None], error: SessionsUnreadable | None) -> None:
    """In the loop: the copy is made, or is not."""
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def _read(database: apsw.Connection) -> Kept:
    """All rows, grouped by session."""
    subscriptions: dict[int, list[Row]] = defaultdict(list)
    for row in database.execute("SELECT session, filter, qos, options, identifier FROM subscription"):
        subscriptions[row[0]].append(row[1:])
    queued: dict[int, list[Row]] = defaultdict(list)
    for row in database.execute("SELECT * FROM queued ORDER BY session, seq"):
        queued[row[0]].append(row[1:])
    received: dict[int, list[int]] = defaultdict(list)
    for session, mid in database.execute("SELECT session, mid FROM received"):
        received[session].append(mid)
    sessions = list(database.execute('SELECT id, user, client, expiry, "left" FROM session'))
    retained = list(database.execute("SELECT topic, payload, qos, expires, properties FROM retained"))
    return Kept(sessions, dict(subscriptions), dict(queued), dict(received), retained)
