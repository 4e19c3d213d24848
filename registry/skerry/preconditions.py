# ruff: noqa: N818 - errors are rows of a table
"""ETags and the conditions that requests put on them (ditto.md 1.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import ClassVar

from skerry.errors import SkerryError
from skerry.headers import HeaderInvalid
from skerry.signals import Json, Kind
from skerry.values import encode

_TAGS = re.compile(r'\s*(?:\*|(?:W/)?"[^"]*"(?:\s*,\s*(?:W/)?"[^"]*")*)\s*')
_TAG = re.compile(r'(W/)?("[^"]*")')

CONDITIONAL = frozenset({"if-match", "if-none-match"})


class PreconditionFailed(SkerryError):
    """If-Match, If-None-Match or if-equal does not hold."""

    code: ClassVar[str] = "things:precondition.failed"
    status = 412
    message = "The precondition '{header}: {wanted}' does not hold."
    description = "What is there has the ETag {etag}. Read it again and decide anew."


class PolicyPreconditionFailed(PreconditionFailed):
    """The same of a policy."""

    code = "policies:precondition.failed"


class NotModified(SkerryError):
    """The reader has it already."""

    code: ClassVar[str] = "things:precondition.notmodified"
    status = 304
    message = "What is there has the ETag {etag}, as you know."


class PolicyNotModified(NotModified):
    """The same of a policy."""

    code = "policies:precondition.notmodified"


def thing_etag(revision: int) -> str:
    """The tag of a whole thing or policy."""
    return f'"rev:{revision}"'


def value_etag(value: Json) -> str:
    """The tag of a part: the same for the same JSON text, after a restart too."""
    return f'"hash:{blake2b(encode(value), digest_size=8).hexdigest()}"'


def _holds(header: str, text: str, etag: str | None, *, weakly: bool) -> bool:
    """Whether one of the tags in the header is the resource's (None: there is no resource). Raises HeaderInvalid."""
    if not _TAGS.fullmatch(text):
        raise HeaderInvalid(name=header, value=text, problem='it is a list of entity tags ("rev:5", in quotes) or *')
    if etag is None:
        return False
    if text.strip() == "*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in _TAG.findall(text))


def check(headers: Mapping[str, str], etag: str | None, verb: str, kind: Kind = "thing") -> None:
    """Raise unless If-Match and If-None-Match hold for a resource with this ETag (None: there is none).

    PreconditionFailed for writes and If-Match, NotModified for reads; HeaderInvalid for what are no tags.
    """
    for header in ("if-match", "if-none-match"):
        wanted = headers.get(header)
        if wanted is None:
            continue
        if _holds(header, wanted, etag, weakly=header == "if-none-match") == (header == "if-match"):
            continue
        shown = {"etag": etag} if etag is not None else None
        if header == "if-none-match" and verb == "retrieve":
            known = NotModified if kind == "thing" else PolicyNotModified
            raise known(headers=shown, etag=etag)
        row = PreconditionFailed if kind == "thing" else PolicyPreconditionFailed
        raise row(headers=shown, header=header, wanted=wanted, etag=etag or "(none: it does not exist)")
