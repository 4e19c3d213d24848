"""The API tokens on the command line."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import ClassVar

import typer

from skerry import times
from skerry.errors import SkerryError
from skerry.signals import Micros
from skerry_registry.cli import given
from skerry_registry.cli.given import settings_of
from skerry_registry.identities.tokens import ApiToken, ApiTokens
from skerry_registry.settings import tokens_path

_AGE = re.compile(r"(\d{1,6})([smhdwy])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}


class DurationInvalid(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """A length of time that cannot be read."""

    code: ClassVar[str] = "tokens:duration.invalid"
    status: ClassVar[int] = 400
    message: ClassVar[str] = "'{text}' is no length of time."
    description: ClassVar[str | None] = "Write 12h, 30d, 4w, 1y, or never."


def now() -> Micros:
    """The wall clock."""
    return time.time_ns() // 1000


def tokens_of(config: Path | None, data_dir: Path | None, file: Path | None) -> ApiTokens:
    """The tokens that the settings name."""
    return ApiTokens(tokens_path(settings_of(config, data_dir=data_dir, tokens_file=file)), now)


def tell_folder(config: Path | None, data_dir: Path | None, file: Path | None) -> None:
    """Say which folder the file of tokens is in, where no option has."""
    given.tell_folder(config, data_dir, file, tokens_path)


def end_of(text: str) -> Micros | None:
    """When a token made now ends; None for `never`. Raises DurationInvalid."""
    if text == "never":
        return None
    found = _AGE.fullmatch(text)
    if found is None:
        raise DurationInvalid(text=text)
    return now() + int(found[1]) * _SECONDS[found[2]] * 1_000_000


def create(tokens: ApiTokens, subjects: list[str], *, ends: str, roles: list[str], note: str) -> None:
    """Make a token and show it this once."""
    expires = end_of(ends)
    text = tokens.create(subjects, expires=expires, roles=roles, note=note)
    until = "without an end" if expires is None else f"until {times.write(expires)}"
    typer.echo(f"For {', '.join(subjects)}, {until}. It is shown only now:", err=True)
    typer.echo(text)


def revoke(tokens: ApiTokens, ids: list[str]) -> None:
    """End tokens."""
    for id_ in ids:
        tokens.revoke(id_)
        typer.echo(f"Token {id_ if len(id_) <= 10 else '(given whole)'} revoked in {tokens.path}.")


def show(tokens: ApiTokens) -> None:
    """Print the tokens, without what could be used."""
    for id_, token in tokens.all().items():
        typer.echo(
            "\t".join((id_, ",".join(token.subjects), _until(token), ",".join(token.roles), token.note)).rstrip()
        )
    if not tokens.all():
        typer.echo(f"No tokens in {tokens.path}; make one with `skerry token create integration:weather`.", err=True)


def _until(token: ApiToken) -> str:
    if token.expires is None:
        return "never ends"
    return f"{'ended' if token.expires <= now() else 'until'} {times.write(token.expires)}"
