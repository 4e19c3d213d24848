"""How long a caller waits for which acknowledgements, and what he is told of them over HTTP (ditto.md 1.6)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from skerry.acks import PERSISTED, combined, shown, statuses
from skerry_registry.http.answer import VERSION, Answer, of_json, of_response
from skerry_registry.lateness import in_time
from skerry_registry.live.gathering import gather

if TYPE_CHECKING:
    from skerry.protocol import Ack
    from skerry.signals import Command, Response
    from skerry_registry.live.acks import Acks
    from skerry_registry.live.wishes import Wish

PATIENCE = 3.0
"""How long a caller who wants no answer is kept for an error (or for room)."""


async def settle(
    handling: Coroutine[Any, Any, Response], command: Command, wish: Wish, location: str, acks: Acks
) -> Answer:
    """Carry the command out and tell what was asked for. Raises what the command raises, CommandTimeout."""
    if wish.timeout == 0 or not (wish.answer or wish.labels):
        return await _accepted(handling)
    if not wish.labels:
        return of_response(await in_time(wish.timeout, handling), location)
    gathered = await gather(handling, command, wish, acks)
    if gathered.plain and gathered.response is not None:
        return of_response(gathered.response, location) if wish.answer else Answer(202)
    return of_acks(gathered.acks, answer=wish.answer, location=location)


def of_acks(acks: dict[str, Ack], *, answer: bool, location: str = "") -> Answer:
    """Acknowledgements as an answer: one speaks for itself, several are a map. Not `answer`: only what failed is told."""
    status = combined(acks)
    if not answer:
        if status < 300:
            return Answer(202)
        return Answer(status, headers=(VERSION,)) if len(acks) == 1 else of_json(status, statuses(acks), (VERSION,))
    if len(acks) == 1:
        return _of_one(next(iter(acks.values())))
    entries = shown(acks)
    if acks.get(PERSISTED) is not None and acks[PERSISTED].status == 201:
        entries[PERSISTED]["headers"]["location"] = location
    return of_json(status, entries, (VERSION,))


def _of_one(ack: Ack) -> Answer:
    headers = tuple(
        (name.encode(), value.encode())
        for name, value in ack.headers.items()
        if name in {"entity-revision", "etag", "ditto-weak-ack"}
    )
    if ack.value is UNSET or ack.status == 204:
        return Answer(ack.status, headers=(VERSION, *headers))
    return of_json(ack.status, ack.value, (VERSION, *headers))


async def _accepted(handling: Awaitable[Response]) -> Answer:
    """202, but for an error that shows itself soon (Ditto keeps it back no longer since 3.9)."""
    try:
        async with asyncio.timeout(PATIENCE):
            await handling
    except TimeoutError:
        pass
    return Answer(202)
