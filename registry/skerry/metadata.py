# ruff: noqa: N818 - errors are rows of a table
"""Metadata: what is said about values, in a tree that mirrors the thing (ditto.md 5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from skerry import pointer
from skerry.errors import SkerryError
from skerry.signals import Json, Path
from skerry.values import DEPTH_LIMIT, check, check_key

HEADERS = ("put-metadata", "get-metadata", "delete-metadata")
EFFORT_LIMIT = 50_000
"""Keys of a header times the places that each of them has to look at."""


class MetadataConflict(SkerryError):
    """Two wishes at once."""

    code = "things:metadata.headersconflict"
    status = 400
    message = "The headers {names} cannot stand in one command."
    description = "Send one of put-metadata, get-metadata and delete-metadata at a time."


class MetadataNotModifiable(SkerryError):
    """Metadata that the command has no place for."""

    code = "things:metadata.notmodifiable"
    status = 400
    message = "The metadata key '{key}' cannot be written."
    description = (
        "A key reads */name, attributes/*/name, features/*/properties/*/name or /features/<id>/properties/<name>/name."
    )


class MetadataTooWide(SkerryError):
    """Keys that reach over too much."""

    code = "things:metadata.toowide"
    status = 400
    message = "The metadata header's {keys} keys would have to look at {places} places each."
    description = "Name the places without asterisks, or fewer of them at a time."


class Entry(Struct, frozen=True):
    """One member of the put-metadata header."""

    key: str
    value: Json


def check_alone(headers: Mapping[str, str]) -> None:
    """Raise MetadataConflict when more than one metadata header is there."""
    named = [name for name in HEADERS if name in headers]
    if len(named) > 1:
        raise MetadataConflict(names=" and ".join(named))


def leaves(value: Json, path: Path = ()) -> list[Path]:
    """The paths of everything in a value that is no object (nulls apart: in a patch they delete)."""
    if type(value) is not dict:
        return [] if value is None else [path]
    return [leaf for key, member in value.items() for leaf in leaves(member, (*path, key))]


def put(tree: Json | None, text: str, path: Path, value: Json) -> Json | None:
    """The tree with what a put-metadata header says of a value written at `path`; a header that is no JSON is passed over."""
    try:
        entries = msgspec.json.decode(text, type=list[Entry])
    except msgspec.MsgspecError:
        return tree
    written = leaves(value, path)
    _check_effort(len(entries), len(written))
    own = _own(tree) if type(tree) is dict else {}
    for entry in entries:
        check(entry.value)
        for place in _places(entry.key, path, written):
            _set(own, place, entry.value)
    return own if entries else tree


def delete(tree: Json | None, text: str, path: Path) -> Json | None:
    """The tree without the keys that a delete-metadata header names (a comma list)."""
    if type(tree) is not dict:
        return tree
    own = _own(tree)
    for key in _affordable(text, tree):
        for place in _found(own, _pattern(key, path)):
            inner = pointer.get(own, place[:-1])
            if place and type(inner) is dict:
                inner.pop(place[-1], None)
    return prune(own)


def get(tree: Json | None, text: str, path: Path) -> Json:
    """What a get-metadata header (a comma list of keys) asks for, in a tree of its own."""
    shown: dict[str, Any] = {}
    for key in _affordable(text, tree):
        for place in _found(tree, _pattern(key, path)):
            if not place:
                return tree
            _set(shown, place, pointer.get(tree, place))
    return shown


def changed(before: Json, after: Json, path: Path = ()) -> list[Path]:
    """The places at which two trees differ."""
    if before is after:
        return []
    if type(before) is not dict or type(after) is not dict:
        return [path] if type(before) is not type(after) or before != after else []
    return [
        place
        for key in {**before, **after}
        for place in changed(before.get(key, UNSET), after.get(key, UNSET), (*path, key))
    ]


def _own(tree: dict[str, Any]) -> dict[str, Any]:
    """A copy whose objects are nobody else's."""
    return {key: _own(member) if type(member) is dict else member for key, member in tree.items()}


def _set(own: dict[str, Any], place: Path, value: Json) -> None:
    """Put a value into a tree that is nobody else's, in place."""
    for segment in place[:-1]:
        below = own.get(segment)
        if type(below) is not dict:
            below = own[segment] = {}
        own = below
    own[place[-1]] = _own(value) if type(value) is dict else value


def _affordable(text: str, tree: Json | None) -> list[str]:
    """The keys in a header. Raises MetadataTooWide when looking for them in the tree would take too long."""
    keys = list(dict.fromkeys(_keys(text)))
    wide = sum("*" in key for key in keys)
    if wide and type(tree) is dict:
        _check_effort(wide, _size(tree))
    return keys


def _size(tree: dict[str, Any]) -> int:
    """How many members it has, at any depth."""
    return len(tree) + sum(_size(member) for member in tree.values() if type(member) is dict)


def _check_effort(keys: int, places: int) -> None:
    if keys * places > EFFORT_LIMIT:
        raise MetadataTooWide(keys=keys, places=places)


def follow(tree: Json, before: Json, after: Json) -> Json | UnsetType:
    """The tree without what is said of values that were there before and are gone after; UNSET when nothing is left."""
    if type(tree) is not dict or type(before) is not dict:
        return tree
    if before is after:
        return tree
    new = after if type(after) is dict else {}
    kept: dict[str, Any] = {}
    for key, member in tree.items():
        if key in before:
            if key not in new:
                continue
            member = follow(member, before[key], new[key])  # noqa: PLW2901 - the member as it is now
            if member is UNSET:
                continue
        kept[key] = member
    return kept or UNSET


def visible(tree: Json | None, document: Json, shown: Json) -> Json | None:
    """The tree without what is said of values that are in the document and are not shown to the reader."""
    if document is shown or tree is None:
        return tree
    kept = follow(tree, document, shown)
    return None if kept is UNSET else kept


def prune(tree: Json) -> Json | None:
    """The tree without empty objects; None when nothing is left."""
    if type(tree) is not dict:
        return tree
    kept = {key: pruned for key, member in tree.items() if (pruned := prune(member)) is not None or member is None}
    return kept or None


def _keys(text: str) -> list[str]:
    return [key.strip().strip('"') for key in text.strip().strip("[]").split(",") if key.strip()]


def _pattern(key: str, path: Path) -> Path:
    """The place that a key names: absolute with a slash in front, else within what the command is about."""
    if key.startswith("/"):
        return pointer.parse(key)
    segments = pointer.parse(key)
    if segments[:1] == ("*",) or not _is_top(segments):
        return (*path, *segments)
    return segments


def _is_top(segments: Path) -> bool:
    return segments[:1] in {("attributes",), ("features",), ("definition",), ("policyId",), ("thingId",)}


def _places(key: str, path: Path, written: list[Path]) -> list[Path]:
    """Where in the tree a put-metadata key says to write, given the leaves that the command writes."""
    segments = pointer.parse(key)
    if not segments or len(segments) + len(path) > DEPTH_LIMIT or (len(segments) < 2 and not path):
        raise MetadataNotModifiable(key=key[:100])
    for segment in segments:
        check_key(segment)
    if "*" not in segments:
        return [segments if key.startswith("/") or _is_top(segments) else (*path, *segments)]
    name = segments[-1]
    if segments[:-1] == ("*",):
        return [(*leaf, name) for leaf in written]
    pattern = segments[:-1]
    return [(*leaf, name) for leaf in written if _covers(pattern, leaf)]


def _covers(pattern: Path, leaf: Path) -> bool:
    """Whether a leaf is at or below a pattern; its last `*` takes in every leaf below."""
    if len(leaf) < len(pattern):
        return False
    if len(leaf) > len(pattern) and pattern[-1] != "*":
        return False
    return all(part in {"*", segment} for part, segment in zip(pattern, leaf, strict=False))


def _found(tree: Json, pattern: Path, at: Path = ()) -> list[Path]:
    """The places in the tree that a pattern names; a `*` right before the last segment reaches any depth."""
    if not pattern:
        return [at]
    if type(tree) is not dict:
        return []
    head, rest = pattern[0], pattern[1:]
    if head != "*":
        return _found(tree[head], rest, (*at, head)) if head in tree else []
    found = [place for key, member in tree.items() for place in _found(member, rest, (*at, key))]
    if len(rest) == 1:
        found += [
            place
            for key, member in tree.items()
            if type(member) is dict
            for place in _found(member, pattern, (*at, key))
        ]
    return sorted(set(found))
