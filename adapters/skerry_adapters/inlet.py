# ruff: noqa: N818 - errors are rows of a table
"""The inlet: messages of any broker in, commands through the one door, what is refused into the dead letters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct, structs

from skerry.errors import SkerryError
from skerry.preconditions import PreconditionFailed
from skerry.signals import Clock, Command, Handle, Response
from skerry_adapters.dead_letters import DeadLetter, DeadLettersUnavailable, letter
from skerry_adapters.inbound import Aside, Inbound
from skerry_adapters.mapping import Inbounder, MappingError, compile_source
from skerry_adapters.sources import Source, matcher
from skerry_adapters.talk import Talk, asks_acks

log = logging.getLogger(__name__)

FIRST_WAIT = 0.05
LONGEST_WAIT = 2.0
MOST_TRIES = 5
SAY_EVERY = 10_000_000
KNOWN_TOPICS = 150_000
SHORT_TOPIC = 96
"""Characters of topics that are worth remembering; one that is not ASCII makes a text four times as large."""
NOT_MODIFIED = 304
FORBIDDEN = 403
EXPLAINED = 10
"""Refusals among messages that are taken together that are given their reasons."""

Explain: TypeAlias = Callable[[Command, SkerryError], Awaitable[None]]
"""Put `why` into a policy's refusal of a command, as far as the device may read the policy."""

TO_DEVICES = "device/"


class NoSource(MappingError):
    """A topic that no source takes."""

    code = "mapping.source.none"
    status = 404
    message = "No source takes the topic '{topic}'."
    description = "Publish to a topic of a source, or add the topic to a source in the settings."


class NoChange(MappingError):
    """An envelope that asks or answers, in a replay."""

    code = "mapping.envelope.nochange"
    message = "The envelope that came on '{topic}' changes nothing that could be made up for."
    description = "Have the device send it again."


class Keep(Protocol):
    """Where refused messages go: durable when `keep` returns; raises DeadLettersUnavailable."""

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Keep them all."""
        ...


class Counters(Struct, kw_only=True):
    """What became of the messages so far. received = committed + dead + those on their way. `retried`: batches."""

    received: int = 0
    committed: int = 0
    dead: int = 0
    retried: int = 0
    replayed: int = 0


class _Mapped(Struct):
    """What messages mean: commands and the places of their messages, dead letters by place, and what is no change.

    `envelopes`: places in `commands` of those that came in an envelope, whose senders may want to be told.
    """

    commands: list[Command] = []
    places: list[int] = []
    envelopes: list[int] = []
    dead: dict[int, DeadLetter] = {}
    asides: list[tuple[Inbound, Aside]] = []


class Inlet:
    """Deals with messages in order: maps a batch, hands it to the one door in a single call, sorts out the answers.

    `take` is the Take seam; it may be called again before it has returned. Messages taken later are not retried before
    those taken earlier. `limit`: bytes of a payload. `count` is told of the commands that were carried out, `explain` asked
    about those that a policy refused.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        handle: Handle,
        dead_letters: Keep,
        clock: Clock,
        *,
        limit: int = 256_000,
        count: Callable[[Sequence[Command]], None] | None = None,
        explain: Explain | None = None,
    ) -> None:
        names = [source.name for source in sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"source '{name}' is there {names.count(name)} times; give each its own name")
        self.counters = Counters()
        routes = [(source.name, compile_source(source, limit)) for source in sources]
        self._sources = [(matcher(source.filters), route) for source, route in zip(sources, routes, strict=True)]
        self._by_name = {
            source.name: (inbound, source.payload == "telemetry")
            for source, (_, inbound) in zip(sources, routes, strict=True)
        }
        self._count = count
        self._explain = explain
        self._talk: Talk | None = None
        self._handle = handle
        self._dead_letters = dead_letters
        self._clock = clock
        self._routes: dict[str, tuple[str, Inbounder]] = {}
        self._troubled: list[asyncio.Event] = []
        self._said: dict[str, int] = {}
        self._unsaid: dict[str, int] = {}

    def attach(self, talk: Talk) -> None:
        """Give it the envelopes that are no plain changes, and have it reply to those that are."""
        self._talk = talk

    async def take(self, messages: Sequence[Inbound]) -> None:
        """Return when each message is committed or kept as a dead letter."""
        counters = self.counters
        counters.received += len(messages)
        mapped = self._mapped(messages)
        places, commands, dead = mapped.places, mapped.commands, mapped.dead
        unmapped = len(dead)
        if commands:
            if self._troubled:
                await self._troubled[-1].wait()
            waiting = self._attend(messages, mapped)
            answers = await self._ask(commands)
            if any(isinstance(answer, SkerryError) for answer in answers):
                answers = await self._insist(commands, answers)
                await self._say_why(commands, answers)
                for place, command, answer in zip(places, commands, answers, strict=True):
                    if isinstance(answer, SkerryError) and not _as_wished(command, answer):
                        message = messages[place]
                        dead[place] = self._refused(message, self._route(message.topic)[0], answer)
            if self._count is not None:
                self._count([one for place, one in zip(places, commands, strict=True) if place not in dead])
            self._tell(messages, mapped, answers, waiting)
        if dead:
            await self._bury([dead[place] for place in sorted(dead)])
        counters.dead += len(dead)
        counters.committed += len(commands) - (len(dead) - unmapped)
        if self._talk is not None:
            for message, aside in mapped.asides:
                await self._talk.hear(message, aside)

    def _attend(self, messages: Sequence[Inbound], mapped: _Mapped) -> dict[int, asyncio.Future[Response]]:
        """Begin to wait for the acknowledgements that changes ask for; by place among the commands."""
        waiting: dict[int, asyncio.Future[Response]] = {}
        if self._talk is None:
            return waiting
        for index in mapped.envelopes:
            command = mapped.commands[index]
            if asks_acks(command):
                command = mapped.commands[index] = self._talk.named(command)
                future = self._talk.attend(messages[mapped.places[index]], command)
                if future is not None:
                    waiting[index] = future
        return waiting

    def _tell(
        self,
        messages: Sequence[Inbound],
        mapped: _Mapped,
        answers: Sequence[Response | SkerryError],
        waiting: dict[int, asyncio.Future[Response]],
    ) -> None:
        """Tell devices what became of their envelopes."""
        if self._talk is None:
            return
        for index in mapped.envelopes:
            answer, future = answers[index], waiting.get(index)
            if future is None:
                self._talk.replies.answer(messages[mapped.places[index]], mapped.commands[index], answer)
            elif isinstance(answer, SkerryError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _mapped(self, messages: Sequence[Inbound]) -> _Mapped:
        """What messages mean. What goes to devices is between the broker and them, unless a source takes it."""
        now = self._clock()
        routes = self._routes
        mapped = _Mapped()
        commands, places, dead = mapped.commands, mapped.places, mapped.dead
        for place, message in enumerate(messages):
            route = routes.get(message.topic) or self._route(message.topic)
            try:
                made = route[1](message, now)
            except NoSource as error:
                if not message.topic.startswith(TO_DEVICES):
                    dead[place] = self._refused(message, route[0], error)
            except SkerryError as error:
                dead[place] = self._refused(message, route[0], error)
                self._tell_refusal(message, route[0], error)
            except Exception:  # the edge's outermost loop: no message may stop the intake
                log.exception("mapping failed", extra={"topic": message.topic, "source": route[0]})
                dead[place] = self._refused(message, route[0], MappingError())
            else:
                if isinstance(made, Command):
                    if made.topic is not None:
                        mapped.envelopes.append(len(commands))
                    commands.append(made)
                    places.append(place)
                else:
                    mapped.asides.append((message, made))
        return mapped

    def _tell_refusal(self, message: Inbound, source: str, error: SkerryError) -> None:
        """Tell a device that its envelope could not be read; telemetry has nobody to tell."""
        if self._talk is not None and not self._by_name[source][1]:
            self._talk.replies.refuse(message, error)

    async def replay(self, dead: DeadLetter) -> SkerryError | None:
        """Try a dead letter again (the Again seam). Telemetry without a time counts as observed when it first arrived."""
        message = Inbound(
            topic=dead.topic,
            payload=dead.payload,
            qos=1,
            mid=dead.id & 0xFFFF,
            redelivered=True,
            subjects=dead.subjects,
        )
        try:
            name = dead.source if dead.source in self._by_name else self._route(dead.topic)[0]
            inbound, telemetry = self._by_name.get(name, (_no_source, False))
            command = inbound(message, self._clock())
        except SkerryError as error:
            return error
        if not isinstance(command, Command):
            return NoChange(topic=message.topic)
        if telemetry and command.observed is None:
            command = structs.replace(command, observed=dead.time)
        answers = await self._ask([command])
        answer = answers[0]
        if isinstance(answer, SkerryError) and not _as_wished(command, answer):
            await self._say_why([command], answers)
            return answer
        self.counters.replayed += 1
        return None

    def _route(self, topic: str) -> tuple[str, Inbounder]:
        route = self._routes.get(topic)
        if route is None:
            route = next((route for fits, route in self._sources if fits.fullmatch(topic)), _NOWHERE)
            if len(topic) <= SHORT_TOPIC and topic.isascii():
                if len(self._routes) >= KNOWN_TOPICS:
                    self._routes.clear()
                self._routes[topic] = route
        return route

    async def _ask(self, commands: Sequence[Command]) -> list[Response | SkerryError]:
        try:
            return await self._handle(commands)
        except SkerryError as error:
            return [error] * len(commands)
        except Exception:  # the edge's outermost loop: a defect must not stop the intake
            log.exception("commands failed", extra={"count": len(commands)})
            return [SkerryError() for _ in commands]

    async def _say_why(self, commands: Sequence[Command], answers: Sequence[Response | SkerryError]) -> None:
        """Have the first refusals by policies explained; one that cannot be stands without its reason."""
        if self._explain is None:
            return
        refused = [
            (command, answer)
            for command, answer in zip(commands, answers, strict=True)
            if isinstance(answer, SkerryError) and answer.status == FORBIDDEN
        ]
        for command, answer in refused[:EXPLAINED]:
            try:
                await self._explain(command, answer)
            except SkerryError as error:
                self._say("refusal not explained", error, 1)

    async def _insist(
        self, commands: Sequence[Command], answers: list[Response | SkerryError]
    ) -> list[Response | SkerryError]:
        """Ask again for what the server failed at, until it answers; a defect (500) is given up after a few tries."""
        wait, tries = FIRST_WAIT, 1
        before = self._troubled[-1] if self._troubled else None
        done = asyncio.Event()
        self._troubled.append(done)
        try:
            while failed := [
                place
                for place, answer in enumerate(answers)
                if isinstance(answer, SkerryError)
                and answer.status >= 500
                and (answer.status != 500 or tries < MOST_TRIES)
            ]:
                self.counters.retried += 1
                self._say("intake waits for the store", answers[failed[0]], len(failed))
                if before is not None:
                    await before.wait()
                await asyncio.sleep(wait)
                wait, tries = min(wait * 2, LONGEST_WAIT), tries + 1
                alone = tries == MOST_TRIES
                for group in [[place] for place in failed] if alone else [failed]:
                    again = await self._ask([commands[place] for place in group])
                    for place, answer in zip(group, again, strict=True):
                        answers[place] = answer
        finally:
            done.set()
            self._troubled.remove(done)
        return answers

    def _refused(self, message: Inbound, source: str, error: SkerryError) -> DeadLetter:
        self._say("message refused", error, 1, topic=message.topic, source=source)
        return letter(message.topic, message.payload, message.qos, message.subjects, source, self._clock(), error)

    async def _bury(self, dead: Sequence[DeadLetter]) -> None:
        wait = FIRST_WAIT
        while True:
            try:
                return await self._dead_letters.keep(dead)
            except DeadLettersUnavailable as error:
                self._say("intake waits for the dead letters", error, len(dead))
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)

    def _say(self, event: str, error: Response | SkerryError, count: int, **facts: str) -> None:
        """Log, at most once in ten seconds for each event and code, with how many were passed over."""
        code = error.code if isinstance(error, SkerryError) else ""
        key = f"{event} {code}"
        now = self._clock()
        if now - self._said.get(key, -SAY_EVERY) < SAY_EVERY:
            self._unsaid[key] = self._unsaid.get(key, 0) + count
            return
        self._said[key] = now
        more = self._unsaid.pop(key, 0)
        log.warning(event, extra={"code": code, "reason": str(error), "count": count + more, **facts})


def _as_wished(command: Command, answer: SkerryError) -> bool:
    """Whether nothing was done because the sender wished so: what is there is equal already."""
    if answer.status == NOT_MODIFIED:
        return True
    return (
        isinstance(answer, PreconditionFailed) and "if-equal" in command.headers and "if-match" not in command.headers
    )


def _no_source(message: Inbound, _now: int) -> Command:
    raise NoSource(topic=message.topic)


_NOWHERE: tuple[str, Inbounder] = ("", _no_source)
