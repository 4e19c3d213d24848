"""Commands for things as signals of the live channel, their answers as responses, and reads that choose their channel themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec import UNSET, structs

from skerry import headers, parts, topics
from skerry.conditions import ConditionInvalid
from skerry.ids import split_id
from skerry.live import LiveSignal
from skerry.signals import Command, Response
from skerry_registry import guarded
from skerry_registry.lateness import CommandTimeout

if TYPE_CHECKING:
    from skerry.signals import Json
    from skerry_registry.live.channel import Live
    from skerry_registry.live.sender import Sender
    from skerry_registry.registry import Registry

CONDITION = "live-channel-condition"
STRATEGY = "live-channel-timeout-strategy"
MATCHED = "live-channel-condition-matched"
_SMART = frozenset({CONDITION, STRATEGY, "channel"})
SHOWN = ("channel", "response-required", "ditto-originator")
"""Headers of an answer that are told on over HTTP."""


def signal_of(command: Command) -> LiveSignal:
    """A command for a thing as it is told on the live channel. Raises what is wrong with its value."""
    namespace, name = split_id(command.id)
    topic = topics.Topic(namespace=namespace, name=name, channel="live", criterion="commands", action=command.verb)
    value: Json = command.value
    if value is not UNSET:
        value = parts.checked(command.id, command.path, value, merging=command.verb == "merge")
        if not command.path and command.verb in {"create", "modify"} and isinstance(value, dict):
            value = {"thingId": command.id, **value}
    asked = {name: text for name, text in command.headers.items() if name not in _SMART and name != "fields"}
    if "condition" in command.headers:
        asked["condition"] = command.headers["condition"]
    return LiveSignal(
        sort="command",
        id=command.id,
        topic=topics.write(topic),
        path=command.path,
        value=value,
        headers=asked,
        fields=command.headers.get("fields"),
    )


def response_of(answer: LiveSignal) -> Response:
    """The answer to a command as a response."""
    told = {name: answer.headers[name] for name in SHOWN if name in answer.headers}
    return Response(status=answer.status or 200, value=answer.value, headers=told)


def is_smart(command: Command) -> bool:
    """Whether a read chooses its channel by the state of the twin, or may fall back to it."""
    asked = command.headers
    return command.verb == "retrieve" and (CONDITION in asked or (STRATEGY in asked and headers.is_live(asked)))


async def retrieve(registry: Registry, live: Live, command: Command, sender: Sender, *, seconds: float) -> Response:
    """Read from the device if the twin satisfies the condition for that, else from the twin (ditto.md 2.2).

    The response says in its headers which channel it comes from, and whether the condition held. Raises what reading the twin
    raises, ConditionInvalid, CommandTimeout.
    """
    asked = {name: text for name, text in command.headers.items() if name not in _SMART}
    plain = structs.replace(command, headers=asked)
    try:
        async with asyncio.timeout(seconds):
            matched = await _matches(registry, command)
            twin = await registry.handle(plain)
    except TimeoutError as error:
        raise CommandTimeout(seconds=f"{seconds:g}") from error
    known = {MATCHED: "true" if matched else "false"}
    from_twin = structs.replace(twin, headers=twin.headers | known | {"channel": "twin", "response-required": "false"})
    if not matched:
        return from_twin
    try:
        outcome = await live.send(signal_of(plain), sender, seconds=seconds)
    except CommandTimeout as error:
        if command.headers.get(STRATEGY, "").strip().lower() == "use-twin":
            return from_twin
        error.headers.update(known)
        raise
    assert outcome.answer is not None
    response = response_of(outcome.answer)
    return structs.replace(response, headers=response.headers | known)


async def _matches(registry: Registry, command: Command) -> bool:
    """Whether the twin satisfies the condition, as far as the caller may know; without one it does. Raises ConditionInvalid."""
    condition = command.headers.get(CONDITION)
    if condition is None:
        return True
    question = structs.replace(command, headers={"condition": condition})

    def holds() -> bool:
        held = registry.memory.held("thing", command.id)
        if held.document is None:
            return False
        namespace = split_id(command.id)[0]
        permits = registry.rights.permits(None, held.document["policyId"], command.subjects, namespace)
        return permits is not None and guarded.holds(permits, held, question, registry.clock())

    try:
        return await registry.memory.known(holds)
    except ConditionInvalid as error:
        raise ConditionInvalid(**{**error.facts, "header": CONDITION}) from error
