# ruff: noqa: N818 - errors are rows of a table
"""Opening an embedded database: settings of its connections, migration to the newest schema, refusal with a reason."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import apsw

from skerry.errors import SkerryError
from skerry_registry.stores.folder import FolderUnusable, sync_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class SchemaTooNew(SkerryError):
    """Written by a newer Skerry."""

    code = "store.schema.newer"
    status = 503
    message = "The database {file} has schema version {found}; this Skerry knows versions up to {known}."
    description = (
        "Start the newer Skerry again, or restore the data folder from before the upgrade. Nothing was changed."
    )


class DatabaseCorrupt(SkerryError):
    """Not a database any more, or never one."""

    code = "store.corrupt"
    status = 503
    message = "The database {file} is damaged: {reason}."
    description = "Restore the data folder from a backup. Nothing was changed; keep the damaged file for rescue with sqlite3 .recover."


def schema() -> list[str]:
    """The SQL of each version, the first at index 0."""
    files = [file for file in resources.files("skerry_registry.stores.schema").iterdir() if file.name.endswith(".sql")]
    return [file.read_text("utf-8") for file in sorted(files, key=lambda file: file.name)]


def open_writer(file: Path, versions: Sequence[str] | None = None) -> apsw.Connection:
    """The one connection that writes: WAL, an fsync per commit, the newest of the schema's versions (the shipped ones)."""
    try:
        fresh = not file.exists()
        connection = apsw.Connection(str(file))
        try:
            _set_up(connection, file, schema() if versions is None else versions)
        except BaseException:
            connection.close()
            raise
        if fresh:
            sync_folder(file.parent)
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise DatabaseCorrupt(file=file, reason=error) from error
    except (apsw.Error, OSError) as error:
        raise FolderUnusable(folder=file.parent, reason=f"{file.name}: {error}") from error
    return connection


def open_reader(file: Path) -> apsw.Connection:
    """A connection for queries beside the writer."""
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(10_000)
    connection.pragma("query_only", True)
    connection.pragma("cache_size", -8_000)
    return connection


def _set_up(connection: apsw.Connection, file: Path, versions: Sequence[str]) -> None:
    """Settings, then migrations, each in a transaction of its own."""
    connection.set_busy_timeout(10_000)
    found = int(connection.pragma("user_version"))
    if found > len(versions):
        raise SchemaTooNew(file=file, found=found, known=len(versions))
    if found == 0:
        connection.pragma("auto_vacuum", 2)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", 2)
    connection.pragma("wal_autocheckpoint", 4_000)
    connection.pragma("journal_size_limit", 64_000_000)
    connection.pragma("cache_size", -32_000)
    for version in range(found, len(versions)):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(versions[version])
            connection.pragma("user_version", version + 1)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
