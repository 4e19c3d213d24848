"""The audit trail: complete for changes, counted for refusals, bounded, and read by those whom it concerns."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skerry.errors import SkerryError
from skerry.signals import Command
from skerry.times import DAY
from skerry_adapters.broker import Refusal, Topics
from skerry_adapters.sources import DEFAULT_SOURCES
from skerry_registry.audit import Trail
from skerry_registry.audit import trail as trails
from skerry_registry.audit.book import RECENT, Book, Wish
from skerry_registry.audit.readers import Readers
from skerry_registry.audit.record import Record
from skerry_registry.audit.refusals import Refusals
from skerry_registry.audit.tally import Tally
from skerry_registry.http.audit import AuditQueryInvalid, read
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore

ADA, BOB = ("nginx:ada",), ("nginx:bob", "group:b")
START = 1_700_000_000_000_000


class Kept:
    """A registry and its trail."""

    def __init__(self, registry: Registry, trail: Trail, refusals: Refusals) -> None:
        self.registry = registry
        self.trail = trail
        self.refusals = refusals

    async def do(
        self, verb: Any, id_: str, *path: str, value: Any = None, by: tuple[str, ...] = ADA, **more: Any
    ) -> None:
        more.setdefault("origin", "http 10.0.0.7")
        given = {} if verb in {"retrieve", "delete"} else {"value": {} if value is None else value}
        await self.registry.handle(Command(verb=verb, id=id_, subjects=by, path=path, **given, **more))

    async def told(self, limit: int = 100, **wish: Any) -> list[dict[str, Any]]:
        return [record.document() for record in await self.trail.find(Wish(**wish), limit)]

    async def read_by(self, subjects: tuple[str, ...], limit: int = 100) -> list[str]:
        found, _ = await Readers(self.trail, self.registry).page(Wish(), limit, subjects, everything=False)
        return [f"{record.action} {record.entity}{record.path}" for record in found]


@asynccontextmanager
async def kept(folder: Path, store: MemoryStore | None = None, **bounds: Any) -> AsyncIterator[Kept]:
    time = itertools.count(START, 1_000)
    ids = (f"id-{number}" for number in itertools.count(1))
    async with (
        Registry(store or MemoryStore(), lambda: next(time), lambda: next(ids)) as registry,
        Trail(folder, registry.journal, lambda: next(time), **bounds) as trail,
    ):
        refusals = Refusals(trail, registry, lambda: next(time), Topics(DEFAULT_SOURCES))
        registry.on_refused(refusals.command)
        yield Kept(registry, trail, refusals)


async def test_a_change_says_who_made_it_from_where_and_under_which_policy_revision(tmp_path: Path) -> None:
    async with kept(tmp_path) as house:
        await house.do("modify", "x:T1", value={"attributes": {"a": 1}})
        await house.do("merge", "x:T1", "attributes", value={"a": 2})
        found = await house.told()
        assert [(one["action"], one["kind"], one["path"], one["policy"]) for one in found] == [
            ("merged", "thing", "/attributes", {"policyId": "x:T1", "revision": 1}),
            ("created", "thing", "/", {"policyId": "x:T1", "revision": found[1]["policy"]["revision"]}),
            ("created", "policy", "/", {"policyId": "x:T1", "revision": 0}),
        ]
        assert found[0]["thingId"] == "x:T1"
        assert found[0]["revision"] == 2
        assert {(one["subject"], one["origin"]) for one in found} == {("nginx:ada", "http 10.0.0.7")}


async def test_telemetry_leaves_no_record_and_other_changes_over_mqtt_do(tmp_path: Path) -> None:
    async with kept(tmp_path) as house:
        await house.do("merge", "x:T1", value={"features": {"f": {"properties": {}}}}, origin="mqtt c 10.0.0.8")
        await house.do("merge", "x:T1", "features", "f", value={"properties": {"p": 1}}, origin="mqtt c 10.0.0.8")
        await house.do("modify", "x:T1", "attributes", "a", value=1, origin="mqtt c 10.0.0.8")
        await house.do("modify", "x:T1", "features", "f", "properties", "p", value=2)
        assert [(one["path"], one["origin"]) for one in await house.told(thing="x:T1")] == [
            ("/features/f/properties/p", "http 10.0.0.7"),
            ("/attributes/a", "mqtt c 10.0.0.8"),
            ("/", "mqtt c 10.0.0.8"),
        ]


async def test_what_a_policy_refuses_is_recorded_also_where_the_answer_hides_it(tmp_path: Path) -> None:
    async with kept(tmp_path) as house:
        await house.do("modify", "x:T1")
        for verb, path in (("modify", ("attributes", "a")), ("retrieve", ()), ("retrieve", ())):
            with pytest.raises(SkerryError):
                await house.do(verb, "x:T1", *path, by=BOB)
        with pytest.raises(SkerryError):
            await house.do("retrieve", "x:absent", by=BOB)
        hidden, refused = await house.told(outcome="refused")
        assert (refused["action"], refused["path"], refused["subject"]) == ("modify", "/attributes/a", "nginx:bob")
        assert refused["policy"] == {"policyId": "x:T1", "revision": 1}
        assert (hidden["action"], hidden["error"], hidden["count"]) == ("retrieve", "things:thing.notfound", 2)
        assert hidden["until"] > hidden["time"]


async def test_refusals_of_the_broker_belong_to_the_thing_of_their_topic(tmp_path: Path) -> None:
    async with kept(tmp_path) as house:
        await house.do("modify", "x:T1")
        for action, topic in (
            ("publish", "telemetry/x/T1/scada"),
            ("subscribe", "$share/g/device/x/T1/#"),
            ("subscribe", "#"),
            ("login", ""),
        ):
            house.refusals.broker(Refusal(action, "bob", BOB, "client", "10.0.0.9", topic))  # type: ignore[arg-type]
        found = await house.told(outcome="refused")
        assert [one.get("thingId") for one in found] == [None, None, "x:T1", "x:T1"]
        assert {(one["subject"], one["user"], one["origin"]) for one in found} == {
            ("nginx:bob", "bob", "mqtt client 10.0.0.9")
        }
        assert (await house.read_by(ADA))[:2] == [
            "subscribe x:T1$share/g/device/x/T1/#",
            "publish x:T1telemetry/x/T1/scada",
        ]


async def test_records_are_read_by_those_who_may_write_the_policy(tmp_path: Path) -> None:
    async with kept(tmp_path) as house:
        await house.do("modify", "x:T1")
        await house.do("modify", "y:T1", by=BOB)
        await house.do("delete", "y:T1", by=BOB)
        assert await house.read_by(ADA) == ["created x:T1/", "created x:T1/"]
        assert await house.read_by(BOB) == ["deleted y:T1/", "created y:T1/", "created y:T1/"]
        assert await house.read_by(("nginx:eve",)) == []
        readers = Readers(house.trail, house.registry)
        first, after = await readers.page(Wish(), 2, BOB, everything=False)
        rest, end = await readers.page(Wish(after=after), 2, BOB, everything=False)
        assert [record.action for record in (*first, *rest)] == ["deleted", "created", "created"]
        assert end is None
        everything, more = await readers.page(Wish(), 4, (), everything=True)
        assert len(everything) == 4
        assert [record.entity for record in (await readers.page(Wish(after=more), 4, (), everything=True))[0]] == [
            "x:T1"
        ]


async def test_changes_made_while_the_trail_was_closed_are_in_it_once_it_is_open_again(tmp_path: Path) -> None:
    store = MemoryStore()
    async with kept(tmp_path, store) as house:
        await house.do("modify", "x:T1")
        assert len(await house.told()) == 2
    ids = itertools.count(1)
    async with Registry(store, lambda: START + 10**9, lambda: str(next(ids))) as registry:
        change = Command(
            verb="modify", id="x:T1", subjects=ADA, path=("attributes", "a"), value=1, origin="http 1.2.3.4"
        )
        await registry.handle(change)
    async with kept(tmp_path, store) as house:
        await house.do("modify", "x:T1", "attributes", "a", value=2)
        found = await house.told(thing="x:T1")
        assert [(one["number"], one["origin"]) for one in found] == [
            (4, "http 10.0.0.7"),
            (3, "http 1.2.3.4"),
            (2, "http 10.0.0.7"),
        ]


async def test_more_sorts_of_refusals_than_there_is_room_for_are_counted(tmp_path: Path) -> None:
    async with kept(tmp_path) as house:
        for number in range(trails.KINDS_OF_REFUSALS + 5):
            house.trail.note(Record(time=START, outcome="refused", action="publish", path=f"topic-{number}"))
        assert house.trail.status().lost == 5
        assert len(await house.told(limit=20_000)) == trails.KINDS_OF_REFUSALS


async def test_made_up_names_cannot_fill_the_trail(tmp_path: Path) -> None:
    async with kept(tmp_path) as house:
        for number in range(5_000):
            origin = f"http 10.0.0.{number % 3}"
            record = Record(time=START, outcome="refused", action="login", user=f"user-{number}", origin=origin)
            house.trail.note(record)
        found = await house.told(limit=10_000)
        assert len(found) == trails.STRANGERS + 3
        assert sum(one.get("count", 1) for one in found) == 5_000


async def test_like_refusals_of_a_minute_share_a_record_over_many_writes(tmp_path: Path) -> None:
    def tried(second: int, path: str = "/attributes/a") -> Record:
        return Record(
            time=START + second * 1_000_000,
            outcome="refused",
            action="modify",
            kind="thing",
            entity="x:T1",
            path=path,
            subject="nginx:bob",
            code="things:attribute.notmodifiable",
        )

    async with kept(tmp_path) as house:
        for second in range(90):
            house.trail.note(tried(second))
            await house.told(limit=1)
        house.trail.note(tried(90, "/attributes/b"))
        other, later, first = await house.told()
        assert (other["path"], "count" in other) == ("/attributes/b", False)
        assert (first["count"], first["time"], first["until"]) == (60, "2023-11-14T22:13:20Z", "2023-11-14T22:14:19Z")
        assert (later["count"], later["time"]) == (30, "2023-11-14T22:14:20Z")
    async with kept(tmp_path) as house:
        house.trail.note(tried(91, "/attributes/b"))
        assert len(await house.told()) == 4


def test_a_refusal_whose_record_is_forgotten_begins_a_new_one(tmp_path: Path) -> None:
    book = Book(tmp_path)
    refused = [Record(time=START + number, outcome="refused", action="login", user="eve") for number in range(3)]
    book.add(refused[:2], 0)
    assert [record.count for record in book.find(Wish(), 9)] == [2]
    book.trim(START + 1, 0)
    book.add(refused[2:], 0)
    assert [(record.time, record.count) for record in book.find(Wish(), 9)] == [(START + 2, 1)]
    book.add([Record(time=START + 3 + n, outcome="refused", action="login", user=f"u{n}") for n in range(12_000)], 0)
    assert len(book._recent) == RECENT
    book.close()


def test_refusals_are_forgotten_before_changes_while_they_are_more(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.add([Record(time=START, outcome="changed", action="x", path="y" * 500) for _ in range(300)], 7)
    book.add([Record(time=START, outcome="refused", action="x", path=f"{n}{'y' * 500}") for n in range(2_000)], 7)
    book.trim(0, 500_000)
    assert len(book.find(Wish(outcome="changed"), 3_000)) == 300
    assert len(book.find(Wish(outcome="refused"), 3_000)) < 800
    book.close()


def test_old_records_and_too_many_are_forgotten(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.add([Record(time=START + day * DAY, outcome="changed", action="x", path="y" * 500) for day in range(2_000)], 7)
    assert book.place() == 7
    assert book.trim(START + 100 * DAY, 0) == 100
    assert book.trim(0, 300_000) > 0
    left = book.find(Wish(), 3_000)
    assert left[0].time == START + 1_999 * DAY
    assert 100 < len(left) < 600
    book.close()


async def test_filters_hold_together(tmp_path: Path) -> None:
    async with kept(tmp_path) as house:
        for number, by in ((1, ADA), (2, BOB)):
            await house.do("modify", f"x:T{number}", by=by)
        assert {one["thingId"] for one in await house.told(subject="nginx:bob", thing="x:T2")} == {"x:T2"}
        assert await house.told(subject="nginx:ada", thing="x:T2") == []
        assert len(await house.told(policy="x:T1")) == 2
        middle = (await house.trail.find(Wish(), 10))[1].time
        assert len(await house.told(since=middle)) + len(await house.told(before=middle)) == 4


def test_a_query_that_makes_no_sense_says_why() -> None:
    wish, limit = read({"thing": "x:T1", "from": "now-1d", "limit": "3", "after": "9"}, START)
    assert (wish.thing, wish.since, wish.after, limit) == ("x:T1", START - DAY, 9, 3)
    for query, told in (
        ({"limit": "0"}, "1 to 500"),
        ({"after": "x"}, "a number"),
        ({"from": "yesterday"}, "no time"),
        ({"outcome": "done"}, "changed or refused"),
        ({"things": "x"}, "did you mean thing"),
    ):
        with pytest.raises(AuditQueryInvalid) as caught:
            read(query, START)
        assert told in caught.value.text


async def test_telemetry_is_summed_up_where_that_is_wanted(tmp_path: Path) -> None:
    async with kept(tmp_path) as house:
        await house.do("modify", "x:T1")
        tally = Tally(house.trail, house.registry.clock)
        sent = [Command(verb="merge", id="x:T1", subjects=BOB, origin=f"mqtt c{n % 2} 10.0.0.8") for n in range(5)]
        tally.count(sent)
        tally.write()
        found = [one for one in await house.told(thing="x:T1") if one["action"] == "telemetry"]
        assert sorted((one["origin"], one.get("count", 1), one["subject"]) for one in found) == [
            ("mqtt c0 10.0.0.8", 3, "nginx:bob"),
            ("mqtt c1 10.0.0.8", 2, "nginx:bob"),
        ]
        assert all("until" in one for one in found)
        assert "telemetry x:T1" in await house.read_by(ADA)
