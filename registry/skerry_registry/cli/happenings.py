"""What happens, line by line: changes and messages as they come in over the WebSocket."""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec
import typer

from skerry_registry.cli.client import Client
from skerry_registry.cli.following import Following, Wish
from skerry_registry.cli.tables import plain


def tell(client: Client, wish: Wish, *, as_json: bool, count: int | None) -> None:
    """Print a line for each, until Ctrl-C or until there were `count`. Raises ServerAway, ServerRefused."""
    told, away = 0, sys.stderr.isatty()

    def complain(trouble: str) -> None:
        """On a terminal also say when it follows, for a quiet farm looks like a dead one."""
        nonlocal away
        if trouble:
            typer.echo(trouble, err=True)
        elif away:
            typer.echo(f"Following {client.url}. Ctrl-C leaves.", err=True)
        away = bool(trouble)

    following = Following(client, wish, complain)
    try:
        for found in following.envelopes():
            if found is None:
                continue
            text, envelope = found
            typer.echo(text if as_json else line(envelope, time.time()))
            told += 1
            if count is not None and told >= count:
                return
    except KeyboardInterrupt:
        return


def line(envelope: dict[str, Any], now: float) -> str:
    """When, which thing, what happened to it, where, and the value: separated by two spaces, safe for a terminal."""
    parts = [*str(envelope.get("topic", "")).split("/", 5), *[""] * 6]
    namespace, name, _, _, criterion, action = parts[:6]
    when = envelope.get("timestamp") or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    what = "message" if criterion == "messages" else action
    values = [_short(envelope[member]) for member in ("value", "extra") if member in envelope]
    return plain("  ".join([str(when), f"{namespace}:{name}", what, str(envelope.get("path", "")), *values]))


def _short(value: Any) -> str:
    return msgspec.json.encode(value).decode()
