# ruff: noqa: N818 - errors are rows of a table
"""`skerry export` and `skerry import`: things and their policies as lines of Ditto Protocol commands."""

from __future__ import annotations

import gzip
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, cast
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skerry.errors import SkerryError
from skerry_registry.cli.client import Client, ServerAway

STDIO = Path("-")
PAGE = 200
BATCH = 1_000
"""Rows of one request."""
TRIES = 20
WAIT = 1.0
TOLD = 20
"""Failures that are told one by one."""
FIELDS = "thingId,policyId,definition,attributes,features,_metadata"
METADATA_MAX = 4_000
"""Bytes of metadata that fit into a row's headers."""
NDJSON = {"content-type": "application/x-ndjson"}
OnConflict: TypeAlias = Literal["overwrite", "skip", "fail"]


class _Answered(Struct):
    """What matters of most answers."""

    status: int


_answered = msgspec.json.Decoder(_Answered).decode
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class FileNotExported(SkerryError):
    """Lines that are no commands."""

    code = "import.file.invalid"
    status = 400
    message = "Line {line} of {file} is no command of the Ditto Protocol."
    description = "Import what `skerry export` wrote, or lines as POST /api/2/bulk takes them."


class Report(Struct):
    """What became of the rows."""

    things: int = 0
    policies: int = 0
    skipped: int = 0
    failed: int = 0
    resumed: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Things per second."""
        return self.things / self.seconds if self.seconds else 0.0


class Bookmark(Struct):
    """Where an import stands: its name on the server, and how many rows are answered."""

    name: str
    size: int
    modified: int
    on_conflict: OnConflict = "overwrite"
    rows: int = 0


def export(
    client: Client, path: Path, *, namespaces: str | None = None, wanted: str | None = None, quiet: bool = False
) -> Report:
    """Write the things that the caller may see, each behind its policy. Raises ServerAway, ServerRefused, OSError."""
    report = Report()
    narrowed = {name: text for name, text in (("namespaces", namespaces), ("filter", wanted)) if text}
    total = int(client.get(f"/api/2/search/things/count?{urlencode(narrowed)}")[0])
    known: set[str] = set()
    began = time.monotonic()
    with _written(path) as file, _bar("Exporting", total, quiet=quiet) as advance:
        cursor: str | None = ""
        while cursor is not None:
            option = f"size({PAGE})" + (f",cursor({cursor})" if cursor else "")
            query = urlencode({**narrowed, "fields": FIELDS, "option": option}, safe="(),/", quote_via=quote)
            page = client.get(f"/api/2/search/things?{query}")[0]
            found: list[dict[str, Any]] = page["items"]
            cursor = page.get("cursor")
            wanted_policies = [thing["policyId"] for thing in found if "policyId" in thing]
            for line in _policies(client, wanted_policies, known, report):
                file.write(line)
            for thing in found:
                file.write(_thing_row(thing))
            report.things += len(found)
            advance(len(found))
    report.seconds = time.monotonic() - began
    return report


def _policies(client: Client, ids: Sequence[str], known: set[str], report: Report) -> Iterator[bytes]:
    """Rows of policies not written yet, those that they import first; what may not be read is counted and left out."""
    new = [id_ for id_ in dict.fromkeys(ids) if id_ not in known]
    if not new:
        return
    known.update(new)
    asked = b"".join(_encode(_envelope("policies", id_, "retrieve")) + b"\n" for id_ in new)
    with client.answer("POST", "/api/2/bulk", asked, NDJSON) as answer:
        answers = [_decode(line) for line in answer.read().splitlines()]
    documents = [found["value"] if found["status"] == 200 else None for found in answers]
    imported = [id_ for document in documents if document for id_ in document.get("imports", {})]
    yield from _policies(client, imported, known, report)
    for id_, document in zip(new, documents, strict=True):
        if document is None:
            report.skipped += 1
        else:
            report.policies += 1
            yield _encode(_envelope("policies", id_, "modify", document)) + b"\n"


def _thing_row(thing: dict[str, Any]) -> bytes:
    metadata = thing.pop("_metadata", None)
    envelope = _envelope("things", thing["thingId"], "modify", thing)
    if metadata:
        put = [{"key": "/" + "/".join(path), "value": value} for path, value in _leaves(metadata)]
        if len(_encode(put)) <= METADATA_MAX:
            envelope["headers"] = {"put-metadata": put}
    return _encode(envelope) + b"\n"


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(tree, dict) and tree:
        for name, member in tree.items():
            yield from _leaves(member, (*path, name))
    else:
        yield path, tree


def _envelope(group: str, id_: str, verb: str, value: Any = None) -> dict[str, Any]:
    channel = "/twin" if group == "things" else ""
    envelope: dict[str, Any] = {
        "topic": f"{id_.replace(':', '/', 1)}/{group}{channel}/commands/{verb}",
        "path": "/",
    }
    if value is not None:
        envelope["value"] = value
    return envelope


def import_(
    client: Client,
    path: Path,
    *,
    on_conflict: OnConflict = "overwrite",
    dry_run: bool = False,
    restart: bool = False,
    quiet: bool = False,
) -> Report:
    """Carry out the rows of a file; a run that broke off goes on where it stopped. Raises ServerAway, FileNotExported."""
    mark = None if dry_run or path == STDIO else _mark_of(path)
    bookmark = _bookmark(path, mark, on_conflict, restart=restart)
    importing = _Importing(client, bookmark.name, on_conflict, dry_run=dry_run, quiet=quiet)
    report = importing.report
    report.resumed = bookmark.rows
    began = time.monotonic()
    with _read(path) as file, _bar("Importing", None, quiet=quiet) as advance:
        for first, rows in _batches(file, path):
            if first + len(rows) > bookmark.rows:
                importing.send(first, rows)
                if on_conflict == "fail" and report.failed:
                    break
                bookmark.rows = first + len(rows)
                if mark is not None:
                    _keep(mark, bookmark)
            advance(len(rows))
    if mark is not None:
        mark.unlink(missing_ok=True)
    report.seconds = time.monotonic() - began
    return report


class _Importing:
    """One import on its way."""

    def __init__(self, client: Client, name: str, on_conflict: OnConflict, *, dry_run: bool, quiet: bool) -> None:
        self.report = Report()
        self._client = client
        self._name = name
        self._on_conflict = on_conflict
        self._policies: dict[str, bytes] | None = {} if dry_run else None
        self._console = Console(stderr=True, quiet=quiet)
        self._reached = False

    def send(self, first: int, rows: Sequence[dict[str, Any]]) -> None:
        """Have rows carried out; they are done once, however often the server goes away meanwhile."""
        lines = [_encode(self._prepared(row)) for row in rows]
        before = self._told_again(rows, lines)
        rehearsal = self._policies is not None
        headers = NDJSON if rehearsal else {**NDJSON, "idempotency-key": f"{self._name}-{first}"}
        body = b"\n".join([*before, *lines])
        answers = self._answers("/api/2/bulk?dry-run=true" if rehearsal else "/api/2/bulk", body, headers)[
            len(before) :
        ]
        for number, (row, line) in enumerate(zip(rows, answers, strict=False), first + 1):
            self._note(number, row, line)
        self.report.failed += len(rows) - len(answers)

    def _answers(self, path: str, body: bytes, headers: dict[str, str]) -> list[bytes]:
        """What the server answers; one that was there and went away is waited for."""
        attempt = 1
        while True:
            try:
                with self._client.answer("POST", path, body, headers) as answer:
                    self._reached = True
                    return answer.read().splitlines()
            except ServerAway as error:
                attempt += 1
                never_there = not self._reached and isinstance(error.__cause__, ConnectionRefusedError)
                if attempt > TRIES or never_there:
                    raise
                if attempt == 2:
                    told = f"{error.text} Trying again for {TRIES * WAIT:.0f} s."
                    self._console.print(told, highlight=False, markup=False, soft_wrap=True)
                time.sleep(WAIT)

    def _told_again(self, rows: Sequence[dict[str, Any]], lines: Sequence[bytes]) -> list[bytes]:
        """The policies of earlier batches that these rows need: a rehearsal has forgotten them."""
        policies = self._policies
        if policies is None:
            return []
        here = {_id(row) for row in rows if _is_policy(row)}
        values = [row["value"] for row in rows if not _is_policy(row) and isinstance(row.get("value"), dict)]
        wanted = {value["policyId"] for value in values if "policyId" in value}
        before = [policies[id_] for id_ in sorted(wanted - here) if id_ in policies]
        policies.update({_id(row): line for row, line in zip(rows, lines, strict=True) if _is_policy(row)})
        return before

    def _prepared(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row as it is sent: what would write over something is kept from it, unless it shall."""
        if self._on_conflict == "overwrite" or row.get("path") != "/":
            return row
        return {**row, "headers": {**row.get("headers", {}), "if-none-match": "*"}}

    def _note(self, number: int, row: dict[str, Any], line: bytes) -> None:
        status, report = _answered(line).status, self.report
        if status < 300:
            if _is_policy(row):
                report.policies += 1
            else:
                report.things += 1
        elif status == 412 and self._on_conflict == "skip" and row.get("path") == "/":
            report.skipped += 1
        else:
            report.failed += 1
            if report.failed <= TOLD:
                value = _decode(line).get("value")
                told = value.get("message", "") if isinstance(value, dict) else ""
                if status == 412 and self._on_conflict == "fail" and row.get("path") == "/":
                    told = "It is there already."
                text = f"line {number}: {_id(row)}: {status} {told}"
                self._console.print(text, highlight=False, markup=False, soft_wrap=True)
            elif report.failed == TOLD + 1:
                self._console.print("… and more", highlight=False, markup=False)


def _is_policy(row: dict[str, Any]) -> bool:
    return "/policies/commands/" in row["topic"]


def _id(row: dict[str, Any]) -> str:
    parts = row["topic"].split("/")
    return f"{parts[0]}:{parts[1]}" if len(parts) > 1 else str(row["topic"])


def _batches(file: Iterable[bytes], path: Path) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The rows, some at a time, with the number of those before."""
    first, batch = 0, cast("list[dict[str, Any]]", [])
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = _decode(line)
        except msgspec.DecodeError as error:
            raise FileNotExported(line=number, file=path) from error
        if not isinstance(row, dict) or not isinstance(row.get("topic"), str):
            raise FileNotExported(line=number, file=path)
        batch.append(row)
        if len(batch) == BATCH:
            yield first, batch
            first, batch = first + len(batch), []
    if batch:
        yield first, batch


def _mark_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.import")


def _bookmark(path: Path, mark: Path | None, on_conflict: OnConflict, *, restart: bool) -> Bookmark:
    """Where an earlier run of the same file stopped, or the beginning."""
    stat = path.stat() if mark is not None else None
    name = str(uuid.uuid4())  # noqa: TID251 - a name for this run
    fresh = Bookmark(name, stat.st_size if stat else 0, stat.st_mtime_ns if stat else 0, on_conflict)
    if mark is None or restart or not mark.exists():
        return fresh
    try:
        kept = msgspec.json.decode(mark.read_bytes(), type=Bookmark)
    except msgspec.MsgspecError:
        return fresh
    same = (kept.size, kept.modified, kept.on_conflict) == (fresh.size, fresh.modified, on_conflict)
    return kept if same else fresh


def _keep(mark: Path, bookmark: Bookmark) -> None:
    new = mark.with_name(f"{mark.name}.new")
    new.write_bytes(_encode(bookmark))
    new.replace(mark)


@contextmanager
def _written(path: Path) -> Iterator[IO[bytes]]:
    """The file to write, whole or not at all; compressed by its name."""
    if path == STDIO:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = path.with_name(f"{path.name}.part")
    with cast("IO[bytes]", gzip.open(part, "wb", 6) if path.suffix == ".gz" else part.open("wb")) as file:
        yield file
    part.replace(path)


@contextmanager
def _read(path: Path) -> Iterator[IO[bytes]]:
    if path == STDIO:
        yield sys.stdin.buffer
        return
    with cast("IO[bytes]", gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")) as file:
        yield file


@contextmanager
def _bar(what: str, total: int | None, *, quiet: bool) -> Iterator[Any]:
    """A bar on the screen, where there is one."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda number: progress.advance(task, number)
