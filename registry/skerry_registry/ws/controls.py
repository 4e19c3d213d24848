"""Control frames of a session: what it wants to be sent, and a new token (ditto.md 2.2). Plain text, unlike envelopes."""

from __future__ import annotations

import difflib
from typing import Literal, TypeAlias
from urllib.parse import unquote_plus

from msgspec import Struct

from skerry import fields, misspelt
from skerry.fields import Selector
from skerry.headers import HeaderInvalid
from skerry.values import JsonInvalid

Sort: TypeAlias = Literal["EVENTS", "MESSAGES", "LIVE-COMMANDS", "LIVE-EVENTS", "POLICY-ANNOUNCEMENTS", "DESIRED"]
"""What may be sent to a session."""
SORTS: tuple[Sort, ...] = ("EVENTS", "MESSAGES", "LIVE-COMMANDS", "LIVE-EVENTS", "POLICY-ANNOUNCEMENTS", "DESIRED")
TOKEN = "JWT-TOKEN"  # noqa: S105 - a frame's name
LONGEST_NUMBER = 18
PARAMETERS = ("namespaces", "filter", "extraFields", "resume-from", "correlation-id")


class Control(Struct, frozen=True, kw_only=True):
    """A wish to be sent something (`start`), or to be sent it no longer."""

    sort: Sort
    start: bool
    parameters: dict[str, str]

    @property
    def acknowledgement(self) -> str:
        """What tells that it has been followed."""
        return f"{'START' if self.start else 'STOP'}-SEND-{self.sort}:ACK"

    @property
    def namespaces(self) -> frozenset[str]:
        """Only of these; empty for all."""
        return frozenset(name for name in self.parameters.get("namespaces", "").split(",") if name)

    @property
    def extra(self) -> Selector | None:
        """What else of the thing is wanted. Raises FieldSelectorInvalid."""
        text = self.parameters.get("extraFields")
        return fields.parse(text) if text else None

    @property
    def after(self) -> int | None:
        """The journal number after which to resume; None: from now on. Raises HeaderInvalid."""
        text = self.parameters.get("resume-from")
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
            raise HeaderInvalid(
                name="resume-from", value=text, problem="it is the skerry-number of the last event that you have had"
            )
        return int(text)

    def check_names(self) -> None:
        """Raises ParameterMisspelt."""
        misspelt.check_names(self.parameters, PARAMETERS)


class Token(Struct, frozen=True):
    """A token that takes the place of the session's."""

    text: str


_KNOWN = {f"{word}-SEND-{sort}": (sort, word == "START") for sort in SORTS for word in ("START", "STOP")}
_WORDS = (*_KNOWN, TOKEN)
LONGEST_WORD = 40
LITERALS = frozenset({"true", "false", "null"})
"""Words that are JSON, if no envelope."""


def read(text: str) -> Control | Token | None:
    """The control frame in a text; None where it is none. Raises JsonInvalid for what is meant as one."""
    word, _, rest = text.strip().partition("?")
    known = _KNOWN.get(word)
    if known is not None:
        return Control(sort=known[0], start=known[1], parameters=_parameters(rest))
    if word == TOKEN:
        return Token(_parameters(rest).get("jwtToken", ""))
    if not word[:1].isalpha() or word in LITERALS:
        return None
    near = difflib.get_close_matches(word[:LONGEST_WORD].upper(), _WORDS, 1)
    hint = f"did you mean {near[0]}?" if near else "nor is it JSON."
    raise JsonInvalid(
        at="/",
        problem=f"'{word[:LONGEST_WORD]}' is no control frame; {hint}",
        description=f"A frame is an envelope, which is a JSON object, or one of {', '.join(_WORDS)}.",
    )


def _parameters(text: str) -> dict[str, str]:
    """Names and values, as in the query of a URL."""
    pairs = (part.partition("=") for part in text.split("&") if part)
    return {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}
