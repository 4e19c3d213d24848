"""A change of a twin and the acknowledgements that were asked for with it, as every edge carries them out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from msgspec import Struct

from skerry.acks import OURS, PERSISTED, SEARCH, combined, shown
from skerry.protocol import Ack, ack_envelope
from skerry_registry.lateness import CommandTimeout

if TYPE_CHECKING:
    from typing import Any

    from skerry.signals import Command, Response
    from skerry_registry.live.acks import Acks
    from skerry_registry.live.wishes import Wish


class Gathered(Struct, frozen=True):
    """The answer (None: it took too long), and one acknowledgement for every label that was asked for, in that order."""

    response: Response | None
    acks: dict[str, Ack]

    @property
    def plain(self) -> bool:
        """Whether the answer alone says everything: nothing but its own acknowledgement was asked for."""
        return self.response is not None and not self.acks.keys() - {PERSISTED}


async def gather(handling: Awaitable[Response], command: Command, wish: Wish, acks: Acks) -> Gathered:
    """Carry the command out, wait for what was asked for by name. Raises what the command raises, CommandTimeout.

    The command's correlation id must be set, for acknowledgements are told apart by it.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + wish.timeout
    correlation = command.headers.get("correlation-id", "")
    with acks.expecting(command.id, correlation, wish.labels, origin=command.origin) as waiting:
        response: Response | None = None
        try:
            async with asyncio.timeout_at(end):
                response = await handling
        except TimeoutError as error:
            if not wish.labels or set(wish.labels) == {PERSISTED}:
                raise CommandTimeout(seconds=wish.timeout) from error
        else:
            acks.answered(waiting)
        given = await waiting.gather(max(0.0, end - loop.time()), of=wish.timeout)
    if response is not None:
        told = {"correlation-id": correlation, "response-required": "false"}
        given[PERSISTED] = _persisted(command, response, told)
        given[SEARCH] = Ack(id=command.id, label=SEARCH, status=204, headers={"response-required": "false"})
    return Gathered(
        response,
        {label: given.get(label) or waiting.timed_out(label, wish.timeout) for label in wish.labels},
    )


def _persisted(command: Command, response: Response, told: dict[str, str]) -> Ack:
    headers = told | response.headers
    if command.subjects:
        headers["ditto-originator"] = command.subjects[0]
    if response.etag is not None:
        headers["etag"] = response.etag
    if response.revision is not None:
        headers["entity-revision"] = str(response.revision)
    return Ack(id=command.id, label=PERSISTED, status=response.status, value=response.value, headers=headers)


def acks_envelope(id: str, acks: dict[str, Ack], correlation_id: str, *, channel: str = "twin") -> dict[str, Any]:  # noqa: A002 - the model's word
    """All acknowledgements as one envelope of the Ditto Protocol; a single one lends it its headers."""
    headers = {"correlation-id": correlation_id, "response-required": "false", "content-type": "application/json"}
    if len(acks) == 1 and not acks.keys() & OURS:
        headers = next(iter(acks.values())).headers | headers
    if channel == "live":
        headers["channel"] = channel
    return ack_envelope(Ack(id=id, status=combined(acks), value=shown(acks), headers=headers, channel=channel))
