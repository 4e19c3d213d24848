"""`/ws`: where WebSockets are opened, and what a request that does not ask for one is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry_registry.http.errors import ApiVersionNotSupported, RouteNotFound, WebSocketExpected

if TYPE_CHECKING:
    from skerry_registry.http.answer import Answer
    from skerry_registry.http.request import Request

PATH = b"/ws/2"
VERSIONS = b"/ws/"


async def ask_for_upgrade(request: Request) -> Answer:
    """The answer to a plain request. Raises WebSocketExpected, RouteNotFound, ApiVersionNotSupported."""
    request.route = "ws"
    check_path(request.path)
    raise WebSocketExpected(path=request.path.decode("latin-1"))


def check_path(path: bytes) -> None:
    """Raise what a path other than /ws/2 is answered with."""
    if path.removesuffix(b"/") == PATH:
        return
    if path.startswith(VERSIONS) and len(path) > len(VERSIONS) and b"/" not in path[len(VERSIONS) :]:
        raise ApiVersionNotSupported(version=path[len(VERSIONS) :].decode("latin-1"))
    raise RouteNotFound(path=path.decode("latin-1"))
