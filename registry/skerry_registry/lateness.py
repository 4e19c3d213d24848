# ruff: noqa: N818 - errors are rows of a table
"""What whoever waited too long is told."""

from __future__ import annotations

from skerry.errors import SkerryError


class CommandTimeout(SkerryError):
    """A command that was not answered in time."""

    code = "command.timeout"
    status = 408
    message = "The command was not answered within {seconds} seconds."
    description = "It may still be carried out. Read the thing before you try again."
