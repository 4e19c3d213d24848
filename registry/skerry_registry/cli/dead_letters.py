"""The dead letters of a data folder on the command line, beside a running server."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from skerry import times
from skerry.errors import SkerryError
from skerry_adapters.dead_letters import FILE, DeadLetter, DeadLetters
from skerry_registry.cli.tables import plain
from skerry_registry.settings import Settings

_PATIENCE = 5.0


class NoDataFolder(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """A folder without dead letters."""

    code: ClassVar[str] = "deadletters.folder.notfound"
    status: ClassVar[int] = 404
    message: ClassVar[str] = "There are no dead letters in {folder}: no server has run there."
    description: ClassVar[str | None] = "Name the server's data folder with --data-dir, or its settings with --config."


@contextmanager
def letters_of(settings: Settings) -> Iterator[DeadLetters]:
    """The dead letters of the data folder. Raises NoDataFolder."""
    folder = Path(settings.data_dir)
    if not (folder / FILE).exists():
        raise NoDataFolder(folder=folder)
    letters = DeadLetters(folder, settings.dead_letters_max)
    try:
        yield letters
    finally:
        letters.close()


def show(settings: Settings, limit: int, *, as_json: bool) -> None:
    """Print the newest letters."""
    with letters_of(settings) as letters:
        found, count = letters.list(limit), letters.count()
    console = Console()
    if as_json:
        for letter in found:
            typer.echo(msgspec.json.encode(_document(letter)).decode())
    elif console.is_terminal and found:
        table = Table("Id", "Time", "Topic", "Reason", box=None, header_style="bold")
        for letter in found:
            table.add_row(*(Text(cell) for cell in _cells(letter)))
        console.print(table, f"{len(found)} of {count} dead letters", sep="\n", markup=False)
    else:
        for letter in found:
            typer.echo("\t".join(_cells(letter)))
    if not found:
        typer.echo("No dead letters.", err=True)


def replay(settings: Settings, ids: list[int]) -> None:
    """Ask for a replay, and tell what came of it where a server runs; exits with 1 where letters were refused again."""
    with letters_of(settings) as letters:
        asked = letters.request_replay(ids or "all")
        typer.echo(f"{asked} dead letters are to be taken in again.")
        if missing := len(set(ids)) - asked if ids else 0:
            typer.echo(f"{missing} of those named are not there.", err=True)
        until = time.monotonic() + _PATIENCE
        waiting = asked
        while waiting and time.monotonic() < until:
            time.sleep(0.1)
            now = len(letters.requested(asked))
            until = time.monotonic() + _PATIENCE if now < waiting else until
            waiting = now
        left = letters.count()
    if waiting:
        typer.echo(f"{waiting} wait for a server on this data folder.")
    elif asked:
        typer.echo(f"Done; {left} dead letters are left.")
    if missing or (left and asked and not waiting):
        sys.exit(1)


def _cells(letter: DeadLetter) -> tuple[str, ...]:
    why = str(letter.reason.get("message", letter.code))
    return (
        str(letter.id),
        f"{times.write(letter.time)[:19].replace('T', ' ')}Z",
        plain(letter.topic),
        plain(f"{letter.code}: {why}"),
    )


def _document(letter: DeadLetter) -> dict[str, object]:
    """A letter as JSON; a payload that is no text in base64."""
    document: dict[str, object] = {
        "id": letter.id,
        "time": times.write(letter.time),
        "source": letter.source,
        "topic": letter.topic,
        "code": letter.code,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "size": letter.size,
    }
    try:
        return document | {"payload": letter.payload.decode()}
    except UnicodeDecodeError:
        return document | {"payloadBase64": base64.b64encode(letter.payload).decode()}
