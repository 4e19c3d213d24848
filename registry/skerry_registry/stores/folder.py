# ruff: noqa: N818 - errors are rows of a table
"""The data folder: made durably, locked against a second server, refused with a reason when it is no good."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from skerry.errors import SkerryError

if TYPE_CHECKING:
    from pathlib import Path


class FolderInUse(SkerryError):
    """Another server works on the data folder."""

    code = "store.folder.inuse"
    status = 503
    message = "The data folder {folder} is in use by process {pid}."
    description = "One server per data folder: stop that process, or set another data_dir."


class FolderUnusable(SkerryError):
    """The data folder cannot be made or written."""

    code = "store.folder.unusable"
    status = 503
    message = "The data folder {folder} cannot be used: {reason}."
    description = "It must be a folder that this user may write; set data_dir (SKERRY_DATA_DIR) to such a one."


class Folder:
    """A locked data folder; the lock goes with the process, so that a crash leaves nothing to clean up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def take(self) -> None:
        """Make the folder if need be and lock it."""
        lock = self.path / "skerry.lock"
        try:
            _make(self.path)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise FolderUnusable(folder=self.path, reason=_reason(error)) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise FolderInUse(folder=self.path, pid=pid) from error
        except OSError as error:
            os.close(handle)
            raise FolderUnusable(folder=self.path, reason=f"it cannot be locked ({_reason(error)})") from error
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(handle)
            raise FolderUnusable(folder=self.path, reason=_reason(error)) from error
        self._lock = handle

    def release(self) -> None:
        """Give up the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _reason(error: OSError) -> str:
    """The system's words, with the path it stumbled over."""
    text = (error.strerror or str(error)).lower()
    return f"{text} at {error.filename}" if error.filename else text


def _make(folder: Path) -> None:
    """Make the folder and its missing parents, each entry on disk before anything is written below."""
    missing: list[Path] = []
    place = folder
    while not place.exists():
        missing.append(place)
        place = place.parent
    for made in reversed(missing):
        made.mkdir(mode=0o750, exist_ok=True)
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Make sure that the folder's entries are on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
