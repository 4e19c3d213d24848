"""The embedded series store: one DuckDB file, appended in batches, its cursor in the same transaction."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import duckdb
import numpy as np

from skerry_adapters.series.ports import Page, Query, SeriesUnavailable, Value
from skerry_adapters.series.query import QueryInvalid, too_large, unsuited
from skerry_adapters.series.steps import all_steps, page_of, runs, step_page, wanted, whole
from skerry_adapters.series.windows import REACH, WINDOWED, settled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from skerry.signals import Micros
    from skerry_adapters.series.ports import Samples

T = TypeVar("T")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS things (no INTEGER NOT NULL, name VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS paths (no INTEGER NOT NULL, name VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS samples (
    thing INTEGER NOT NULL, path INTEGER NOT NULL, time BIGINT NOT NULL, learned BIGINT NOT NULL,
    kind UTINYINT NOT NULL, number DOUBLE, text VARCHAR);
CREATE TABLE IF NOT EXISTS progress (version INTEGER NOT NULL, upto BIGINT NOT NULL);
INSERT INTO progress SELECT 1, 0 WHERE NOT EXISTS (FROM progress);
"""
# rowid is the order of writing: of two samples of one time the later written is the one that counts.
_KEPT = """
SELECT time, arg_max(kind, rowid) AS kind, arg_max_null(number, rowid) AS number, arg_max_null(text, rowid) AS text
FROM samples WHERE thing = $thing AND path = $path AND time >= $start AND time < $end GROUP BY time
"""
_RAW = """
SELECT time, kind, number, text FROM samples
WHERE thing = $thing AND path = $path AND time >= $start AND time < $end
ORDER BY time {order}, rowid {order} LIMIT {limit}
"""
_NUMERIC = {
    "avg": "avg(number)",
    "min": "min(number)",
    "max": "max(number)",
    "sum": "sum(number)",
    "stddev": "stddev_samp(number)",
}
_NUMBERS = f"SELECT (time - $start) // $length AS step, time, number FROM ({_KEPT}) WHERE kind = 0"  # noqa: S608 - constants
_WINDOWED = {
    "percentile": f"SELECT step, quantile_cont(number, {{share}}) FROM ({_NUMBERS}) GROUP BY step",  # noqa: S608
    "derivative": f"""
SELECT step, (arg_max(number, time) - arg_min(number, time)) / (nullif(max(time) - min(time), 0) / 1e6)
FROM ({_NUMBERS}) GROUP BY step
""",  # noqa: S608
    "rate": f"""
SELECT step,
    sum(CASE WHEN number < before THEN number ELSE number - before END) / (nullif(max(time) - min(time), 0) / 1e6)
FROM (SELECT *, lag(number) OVER (PARTITION BY step ORDER BY time) AS before FROM ({_NUMBERS})) GROUP BY step
""",  # noqa: S608
}
# Lines from sample to sample, cut at the edges of steps; a sample alone stands for a step that has no area.
_AREA = "(v0 + (v1 - v0) * (((lo - t0) + (hi - t0)) / 2 / (t1 - t0))) * ((hi - lo) / 1e6)"
_INTEGRAL = f"""
WITH lines AS MATERIALIZED (
    SELECT *, (t0 - $first) // $length AS s0, (t1 - 1 - $first) // $length AS s1
    FROM (
        SELECT time AS t0, number AS v0, lead(time) OVER by_time AS t1, lead(number) OVER by_time AS v1
        FROM ({_KEPT}) WHERE kind = 0 WINDOW by_time AS (ORDER BY time))),
inside AS (SELECT *, t0 AS lo, t1 AS hi FROM lines WHERE s0 = s1 AND t0 >= $first AND t1 <= $until),
across AS (
    SELECT *, unnest(range(greatest(s0, 0), least(s1, $count - 1) + 1)) AS step
    FROM lines WHERE t1 IS NOT NULL AND (s0 <> s1 OR t0 < $first OR t1 > $until)),
cut AS (
    SELECT *, greatest(t0, $first + step * $length) AS lo, least(t1, $first + (step + 1) * $length, $until) AS hi
    FROM across)
SELECT step, sum(area) FROM (
    SELECT s0 AS step, {_AREA} AS area FROM inside
    UNION ALL SELECT step, {_AREA} FROM cut WHERE lo < hi
    UNION ALL SELECT s0, NULL FROM lines WHERE t1 IS NULL AND t0 >= $first AND t0 < $until)
GROUP BY step
"""  # noqa: S608
_NEAREST = """
SELECT time FROM samples WHERE thing = $thing AND path = $path AND kind = 0 AND time >= $start AND time < $end
ORDER BY time {order} LIMIT 1
"""
_NO_NUMBER = """
SELECT 1 FROM samples WHERE thing = $thing AND path = $path AND kind > 0 AND time >= $start AND time < $end LIMIT 1
"""
_PICKED = {"first": "arg_min", "last": "arg_max"}
_NUMBER, _BOOLEAN, _TEXT = 0, 1, 2
QUERY_SECONDS = 20.0


class DuckSeries:
    """A series store in one file, for one process. Blocking work is done in two threads: one writes, one answers."""

    def __init__(self, path: Path, *, memory: str = "512MB", threads: int = 2) -> None:
        """`memory` and `threads`: the most that DuckDB may take; what does not fit spills to a folder beside the file."""
        self._path = path
        self.config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory,
            "threads": threads,
            "temp_directory": str(path.with_suffix(".tmp")),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        self._opening = threading.Lock()
        self._answering = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._things: dict[str, int] = {}
        self._paths: dict[str, int] = {}
        self._upto = 0

    async def __aenter__(self) -> Self:
        """Open the file, or make it. Raises SeriesUnavailable when it cannot be opened (another process has it, say)."""
        self._writer = ThreadPoolExecutor(1, "series-write")
        self._reader = ThreadPoolExecutor(1, "series-read")
        try:
            await self._run(self._writer, self._open)
        except SeriesUnavailable:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Finish what is being written and close the file."""
        await asyncio.to_thread(self._close)

    async def write(self, samples: Samples, upto: int) -> None:
        """Append the samples and move the cursor, in one durable transaction."""
        await self._run(self._writer, lambda: self._write(samples, upto))

    async def cursor(self) -> int:
        """The `upto` of the last durable write."""
        await self._run(self._writer, self._open)
        return self._upto

    async def trim(self, before: Micros) -> None:
        """Forget samples that were learned before and give their room back to the file."""
        await self._run(self._writer, lambda: self._trim(before))

    async def copy(self, path: Path) -> None:
        """A copy of all that is durable, at a path; writing waits meanwhile. Raises SeriesUnavailable."""
        await self._run(self._writer, lambda: self._copy(path))

    async def query(self, query: Query) -> Page:
        """Answer one property's page."""
        ask = asyncio.ensure_future(self._run(self._reader, lambda: self._answer(query)))
        try:
            done, _ = await asyncio.wait({ask}, timeout=QUERY_SECONDS)
            if not done:
                self._interrupt()
            return await ask
        finally:
            ask.cancel()

    async def _run(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, work)
        except duckdb.InterruptException as error:
            raise QueryInvalid(
                name="from", reason=f"the answer takes more than {QUERY_SECONDS:g} s; ask for a shorter range"
            ) from error
        except duckdb.OutOfRangeException as error:
            raise too_large("it") from error
        except (duckdb.Error, OSError, MemoryError) as error:
            raise SeriesUnavailable(reason=str(error).splitlines()[0]) from error

    def _open(self) -> duckdb.DuckDBPyConnection:
        """The connection; a new one where there is none or a failure has ended the last."""
        with self._opening:
            if self._connection is None:
                connection = duckdb.connect(str(self._path), config=self.config)
                try:
                    connection.execute(_SCHEMA)
                    self._things = dict(connection.execute("SELECT name, no FROM things").fetchall())
                    self._paths = dict(connection.execute("SELECT name, no FROM paths").fetchall())
                    ((self._upto,),) = connection.execute("SELECT upto FROM progress").fetchall()
                except BaseException:
                    connection.close()
                    raise
                self._reading = connection.cursor()
                self._connection = connection
            return self._connection

    def _drop(self) -> None:
        """Let go of a connection that failed; the next use opens the file anew, which replays its log."""
        with self._opening:
            connection, self._connection = self._connection, None
            reading = self._reading if connection is not None else None
        if connection is not None and reading is not None:
            with self._answering:
                reading.close()
            connection.close()

    def _close(self) -> None:
        self._reader.shutdown()
        self._writer.shutdown()
        self._drop()

    def _interrupt(self) -> None:
        with self._opening:
            if self._connection is not None:
                self._reading.interrupt()

    def _copy(self, path: Path) -> None:
        connection = self._open().cursor()
        try:
            name = connection.execute("SELECT current_database()").fetchall()[0][0]
            target = str(path).replace("'", "''")
            connection.execute(f"ATTACH '{target}' AS copied")
            try:
                connection.execute(f'COPY FROM DATABASE "{name}" TO copied')
            finally:
                connection.execute("DETACH copied")
        finally:
            connection.close()

    def _write(self, samples: Samples, upto: int) -> None:
        connection = self._open()
        try:
            connection.execute("BEGIN")
            if samples:
                self._insert(connection, samples)
            connection.execute("UPDATE progress SET upto = ?", [upto])
            connection.execute("COMMIT")
        except BaseException:
            self._drop()
            raise
        self._upto = upto

    def _insert(self, connection: duckdb.DuckDBPyConnection, samples: Samples) -> None:
        pointers = list(chain.from_iterable(samples.pointers))
        paths = self._numbers(connection, "paths", self._paths, pointers)
        things = self._numbers(connection, "things", self._things, samples.things)
        run = np.repeat(np.arange(len(things)), np.fromiter(map(len, samples.pointers), np.int64, len(things)))
        # neighbours of one series are faster to find and smaller to store; stable, for the later of two is the one that counts
        order = np.argsort(things[run].astype(np.int64) << 32 | paths, kind="stable")
        run = run[order]
        batch: dict[str, np.ndarray[Any, Any]] = {
            "thing": things[run],
            "path": paths[order],
            "time": np.frombuffer(samples.times, np.int64)[run],
            "learned": np.frombuffer(samples.learned, np.int64)[run],
            "number": np.frombuffer(samples.numbers, np.float64)[order],
        }
        kind, number, text = str(_NUMBER), "number", "NULL"
        if samples.others:
            kind, number, text = "kind", f"CASE WHEN kind < {_TEXT} THEN number END", "text"
            kinds = np.zeros(len(order), np.uint8)
            texts = np.full(len(order), None, object)
            for place, value in samples.others.items():
                kinds[place] = _TEXT if type(value) is str else _BOOLEAN
                texts[place] = value if type(value) is str else None
            batch |= {"kind": kinds[order], "text": texts[order]}
        columns = f"thing, path, time, learned, {kind}, {number}, {text}"
        connection.execute(f"INSERT INTO samples SELECT {columns} FROM batch")  # noqa: S608 - constants

    def _numbers(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: Literal["things", "paths"],
        known: dict[str, int],
        names: list[str],
    ) -> np.ndarray[Any, Any]:
        """The numbers that stand for the names; new names get one. A transaction that fails drops them with `known`."""
        try:
            return np.fromiter(map(known.__getitem__, names), np.int32, len(names))
        except KeyError:
            new = {
                name: len(known) + place for place, name in enumerate(dict.fromkeys(n for n in names if n not in known))
            }
            rows = {"no": np.array(list(new.values()), np.int32), "name": np.array(list(new), object)}
            connection.execute(f"INSERT INTO {table} SELECT no, name FROM rows")  # noqa: S608 - constants
            known.update(new)
            assert rows
            return self._numbers(connection, table, known, names)

    def _trim(self, before: Micros) -> None:
        connection = self._open()
        try:
            connection.execute("DELETE FROM samples WHERE learned < ?", [before])
            connection.execute("CHECKPOINT")
        except BaseException:
            self._drop()
            raise

    def _answer(self, query: Query) -> Page:
        """The answer, during which the connection is not taken away."""
        with self._answering:
            self._open()
            return self._query(query)

    def _query(self, query: Query) -> Page:
        facts = {
            "thing": self._things.get(query.thing, -1),
            "path": self._paths.get(query.path, -1),
            "start": query.start,
            "end": query.end,
        }
        if query.learned is not None:
            facts["learned"] = query.learned
        if query.step is None:
            return self._raw(query, facts)
        steps = all_steps(query)
        values: dict[Micros, Value | None] = {}
        computed = wanted(query, steps)
        for run in runs(computed):
            if query.agg in WINDOWED:
                self._window(query, facts, run, values)
            else:
                self._aggregate(query, facts, run, values)
        if query.agg in WINDOWED and computed and not values:
            span = {**facts, "start": computed[0][0], "end": computed[-1][1]}
            if self._ask(_NO_NUMBER, span).fetchone() is not None:
                raise unsuited(query.agg, "text or boolean")
        return step_page(query, computed, values)

    def _raw(self, query: Query, facts: dict[str, Any]) -> Page:
        if query.after is not None:
            if query.order == "asc":
                facts["start"] = max(query.start, int(query.after) + 1)
            else:
                facts["end"] = min(query.end, int(query.after))
        wanted_rows = query.limit + 1
        room = wanted_rows + 100
        while True:
            found = self._ask(_RAW.format(order=query.order, limit=room), facts).fetchall()
            rows: dict[Micros, Value | None] = {}
            for time, kind, number, text in found:
                if query.order == "asc" or time not in rows:
                    rows[time] = _restore(kind, number, text)
            if len(found) < room or len(rows) > wanted_rows:  # the last time may have later writes behind the limit
                return page_of(query, list(rows.items())[:wanted_rows])
            room *= 4

    def _aggregate(
        self, query: Query, facts: dict[str, Any], run: tuple[int, int, int], values: dict[Micros, Value | None]
    ) -> None:
        """Put the values of a run of equal steps into `values`."""
        start, length, count = run
        facts = {**facts, "start": start, "end": min(query.end, start + length * count), "length": length}
        if query.agg in _PICKED:
            pick = _PICKED[query.agg]
            picked = f"{pick}(kind, time), {pick}_null(number, time), {pick}_null(text, time)"
            for step, kind, number, text in self._steps(picked, facts):
                values[start + step * length] = _restore(kind, number, text)
        elif query.agg == "count":
            for step, found in self._steps("count(*)", facts):
                values[start + step * length] = found
        else:
            texts = False
            for step, value, numbers in self._steps(f"{_NUMERIC[query.agg]}, count(number)", facts):
                if numbers:
                    values[start + step * length] = None if value is None else whole(value)
                else:
                    texts = True
            if texts and not values:
                raise unsuited(query.agg)

    def _window(
        self, query: Query, facts: dict[str, Any], run: tuple[int, int, int], values: dict[Micros, Value | None]
    ) -> None:
        """Put what the order and spacing of the samples of a run of equal steps come to into `values`."""
        start, length, count = run
        end = min(query.end, start + length * count)
        if query.agg == "integral":
            sql = _INTEGRAL
            before = self._nearest(facts, query.start - REACH, start, "desc")
            behind = self._nearest(facts, end, query.end + REACH, "asc")
            facts = {
                **facts,
                "start": start if before is None else before,
                "end": end if behind is None else behind + 1,
                "first": start,
                "until": end,
                "length": length,
                "count": count,
            }
        else:
            share = 0.0 if query.percentile is None else query.percentile / 100
            sql = _WINDOWED[query.agg].format(share=f"{share!r}::DOUBLE")
            facts = {**facts, "start": start, "end": end, "length": length}
        for step, value in self._ask(sql, facts).fetchall():
            values[start + step * length] = settled(query.agg, value)

    def _nearest(self, facts: dict[str, Any], start: Micros, end: Micros, order: Literal["asc", "desc"]) -> int | None:
        """The first or last time of a number in the range."""
        found = self._ask(_NEAREST.format(order=order), {**facts, "start": start, "end": end}).fetchone()
        return None if found is None else int(found[0])

    def _steps(self, what: str, facts: dict[str, Any]) -> list[tuple[Any, ...]]:
        sql = f"SELECT (time - $start) // $length AS step, {what} FROM ({_KEPT}) GROUP BY step"  # noqa: S608 - constants
        return self._ask(sql, facts).fetchall()

    def _ask(self, sql: str, facts: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        """Ask of the samples; where `learned` is among the facts, of those that were learned since."""
        if "learned" in facts:
            sql = sql.replace("WHERE thing = $thing", "WHERE learned >= $learned AND thing = $thing")
        return self._reading.execute(sql, facts)


def _restore(kind: int, number: float | None, text: str | None) -> Value:
    if kind == _TEXT:
        assert text is not None
        return text
    assert number is not None
    return bool(number) if kind == _BOOLEAN else whole(number)
