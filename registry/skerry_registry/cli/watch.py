"""A farm in the terminal: a table that is drawn anew as the farm lives."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct, structs
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from skerry_adapters.farm.layout import FEATURE
from skerry_registry.cli.client import Client, ServerAway, ServerRefused
from skerry_registry.cli.following import FAILING, Following, Wish
from skerry_registry.cli.tables import counted, plain

_STYLES = {
    "operating": "green",
    "idle": "cyan",
    "stopped": "yellow",
    "maintenance": "magenta",
    "fault": "bold red",
    "silent": "magenta",
}
EXTRA = f"attributes/kind,attributes/ratedPower,features/{FEATURE}/properties"
"""What the table shows of a thing."""
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


def watch(client: Client, *, namespaces: str | None, interval: float, once: bool) -> None:
    """Draw the table anew as the farm lives, at most every `interval` seconds; `once`, or off the terminal: print it and return."""
    console = Console()
    if once or not console.is_terminal:
        rows = look(client, namespaces, time.time())
        console.print(_table(rows), _totals(rows), sep="\n")
        return
    with suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as live:
        _follow(client, namespaces, interval, live)


def _follow(client: Client, namespaces: str | None, interval: float, live: Live) -> None:
    """Draw until Ctrl-C; a server that goes away is told, and looked for. After each such gap the farm is looked at anew."""
    farm = Farm()
    trouble, since, drawn = "", time.monotonic(), 0.0

    def told(text: str) -> None:
        nonlocal trouble, since
        trouble = text
        if not text:
            farm.take_all(_looked(client, namespaces))
            since = time.monotonic()

    for found in Following(client, Wish(namespaces=namespaces, extra=EXTRA), told).envelopes(interval):
        if found is not None:
            farm.take(found[1])
            since = time.monotonic()
        if time.monotonic() - drawn >= interval:
            drawn = time.monotonic()
            old = f"{drawn - since:.0f} s old. " if trouble and farm.rows else ""
            screen = _screen(client.url, farm.shown(time.time()), old + trouble if trouble else "", *live.console.size)
            live.update(screen, refresh=True)


def _looked(client: Client, namespaces: str | None) -> list[Row]:
    """As `look`; a server that fails will do better later. Raises ServerAway, ServerRefused."""
    try:
        return look(client, namespaces, time.time())
    except ServerRefused as error:
        if error.facts["answer"] < FAILING:
            raise
        raise ServerAway(url=client.url, reason=error.facts["text"]) from error


class Farm:
    """The rows of a farm, kept current by events."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[Row, float]] = {}

    def take_all(self, rows: Iterable[Row]) -> None:
        """What a look at the whole farm has shown."""
        now = time.time()
        self.rows = {row.id: (row, now - (row.age or 0.0)) for row in rows}

    def take(self, envelope: dict[str, Any]) -> None:
        """An event: the row as the extra fields tell it; one that is older than what the row shows is passed over."""
        thing_id = ":".join(str(envelope.get("topic", "")).split("/", 2)[:2])
        at = datetime.fromisoformat(str(envelope["timestamp"])).timestamp()
        if thing_id in self.rows and self.rows[thing_id][1] > at:
            return
        if envelope.get("path") == "/" and "value" not in envelope:
            self.rows.pop(thing_id, None)
            return
        thing = {**(envelope.get("extra") or {}), "thingId": thing_id, "_modified": envelope["timestamp"]}
        self.rows[thing_id] = (_row(thing, at), at)

    def shown(self, now: float) -> list[Row]:
        """In the order of their ids, as old as they are by now."""
        return [structs.replace(row, age=now - at) for _, (row, at) in sorted(self.rows.items())]


def look(client: Client, namespaces: str | None, now: float) -> list[Row]:
    """Every turbine and mast that the login may see. Raises ServerAway, ServerRefused."""
    query = {"fields": f"thingId,_modified,{EXTRA}", "option": "size(200)"}
    query |= {"namespaces": namespaces} if namespaces else {}
    chosen = set((namespaces or "").split(","))
    following: str | None = f"/api/2/things?{urlencode(query)}"
    rows: list[Row] = []
    while following is not None:
        things, following = client.get(following)
        rows.extend(
            _row(thing, now) for thing in things if namespaces is None or thing["thingId"].partition(":")[0] in chosen
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
