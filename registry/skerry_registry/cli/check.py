"""Checking settings and files offline, and the document of all settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import typer
from msgspec import Struct

from skerry.errors import SkerryError
from skerry_adapters.sources import Source
from skerry_registry.cli.given import called
from skerry_registry.cli.serving import anybody_may_log_in
from skerry_registry.contradictions import contradictions
from skerry_registry.settings import Settings, described, is_secret, users_path
from skerry_registry.users import Users

_HEAD = """# Configuration

Skerry reads one TOML file (`skerry serve --config FILE`, or the variable `SKERRY_CONFIG`) and then the environment; a variable
overrides the file, a command-line option overrides both. A misspelt name, in either, stops the start and names the nearest
right one. `skerry check --config FILE` tells what is wrong without starting anything.

- A table in the file is the first part of a name: `port` in `[http]` is `http_port`, and `SKERRY_HTTP_PORT` in the environment.
- A variable that is empty counts as not set. Variables that start with `SKERRY_TEST_` are for the tests and not looked at.
- Secrets (names that end in `_token` or `_password`) may stand in a file of their own: `SKERRY_INFLUX_TOKEN_FILE=/run/secrets/token`.
- Paths in the file are relative to the file; paths in variables and options, and the default `data`, to the working directory.
- `SKERRY_SOURCES` is a JSON array of what `[[sources]]` holds.

| In the file | Variable | Type | Default | Meaning |
|---|---|---|---|---|
"""
_TAIL = """
## Sources

What is taken in over MQTT. Without any, three are there: `ditto/#` for Ditto Protocol envelopes, `telemetry/+/+/+` for plain
JSON devices, and the topics of Eclipse Hono (`e`, `t` ..., with envelopes), all acting as `nginx:ditto`. `[[sources]]` in the file replaces them:

```toml
[[sources]]
name = "telemetry"
pattern = "telemetry/{{namespace}}/{{name}}/{{feature}}"
subjects = ["nginx:ditto"]
```

The members of a source: {members}. `docs/devices.md` tells what they do.
"""


class CheckFailed(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """A server with these settings would not start."""

    code: ClassVar[str] = "settings.check.failed"
    status: ClassVar[int] = 500
    message: ClassVar[str] = "The settings would not do:\n{problems}"
    description: ClassVar[str | None] = None


def document() -> str:
    """docs/configuration.md, whole."""
    rows = "".join(
        f"| `{one.toml}` | `{one.variable}` | {one.type} | {f'`{one.default}`' if one.default else ''} | {one.meaning} |\n"
        for one in described()
    )
    members = ", ".join(f"`{name}`" for name in Source.__struct_fields__)
    return _HEAD + rows + _TAIL.format(members=members)


def check(settings: Settings, config: Path | None) -> None:
    """Print the settings that are in force. Raises CheckFailed."""
    problems = list(_problems(settings))
    defaults = Settings()
    changed = [name for name in settings.__struct_fields__ if getattr(settings, name) != getattr(defaults, name)]
    told = "In force beside the defaults:" if changed else "The defaults are in force."
    typer.echo(f"Settings: {config or 'no file'}, then the environment. {told}")
    for name in changed:
        typer.echo(f"  {name} = {'(secret)' if is_secret(name) else _without_login(getattr(settings, name))}")
    if problems:
        raise CheckFailed(problems="\n".join(f"  {problem}" for problem in problems))
    typer.echo(f"Users: {', '.join(Users.load(users_path(settings)).names())} ({users_path(settings)})")
    typer.echo("All is well.")


def _problems(settings: Settings) -> Iterator[str]:
    users = users_path(settings)
    try:
        if not anybody_may_log_in(settings):
            yield f"users_file: no users in {users}; `{called()} user add NAME --file {users}` makes one."
    except SkerryError as error:
        yield f"users_file: {error.text}"
    folder = Path(settings.data_dir)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        yield f"data_dir: {existing} is not a folder."
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield f"data_dir: {existing} is not writable."
    yield from contradictions(settings)


def _plain(entry: object) -> object:
    """A rule by its members that say something."""
    if not isinstance(entry, Struct):
        return entry
    return {name: list(said) for name in entry.__struct_fields__ if (said := getattr(entry, name))}


def _without_login(value: object) -> object:
    if isinstance(value, str) and "://" in value and "@" in value:
        scheme, _, rest = value.partition("://")
        return f"{scheme}://(login)@{rest.rpartition('@')[2]}"
    if isinstance(value, dict):
        return list(value)
    if isinstance(value, tuple):
        return [getattr(entry, "name", None) or _plain(entry) for entry in value]
    return value
