"""The base of every error that a caller may see; a subclass is a row that stands next to the code that raises it.

SkerryError
 +-- (rows of the model: ids, pointer, things, preconditions, ...)
 +-- (rows of the service: auth, timeouts, stores)
"""

from __future__ import annotations

from typing import Any, ClassVar

LONGEST = 2_000
"""Characters of a message or description."""


class SkerryError(Exception):
    """An error with a code and a status in Ditto's table (ditto.md 1.9).

    Keyword arguments fill the templates `message` and `description`; those named in `extras` also stand in the payload
    (`why`: what a policy's refusal rests on).
    `description=` replaces the class's own as it is, since callers' words may stand in it. `headers` travel with the answer
    (an ETag with a 412, say). However long the facts are, message and description stay short.
    """

    code: ClassVar[str] = "internalerror"
    status: ClassVar[int] = 500
    message: ClassVar[str] = "The server failed to answer."
    description: ClassVar[str | None] = None
    extras: ClassVar[tuple[str, ...]] = ("why",)

    def __init__(self, *, headers: dict[str, str] | None = None, **facts: Any) -> None:
        """Fill the templates with `facts`."""
        self.facts = facts
        self.headers = headers or {}
        super().__init__(self.text)

    @property
    def text(self) -> str:
        """The message, filled in."""
        return _brief(self.message.format_map(_Facts(self.facts)))

    def payload(self) -> dict[str, Any]:
        """The error in Ditto's shape: {status, error, message, description?, ...extras}."""
        body: dict[str, Any] = {"status": self.status, "error": self.code, "message": self.text}
        if "description" in self.facts:
            body["description"] = _brief(self.facts["description"])
        elif self.description is not None:
            body["description"] = _brief(self.description.format_map(_Facts(self.facts)))
        for name in self.extras:
            if name in self.facts:
                body[name] = self.facts[name]
        return body


def _brief(text: str) -> str:
    """The text, without its middle where it is longer than anybody reads."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 4 :]}"


class _Facts(dict[str, Any]):
    """Facts for `str.format_map`: a name without a fact stays as it is written."""

    def __missing__(self, key: str) -> str:
        """Keep the placeholder."""
        return "{" + key + "}"


def rows() -> list[type[SkerryError]]:
    """Every error row that the imported modules define, by status and code."""
    found: list[type[SkerryError]] = []
    waiting = [SkerryError]
    while waiting:
        row = waiting.pop()
        found.append(row)
        waiting.extend(row.__subclasses__())
    return sorted(set(found), key=lambda row: (row.status, row.code))
