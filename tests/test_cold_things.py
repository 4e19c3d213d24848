"""Things that are found by a search and taken as they lie on the disk: the same as if they had been read one by one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from skerry.signals import Command, Kind, Verb
from skerry_registry.http.search import retrieved
from skerry_registry.registry import Registry
from skerry_registry.search.search import Search
from skerry_registry.stores.sqlite import SqliteStore
from skerry_registry.texts import APIECE, TextCache

DITTO = ("nginx:ditto",)
EVE = ("nginx:eve",)
ODD = {
    "lines": "a\nb\r\n\u2028\x00'\"\\",
    "number": 1.0,
    "tiny": 5e-324,
    "big": 9007199254740993,
    "none": None,
    "list": [1, [], {}],
    "ж": "ß",
}
IDS = [f"demo:T{number}" for number in range(12)]


def rows(found: list[Raw]) -> list[Any]:
    return [msgspec.json.decode(bytes(text)) for text in found]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Registry, Search]]:
    """The things of a folder, none of them in memory yet."""
    times, ids = itertools.count(1_000_000, 1_000), map(str, itertools.count())
    store = SqliteStore(folder)
    async with Registry(store, lambda: next(times), lambda: next(ids)) as registry, Search(registry, store) as search:
        yield registry, search


async def change(
    registry: Registry, verb: Verb, id_: str, path: tuple[str, ...] = (), value: Any = None, kind: Kind = "thing"
) -> None:
    await registry.handle(Command(verb=verb, id=id_, kind=kind, subjects=DITTO, path=path, value=value))


async def fill(folder: Path) -> None:
    """Things of DITTO; of one of them EVE may read a part."""
    resources = {"thing:/attributes/n": {"grant": ["READ"], "revoke": []}}
    entry = {"subjects": {EVE[0]: {"type": "t"}}, "resources": resources}
    async with opened(folder) as (registry, _):
        for number, id_ in enumerate(IDS):
            await change(registry, "modify", id_, value={"attributes": {"n": number, **ODD}})
        await change(registry, "modify", IDS[3], ("entries", "EVE"), entry, "policy")


async def test_things_from_the_disk_are_what_a_read_would_show(tmp_path: Path):
    await fill(tmp_path)
    async with opened(tmp_path) as (registry, search):
        assert (await search.find(DITTO)).ids == sorted(IDS)
        whole = search.sees_all(DITTO)
        assert all(map(whole, IDS))
        assert len(await registry.memory.texts(IDS)) == len(IDS)
        shown = rows(await retrieved(registry, IDS, DITTO, None, "c", whole))
        assert len(await registry.memory.texts(IDS)) == len(IDS)
        assert shown == rows(await retrieved(registry, IDS, DITTO, None, "c"))
        assert await registry.memory.texts(IDS) == {}
        assert [list(thing) for thing in shown] == [["thingId", "policyId", "attributes"]] * len(IDS)
        assert repr(shown[5]["attributes"]) == repr({"n": 5, **ODD})


async def test_who_may_read_a_part_gets_nothing_as_it_lies_on_the_disk(tmp_path: Path):
    await fill(tmp_path)
    async with opened(tmp_path) as (registry, search):
        assert (await search.find(EVE)).ids == [IDS[3]]
        assert not any(map(search.sees_all(EVE), IDS))
        assert rows(await retrieved(registry, IDS, EVE, None, "c", search.sees_all(EVE))) == [
            {"thingId": IDS[3], "attributes": {"n": 3}}
        ]
        assert (await search.find(DITTO)).ids == sorted(IDS)
        before = search.sees_all(DITTO)
        assert before(IDS[2])
        hidden = {"grant": [], "revoke": ["READ"]}
        path = ("entries", "DEFAULT", "resources", "thing:/attributes/lines")
        await change(registry, "modify", IDS[2], path, hidden, "policy")
        assert not before(IDS[2])
        await search.find(DITTO)
        assert [id_ for id_ in IDS if not search.sees_all(DITTO)(id_)] == [IDS[2]]
        shown = rows(await retrieved(registry, IDS[2:4], DITTO, None, "c", search.sees_all(DITTO)))
        assert ["lines" in thing["attributes"] for thing in shown] == [False, True]


async def test_what_has_changed_since_is_read_from_memory(tmp_path: Path):
    await fill(tmp_path)
    async with opened(tmp_path) as (registry, search):
        await search.find(DITTO)
        await change(registry, "modify", IDS[0], ("attributes", "n"), 99)
        await change(registry, "delete", IDS[1])
        assert (await registry.memory.texts(IDS)).keys() == {*IDS[2:]}
        shown = rows(await retrieved(registry, IDS, DITTO, None, "c", search.sees_all(DITTO)))
        assert [thing["attributes"]["n"] for thing in shown] == [99, *range(2, 12)]
    async with opened(tmp_path) as (registry, search):
        assert (await search.find(DITTO)).ids == sorted({*IDS} - {IDS[1]})
        assert (await registry.memory.texts(IDS)).keys() == {*IDS} - {IDS[1]}


class Counting(SqliteStore):
    """Counts the things whose documents are read; `hold` lets them wait."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.read: list[str] = []
        self.asked, self.hold = asyncio.Event(), asyncio.Event()
        self.hold.set()

    async def documents(self, ids: Sequence[str]) -> dict[str, bytes]:
        self.read += ids
        self.asked.set()
        found = await super().documents(ids)
        await self.hold.wait()
        return found


@asynccontextmanager
async def counted(folder: Path, **settings: int) -> AsyncIterator[tuple[Registry, Counting]]:
    times, ids = itertools.count(1_000_000, 1_000), map(str, itertools.count())
    store = Counting(folder)
    async with Registry(store, lambda: next(times), lambda: next(ids), **settings) as registry:  # type: ignore[arg-type]
        yield registry, store


def number_in(text: bytes | None) -> int:
    assert text is not None
    return int(msgspec.json.decode(text)["attributes"]["n"])


async def test_what_is_kept_is_read_once_until_it_is_decoded(tmp_path: Path):
    await fill(tmp_path)
    async with counted(tmp_path) as (registry, store):
        memory = registry.memory
        assert memory.text(IDS[1]) is None
        first = await memory.found(IDS[:4])
        assert await memory.found(IDS[:5]) == {**first, IDS[4]: memory.text(IDS[4])}
        assert store.read == [*IDS[:4], IDS[4]]
        assert memory.text(IDS[1]) == first[IDS[1]]
        await change(registry, "modify", IDS[1], ("attributes", "n"), 77)
        assert number_in(memory.text(IDS[1])) == 77
        assert await memory.found(IDS[:4]) == {**first, IDS[1]: memory.text(IDS[1])}
        await change(registry, "delete", IDS[2])
        assert memory.text(IDS[2]) is None
        assert store.read == [*IDS[:4], IDS[4]]


async def test_what_changed_while_it_was_read_is_not_kept(tmp_path: Path):
    await fill(tmp_path)
    async with counted(tmp_path, cache_things=2, snapshot_events=1) as (registry, store):
        memory = registry.memory
        store.hold.clear()
        reading = asyncio.create_task(memory.found(IDS[:2]))
        await store.asked.wait()
        await change(registry, "modify", IDS[0], ("attributes", "n"), 77)
        while memory.text(IDS[0]) is not None:  # until it is no longer decoded
            for id_ in IDS[4:]:
                await memory.bring("thing", [id_])
        store.hold.set()
        await reading
        assert memory.text(IDS[0]) is None
        assert number_in(memory.text(IDS[1])) == 1
        await memory.bring("thing", IDS[:1])
        assert number_in(memory.text(IDS[0])) == 77


async def test_rights_that_went_while_things_were_read_count(tmp_path: Path):
    await fill(tmp_path)
    async with counted(tmp_path) as (registry, store), Search(registry, store) as search:
        await search.find(DITTO)
        store.hold.clear()
        reading = asyncio.create_task(retrieved(registry, IDS[:2], DITTO, None, "c", search.sees_all(DITTO)))
        await store.asked.wait()
        hidden = {"grant": [], "revoke": ["READ"]}
        path = ("entries", "DEFAULT", "resources", "thing:/attributes/lines")
        await change(registry, "modify", IDS[0], path, hidden, "policy")
        await search.find(DITTO)
        store.hold.set()
        assert ["lines" in thing["attributes"] for thing in rows(await reading)] == [False, True]


async def test_texts_are_bounded_the_least_used_go_first():
    cache = TextCache(3 * (100 + APIECE))
    for id_ in "abc":
        cache.keep(cache.begin([id_]), [id_], {id_: bytes(100)})
    assert cache.find("a", None) == bytes(100)
    cache.keep(cache.begin("dx"), "dx", {"d": bytes(100)})
    assert [id_ for id_ in "abcdx" if cache.find(id_, None) is not None] == ["a", "c", "d"]
    cache.keep(cache.begin("a"), "a", {"a": bytes(90)})
    assert (len(cache), cache.find("a", None)) == (3, bytes(90))
    cache.keep(cache.begin("e"), "e", {"e": bytes(2_000)})
    assert len(cache) == 0


async def test_of_two_readings_the_later_one_is_kept():
    cache = TextCache(10_000)
    one, two = cache.begin("a"), cache.begin("a")
    cache.keep(one, "a", {"a": b"one"})
    assert cache.find("a", None) is None
    cache.keep(two, "a", {"a": b"two"})
    assert cache.find("a", None) == b"two"
    three = cache.begin("a")
    cache.forget("a")
    cache.keep(three, "a", {"a": b"three"})
    assert cache.find("a", None) is None


async def test_a_text_is_of_one_revision():
    cache = TextCache(10_000)
    cache.put("a", 1, b"one")
    assert (cache.find("a", 1), cache.find("a", 2), cache.find("a", None)) == (b"one", None, None)
    cache.put("a", 2, b"two")
    assert (cache.find("a", 1), cache.find("a", 2), len(cache)) == (None, b"two", 1)


async def test_what_is_decoded_is_told_as_it_is_after_each_change(tmp_path: Path):
    await fill(tmp_path)
    async with counted(tmp_path, cache_things=2, snapshot_events=1) as (registry, _):
        memory = registry.memory
        for number in range(3):
            await change(registry, "modify", IDS[0], ("attributes", "n"), number)
            assert [number_in(memory.text(IDS[0])) for _ in range(2)] == [number, number]
        while memory.text(IDS[0]) is not None:  # until it is no longer decoded
            for id_ in IDS[4:]:
                await memory.bring("thing", [id_])
        assert {number_in(text) for text in (await memory.found(IDS[:1])).values()} <= {2}
        await memory.bring("thing", IDS[:1])
        assert number_in(memory.text(IDS[0])) == 2
