"""The HTTP server: connections from a listening socket of our own, in the loop of everything else."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Callable

from litestar import Litestar
from litestar.types import ASGIApp

from skerry.errors import SkerryError
from skerry_registry.http.connection import Connection, Shared
from skerry_registry.settings import Settings
from skerry_registry.ws.wire import Limits, Open

log = logging.getLogger(__name__)

BACKLOG = 4096
CONNECTIONS = 16_384
FILES_KEPT = 256
"""Open files that connections must leave to the stores."""
GRACE_SECONDS = 1.0
STOP_SECONDS = 5.0
AT_ONCE = 256
"""Connections taken in one turn of the loop."""


DEFAULT_LIMITS = Limits()


class PortTaken(SkerryError):  # noqa: N818 - errors are rows of a table
    """Another program listens where we should."""

    code = "http.port.taken"
    message = "HTTP cannot listen on {host}:{port}: {reason}."
    description = "Stop what listens there, or set SKERRY_HTTP_PORT (0 takes a free port)."


def room() -> int:
    """How many connections there may be at a time, by the limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(FILES_KEPT, min(CONNECTIONS, soft - FILES_KEPT))


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


class Server:
    """Takes connections from a listening socket, as many as there is room for."""

    def __init__(self, app: ASGIApp, opening: Open | None, listening: socket.socket, limits: Limits) -> None:
        """Take the socket over."""
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._room = room() if limits.connections is None else limits.connections
        self._shared = Shared(app, opening, listening.getsockname()[:2], limits)
        self._shared.freed = self._go_on
        self._taking = False
        self._arriving: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Until cancelled; then every request is answered, but not for clients who do not send theirs."""
        shared = self._shared
        self._go_on()
        try:
            while True:
                await asyncio.sleep(shared.limits.tick)
                shared.tell_time()
                now = self._loop.time()
                for connection in tuple(shared.connections):
                    try:
                        connection.tick(now)
                    except Exception:
                        log.exception("connection failed")
                        connection.abort()
                self._go_on()
        finally:
            self._hold()
            self._room = 0
            self._listening.close()
            await self._end()

    async def _end(self) -> None:
        shared = self._shared
        for connection in tuple(shared.connections):
            connection.stop()
        await self._emptied(GRACE_SECONDS)
        for connection in tuple(shared.connections):
            connection.abort()
        for call in tuple(shared.calls):
            call.cancel()
        await self._emptied(STOP_SECONDS)

    async def _emptied(self, seconds: float) -> None:
        """Wait until no connection and no request is left, so long."""
        try:
            async with asyncio.timeout(seconds):
                if self._arriving:
                    await asyncio.wait(self._arriving)
                await self._shared.emptied()
        except TimeoutError:
            pass

    def _go_on(self) -> None:
        """Take connections, if there is room."""
        if not self._taking and len(self._shared.connections) + len(self._arriving) < self._room:
            self._taking = True
            self._loop.add_reader(self._listening.fileno(), self._take)

    def _hold(self) -> None:
        """Let those that come wait."""
        if self._taking:
            self._taking = False
            self._loop.remove_reader(self._listening.fileno())

    def _take(self) -> None:
        for _ in range(AT_ONCE):
            if len(self._shared.connections) + len(self._arriving) >= self._room:
                self._hold()
                return
            try:
                taken, client = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("no connection can be taken", extra={"reason": error.strerror})
                self._hold()  # the next tick tries again
                return
            taken.setblocking(False)
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._arrive(taken, client[:2]))
            self._arriving.add(task)
            task.add_done_callback(self._arrived)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._arriving.discard(task)
        self._go_on()

    async def _arrive(self, taken: socket.socket, client: tuple[str, int]) -> None:
        connection = Connection(self._shared, client)
        try:
            await self._loop.connect_accepted_socket(lambda: connection, taken)
        except OSError:
            taken.close()  # it has gone already


async def run_http(
    app: Litestar,
    settings: Settings,
    started: Callable[[str, int], None],
    *,
    open: Open | None = None,  # noqa: A002 - what it does
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Serve until cancelled; `open` decides on WebSockets; `started` is told host and port once connections are taken. Raises PortTaken."""
    listening = listen(settings.http_host, settings.http_port)
    host, port = listening.getsockname()[:2]
    server = Server(app, open, listening, limits)
    started(host, port)
    await server.serve()
