"""The body of a request: its limit is exact."""

from __future__ import annotations

from typing import Any

import pytest

from skerry_registry.http.errors import BodyTooLarge
from skerry_registry.http.request import Request


def request(chunks: list[bytes], **headers: str) -> Request:
    """A request whose body comes in these chunks."""
    messages = [
        {"type": "http.request", "body": chunk, "more_body": place < len(chunks)}
        for place, chunk in enumerate(chunks, 1)
    ]

    async def receive() -> Any:
        return messages.pop(0)

    scope: Any = {
        "method": "PUT",
        "raw_path": b"/",
        "query_string": b"",
        "scheme": "http",
        "client": None,
    }
    made = Request(scope, receive)
    made.read_headers([(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()])
    return made


@pytest.mark.parametrize("headers", [{"content_length": "10"}, {"transfer_encoding": "chunked"}])
@pytest.mark.parametrize("chunks", [[b"0123456789"], [b"01234", b"56789"], [b"0123456789", b""]])
async def test_a_body_of_just_the_limit_is_read(chunks: list[bytes], headers: dict[str, str]) -> None:
    made = request(chunks, **headers)
    room = made.room.left
    assert await made.body(10) == b"0123456789"
    assert made.room.left == room


@pytest.mark.parametrize("headers", [{"content_length": "11"}, {"transfer_encoding": "chunked"}])
@pytest.mark.parametrize("chunks", [[b"0123456789A"], [b"01234", b"56789A"], [b"0123456789", b"A"]])
async def test_one_byte_more_is_refused(chunks: list[bytes], headers: dict[str, str]) -> None:
    made = request(chunks, **headers)
    room = made.room.left
    with pytest.raises(BodyTooLarge):
        await made.body(10)
    assert made.room.left == room
