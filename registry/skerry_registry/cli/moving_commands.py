"""`skerry export`, `import`, `backup` and `restore`: their options and their help."""

# ruff: noqa: PLC0415, PLR0917 - a command imports what it needs, so that --help is quick; its parameters are its options

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from skerry_registry.cli.options import Config, DataDir, LoginPassword, LoginUser, Url

moving_app = typer.Typer()
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary.")]


class OnConflict(StrEnum):
    """What becomes of what is there already."""

    overwrite = "overwrite"
    skip = "skip"
    fail = "fail"


@moving_app.command("export")
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write; .gz compresses, - is standard output.")],
    namespaces: Annotated[str | None, typer.Option(help="Only things of these, separated by commas.")] = None,
    wanted: Annotated[str | None, typer.Option("--filter", help="Only things that this RQL expression names.")] = None,
    quiet: Quiet = False,
    config: Config = None,
    url: Url = None,
    user: LoginUser = None,
    password: LoginPassword = None,
) -> None:
    """Write the things that you may see, with their policies, as lines of JSON.

    Each line is a command that [bold]skerry import[/] and POST /api/2/bulk take. What you may not read is not in it;
    a whole server is saved by [bold]skerry backup[/].

    [bold]Examples[/]

      skerry export farm.ndjson.gz --user ditto --password ditto

      skerry export - --namespaces demo --filter 'eq(attributes/site,"A")' > site-a.ndjson
    """
    from skerry_registry.cli import transfer
    from skerry_registry.cli.given import client_of, settings_of
    from skerry_registry.cli.tables import counted

    client = client_of(settings_of(config, login_user=user, login_password=password), url)
    report = transfer.export(client, file, namespaces=namespaces, wanted=wanted, quiet=quiet)
    if not quiet:
        left = ""
        if report.skipped:
            verb = "is" if report.skipped == 1 else "are"
            left = f"; {counted(report.skipped, 'policy', 'policies')} that you may not read {verb} left out"
        typer.echo(
            f"{counted(report.things, 'thing', 'things')} and {counted(report.policies, 'policy', 'policies')} in {report.seconds:.1f} s"
            f" ({report.rate:.0f} things/s){left}",
            err=True,
        )


@moving_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What export wrote; .gz is read, - is standard input.")],
    on_conflict: Annotated[
        OnConflict,
        typer.Option("--on-conflict", help="Of what is there already: overwrite it, skip the row, or fail and stop."),
    ] = OnConflict.overwrite,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew instead of where the last run stopped.")
    ] = False,
    quiet: Quiet = False,
    config: Config = None,
    url: Url = None,
    user: LoginUser = None,
    password: LoginPassword = None,
) -> None:
    """Create or replace things and policies from a file, under your rights; exits with 1 when rows were refused.

    Ctrl-C or a crash keeps the place (in FILE.import), and the same command goes on there; no row is done twice.

    [bold]Examples[/]

      skerry import farm.ndjson.gz --user ditto --password ditto

      skerry import farm.ndjson --dry-run --on-conflict skip
    """
    from skerry_registry.cli import transfer
    from skerry_registry.cli.given import client_of, settings_of
    from skerry_registry.cli.tables import counted

    client = client_of(settings_of(config, login_user=user, login_password=password), url)
    report = transfer.import_(
        client, file, on_conflict=on_conflict.value, dry_run=dry_run, restart=restart, quiet=quiet
    )
    if not quiet:
        went_on = f", going on after line {report.resumed}" if report.resumed else ""
        typer.echo(
            f"{counted(report.things, 'thing', 'things')} and {counted(report.policies, 'policy', 'policies')}"
            f" {'would be written' if dry_run else 'written'},"
            f" {report.skipped} skipped, {report.failed} refused"
            f" in {report.seconds:.1f} s ({report.rate:.0f} things/s){went_on}",
            err=True,
        )
    if report.failed:
        raise typer.Exit(1)


@moving_app.command("backup")
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="A .tar or .tar.gz, or a new folder.")],
    config: Config = None,
    data_dir: DataDir = None,
    url: Url = None,
    user: LoginUser = None,
    password: LoginPassword = None,
) -> None:
    """Save everything of a server, while it runs: journal, state, history, sessions, audit trail, users.

    Needs a user with the role devops. Where no server answers, the data folder is saved as it lies.

    [bold]Examples[/]

      skerry backup skerry-monday.tar.gz --user ops --password secret

      skerry backup /mnt/backups/monday
    """
    import time

    from skerry_registry.cli import backups
    from skerry_registry.cli.given import client_of, settings_of
    from skerry_registry.settings import tokens_path, users_path

    settings = settings_of(config, data_dir=data_dir, login_user=user, login_password=password)
    beside = (users_path(settings), tokens_path(settings))
    manifest = backups.backup(
        client_of(settings, url), target, Path(settings.data_dir), lambda: time.time_ns() // 1000, beside
    )
    size = sum(kept.bytes for kept in manifest.files)
    typer.echo(f"{target}: {len(manifest.files)} files, {size:,} bytes, up to event {manifest.journal}", err=True)


@moving_app.command("restore")
def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="What backup wrote.")],
    config: Config = None,
    data_dir: DataDir = None,
) -> None:
    """Put a backup into a new or empty data folder, once every hash in it is right.

    [bold]Example[/]: skerry restore skerry-monday.tar.gz --data-dir data
    """
    from skerry_registry.cli import backups
    from skerry_registry.cli.given import settings_of

    settings = settings_of(config, data_dir=data_dir)
    manifest = backups.restore(source, Path(settings.data_dir))
    typer.echo(f"{settings.data_dir}: as it was at {manifest.taken}, up to event {manifest.journal}", err=True)
