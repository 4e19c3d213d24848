# ruff: noqa: N818 - errors are rows of a table
"""JSON values: decoding them strictly, and what may stand in a document (ditto.md 1.4)."""

from __future__ import annotations

import re
from functools import lru_cache
from math import isfinite

import msgspec

from skerry.errors import SkerryError
from skerry.signals import Json

DEPTH_LIMIT = 100
"""Levels of nesting that a document may have, counted from its root."""

KEY_LIMIT = 256
"""Characters of a key."""

_BAD_IN_KEY = re.compile(r"[\x00-\x1f\x7f-\xff/]")


class JsonInvalid(SkerryError):
    """A body or value that is no JSON, or JSON that cannot be kept."""

    code = "json.invalid"
    status = 400
    message = "The JSON is not valid at {at}: {problem}"
    description = "Correct the value there and send it again."


class JsonFormatInvalid(SkerryError):
    """A text that has not the form which is asked for: mostly a body that is not there."""

    code = "json.format.invalid"
    status = 400
    message = "{problem}."
    description = "Send a JSON value; a text needs its quotes."


NO_BODY = "The request has no JSON body"


class JsonFieldMissing(SkerryError):
    """A member that must be there."""

    code = "json.field.missing"
    status = 400
    message = "The JSON object lacks the member '{name}' at {at}."
    description = "Add it and send the object again."


class JsonKeyInvalid(SkerryError):
    """A key that no pointer could name (ditto.md 1.4, 9)."""

    code = "json.key.invalid"
    status = 400
    message = "The key {key!r} cannot be used."
    description = (
        "Keys are not empty and carry no slash, no control character and none of the characters U+007F to U+00FF."
    )


def decode(body: bytes | str) -> Json:
    """The value of a JSON text. Raises JsonFormatInvalid for an empty one, JsonInvalid for what is no strict JSON."""
    if not body or body.isspace():
        raise JsonFormatInvalid(problem=NO_BODY)
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise JsonInvalid(at="/", problem=str(error)) from error
    except RecursionError as error:
        raise JsonInvalid(at="/", problem=f"it is nested deeper than {DEPTH_LIMIT} levels") from error


def encode(value: Json) -> bytes:
    """The compact JSON text of a value. Raises JsonInvalid for a text that is no Unicode (a lone surrogate)."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        raise JsonInvalid(at="/", problem="a text holds half of a surrogate pair") from error
    except RecursionError as error:
        raise JsonInvalid(at="/", problem=f"it is nested deeper than {DEPTH_LIMIT} levels") from error


@lru_cache(maxsize=65_536)
def check_key(key: str) -> None:
    """Raise JsonKeyInvalid unless the text may be a key (or a feature id)."""
    if not key or len(key) > KEY_LIMIT or _BAD_IN_KEY.search(key):
        raise JsonKeyInvalid(key=key)


def check(value: Json, depth: int = 0, *, addressable: bool = True) -> None:  # noqa: C901, PLR0912 - one branch per type, on the hot path
    """Raise unless the value may stand `depth` levels deep in a document: finite numbers of 64 bits, good keys, not too deep.

    Objects in arrays are out of reach of pointers (not `addressable`); their keys are free, as Ditto has it.
    """
    kind = type(value)
    if kind is float:
        if not isfinite(value):
            raise JsonInvalid(at="/", problem=f"{value} is not a number that JSON knows")
    elif kind is dict:
        if depth >= DEPTH_LIMIT:
            raise JsonInvalid(at="/", problem=f"it is nested deeper than {DEPTH_LIMIT} levels")
        depth += 1
        for key, member in value.items():
            if addressable:
                check_key(key)
            simple = type(member)
            if not (simple is float and member - member == 0.0) and simple is not str and simple is not bool:
                check(member, depth, addressable=addressable)
    elif kind is list:
        if depth >= DEPTH_LIMIT:
            raise JsonInvalid(at="/", problem=f"it is nested deeper than {DEPTH_LIMIT} levels")
        depth += 1
        for member in value:
            check(member, depth, addressable=False)
    elif kind is int:
        if not -0x8000_0000_0000_0000 <= value <= 0x7FFF_FFFF_FFFF_FFFF:
            raise JsonInvalid(at="/", problem="a whole number needs more than 64 bits")
    elif kind is not str and kind is not bool and value is not None:
        raise JsonInvalid(at="/", problem=f"{kind.__name__} is no JSON type")


def check_depth(value: Json) -> None:
    """Raise JsonInvalid for a value that is nested deeper than a document may be."""
    level = [value]
    for _ in range(DEPTH_LIMIT):
        level = [
            member
            for outer in level
            if isinstance(outer, dict | list)
            for member in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise JsonInvalid(at="/", problem=f"it is nested deeper than {DEPTH_LIMIT} levels")


def name(value: Json) -> str:
    """What JSON calls the type of the value, for messages."""
    if value is None:
        return "null"
    names = {dict: "an object", list: "an array", str: "a text", bool: "a boolean"}
    return names.get(type(value), "a number")


def same(one: Json, other: Json) -> bool:
    """Whether two values are the same JSON, whatever the order of members (1, 1.0 and true are three values)."""
    return msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")
