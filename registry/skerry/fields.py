# ruff: noqa: N818 - errors are rows of a table
"""Field selectors: `a,b(c,d/e),features/*/properties/x` (ditto.md 1.4)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, TypeAlias

from msgspec import UNSET, UnsetType

from skerry.errors import SkerryError
from skerry.signals import Json

Selector: TypeAlias = "dict[str, Selector | None]"
"""What to show of each member; None: all of it. The key `*` stands for every member."""

DEPTH_LIMIT = 100
EFFORT_LIMIT = 50_000
"""Steps that bringing a selector with asterisks into order may take."""
_TOKEN = re.compile(r"[^(),]+|[(),]")


class FieldSelectorInvalid(SkerryError):
    """Not a field selector."""

    code = "json.fieldselector.invalid"
    status = 400
    message = "'{selector}' is not a field selector: {problem}"
    description = "It reads thingId,attributes(a,b/c),features/*/properties/power: pointers separated by commas, parentheses for what is below."


SHORT = 1_000
"""Characters of selectors that are worth remembering."""


def parse(text: str) -> Selector:
    """The selector in a text. Raises FieldSelectorInvalid. Do not change what it returns: it is shared."""
    return _remembered(text) if len(text) <= SHORT else _parse(text)


def _parse(text: str) -> Selector:
    tokens: list[str] = _TOKEN.findall(text)
    if tokens and tokens[-1] == "," and len(tokens) > 1:
        tokens.pop()
    selector: Selector = {}
    if not text.strip():
        return selector
    end = _read(text, tokens, 0, selector, 0)
    if end < len(tokens):
        raise FieldSelectorInvalid(selector=text, problem="a parenthesis is closed that was not opened")
    return _joined(text, [selector], [0]) if "*" in text else selector


def _joined(text: str, ways: list[Selector], spent: list[int]) -> Selector:
    """What several selectors show together, told so that no member is named by a key and by `*` at once.

    A document is then walked once, however the selector is written. `spent` counts the steps that this takes.
    """
    spent[0] += len(ways)
    if spent[0] > EFFORT_LIMIT:
        raise FieldSelectorInvalid(selector=text, problem="its asterisks overlap in too many ways")
    every = [way["*"] for way in ways if "*" in way]
    joined: Selector = {}
    for key in dict.fromkeys(key for way in ways for key in way):
        named = [way[key] for way in ways if key in way]
        below = [part for part in (named if key == "*" else named + every) if part is not None]
        whole = len(below) < len(named) + (0 if key == "*" else len(every))
        joined[key] = None if whole else _joined(text, below, spent)
    return joined


_remembered = lru_cache(maxsize=1_024)(_parse)


def _read(text: str, tokens: list[str], at: int, into: Selector, depth: int) -> int:
    """Read a list of fields from a position on; answers where it ends."""
    while True:
        field = tokens[at].strip() if at < len(tokens) else ""
        if field in {"", "(", ")", ","}:
            raise FieldSelectorInvalid(selector=text, problem="a field has no name")
        segments = field.removeprefix("/").split("/")
        if "" in segments:
            raise FieldSelectorInvalid(selector=text, problem=f"'{field}' has an empty segment")
        path = [segment.replace("~1", "/").replace("~0", "~") for segment in segments]
        if depth + len(path) > DEPTH_LIMIT:
            raise FieldSelectorInvalid(selector=text[:100], problem=f"it is nested deeper than {DEPTH_LIMIT} levels")
        at += 1
        if at < len(tokens) and tokens[at] == "(":
            below: Selector = {}
            at = _read(text, tokens, at + 1, below, depth + len(path))
            if at >= len(tokens) or tokens[at] != ")":
                raise FieldSelectorInvalid(selector=text, problem="a parenthesis is not closed")
            at += 1
            _add(into, path, below)
        else:
            _add(into, path, None)
        if at >= len(tokens) or tokens[at] == ")":
            return at
        if tokens[at] != ",":
            raise FieldSelectorInvalid(selector=text, problem=f"a comma is missing before '{tokens[at]}'")
        at += 1


def _add(selector: Selector, path: list[str], below: Selector | None) -> None:
    """Let the selector show what is `below` the path too."""
    for segment in path[:-1]:
        inner = selector.setdefault(segment, {})
        if inner is None:
            return
        selector = inner
    last = path[-1]
    known = selector.get(last, {})
    if known is None or below is None:
        selector[last] = None
        return
    selector[last] = known
    for key, member in below.items():
        _add(known, [key], member)


def select(document: Json, selector: Selector) -> Json:
    """What the selector shows of an object, in the object's own order; an empty object when that is nothing."""
    shown = _select(document, selector)
    return {} if shown is UNSET else shown


def _select(value: Json, selector: Selector | None) -> Json | UnsetType:
    if selector is None:
        return value
    if type(value) is not dict:
        return UNSET
    every = selector.get("*", UNSET)
    shown: dict[str, Any] = {}
    for key, member in value.items():
        wanted = selector.get(key, every)
        if wanted is not UNSET and (part := _select(member, wanted)) is not UNSET:
            shown[key] = part
    return shown or UNSET
