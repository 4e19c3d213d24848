"""`GET /devops/backup`: a backup of the running server as a tar stream, its manifest first."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from litestar.types import Send

from skerry.errors import SkerryError
from skerry_registry.bulk.backup import MANIFEST, PIECE, Backup, Manifest
from skerry_registry.http.answer import VERSION, of_error
from skerry_registry.http.edge import answer_in
from skerry_registry.http.errors import MethodNotAllowed
from skerry_registry.http.operations import require_devops
from skerry_registry.http.request import Request

TAR = (b"content-type", b"application/x-tar")
END = bytes(2 * tarfile.BLOCKSIZE)


class Backups:
    """Sends backups."""

    def __init__(self, backup: Backup) -> None:
        """`backup` takes them."""
        self._backup = backup

    async def serve(self, request: Request, send: Send) -> None:
        """Answer one request."""
        request.route = "backup"
        try:
            require_devops(request.caller)
            if request.method != "GET":
                path = request.path.decode("latin-1")
                raise MethodNotAllowed(method=request.method, path=path, allow="GET", headers={"allow": "GET"})
            manifest = await self._backup.take()
        except SkerryError as error:
            await answer_in(of_error(error), request, send)
            return
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [TAR, VERSION]})
            pieces = _tar(self._backup.working, manifest)
            while piece := await asyncio.to_thread(next, pieces, b""):
                message: Any = {"type": "http.response.body", "body": piece, "more_body": True}
                await send(message)
            await send({"type": "http.response.body", "body": END, "more_body": False})
        finally:
            await asyncio.to_thread(self._backup.drop)


def _tar(folder: Path, manifest: Manifest) -> Iterator[bytes]:
    """The members of the archive, piece by piece."""
    text = msgspec.json.format(msgspec.json.encode(manifest))
    yield _head(MANIFEST, len(text)) + text + _padding(len(text))
    for kept in manifest.files:
        yield _head(kept.name, kept.bytes)
        with (folder / kept.name).open("rb") as file:
            while piece := file.read(PIECE):
                yield piece
        if padding := _padding(kept.bytes):
            yield padding


def _head(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o600
    return member.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
