"""A command's way through HTTP, whatever it is about: body in, the wait the caller asked for, answer out."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from skerry.errors import SkerryError
from skerry.signals import Command, Json
from skerry_registry.http import bodies
from skerry_registry.http.acks import settle
from skerry_registry.http.answer import Answer, of_response
from skerry_registry.http.door import Door
from skerry_registry.http.request import Request
from skerry_registry.identities.namespaces import Reach
from skerry_registry.lateness import in_time
from skerry_registry.live.acks import Acks
from skerry_registry.live.wishes import TIMEOUT, USUAL, wish_of

T = TypeVar("T")
BODY_LEAST = 1_048_576
"""A body may be longer than the thing it describes (white space, escapes), but not longer than this or the thing's limit."""
FORBIDDEN = 403
EXPLAINED = 100
"""Refusals of one request that are given their reasons."""


class Reasons(Protocol):
    """Who knows why a policy refuses."""

    async def attach(self, command: Command, error: SkerryError, reach: Reach | None) -> None:
        """Put `why` into the error, as far as the caller may read the policy."""
        ...


class Exchange:
    """Carries commands to the registry and its responses back."""

    def __init__(self, door: Door, *, max_bytes: int, reasons: Reasons | None = None, acks: Acks | None = None) -> None:
        """`max_bytes` is the largest entity; it bounds the bodies. `acks`: where others' acknowledgements come in."""
        self.door = door
        self.max_bytes = max_bytes
        self._body_max = max(BODY_LEAST, max_bytes)
        self._reasons = reasons
        self._acks = acks or Acks()

    async def body(self, request: Request) -> bytes:
        """The body as it came. Raises BodyTooLarge."""
        return await request.body_in_time(self._body_max)

    async def value(self, request: Request) -> Json:
        """The JSON of the body. Raises MediaTypeUnsupported, JsonInvalid, BodyTooLarge."""
        edge = request.edge
        media = edge.get("content-type", "")
        bodies.check_media_type(request.method, media, browser="origin" in edge)
        body = await request.body_in_time(self._body_max)
        if not (body or media):
            raise bodies.unsupported(request.method, media)
        return bodies.decode(body)

    async def value_if_any(self, request: Request) -> Json:
        """The JSON of the body, or None where there is no body."""
        body = await request.body_in_time(self._body_max)
        return bodies.decode(body) if body else None

    async def carry_out(self, request: Request, command: Command, path: bytes) -> Answer:
        """Have the command carried out; `path` is where what it makes will be. Raises SkerryError."""
        if request.reach is not None:
            request.reach.check_command(command)
        wish = wish_of(request.ditto, query=command.verb == "retrieve", acknowledged=command.kind == "thing")
        path = path if path.endswith(b":/") else path.removesuffix(b"/")
        try:
            if wish is USUAL:
                response = await in_time(TIMEOUT, self.door.handle(command))
                location = request.origin + path.decode("latin-1") if response.status == 201 else None
                return of_response(response, location)
            return await settle(
                self.door.handle(command), command, wish, request.origin + path.decode("latin-1"), self._acks
            )
        except SkerryError as error:
            await self.say_why(request, command, error)
            raise

    async def say_why(self, request: Request, command: Command, error: SkerryError) -> None:
        """Put `why` into the refusal of a command, where it is a policy's that the caller may read."""
        if error.status == FORBIDDEN and self._reasons is not None:
            await self._reasons.attach(command, error, request.reach)

    async def in_time(self, request: Request, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What a question comes to, within the caller's time. Raises CommandTimeout."""
        return await in_time(wish_of(request.ditto, query=True).timeout, ask())
