# ruff: noqa: N818 - errors are rows of a table
"""What whoever waited too long is told."""

from __future__ import annotations

from skerry.errors import SkerryError

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
