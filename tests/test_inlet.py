# ruff: noqa: N818 - errors are rows of a table
"""The inlet: order, refusals, retries, replays."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from skerry.errors import SkerryError
from skerry.preconditions import PreconditionFailed
from skerry.signals import Command, Micros, Response
from skerry_adapters.dead_letters import DeadLetter, DeadLetters, DeadLettersUnavailable
from skerry_adapters.inbound import Inbound
from skerry_adapters.inlet import Inlet
from skerry_adapters.sources import DEFAULT_SOURCES, Source

NOW: Micros = 1_795_000_000_000_000


class Absent(SkerryError):
    code = "test:absent"
    status = 404
    message = "There is no {thing}."


class Away(SkerryError):
    code = "test:away"
    status = 503
    message = "The store is away."


class Letters:
    """Dead letters in memory; refuses as often as told."""

    def __init__(self, refusals: int = 0) -> None:
        self.kept: list[DeadLetter] = []
        self.refusals = refusals

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise DeadLettersUnavailable(file="test", reason="the disk is full")
        self.kept.extend(letters)


class Door:
    """A registry's stand-in that remembers what came through and answers as `answer` says."""

    def __init__(self, answer: Callable[[Command], Response | SkerryError] | None = None) -> None:
        self.calls: list[list[Command]] = []
        self.answer = answer or (lambda _command: Response(status=204))

    async def handle_all(self, commands: Sequence[Command]) -> list[Response | SkerryError]:
        self.calls.append(list(commands))
        await asyncio.sleep(0)
        return [self.answer(command) for command in commands]

    @property
    def names(self) -> list[list[str]]:
        return [[command.id for command in call] for call in self.calls]


async def until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not ready():  # noqa: ASYNC110 - the condition is a count in what is tested
            await asyncio.sleep(0.002)


def sent(name: str, payload: bytes = b'{"a": 1}') -> Inbound:
    return Inbound(topic=f"telemetry/x/{name}/f", payload=payload, qos=1, mid=1)


def inlet(door: Door, letters: Letters, sources: Sequence[Source] = DEFAULT_SOURCES) -> Inlet:
    return Inlet(sources, door.handle_all, letters, lambda: NOW)


async def test_a_batch_goes_through_the_door_in_one_call_and_in_order() -> None:
    door, letters = Door(), Letters()
    intake = inlet(door, letters)
    await intake.take([sent("a"), sent("b"), sent("a")])
    assert door.names == [["x:a", "x:b", "x:a"]]
    assert (intake.counters.received, intake.counters.committed, intake.counters.dead) == (3, 3, 0)


async def test_only_short_plain_topics_are_remembered() -> None:
    door, letters = Door(), Letters()
    intake = inlet(door, letters)
    await intake.take([sent(name) for name in ("a", "b" * 200, "ä")])
    assert door.names[0][:2] == ["x:a", f"x:{'b' * 200}"]
    assert list(intake._routes) == ["telemetry/x/a/f"]


async def test_what_cannot_be_mapped_is_a_dead_letter_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    door, letters = Door(), Letters()
    intake = inlet(door, letters)
    with caplog.at_level(logging.WARNING):
        await intake.take([sent("a", b"{"), sent("b"), Inbound(topic="elsewhere", payload=b"{}"), sent("c", b"NaN")])
    assert door.names == [["x:b"]]
    assert [(letter.topic, letter.source, letter.code) for letter in letters.kept] == [
        ("telemetry/x/a/f", "telemetry", "mapping.json.malformed"),
        ("elsewhere", "", "mapping.source.none"),
        ("telemetry/x/c/f", "telemetry", "mapping.json.malformed"),
    ]
    assert letters.kept[0].payload == b"{"
    assert letters.kept[0].time == NOW
    assert [record.message for record in caplog.records] == ["message refused", "message refused"]


async def test_what_goes_to_devices_is_no_dead_letter() -> None:
    door, letters = Door(), Letters()
    intake = inlet(door, letters)
    await intake.take([Inbound(topic="device/x/a/go", payload=b"{"), sent("b")])
    assert (door.names, letters.kept, intake.counters.committed) == ([["x:b"]], [], 1)


async def test_a_refused_command_is_a_dead_letter_with_the_registrys_reason() -> None:
    door = Door(lambda command: Absent(thing=command.id) if command.id == "x:b" else Response(status=204))
    letters = Letters()
    intake = inlet(door, letters)
    await intake.take([sent("a"), sent("b")])
    assert [(letter.code, letter.reason["message"]) for letter in letters.kept] == [("test:absent", "There is no x:b.")]
    assert (intake.counters.committed, intake.counters.dead) == (1, 1)


async def test_a_change_that_changes_nothing_is_no_dead_letter_where_its_sender_wished_it_skipped() -> None:
    failed = PreconditionFailed(header="if-equal", wanted="skip", etag='"x"')
    door = Door(lambda _command: failed)
    letters = Letters()
    intake = inlet(door, letters)
    topic = '"topic":"x/a/things/twin/commands/merge","path":"/attributes/n","value":1'
    for asked in ({"if-equal": "skip"}, {"if-match": '"y"'}):
        payload = f'{{{topic},"headers":{json.dumps(asked)}}}'.encode()
        await intake.take([Inbound(topic="ditto/x/a", payload=payload, qos=1, mid=1)])
    assert [letter.payload for letter in letters.kept] == [payload]
    assert (intake.counters.committed, intake.counters.dead) == (1, 1)


async def test_while_the_store_is_away_the_batch_waits_and_what_was_stored_is_not_sent_again() -> None:
    away = 3

    def answer(command: Command) -> Response | SkerryError:
        nonlocal away
        if command.id == "x:b" and away:
            away -= 1
            return Away()
        return Response(status=204)

    door, letters = Door(answer), Letters()
    await inlet(door, letters).take([sent("a"), sent("b")])
    assert door.names == [["x:a", "x:b"], ["x:b"], ["x:b"], ["x:b"]]
    assert not letters.kept


async def test_later_messages_do_not_overtake_those_that_wait_for_the_store() -> None:
    away = True
    door, letters = Door(lambda _command: Away() if away else Response(status=204)), Letters()
    intake = inlet(door, letters)
    first = asyncio.create_task(intake.take([sent("a")]))
    await until(lambda: len(door.calls) >= 2)
    second = asyncio.create_task(intake.take([sent("b")]))
    await until(lambda: len(door.calls) >= 3)
    assert not first.done()
    assert "x:b" not in {name for names in door.names for name in names}
    away = False
    await asyncio.gather(first, second)
    assert door.names[-2:] == [["x:a"], ["x:b"]]


async def test_a_defect_of_the_registry_costs_a_dead_letter_and_not_the_intake(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(command: Command) -> Response | SkerryError:
        if command.id == "x:b":
            raise ZeroDivisionError
        return Response(status=204)

    door, letters = Door(answer), Letters()
    intake = inlet(door, letters)
    with caplog.at_level(logging.CRITICAL):
        await intake.take([sent("a"), sent("b"), sent("c")])
    assert [(letter.topic, letter.code) for letter in letters.kept] == [("telemetry/x/b/f", "internalerror")]
    assert intake.counters.committed == 2


async def test_dead_letters_that_cannot_be_kept_hold_the_acknowledgement_back() -> None:
    letters = Letters(refusals=2)
    await inlet(Door(), letters).take([sent("a", b"{")])
    assert len(letters.kept) == 1


async def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="source 'ditto' is there 2 times"):
        inlet(Door(), Letters(), [DEFAULT_SOURCES[0], DEFAULT_SOURCES[0]])


async def test_a_dead_letter_is_replayed_beside_the_server_once_its_cause_is_gone(tmp_path: Path) -> None:
    things = {"x:a"}
    door = Door(lambda command: Response(status=204) if command.id in things else Absent(thing=command.id))
    letters, beside = DeadLetters(tmp_path), DeadLetters(tmp_path)
    intake = Inlet(DEFAULT_SOURCES, door.handle_all, letters, lambda: NOW)
    await intake.take([sent("b"), sent("c", json.dumps({"ts": 5, "a": 2}).encode())])
    watching = asyncio.create_task(letters.watch(intake.replay))
    try:
        things.add("x:b")
        assert beside.request_replay("all") == 2
        await until(lambda: beside.count() == 1 and not beside.requested())
        left = beside.list()[0]
        assert (left.topic, left.attempts, left.code) == ("telemetry/x/c/f", 2, "test:absent")
        things.add("x:c")
        assert beside.request_replay([left.id, 999]) == 1
        await until(lambda: not beside.count())
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        letters.close()
        beside.close()
    replayed = {call[0].id: call[0] for call in door.calls[1:]}
    assert replayed["x:b"].observed == NOW, "without a time of its own it counts from when it arrived"
    assert replayed["x:c"].observed == 5_000
    assert intake.counters.replayed == 2
