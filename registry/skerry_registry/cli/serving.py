"""Running the server from the command line: the signals, the loop, the screen, the refusals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from rich.console import Console

from skerry.errors import SkerryError
from skerry_registry.cli.given import called
from skerry_registry.identities.tokens import ApiTokens
from skerry_registry.settings import Settings, tokens_path, users_path
from skerry_registry.users import Users

if TYPE_CHECKING:
    from skerry_registry.app import Running


class NobodyMayLogIn(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """A server without users would answer nobody."""

    code: ClassVar[str] = "users:none"
    status: ClassVar[int] = 500
    message: ClassVar[str] = "There are no users in {path}, so nobody could log in."
    description: ClassVar[str | None] = "Make one: {command}"


def serve(settings: Settings) -> None:
    """Run until Ctrl-C or SIGTERM. Raises NobodyMayLogIn and the rows of a refused start."""
    path = users_path(settings)
    if not anybody_may_log_in(settings):
        raise NobodyMayLogIn(path=path, command=f"{called()} user add NAME --file {path}")
    console = Console(stderr=True)

    def ready(running: Running) -> None:
        mqtt = f"; its MQTT broker is {running.mqtt_url}" if settings.mqtt_url else f" and {running.mqtt_url}"
        told = f"Skerry serves {running.http_url}{mqtt}"
        console.print(told, highlight=False, soft_wrap=True)
        for name, fact in running.facts.items():
            console.print(f"  {name}: {fact}", highlight=False, soft_wrap=True)

    run(settings, ready)


def anybody_may_log_in(settings: Settings) -> bool:
    """Whether there is a user, a token, an issuer or a trusted proxy. Raises UsersUnreadable, TokensUnreadable."""
    known = Users.load(users_path(settings)).names() or ApiTokens(tokens_path(settings), int).all()
    return bool(known or settings.oidc_issuers or settings.auth_pre_authenticated)


def run(
    settings: Settings, ready: Callable[[Running], None], *, before_stop: Callable[[], None] = lambda: None
) -> None:
    """Run the server on uvloop, calling `ready` once it serves and `before_stop`, in a thread, when it is to stop."""
    import uvloop  # noqa: PLC0415 - as below

    os.umask(os.umask(0o077) | 0o027)  # what everybody's devices send is not for everybody on this machine
    uvloop.run(_until_stopped(settings, ready, before_stop))


async def _until_stopped(settings: Settings, ready: Callable[[Running], None], before_stop: Callable[[], None]) -> None:
    from skerry_registry import app  # noqa: PLC0415 - a start that is refused does not wait for it

    asked, stop = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if asked.is_set():
            sys.stderr.write("skerry: ended at once; nothing acknowledged is lost.\n")
            os._exit(130)
        asked.set()

    async def leave() -> None:
        await asked.wait()
        await asyncio.to_thread(before_stop)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    leaving = asyncio.create_task(leave())
    try:
        await app.serve(settings, ready=ready, stop=stop)
    finally:
        leaving.cancel()
