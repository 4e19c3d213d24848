"""What moves on the live channel: messages, claims, live commands and events, and the answers to them (ditto.md 1.5, 2)."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType, field

from skerry.signals import Json, Path

Sort: TypeAlias = Literal["message", "command", "event"]


class LiveSignal(Struct, frozen=True, kw_only=True):
    """One signal on its way to whoever listens, or back.

    `topic`: its text (`ns/name/things/live/messages/ask`), the same in an answer. `path`: of a message
    ("features", "f", "inbox", "messages", "ask"), a subject with slashes being several segments; of commands and events the part of the
    thing. `value`: as an envelope has it: JSON, text, or for content that is neither base64 text. `status`: of an answer, None in what
    asks. `headers`: lower-case names to text; the correlation id is always there. `raw`: a message's payload as it came over HTTP.
    """

    sort: Sort
    id: str
    topic: str
    path: Path
    value: Json | UnsetType = UNSET
    headers: dict[str, str] = field(default_factory=dict)
    fields: str | None = None
    status: int | None = None
    extra: Json | UnsetType = UNSET
    raw: bytes | None = None
