"""What the HTTP edge asks of the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from skerry.errors import SkerryError
from skerry.signals import Clock, Command, Response
from skerry_registry.memory import Memory


class Door(Protocol):
    """The registry, as far as HTTP knows it."""

    clock: Clock
    memory: Memory

    async def handle(self, command: Command) -> Response:
        """Carry out one command; raises SkerryError."""
        ...

    async def handle_all(self, commands: Sequence[Command]) -> list[Response | SkerryError]:
        """Carry out many, each for itself."""
        ...

    async def handle_together(self, commands: Sequence[Command]) -> list[Response | SkerryError]:
        """Carry out all or none."""
        ...

    async def rehearse(self, commands: Sequence[Command]) -> list[Response | SkerryError]:
        """What `handle_all` would answer; nothing is changed."""
        ...
