"""History: who may see it, and what it looks like over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from msgspec import UNSET

from skerry.errors import SkerryError
from skerry.parts import AttributeNotFound, ThingNotAccessible
from skerry.signals import Command, Response
from skerry_adapters.series.duckdb import DuckSeries
from skerry_adapters.series.ports import Sample, Samples
from skerry_policies.enforcer import Permits, compile_permits
from skerry_registry.history import History, unit_of
from skerry_registry.http.request import Request
from skerry_registry.http.series import Timeseries
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore
from skerry_registry.users import Caller

NOW = 1_769_904_000_000_000  # 2026-02-01T00:00:00Z
MINUTE = 60_000_000
POLICY: dict[str, Any] = {
    "entries": {
        "owner": {
            "subjects": {"nginx:owner": {"type": ""}},
            "resources": {"thing:/": {"grant": ["READ", "WRITE"], "revoke": []}},
        },
        "guest": {
            "subjects": {"nginx:guest": {"type": ""}},
            "resources": {"thing:/features/scada/properties/power": {"grant": ["READ"], "revoke": []}},
        },
        "archivist": {
            "subjects": {"nginx:archivist": {"type": ""}},
            "resources": {"thing:/features/scada/properties/power": {"grant": ["READ_TS"], "revoke": []}},
        },
        "today": {
            "subjects": {"nginx:today": {"type": ""}},
            "resources": {
                "thing:/": {"grant": ["READ"], "revoke": []},
                "thing:/features/scada/properties/wind": {"grant": [], "revoke": ["READ_TS"]},
            },
        },
        "blind": {
            "subjects": {"nginx:blind": {"type": ""}},
            "resources": {
                "thing:/": {"grant": ["READ"], "revoke": []},
                "thing:/features/scada": {"grant": [], "revoke": ["READ"]},
            },
        },
    }
}


class House:
    """A registry with one thing."""

    def clock(self) -> int:
        return NOW

    async def permits(self, subjects: tuple[str, ...], thing_id: str) -> Permits:
        permits = compile_permits(POLICY, subjects)
        if thing_id != "farm:T1" or not any(permits.may_partly("thing", (), one) for one in ("READ", "READ_TS")):
            raise ThingNotAccessible(thing_id=thing_id)
        return permits

    async def reborn(self, thing_id: str) -> int | None:
        assert thing_id == "farm:T1"
        return None

    async def handle(self, command: Command) -> Response:
        assert (command.verb, command.path) == ("retrieve", ("attributes", "units"))
        units = compile_permits(POLICY, command.subjects).view(command.path, {"power": "kW", "wind": "m/s"})
        if units is UNSET:
            raise AttributeNotFound(thing_id=command.id, path="/units")
        return Response(status=200, value=units)


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Timeseries]:
    async with DuckSeries(tmp_path / "series.duckdb") as series:
        waits = {"left": 1}

        async def caught_up(_seconds: float) -> bool:
            """The first question comes before the series holds everything: now it does."""
            if waits.pop("left", 0):
                names = ("power", "wind", "deep/x", "a~1b")
                await series.write(
                    Samples.of(
                        Sample("farm:T1", f"/features/scada/properties/{name}", NOW - ago * MINUTE, NOW, ago * 1.5)
                        for name in names
                        for ago in range(1, 31)
                    ),
                    30,
                )
                status = "/features/scada/properties/status"
                await series.write(Samples.of([Sample("farm:T1", status, NOW - MINUTE - 1, NOW, "idle")]), 31)
            return True

        yield Timeseries(History(House(), series, caught_up))


async def get(edge: Timeseries, url: str, user: str = "owner", method: str = "GET") -> tuple[int, Any]:
    parts = urlsplit(url)
    scope: Any = {
        "method": method,
        "raw_path": b"/api/2/timeseries" + parts.path.encode(),
        "query_string": parts.query.encode(),
        "scheme": "http",
        "client": ("127.0.0.1", 1),
    }

    async def receive() -> Any:
        raise AssertionError

    request = Request(scope, receive)
    request.read_headers([])
    request.caller = Caller(f"nginx:{user}", (f"nginx:{user}",))
    try:
        answer = await edge.answer(request)
    except SkerryError as error:
        return error.status, error.payload()
    return answer.status, json.loads(answer.body)


POWER = "/things/farm:T1/features/scada/properties/power"


async def test_the_first_answer_holds_what_was_acknowledged_before_the_question(edge: Timeseries) -> None:
    status, (answer,) = await get(edge, f"{POWER}?from=now-3m")
    assert status == 200
    assert answer == {
        "thingId": "farm:T1",
        "path": "/features/scada/properties/power",
        "query": {
            "from": "2026-01-31T23:57:00Z",
            "to": "2026-02-01T00:00:00Z",
            "tz": "UTC",
            "limit": 1000,
            "order": "asc",
        },
        "result": {"count": 3, "dataType": "number", "hasMore": False, "unit": "kW"},
        "data": [
            {"t": "2026-01-31T23:57:00Z", "v": 4.5},
            {"t": "2026-01-31T23:58:00Z", "v": 3},
            {"t": "2026-01-31T23:59:00Z", "v": 1.5},
        ],
    }


async def test_a_word_on_time_series_decides_about_them_and_read_where_there_is_none(edge: Timeseries) -> None:
    both = "/things/farm:T1?paths=/features/scada/properties/power,/features/scada/properties/wind&agg=count"
    for user, readable in (("archivist", ["power"]), ("today", ["power"]), ("owner", ["power", "wind"])):
        status, answers = await get(edge, both, user)
        assert (status, [one["path"].rpartition("/")[2] for one in answers]) == (200, readable), user


async def test_steps_say_how_they_were_made(edge: Timeseries) -> None:
    _, (answer,) = await get(edge, f"{POWER}?from=now-20m&step=10m&agg=max&fill=null&timeFormat=ms&order=desc")
    assert answer["query"] | {"step": "10m", "agg": "max", "fill": "null", "order": "desc"} == answer["query"]
    assert answer["data"] == [
        {"t": (NOW - 10 * MINUTE) // 1000, "v": 15},
        {"t": (NOW - 20 * MINUTE) // 1000, "v": 30},
    ]


async def test_an_aggregate_alone_is_one_row(edge: Timeseries) -> None:
    _, (answer,) = await get(edge, f"{POWER}?agg=count")
    assert [row["v"] for row in answer["data"]] == [30]


async def test_pages_follow_each_other_by_their_cursors(edge: Timeseries) -> None:
    found: list[Any] = []
    cursor = ""
    for _ in range(3):
        _, (answer,) = await get(edge, f"{POWER}?limit=12{cursor}")
        found += answer["data"]
        cursor = f"&cursor={answer['result'].get('nextCursor')}"
    assert not answer["result"]["hasMore"]
    assert [row["v"] for row in found] == [ago * 1.5 for ago in range(30, 0, -1)]


async def test_several_properties_are_answered_in_the_order_asked(edge: Timeseries) -> None:
    paths = "/features/scada/properties/wind,features/scada/properties/status,/features/scada/properties/a~1b"
    status, answers = await get(edge, f"/things/farm:T1?paths={paths}&agg=last")
    assert status == 200
    assert [(one["path"].rpartition("/")[2], one["data"][0]["v"], one["result"]["dataType"]) for one in answers] == [
        ("wind", 1.5, "number"),
        ("status", "idle", "string"),
        ("a~1b", 1.5, "number"),
    ]


async def test_a_property_may_lie_deep(edge: Timeseries) -> None:
    status, (answer,) = await get(edge, "/things/farm%3AT1/features/scada/properties/deep/x?agg=count")
    assert (status, answer["data"][0]["v"]) == (200, 30)


async def test_what_has_no_samples_is_an_empty_answer(edge: Timeseries) -> None:
    status, (answer,) = await get(edge, "/things/farm:T1/features/scada/properties/nothing")
    assert (status, answer["data"], answer["result"]) == (200, [], {"count": 0, "dataType": None, "hasMore": False})


async def test_only_what_may_be_read_is_answered(edge: Timeseries) -> None:
    status, _ = await get(edge, POWER, "guest")
    assert status == 200
    status, answers = await get(
        edge, "/things/farm:T1?paths=/features/scada/properties/wind,/features/scada/properties/power", "guest"
    )
    assert (status, [one["path"] for one in answers]) == (200, ["/features/scada/properties/power"])
    for user in ("guest", "blind"):
        status, error = await get(edge, "/things/farm:T1/features/scada/properties/wind", user)
        assert (status, error["error"]) == (404, "things:feature.property.notfound")
    status, error = await get(edge, POWER, "stranger")
    assert (status, error["error"]) == (404, "things:thing.notfound")
    status, error = await get(edge, POWER.replace("T1", "T2"))
    assert (status, error["error"]) == (404, "things:thing.notfound")


@pytest.mark.parametrize(
    ("url", "status", "code", "hint"),
    [
        (f"{POWER}?agg=mean", 400, "timeseries:query.invalid", "avg"),
        (f"{POWER}?agg=percentile", 400, "timeseries:query.invalid", "percentile=95"),
        ("/things/farm:T1/features/scada/properties/status?agg=rate", 400, "timeseries:query.invalid", "boolean"),
        ("/things/farm:T1/features/scada/properties/status?agg=avg", 400, "timeseries:query.invalid", "last"),
        ("/things/farm:T1", 400, "timeseries:query.invalid", "paths"),
        ("/things/farm:T1?paths=/attributes/x", 400, "timeseries:query.invalid", "/attributes/x"),
        ("/things/farm:T1?paths=a//b", 400, "json.pointer.invalid", "a//b"),
        ("/things/farm:T1/features/scada", 404, None, ""),
        ("/things/farm:T1/attributes/x", 404, None, ""),
        ("/things", 404, None, ""),
        ("/nothing/farm:T1", 404, None, ""),
        ("/things/nonsense", 400, "things:id.invalid", "nonsense"),
    ],
)
async def test_what_cannot_be_answered_says_why(
    edge: Timeseries, url: str, status: int, code: str | None, hint: str
) -> None:
    found, error = await get(edge, url)
    assert (found, error["status"]) == (status, status)
    assert code in {None, error["error"]}
    assert hint in error["message"]


async def test_the_unit_is_told_to_those_who_may_read_it(edge: Timeseries) -> None:
    units = {}
    for asked in ("", "?agg=avg", "?agg=count", "?agg=integral", "?step=1m&agg=rate"):
        _, (answer,) = await get(edge, POWER + asked)
        units[asked] = answer["result"].get("unit")
    assert units == {
        "": "kW",
        "?agg=avg": "kW",
        "?agg=count": None,
        "?agg=integral": "kW·s",
        "?step=1m&agg=rate": "kW/s",
    }
    _, (answer,) = await get(edge, POWER, "guest")
    assert "unit" not in answer["result"]
    _, (answer,) = await get(edge, POWER.replace("power", "status"))
    assert "unit" not in answer["result"]


async def test_the_registry_tells_the_units(tmp_path: Path) -> None:
    anne = ("nginx:anne",)
    power = ("features", "scada", "properties", "power")

    async def at_once(_seconds: float) -> bool:
        return True

    async with (
        Registry(MemoryStore(), lambda: NOW, lambda: "id") as registry,
        DuckSeries(tmp_path / "series.duckdb") as series,
    ):
        history = History(registry, series, at_once)
        units: list[Any] = []
        for value in ({}, {"attributes": {"kind": "turbine"}}, {"attributes": {"units": {"power": "kW"}}}):
            await registry.handle(Command(verb="modify", id="farm:T1", subjects=anne, value=value))
            (answer,) = await history.answer(anne, "farm:T1", [power], {})
            units.append(answer["result"].get("unit"))
    assert units == [None, None, "kW"]


async def test_a_thing_made_anew_shows_nothing_of_the_one_that_had_its_id_before(tmp_path: Path) -> None:
    anne = ("nginx:anne",)
    power = ("features", "scada", "properties", "power")
    now = [NOW]
    store = MemoryStore()

    async def at_once(_seconds: float) -> bool:
        return True

    async with DuckSeries(tmp_path / "series.duckdb") as series:

        async def lived(registry: Registry, values: dict[int, float]) -> list[float]:
            """The thing is made, tells values (at minutes of its own), and what is seen of them then."""
            policy = {"policyId": "farm:T1"} if (await registry.memory.ids("policy", "", 1)) else {}
            await registry.handle(Command(verb="modify", id="farm:T1", subjects=anne, value=policy))
            learned = Samples.of(
                Sample("farm:T1", "/features/scada/properties/power", NOW + at * MINUTE, now[0] + 1, value)
                for at, value in values.items()
            )
            await series.write(learned, len(values))
            now[0] += 10
            (answer,) = await History(registry, series, at_once).answer(
                anne, "farm:T1", [power], {"from": str((NOW - 60 * MINUTE) // 1000), "to": "now+10m"}
            )
            now[0] += 10
            return [row["v"] for row in answer["data"]]

        async with Registry(store, lambda: now[0], lambda: "id") as registry:
            assert await registry.reborn("farm:T1") is None
            assert await lived(registry, {-9: 1.5, -8: 2.5}) == [1.5, 2.5]
            assert await registry.reborn("farm:T1") is None
            await registry.handle(Command(verb="delete", id="farm:T1", subjects=anne))
            now[0] += 10
            assert await lived(registry, {}) == []
            assert await lived(registry, {-30: 3.5, -9: 4.5}) == [3.5, 4.5]
            made = await registry.reborn("farm:T1")
        async with Registry(store, lambda: now[0], lambda: "id") as registry:
            assert await registry.reborn("farm:T1") == made
            assert NOW < (made or 0) < now[0]


@pytest.mark.parametrize(
    ("units", "path", "agg", "unit"),
    [
        ({"wind": "m/s"}, "wind", None, "m/s"),
        ({"wind": "m/s"}, "wind", "derivative", "(m/s)/s"),
        ({"wind": "m/s"}, "wind", "integral", "(m/s)·s"),
        ({"pitch": "deg"}, "pitch/blade1", "percentile", "deg"),
        ({"pitch": {"blade1": "deg"}}, "pitch/blade1", "max", "deg"),
        ({"pitch": {"blade1": "deg"}}, "pitch", None, None),
        ({"wind": 3}, "wind", None, None),
        (None, "wind", None, None),
    ],
)
def test_a_unit_is_found_along_the_property_and_follows_the_aggregate(
    units: Any, path: str, agg: str | None, unit: str | None
) -> None:
    assert unit_of(units, ("features", "scada", "properties", *path.split("/")), agg) == unit


async def test_a_percentile_says_which_it_is(edge: Timeseries) -> None:
    status, (answer,) = await get(edge, f"{POWER}?from=now-5m&agg=percentile&percentile=50")
    assert (status, answer["query"]["percentile"], answer["data"][0]["v"]) == (200, 50, 4.5)


async def test_history_is_only_read(edge: Timeseries) -> None:
    status, _ = await get(edge, POWER, method="PUT")
    assert status == 405
