"""Tables of what there is: routes, errors, versions."""

from __future__ import annotations

import importlib
import pkgutil
import platform
from collections.abc import Sequence
from importlib import metadata

import typer
from rich.console import Console
from rich.table import Table

from skerry.errors import rows
from skerry_registry.logs import CONTROL

PACKAGES = ("skerry", "skerry_policies", "skerry_types", "skerry_adapters", "skerry_registry")


def plain(text: str) -> str:
    """A stranger's text, fit for a terminal: what could command it is spelt out."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def counted(number: int, one: str, many: str) -> str:
    """How many there are: `1 thing`, `2 things`."""
    return f"{number} {one if number == 1 else many}"


def errors() -> None:
    """Print every error row."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    _print(("Status", "Code", "Message"), [(str(row.status), row.code, row.message) for row in rows()])


def routes() -> None:
    """Print every HTTP route."""
    from skerry_registry.http.routes import routes as table  # noqa: PLC0415 - only this command needs it

    _print(("Method", "Path", "What"), table())


def version() -> None:
    """Print the versions."""
    typer.echo(f"skerry {metadata.version('skerry')}")
    typer.echo(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for name in ("litestar", "httptools", "apsw", "duckdb", "msgspec", "paho-mqtt"):
        typer.echo(f"{name} {metadata.version(name)}")


def _print(heads: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> None:
    """A table on a terminal, tab-separated lines elsewhere."""
    console = Console()
    if not console.is_terminal:
        for line in lines:
            typer.echo("\t".join(cell.replace("\n", " ") for cell in line))
        return
    table = Table(*heads, box=None, header_style="bold")
    for line in lines:
        table.add_row(*line)
    console.print(table, markup=False)
