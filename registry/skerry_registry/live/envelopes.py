"""The Ditto Protocol at an edge that carries envelopes both ways: WebSocket and MQTT hand them in, replies come out."""

from __future__ import annotations

import logging
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import structs

from skerry import fields, headers, live, protocol, topics
from skerry.errors import SkerryError
from skerry.ids import check_thing_id, split_id
from skerry.parts import PathUnknown
from skerry.signals import Command, Response
from skerry.things import ThingConflict, ThingNotAccessible
from skerry.values import JsonInvalid, name
from skerry_registry import checks
from skerry_registry.asking import Asker
from skerry_registry.creation import ThingNotCreatable
from skerry_registry.http.errors import MediaTypeUnsupported, ThingsTooLarge
from skerry_registry.identities.refusals import NamespaceNotAccessible
from skerry_registry.lateness import in_time
from skerry_registry.live import commands
from skerry_registry.live.channel import MERGE_PATCH, TIMEOUT, labels_of
from skerry_registry.live.gathering import acks_envelope, gather
from skerry_registry.live.wishes import AnswerNotWanted, Wish, check_answered, wish_of
from skerry_registry.reasons import Reasons

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from skerry.signals import Json
    from skerry_registry.live.sender import Sender
    from skerry_registry.live.streams import Streams
    from skerry_registry.registry import Registry

    Envelope: TypeAlias = dict[str, Any]

log = logging.getLogger(__name__)

CLAIM_SECONDS = 600.0
"""How long a claim may wait for its answer."""
FORBIDDEN = 403
BULK_MAX = 1_000
"""Things that one envelope asks for."""
ANSWER_MAX = 16_000_000
"""Bytes of things that one reply carries."""


class ThingIdsMissing(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """A request for several things that names none."""

    code = "things:things.ids.missing"
    status = 400
    message = "The envelope asks for things and names none."
    description = 'Its value reads {{"thingIds":["ns:name"]}}, with 1 to 1000 ids.'


class Envelopes:
    """Carries envelopes out: twin and live commands, messages, live events, answers, acknowledgements, checkPermissions.

    What opens a stream (search, streaming) is the session's own.
    """

    def __init__(self, registry: Registry, streams: Streams) -> None:
        """`streams`: where live signals and acknowledgements go."""
        self._registry = registry
        self._streams = streams
        self._reasons = Reasons(registry)

    async def handle(
        self, envelope: bytes | str | Envelope, sender: Sender, defaults: Mapping[str, str]
    ) -> Envelope | None:
        """The reply, None where none is wanted; an error is a reply too. `defaults`: headers of the session."""
        asked = _Asked()
        try:
            asked.read(envelope, defaults, self._registry.new_id)
            return await self._carry_out(asked, sender)
        except SkerryError as error:
            if asked.silent and asked.under_way:
                return None
            originator = sender.subjects[0] if asked.under_way and sender.subjects else None
            return protocol.error_envelope(error, asked.about, asked.headers, originator)
        except Exception:
            log.exception("envelope failed", extra={"topic": asked.about, "correlation": asked.correlation})
            return protocol.error_envelope(SkerryError(), asked.about, asked.headers)

    async def _carry_out(self, asked: _Asked, sender: Sender) -> Envelope | None:
        """The reply to an envelope that could be read."""
        topic, text = asked.topic, asked.about or ""
        if topic.channel == "live" and live.is_live(text):
            return await self._live(asked, sender)
        if topic.criterion == "acks":
            await self._acknowledge(asked, sender)
            return None
        if topic.criterion == "errors" or (topic.criterion == "commands" and "status" in asked.members):
            return None  # somebody's answer that nobody here waits for
        if topic.criterion in {"messages", "announcements"}:
            raise topics.TopicUnknown(topic=text, problem=f"{topic.criterion} are not of the twin")
        if topic.criterion != "commands":
            raise topics.SignalUnknown(topic=text, problem=f"{topic.criterion} are not taken here")
        if topic.action == "checkPermissions":
            return await self._check(asked, sender)
        if topic.action == "retrieve" and topic.group == "things" and topic.name == topics.ANYTHING:
            return await self._retrieve_several(asked, sender)
        return await self._twin(asked, sender)

    async def _twin(self, asked: _Asked, sender: Sender) -> Envelope | None:
        """A command for a twin or a policy."""
        command = protocol.command_from(asked.members, sender.subjects, sender.origin)
        if command.verb == "merge" and sender.declares:
            _check_merge(command)
        wish = asked.wish(sender, query=command.verb == "retrieve", acknowledged=command.kind == "thing")
        try:
            if sender.reach is not None:
                sender.reach.check_command(command)
            if command.verb == "retrieve" and commands.is_smart(command):
                return await self._choose(asked, command, sender)
            if not wish.labels:
                response = await in_time(wish.timeout or TIMEOUT, self._registry.handle(command))
                return protocol.response_envelope(command, response) if wish.answer and wish.timeout else None
            gathered = await gather(self._registry.handle(command), command, wish, self._streams.acks)
        except PathUnknown as error:
            raise protocol.EnvelopePathUnknown(path=asked.members.get("path")) from error
        except ThingConflict as error:
            raise await self._named(command, error) from error
        except SkerryError as error:
            await self._note(error, asked, command, sender)
            raise
        if not wish.answer:
            return None
        if gathered.plain and gathered.response is not None:
            return protocol.response_envelope(command, gathered.response)
        return acks_envelope(command.id, gathered.acks, asked.correlation)

    async def _note(self, error: SkerryError, asked: _Asked, command: Command, sender: Sender) -> None:
        """Have a refusal stand in the audit trail, and say why in it."""
        if isinstance(error, NamespaceNotAccessible):
            self._registry.refuse(command, error)
        if error.status == FORBIDDEN and not asked.silent:
            await self._reasons.attach(command, error, sender.reach)

    async def _named(self, command: Command, error: ThingConflict) -> SkerryError:
        """What the creation of a thing that is there is answered with: Ditto 3.9.6 makes the policy first, and names its conflict."""
        value, policy_id = command.value, command.id
        if isinstance(value, dict) and "policyId" in value:
            return error
        held = await self._registry.memory.known(lambda: self._registry.memory.held("policy", policy_id))
        return error if held.document is None else ThingNotCreatable(thing_id=command.id, policy_id=policy_id)

    async def _choose(self, asked: _Asked, command: Command, sender: Sender) -> Envelope:
        """A read that the device answers, or the twin, as its headers say; the answer's topic tells who did."""
        seconds = asked.seconds(TIMEOUT, headers.TIMEOUT_LIMIT)
        response = await commands.retrieve(self._registry, self._streams.live, command, sender, seconds=seconds)
        if response.headers.get("channel") == "live" and command.topic is not None:
            topic = structs.replace(topics.parse(command.topic), channel="live")
            command = structs.replace(command, topic=topics.write(topic))
        return protocol.response_envelope(command, response)

    async def _live(self, asked: _Asked, sender: Sender) -> Envelope | None:
        """A message, a live command or event, or the answer to one."""
        signal = live.signal_from(asked.members, correlation=asked.correlation)
        if signal.status is not None:
            self._streams.live.answer(signal, sender)
            return None
        if signal.sort == "event":
            with suppress(ThingNotAccessible):  # nobody is told of events, not even that there is no such thing
                await self._streams.live.send(signal, sender, seconds=0)
            return None
        labels = labels_of(asked.headers)
        asked.check(sender, labels, query=signal.sort == "command" and signal.action == "retrieve")
        most = CLAIM_SECONDS if signal.path == live.CLAIM else headers.TIMEOUT_LIMIT
        seconds = asked.seconds(TIMEOUT, most) if labels else 0.0
        outcome = await self._streams.live.send(signal, sender, seconds=seconds, labels=labels)
        if asked.silent:
            return None
        if outcome.acks:
            return acks_envelope(signal.id, outcome.acks, asked.correlation, channel="live")
        return None if outcome.answer is None else live.envelope_of(outcome.answer)

    async def _acknowledge(self, asked: _Asked, sender: Sender) -> None:
        """An acknowledgement: of a thing's signal, or of what a policy announced.

        Who declares none, and so is not known to have had the signal, may acknowledge those of things that he may read something of.
        """
        ack = protocol.ack_from(asked.members)
        if ack.label is None:
            raise topics.SignalUnknown(topic=asked.about, problem="it names no label; send acknowledgements one by one")
        if not sender.declares:
            error = await self._registry.memory.known(lambda: self._why_foreign(ack.id, sender))
            if error is not None:
                asked_for = Command(verb="retrieve", id=ack.id, subjects=sender.subjects, origin=sender.origin)
                self._registry.refuse(asked_for, error)
                raise error
        self._streams.acks.give(ack, sender)

    def _why_foreign(self, thing_id: str, sender: Sender) -> SkerryError | None:
        """Why somebody cannot have had signals of a thing: he may read nothing of it, and none of its messages. Raises Lacking."""
        namespace = split_id(thing_id)[0]
        if sender.reach is not None and not sender.reach.covers("thing", namespace):
            return NamespaceNotAccessible(namespace=namespace)
        document = self._registry.memory.held("thing", thing_id).document
        permits = None
        if document is not None:
            permits = self._registry.rights.permits(None, document["policyId"], sender.subjects, namespace)
        if permits is not None and any(permits.may_partly(kind, (), "READ") for kind in ("thing", "message")):
            return None
        return ThingNotAccessible(thing_id=thing_id)

    async def _check(self, asked: _Asked, sender: Sender) -> Envelope:
        """Answer checkPermissions."""
        wish = asked.wish(sender, query=True)
        questions = checks.read_checks(asked.members.get("value"))
        asker = Asker(sender.subjects, sender.reach)
        found = await in_time(wish.timeout, checks.check(self._registry, asker, questions))
        return asked.answer(found)

    async def _retrieve_several(self, asked: _Asked, sender: Sender) -> Envelope:
        """Several things, in their order; what the caller may not see is left out, as what is not there."""
        wish = asked.wish(sender, query=True)
        wanted = _ids_in(asked.members.get("value"))
        selector = asked.members.get("fields")
        if isinstance(selector, str):
            fields.parse(selector)
        namespace = asked.topic.namespace
        wanted = [
            id_
            for id_ in wanted
            if namespace in {topics.ANYTHING, split_id(id_)[0]}
            and (sender.reach is None or sender.reach.covers("thing", split_id(id_)[0]))
        ]
        shared = {"correlation-id": asked.correlation} | ({"fields": selector} if isinstance(selector, str) else {})
        commands = [
            Command(verb="retrieve", id=id_, subjects=sender.subjects, headers=shared, origin=sender.origin)
            for id_ in wanted
        ]
        found = await in_time(wish.timeout, self._registry.handle_all(commands))
        return asked.answer(_found(found))


class _Asked:
    """One envelope, taken apart as far as it can be; what is known of it stands in the error, too."""

    __slots__ = ("about", "headers", "members", "topic", "under_way")

    def __init__(self) -> None:
        """Nothing is known yet; once it is `under_way`, whoever wants no answer is told of no error."""
        self.under_way = False
        self.members: Envelope = {}
        self.headers: Mapping[str, str] = {}
        self.about: str | None = None
        self.topic = topics.Topic(namespace=topics.UNKNOWN, name=topics.UNKNOWN)

    def read(self, envelope: bytes | str | Envelope, defaults: Mapping[str, str], new_id: Callable[[], str]) -> None:
        """Take it apart. Raises what is wrong with it."""
        members = protocol.members_of(envelope)
        given = members.get("headers")
        text = members.get("topic")
        self.about = text if isinstance(text, str) else None
        try:
            found = protocol.headers_from(
                {**defaults, **given} if isinstance(given, dict) else (dict(defaults) if given is None else given)
            )
        except SkerryError:
            self.headers = _readable(given)
            raise
        if "correlation-id" not in found:
            found["correlation-id"] = new_id()
        self.headers = found
        self.members = {**members, "headers": found}
        self.topic = topics.parse(protocol.text_of(members, "topic"))

    @property
    def correlation(self) -> str:
        """What the reply is known by."""
        return self.headers.get("correlation-id", "")

    @property
    def silent(self) -> bool:
        """Whether no reply is wanted."""
        return self.headers.get("response-required", "").strip().lower() == "false"

    def wish(self, sender: Sender, *, query: bool, acknowledged: bool = True) -> Wish:
        """What the sender waits for. Raises the errors of headers that make no sense together."""
        given = self.headers
        if "timeout" in given:
            given = {**given, "timeout": f"{1_000 * self.seconds(TIMEOUT, headers.TIMEOUT_LIMIT):.0f}ms"}
        wish = wish_of(given, query=query, acknowledged=acknowledged)
        self.check(sender, wish.labels, query=query)
        return wish

    def seconds(self, usual: float, most: float) -> float:
        """How long is waited; for no longer than the most, whatever is asked (as Ditto's sessions do). Raises TimeoutInvalid."""
        return min(headers.timeout(self.headers.get("timeout"), usual, inf), most)

    def check(self, sender: Sender, labels: tuple[str, ...], *, query: bool) -> None:
        """Raise AnswerNotWanted, HeaderInvalid for wishes that a sender cannot have together; after that it is under way."""
        if query and self.silent:
            raise AnswerNotWanted
        if sender.declares:
            check_answered(Wish(labels=labels, answer=not self.silent))
        self.under_way = True

    def answer(self, value: Json) -> Envelope:
        """A reply with a value."""
        command = Command(verb="retrieve", id="", subjects=(), headers=dict(self.headers), topic=self.about)
        return protocol.response_envelope(command, Response(status=200, value=value))


def _check_merge(command: Command) -> None:
    """Raise MediaTypeUnsupported where a session does not say that a merge is one (seen on Ditto 3.9.6); devices need not."""
    given = command.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != MERGE_PATCH:
        raise MediaTypeUnsupported(given=given or "(none)", method="merge", accepted=MERGE_PATCH)


def _readable(given: Json) -> Mapping[str, str]:
    """What an error may repeat of headers that are wrong."""
    if not isinstance(given, dict):
        return {}
    found = next((value for title, value in given.items() if title.lower() == "correlation-id"), None)
    return {"correlation-id": found} if isinstance(found, str) and found else {}


def _ids_in(value: Json) -> list[str]:
    """The ids that somebody asks for together. Raises ThingIdsMissing, JsonInvalid, ThingIdInvalid."""
    if not isinstance(value, dict):
        raise JsonInvalid(at="/value", problem=f"it is an object, not {name(value)}")
    ids = value.get("thingIds")
    if not isinstance(ids, list) or not 0 < len(ids) <= BULK_MAX:
        raise ThingIdsMissing
    for id_ in ids:
        if not isinstance(id_, str):
            raise JsonInvalid(at="/value/thingIds", problem=f"an id is a text, not {name(id_)}")
        check_thing_id(id_)
    return cast("list[str]", ids)


def _found(answers: Sequence[Response | SkerryError]) -> list[msgspec.Raw]:
    """The things among the answers. Raises ThingsTooLarge, and what is no refusal."""
    found: list[msgspec.Raw] = []
    size = 0
    for answer in answers:
        if isinstance(answer, Response):
            text = msgspec.json.encode(answer.value)
            size += len(text)
            if size > ANSWER_MAX:
                raise ThingsTooLarge(limit=ANSWER_MAX)
            found.append(msgspec.Raw(text))
        elif not isinstance(answer, ThingNotAccessible):
            raise answer
    return found
