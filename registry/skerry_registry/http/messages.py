"""Messages to and from things, claims and live commands over HTTP: the device's answer is the answer of the request."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from msgspec import UNSET

from skerry import headers, live, pointer, times, topics
from skerry.acks import PERSISTED, SEARCH
from skerry.headers import HeaderInvalid, LiveConditionNotAllowed
from skerry.ids import split_id
from skerry.live import CLAIM, LiveSignal
from skerry.signals import Command, Json, Path
from skerry_registry.http import bodies
from skerry_registry.http.acks import of_acks
from skerry_registry.http.answer import Answer, Header, of_response
from skerry_registry.http.errors import BodyTooLarge, MediaTypeUnsupported
from skerry_registry.http.request import Request
from skerry_registry.live import commands
from skerry_registry.live.channel import TIMEOUT, Live, MessageTooLarge, Outcome, labels_of
from skerry_registry.live.sender import Sender
from skerry_registry.live.wishes import AnswerNotWanted, wish_of
from skerry_registry.registry import Registry

MESSAGE_SECONDS, CLAIM_SECONDS = 60.0, 600.0
"""How long an answer is waited for at most."""
UNTYPED = "application/octet-stream"
SIMPLE = {"", "text/plain", "multipart/form-data", "application/x-www-form-urlencoded"}
"""What a browser sends anywhere without asking."""
EMPTY = {204, 205, 304}
"""Statuses without a body."""
SANDBOX: Header = (b"content-security-policy", b"sandbox; default-src 'none'")
"""What a device answers is shown by no browser as a page of this server."""
_GOOD = range(200, 300)
_BOX = re.compile(rb"(/features/[^/]+)?/(inbox|outbox)/messages/?")
_CLAIM = re.compile(rb"/inbox/claim/?")
_MESSAGE = re.compile(rb"(/features/[^/]+)?/(inbox|outbox)/messages/(.*)", re.DOTALL)
_MEDIA = re.compile(r"[!-~]+/[!-~]+[ -~]*")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class Wish(NamedTuple):
    """How long to wait, for what, and whether the caller wants to be told."""

    seconds: float
    labels: tuple[str, ...]
    answer: bool


class Messages:
    """Answers messages, claims, live commands and reads that choose their channel."""

    def __init__(self, registry: Registry, channel: Live, *, max_bytes: int, cors_origins: str = "") -> None:
        """`max_bytes`: of a message's payload; `cors_origins`: other sites that may send messages for who is logged in here."""
        self._registry = registry
        self._live = channel
        self._max_bytes = max_bytes
        self._origins = {origin.strip() for origin in cors_origins.split(",")} - {"", "*"}

    async def message(self, request: Request, thing_id: str, path: Path) -> Answer:
        """Carry a message, or a claim. Raises SkerryError."""
        claim = path == CLAIM
        wish = _wish_of(request.ditto, most=CLAIM_SECONDS if claim else MESSAGE_SECONDS)
        signal = await self._signal(request, thing_id, path, wish)
        outcome = await self._live.send(signal, _sender(request), seconds=wish.seconds, labels=wish.labels)
        return _answer(outcome, wish, _of_message)

    async def command(self, request: Request, command: Command, path: bytes) -> Answer:
        """Carry out a command for the live channel, or a read that chooses; `path` is where what it makes will be. Raises SkerryError."""
        if commands.CONDITION in command.headers and command.verb != "retrieve":
            raise LiveConditionNotAllowed
        sender = _sender(request)
        if commands.is_smart(command):
            known = wish_of(request.ditto, query=True)
            seconds = known.timeout if "timeout" in request.ditto else TIMEOUT
            return of_response(await commands.retrieve(self._registry, self._live, command, sender, seconds=seconds))
        asked = _wish_of(request.ditto)
        if command.verb == "retrieve" and not (asked.answer and asked.seconds):
            raise AnswerNotWanted
        signal = commands.signal_of(command)
        outcome = await self._live.send(signal, sender, seconds=asked.seconds, labels=asked.labels)
        location = request.origin + path.removesuffix(b"/").decode("latin-1")
        return _answer(
            outcome, asked, lambda answer: _without_body(of_response(commands.response_of(answer), location))
        )

    async def _signal(self, request: Request, thing_id: str, path: Path, wish: Wish) -> LiveSignal:
        """The message in a request. Raises MessageTooLarge, JsonInvalid, MediaTypeUnsupported."""
        media = request.edge.get("content-type", "")
        self._check_site(request, media)
        try:
            raw = await request.body_in_time(self._max_bytes)
        except BodyTooLarge as error:
            size = request.edge.get("content-length", f"more than {self._max_bytes}")
            raise MessageTooLarge(size=size, limit=self._max_bytes) from error
        asked = request.of_sender() | request.ditto
        asked["timeout"] = f"{wish.seconds:g}" if wish.seconds.is_integer() else f"{wish.seconds * 1000:g}ms"
        asked["timestamp"] = times.write(self._registry.clock())
        value: Json = UNSET
        if raw:
            asked["content-type"] = media = media or UNTYPED
            value = bodies.decode(raw) if live.is_json(media) else live.value_of(raw, media)
        elif media:
            asked["content-type"] = media
        namespace, name = split_id(thing_id)
        topic = topics.Topic(
            namespace=namespace, name=name, channel="live", criterion="messages", action=live.subject_of(path)
        )
        return LiveSignal(
            sort="message",
            id=thing_id,
            topic=topics.write(topic),
            path=path,
            value=value,
            headers=asked,
            raw=raw or None,
        )

    def _check_site(self, request: Request, media: str) -> None:
        """Refuse what a page of another site could send in the name of whoever has logged in here before."""
        origin = request.edge.get("origin")
        if origin is None or origin == request.origin or origin in self._origins:
            return
        if media.partition(";")[0].strip().lower() in SIMPLE:
            raise MediaTypeUnsupported(
                given=media,
                method=request.method,
                accepted="any other type from another site",
                description="Pages of other sites send messages with a type that a browser asks about first, application/json for "
                "instance, or are named in the setting cors_origins.",
            )


def path_in(below: bytes) -> Path | None:
    """The path of the message or claim that a URL names with what stands `below` the thing's id; None where it names none.

    A subject stays as it stands in the URL (Ditto 3.9.6). Raises SubjectInvalid, PointerInvalid, JsonKeyInvalid.
    """
    if _CLAIM.fullmatch(below):
        return CLAIM
    found = _MESSAGE.fullmatch(below)
    if found is None:
        return None
    feature = pointer.from_url(found[1])[1] if found[1] is not None else None
    return live.message_path(found[2].decode(), found[3].decode("latin-1"), feature)


def box_in(below: bytes) -> Path | None:
    """The path of all messages to the inbox, or from the outbox, that a URL names; None where it names none."""
    found = _BOX.fullmatch(below)
    if found is None:
        return None
    feature = ("features", pointer.from_url(found[1])[1]) if found[1] is not None else ()
    return (*feature, found[2].decode(), "messages")


def _sender(request: Request) -> Sender:
    """Who sends it."""
    assert request.caller is not None
    return Sender(subjects=request.caller.subjects, reach=request.reach, origin=request.where)


def _wish_of(ditto: Mapping[str, str], *, most: float | None = None) -> Wish:
    """What the caller waits for. Raises the errors of headers that make no sense (alone or together)."""
    seconds = headers.timeout(ditto.get("timeout"), TIMEOUT, most)
    labels = labels_of(ditto)
    answer = headers.response_required(ditto)
    if seconds == 0:
        asked = set(headers.requested_acks(ditto.get("requested-acks"))) - {PERSISTED, SEARCH}
        if asked or (answer and "response-required" in ditto):
            raise HeaderInvalid(
                name="timeout",
                value=ditto.get("timeout", ""),
                problem="a request that waits for an answer or for acknowledgements needs more than 0",
            )
        labels = ()
    return Wish(seconds, labels, answer)


def _answer(outcome: Outcome, wish: Wish, of_answer: Callable[[LiveSignal], Answer]) -> Answer:
    """What the caller is told."""
    if outcome.acks:
        return of_acks(outcome.acks, answer=wish.answer)
    if outcome.answer is None:
        return Answer(202)
    answer = of_answer(outcome.answer)
    return answer if wish.answer or answer.status not in _GOOD else Answer(202)


def _of_message(answer: LiveSignal) -> Answer:
    """A device's answer to a message: status, body and type are its own."""
    told = answer.headers
    found: list[Header] = [
        (name.encode(), _CONTROLS.sub("?", told[name]).encode()) for name in commands.SHOWN if name in told
    ]
    status = answer.status or 200
    body = b"" if status in EMPTY else live.payload_of(answer)
    if body:
        media = told.get("content-type", UNTYPED)
        found.append((b"content-type", (media if _MEDIA.fullmatch(media) else UNTYPED).encode()))
        found.append(SANDBOX)
    return Answer(status, body, tuple(found))


def _without_body(answer: Answer) -> Answer:
    """The answer as HTTP allows it."""
    return Answer(answer.status, b"", answer.headers) if answer.status in EMPTY else answer
