"""A farm in the terminal: a table that is drawn anew as the farm lives."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NoReturn
from urllib.parse import urlencode

from msgspec import Struct
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from skerry.errors import SkerryError
from skerry_adapters.farm.layout import FEATURE
from skerry_registry.cli.client import Client, ServerRefused
from skerry_registry.cli.tables import counted, plain

_STYLES = {
    "operating": "green",
    "idle": "cyan",
    "stopped": "yellow",
    "maintenance": "magenta",
    "fault": "bold red",
    "silent": "magenta",
}
_STALE = 60.0
_WIDE, _BRIEF, _GAP = 49, 36, 3
"""Widths beside the ids: of a block with all columns, of one with fewer, of the gap between two."""
_AROUND = 4


class Row(Struct, frozen=True, kw_only=True):
    """One thing of the farm: kW, m/s, degrees, seconds; None where it has not told."""

    id: str
    status: str
    power: float | None
    rated: float | None
    wind: float | None
    direction: float | None
    age: float | None


def watch(client: Client, *, namespace: str | None, interval: float, once: bool) -> None:
    """Draw the table every `interval` seconds until Ctrl-C; `once`, or off the terminal: print it and return."""
    console = Console()
    if once or not console.is_terminal:
        rows = look(client, namespace, time.time())
        console.print(_table(rows), _totals(rows), sep="\n")
        return
    with suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as live:
        _follow(client, namespace, interval, live)


def _follow(client: Client, namespace: str | None, interval: float, live: Live) -> NoReturn:
    """Draw until Ctrl-C; a server that goes away is told, and looked for."""
    rows: list[Row] = []
    trouble, since = "", time.monotonic()
    while True:
        try:
            rows, trouble, since = look(client, namespace, time.time()), "", time.monotonic()
        except SkerryError as error:
            if isinstance(error, ServerRefused) and not rows:
                raise
            old = f"{time.monotonic() - since:.0f} s old, t" if rows else "T"
            trouble = f"{old}rying again. {error.text}"
        live.update(_screen(client.url, rows, trouble, live.console.width, live.console.height), refresh=True)
        time.sleep(interval)


def look(client: Client, namespace: str | None, now: float) -> list[Row]:
    """Every turbine and mast that the login may see. Raises ServerAway, ServerRefused."""
    wanted = "thingId,_modified,attributes/kind,attributes/ratedPower"
    query = {"fields": f"{wanted},features/{FEATURE}/properties", "option": "size(200)"}
    query |= {"namespaces": namespace} if namespace else {}
    following: str | None = f"/api/2/things?{urlencode(query)}"
    rows: list[Row] = []
    while following is not None:
        things, following = client.get(following)
        rows.extend(
            _row(thing, now) for thing in things if namespace is None or thing["thingId"].startswith(f"{namespace}:")
        )
    return sorted(rows, key=lambda row: row.id)


def _row(thing: dict[str, Any], now: float) -> Row:
    attributes = thing.get("attributes") or {}
    properties = ((thing.get("features") or {}).get(FEATURE) or {}).get("properties") or {}
    status = properties.get("status")
    if status is None and isinstance(properties.get("operationNormal"), bool):
        status = "operating" if properties["operationNormal"] else "abnormal"
    modified = thing.get("_modified")
    return Row(
        id=thing["thingId"],
        status=str(status if status is not None else _without(attributes.get("kind", ""), properties)),
        power=_number(properties, "power"),
        rated=_number(attributes, "ratedPower"),
        wind=_number(properties, "wind"),
        direction=_number(properties, "windDirection"),
        age=now - datetime.fromisoformat(modified).timestamp() if modified else None,
    )


def _without(kind: object, properties: dict[str, Any]) -> object:
    """The status of a thing that tells none: its kind, but of a turbine only that it never told anything."""
    if kind != "turbine":
        return kind
    return "" if properties else "silent"


def _number(values: dict[str, Any], name: str) -> float | None:
    """A property, or the first with a height in its name (wind80m)."""
    value = values.get(name)
    if value is None:
        value = next((values[other] for other in sorted(values) if re.fullmatch(rf"{name}\d+m", other)), None)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _screen(url: str, rows: Sequence[Row], trouble: str, width: int, height: int) -> Group:
    """Blocks of rows side by side, with fewer columns where that shows more of the farm; what does not fit is counted."""
    namespaces = {row.id.partition(":")[0] for row in rows}
    cut = len(namespaces.pop()) + 1 if len(namespaces) == 1 else 0
    longest = max((len(row.id) - cut for row in rows), default=0)
    lines = max(1, height - _AROUND)
    brief = len(rows) > max(1, width // (longest + _WIDE)) * lines
    blocks = max(1, width // (longest + (_BRIEF if brief else _WIDE)))
    fits = rows[: blocks * lines]
    tall = max(1, -(-len(fits) // blocks)) if len(fits) > lines else lines
    grid = Table.grid(padding=(0, _GAP))
    starts = range(0, max(len(fits), 1), tall)
    grid.add_row(*(_table(fits[start : start + tall], cut=cut, brief=brief) for start in starts))
    rest = f"  … and {len(rows) - len(fits)} more" if len(rows) > len(fits) else ""
    told = (trouble, "bold red") if trouble else (f"{url}  Ctrl-C leaves", "dim")
    head = Text.assemble(told, no_wrap=True, overflow="ellipsis")
    return Group(head, grid, Text.assemble(_totals(rows), (rest, "yellow"), no_wrap=True, overflow="ellipsis"))


def _table(rows: Iterable[Row], *, cut: int = 0, brief: bool = False) -> Table:
    """A table of rows; `cut`: leave away so many characters of the ids; `brief`: without bar and direction."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    titles = [
        title for title in ("Thing", "Status", "kW", "", "m/s", "deg", "Age") if not brief or title not in ("", "deg")
    ]
    for title in titles:
        table.add_column(title, justify="right" if title in ("kW", "m/s", "deg", "Age") else "left", no_wrap=True)
    for row in rows:
        old = row.age is None or row.age > _STALE
        cells: dict[str, str | Text] = {
            "Thing": Text(plain(row.id[cut:])),
            "Status": Text(plain(row.status), _STYLES.get(row.status, "")),
            "kW": _text(row.power, 0),
            "": Text(_bar(row), "green"),
            "m/s": _text(row.wind, 1),
            "deg": _text(row.direction, 0),
            "Age": Text(_age(row.age), "yellow" if old else "dim"),
        }
        table.add_row(*(cells[title] for title in titles))
    return table


def _totals(rows: Sequence[Row]) -> Text:
    power = sum(row.power or 0.0 for row in rows)
    winds = [row.wind for row in rows if row.wind is not None]
    counts = {status: sum(row.status == status for row in rows) for status in dict.fromkeys(row.status for row in rows)}
    said = ", ".join(f"{count} {plain(status)}" for status, count in counts.items() if status)
    wind = f", {sum(winds) / len(winds):.1f} m/s" if winds else ""
    return Text(
        f"{counted(len(rows), 'thing', 'things')}, {power / 1000:,.1f} MW{wind}" + (f": {said}" if said else ""), "bold"
    )


def _text(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _bar(row: Row) -> str:
    if row.power is None or not row.rated:
        return ""
    eighths = round(48 * min(max(row.power / row.rated, 0.0), 1.0))
    return ("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8]).ljust(6)[:6]


def _age(age: float | None) -> str:
    if age is None:
        return ""
    for unit, seconds in (("d", 86_400), ("h", 3600), ("m", 60)):
        if age >= seconds:
            return f"{age / seconds:.0f}{unit}"
    return f"{max(age, 0):.0f}s"
