# ruff: noqa: N818 - errors are rows of a table
"""Backups of a data folder: copies that fit together, a manifest with their hashes, and the way back."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeAlias

import apsw
import msgspec
from msgspec import Struct

from skerry import times
from skerry.errors import SkerryError
from skerry_registry.stores.folder import sync_folder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from skerry.signals import Clock

FORMAT = 1
MANIFEST = "manifest.json"
JOURNAL = "journal.db"
SERIES = "series.duckdb"
WORKING = "backup.tmp"
"""The folder inside the data folder where copies are made."""
PIECE = 1_048_576
_CLOSED = frozenset({JOURNAL, SERIES})
_SQLITE = b"SQLite format 3\0"

Copy: TypeAlias = "Callable[[Path], Awaitable[None]]"
"""Makes a copy of one file, fit for use, at the path."""


class BackupInvalid(SkerryError):
    """A backup that is not whole."""

    code = "backup.invalid"
    status = 400
    message = "The backup {source} cannot be used: {problem}."
    description = "Nothing was restored. Take another backup, or copy this one again from where it is kept."


class FolderNotEmpty(SkerryError):
    """A restoration over something that is there."""

    code = "backup.folder.notempty"
    status = 409
    message = "The data folder {folder} is not empty."
    description = (
        "A backup is restored into a folder that is new or empty: name another with --data-dir, or move this one away."
    )


class BackupRunning(SkerryError):
    """A second backup at the same time."""

    code = "backup.running"
    status = 409
    message = "Another backup is being taken at this moment."
    description = "Wait until it is complete."


class DiskTooSmall(SkerryError):
    """No room for the copies."""

    code = "backup.disk.full"
    status = 507
    message = "The copies need about {needed} bytes and the disk of {folder} has {free} left."
    description = "Make room; the copies are made beside the originals and go away when they are sent."


class Kept(Struct, frozen=True):
    """One file of a backup."""

    name: str
    bytes: int
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True):
    """What a backup holds. `journal`: the number of the newest event in it."""

    format: int = FORMAT
    skerry: str
    taken: str
    journal: int
    files: tuple[Kept, ...]


def copy_database(source: Path, target: Path) -> None:
    """A copy of a SQLite database as it is at one moment, while others write to it."""
    original = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        original.set_busy_timeout(10_000)
        copy = apsw.Connection(str(target))
        try:
            with copy.backup("main", original, "main") as work:
                while not work.done:
                    work.step(-1)
            copy.pragma("journal_mode", "delete")
        finally:
            copy.close()
    finally:
        original.close()


def copy_letters(source: Path, target: Path) -> None:
    """The same of a database that Python's own SQLite holds: two libraries must not open one file in one process."""
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(target)) as copy:
        original.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")


def copy_file(source: Path, target: Path) -> None:
    """A copy of a file that is replaced whole when it changes."""
    shutil.copyfile(source, target)


def others_in(folder: Path, known: Sequence[str]) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """The other files of a data folder that a backup keeps, and how each is copied: databases and files of settings."""
    for path in sorted(folder.iterdir()):
        if path.name in known or path.name in _CLOSED or not path.is_file():
            continue
        if path.suffix == ".db":
            yield path.name, lambda target, source=path: copy_database(source, target)  # type: ignore[misc]
        elif path.suffix == ".sqlite":
            yield path.name, lambda target, source=path: copy_letters(source, target)  # type: ignore[misc]
        elif path.suffix == ".json":
            yield path.name, lambda target, source=path: copy_file(source, target)  # type: ignore[misc]


class Backup:
    """Takes backups of the data folder of a running server, one at a time."""

    def __init__(
        self, folder: Path, parts: dict[str, Copy], clock: Clock, version: str, *, beside: Sequence[Path] = ()
    ) -> None:
        """`parts`: how to copy the files that only their holders may open; `beside`: files that stand elsewhere."""
        self._folder = folder
        self._parts = parts
        self._clock = clock
        self._version = version
        self._beside = beside
        self._taking = False

    @property
    def working(self) -> Path:
        """Where the copies are until they are dropped."""
        return self._folder / WORKING

    async def take(self) -> Manifest:
        """Make the copies. What is derived from the journal is copied first, so that it never runs ahead of it.

        Everything acknowledged before the call is in; `drop` removes the copies. Raises BackupRunning, DiskTooSmall.
        """
        if self._taking:
            raise BackupRunning
        self._taking = True
        try:
            await asyncio.to_thread(self._clear)
            for name, copy in self._parts.items():
                if (self._folder / name).exists():
                    await copy(self.working / name)
            return await asyncio.to_thread(self._copy_rest)
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Remove the copies."""
        shutil.rmtree(self.working, ignore_errors=True)
        self._taking = False

    def _clear(self) -> None:
        shutil.rmtree(self.working, ignore_errors=True)
        needed = sum(path.stat().st_size for path in self._folder.iterdir() if path.is_file())
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise DiskTooSmall(needed=needed, folder=self._folder, free=free)
        self.working.mkdir(mode=0o700)

    def _copy_rest(self) -> Manifest:
        for name, copy in others_in(self._folder, tuple(self._parts)):
            copy(self.working / name)
        for path in self._beside:
            if path.exists() and not (self.working / path.name).exists():
                copy_file(path, self.working / path.name)
        copy_database(self._folder / JOURNAL, self.working / JOURNAL)
        return describe(self.working, self._clock, self._version)


def copy_at_rest(folder: Path, into: Path, clock: Clock, version: str, beside: Sequence[Path] = ()) -> Manifest:
    """Copies of a data folder that no server works on (the caller holds its lock)."""
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if path.name.startswith(SERIES):
            copy_file(path, into / path.name)
    for name, copy in others_in(folder, ()):
        copy(into / name)
    for path in beside:
        if path.exists() and not (into / path.name).exists():
            copy_file(path, into / path.name)
    copy_database(folder / JOURNAL, into / JOURNAL)
    return describe(into, clock, version)


def describe(folder: Path, clock: Clock, version: str) -> Manifest:
    """The manifest of the copies in a folder."""
    files = tuple(
        Kept(path.name, path.stat().st_size, digest_of(path)) for path in sorted(folder.iterdir()) if path.is_file()
    )
    journal = apsw.Connection(str(folder / JOURNAL), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        number: Any = journal.execute(
            "SELECT coalesce((SELECT max(number) FROM journal), (SELECT number FROM marks WHERE name = 'trimmed'))"
        ).get
    finally:
        journal.close()
    return Manifest(skerry=version, taken=times.write(clock()), journal=int(number), files=files)


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_in(text: bytes, source: object) -> Manifest:
    """The manifest in a text. Raises BackupInvalid."""
    try:
        found = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BackupInvalid(source=source, problem="its manifest cannot be read") from error
    if found.format > FORMAT:
        raise BackupInvalid(source=source, problem=f"it was taken by a newer Skerry ({found.skerry})")
    if any("/" in kept.name or kept.name.startswith(".") for kept in found.files) or not found.files:
        raise BackupInvalid(source=source, problem="its manifest names files that no backup has")
    return found


def check_empty(folder: Path) -> None:
    """Raise FolderNotEmpty where something would be written over."""
    if folder.exists() and any(folder.iterdir()):
        raise FolderNotEmpty(folder=folder)


def check_whole(folder: Path, manifest: Manifest, source: object) -> None:
    """Raise BackupInvalid unless every file is there as it was, and every database is sound."""
    for kept in manifest.files:
        path = folder / kept.name
        if not path.is_file():
            raise BackupInvalid(source=source, problem=f"{kept.name} is missing")
        if path.stat().st_size != kept.bytes or digest_of(path) != kept.sha256:
            raise BackupInvalid(source=source, problem=f"{kept.name} is not what was saved")
        if path.suffix in {".db", ".sqlite"} and _begins(path) == _SQLITE:
            _check_database(path, source)


def _begins(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_SQLITE))


def _check_database(path: Path, source: object) -> None:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        found: Any = connection.execute("PRAGMA quick_check(1)").get
    except apsw.Error as error:
        raise BackupInvalid(source=source, problem=f"{path.name}: {error}") from error
    finally:
        connection.close()
    if found != "ok":
        raise BackupInvalid(source=source, problem=f"{path.name}: {found}")


def settle(folder: Path) -> None:
    """Have everything in a restored folder on disk, for those who may see it in any data folder: users and tokens for nobody else."""
    for path in folder.iterdir():
        path.chmod(0o600 if path.suffix == ".json" else 0o640)
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    sync_folder(folder)
    sync_folder(folder.parent)
