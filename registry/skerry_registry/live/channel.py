# ruff: noqa: N818 - errors are rows of a table
"""The live channel: messages, live commands and live events to whoever listens, and the first answer back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Struct, field, structs

from skerry import parts
from skerry.acks import LIVE, PERSISTED, SEARCH
from skerry.errors import SkerryError
from skerry.headers import INBOUND, requested_acks, response_required
from skerry.ids import split_id
from skerry.live import CLAIM, LiveSignal, normal, subject_of
from skerry.protocol import Ack, AdaptableIllegal
from skerry.signals import Command
from skerry.things import ThingNotAccessible
from skerry_policies.imports import ImportInvalid
from skerry_registry import guarded, refusals
from skerry_registry.lateness import UNANSWERED, CommandTimeout
from skerry_registry.live.listeners import Listener, Listeners, LiveWanted, Take, resource_of
from skerry_registry.live.questions import OF_ONE, SIZE, Delivery, Question, Questions, size_of
from skerry_registry.live.views import NUMBER
from skerry_registry.reasons import Reasons
from skerry_registry.runs import Lacking

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from skerry.signals import Held, Json
    from skerry_policies.enforcer import Permits
    from skerry_registry.live.acks import Acks
    from skerry_registry.live.sender import Leave, Sender
    from skerry_registry.registry import Registry

__all__ = ["TIMEOUT", "Live", "LiveWanted", "Outcome", "Take", "labels_of"]

MERGE_PATCH = "application/merge-patch+json"
TIMEOUT = 60.0
"""Seconds that an answer has where nobody says (Ditto 3.9.6)."""
FORBIDDEN = 403
GOOD = range(200, 300)
"""Statuses that say success."""
_DROPPED = INBOUND | {"declared-acks", "channel", "version", NUMBER}
"""Headers that whoever listens is not told, or not as they came."""


class MessageNotAllowed(SkerryError):
    """WRITE is missing on the message."""

    code = "messages:send.notallowed"
    status = 403
    message = "You may not send this message to or from the thing '{thing_id}'."
    description = "It takes WRITE on message:/{path} in the thing's policy, revoked nowhere below. Ask whoever may write policy:/ there."


class MessageTooLarge(SkerryError):
    """A message with more payload than is carried."""

    code = "messages:payload.toolarge"
    status = 413
    message = "The payload of the message has {size} bytes, {limit} are allowed."
    description = "Send less, or a reference to where the rest is. The setting message_max_bytes raises the limit."


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of a signal: the first answer (None: none was wanted, or none came), and the acknowledgements.

    `acks`: one for each label, the answer's `live-response` among them, where others than that were asked for.
    """

    answer: LiveSignal | None = None
    acks: dict[str, Ack] = field(default_factory=dict)


def labels_of(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The acknowledgements that a live signal with these headers waits for: the answer too, where one is wanted.

    Raises HeaderInvalid.
    """
    asked = [label for label in requested_acks(headers.get("requested-acks")) if label not in {PERSISTED, SEARCH}]
    if LIVE not in asked and response_required(headers):
        asked.append(LIVE)
    return tuple(asked)


class Live:
    """The live channel of one server."""

    def __init__(
        self,
        registry: Registry,
        acks: Acks,
        *,
        message_max_bytes: int = 256_000,
        waiting_of_one: int = OF_ONE,
        waiting_bytes: int = SIZE,
    ) -> None:
        """`registry` knows things and rights; `waiting_of_one`: how many answers one subject may wait for at a time.

        `waiting_bytes`: how much the questions of all may carry that wait.
        """
        self._registry = registry
        self._acks = acks
        self._reasons = Reasons(registry)
        self._limit = message_max_bytes
        self._listeners = Listeners()
        self._questions = Questions(registry.new_id, of_one=waiting_of_one, size=waiting_bytes)

    def subscribe(self, wanted: LiveWanted, take: Take, *, session: str = "") -> Leave:
        """Hand over from now on what is wanted and may be read. `session`: which does not get what it sends itself."""
        return self._listeners.join(Listener(wanted, take, session))

    async def send(
        self, signal: LiveSignal, sender: Sender, *, seconds: float, labels: tuple[str, ...] = (LIVE,)
    ) -> Outcome:
        """Check the sender's right, hand the signal to all who listen, wait for the answer and other acknowledgements in `labels`.

        `seconds` of 0 waits for nothing. Raises MessageNotAllowed, ThingNotAccessible ..., and CommandTimeout for an answer
        that did not come, if nothing else was asked for.
        """
        if sender.reach is not None:
            sender.reach.check("thing", signal.id)
        self._check_size(signal)
        told = _told(signal, sender, answered=seconds > 0 and LIVE in labels)
        try:
            delivery = await self._registry.memory.known(lambda: self._delivery(told, sender, signal.headers))
        except SkerryError as error:
            await self._refuse(signal, sender, error)
            raise
        await self._questions.passed_on(told.id, sender.origin)  # an answer comes before what is sent after it
        if seconds > 0 and labels:
            return await self._ask(signal, delivery, seconds, labels)
        delivery.hand_out()
        return Outcome()

    def answer(self, signal: LiveSignal, sender: Sender) -> bool:
        """Take the answer to a signal that somebody waits for; whether anybody did. The first one counts.

        Nobody waits for the answers of those who may not have had the question. Raises AdaptableIllegal for what answers nothing.
        """
        question = self._questions.find(signal.correlation)
        if question is None or question.delivery.told.id != signal.id or question.answer.done():
            return False
        asked = question.delivery.told
        if signal.action not in {"", asked.action} or signal.sort not in {asked.sort, "command"}:
            return False
        if not self._may_answer(question, sender):
            return False
        read = asked.action == "retrieve" and asked.sort == "command" and signal.status in GOOD
        if read and signal.value is UNSET:
            raise AdaptableIllegal(problem="an answer to retrieve has a value")
        self._questions.settle(question, _answered(signal, question, sender))
        return True

    def _check_size(self, signal: LiveSignal) -> None:
        """Raise MessageTooLarge for a message with too much payload: as it came, and as it stands in an envelope."""
        if signal.sort == "message" and (size := size_of(signal)) > self._limit:
            raise MessageTooLarge(size=size, limit=self._limit)

    def _delivery(self, told: LiveSignal, sender: Sender, asked: Mapping[str, str]) -> Delivery:
        """Who gets what of a signal with these headers. Raises what the sender is refused with, Lacking."""
        held = self._registry.memory.held("thing", told.id)
        if held.document is None:
            raise ThingNotAccessible(thing_id=told.id)
        policy_id, namespace, rights = held.document["policyId"], split_id(told.id)[0], self._registry.rights

        def permits_of(subjects: tuple[str, ...]) -> Permits | None:
            return rights.permits(None, policy_id, subjects, namespace)

        def holders() -> Collection[str]:
            try:
                whole = rights.effective(policy_id, namespace)
            except ImportInvalid:  # nobody may anything by such a policy
                return ()
            return () if whole is None else {name for entry in whole.entries for name in entry.entry["subjects"]}

        now = self._registry.clock()
        if told.sort != "message" or told.path != CLAIM:
            permits = permits_of(sender.subjects)
            if permits is None:
                raise ThingNotAccessible(thing_id=told.id)
            if told.sort == "event" and not permits.may("thing", told.path, "WRITE"):
                return Delivery(told, sender, policy_id, [])
            _check_right(told, sender, held, permits)
            if "condition" in asked:
                question = structs.replace(_command(told, sender), verb="retrieve", headers=dict(asked))
                guarded.check_condition(permits, held, question, now)

        def policy_of(policy_id: str) -> dict[str, Any] | None:
            return self._registry.memory.held("policy", policy_id).document

        parts = self._listeners.handed(told, held, holders, permits_of, now, policy_of=policy_of)
        return Delivery(told, sender, policy_id, parts)

    async def _ask(self, signal: LiveSignal, delivery: Delivery, seconds: float, labels: tuple[str, ...]) -> Outcome:
        """Hand the signal out and wait for what was asked for."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        told = delivery.told
        others = [label for label in labels if label != LIVE]
        with (
            self._questions.kept(delivery, answered=LIVE in labels, alone=not others) as question,
            self._acks.expecting(told.id, told.correlation, others, origin=delivery.sender.origin) as waiting,
        ):
            delivery.hand_out()
            if others:
                self._acks.reached(told.id, told.headers, delivery.sessions)
            answer = None if question is None else await self._first(question, signal, end)
            given = await waiting.gather(max(0.0, end - loop.time()), of=seconds)
        if not others:
            if answer is None:
                raise CommandTimeout(seconds=f"{seconds:g}", headers={"channel": "live"}, description=UNANSWERED)
            return Outcome(answer=answer)
        if question is not None:
            given[LIVE] = waiting.timed_out(LIVE, seconds) if answer is None else _ack_of(answer)
        known = {"correlation-id": signal.correlation}
        acks = {
            label: structs.replace(given[label], headers=given[label].headers | known, channel="live")
            for label in labels
        }
        return Outcome(answer=answer, acks=acks)

    async def _first(self, question: Question, signal: LiveSignal, end: float) -> LiveSignal | None:
        """The first answer, as far as the asker may read it; None where none came in time."""
        try:
            async with asyncio.timeout_at(end):
                answer = await question.answer
        except TimeoutError:
            return None
        headers = answer.headers | {"correlation-id": signal.correlation}
        answer = structs.replace(answer, headers=headers, topic=answer.topic if answer.action == "" else signal.topic)
        if signal.sort == "message" or answer.value is UNSET or answer.status not in GOOD:
            return answer
        return await self._registry.memory.known(lambda: self._readable(answer, signal, question.delivery.sender))

    def _readable(self, answer: LiveSignal, signal: LiveSignal, sender: Sender) -> LiveSignal:
        """What of the answer to a command the asker may read. Raises what says that it is nothing."""
        document = self._registry.memory.held("thing", signal.id).document
        if document is None:
            raise ThingNotAccessible(thing_id=signal.id)
        permits = self._registry.rights.permits(None, document["policyId"], sender.subjects, split_id(signal.id)[0])
        value = answer.value
        seen: Json = UNSET if permits is None else permits.view(signal.path, value)
        if seen is value:
            return answer
        if not signal.path and isinstance(value, dict) and "thingId" in value and permits is not None:
            seen = {"thingId": value["thingId"], **(seen if isinstance(seen, dict) else {})}
        if seen is UNSET and signal.action == "retrieve":
            if permits is None or not isinstance(value, dict) or not permits.may_partly("thing", signal.path, "READ"):
                raise parts.unreadable(signal.id, signal.path)
            seen = {}
        return structs.replace(answer, value=seen)

    def _may_answer(self, question: Question, sender: Sender) -> bool:
        """Whether somebody has had the question, or may have had it."""
        if sender.origin and sender.origin in question.reached:
            return True
        asked = question.delivery.told
        namespace = split_id(asked.id)[0]
        if sender.reach is not None and not sender.reach.covers("thing", namespace):
            return False
        try:
            permits = self._registry.rights.permits(None, question.delivery.policy_id, sender.subjects, namespace)
        except (SkerryError, Lacking):
            return False
        if permits is None:
            return False
        if asked.sort == "message":
            return permits.holds("message", resource_of(asked.path), "READ")
        return permits.holds("thing", asked.path, "READ")

    async def _refuse(self, signal: LiveSignal, sender: Sender, error: SkerryError) -> None:
        """Note a refusal for the audit trail, and put into it what the caller may know of its reason."""
        hidden = isinstance(error, ThingNotAccessible)
        if error.status != FORBIDDEN and not hidden:
            return
        command = _command(signal, sender)
        if signal.sort == "message":
            if isinstance(error, MessageNotAllowed):
                await self._reasons.attach_to_message(
                    error, signal.id, resource_of(signal.path), sender.subjects, sender.reach
                )
        elif error.status == FORBIDDEN:
            await self._reasons.attach(command, error, sender.reach)
        if error.status == FORBIDDEN or await self._exists(signal.id):
            self._registry.refuse(command, error)

    async def _exists(self, thing_id: str) -> bool:
        """Whether the thing is there, whoever may see it."""
        return (
            await self._registry.memory.known(lambda: self._registry.memory.held("thing", thing_id).document)
            is not None
        )


def _told(signal: LiveSignal, sender: Sender, *, answered: bool) -> LiveSignal:
    """A signal as those who listen are handed it."""
    headers = {name: text for name, text in signal.headers.items() if name not in _DROPPED}
    headers["channel"] = "live"
    headers["response-required"] = "true" if answered and signal.sort != "event" else "false"
    if sender.subjects:
        headers["ditto-originator"] = sender.subjects[0]
    value = signal.value
    if signal.sort == "message":
        headers |= _about(signal)
        if signal.raw is None and value is not UNSET:
            value = normal(value, headers.get("content-type", ""))
    else:
        headers["content-type"] = MERGE_PATCH if signal.action in {"merge", "merged"} else "application/json"
    return structs.replace(signal, headers=headers, value=value, extra=UNSET, origin=sender.origin)


def _about(signal: LiveSignal) -> dict[str, str]:
    """What the headers of a message say of it."""
    path = signal.path
    feature = path[1] if path[0] == "features" else None
    box = path[0] if feature is None else path[2]
    headers = {
        "ditto-message-direction": "TO" if box == "inbox" else "FROM",
        "ditto-message-subject": subject_of(path),
        "ditto-message-thing-id": signal.id,
    }
    if feature is not None:
        headers["ditto-message-feature-id"] = feature
    return headers


def _answered(signal: LiveSignal, question: Question, sender: Sender) -> LiveSignal:
    """An answer as the asker is given it."""
    headers = {name: text for name, text in signal.headers.items() if name not in _DROPPED and name != "requested-acks"}
    headers |= {"channel": "live", "response-required": "false"}
    if sender.subjects:
        headers["ditto-originator"] = sender.subjects[0]
    value = signal.value
    if question.delivery.told.sort == "message" and signal.sort == "message":
        headers |= _about(question.delivery.told)
        headers["status"] = str(signal.status)
        if value is not UNSET and signal.raw is None:
            value = normal(value, headers.get("content-type", ""))
    elif signal.sort == "command" and signal.action == "merge":
        headers["content-type"] = MERGE_PATCH
    else:
        headers.setdefault("content-type", "application/json")
    return structs.replace(signal, headers=headers, value=value, extra=UNSET, origin=sender.origin)


def _ack_of(answer: LiveSignal) -> Ack:
    """An answer as the acknowledgement that it is."""
    status = answer.status or 200
    return Ack(id=answer.id, label=LIVE, status=status, value=answer.value, headers=dict(answer.headers))


def _check_right(told: LiveSignal, sender: Sender, held: Held, permits: Permits) -> None:
    """Raise what a sender is refused with who may not send the signal, or whose condition does not hold."""
    command = _command(told, sender)
    if told.sort == "message":
        path = resource_of(told.path)
        if not permits.may("message", path, "WRITE"):
            raise MessageNotAllowed(thing_id=told.id, path="/".join(path))
    elif told.sort == "command" and told.action == "retrieve":
        if not permits.may_partly("thing", told.path, "READ"):
            raise parts.unreadable(told.id, told.path)
    elif told.sort == "command":
        at = refusals.refused_at(permits, command, held.document)
        if at is not None:
            raise refusals.refusal(command, at)


def _command(signal: LiveSignal, sender: Sender) -> Command:
    """A live command as one for the twin; what is none, as the audit trail has it."""
    action = signal.action if signal.sort == "command" else "send"
    return Command(
        verb=action,  # type: ignore[arg-type] # no registry carries out what is `send`
        id=signal.id,
        subjects=sender.subjects,
        path=signal.path,
        value=signal.value,
        headers=signal.headers,
        origin=sender.origin,
    )
