"""The users file on the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import typer

from skerry.errors import SkerryError
from skerry_registry.cli import given
from skerry_registry.cli.given import settings_of
from skerry_registry.settings import users_path
from skerry_registry.users import Users


class UserExists(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """A user who is there already."""

    code: ClassVar[str] = "users:user.conflict"
    status: ClassVar[int] = 409
    message: ClassVar[str] = "There is a user '{name}' already in {path}."
    description: ClassVar[str | None] = "`skerry user password {name}` gives a new password."


def users_of(config: Path | None, data_dir: Path | None, file: Path | None) -> Users:
    """The users that the settings name."""
    settings = settings_of(config, data_dir=data_dir, users_file=file)
    return Users.load(users_path(settings), prefix=settings.auth_basic_prefix)


def tell_folder(config: Path | None, data_dir: Path | None, file: Path | None) -> None:
    """Say which folder the users file is in, where no option has."""
    given.tell_folder(config, data_dir, file, users_path)


def secret(password: str | None, from_stdin: bool) -> str:
    """The password given, read, or asked for twice."""
    if password is not None:
        return password
    if from_stdin or not os.isatty(0):
        return sys.stdin.readline().rstrip("\r\n")
    asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return asked


def add(users: Users, name: str, password: str, roles: list[str]) -> None:
    """Add a user."""
    if name in users.names():
        raise UserExists(name=name, path=users.path)
    users.add(name, password, roles)
    typer.echo(f"User {name} added to {users.path}; subject {users.prefix}{name}.")


def change(users: Users, name: str, ask: Callable[[], str]) -> None:
    """Give a user another password."""
    roles = users.roles(name)
    users.add(name, ask(), roles)
    typer.echo(f"Password of {name} changed in {users.path}.")


def give_roles(users: Users, name: str, roles: list[str]) -> None:
    """Give a user other roles."""
    users.give_roles(name, roles)
    said = f"has {', '.join(roles)}" if roles else "has no roles"
    typer.echo(f"User {name} {said} now, in {users.path}.")


def remove(users: Users, name: str) -> None:
    """Remove a user."""
    users.remove(name)
    typer.echo(f"User {name} removed from {users.path}.")


def show(users: Users) -> None:
    """Print the users."""
    for name in users.names():
        typer.echo("\t".join((name, ",".join(users.roles(name)))).rstrip())
    if not users.names():
        typer.echo(f"No users in {users.path}; add one with `skerry user add NAME`.", err=True)
