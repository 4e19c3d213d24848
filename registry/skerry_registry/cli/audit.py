"""The audit trail of a running server in the terminal."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from skerry_registry.cli.client import Client
from skerry_registry.cli.tables import plain

PAGE = 500


def show(client: Client, asked: dict[str, str], limit: int, *, as_json: bool) -> None:
    """Print the newest records. Raises ServerAway, ServerRefused."""
    try:
        found = _records(client, asked, limit)
    finally:
        client.close()
    console = Console()
    if as_json:
        for record in found:
            typer.echo(msgspec.json.encode(record).decode())
    elif console.is_terminal and found:
        table = Table("Time", "Outcome", "Who", "From", "What", "Policy", box=None, header_style="bold")
        for record in found:
            table.add_row(*(Text(cell) for cell in _cells(record)))
        console.print(table)
    else:
        for record in found:
            typer.echo("\t".join(_cells(record)))
    if not found:
        typer.echo("No records that you may see.", err=True)


def _records(client: Client, asked: dict[str, str], limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: dict[str, Any] = {}
    while len(found) < limit:
        query = urlencode({**asked, **after, "limit": min(PAGE, limit - len(found))})
        page, _ = client.get(f"/api/2/audit?{query}")
        found += page["items"]
        if "next" not in page:
            break
        after = {"after": page["next"]}
    return found


def _cells(record: dict[str, Any]) -> tuple[str, ...]:
    kind = record.get("kind", "")
    what = " ".join(
        text for text in (record["action"], kind, record.get(f"{kind}Id", ""), record.get("path", "")) if text
    )
    policy = record.get("policy")
    times = f" (x{record['count']})" if "count" in record else ""
    return (
        f"{record['time'][:19].replace('T', ' ')}Z",
        record["outcome"] + times,
        plain(record.get("subject") or record.get("user", "")),
        plain(record.get("origin", "")),
        plain(what),
        plain(f"{policy['policyId']} rev {policy['revision']}") if policy else record.get("error", ""),
    )
