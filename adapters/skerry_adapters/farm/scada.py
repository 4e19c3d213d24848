"""Wide SCADA files: which column is which property of which thing, and the records in the rows."""

from __future__ import annotations

import csv
import heapq
import io
import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TextIO

from msgspec import Struct

from skerry import times
from skerry.errors import SkerryError
from skerry_adapters.farm.layout import UNITS

_ORDER = ("turbine", "farm", "metmast")
_EMPTY = frozenset(("", "nan", "na", "n/a", "null", "none", "-"))


class FileRefused(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """A file that cannot be replayed."""

    code: ClassVar[str] = "replay.file.invalid"
    status: ClassVar[int] = 400
    message: ClassVar[str] = "{file} cannot be replayed: {reason}."
    description: ClassVar[str | None] = (
        "A wide file has a header, a column of UTC times and columns per turbine; see `skerry replay --help`."
    )


class Rule(Struct, frozen=True):
    """Columns whose whole name matches `pattern` are `property` of a `kind`; its groups fill `{name}` in `property`.

    For turbines the group `turbine` tells which one.
    """

    pattern: str
    kind: str
    property: str


class Preset(Struct, frozen=True, kw_only=True):
    """How one family of files names its columns; the first rule that fits a column wins."""

    name: str
    rules: tuple[Rule, ...]
    time: str = "time"
    flags: frozenset[str] = frozenset()
    """Properties that are yes or no (1 or 0)."""


_WORDS = {"ws": "wind", "wd": "windDirection", "ti": "turbulenceIntensity"}
PRESETS: dict[str, Preset] = {
    "flasc": Preset(
        name="flasc",
        rules=(
            Rule(r"pow_(?P<turbine>\d+)", "turbine", "power"),
            *(Rule(rf"{short}_(?P<turbine>\d+)", "turbine", word) for short, word in _WORDS.items()),
            Rule(r"is_operation_normal_(?P<turbine>\d+)", "turbine", "operationNormal"),
            *(Rule(f"{short}_truth", "farm", word) for short, word in _WORDS.items()),
            Rule(r"WindSpeed_(?P<height>\d+)m", "metmast", "wind{height}m"),
            Rule(r"WindDirection_(?P<height>\d+)m", "metmast", "windDirection{height}m"),
            Rule(r"TurbulenceIntensity_(?P<height>\d+)m", "metmast", "turbulenceIntensity{height}m"),
        ),
        flags=frozenset({"operationNormal"}),
    ),
}


def wide(pattern: str, signals: Mapping[str, str], time: str = "time") -> Preset:
    """The preset of a pattern such as `{signal}_{turbine}`; `signals` renames signals to properties.

    With `signals` only those are turbines' columns; every other column belongs to the farm. Raises FileRefused.
    """
    if pattern.count("{signal}") != 1 or pattern.count("{turbine}") != 1:
        raise FileRefused(
            file="The data", reason=f"the pattern {pattern!r} must have {{signal}} and {{turbine}} once each"
        )
    head = re.escape(pattern).replace(re.escape("{turbine}"), r"(?P<turbine>[A-Za-z0-9.-]+)")
    if signals:
        rules = [
            Rule(head.replace(re.escape("{signal}"), re.escape(name)), "turbine", property_)
            for name, property_ in signals.items()
        ]
    else:
        rules = [Rule(head.replace(re.escape("{signal}"), r"(?P<signal>.+)"), "turbine", "{signal}")]
    return Preset(name="wide", rules=(*rules, Rule(r"(?P<name>.+)", "farm", "{name}")), time=time)


class Record(Struct, frozen=True):
    """One record of one thing: its moment (epoch ms) and its JSON payload."""

    moment: int
    thing: int
    payload: bytes


class Counts(Struct, kw_only=True):
    """What was met while reading."""

    rows: int = 0
    empty_cells: int = 0
    bad_cells: int = 0
    bad_rows: int = 0
    first_bad: str = ""


class Column(Struct, frozen=True):
    """A column: its place in the row, and the head of its JSON member."""

    place: int
    member: str
    flag: bool


class Header(Struct, frozen=True):
    """The first line of one CSV, and whose each column is: thing id and property, None for nobody's."""

    name: str
    titles: tuple[str, ...]
    owners: tuple[tuple[str, str] | None, ...]


class Table(Struct, frozen=True):
    """One CSV in the file: its name, the times' place, and its columns grouped by thing."""

    name: str
    time: int
    columns: tuple[tuple[int, tuple[Column, ...]], ...]
    ignored: tuple[str, ...]


class Recording:
    """A wide file (CSV, or a zip of CSVs) as a farm: `things` in the file's order, and `records` in time order."""

    def __init__(self, path: Path, preset: Preset, *, namespace: str, farm: str) -> None:
        """Read the headers. Raises FileRefused."""
        self.path = path
        self.preset = preset
        self.counts = Counts()
        self._namespace = namespace
        self._farm = farm
        self.things: dict[str, dict[str, Any]] = {}
        headers = [self._header(name) for name in self._members()]
        if not self.things:
            raise FileRefused(file=path, reason=f"no column fits the preset {preset.name}")
        self.things = dict(sorted(self.things.items(), key=lambda thing: _ORDER.index(thing[1]["kind"])))
        self.ids = list(self.things)
        self.tables = [self._table(header) for header in headers]

    def total(self) -> int:
        """How many data rows there are; the end of the progress bar."""
        lines = 0
        for name in self._members():
            with self._open(name) as text:
                lines += max(0, sum(1 for line in text if line.strip()) - 1)
        return lines

    def records(self) -> Iterator[Record]:
        """Every record, in the order of its time, the same at every reading."""
        self.counts = Counts()
        return heapq.merge(*(self._rows(table) for table in self.tables), key=lambda record: record.moment)

    def _members(self) -> list[str]:
        try:
            if not zipfile.is_zipfile(self.path):
                with self.path.open("rb"):
                    return [self.path.name]
            with zipfile.ZipFile(self.path) as archive:
                names = sorted((name for name in archive.namelist() if name.lower().endswith(".csv")), reverse=True)
        except OSError as error:
            raise FileRefused(file=self.path, reason=error.strerror or str(error)) from error
        if not names:
            raise FileRefused(file=self.path, reason="the zip has no .csv in it")
        return names

    @contextmanager
    def _open(self, name: str) -> Iterator[TextIO]:
        if not zipfile.is_zipfile(self.path):
            with self.path.open(encoding="utf-8-sig", newline="") as text:
                yield text
            return
        with zipfile.ZipFile(self.path) as archive, archive.open(name) as raw:
            yield io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")

    def _header(self, name: str) -> Header:
        """Whose the columns of one CSV are; its things are noted. Raises FileRefused."""
        try:
            with self._open(name) as text:
                titles = [cell.strip() for cell in next(csv.reader(text), [])]
        except (UnicodeDecodeError, csv.Error) as error:
            raise FileRefused(file=f"{self.path} ({name})", reason=f"it is not CSV in UTF-8 ({error})") from error
        if self.preset.time not in titles:
            raise FileRefused(file=f"{self.path} ({name})", reason=f"it has no column {self.preset.time!r}")
        owners = [None if title == self.preset.time else self._owner(title) for title in titles]
        return Header(name, tuple(titles), tuple(owners))

    def _table(self, header: Header) -> Table:
        places = {thing_id: number for number, thing_id in enumerate(self.ids)}
        owned: dict[int, list[Column]] = {}
        ignored: list[str] = []
        for place, (title, owner) in enumerate(zip(header.titles, header.owners, strict=True)):
            if owner is not None:
                column = Column(place, f',"{owner[1]}":', owner[1] in self.preset.flags)
                owned.setdefault(places[owner[0]], []).append(column)
            elif title != self.preset.time:
                ignored.append(title)
        columns = tuple((thing, tuple(found)) for thing, found in sorted(owned.items()))
        return Table(header.name, header.titles.index(self.preset.time), columns, tuple(ignored))

    def _owner(self, title: str) -> tuple[str, str] | None:
        """The thing and the property of a column; the thing is noted when it is new."""
        for rule in self.preset.rules:
            match = re.fullmatch(rule.pattern, title)
            if match is None:
                continue
            groups = match.groupdict()
            property_ = re.sub(r'["\\/\x00-\x1f]', "_", rule.property.format(**groups))
            label = groups.get("turbine", "")
            name = {"turbine": f"T{label}" if label[:1].isdigit() else label}.get(rule.kind, rule.kind)
            attributes = self.things.setdefault(
                f"{self._namespace}:{name}",
                {"kind": rule.kind, "name": name, "farm": self._farm, "units": {}, "source": self.path.name},
            )
            unit = UNITS.get(re.sub(r"\d+m$", "", property_))
            if unit is not None:
                attributes["units"][property_] = unit
            if "height" in groups:
                attributes["heights"] = sorted({*attributes.get("heights", []), int(groups["height"])})
            return f"{self._namespace}:{name}", property_
        return None

    def _rows(self, table: Table) -> Iterator[Record]:
        counts = self.counts
        with self._open(table.name) as text:
            rows = csv.reader(text)
            next(rows)
            for row in rows:
                if not row:
                    continue
                counts.rows += 1
                try:
                    moment = _moment(row[table.time])
                except (ValueError, IndexError):
                    self._bad(table, rows.line_num, "its time is not one")
                    counts.bad_rows += 1
                    continue
                head = f'{{"ts":{moment}'
                for thing, columns in table.columns:
                    members = self._members_of(table, row, columns, rows.line_num)
                    if members:
                        yield Record(moment, thing, f"{head}{members}}}".encode())

    def _members_of(self, table: Table, row: Sequence[str], columns: Sequence[Column], line: int) -> str:
        counts = self.counts
        members = ""
        for column in columns:
            cell = row[column.place].strip() if column.place < len(row) else ""
            try:
                number = float(cell)
            except ValueError:
                if cell.lower() in _EMPTY:
                    counts.empty_cells += 1
                else:
                    counts.bad_cells += 1
                    self._bad(table, line, f"{cell!r} is no number")
                continue
            if not math.isfinite(number):
                counts.empty_cells += 1
            elif column.flag:
                members += column.member + ("true" if number else "false")
            else:
                members += column.member + repr(number)
        return members

    def _bad(self, table: Table, line: int, what: str) -> None:
        self.counts.first_bad = self.counts.first_bad or f"{table.name} line {line}: {what}"


def _moment(cell: str) -> int:
    """Epoch milliseconds of an ISO 8601 time; UTC where it names no zone."""
    return round(times.parse(cell.strip()) / 1000)
