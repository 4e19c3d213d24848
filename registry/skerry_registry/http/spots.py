"""What the URL of a thing or policy names, and which methods are there; remembered, since clients ask the same again."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from skerry import pointer
from skerry.errors import SkerryError
from skerry.signals import Path
from skerry_registry.http.errors import MethodNotAllowed, RouteNotFound
from skerry_registry.http.request import Request

REMEMBERED = 8_192
SHORT = 512
"""Bytes of paths that are worth remembering."""


class Spot(NamedTuple):
    """What a URL names: the entity (empty: all of them), the path within, the methods there, and the class of route."""

    id: str
    path: Path
    methods: tuple[str, ...]
    route: str


class Spots:
    """The spots of one kind of entity."""

    def __init__(self, read: Callable[[bytes], Spot]) -> None:
        """`read`: what a raw path names; raises SkerryError."""
        self._read = read
        self._known: dict[bytes, Spot] = {}

    def named(self, request: Request) -> Spot:
        """What a request names, whose class of route it is told. Raises MethodNotAllowed, and what `read` raises."""
        raw = request.path
        spot = self._known.get(raw)
        if spot is None:
            spot = self._read(raw)
            if len(raw) <= SHORT:
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[raw] = spot
        request.route = spot.route
        if request.method not in spot.methods:
            allow = ", ".join(spot.methods)
            raise MethodNotAllowed(
                method=request.method, path=raw.decode("latin-1"), allow=allow, headers={"allow": allow}
            )
        return spot


def segments(raw: bytes, prefix: bytes) -> list[bytes]:
    """The segments of a raw path below the prefix, none for the prefix itself; a slash at the end is tolerated. Raises RouteNotFound."""
    rest = raw[len(prefix) :]
    if rest in {b"", b"/"}:
        return []
    parts = rest[1:].split(b"/")
    if parts[-1] == b"" and len(parts) > 1:
        parts.pop()
    if not rest.startswith(b"/") or b"" in parts[:2]:
        raise RouteNotFound(path=raw.decode("latin-1"))
    return parts


def id_in(segment: bytes, invalid: type[SkerryError]) -> str:
    """The text of an id in a segment of a URL. Raises `invalid`, a row with id and problem."""
    if pointer.has_bad_escape(segment):
        raise invalid(id=segment.decode("latin-1"), problem="a '%' is not followed by two hexadecimal digits")
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise invalid(id=segment.decode("latin-1"), problem="it is not UTF-8 once decoded") from error
