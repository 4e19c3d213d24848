"""How long a caller waits for which acknowledgements, and what he is told of them (ditto.md 1.6)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, NamedTuple

from msgspec import UNSET

from skerry import headers
from skerry.headers import HeaderInvalid
from skerry.signals import Response
from skerry_registry.http.answer import VERSION, Answer, of_json, of_response
from skerry_registry.http.errors import AcknowledgementTimeout, AnswerNotWanted, CommandTimeout

TIMEOUT = 10.0
PATIENCE = 3.0
"""How long a caller who wants no answer is kept for an error (or for room)."""
PERSISTED = "twin-persisted"
SEARCH = "search-persisted"
OURS = {PERSISTED, SEARCH}
LIVE = "live-response"
"""The acknowledgement of the live channel: on the twin's it is not waited for."""
ASKING = ("timeout", "response-required", "requested-acks")


class Wish(NamedTuple):
    """What the caller asked for: seconds to wait, labels (empty: none by name), and whether he wants an answer."""

    timeout: float = TIMEOUT
    labels: tuple[str, ...] = ()
    answer: bool = True


USUAL = Wish()


def wish_of(ditto: dict[str, str], *, query: bool, acknowledged: bool = True) -> Wish:
    """Read the wish from the headers. Raises the errors of headers that make no sense (alone or together).

    Not `acknowledged`: what is asked knows no acknowledgements, the labels are checked and that is all.
    """
    if not any(name in ditto for name in ASKING):
        return USUAL
    timeout = headers.timeout(ditto.get("timeout"), TIMEOUT)
    labels = tuple(label for label in headers.requested_acks(ditto.get("requested-acks")) if label != LIVE)
    if query or not acknowledged:
        labels = ()
    answer = headers.response_required(ditto)
    if query and not answer:
        raise AnswerNotWanted
    if timeout == 0 and (labels or (answer and (query or not acknowledged or "response-required" in ditto))):
        raise HeaderInvalid(
            name="timeout",
            value=ditto.get("timeout", ""),
            problem="a request that waits for an answer or for acknowledgements needs more than 0",
        )
    return Wish(timeout, labels, answer)


async def settle(handling: Awaitable[Response], wish: Wish, location: str) -> Answer:
    """Carry the command out and tell what was asked for. Raises what the command raises, CommandTimeout."""
    if wish.timeout == 0 or not (wish.answer or wish.labels):
        return await _accepted(handling)
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(wish.timeout):
            response = await handling
    except TimeoutError as error:
        raise CommandTimeout(seconds=wish.timeout) from error
    if not wish.labels:
        return of_response(response, location)
    if any(label not in OURS for label in wish.labels):
        # Nobody can give these yet: the caller learns it when his time is up, as with an acknowledging party that is silent.
        await asyncio.sleep(max(0.0, wish.timeout - (loop.time() - began)))
    return _acknowledged(response, wish, location)


async def _accepted(handling: Awaitable[Response]) -> Answer:
    """202, but for an error that shows itself soon (Ditto keeps it back no longer since 3.9)."""
    try:
        async with asyncio.timeout(PATIENCE):
            await handling
    except TimeoutError:
        pass
    return Answer(202)


def _acknowledged(response: Response, wish: Wish, location: str) -> Answer:
    """One acknowledgement answers for itself, several as a map."""
    if len(wish.labels) == 1:
        label = wish.labels[0]
        if label == PERSISTED:
            return of_response(response, location) if wish.answer else Answer(202)
        if label == SEARCH:
            return of_response(Response(status=204, revision=response.revision)) if wish.answer else Answer(202)
        raise AcknowledgementTimeout(label=label, seconds=wish.timeout)
    entries = {label: _entry(label, response, wish, location) for label in wish.labels}
    good = all(entry["status"] < 300 for entry in entries.values())
    if wish.answer:
        return of_json(200 if good else 424, entries, (VERSION,))
    if good:
        return Answer(202)
    return of_json(424, {label: {"status": entry["status"]} for label, entry in entries.items()}, (VERSION,))


def _entry(label: str, response: Response, wish: Wish, location: str) -> dict[str, Any]:
    if label == PERSISTED:
        entry: dict[str, Any] = {"status": response.status}
        if response.value is not UNSET:
            entry["payload"] = response.value
        told = of_response(response, location).headers
        entry["headers"] = {name.decode(): value.decode() for name, value in told if name != b"content-type"}
        return entry
    if label == SEARCH:
        return {"status": 204, "headers": {"version": "2"}}
    error = AcknowledgementTimeout(label=label, seconds=wish.timeout)
    return {"status": error.status, "payload": error.payload(), "headers": {"version": "2"}}
