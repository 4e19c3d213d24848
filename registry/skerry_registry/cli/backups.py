"""`skerry backup` and `skerry restore`: a data folder as one file or folder, and back."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from skerry.signals import Clock
from skerry_registry.bulk.backup import (
    MANIFEST,
    PIECE,
    BackupInvalid,
    Manifest,
    check_empty,
    check_whole,
    copy_at_rest,
    manifest_in,
    settle,
)
from skerry_registry.cli.client import Client, ServerAway
from skerry_registry.stores.folder import Folder

ARCHIVES = (".tar", ".tar.gz", ".tgz")


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive, not of a folder."""
    return path.name.endswith(ARCHIVES)


def backup(client: Client, target: Path, data_dir: Path, clock: Clock, beside: Sequence[Path] = ()) -> Manifest:
    """Back up the running server, or its folder where none is running. Raises ServerAway, ServerRefused, BackupInvalid."""
    part = target.with_name(f"{target.name}.part")
    _remove(part)
    try:
        try:
            with client.answer("GET", "/devops/backup") as answer:
                manifest = _receive(cast("IO[bytes]", answer), part, archive=is_archive(target), source=client.url)
        except ServerAway:
            if not (data_dir / "journal.db").exists():
                raise
            manifest = _at_rest(data_dir, part, clock, beside, archive=is_archive(target))
        if not is_archive(target):
            check_empty(target)
            if target.exists():
                target.rmdir()
        part.replace(target)
    except BaseException:
        _remove(part)
        raise
    return manifest


def restore(source: Path, data_dir: Path) -> Manifest:
    """Put a backup into a new or empty data folder. Raises FolderNotEmpty, BackupInvalid, OSError."""
    check_empty(data_dir)
    part = data_dir.with_name(f"{data_dir.name}.part")
    _remove(part)
    part.mkdir(mode=0o750, parents=True)
    try:
        manifest = _unpacked(source, part)
        check_whole(part, manifest, source)
        settle(part)
        if data_dir.exists():
            data_dir.rmdir()
        part.replace(data_dir)
    except BaseException:
        _remove(part)
        raise
    return manifest


def _at_rest(data_dir: Path, part: Path, clock: Clock, beside: Sequence[Path], *, archive: bool) -> Manifest:
    """Copies of a folder that nobody works on, which its lock makes sure of."""
    folder = Folder(data_dir)
    folder.take()
    try:
        copies = part.with_name(f"{part.name}.d") if archive else part
        manifest = copy_at_rest(data_dir, copies, clock, metadata.version("skerry"), beside)
    finally:
        folder.release()
    text = msgspec.json.format(msgspec.json.encode(manifest))
    if not archive:
        (part / MANIFEST).write_bytes(text)
        return manifest
    try:
        with _archive(part) as out:
            _add(out, MANIFEST, len(text), io.BytesIO(text))
            for kept in manifest.files:
                with (copies / kept.name).open("rb") as file:
                    _add(out, kept.name, kept.bytes, file)
    finally:
        shutil.rmtree(copies)
    return manifest


def _receive(stream: IO[bytes], part: Path, *, archive: bool, source: str) -> Manifest:
    """Write what the server sends, comparing each file with the manifest on the way."""
    manifest: Manifest | None = None
    seen: set[str] = set()
    with tarfile.open(fileobj=stream, mode="r|") as incoming, _sink(part, archive=archive) as put:
        for member in incoming:
            file = incoming.extractfile(member)
            if file is None:
                raise BackupInvalid(source=source, problem=f"{member.name} is no file")
            if manifest is None:
                text = file.read()
                manifest = manifest_in(text, source)
                put(MANIFEST, len(text), io.BytesIO(text))
                continue
            expected = {kept.name: kept for kept in manifest.files}.get(member.name)
            hashing = _Hashing(file)
            if expected is None:
                raise BackupInvalid(source=source, problem=f"{member.name} is not in the manifest")
            put(member.name, member.size, cast("IO[bytes]", hashing))
            if hashing.digest != expected.sha256:
                raise BackupInvalid(source=source, problem=f"{member.name} is not what was saved")
            seen.add(member.name)
    if manifest is None or seen != {kept.name for kept in manifest.files}:
        raise BackupInvalid(source=source, problem="it ends too early")
    return manifest


class _Hashing:
    """A file whose bytes are counted up into a hash as they are read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._hash.update(piece)
        return piece

    @property
    def digest(self) -> str:
        """Of what was read so far."""
        return self._hash.hexdigest()


@contextmanager
def _sink(part: Path, *, archive: bool) -> Iterator[Any]:
    """What takes files: an archive or a folder."""
    if archive:
        with _archive(part) as out:
            yield lambda name, size, file: _add(out, name, size, file)
        return
    part.mkdir(mode=0o700)

    def put(name: str, _: int, file: IO[bytes]) -> None:
        with (part / name).open("wb") as out:
            shutil.copyfileobj(file, out, PIECE)

    yield put


@contextmanager
def _archive(part: Path) -> Iterator[tarfile.TarFile]:
    compressed = part.name.removesuffix(".part").endswith("gz")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # users and tokens are in it
    with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz" if compressed else "w") as out:
        yield out


def _add(out: tarfile.TarFile, name: str, size: int, file: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o600
    out.addfile(member, file)


def _unpacked(source: Path, folder: Path) -> Manifest:
    """The files of a backup in a folder, and its manifest. Raises BackupInvalid."""
    if source.is_dir():
        try:
            manifest = manifest_in((source / MANIFEST).read_bytes(), source)
        except FileNotFoundError as error:
            raise BackupInvalid(source=source, problem="it has no manifest") from error
        for kept in manifest.files:
            if (source / kept.name).is_file():
                shutil.copyfile(source / kept.name, folder / kept.name)
        return manifest
    try:
        with tarfile.open(source) as archive:
            return _extracted(archive, folder, source)
    except tarfile.TarError as error:
        raise BackupInvalid(source=source, problem="it is no tar archive") from error
    except EOFError as error:
        raise BackupInvalid(source=source, problem="it ends too early") from error


def _extracted(archive: tarfile.TarFile, folder: Path, source: Path) -> Manifest:
    manifest: Manifest | None = None
    for member in archive:
        file = archive.extractfile(member) if member.isfile() else None
        if file is None or "/" in member.name:
            raise BackupInvalid(source=source, problem=f"{member.name} is no file of a backup")
        if manifest is None:
            manifest = manifest_in(file.read(), source)
            continue
        with (folder / member.name).open("wb") as out:
            shutil.copyfileobj(file, out, PIECE)
    if manifest is None:
        raise BackupInvalid(source=source, problem="it is empty")
    return manifest


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
