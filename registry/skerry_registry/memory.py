"""What is in memory of the store's entities, and how the rest of them gets there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from skerry.values import encode
from skerry_registry.runs import Lacking, Run
from skerry_registry.texts import TextCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from skerry.signals import Held, Kind
    from skerry_registry.heads import Entry, Heads, Key
    from skerry_registry.ports import Store
    from skerry_registry.snapshots import Snapshots

T = TypeVar("T")


class Memory:
    """The newest states of things and policies, as far as they are here; for whoever asks the registry's own questions.

    Nothing is checked against rights.
    """

    def __init__(self, store: Store, heads: Heads, snapshots: Snapshots, *, text_bytes: int) -> None:
        """`heads` are what is here; `snapshots` know what the store lacks; `text_bytes`: of documents that are kept as they are."""
        self._store = store
        self._texts = TextCache(text_bytes)
        self._heads = heads
        self._snapshots = snapshots
        self._loading: dict[Key, asyncio.Task[None]] = {}

    @property
    def loads(self) -> list[asyncio.Task[None]]:
        """What is being fetched from the store at this moment."""
        return list(self._loading.values())

    def hot(self) -> dict[str, int]:
        """How many things of each namespace are here."""
        return self._heads.namespaces()

    def held(self, kind: Kind, id: str) -> Held:  # noqa: A002 - the model's word
        """What everybody may see of an entity. Raises Lacking."""
        entry = self._heads.find((kind, id))
        if entry is None:
            raise Lacking([(kind, id)])
        return entry.held

    def unsaved(self) -> list[Held]:
        """The newest states of all entities of which `Store.scan` may show older ones, in the order to take them in."""
        return self._snapshots.unsaved()

    async def bring(self, kind: Kind, ids: Iterable[str]) -> None:
        """Load entities, as far as the bound of the cache leaves them here."""
        await self.fetch([(kind, id_) for id_ in ids])

    def text(self, id_: str) -> bytes | None:
        """A thing's whole document, as JSON; None: there is none, or it takes waiting (`found`) to know."""
        entry = self._heads.find(("thing", id_))
        if entry is None:
            return self._texts.find(id_, None)
        held = entry.held
        if held.document is None:
            return None
        text = self._texts.find(id_, held.revision)
        if text is None:
            text = encode(held.document)
            self._texts.put(id_, held.revision, text)
        return text

    async def texts(self, ids: Iterable[str]) -> dict[str, bytes]:
        """The whole documents, as JSON, of existing things among these that are not here, and need not be brought here."""
        cold = self._cold(ids)
        return await self._store.documents(cold) if cold else {}

    async def found(self, ids: Iterable[str]) -> dict[str, bytes]:
        """The whole documents, as JSON, of existing things among these; what had to be read is kept, to be found again.

        Those that are being brought here meanwhile are left out.
        """
        texts: dict[str, bytes] = {}
        away: list[str] = []
        for id_ in ids:
            text = self.text(id_)
            if text is None:
                away.append(id_)
            else:
                texts[id_] = text
        cold = self._cold(away)
        if cold:
            texts |= await self._read(cold)
        return texts

    def _cold(self, ids: Iterable[str]) -> list[str]:
        """Those that are not here decoded, nor on their way."""
        return [id_ for id_ in ids if self._heads.find(("thing", id_)) is None and ("thing", id_) not in self._loading]

    async def _read(self, ids: list[str]) -> dict[str, bytes]:
        """Documents from the store, and keep them as they are."""
        reading = self._texts.begin(ids)
        found: dict[str, bytes] = {}
        try:
            found = await self._store.documents(ids)
        finally:
            self._texts.keep(reading, ids, found)
        return found

    async def ids(self, kind: Kind, after: str, limit: int) -> list[str]:
        """Ids of entities that exist, > `after`, sorted, at most `limit`; whoever may see them."""
        return await self._store.ids(kind, after, limit)

    async def known(self, ask: Callable[[], T]) -> T:
        """What a question comes to that raises Lacking (`held`, `Rights.permits` ...), entities loaded as it needs them."""
        try:
            return ask()
        except Lacking as lacking:
            keys = lacking.keys
        run = Run(())
        try:
            while True:
                await self.fetch(keys, run)
                try:
                    return ask()
                except Lacking as lacking:
                    keys = lacking.keys
        finally:
            for entry in run.pinned:
                entry.pins -= 1

    async def fetch(self, keys: Iterable[Key], run: Run | None = None) -> list[Entry]:
        """The entries, from here or the store, in order; a run has them pinned until it has decided."""
        keys = list(keys)
        loop = asyncio.get_running_loop()
        for key in keys:
            if key not in self._loading and self._heads.find(key) is None:
                self._loading[key] = loop.create_task(self._load(key))
        entries: list[Entry] = []
        for key in keys:
            entry = self._heads.find(key)
            while entry is None:
                load = self._loading.get(key)
                if load is None:
                    load = self._loading[key] = loop.create_task(self._load(key))
                await asyncio.shield(load)
                entry = self._heads.find(key)
            entries.append(entry)
            if run is not None:
                entry.pins += 1
                run.pinned.append(entry)
        return entries

    async def _load(self, key: Key) -> None:
        """Bring one entity here."""
        try:
            held = await self._store.load(*key)
            if key[0] == "thing":
                self._texts.forget(key[1])
            self._heads.put(held)
        finally:
            del self._loading[key]
