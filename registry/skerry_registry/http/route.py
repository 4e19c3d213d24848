"""One row of the table of HTTP routes."""

from __future__ import annotations

from msgspec import Struct


class Route(Struct, frozen=True, kw_only=True):
    """One method of one path.

    `schema` names what it answers, `body` what it takes, `media` the body's type where it is not the method's usual one,
    `answer_media` the answer's; `stream`: who asks for text/event-stream gets a stream;
    `login`: nobody, user, status, devops.
    """

    method: str
    path: str
    summary: str
    tag: str
    success: tuple[int, ...] = (200,)
    parameters: tuple[str, ...] = ()
    errors: tuple[int, ...] = (401,)
    schema: str | None = None
    body: str | None = None
    body_optional: bool = False
    media: str | None = None
    answer_media: str = "application/json"
    stream: bool = False
    login: str = "user"
