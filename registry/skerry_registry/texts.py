"""Documents of things as JSON: as they lie in the store, or as they were encoded when they were found."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

APIECE = 250
"""Bytes that each one takes besides its text."""


class TextCache:
    """Bounded, least recently used first.

    A text stands for a revision of a thing that is decoded in memory, or (None) for what the store has of one that is not.
    What is going to be decoded may change and is forgotten here: the store tells it anew later.
    """

    def __init__(self, limit: int) -> None:
        """`limit`: bytes, together with what it takes to find them."""
        self._limit = limit
        self._size = 0
        self._texts: OrderedDict[str, tuple[int | None, bytes]] = OrderedDict()
        self._reading: dict[str, object] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def find(self, id_: str, revision: int | None) -> bytes | None:
        """The document of that revision, if it is here."""
        kept = self._texts.get(id_)
        if kept is None or kept[0] != revision:
            return None
        self._texts.move_to_end(id_)
        return kept[1]

    def put(self, id_: str, revision: int | None, text: bytes) -> None:
        """Keep a document in the place of any other of the thing."""
        self._drop(id_)
        self._texts[id_] = revision, text
        self._size += len(text) + APIECE
        while self._size > self._limit:
            self._drop(next(iter(self._texts)))

    def begin(self, ids: Iterable[str]) -> object:
        """These are being read from the store: answers what `keep` needs to know which of them were not forgotten meanwhile."""
        reading = object()
        self._reading.update(dict.fromkeys(ids, reading))
        return reading

    def keep(self, reading: object, ids: Iterable[str], found: Mapping[str, bytes]) -> None:
        """The reading of these is over (`found`: what it came to)."""
        for id_ in ids:
            if self._reading.get(id_) is not reading:
                continue
            del self._reading[id_]
            text = found.get(id_)
            if text is not None:
                self.put(id_, None, text)

    def forget(self, id_: str) -> None:
        """It is going to be decoded; what is being read of it may be old when it comes."""
        self._reading.pop(id_, None)
        self._drop(id_)

    def _drop(self, id_: str) -> None:
        kept = self._texts.pop(id_, None)
        if kept is not None:
            self._size -= len(kept[1]) + APIECE
