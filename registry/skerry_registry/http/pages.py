"""Static files: the farm's page behind the login, the API's description before it."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from skerry_registry.http.errors import RouteNotFound
from skerry_registry.http.openapi import document

APIDOC = Path(__file__).parent / "apidoc"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


def pages(page_folder: Path | None) -> list[HTTPRouteHandler]:
    """The handlers of the files; those of the page are read at once, and again whenever the server starts."""
    described = document()

    @get("/openapi.json", sync_to_thread=False)
    def openapi() -> Response[bytes]:
        return Response(described, media_type="application/json")

    found = [openapi, _file_handler(["/apidoc", "/apidoc/2"], APIDOC / "index.html")]
    found += [_file_handler([f"/apidoc/{name}"], APIDOC / name) for name in ("apidoc.js", "apidoc.css")]
    if page_folder is not None:
        found += _page(page_folder)
    return found


def _page(folder: Path) -> list[HTTPRouteHandler]:
    """`/` and its files, which stand under /page and, since the page names them relatively, beside it."""
    files = {file.name: file for file in sorted(folder.iterdir()) if file.is_file()}

    @get("/page/{file:str}", sync_to_thread=False)
    def page_file(file: FromPath[str]) -> Response[bytes]:
        if file not in files:
            raise RouteNotFound(path=f"/page/{file}")
        return _serve(files[file])

    handlers = [page_file]
    for name, file in files.items():
        handlers.append(_file_handler(["/"] if name == "index.html" else [f"/{name}"], file))
    return handlers


def _file_handler(paths: list[str], file: Path) -> HTTPRouteHandler:
    @get(paths, sync_to_thread=False)
    def served() -> Response[bytes]:
        return _serve(file)

    return served


def _serve(file: Path) -> Response[bytes]:
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    return Response(file.read_bytes(), media_type=kind, headers=SECURITY)
