"""InfluxDB 2 as the series store, through influxdb-client. Retention is the bucket's own."""

from __future__ import annotations

import asyncio
import csv
import io
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeVar

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.dialect import Dialect
from influxdb_client.rest import ApiException
from msgspec import Struct
from urllib3.exceptions import HTTPError

from skerry import times
from skerry_adapters.series.lines import LEARNED, LineWriter, fields_of, place_of, tag_of
from skerry_adapters.series.ports import Page, Query, Samples, SeriesUnavailable, Value
from skerry_adapters.series.query import QueryInvalid, unsuited
from skerry_adapters.series.steps import Step, all_steps, page_of, runs, step_page, wanted, whole
from skerry_adapters.series.windows import REACH, WINDOWED, reckon

if TYPE_CHECKING:
    from skerry.signals import Micros

log = logging.getLogger(__name__)

T = TypeVar("T")
LoadCursor = Callable[[], Awaitable[int]]
SaveCursor = Callable[[int], Awaitable[None]]

_FUNCTIONS = {"avg": "mean", "min": "min", "max": "max", "sum": "sum", "stddev": "stddev"}
# InfluxDB 2.7 mislabels windows before 1970 that it computes in its storage; grouping takes the work out of there.
_APART = '|> group(columns: ["_start", "_stop", "_field"])'
_POINTS = '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
_AS_BEFORE = (
    '|> keep(columns: ["_start", "_stop", "_time", "_field", "_value"])'
    ' |> group(columns: ["_start", "_stop", "_field"]) |> sort(columns: ["_time"])'
)
_TOGETHER = '|> group(columns: ["_start", "_stop"])'
WINDOW_SAMPLES_MAX = 200_000
"""The most samples of a range that rate, integral and percentile are reckoned from here."""
_REFUSED = {400, 413}
_PARTLY_REFUSED = 422


class _Row(Struct, frozen=True):
    """One row of an answer. `time` is None where a function has taken it away."""

    start: Micros
    time: Micros | None
    field: str
    value: Value | None


class _Cut(Struct, frozen=True):
    """A run of equal steps in Flux: the range, what keeps the storage out of it, the windows."""

    span: str
    apart: str
    windows: str


class InfluxSeries:
    """A series store in one bucket. Blocking work is done in two threads: one writes, one answers."""

    def __init__(
        self,
        url: str,
        token: str,
        org: str,
        bucket: str,
        *,
        load_cursor: LoadCursor,
        save_cursor: SaveCursor,
        seconds: float = 20.0,
    ) -> None:
        """`load_cursor`, `save_cursor`: where the place in the journal is kept. `seconds`: patience per request."""
        self._url = url
        self._token = token
        self._org = org
        self._bucket = bucket
        self._load_cursor = load_cursor
        self._save_cursor = save_cursor
        self._milliseconds = int(seconds * 1000)
        self._lines = LineWriter()

    async def __aenter__(self) -> Self:
        """Make ready; InfluxDB need not be there."""
        self._writer = ThreadPoolExecutor(1, "series-write")
        self._reader = ThreadPoolExecutor(1, "series-read")
        self._client = InfluxDBClient(
            self._url, self._token, org=self._org, timeout=self._milliseconds, enable_gzip=True, retries=False
        )
        self._writing = self._client.write_api(write_options=SYNCHRONOUS)
        self._asking = self._client.query_api()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Finish the requests that are under way."""
        await asyncio.to_thread(self._close)

    async def write(self, samples: Samples, upto: int) -> None:
        """Write the samples, then remember `upto`. A batch written twice is the same points again."""
        if samples:
            await self._run(self._writer, lambda: self._write(self._lines.write(samples)))
        await self._save_cursor(upto)

    async def cursor(self) -> int:
        """The `upto` of the last write."""
        return await self._load_cursor()

    async def trim(self, before: Micros) -> None:
        """Do nothing: the bucket's retention period forgets samples."""

    async def query(self, query: Query) -> Page:
        """Answer one property's page."""
        return await self._run(self._reader, lambda: self._query(query))

    async def _run(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, work)
        except ApiException as error:
            raise SeriesUnavailable(reason=f"InfluxDB answers {error.status} {error.reason}: {_said(error)}") from error
        except (HTTPError, OSError) as error:
            raise SeriesUnavailable(reason=f"InfluxDB at {self._url}: {error}") from error

    def _close(self) -> None:
        self._reader.shutdown()
        self._writer.shutdown()
        self._writing.close()  # type: ignore[no-untyped-call]
        self._client.close()  # type: ignore[no-untyped-call]

    def _write(self, lines: Sequence[str]) -> None:
        """Write the lines; those that InfluxDB will never take are logged and left out, so that they block no others."""
        try:
            self._writing.write(bucket=self._bucket, record="\n".join(lines).encode(), write_precision="us")  # type: ignore[arg-type]
        except ApiException as error:
            if error.status == _PARTLY_REFUSED:
                log.error("InfluxDB refused some points", extra={"points": len(lines), "reason": _said(error)})  # noqa: TRY400 - the trace says nothing more
            elif error.status not in _REFUSED:
                raise
            elif len(lines) == 1:
                log.error("InfluxDB refused a point", extra={"point": lines[0][:80], "reason": _said(error)})  # noqa: TRY400
            else:
                half = len(lines) // 2
                self._write(lines[:half])
                self._write(lines[half:])

    def _query(self, query: Query) -> Page:
        if query.step is None:
            return self._raw(query)
        steps = all_steps(query)
        computed = wanted(query, steps)
        values: dict[Micros, Value | None] = {}
        if query.agg in WINDOWED:
            return step_page(query, computed, self._window(query, computed))
        texts = False
        for cut in _cuts(query, computed):
            if query.agg in {"first", "last"}:
                self._pick(query, cut, values)
            elif query.agg == "count":
                for row in self._rows(f"{self._source(query, cut.span)} {cut.apart} {cut.windows} |> count()"):
                    assert isinstance(row.value, int)
                    counted = values.get(row.start, 0)
                    assert isinstance(counted, int)
                    values[row.start] = counted + row.value
            else:
                texts |= self._reckon(query, cut, values)
        if texts and not values:
            raise unsuited(query.agg)
        return step_page(query, computed, values)

    def _raw(self, query: Query) -> Page:
        start, end = query.start, query.end
        if query.after is not None:
            if query.order == "asc":
                start = max(start, int(query.after) + 1)
            else:
                end = min(end, int(query.after))
        if start >= end:
            return Page(rows=[])
        pick = "limit" if query.order == "asc" else "tail"
        found: dict[Micros, Value | None] = {}
        for row in self._rows(f"{self._source(query, _span(start, end))} |> {pick}(n: {query.limit + 1})"):
            assert row.time is not None
            found[row.time] = row.value
        return page_of(query, sorted(found.items(), reverse=query.order == "desc"))

    def _window(self, query: Query, steps: Sequence[Step]) -> dict[Micros, Value | None]:
        """What the order and spacing of the numbers come to. Flux has other percentiles, counters and edges than ours.

        Reckoned here from the samples themselves, at most WINDOW_SAMPLES_MAX; a derivative needs but two of each step.
        """
        if not steps:
            return {}
        start, end = steps[0][0], steps[-1][1]
        number, *others = fields_of(place_of(query.path))
        if query.agg == "derivative":
            requests = [
                [
                    f"{self._source(query, cut.span, number)} {cut.apart} {cut.windows} |> {pick}()"
                    for pick in ("first", "last")
                ]
                for cut in _cuts(query, steps)
            ]
        else:
            requests = [[f"{self._source(query, _span(start, end), number)} |> limit(n: {WINDOW_SAMPLES_MAX + 1})"]]
        if query.agg == "integral":
            requests[0].append(f"{self._source(query, _span(query.start - REACH, start), number)} |> last()")
            requests[0].append(f"{self._source(query, _span(end, query.end + REACH), number)} |> first()")
        found: dict[Micros, float] = {}
        for sources in requests:
            for row in self._rows("\n".join(f'{one} |> yield(name: "{no}")' for no, one in enumerate(sources))):
                assert row.time is not None
                assert isinstance(row.value, int | float)
                found[row.time] = row.value
        if query.agg != "derivative" and sum(start <= time < end for time in found) > WINDOW_SAMPLES_MAX:
            raise QueryInvalid(
                name="from",
                reason=f"{query.agg} is reckoned from at most {WINDOW_SAMPLES_MAX} samples with InfluxDB, "
                "and the range has more; ask for a shorter one",
            )
        values = reckon(query, steps, sorted(found.items()))
        if not values and any(self._rows(f"{self._source(query, _span(start, end), *others)} |> first()")):
            raise unsuited(query.agg, "text or boolean")
        return dict(values)

    def _pick(self, query: Query, cut: _Cut, values: dict[Micros, Value | None]) -> None:
        """The first or last sample of each step, whichever of the three fields has it."""
        times: dict[Micros, Micros] = {}
        for row in self._rows(f"{self._source(query, cut.span)} {cut.apart} {cut.windows} |> {query.agg}()"):
            assert row.time is not None
            best = times.get(row.start)
            if best is None or (row.time < best if query.agg == "first" else row.time > best):
                times[row.start] = row.time
                values[row.start] = row.value

    def _reckon(self, query: Query, cut: _Cut, values: dict[Micros, Value | None]) -> bool:
        """An aggregate of the numbers, booleans being 0 and 1; answers whether there are texts."""
        number, boolean, text = fields_of(place_of(query.path))
        span = cut.span
        function = f"{cut.windows} |> {_FUNCTIONS[query.agg]}()"
        rows = list(
            self._rows(
                f'{self._source(query, span, number)} {cut.apart} {function} |> yield(name: "numbers")\n'
                f'{self._source(query, span, boolean, text)} |> first() |> yield(name: "others")'
            )
        )
        others = {row.field for row in rows if row.field != number}
        if boolean in others:
            rows = list(self._rows(f"{self._source(query, span, number, boolean)} |> toFloat() {_TOGETHER} {function}"))
        for row in rows:
            if row.field not in {boolean, text}:
                values[row.start] = row.value
        return text in others

    def _source(self, query: Query, span: str, *fields: str) -> str:
        place = place_of(query.path)
        names = [_quote(field) for field in fields or fields_of(place)]
        asked = names if query.learned is None else [*names, _quote(LEARNED)]
        source = (
            f"from(bucket: {_quote(self._bucket)}) |> {span}"
            f" |> filter(fn: (r) => r._measurement == {_quote(place.measurement)} and r.thing == {_quote(tag_of(query.thing))})"
            f" |> filter(fn: (r) => {' or '.join(f'r._field == {name}' for name in asked)})"
        )
        if query.learned is None:
            return source
        since = f"{source} {_POINTS} |> filter(fn: (r) => exists r[{asked[-1]}] and r[{asked[-1]}] >= {query.learned})"
        kept = [
            f'{since} |> filter(fn: (r) => exists r[{name}]) |> rename(columns: {{{name}: "_value"}})'
            f' |> set(key: "_field", value: {name}) {_AS_BEFORE}'
            for name in names
        ]
        return kept[0] if len(kept) == 1 else f"union(tables: [{', '.join(kept)}])"

    def _rows(self, flux: str) -> Iterator[_Row]:
        dialect = Dialect(
            header=True, delimiter=",", annotations=["datatype"], comment_prefix="#", date_time_format="RFC3339"
        )  # type: ignore[no-untyped-call]
        response = self._asking.query_raw(flux, org=self._org, dialect=dialect)
        text = response.data.decode()
        types: list[str] = []
        header: list[str] = []
        for cells in csv.reader(io.StringIO(text, newline="")):
            if not cells:
                continue
            if cells[0] == "#datatype":
                types, header = cells, []
            elif not header:
                header = cells
                at = {name: place for place, name in enumerate(header)}
                value_at, start_at, time_at, field_at = (
                    at.get(name, -1) for name in ("_value", "_start", "_time", "_field")
                )
                if value_at < 0:
                    raise SeriesUnavailable(reason=f"InfluxDB cannot answer: {cells[-2:]}")
            else:
                yield _Row(
                    times.parse(cells[start_at]),
                    times.parse(cells[time_at]) if time_at >= 0 else None,
                    cells[field_at] if field_at >= 0 else "",
                    _value(cells[value_at], types[value_at]),
                )


def _value(text: str, kind: str) -> Value | None:
    if kind == "string":
        return text.replace("\r\n", "\n")  # as Go writes a line feed in CSV
    if not text:
        return None
    if kind == "boolean":
        return text == "true"
    if kind == "long":
        return int(text)
    number = float(text)
    return None if math.isnan(number) else whole(number) if math.isfinite(number) else number


def _cuts(query: Query, steps: Sequence[Step]) -> Iterator[_Cut]:
    for start, length, count in runs(steps):
        yield _Cut(
            span=_span(start, min(query.end, start + length * count)),
            apart=_APART if count == 1 or start < 0 else "",
            windows=f"|> window(every: {length}us, offset: {start % length}us)" if count > 1 else "",
        )


def _span(start: Micros, end: Micros) -> str:
    return f"range(start: {times.write(start)}, stop: {times.write(end)})"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return f'"{escaped}"'


def _said(error: ApiException) -> str:
    body: Any = error.body
    return str(body.decode(errors="replace") if isinstance(body, bytes) else body or "").strip()[:300]
