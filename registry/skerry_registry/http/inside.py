"""What operators may see of the running server: its settings, its parts, what it holds."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from skerry.signals import Held, Json, Kind
from skerry_registry.http.operations import Health
from skerry_registry.settings import Settings, is_secret

HIDDEN = re.compile(r"passw|secret|token|credential|private|\bkey\b", re.IGNORECASE)
USERINFO = re.compile(r"(\w+://)[^/@\s]+@")
INSTANCE = "1"
"""There is one process; Ditto's tools ask for the instances of a service."""


class Forgetting(Protocol):
    """What decides how long history is kept; both may be changed while it runs."""

    enabled: bool
    days: float


class Inside(Struct, frozen=True, kw_only=True):
    """The server as operators see it. `hot`: how many things of each namespace are in memory."""

    settings: Settings
    health: Health
    load: Callable[[Kind, str], Awaitable[Held]]
    count: Callable[[Kind], Awaitable[int]]
    hot: Callable[[], dict[str, int]]
    forgetting: Forgetting


def shown(settings: Settings, path: str = "") -> Json:
    """The settings without what is secret, as a tree like the file's; only what stands at the dotted path, None if nothing."""
    flat = {
        name: without_secrets(value) for name, value in msgspec.to_builtins(settings).items() if not is_secret(name)
    }
    wanted = path.removeprefix("ditto").strip(".").replace(".", "_").replace("-", "_")
    if wanted in flat:
        return flat[wanted]
    within = f"{wanted}_" if wanted else ""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        if name.startswith(within):
            table, _, key = name.removeprefix(within).partition("_")
            if key and not within:
                tree.setdefault(table, {})[key] = value
            else:
                tree[name.removeprefix(within)] = value
    return tree or None


def without_secrets(value: Json) -> Json:
    """The value, what is secret by its name left out, and logins in URLs."""
    if isinstance(value, dict):
        return {key: without_secrets(inner) for key, inner in value.items() if not HIDDEN.search(key)}
    if isinstance(value, list):
        return [without_secrets(inner) for inner in value]
    return USERINFO.sub(r"\1", value) if isinstance(value, str) else value
