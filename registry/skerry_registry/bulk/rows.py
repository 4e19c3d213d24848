# ruff: noqa: N818 - errors are rows of a table
"""Rows of NDJSON on their way in: bytes cut into lines, a line made into a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from skerry.errors import SkerryError
from skerry.protocol import command_from

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skerry.signals import Command


class RowTooLarge(SkerryError):
    """A line longer than any command is."""

    code = "bulk:row.toolarge"
    status = 413
    message = "Row {row} is longer than {limit} bytes."
    description = "The row was passed over. One line is one command about one thing or policy; split it."


class Row(Struct, frozen=True):
    """One line of an upload: its number from 1, its bytes, and the command in it or what is wrong with it."""

    number: int
    text: bytes
    command: Command | SkerryError


class Lines:
    """Cuts what comes in into lines; of one that is too long only the fact is kept."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of a line."""
        self._limit = limit
        self._rest = bytearray()
        self._skipping = False
        self._number = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes | RowTooLarge]]:
        """The lines that this chunk completes, numbered; empty ones count for nothing."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            yield from self._line(chunk[start:end])
            start = end + 1
        self._keep(chunk[start:])

    def finish(self) -> Iterator[tuple[int, bytes | RowTooLarge]]:
        """The last line, if nothing ended it."""
        yield from self._line(b"")

    def _keep(self, part: bytes) -> None:
        if not self._skipping:
            self._rest += part
            if len(self._rest) > self._limit:
                self._skipping = True
                self._rest.clear()

    def _line(self, part: bytes) -> Iterator[tuple[int, bytes | RowTooLarge]]:
        self._keep(part)
        if self._skipping:
            self._number += 1
            self._skipping = False
            yield self._number, RowTooLarge(row=self._number, limit=self._limit)
            return
        line = bytes(self._rest).strip()
        self._rest.clear()
        if line:
            self._number += 1
            yield self._number, line


def read(number: int, line: bytes | RowTooLarge, subjects: tuple[str, ...], origin: str = "") -> Row:
    """The row with its command, under the rights of these subjects."""
    if isinstance(line, RowTooLarge):
        return Row(number, b"", line)
    try:
        return Row(number, line, command_from(line, subjects, origin))
    except SkerryError as error:
        return Row(number, line, error)
