"""The client of an external MQTT broker: a persistent session whose acknowledgements wait for the commit."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self, cast
from urllib.parse import unquote, urlsplit

from msgspec import Struct
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from skerry.signals import Clock, Micros
from skerry_adapters.inbound import Inbound, Take
from skerry_adapters.mqtt_downlink import WAITING, MqttDownlink
from skerry_adapters.mqtt_wire import PUBACK, PUBCOMP, PUBREC, Tap, Wire, WireBroken
from skerry_adapters.sources import Source

log = logging.getLogger(__name__)

BATCH = 500
FLIGHTS = 4
MOST_WAITING = 10_000
RECEIVE_MAXIMUM = 5_000
ANSWER_SECONDS = 10.0
LEAVE_SECONDS = 10.0
FIRST_WAIT = 0.2
LONGEST_WAIT = 30.0
WRONG_VERSION = 0x84
_ACKS = {1: PUBACK, 2: PUBREC}


class Address(Struct, frozen=True, kw_only=True):
    """Where the broker is and who we are there. `protocol`: the version tried first, 5 or 4 (3.1.1).

    `ca_file`: whom to trust with TLS, where that is not the system's list (or the file that SSL_CERT_FILE names).
    """

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = None
    client_id: str = "skerry"
    session_expiry: int = 86_400
    keepalive: int = 30
    protocol: int = 5
    ca_file: str | None = None

    @classmethod
    def read(
        cls,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        client_id: str = "skerry",
        session_expiry: int = 86_400,
    ) -> Address:
        """The address that mqtt://[user:password@]host[:port] names; ValueError says what is wrong.

        mqtts:// is MQTT over TLS; tcp:// and ssl://, as Ditto's connections write them, are the same two.
        """
        parts = urlsplit(url if "//" in url else f"mqtt://{url}")
        if parts.scheme not in {"mqtt", "mqtts", "tcp", "ssl"} or not parts.hostname:
            raise ValueError(
                f"'{parts.scheme}://{parts.hostname or ''}' is no address of a broker; write mqtt://host:1883"
            )
        tls = parts.scheme in {"mqtts", "ssl"}
        return cls(
            host=parts.hostname,
            port=parts.port or (8883 if tls else 1883),
            tls=tls,
            username=username if parts.username is None else unquote(parts.username),
            password=password if parts.password is None else unquote(parts.password),
            client_id=client_id,
            session_expiry=session_expiry,
        )


class Status(Struct, kw_only=True):
    """How the connection is, for /health. `since`: of this state. `protocol`: 5 or 4 (3.1.1). `resumed`: session kept."""

    connected: bool = False
    since: Micros = 0
    error: str | None = None
    protocol: int = 5
    resumed: bool = False
    connects: int = 0


class ConnectionFailed(OSError):  # noqa: N818 - a fact for the status, caught here
    """The broker refused us or went away."""


class _Flight(Struct, eq=False):
    """A batch on its way through `take`."""

    acks: bytes
    recorded: list[int]
    landed: bool = False


class MqttClient:
    """Hands what the broker delivers to `take` and acknowledges it, in order, once `take` has returned.

    `async with` connects in the background and stays connected, however long the broker is away; leaving takes nothing
    more, lets what is under way finish and parts without giving up the session.
    """

    def __init__(
        self,
        address: Address,
        sources: Sequence[Source],
        take: Take,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.address = address
        self.status = Status(since=clock(), error="not connected yet")
        self.downlink = MqttDownlink()
        self._filters = {topic: source.qos for source in sources for topic in source.filters}
        self._take = take
        self._clock = clock
        self._jitter = jitter
        self._protocol = MQTTProtocolVersion(address.protocol)
        self._spoken = False
        self._recorded: set[int] = set()
        self._waiting: deque[Inbound] = deque()
        self._flights: deque[_Flight] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wire: Wire | None = None
        self._gate: Callable[[bool], None] | None = None
        self._full = False
        self._answer: asyncio.Future[tuple[bool, int]] | None = None
        self._closed = asyncio.Event()
        self._leaving = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run(), name="mqtt client")
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._leaving.set()
        self._break("we are leaving")
        if self._running is not None:
            await self._running

    @property
    def waiting(self) -> int:
        """How many messages have arrived and are not yet on their way to `take`."""
        return len(self._waiting)

    async def abandon(self) -> None:
        """Break off at once, without a word to the broker: what is under way is delivered again to the next client."""
        tasks = [*self._tasks] if self._running is None else [self._running, *self._tasks]
        self._running = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        wait = FIRST_WAIT
        lost = 0
        while not self._leaving.is_set():
            connects = self.status.connects
            try:
                await self._session()
            except Exception as error:  # the edge's outermost loop: whatever it was, connect anew
                if self._leaving.is_set():
                    break
                if not isinstance(error, OSError | TimeoutError):
                    log.exception("mqtt client failed")
                self._note(False, str(error) or "no answer in time")
                lost = 0 if self.status.connects > connects else lost + 1
                if not self._spoken and self._refused_version(error, lost):
                    self._switch()
            await self._settle(None)
            if self.status.connects > connects:
                wait = FIRST_WAIT
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), wait * (0.5 + self._jitter()))
            wait = min(wait * 2, LONGEST_WAIT)
        await self._settle(0)
        self._note(False, None)

    def _refused_version(self, error: BaseException, lost: int) -> bool:
        """Whether the broker seems not to speak this version: it says so, or ends the connection without a word."""
        return isinstance(error, ConnectionFailed) and (error.errno == WRONG_VERSION or lost > 1)

    def _switch(self) -> None:
        five = self._protocol is MQTTProtocolVersion.MQTTv5
        self._protocol = MQTTProtocolVersion.MQTTv311 if five else MQTTProtocolVersion.MQTTv5

    async def _session(self) -> None:
        """One connection, from connecting until it is lost (an OSError or WireBroken) or we leave."""
        loop = asyncio.get_running_loop()
        self._closed.clear()
        self._answer = answer = loop.create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        tap = Tap(await self._tls(), properties=self._protocol is MQTTProtocolVersion.MQTTv5)
        client = self._client(tap, answer)
        await asyncio.to_thread(self._connect, client)
        wire = tap.wire
        assert wire is not None
        descriptor = wire.fileno()

        def watch(writable: bool) -> None:
            if writable:
                loop.add_writer(descriptor, wire.flush)
            else:
                loop.remove_writer(descriptor)

        def gate(open_: bool) -> None:
            if open_:
                loop.add_reader(descriptor, self._readable, client, wire)
            else:
                loop.remove_reader(descriptor)

        wire.watch_writable = watch
        self._wire = wire
        self._gate = gate
        try:
            gate(True)
            self._subscribe(client, self._begin(*await asyncio.wait_for(answer, ANSWER_SECONDS)))
            five = self._protocol is MQTTProtocolVersion.MQTTv5
            self.downlink.begin(client, five=five, resumed=self.status.resumed)
            while not self._closed.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closed.wait(), 1.0)
                client.loop_misc()
            if not self._leaving.is_set():
                raise ConnectionFailed(self.status.error or "the connection was lost")
            self._gate = None
            loop.remove_reader(descriptor)
            self._waiting.clear()
            await self._settle(LEAVE_SECONDS)
            client.disconnect()
        finally:
            loop.remove_reader(descriptor)
            self.downlink.end()
            self._wire = self._gate = None
            self._full = False
            self._waiting = deque(message for message in self._waiting if not message.qos)
            client.on_disconnect = None
            wire.close()

    def _break(self, why: str) -> None:
        """End the connection, or the wait for its beginning."""
        self.status.error = why
        self._closed.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionFailed(0, f"{why}, before it had answered"))

    def _begin(self, resumed: bool, maximum: int) -> int:
        """Note the connection; answers the best QoS that the broker has."""
        if not resumed:
            self._recorded.clear()
        self.status.resumed = resumed
        self.status.protocol = int(self._protocol)
        self.status.connects += 1
        self._spoken = True
        self._note(True, None)
        return maximum

    async def _tls(self) -> ssl.SSLContext | None:
        if not self.address.tls:
            return None
        return await asyncio.to_thread(ssl.create_default_context, cafile=self.address.ca_file)

    def _client(self, tap: Tap, answer: asyncio.Future[tuple[bool, int]]) -> Client:
        five = self._protocol is MQTTProtocolVersion.MQTTv5
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.address.client_id,
            clean_session=None if five else False,
            protocol=self._protocol,
            reconnect_on_failure=False,
        )
        if self.address.username is not None:
            client.username_pw_set(self.address.username, self.address.password)
        client.tls_set_context(cast("ssl.SSLContext", tap))

        def on_connect(
            _client: Client, _data: Any, flags: ConnectFlags, code: ReasonCode, said: Properties | None
        ) -> None:
            if answer.done():
                return
            if code.is_failure:
                answer.set_exception(ConnectionFailed(code.value, f"the broker refused the connection: {code}"))
            else:
                answer.set_result((flags.session_present, getattr(said, "MaximumQoS", 2)))

        def on_disconnect(
            _client: Client, _data: Any, flags: DisconnectFlags, code: ReasonCode, _said: Properties | None
        ) -> None:
            by = (
                "the broker ended the connection"
                if flags.is_disconnect_packet_from_server
                else "the connection was lost"
            )
            self._break(f"{by}: {code}")

        def on_subscribe(
            _client: Client, _data: Any, mid: int, codes: list[ReasonCode], _said: Properties | None
        ) -> None:
            if self.downlink.answered(mid, granted=not codes[0].is_failure):
                return
            for topic, code in zip(self._filters, codes, strict=False):
                if code.is_failure:
                    self.status.error = f"the broker refused the subscription to {topic}: {code}"
                    log.error("subscription refused", extra={"topic": topic, "reason": str(code)})

        client.on_connect = on_connect
        client.on_disconnect = on_disconnect
        client.on_subscribe = on_subscribe
        client.on_publish = self.downlink.settle
        client.max_queued_messages_set(WAITING)
        return client

    def _connect(self, client: Client) -> None:
        """Blocking: name lookup, TCP, TLS, and CONNECT sent."""
        where = self.address
        if self._protocol is MQTTProtocolVersion.MQTTv5:
            wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it bare
            wishes.SessionExpiryInterval = where.session_expiry
            wishes.ReceiveMaximum = RECEIVE_MAXIMUM
            client.connect(where.host, where.port, where.keepalive, clean_start=False, properties=wishes)
        else:
            client.connect(where.host, where.port, where.keepalive)

    def _subscribe(self, client: Client, maximum: int) -> None:
        """Subscribe to every source at once; retained messages only come with a subscription that is new (MQTT 5)."""
        wanted: list[Any] = [(topic, min(qos, maximum)) for topic, qos in self._filters.items()]
        if self._protocol is MQTTProtocolVersion.MQTTv5:
            wanted = [(topic, SubscribeOptions(qos=qos, retainHandling=1)) for topic, qos in wanted]
        if wanted:
            client.subscribe(wanted)
            client.loop_write()

    def _readable(self, client: Client, wire: Wire) -> None:
        """Something has arrived. The edge's outermost loop: what cannot be read ends the connection, which is made anew."""
        try:
            self._read(client, wire)
        except Exception as error:
            log.warning("mqtt connection unreadable", exc_info=not isinstance(error, WireBroken | IndexError))
            asyncio.get_running_loop().remove_reader(wire.fileno())
            self._break(f"the broker sent what is not MQTT: {error}")

    def _read(self, client: Client, wire: Wire) -> None:
        messages, released = wire.read()
        if messages:
            self._arrived(self.downlink.sift(messages))
        if released:
            self._recorded.difference_update(released)
            wire.write(b"".join([PUBCOMP + mid.to_bytes(2) for mid in released]))
        if wire.ended:
            asyncio.get_running_loop().remove_reader(wire.fileno())
        while wire.for_paho and client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS:
            pass
        client.loop_write()

    def _arrived(self, messages: list[Inbound]) -> None:
        if self._recorded:
            again = [message for message in messages if message.redelivered and message.mid in self._recorded]
            if again and self._wire is not None:
                self._wire.write(b"".join(PUBREC + message.mid.to_bytes(2) for message in again))
                messages = [message for message in messages if message not in again]
        self._waiting.extend(messages)
        self._pump()

    def _pump(self) -> None:
        """Send batches on their way while there is room; stop reading while too much waits."""
        while self._waiting and len(self._flights) < FLIGHTS:
            if len(self._waiting) <= BATCH:
                batch = list(self._waiting)
                self._waiting.clear()
            else:
                batch = [self._waiting.popleft() for _ in range(BATCH)]
            flight = _Flight(
                acks=b"".join([_ACKS[message.qos] + message.mid.to_bytes(2) for message in batch if message.qos]),
                recorded=[message.mid for message in batch if message.qos == 2],
            )
            self._flights.append(flight)
            task = asyncio.create_task(self._deal(batch, flight, self._wire))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        full = len(self._waiting) > MOST_WAITING
        if full != self._full and self._gate is not None:
            self._full = full
            self._gate(not full)

    async def _deal(self, batch: Sequence[Inbound], flight: _Flight, wire: Wire | None) -> None:
        try:
            await self._take(batch)
        except Exception:  # the edge's outermost loop: not acknowledged, so the broker delivers the batch again
            log.exception("intake failed", extra={"messages": len(batch)})
            self.status.error = "the intake failed; the log says why"
            self._closed.set()
            return
        flight.landed = True
        acks = b""
        while self._flights and self._flights[0].landed:
            landed = self._flights.popleft()
            acks += landed.acks
            self._recorded.update(landed.recorded)
        if acks and wire is not None and wire is self._wire:
            wire.write(acks)
        self._pump()

    async def _settle(self, seconds: float | None) -> None:
        """Wait for the batches under way; those that take longer than `seconds` (None: than until we leave) are given up."""
        if seconds is None:
            leaving = asyncio.create_task(self._leaving.wait())
            while self._tasks and not leaving.done():
                await asyncio.wait({*self._tasks, leaving}, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
        elif self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)
        given_up = list(self._tasks)
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        self._flights.clear()

    def _note(self, connected: bool, error: str | None) -> None:
        """Keep the state for /health; log when it changes."""
        status = self.status
        changed = status.connected != connected or (not connected and status.connects == 0 and status.error != error)
        if status.connected != connected:
            status.since = self._clock()
        status.connected, status.error = connected, error
        if changed and error is not None:
            log.warning("broker away", extra={"broker": f"{self.address.host}:{self.address.port}", "reason": error})
        elif changed and connected:
            log.info(
                "broker connected",
                extra={
                    "broker": f"{self.address.host}:{self.address.port}",
                    "protocol": status.protocol,
                    "resumed": status.resumed,
                },
            )
