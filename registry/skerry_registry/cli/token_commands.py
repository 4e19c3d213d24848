"""`skerry token`: its commands, their options and their help."""

# ruff: noqa: PLC0415, PLR0917 - a command imports what it needs, so that --help is quick; its parameters are its options

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skerry_registry.cli.options import Config, DataDir, Roles

token_app = typer.Typer(no_args_is_help=True, help="API tokens of devices and services, for HTTP and MQTT.")
TokenFile = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="The file of tokens; the setting tokens_file otherwise."),
]


@token_app.command("create")
def token_create(
    subjects: Annotated[list[str], typer.Argument(metavar="SUBJECT...", help="Whom it stands for, issuer:name.")],
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="How long it is good: 12h, 30d, 1y, or never.")
    ] = "1y",
    role: Roles = None,
    note: Annotated[str, typer.Option("--note", help="What it is for.")] = "",
    config: Config = None,
    data_dir: DataDir = None,
    file: TokenFile = None,
) -> None:
    """Make an API token and print it, this once. It may do what policies grant its subjects.

    Over HTTP it goes into the header `Authorization: Bearer`, over MQTT it is the password, with any user name.

    [bold]Examples[/]

      skerry token create integration:weather --expires 90d --note "weather service"

      TOKEN=$(skerry token create nginx:gateway-7 --expires never)
    """
    from skerry_registry.cli import tokens

    tokens.tell_folder(config, data_dir, file)
    made = tokens.tokens_of(config, data_dir, file)
    tokens.create(made, subjects, ends=expires, roles=[*(role or [])], note=note)


@token_app.command("list")
def token_list(config: Config = None, data_dir: DataDir = None, file: TokenFile = None) -> None:
    """List the tokens: id, subjects, end, roles, note.

    [bold]Example[/]: skerry token list
    """
    from skerry_registry.cli import tokens

    tokens.show(tokens.tokens_of(config, data_dir, file))


@token_app.command("revoke")
def token_revoke(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The token's id, or the whole token.")],
    config: Config = None,
    data_dir: DataDir = None,
    file: TokenFile = None,
) -> None:
    """End tokens at once, on a running server too.

    [bold]Example[/]: skerry token revoke k3v9xq2mbd
    """
    from skerry_registry.cli import tokens

    tokens.revoke(tokens.tokens_of(config, data_dir, file), ids)
