# ruff: noqa: N818 - errors are rows of a table
"""How long a session lasts: as long as its login counts, and a new token puts that off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from skerry.errors import SkerryError
from skerry_registry.identities.refusals import KeysUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from skerry_registry.identities.caller import Caller
    from skerry_registry.identities.logins import Session as Login
    from skerry_registry.identities.namespaces import Reach
    from skerry_registry.live.sender import Sender
    from skerry_registry.ws.shared import Shared


class WebsocketSessionExpired(SkerryError):
    """The token of a session has come to its end."""

    code = "gateway:websocket.session.expired"
    status = 401
    message = "The session ends, for its token has expired."
    description = "Open a new one, or send JWT-TOKEN?jwtToken=… with a new token in time."


class WebsocketSessionClosed(SkerryError):
    """A session whose login does not count any more, or has become somebody else's."""

    code = "gateway:websocket.session.closed"
    status = 403
    message = "The session ends: {reason}."
    description = "Open a new one as whoever you are now."


class Lease:
    """Looks again and again whether a session may go on; `end` is told why it may not."""

    __slots__ = ("_end", "_ends", "_login", "_over", "_reach_of", "_sender", "_shared", "_timer")

    def __init__(
        self,
        shared: Shared,
        sender: Sender,
        login: Login,
        reach_of: Callable[[Caller], Reach | None] | None,
        end: Callable[[SkerryError], None],
    ) -> None:
        """`reach_of`: what a caller with a new token would reach; None: as before."""
        self._shared = shared
        self._sender = sender
        self._login = login
        self._reach_of = reach_of
        self._end = end
        self._ends = self._end_of(login.caller.expires)
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def begin(self) -> None:
        """Look at the end of the login, or after a while."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        until = self._shared.recheck
        if self._ends is not None:
            until = min(until, max(0.0, self._ends - loop.time()))
        elif self._login.caller.kind == "pre-authenticated":
            return
        self._timer = loop.call_later(until, self._look)

    def close(self) -> None:
        """Look no more."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def renew(self, token: str) -> None:
        """A new token for the same subjects makes it longer; any other ends the session. Raises KeysUnavailable: it stays as it was."""
        identities = self._shared.identities
        try:
            caller = await identities.authorize(f"Bearer {token}", self._sender.origin.split(" ")[1])
        except KeysUnavailable:
            raise
        except SkerryError as error:
            self._end(WebsocketSessionClosed(reason=f"the new token is no good ({error.text})"))
            return
        if caller is None or caller.subjects != self._sender.subjects:
            self._end(WebsocketSessionClosed(reason="the new token stands for somebody else"))
            return
        if self._reach_of is not None and self._reach_of(caller) != self._sender.reach:
            self._end(WebsocketSessionClosed(reason="the new token reaches other namespaces"))
            return
        self._login = identities.lasting(caller)
        self._ends = self._end_of(caller.expires)
        if not self._over:
            self.begin()

    def _end_of(self, expires: int | None) -> float | None:
        """When a token ends, on the loop's clock."""
        if expires is None:
            return None
        return asyncio.get_running_loop().time() + (expires - self._shared.registry.clock()) / 1_000_000

    def _look(self) -> None:
        """End it where its token has, or its login would not be granted any more."""
        self._timer = None
        if self._ends is not None and asyncio.get_running_loop().time() >= self._ends:
            self._end(WebsocketSessionExpired())
        elif self._login.holds():
            self.begin()
        else:
            self._end(WebsocketSessionClosed(reason="its login does not count any more"))
