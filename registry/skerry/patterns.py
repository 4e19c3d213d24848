"""Text patterns filled from JSON objects, as `fn:format` has them: `{reseller}#{#roles}{.}{/roles}` (ditto.md 4.4)."""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec
from msgspec import UNSET

from skerry.signals import Json

Part: TypeAlias = "str | tuple[str] | tuple[str, list[Part]]"
"""Fixed text; a field; or a field with a pattern that is filled from each of its elements."""

DEPTH_LIMIT = 20
_TOKEN = re.compile(r"\\([{}])|\{([#/]?)([^{}]*)\}")


def fill(pattern: str, objects: list[str], limit: int) -> list[str]:
    """The pattern filled from each JSON object (given as text), for every element of an array in it; at most limit + 1 texts.

    What is no object is passed over; a field that is missing is empty.
    """
    parts = _parts(pattern)
    filled: list[str] = []
    for one in objects:
        try:
            value = msgspec.json.decode(one)
        except (msgspec.MsgspecError, RecursionError):
            continue
        if type(value) is dict and len(filled) <= limit:
            filled += _fill(value, parts, limit)
    return filled[: limit + 1] if filled or not objects else [""]


def text(value: Json) -> str:
    """A JSON value as text: a text as it is, anything else as JSON."""
    return value if type(value) is str else msgspec.json.encode(value).decode()


def _parts(pattern: str) -> list[Part]:
    """The parts of a pattern; a section that is not closed reaches to the end."""
    open_: list[tuple[str, list[Part]]] = [("", [])]
    end = 0
    for found in _TOKEN.finditer(pattern):
        parts = open_[-1][1]
        if found.start() > end:
            parts.append(pattern[end : found.start()])
        end = found.end()
        escaped, sign, name = found.groups()
        if escaped:
            parts.append(escaped)
        elif sign == "#" and len(open_) < DEPTH_LIMIT:
            below: list[Part] = []
            parts.append((name, below))
            open_.append((name, below))
        elif sign == "/" and name == open_[-1][0] and len(open_) > 1:
            open_.pop()
        else:
            parts.append((sign + name,))
    open_[-1][1].append(pattern[end:])
    return open_[0][1]


def _fill(value: Json, parts: list[Part], limit: int) -> list[str]:
    """Every text that the parts make of one value."""
    texts = [""]
    for part in parts:
        if isinstance(part, str):
            texts = [start + part for start in texts]
            continue
        ends = [""]
        found = _field(value, part[0])
        if found is not None and found is not UNSET:
            members = found if type(found) is list else [found]
            if len(part) == 1:
                ends = [text(member) for member in members] or [""]
            else:
                ends = [filled for member in members for filled in _fill(member, part[1], limit)] or [""]
        texts = [start + end for start in texts for end in ends[: limit + 1]][: limit + 1]
    return texts


def _field(value: Json, name: str) -> Json:
    """What a field names in a value; `.` is the value itself."""
    if name == ".":
        return UNSET if type(value) is dict else value
    for segment in name.removeprefix("/").split("/"):
        if type(value) is not dict:
            return UNSET
        value = value.get(segment.replace("~1", "/").replace("~0", "~"), UNSET)
    return value
