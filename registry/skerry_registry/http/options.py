"""The `option` parameter of a search, and its cursors: the place in a search, bound to its filter, order and namespaces."""

from __future__ import annotations

import re
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, NoReturn

import msgspec
from msgspec import Struct

from skerry.errors import SkerryError
from skerry.rql.parse import RqlInvalid, parse
from skerry.rql.predicate import Exists
from skerry_registry.http.errors import SearchOptionInvalid
from skerry_registry.search.order import ABSENT, BOOLEAN, TEXT
from skerry_registry.search.query import After, Sort
from skerry_registry.search.search import needed

SIZE = 25
SIZE_MAX = 200
SORT_MAX = 10
"""Keys of an order."""
CURSOR_MAX = 262_144
"""Bytes of a cursor, unpacked."""
_OPTION = re.compile(r"\s*(\w+)\(([^()]*)\)\s*(?:,|$)")


class Place(Struct, frozen=True, array_like=True):
    """What a cursor holds: the search it belongs to, and where its next page begins."""

    filters: tuple[str, ...]
    sort: str
    namespaces: tuple[str, ...] | None
    keys: tuple[tuple[int, Any], ...]
    id: str


class Option(Struct, frozen=True):
    """The parameter, read. `offset` stands where limit(..) was given; `sort` as it was written."""

    size: int = SIZE
    sort: str | None = None
    place: Place | None = None
    offset: int | None = None


def read_option(text: str) -> Option:
    """Read `size(..),sort(..),cursor(..),limit(..)`. Raises SearchOptionInvalid, RqlInvalid."""
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _OPTION.match(text, position)
        if match is None:
            raise _unreadable(text, position, "this is no list of name(value)")
        position = match.end()
        name, value = match[1], match[2]
        if name not in {"size", "sort", "cursor", "limit"}:
            raise _unreadable(text, match.start(1), f"{name} is no option")
        if name in found:
            _refuse(text, f"{name} is given twice")
        found[name] = value
    if "limit" in found and ("cursor" in found or "size" in found):
        _refuse(text, "limit cannot stand beside cursor or size")
    size = _size(text, found["size"]) if "size" in found else SIZE
    offset: int | None = None
    if "limit" in found:
        offset, size = _limit(text, found["limit"])
    sort = found.get("sort")
    if sort is not None:
        order(sort)
    return Option(size, sort, _place(text, found["cursor"].strip()) if "cursor" in found else None, offset)


def order(text: str) -> tuple[Sort, ...]:
    """The keys in `+a,-b`; a blank stands for a plus, as URLs have it. Raises SearchOptionInvalid, RqlInvalid."""
    keys: list[Sort] = []
    for part in text.split(","):
        if part[:1] not in {"+", "-", " "}:
            raise _unreadable(text, text.index(part), "a sort key begins with + (in a URL: %2B) or -")
        name = part.strip().removeprefix("+").strip()
        descending = name.startswith("-")
        try:
            term = parse(f"exists({name.removeprefix('-')})", 0)
        except SkerryError as error:
            raise SearchOptionInvalid(
                option=f"sort({text})",
                reason=f"'{part.strip()}' names no field of a thing that things could be sorted by",
            ) from error
        assert isinstance(term, Exists)
        keys.append(Sort(term.field, descending))
    if len(keys) > SORT_MAX:
        _refuse(f"sort({text})", f"it has more than {SORT_MAX} keys")
    return tuple(keys)


def cursor_of(place: Place) -> str:
    """The text of a cursor."""
    packed = zlib.compress(msgspec.json.encode(place), 1)
    return urlsafe_b64encode(packed).rstrip(b"=").decode()


def after_of(place: Place) -> After:
    """The place as the search has it."""
    return After(place.keys, place.id)


def _place(text: str, cursor: str) -> Place:
    """What a cursor holds."""
    try:
        packed = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        unpacking = zlib.decompressobj()
        plain = unpacking.decompress(packed, CURSOR_MAX)
        if unpacking.unconsumed_tail or not unpacking.eof:
            _refuse(text, "the cursor is not one of ours")
        place = msgspec.json.decode(plain, type=Place)
    except (ValueError, zlib.error, msgspec.MsgspecError) as error:
        raise SearchOptionInvalid(option=text, reason="the cursor is not one of ours") from error
    sort = needed(order(place.sort)) if place.sort else ()
    if len(place.keys) != len(sort) or not all(_is_key(*key) for key in place.keys):
        _refuse(text, "the cursor is not one of ours")
    return place


def _is_key(kind: int, value: Any) -> bool:
    """Whether a cursor of ours would hold it: a text for a text, a number or nothing for all else."""
    if kind == TEXT:
        return isinstance(value, str)
    return ABSENT <= kind <= BOOLEAN and (value is None or isinstance(value, int | float))


def _size(text: str, value: str) -> int:
    value = value.strip()
    if not (value.isascii() and value.isdecimal()):
        raise _unreadable(text, text.index("size"), "it reads size(number)")
    if not (len(value) < 10 and 1 <= int(value) <= SIZE_MAX):
        _refuse(text, f"a page has 1 to {SIZE_MAX} things")
    return int(value)


def _limit(text: str, value: str) -> tuple[int, int]:
    parts = [part.strip() for part in value.split(",")]
    if len(parts) != 2 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise _unreadable(text, text.index("limit"), "it reads limit(offset,count)")
    offset, count = int(parts[0]), int(parts[1])
    if not 0 <= count <= SIZE_MAX:
        _refuse(text, f"a page has at most {SIZE_MAX} things")
    return offset, count


def _unreadable(text: str, position: int, problem: str) -> RqlInvalid:
    """The error for what is not even written as an option: Ditto gives it the code of its parser."""
    return RqlInvalid(
        position=position + 1, problem=problem, near=text[max(position - 20, 0) : position + 20] or "(nothing)"
    )


def _refuse(text: str, reason: str) -> NoReturn:
    raise SearchOptionInvalid(option=text, reason=reason)
