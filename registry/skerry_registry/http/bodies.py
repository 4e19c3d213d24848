"""JSON bodies in: decoded with limits, refused with the place of the fault."""

from __future__ import annotations

import re

import msgspec

from skerry.signals import Json
from skerry.values import DEPTH_LIMIT, NO_BODY, JsonFormatInvalid, JsonInvalid
from skerry_registry.http.errors import MediaTypeUnsupported

JSON_TYPES = ("application/json",)
PATCH_TYPES = ("application/merge-patch+json",)
UNTYPED = ("application/octet-stream", "")
"""Ditto takes a PUT or POST body for JSON where nothing is said of its type."""
POINTER = re.compile(r" - at `([^`]*)`")
BYTE = re.compile(r" ?\(byte (\d+)\)")

_decode = msgspec.json.Decoder().decode


def decode(body: bytes) -> Json:
    """Decode a body. Raises JsonFormatInvalid for an empty one, JsonInvalid with line and column for a broken one."""
    if not body or body.isspace():
        raise JsonFormatInvalid(problem=NO_BODY)
    try:
        return _decode(body)
    except UnicodeDecodeError as error:
        raise JsonInvalid(at=_place(body, body.find(error.object)), problem="it is not UTF-8") from error
    except RecursionError as error:
        raise JsonInvalid(at="/", problem=f"it is nested deeper than {DEPTH_LIMIT} levels") from error
    except msgspec.MsgspecError as error:
        raise _invalid(body, str(error)) from error


def check_media_type(method: str, given: str, *, browser: bool = False) -> None:
    """Refuse a body of the wrong type: PATCH is strict, PUT and POST take JSON and what says nothing.

    A `browser` must say JSON: without a type any site could send a body in the name of whoever has logged in here before.
    """
    media = given.partition(";")[0].strip().lower()
    accepted = PATCH_TYPES if method == "PATCH" else JSON_TYPES
    if media in accepted or (method != "PATCH" and media in UNTYPED and not browser):
        return
    raise unsupported(method, given)


def unsupported(method: str, given: str) -> MediaTypeUnsupported:
    """The error that answers a body of this type, or that there is neither body nor type."""
    accepted = PATCH_TYPES if method == "PATCH" else JSON_TYPES
    return MediaTypeUnsupported(given=given, method=method, accepted=", ".join(accepted))


def _invalid(body: bytes, text: str) -> JsonInvalid:
    """Say where: the decoder counts bytes, people lines and columns."""
    problem = text.removeprefix("JSON is malformed: ")
    if problem == "Input data was truncated":
        return JsonInvalid(at=_place(body, len(body)), problem="it ends too early")
    problem = problem[:1].lower() + problem[1:]
    if (found := POINTER.search(problem)) is not None:
        return JsonInvalid(at=found[1], problem=POINTER.sub("", problem))
    found = BYTE.search(problem)
    return JsonInvalid(at=_place(body, int(found[1]) if found else 0), problem=BYTE.sub("", problem))


def _place(body: bytes, position: int) -> str:
    before = body[: max(position, 0)]
    line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
    return f"line {line}, column {column}"
