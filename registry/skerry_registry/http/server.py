"""The HTTP server: granian, embedded in our event loop, on a socket of our own."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import Callable
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from litestar import Litestar

from skerry.errors import SkerryError
from skerry_registry.http.edge import Edge
from skerry_registry.settings import Settings
from skerry_registry.ws.wire import Open

BACKLOG = 1024
HEAD_PATIENCE_MS = 30_000
"""For a request's head, and for idle connections between two requests."""
CONNECTIONS = 16_384
FILES_KEPT = 256
"""Open files that connections must leave to the stores."""
HEAD_MAX = 262_144
GRACE_SECONDS = 1.0
STOP_SECONDS = 5.0
HOLDER: Any = SocketHolder
"""Its published signature lacks the parameters: file descriptor, whether it is a Unix socket, backlog."""


class PortTaken(SkerryError):  # noqa: N818 - errors are rows of a table
    """Another program listens where we should."""

    code = "http.port.taken"
    message = "HTTP cannot listen on {host}:{port}: {reason}."
    description = "Stop what listens there, or set SKERRY_HTTP_PORT (0 takes a free port)."


class Embedded(Server):
    """Granian's embedded server on a given listening socket.

    Its own sockets share the port with any process that asks (SO_REUSEPORT), and do not tell which port 0 became.
    """

    def __init__(self, app: Any, listening: socket.socket) -> None:
        """Take the socket over."""
        super().__init__(
            app,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=HEAD_PATIENCE_MS, max_buffer_size=HEAD_MAX),
            backlog=BACKLOG,
            backpressure=room(),
            log_enabled=False,
        )
        self._listening = listening

    def _init_shared_socket(self) -> None:
        self._shd: Any = HOLDER(self._listening.detach(), False, BACKLOG)

    def interrupt(self) -> None:
        """Stop: take no more connections, close the idle ones."""
        self.interrupt_signal = True
        self.main_loop_interrupt.set()


def room() -> int:
    """How many connections there may be at a time, by the limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(BACKLOG // 4, min(CONNECTIONS, soft - FILES_KEPT))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortTaken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise PortTaken(host=host, port=port, reason=error.strerror) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        reason = "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror
        raise PortTaken(host=host, port=port, reason=reason) from error
    return listening


async def run_http(
    app: Litestar,
    settings: Settings,
    started: Callable[[str, int], None],
    *,
    open: Open | None = None,  # noqa: A002, ARG001 - the wire comes next
) -> None:
    """Serve until cancelled; `open` decides on WebSockets; `started` is told host and port once connections are taken. Raises PortTaken."""
    listening = listen(settings.http_host, settings.http_port)
    host, port = listening.getsockname()[:2]
    server = Embedded(app, listening)
    serving = asyncio.create_task(server.serve(), name="http")
    try:
        await asyncio.sleep(0)  # the worker starts to accept
        started(host, port)
        await asyncio.shield(serving)
    finally:
        server.interrupt()
        await _stopped(serving, app)


async def _stopped(serving: asyncio.Task[None], app: Litestar) -> None:
    """Wait until every request is answered, but not for clients who do not send theirs."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not serving.done() and loop.time() - began < STOP_SECONDS:
        if isinstance(app.asgi_handler, Edge):
            await app.asgi_handler.finish(max(0.0, began + GRACE_SECONDS - loop.time()))
        await asyncio.wait({serving}, timeout=0.05)
    serving.cancel()
    await asyncio.wait({serving})
