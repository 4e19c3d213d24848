# ruff: noqa: N818 - errors are rows of a table
"""How long somebody waits for an answer, and what whoever waited too long is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from skerry.errors import SkerryError
from skerry_registry.patience import within

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")
UNANSWERED = (
    "Somebody who may READ it has to listen: over a WebSocket after START-SEND-MESSAGES or START-SEND-LIVE-COMMANDS, or the device at "
    "device/<namespace>/<name>/live over MQTT. An answer has the same topic, path and correlation-id."
)
"""What to do about messages and live commands that nobody answers."""


class CommandTimeout(SkerryError):
    """A command that was not answered in time."""

    code = "command.timeout"
    status = 408
    message = "The command was not answered within {seconds} s."
    description = "It may still be carried out. Read the thing before you try again."


async def in_time(seconds: float, asking: Coroutine[Any, Any, T]) -> T:
    """What a question comes to. Raises CommandTimeout."""
    try:
        return await within(seconds, asking)
    except TimeoutError as error:
        raise CommandTimeout(seconds=seconds) from error
