# ruff: noqa: N818 - errors are rows of a table
"""Metadata: what is said about values, in a tree that mirrors the thing (ditto.md 5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from skerry import pointer
from skerry.errors import SkerryError
from skerry.headers import HeaderInvalid
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


def inline(tree: Json, headers: Mapping[str, str]) -> Json | None:
    """The metadata that stand in the body of a creation; None where there are none. Raises MetadataNotModifiable, JsonInvalid."""
    if type(tree) is not dict or not tree:
        return None
    if "put-metadata" in headers:
        raise MetadataNotModifiable(
            key="_metadata", description="Send them in the body or in the header put-metadata, not in both."
        )
    check(tree)
    return tree


def delete(tree: Json | None, text: str, path: Path) -> Json | None:
    """The tree without the keys that a delete-metadata header names (a comma list)."""
    if type(tree) is not dict:
        return tree
    own = _own(tree)
    for key in _affordable(text, tree):
        pattern, deep = _pattern("delete-metadata", key, path)
        for place in _found(own, pattern, deep=deep):
            inner = pointer.get(own, place[:-1])
            if place and type(inner) is dict:
                inner.pop(place[-1], None)
    return prune(own)


def get(tree: Json | None, text: str, path: Path) -> Json:
    """What a get-metadata header (a comma list of keys) asks for, in a tree of its own that begins at the path."""
    shown: dict[str, Any] = {}
    for key in _affordable(text, tree):
        pattern, deep = _pattern("get-metadata", key, path)
        for place in _found(tree, pattern, deep=deep):
            if place[: len(path)] != path:
                continue
            if place == path:
                return pointer.get(tree, place)
            _set(shown, place[len(path) :], pointer.get(tree, place))
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


def _pattern(header: str, key: str, path: Path) -> tuple[Path, bool]:
    """The place that a key names, and whether its asterisk means any depth.

    The place is within what the command is about, or begins at the root where the key begins with a part of a thing.
    """
    segments = pointer.parse(key)
    if "*" in segments[:-1]:
        _check_wildcard(header, key, segments, path)
    deep = len(segments) > 1 and segments[0] == "*" and _names_leaves(segments, path)
    return (segments if _is_top(segments) else (*path, *segments)), deep


def _names_leaves(segments: Path, path: Path) -> bool:
    """Whether a key with asterisks can only be `*/name`, in a command about this path, or is that."""
    if not path:
        return segments[0] == "*"
    return path[0] != "features" or len(path) > 2


def _check_wildcard(header: str, key: str, segments: Path, path: Path) -> None:
    """Raise HeaderInvalid unless asterisks may stand there in a key, for a command about this path (ditto.md 5.3)."""
    if _names_leaves(segments, path):
        good = segments[0] == "*" and "*" not in segments[1:]
    else:
        whole = segments if _is_top(segments) else (*path, *segments)
        good = len(whole) > _reach(whole) > 1 and "*" not in whole[_reach(whole) :]
    if not good:
        raise HeaderInvalid(
            name=header, value=key, problem="asterisks stand for every leaf (*/name), attribute, feature or property"
        )


def _reach(whole: Path) -> int:
    """How many segments of a key name a value, the rest naming what is said of it; 0 for a value that no thing has."""
    if whole[0] == "attributes":
        return 2
    if whole[0] != "features" or len(whole) < 3:
        return 0
    return 3 if whole[2] == "definition" else 4 if whole[2] in {"properties", "desiredProperties"} else 0


def _is_top(segments: Path) -> bool:
    return segments[:1] in {("attributes",), ("features",), ("definition",), ("policyId",), ("thingId",)}


def _places(key: str, path: Path, written: list[Path]) -> list[Path]:
    """Where in the tree a put-metadata key says to write, given the leaves that the command writes."""
    segments = pointer.parse(key)
    if not segments or len(segments) + len(path) > DEPTH_LIMIT or (len(segments) < 2 and not path):
        raise MetadataNotModifiable(key=key[:100])
    for segment in segments:
        check_key(segment)
    if "*" not in segments[:-1]:
        return [segments if _is_top(segments) else (*path, *segments)]
    _check_wildcard("put-metadata", key, segments, path)
    if _names_leaves(segments, path):
        return [(*leaf, *segments[1:]) for leaf in written]
    whole = segments if _is_top(segments) else (*path, *segments)
    reach = _reach(whole)
    pattern, name = whole[:reach], whole[reach:]
    values = dict.fromkeys(leaf[:reach] for leaf in written if len(leaf) >= reach)
    return [(*value, *name) for value in values if _covers(pattern, value)]


def _covers(pattern: Path, value: Path) -> bool:
    """Whether a pattern names the place of a value."""
    return all(part in {"*", segment} for part, segment in zip(pattern, value, strict=True))


def _found(tree: Json, pattern: Path, at: Path = (), *, deep: bool = False) -> list[Path]:
    """The places in the tree that a pattern names; where it goes `deep`, its `*` reaches any depth."""
    if not pattern:
        return [at]
    if type(tree) is not dict:
        return []
    head, rest = pattern[0], pattern[1:]
    if head != "*":
        return _found(tree[head], rest, (*at, head), deep=deep) if head in tree else []
    found = [place for key, member in tree.items() for place in _found(member, rest, (*at, key))]
    if deep:
        found += [
            place
            for key, member in tree.items()
            if type(member) is dict
            for place in _found(member, pattern, (*at, key), deep=True)
        ]
    return sorted(set(found))
