"""What goes back: status, headers, body; and how it is sent when the client is still sending."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
from litestar.types import Receive, Send
from msgspec import UNSET, Struct

from skerry.errors import SkerryError
from skerry.signals import Response

JSON = (b"content-type", b"application/json")
VERSION = (b"version", b"2")
LINGER_BYTES = 32_000_000
LINGER_SECONDS = 10.0
LINGER_SILENCE = 1.0

Header = tuple[bytes, bytes]
encode = msgspec.json.Encoder().encode


class Answer(Struct, frozen=True):
    """One HTTP answer, complete."""

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = ()


def of_json(status: int, value: Any, headers: Iterable[Header] = ()) -> Answer:
    """An answer with a JSON body."""
    return Answer(status, encode(value), (JSON, *headers))


def of_error(error: SkerryError) -> Answer:
    """The error in Ditto's shape; nothing but headers where the status forbids a body (304)."""
    headers = tuple((name.encode(), value.encode()) for name, value in error.headers.items())
    if error.status == 304:
        return Answer(304, b"", (VERSION, *headers))
    return of_json(error.status, error.payload(), (VERSION, *headers))


def of_response(response: Response, location: str | None = None) -> Answer:
    """The registry's response as HTTP; `location` stands only on a 201."""
    headers: list[Header] = [VERSION]
    value = response.value
    body = b""
    if value is not UNSET and response.status != 204:
        body = encode(value)
        headers.append(JSON)
    if response.etag is not None:
        headers.append((b"etag", response.etag.encode()))
    if response.revision is not None:
        headers.append((b"entity-revision", b"%d" % response.revision))
    if location is not None and response.status == 201:
        headers.append((b"location", location.encode()))
    for name, text in response.headers.items():
        headers.append((name.encode(), text.encode()))
    return Answer(response.status, body, tuple(headers))


async def send_answer(answer: Answer, send: Send) -> None:
    """Send it."""
    body = answer.body
    headers = [*answer.headers]
    if answer.status not in {204, 304}:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_early(answer: Answer, receive: Receive, send: Send) -> None:
    """Send it to a client who is still sending: let go of a bounded rest, or a reset would hide the answer from it.

    The last byte waits for that, since the server stops reading once the answer is complete.
    """
    headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body)), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body[:-1], "more_body": True})
    loop = asyncio.get_running_loop()
    seen, end = 0, loop.time() + LINGER_SECONDS
    try:
        while seen < LINGER_BYTES and loop.time() < end:
            async with asyncio.timeout(LINGER_SILENCE):
                message: Any = await receive()
            seen += len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body"):
                break
    except TimeoutError:
        pass
    await send({"type": "http.response.body", "body": answer.body[-1:], "more_body": False})
