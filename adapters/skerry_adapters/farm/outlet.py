"""A device's way out: publishing over MQTT at QoS 1, with a bounded number of messages on their way."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, ClassVar, Self

import paho.mqtt.client as paho
from msgspec import Struct
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from skerry.errors import SkerryError
from skerry_adapters.mqtt import Address

_PATIENCE = 10.0


class BrokerRefused(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """There is no broker to publish to, or it does not let us in."""

    code: ClassVar[str] = "mqtt.broker.refused"
    status: ClassVar[int] = 503
    message: ClassVar[str] = "The MQTT broker at {where} {reason}."
    description: ClassVar[str | None] = "Is the server running, and do address and login fit its settings?"


class Broker(Struct, frozen=True, kw_only=True):
    """Where to publish, and as whom."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    tls: bool = False

    @property
    def where(self) -> str:
        """The address, for people."""
        return f"{self.host}:{self.port}"


def broker_at(url: str, username: str | None = None, password: str | None = None) -> Broker:
    """The broker of an address mqtt://[user:password@]host[:port], mqtts:// for TLS. Raises BrokerRefused."""
    try:
        read = Address.read(url, username=username, password=password)
    except ValueError as error:
        raise BrokerRefused(where=url.rpartition("@")[2], reason=f"cannot be: {error}") from error
    return Broker(host=read.host, port=read.port, username=read.username, password=read.password, tls=read.tls)


class Outlet:
    """Publishes in order; after a lost connection it comes back and sends again what was not acknowledged.

    `window`: how many messages may be on their way. One thread publishes; `stop` ends every wait.
    """

    def __init__(self, broker: Broker, *, stop: threading.Event, window: int = 500) -> None:
        self._broker = broker
        self._stop = stop
        self._free = threading.Semaphore(window)
        self._refused: str | None = None
        self._greeted = threading.Event()
        self._order: deque[int] = deque()
        self._acks: deque[int] = deque()
        self._ahead: set[int] = set()
        self._acknowledged = 0
        self.connected = False
        self.reconnects = 0
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
        client.max_inflight_messages_set(window)
        client.reconnect_delay_set(1, 5)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls:
            client.tls_set()
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        self._client = client

    def __enter__(self) -> Self:
        """Connect; a broker that is only just starting is waited for. Raises BrokerRefused."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self._client.connect(self._broker.host, self._broker.port, keepalive=30)
                break
            except OSError as error:
                if time.monotonic() > until or self._stop.wait(0.1):
                    raise BrokerRefused(where=self._broker.where, reason=f"does not answer ({error})") from error
        self._client.loop_start()
        if not self._greeted.wait(_PATIENCE) or self._refused:
            reason = f"refuses us: {self._refused}" if self._refused else "takes the connection but does not speak MQTT"
            self.__exit__()
            raise BrokerRefused(where=self._broker.where, reason=reason)
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, topic: str, payload: bytes) -> bool:
        """Publish, waiting while the window is full; False when stopped before there was room."""
        while not self._free.acquire(timeout=0.2):
            if self._stop.is_set():
                return False
        self._order.append(self._client.publish(topic, payload, qos=1).mid)
        return True

    @property
    def acknowledged(self) -> int:
        """How many messages, from the first on without a gap, the broker has acknowledged."""
        while self._acks:
            self._ahead.add(self._acks.popleft())
        while self._order and self._order[0] in self._ahead:
            self._ahead.remove(self._order.popleft())
            self._acknowledged += 1
        return self._acknowledged

    def drain(self, timeout: float) -> bool:
        """Wait until everything is acknowledged; False if it is not in time."""
        until = time.monotonic() + timeout
        pause = threading.Event()
        while self.acknowledged >= 0 and self._order:
            if time.monotonic() > until:
                return False
            pause.wait(0.01)
        return True

    def _on_connect(self, _client: paho.Client, _data: Any, _flags: Any, code: ReasonCode, _properties: Any) -> None:
        if code.is_failure:
            self._refused = str(code)
        else:
            self.reconnects += self._greeted.is_set()
            self.connected = True
        self._greeted.set()

    def _on_disconnect(
        self, _client: paho.Client, _data: Any, _flags: Any, _code: ReasonCode, _properties: Any
    ) -> None:
        self.connected = False

    def _on_publish(self, _client: paho.Client, _data: Any, mid: int, _code: ReasonCode, _properties: Any) -> None:
        self._acks.append(mid)
        self._free.release()
