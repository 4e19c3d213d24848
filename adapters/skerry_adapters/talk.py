# ruff: noqa: N818 - errors are rows of a table
"""Envelopes of devices that are no plain change: handed on, waited for beside the intake, and the reply sent back."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, Self, TypeAlias

from msgspec import structs

from skerry.errors import SkerryError
from skerry.signals import Command, NewId, Response
from skerry_adapters.inbound import Aside, Inbound
from skerry_adapters.replies import Replies

log = logging.getLogger(__name__)

MOST = 2_000
"""Envelopes that are waited for, of all devices together."""
MOST_EACH = 200
"""The same of one device (behind an external broker, which hides the devices: of one topic)."""


Work: TypeAlias = Callable[[], Awaitable["dict[str, Any] | None"]]
"""Does something and comes to a reply."""


class TalkCrowded(SkerryError):
    """Too many of somebody's envelopes wait for their answers."""

    code = "mqtt.talk.toomany"
    status = 429
    message = "{waiting} envelopes of this device, or of all devices, wait for their answers."
    description = (
        "Wait for answers before asking more, give shorter timeouts, or ask for none: response-required false."
    )


class Converse(Protocol):
    """Those who know what envelopes are for."""

    async def converse(self, aside: Aside, message: Inbound) -> dict[str, Any] | None:
        """Carry it out; the reply, None where none is wanted. Never raises a SkerryError."""
        ...

    async def settle(self, command: Command, handling: Awaitable[Response]) -> dict[str, Any] | None:
        """Wait for what becomes of a change, and for the acknowledgements it asks for; the reply likewise."""
        ...


class Talk:
    """Conversations with devices; `async with` ends those that are left over."""

    def __init__(
        self, converse: Converse, replies: Replies, new_id: NewId, *, most: int = MOST, each: int = MOST_EACH
    ) -> None:
        """`new_id`: makes correlation ids; `most`, `each`: how many may be waited for."""
        self.replies = replies
        self._converse = converse
        self._new_id = new_id
        self._tasks: set[asyncio.Task[None]] = set()
        self._each: Counter[str] = Counter()
        self._most, self._most_each = most, each

    async def __aenter__(self) -> Self:
        """Nothing to do."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Nobody is told any more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def hear(self, message: Inbound, aside: Aside) -> None:
        """Carry an envelope out: what is an answer or tells something at once, what asks beside the intake."""
        if aside.asks:
            self._begin(message, lambda: self._converse.converse(aside, message))
        else:
            await self._reply(message, lambda: self._converse.converse(aside, message))

    def named(self, command: Command) -> Command:
        """The command with a correlation id, where its acknowledgements have to be told apart by one."""
        if "correlation-id" in command.headers or not asks_acks(command):
            return command
        return structs.replace(command, headers=command.headers | {"correlation-id": self._new_id()})

    def attend(self, message: Inbound, command: Command) -> asyncio.Future[Response] | None:
        """Wait for the acknowledgements that a change asks for: give the future what becomes of it. None: nobody waits."""
        if not asks_acks(command) or self.replies.place(message, command.id) is None:
            return None
        handling: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        handling.add_done_callback(lambda done: done.cancelled() or done.exception())
        return handling if self._begin(message, lambda: self._converse.settle(command, handling)) else None

    def _begin(self, message: Inbound, work: Work) -> bool:
        key = message.origin if message.subjects else message.topic
        if len(self._tasks) >= self._most or self._each[key] >= self._most_each:
            self.replies.refuse(message, TalkCrowded(waiting=self._each[key]))
            return False
        task = asyncio.get_running_loop().create_task(self._reply(message, work), name="mqtt talk")
        self._tasks.add(task)
        self._each[key] += 1
        task.add_done_callback(self._ended(key))
        return True

    def _ended(self, key: str) -> Callable[[asyncio.Task[None]], None]:
        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._each[key] -= 1
            if not self._each[key]:
                del self._each[key]

        return ended

    async def _reply(self, message: Inbound, work: Work) -> None:
        """The edge's outermost loop: what fails is logged and answered."""
        try:
            envelope = await work()
        except Exception:
            log.exception("mqtt talk failed", extra={"topic": message.topic, "client": message.client})
            self.replies.refuse(message, SkerryError())
            return
        if envelope is not None:
            self.replies.reply(message, envelope)


def asks_acks(command: Command) -> bool:
    """Whether the sender asks for acknowledgements by name."""
    return command.headers.get("requested-acks", "[]").strip() not in {"", "[]"}
