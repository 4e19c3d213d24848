"""One WebSocket session: frames in, replies and what it has subscribed to out (ditto.md 2.2)."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from skerry import protocol, topics
from skerry.errors import SkerryError
from skerry.values import JsonInvalid, decode, name
from skerry_registry.identities.refusals import KeysUnavailable
from skerry_registry.users import TooManyRequests
from skerry_registry.ws import controls
from skerry_registry.ws.controls import Control, Token
from skerry_registry.ws.lease import Lease
from skerry_registry.ws.searching import Searching
from skerry_registry.ws.shared import framed
from skerry_registry.ws.streaming import Streaming
from skerry_registry.ws.wants import Wants
from skerry_registry.ws.wire import frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from skerry_registry.identities.caller import Caller
    from skerry_registry.identities.logins import Session as Login
    from skerry_registry.identities.namespaces import Reach
    from skerry_registry.live.sender import Sender
    from skerry_registry.ws.shared import Shared
    from skerry_registry.ws.wire import Wire

log = logging.getLogger(__name__)

ABREAST = 100
"""Commands of one session that are under way before it is read on."""
WAITING = 1_000
"""Live signals and commands with acknowledgements that wait for others at a time; they must not keep the session from answering."""
WAITING_BYTES = 16_777_216
"""Bytes of the envelopes that wait so."""
SOME, MUCH, TOO_MUCH = 65_536, 1_048_576, 16_777_216
"""Bytes that the client has not taken: nothing more is read from it; too many for long; too many at any time."""
PATIENCE = 5.0
"""Seconds for which a client may be behind by MUCH."""
BEHIND = 536_870_912
"""Bytes that all clients together have not taken, where they are SOME: who is behind by MUCH is let go of then; at twice that whoever is behind."""
OVER = 1.25
"""What a second may bring over the bound before frames are refused, as in Ditto."""
NORMAL, TRY_LATER = 1000, 1013


class Session:
    """The listener of one wire."""

    __slots__ = (
        "_always_waits",
        "_busy",
        "_crowded",
        "_defaults",
        "_id",
        "_labels",
        "_late",
        "_lease",
        "_open",
        "_paused",
        "_room",
        "_searching",
        "_second",
        "_sender",
        "_shared",
        "_streaming",
        "_taken",
        "_tasks",
        "_waiting",
        "_waiting_bytes",
        "_wants",
        "_wire",
    )

    def __init__(
        self,
        shared: Shared,
        sender: Sender,
        login: Login,
        *,
        id: str,  # noqa: A002 - the model's word
        defaults: Mapping[str, str],
        labels: tuple[str, ...] = (),
        reach_of: Callable[[Caller], Reach | None] | None = None,
    ) -> None:
        """`defaults`: headers of the handshake; `labels`: acknowledgements it declares.

        `reach_of`: what a caller with a new token would reach; None: as before.
        """
        self._shared = shared
        self._sender = sender
        self._id = id
        self._defaults = defaults
        self._labels = labels
        self._always_waits = not _WAITING.isdisjoint(defaults)
        self._lease = Lease(shared, sender, login, reach_of, self._end)
        self._wire: Wire | None = None
        self._wants: Wants | None = None
        self._searching: Searching | None = None
        self._streaming: Streaming | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._room: asyncio.Event | None = None
        self._waiting: set[asyncio.Task[None]] = set()
        self._waiting_bytes = 0
        self._busy = 0
        self._paused = False
        self._crowded = 0.0
        self._late = 0
        self._second = self._taken = 0
        self._open = False

    # What the wire calls.

    def opened(self, wire: Wire) -> None:
        """Declare what it acknowledges; another session's labels end it."""
        self._wire = wire
        self._open = True
        self._shared.counts.sessions += 1
        if self._labels:
            try:
                self._shared.streams.acks.declare(self._sender.origin, self._labels)
            except SkerryError as error:
                self._end(error)
                return
        self._lease.begin()

    def received(self, text: str) -> None:
        """Take a frame: an envelope or a control frame."""
        if not self._open:
            return
        self._shared.counts.received += 1
        try:
            if self._is_over():
                raise TooManyRequests(
                    reason=f"this session may send {self._shared.frames_per_second} frames in a second",
                    description="Nothing was done. Send it again in a second, and go on more slowly.",
                    headers=_correlation_in(text),
                )
            if not text.startswith("{") and (control := controls.read(text)) is not None:
                self._control(control)
            else:
                self._envelope(_object(text), len(text))
        except SkerryError as error:
            self._refuse(error, None)

    def drained(self) -> None:
        """The client has caught up."""
        self._crowded = 0.0
        self._fall_behind(0)
        if self._room is not None:
            self._room.set()
        self._flow()

    def closed(self) -> None:
        """Forget everything about it."""
        self._leave()
        self._fall_behind(0)
        if self._wire is not None:
            self._shared.counts.sessions -= 1
            self._wire = None

    # Frames in.

    def _control(self, control: Control | Token) -> None:
        if isinstance(control, Token):
            self._begin(self._renew(control.text))
            return
        wants = self._wants
        if wants is None:
            wants = self._wants = Wants(self._shared, self._sender, self._tell, self._say, self.room)
        correlation = control.parameters.get("correlation-id") or self._id
        refuse = partial(self._refuse, correlation=correlation)
        if not control.start:
            wants.stop(control.sort)
            self._say(control.acknowledgement)
            return
        try:
            wants.start(control, lambda error: refuse(error, None))
        except SkerryError as error:
            refuse(error, None)

    def _envelope(self, envelope: dict[str, Any], size: int) -> None:
        topic = _topic_of(envelope)
        if topic is not None and topic.criterion in {"search", "streaming"}:
            self._dialog(envelope, topic.criterion)
            return
        waits = topic is not None and "status" not in envelope and (self._always_waits or _waits(envelope, topic))
        if waits and (len(self._waiting) >= WAITING or self._waiting_bytes + size > WAITING_BYTES):
            raise TooManyRequests(
                reason=f"{len(self._waiting)} signals of this session wait for others already",
                description="Nothing was done. Wait for answers, or ask with shorter timeouts.",
                headers=_correlation_of(envelope),
            )
        self._begin(self._answer(envelope), waits=size if waits else 0)

    def _dialog(self, envelope: dict[str, Any], criterion: str) -> None:
        """What opens, feeds or ends a stream that is taken piece by piece."""
        given = envelope.get("headers")
        if given is None or isinstance(given, dict):
            given = {**self._defaults, **(given or {})}
            given.setdefault("correlation-id", self._shared.registry.new_id())
        shared = self._shared
        dialog: Searching | Streaming
        if criterion == "search":
            if self._searching is None:
                self._searching = Searching(shared.registry, shared.search, self._reply, self.room)
            dialog = self._searching
        else:
            if self._streaming is None:
                self._streaming = Streaming(shared.registry, self._reply, self.room)
            dialog = self._streaming
        dialog.handle({**envelope, "headers": given}, self._sender)

    async def _answer(self, envelope: Any) -> None:
        reply = await self._shared.envelopes.handle(envelope, self._sender, self._defaults)
        if reply is not None:
            self._reply(reply)

    # Frames out.

    def _tell(self, data: bytes) -> None:
        """Send what was subscribed to; who does not take it is let go of, for others wait for nobody."""
        wire = self._wire
        if not self._open or wire is None:
            return
        wire.send(data)
        self._shared.counts.sent += 1
        waiting = wire.waiting
        if waiting > SOME or self._late:
            self._fall_behind(waiting)
        if waiting <= SOME or not self._is_too_slow(waiting):
            return
        self._shared.counts.slow += 1
        log.warning("slow session ended", extra={"origin": self._sender.origin, "bytes": waiting})
        self._leave()
        wire.close(TRY_LATER, f"{waiting} bytes wait for you; read faster, or subscribe to less")

    def _is_too_slow(self, waiting: int) -> bool:
        """Whether a client with so much to take is waited for no longer."""
        behind = self._shared.counts.behind
        if waiting < MUCH:
            self._crowded = 0.0
            return behind > 2 * BEHIND
        now = asyncio.get_running_loop().time()
        self._crowded = self._crowded or now
        return waiting > TOO_MUCH or behind > BEHIND or now - self._crowded > PATIENCE

    def _fall_behind(self, waiting: int) -> None:
        """Note how much the client has not taken."""
        self._shared.counts.behind += waiting - self._late
        self._late = waiting

    def _send(self, data: bytes) -> None:
        """Send a reply; who does not take replies is not read on."""
        if self._open and self._wire is not None:
            self._wire.send(data)
            self._shared.counts.sent += 1
            self._flow()

    def _reply(self, envelope: dict[str, Any]) -> None:
        self._send(framed(envelope))

    def _say(self, text: str) -> None:
        self._send(frame(text.encode()))

    def _refuse(self, error: SkerryError, topic: str | None, correlation: str = "") -> None:
        headers = {"correlation-id": correlation} if correlation else {}
        self._reply(protocol.error_envelope(error, topic, headers))

    async def room(self) -> None:
        """Return when the client has taken most of what was sent."""
        while self._open and self._wire is not None and self._wire.waiting > SOME:
            if self._room is None:
                self._room = asyncio.Event()
            self._room.clear()
            await self._room.wait()

    # Work under way.

    def _begin(self, work: Any, *, waits: int = 0) -> None:
        """Do it beside; what waits for others, so many bytes of it, does not count as work."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        if waits:
            self._waiting.add(task)
            self._waiting_bytes += waits
            task.add_done_callback(partial(self._waited, waits))
        else:
            self._busy += 1
            task.add_done_callback(self._worked)
            self._flow()

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._busy -= 1
        self._done(task)
        if self._paused:
            self._flow()

    def _waited(self, size: int, task: asyncio.Task[None]) -> None:
        self._waiting.discard(task)
        self._waiting_bytes -= size
        self._done(task)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("session failed", extra={"origin": self._sender.origin}, exc_info=error)

    def _flow(self) -> None:
        """Read on, or not."""
        wire = self._wire
        if wire is None or not self._open:
            return
        full = self._busy >= ABREAST or wire.waiting > SOME
        if full and not self._paused:
            self._paused = True
            wire.pause()
        elif self._paused and not full:
            self._paused = False
            wire.resume()

    def _is_over(self) -> bool:
        """Whether this frame is one too many in this second."""
        limit = self._shared.frames_per_second
        if not limit:
            return False
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._taken = second, 0
        self._taken += 1
        return self._taken > limit * OVER

    # How it ends.

    async def _renew(self, token: str) -> None:
        try:
            await self._lease.renew(token)
        except KeysUnavailable as error:
            self._refuse(error, None, correlation=self._id)

    def _end(self, error: SkerryError) -> None:
        """Say why, and close."""
        wire = self._wire
        if not self._open or wire is None:
            return
        self._refuse(error, None, correlation=self._id)
        self._leave()
        wire.close(NORMAL, error.text)

    def _leave(self) -> None:
        """Nothing more goes in or out. Commands that came are carried out; nobody waits for others any more."""
        self._open = False
        self._lease.close()
        if self._wants is not None:
            self._wants.close()
        for dialog in (self._searching, self._streaming):
            if dialog is not None:
                dialog.close()
        if self._labels:
            self._shared.streams.acks.withdraw(self._sender.origin)
        if self._room is not None:
            self._room.set()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._give_up)  # what came just now has begun by then

    def _give_up(self) -> None:
        """Wait for nobody any more."""
        for task in self._waiting:
            task.cancel()


def _object(text: str) -> dict[str, Any]:
    """The envelope in a frame. Raises JsonInvalid."""
    found = decode(text)
    if not isinstance(found, dict):
        raise JsonInvalid(at="/", problem=f"an envelope is an object, not {name(found)}")
    return found


def _topic_of(envelope: dict[str, Any]) -> topics.Topic | None:
    """The topic of an envelope, where it can be read."""
    text = envelope.get("topic")
    if not isinstance(text, str):
        return None
    try:
        return topics.parse(text)
    except topics.TopicUnknown:
        return None


_WAITING = frozenset({"requested-acks", "live-channel-condition", "live-channel-timeout-strategy"})
"""Headers of commands that may wait for what others do."""


def _waits(envelope: dict[str, Any], topic: topics.Topic) -> bool:
    """Whether an envelope may wait for what others do."""
    headers = envelope.get("headers")
    asks = isinstance(headers, dict) and any(title.lower() in _WAITING for title in headers)
    return asks or (topic.channel == "live" and topic.criterion != "events")


def _correlation_of(envelope: Any) -> dict[str, str]:
    """The correlation id of an envelope that is refused."""
    headers = envelope.get("headers") if isinstance(envelope, dict) else None
    found = headers.get("correlation-id") if isinstance(headers, dict) else None
    return {"correlation-id": found} if isinstance(found, str) else {}


def _correlation_in(text: str) -> dict[str, str]:
    """The correlation id in a frame that is refused."""
    try:
        return _correlation_of(decode(text))
    except SkerryError:
        return {}
