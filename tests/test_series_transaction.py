"""Samples and the cursor of the embedded series store stand or fall together."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from skerry_adapters.series.duckdb import DuckSeries
from skerry_adapters.series.ports import Sample, Samples, SeriesUnavailable

SAMPLES = [Sample("a:b", "/features/f/properties/x", time, time, 1.5) for time in range(3)]


@pytest.mark.parametrize(
    ("table", "hindrance"), [("progress", "UPDATE progress SET upto = upto"), ("samples", "DROP TABLE samples")]
)
async def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path, table: str, hindrance: str) -> None:
    path = tmp_path / "s.duckdb"
    async with DuckSeries(path) as series:
        await series.write(Samples.of(SAMPLES[:1]), 1)
        other = duckdb.connect(str(path), config=series.config)
        other.execute("BEGIN")
        other.execute(hindrance)  # whoever comes second to the table fails
        with pytest.raises(SeriesUnavailable):
            await series.write(Samples.of(SAMPLES[1:]), 3)
        other.execute("ROLLBACK")

        assert await series.cursor() == 1
        assert other.execute("SELECT count(*) FROM samples").fetchall() == [(1,)], table
        assert other.execute("SELECT upto FROM progress").fetchall() == [(1,)], table
        await series.write(Samples.of(SAMPLES[1:]), 3)
        assert other.execute("SELECT count(*) FROM samples").fetchall() == [(3,)]
        assert await series.cursor() == 3
        other.close()
