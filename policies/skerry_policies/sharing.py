"""Policies say the same things over and over: in memory the equal parts of their documents are one object."""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from skerry.signals import Json

LIMIT = 8_192
"""How many different parts are remembered; then all are forgotten and gathered anew."""

SMALL = 512
"""Bytes of JSON that a shared part has at most."""

_pool: dict[bytes, Json] = {}


def share(document: dict[str, Any]) -> dict[str, Any]:
    """The same document made of shared parts. Documents are never changed in place, so nobody can tell."""
    entries = document.get("entries")
    if not entries:
        return document
    return {**document, "entries": {intern(label): _entry(entry) for label, entry in entries.items()}}


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of shared parts."""
    shared: dict[str, Any] = {}
    for name, member in entry.items():
        if name == "subjects":
            shared[name] = {subject: one_of(facts) for subject, facts in member.items()}
        elif name == "resources":
            shared[name] = _made({intern(key): one_of(rights) for key, rights in member.items()})
        else:
            shared[intern(name)] = one_of(member)
    return shared


def one_of(value: Json) -> Json:
    """The value as it was seen first, where it is small: our own copy, whatever becomes of the sender's."""
    key = msgspec.json.encode(value)
    known = _pool.get(key)
    return known if known is not None else _remember(key, msgspec.json.decode(key), value)


def _made(value: dict[str, Json]) -> Json:
    """The same for an object that was made here, of shared parts."""
    key = msgspec.json.encode(value)
    known = _pool.get(key)
    return known if known is not None else _remember(key, value, value)


def _remember(key: bytes, own: Json, value: Json) -> Json:
    """Our own object from now on, unless it is large."""
    if len(key) > SMALL:
        return value
    if len(_pool) >= LIMIT:
        _pool.clear()
    _pool[key] = own
    return own
