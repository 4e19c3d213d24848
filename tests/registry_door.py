"""A registry to knock at: commands in short, stores that wait or fail, and what is told."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import pytest

from skerry.errors import SkerryError
from skerry.signals import Command, Event
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore

ANNE = ("nginx:anne",)
BOB = ("nginx:bob",)
T1 = "demo:T1"


class SlowStore(MemoryStore):
    """A memory store whose commits and loads wait for permission, and may be told to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()
        self.loading = asyncio.Event()
        self.loading.set()
        self.failures: list[Exception] = []
        self.appends = 0

    async def append(self, events: Sequence[Event]) -> None:
        self.entered.set()
        await self.open.wait()
        self.appends += 1
        if self.failures:
            raise self.failures.pop(0)
        await super().append(events)

    def close(self) -> None:
        """Let commits wait from now on."""
        self.open.clear()
        self.entered.clear()

    async def load(self, kind, id):  # noqa: A002
        await self.loading.wait()
        return await super().load(kind, id)


@asynccontextmanager
async def serving(store=None, **settings) -> AsyncIterator[Registry]:
    ticks = count(1_000_000)
    async with Registry(store or MemoryStore(), lambda: next(ticks), lambda: "id", **settings) as registry:
        try:
            yield registry
        finally:  # a test that fails while the store is closed ends all the same
            if isinstance(store, SlowStore):
                store.open.set()
                store.loading.set()


def put(value=None, *path: str, thing: str = T1, who=ANNE, **more) -> Command:
    return Command(verb="modify", id=thing, subjects=who, path=path, value={} if value is None else value, **more)


def get(*path: str, thing: str = T1, who=ANNE, **headers: str) -> Command:
    return Command(verb="retrieve", id=thing, subjects=who, path=path, headers=headers)


def merge(value, *path: str, thing: str = T1, who=ANNE, **more) -> Command:
    return Command(verb="merge", id=thing, subjects=who, path=path, value=value, **more)


def delete(*path: str, thing: str = T1, who=ANNE) -> Command:
    return Command(verb="delete", id=thing, subjects=who, path=path)


def put_policy(policy_id: str, entries, who=ANNE) -> Command:
    return Command(verb="modify", kind="policy", id=policy_id, subjects=who, value={"entries": entries})


def entry(subject: str, **resources) -> dict:
    """`thing="/": "RW"` and so on; lower case letters revoke."""
    names = {"R": "READ", "W": "WRITE"}
    return {
        "subjects": {subject: {"type": "test"}},
        "resources": {
            f"{kind}:{path}": {
                "grant": [names[letter] for letter in letters if letter.isupper()],
                "revoke": [names[letter.upper()] for letter in letters if letter.islower()],
            }
            for kind, paths in resources.items()
            for path, letters in paths.items()
        },
    }


OWNER = entry("nginx:anne", thing={"/": "RW"}, policy={"/": "RW"})


def telemetry(observed: int, digest: int, thing: str = T1, **values) -> Command:
    return merge({"properties": values}, "features", "scada", thing=thing, observed=observed, digest=digest)


async def refused(registry: Registry, command: Command) -> tuple[int, str]:
    with pytest.raises(SkerryError) as error:
        await registry.handle(command)
    return error.value.status, error.value.code


async def events(registry: Registry, first: int = 0) -> list[Event]:
    found: list[Event] = []
    while registry.journal.last > (found[-1].number if found else first):
        async for page in registry.journal.follow(found[-1].number if found else first):
            found += page
            break
    return found
