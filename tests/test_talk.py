"""Conversations with devices: bounded, replied to where somebody listens, and over when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any

import msgspec
import pytest

from broker_dialog import until
from skerry.errors import SkerryError
from skerry.signals import Command, Response
from skerry_adapters.downlink import Outbound
from skerry_adapters.inbound import Aside, Inbound
from skerry_adapters.replies import Replies
from skerry_adapters.talk import Talk

MESSAGE = Inbound(topic="ditto/x/T1", payload=b"{}", qos=1, subjects=("nginx:a",), origin="mqtt one 10.0.0.7")


class Wires:
    """A downlink that remembers; `deaf`: nobody listens."""

    def __init__(self) -> None:
        self.sent: list[Outbound] = []
        self.deaf = False

    def hears(self, topic: str) -> bool:
        return bool(topic) and not self.deaf

    def begins(self, name: str) -> bool:
        return not name

    def send(self, message: Outbound) -> None:
        self.sent.append(message)

    async def keep(self, messages: Mapping[str, bytes]) -> None:
        raise AssertionError(messages)

    async def kept(self) -> Iterable[tuple[str, bytes]]:
        return ()

    async def returned(self) -> None:
        await asyncio.Event().wait()


class Slow:
    """Answers when its gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.fails = False

    async def converse(self, aside: Aside, message: Inbound) -> dict[str, Any] | None:
        assert message.origin
        await self.gate.wait()
        if self.fails:
            raise ZeroDivisionError
        return aside.members or None

    async def settle(self, command: Command, handling: Awaitable[Response]) -> dict[str, Any] | None:
        return {"topic": "x/T1/things/twin/acks", "id": command.id, "status": (await handling).status}


def aside(**members: Any) -> Aside:
    return Aside(members={"topic": "x/T1/things/live/messages/ask", **members}, subjects=MESSAGE.subjects)


def told(wires: Wires) -> list[Any]:
    return [msgspec.json.decode(message.payload) for message in wires.sent]


async def test_who_asks_too_much_is_told_so() -> None:
    wires, slow = Wires(), Slow()
    other = msgspec.structs.replace(MESSAGE, origin="mqtt two 10.0.0.8")
    async with Talk(slow, Replies(wires), lambda: "id", most=5, each=3) as talk:
        for message in (*[MESSAGE] * 4, *[other] * 3):
            await talk.hear(message, aside())
        assert [(one["status"], one["value"]["error"]) for one in told(wires)] == [(429, "mqtt.talk.toomany")] * 2
        slow.gate.set()
        await until(lambda: len(wires.sent) == 7, "the replies")
        assert {message.topic for message in wires.sent} == {"device/x/T1/replies"}
        await talk.hear(MESSAGE, aside())
        await until(lambda: len(wires.sent) == 8, "the reply")


async def test_what_fails_is_answered_and_what_hangs_ends_with_the_server() -> None:
    wires, slow = Wires(), Slow()
    async with Talk(slow, Replies(wires), lambda: "id") as talk:
        slow.fails = True
        slow.gate.set()
        await talk.hear(MESSAGE, aside())
        await until(lambda: len(wires.sent) == 1, "the reply")
        assert told(wires)[0]["status"] == 500
        slow.gate.clear()
        await talk.hear(MESSAGE, aside())
    assert len(wires.sent) == 1


async def test_nobody_waits_for_acknowledgements_that_nobody_would_hear_of() -> None:
    wires, slow = Wires(), Slow()
    command = Command(verb="modify", id="x:T1", subjects=MESSAGE.subjects, headers={"requested-acks": '["a:b"]'})
    async with Talk(slow, Replies(wires), lambda: "id") as talk:
        wires.deaf = True
        assert talk.attend(MESSAGE, command) is None
        wires.deaf = False
        assert talk.named(command).headers["correlation-id"] == "id"
        future = talk.attend(MESSAGE, command)
        assert future is not None
        future.set_result(Response(status=204))
        await until(lambda: len(wires.sent) == 1, "the reply")


def test_a_reply_is_only_made_where_it_is_wanted_and_heard() -> None:
    wires = Wires()
    replies = Replies(wires)
    command = Command(verb="modify", id="x:T1", subjects=(), topic="x/T1/things/twin/commands/modify")
    quiet = msgspec.structs.replace(command, headers={"response-required": "false"})
    replies.answer(MESSAGE, quiet, Response(status=204))
    replies.answer(MESSAGE, quiet, SkerryError())
    replies.refuse(msgspec.structs.replace(MESSAGE, payload=b'{"headers":{"response-required":false}}'), SkerryError())
    wires.deaf = True
    replies.answer(MESSAGE, command, Response(status=204))
    assert not wires.sent
    wires.deaf = False
    replies.answer(MESSAGE, command, Response(status=204))
    for payload in (b"\xff", b"[1]", b'{"topic":7,"headers":[]}', b'{"headers":{"correlation-id":"c","x":1}}'):
        replies.refuse(msgspec.structs.replace(MESSAGE, payload=payload), SkerryError())
    assert [one["status"] for one in told(wires)] == [204, 500, 500, 500, 500]
    assert told(wires)[-1]["headers"]["correlation-id"] == "c"


@pytest.mark.parametrize(
    ("topic", "asked", "thing", "place"),
    [
        ("ditto/x/T1", None, None, "device/x/T1/replies"),
        ("ditto/x/T1/more", "device/x/T1/mine", "x:T2", "device/x/T1/mine"),
        ("ditto/x/T1", "device/x/T2/mine", None, "device/x/T1/replies"),
        ("ditto/x/T1", "device/x/T1", None, "device/x/T1/replies"),
        ("ditto/x/T1", "device/x/T1/desired/below", None, "device/x/T1/replies"),
        ("ditto/any", "telemetry/x/T1/scada", None, None),
        ("e", "telemetry/x/T1/scada", None, None),
        ("e", "telemetry/x/T1/scada", "x:T1", "device/x/T1/replies"),
        ("e/tenant/x:T1", "device/x/T1/mine", None, "device/x/T1/mine"),
        ("e", None, None, None),
    ],
)
def test_behind_another_broker_replies_stay_below_the_thing(
    topic: str, asked: str | None, thing: str | None, place: str | None
) -> None:
    message = Inbound(topic=topic, payload=b"", response_topic=asked)
    assert Replies(Wires()).place(message, thing) == place


@pytest.mark.parametrize(
    ("asked", "usable"),
    [("mine/7", True), ("device/y/T9/any", True), ("$SYS/x", False), ("a/#", False), ("command///req/1/go", False)],
)
def test_at_the_own_broker_the_broker_has_seen_to_the_response_topic(asked: str, usable: bool) -> None:
    message = Inbound(topic="ditto/x/T1", payload=b"", subjects=("nginx:a",), response_topic=asked)
    assert Replies(Wires()).place(message, None) == (asked if usable else "device/x/T1/replies")
