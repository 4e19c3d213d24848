"""Things that are found by a search and taken as they lie on the disk: the same as if they had been read one by one."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
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
