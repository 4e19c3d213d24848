"""A real InfluxDB 2.7: away and back again, points it refuses, and what a Grafana user finds in it."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from servers import Influx, influxd
from skerry.signals import Event
from skerry_adapters.series.influx import WINDOW_SAMPLES_MAX, InfluxSeries
from skerry_adapters.series.ports import Query, Sample, Samples, SeriesUnavailable
from skerry_adapters.series.query import QueryInvalid
from skerry_adapters.series.sink import Sink

T0 = 1_769_904_000_000_000  # 2026-02-01T00:00:00Z
POWER = "/features/scada/properties/power"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    with influxd(tmp_path_factory.mktemp("influx")) as server:
        yield server


class Cursor:
    """The place in the journal, as the registry's store keeps it."""

    def __init__(self) -> None:
        self.number = 0

    async def load(self) -> int:
        return self.number

    async def save(self, number: int) -> None:
        self.number = number


def opened(server: Influx, cursor: Cursor, token: str = Influx.token) -> InfluxSeries:
    return InfluxSeries(
        server.url, token, server.org, server.bucket, load_cursor=cursor.load, save_cursor=cursor.save, seconds=5
    )


def events(thing: str, first: int, last: int) -> list[Event]:
    return [
        Event(
            kind="thing",
            id=thing,
            action="merged",
            revision=number,
            timestamp=T0 + number + 3,
            observed=T0 + number,
            path=("features", "scada"),
            value={"properties": {"power": number * 1.5, "status": "operating", "on": True}},
            number=number,
        )
        for number in range(first, last + 1)
    ]


@asynccontextmanager
async def running(sink: Sink) -> AsyncIterator[None]:
    task = asyncio.create_task(sink.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def arrival(sink: Sink, number: int) -> None:
    async with asyncio.timeout(30):
        while not await sink.reach(number, 1):  # noqa: ASYNC110 - reach answers at once while the store is away
            await asyncio.sleep(0.01)


def asked(server: Influx, flux: str) -> list[dict[str, str]]:
    """The answer to a query as Grafana would send it."""
    answer = httpx.post(
        f"{server.url}/api/v2/query",
        params={"org": server.org},
        headers={
            "Authorization": f"Token {server.token}",
            "Content-Type": "application/vnd.flux",
            "Accept": "application/csv",
        },
        content=flux,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    found: list[dict[str, str]] = []
    for block in answer.text.strip().split("\r\n\r\n"):
        found += csv.DictReader(io.StringIO(block))
    return found


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Influx]:
    """A server of the test's own, to be killed."""
    with influxd(tmp_path) as server:
        yield server


async def test_with_influxdb_away_nothing_is_lost(mortal: Influx) -> None:
    server = mortal
    thing = "test:away"
    cursor = Cursor()
    more = asyncio.Event()

    async def follow(after: int) -> AsyncIterator[list[Event]]:
        if after < 100:
            yield events(thing, after + 1, 100)
        await more.wait()
        yield events(thing, max(after, 100) + 1, 250)
        await asyncio.Event().wait()

    query = Query(thing=thing, path=POWER, start=T0, end=T0 + 1000, step=1000, agg="count")
    async with opened(server, cursor) as series:
        sink = Sink(follow, series, lambda: 7, longest_pause=0.05)
        async with running(sink):
            await arrival(sink, 100)
            server.kill()
            try:
                more.set()
                async with asyncio.timeout(20):
                    while sink.status.error is None:  # noqa: ASYNC110 - a condition of another part
                        await asyncio.sleep(0.01)
                assert (sink.status.since, cursor.number) == (7, 100)
                with pytest.raises(SeriesUnavailable) as away:
                    await series.query(query)
                assert away.value.payload()["status"] == 503
            finally:
                server.start()
            await arrival(sink, 250)
            assert sink.status.error is None
        assert cursor.number == 250
        assert (await series.query(query)).rows == [(T0, 250)]
    async with opened(server, cursor) as series:
        cursor.number = 200  # as if killed before the cursor was saved
        sink = Sink(follow, series, lambda: 7)
        async with running(sink):
            await arrival(sink, 250)
        assert (await series.query(query)).rows == [(T0, 250)]


async def test_a_grafana_user_finds_features_as_measurements_and_properties_as_fields(server: Influx) -> None:
    thing = "farm:T 1"
    async with opened(server, Cursor()) as series:
        sink = Sink(one_list(events(thing, 1, 2)), series, lambda: 0)
        async with running(sink):
            await arrival(sink, 2)
    rows = asked(
        server,
        f'from(bucket: "{server.bucket}") |> range(start: 2026-01-01T00:00:00Z, stop: 2027-01-01T00:00:00Z)'
        f' |> filter(fn: (r) => r._measurement == "scada" and r.thing == "{thing}")',
    )
    values = {(row["_field"], row["_value"]) for row in rows}
    assert values == {
        ("power", "1.5"),
        ("power", "3"),
        ("status~text", "operating"),
        ("on~bool", "true"),
        ("~learned", str(T0 + 4)),
        ("~learned", str(T0 + 5)),
    }
    assert {row["namespace"] for row in rows} == {"farm"}
    assert {row["_time"] for row in rows} == {"2026-02-01T00:00:00.000001Z", "2026-02-01T00:00:00.000002Z"}


def one_list(events: list[Event]):
    async def follow(after: int) -> AsyncIterator[list[Event]]:
        if after < events[-1].number:
            yield [event for event in events if event.number > after]
        await asyncio.Event().wait()

    return follow


async def test_points_that_influxdb_refuses_do_not_hold_up_others(server: Influx) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        written = await client.post(
            f"{server.url}/api/v2/write",
            params={"org": server.org, "bucket": server.bucket, "precision": "us"},
            headers={"Authorization": f"Token {server.token}"},
            content=f"clash,thing=someone:else,namespace=someone x=1i {T0}",
        )
    assert written.status_code == 204
    cursor = Cursor()
    clash = "/features/clash/properties/"
    async with opened(server, cursor) as series:
        await series.write(
            Samples.of(
                [
                    Sample("a:b", clash + "x", T0, T0, 1.5),
                    Sample("a:b", clash + "y", T0 + 1, T0, 2.5),
                    Sample("a:b", POWER, T0, T0, 3.5),
                    Sample("a:b", POWER, 2**62, T0, 4.5),
                ]
            ),
            9,
        )
        assert cursor.number == 9
        for path, rows in ((POWER, [(T0, 3.5)]), (clash + "y", [(T0 + 1, 2.5)]), (clash + "x", [])):
            assert (await series.query(Query(thing="a:b", path=path, start=T0, end=T0 + 10))).rows == rows


async def test_samples_are_fetched_within_a_bound_and_more_are_refused(server: Influx) -> None:
    async with opened(server, Cursor()) as series:
        count = WINDOW_SAMPLES_MAX + 3
        for first in range(0, count, 50_000):
            times = range(T0 + first, T0 + min(first + 50_000, count))
            await series.write(Samples.of([Sample("a:many", POWER, time, time, 2) for time in times]), 1)
        start = T0 + 1
        query = Query(
            thing="a:many", path=POWER, start=start, end=start + WINDOW_SAMPLES_MAX, step=10**9, agg="integral"
        )
        ((_, area),) = (await series.query(query)).rows
        assert area == pytest.approx(2 * WINDOW_SAMPLES_MAX / 1e6)
        with pytest.raises(QueryInvalid, match="at most 200000 samples"):
            await series.query(replace(query, end=query.end + 1))
        assert (await series.query(replace(query, end=query.end + 1, agg="derivative"))).rows == [(start, 0)]


async def test_a_wrong_token_is_told_and_loses_nothing(server: Influx) -> None:
    cursor = Cursor()
    async with opened(server, cursor, token="wrong") as series:
        with pytest.raises(SeriesUnavailable) as unwritten:
            await series.write(Samples.of([Sample("a:b", POWER, T0, T0, 1)]), 5)
        with pytest.raises(SeriesUnavailable) as unread:
            await series.query(Query(thing="a:b", path=POWER, start=T0, end=T0 + 10))
    assert all("401" in refused.value.facts["reason"] for refused in (unwritten, unread))
    assert cursor.number == 0
