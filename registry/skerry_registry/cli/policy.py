"""Questions about rights to a running server, and its answers for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from skerry.errors import SkerryError
from skerry_registry.cli.client import Client
from skerry_registry.cli.tables import plain

POLICIES = "/api/2/policies"
SHOWN = 3
"""Ids or subjects that stand in one cell."""


class PolicyFileInvalid(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """A file that holds no policy."""

    code: ClassVar[str] = "policies:file.invalid"
    status: ClassVar[int] = 400
    message: ClassVar[str] = "{file} cannot be read as a policy: {problem}."
    description: ClassVar[str | None] = "Give the whole policy as JSON, as GET /api/2/policies/<id> answers it."


def asked(subjects: list[str], resource: str, permission: str, thing: str | None) -> dict[str, Any]:
    """The body of a question to explain."""
    question: dict[str, Any] = {"subjects": subjects, "resource": resource, "permission": permission.upper()}
    return question if thing is None else {**question, "thingId": thing}


def document(file: str) -> Any:
    """The JSON of a file, or of standard input. Raises PolicyFileInvalid."""
    try:
        return msgspec.json.decode(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    except OSError as error:
        raise PolicyFileInvalid(file=file, problem=error.strerror or type(error).__name__) from error
    except msgspec.MsgspecError as error:
        raise PolicyFileInvalid(file=file, problem=str(error)) from error


def explain(client: Client, policy: str, question: dict[str, Any], *, as_json: bool) -> bool:
    """Print why; whether it is granted. Raises ServerAway, ServerRefused."""
    found = client.post(f"{POLICIES}/{quote(policy, safe=':')}/explain", question)
    granted = bool(found["granted"])
    if as_json:
        _print_json(found)
        return granted
    partly = "" if granted or not found.get("partly") else ", but on part of it"
    what = f"{question['permission']} on {question['resource']}"
    typer.echo(plain(f"{'Granted' if granted else 'Not granted'}: {what}{partly}."))
    _table(
        "Decided by",
        ("Policy", "Entry", "Effect", "Permission", "Resource", "Subject"),
        [
            (rule["policyId"], rule["entry"], rule["effect"], rule["permission"], rule["resource"], rule["subject"])
            for rule in found["decidedBy"]
        ],
    )
    _table("Missing", ("Permission", "Resource"), [(one["permission"], one["resource"]) for one in found["missing"]])
    _table(
        "Could be granted by",
        ("Policy", "Entry", "Subjects"),
        [(one["policyId"], one["entry"], _some(one["subjects"])) for one in found["couldBeGrantedBy"]],
    )
    return granted


def simulate(client: Client, policy: str, changed: Any, *, as_json: bool) -> None:
    """Print what a change would change. Raises ServerAway, ServerRefused."""
    found = client.post(f"{POLICIES}/{quote(policy, safe=':')}/simulate", changed)
    if as_json:
        _print_json(found)
        return
    lines = [
        (change["subject"], effect, right["permission"], _extent(right), _affected(change["things"]))
        for change in found["changes"]
        for effect, rights in (("gains", change["gains"]), ("loses", change["loses"]))
        for right in rights
    ]
    if not lines:
        typer.echo("Nobody would gain or lose anything.")
        return
    _table("", ("Subject", "Effect", "Permission", "Resource", "Things"), lines)


def access(client: Client, thing: str, *, as_json: bool) -> None:
    """Print who may what with a thing. Raises ServerAway, ServerRefused."""
    found, _ = client.get(f"/api/2/things/{quote(thing, safe=':')}/access")
    if as_json:
        _print_json(found)
        return
    typer.echo(plain(f"{found['thingId']} has the policy {found['policyId']}."))
    _table(
        "",
        ("Subject", "Reads", "Writes", "Rights", "Entries"),
        [
            (one["subject"], one["read"], one["write"], "\n".join(_rights(one["permissions"])), _some(one["entries"]))
            for one in found["subjects"]
        ],
        headed=True,
    )


def listing(client: Client, namespaces: list[str], subject: str | None, resource: str | None, *, as_json: bool) -> None:
    """Print policies. Raises ServerAway, ServerRefused."""
    query = {"namespaces": ",".join(namespaces), "subject": subject, "resource": resource, "option": "size(200)"}
    path: str | None = f"{POLICIES}?{urlencode({name: text for name, text in query.items() if text})}"
    policies: list[dict[str, Any]] = []
    while path is not None:
        page, path = client.get(path)
        policies.extend(page)
    if as_json:
        _print_json(policies)
        return
    _table("", ("Policy", "Entries", "Subjects", "Imports"), [_summary(policy) for policy in policies])


def _summary(policy: dict[str, Any]) -> tuple[str, ...]:
    entries = policy.get("entries", {})
    subjects = dict.fromkeys(subject for entry in entries.values() for subject in entry.get("subjects", {}))
    return policy["policyId"], _some(list(entries)), _some(list(subjects)), _some(list(policy.get("imports", {})))


def _rights(permissions: dict[str, list[str]]) -> Iterator[str]:
    for resource, held in permissions.items():
        yield f"{resource} {' '.join(held) or 'nothing'}"


def _extent(right: dict[str, Any]) -> str:
    besides = right.get("except", [])
    return f"{right['resource']} except {_some(besides)}" if besides else str(right["resource"])


def _affected(things: dict[str, Any]) -> str:
    return f"{things['count']}: {_some(things['ids'], things['count'])}" if things["count"] else "none"


def _some(names: list[str], count: int | None = None) -> str:
    """The first names, and how many more there are."""
    more = (len(names) if count is None else count) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _print_json(value: Any) -> None:
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _table(title: str, heads: tuple[str, ...], lines: Sequence[tuple[str, ...]], *, headed: bool = False) -> None:
    """A table on a terminal, tab-separated lines elsewhere (`headed`: below the heads); nothing where there are no lines."""
    if not lines:
        return
    console = Console()
    if title:
        typer.echo(f"{title}:")
    if not console.is_terminal:
        if headed:
            typer.echo("\t".join(heads))
        for line in lines:
            typer.echo("\t".join(plain(cell.replace("\n", "; ")) for cell in line))
        return
    table = Table(*heads, box=None, header_style="bold")
    for line in lines:
        table.add_row(*(Text("\n".join(plain(part) for part in cell.split("\n"))) for cell in line))
    console.print(table)
