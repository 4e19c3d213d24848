# ruff: noqa: N818 - errors are rows of a table
"""JSON pointers: text and URL forms, and copy-on-write access to documents by path."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from msgspec import UNSET, UnsetType

from skerry.errors import SkerryError
from skerry.signals import Json, Kind, Path
from skerry.values import check_key


class PointerInvalid(SkerryError):
    """Not a JSON pointer."""

    code = "json.pointer.invalid"
    status = 400
    message = "'{pointer}' is not a JSON pointer: {problem}"
    description = "Segments are separated by single slashes: /features/scada/properties/power."


def parse(text: str) -> Path:
    """The path of a pointer's text; '' and '/' are the root. Raises PointerInvalid."""
    if not text or text == "/":
        return ()
    if text[0] == "/":
        text = text[1:]
    segments = text.split("/")
    if "" in segments:
        raise PointerInvalid(pointer=f"/{text}", problem="a segment is empty")
    if "~" in text:
        return tuple(segment.replace("~1", "/").replace("~0", "~") for segment in segments)
    return tuple(segments)


def write(path: Path) -> str:
    """The text of a path; '/' for the root."""
    text = "/".join(path)
    if "~" in text or text.count("/") != max(len(path) - 1, 0):
        text = "/".join(segment.replace("~", "~0").replace("/", "~1") for segment in path)
    return f"/{text}"


def from_url(raw: bytes, kind: Kind = "thing") -> Path:
    """The path that the percent-encoded rest of a URL behind an entity's id names, as Ditto 3.9.6 reads it (ditto.md 9).

    Below attributes and properties an encoded slash separates; a feature id, label or subject is one decoded segment.
    `~0` is decoded, `~1` stays as written. One trailing slash is tolerated (that of `thing:/` is no such). Raises PointerInvalid, JsonKeyInvalid.
    """
    if raw.endswith(b"/") and not (kind == "policy" and raw.endswith(b":/")):
        raw = raw[:-1]
    if not raw:
        return ()
    segments = raw[1:].split(b"/") if raw[:1] == b"/" else raw.split(b"/")
    if kind == "policy":
        return _policy_path(raw, segments)
    fixed = _FIXED.get(segments[0], len(segments))
    head = [_segment(raw, segment) for segment in segments[:fixed]]
    for segment in head:
        if not segment:
            raise PointerInvalid(pointer=_show(raw), problem="a segment is empty")
        check_key(segment)
    rest = [part for segment in segments[fixed:] for part in _segment(raw, segment).split("/")]
    if "" in rest:
        raise PointerInvalid(pointer=_show(raw), problem="a segment is empty")
    for segment in rest:
        check_key(segment)
    return (*head, *rest)


_FIXED: dict[bytes, int] = {b"attributes": 1, b"features": 3}
"""How many segments stand for themselves; what follows is a pointer into free JSON."""


def _segment(raw: bytes, segment: bytes) -> str:
    """One segment, decoded."""
    if b"%" in segment:
        if has_bad_escape(segment):
            raise PointerInvalid(pointer=_show(raw), problem="a '%' is not followed by two hexadecimal digits")
        segment = unquote_to_bytes(segment)
    try:
        return segment.decode().replace("~0", "~")
    except UnicodeDecodeError as error:
        raise PointerInvalid(pointer=_show(raw), problem="it is not UTF-8 once decoded") from error


def has_bad_escape(segment: bytes) -> bool:
    """Whether some '%' lacks its two hexadecimal digits."""
    digits = frozenset(b"0123456789abcdefABCDEF")
    return any(len(part) < 2 or part[0] not in digits or part[1] not in digits for part in segment.split(b"%")[1:])


def _policy_path(raw: bytes, segments: list[bytes]) -> Path:
    """A path below a policy: the resource in /entries/{label}/resources/{type:/path} keeps its slashes."""
    keep = 3 if segments[0] == b"entries" and segments[2:3] in ([b"resources"], [b"subjects"]) else len(segments)
    head = [_segment(raw, segment) for segment in segments[:keep]]
    if "" in head:
        raise PointerInvalid(pointer=_show(raw), problem="a segment is empty")
    rest = b"/".join(segments[keep:])
    return (*head, _segment(raw, rest)) if rest else tuple(head)


def _show(raw: bytes) -> str:
    """The raw text for a message."""
    return raw.decode("ascii", "backslashreplace")


def get(document: Json, path: Path) -> Json | UnsetType:
    """The value at the path, UNSET where there is none; arrays are not entered."""
    for segment in path:
        if type(document) is not dict or segment not in document:
            return UNSET
        document = document[segment]
    return document


def put(document: Json, path: Path, value: Json) -> Json:
    """The document with the value at the path; objects on the way are copied or, where missing, made."""
    if not path:
        return value
    root, inner = opened(document, path)
    inner[path[-1]] = value
    return root


def opened(document: Json, path: Path) -> tuple[dict[str, Json], dict[str, Json]]:
    """A copy of the document, and within it the object that what is at the (non-empty) path is to be put into, a copy too."""
    root: dict[str, Json] = document.copy() if type(document) is dict else {}
    inner = root
    for segment in path[:-1]:
        below = inner.get(segment)
        inner[segment] = below = below.copy() if type(below) is dict else {}
        inner = below
    return root, inner


def remove(document: Json, path: Path) -> Json:
    """The document without what is at the path (the same document when there is nothing)."""
    if not path or get(document, path) is UNSET:
        return document
    root: dict[str, Json] = document.copy()
    inner = root
    for segment in path[:-1]:
        inner[segment] = inner[segment].copy()
        inner = inner[segment]
    del inner[path[-1]]
    return root
