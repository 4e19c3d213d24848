"""The socket under paho: device messages are read here, in bulk; every other packet goes through to paho.

Why: docs/decisions/0002-mqtt-client.md.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from skerry_adapters.inbound import Inbound

READ_BYTES = 262_144
PUBACK, PUBREC, PUBCOMP = b"\x40\x02", b"\x50\x02", b"\x70\x02"
_PUBLISH, _PUBREL = 3, 6
_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class WireBroken(Exception):  # noqa: N818 - a fact between wire and client, never shown
    """The broker sent what is not MQTT."""


class Wire:
    """A connected socket. paho calls the methods of a socket; the session calls `read`, `write` and `flush`.

    `watch_writable` is told whether the socket should be watched for room (it starts unset: nobody watches).
    """

    def __init__(self, inner: socket.socket, *, properties: bool) -> None:
        self.inner = inner
        self.properties = properties
        self.ended = False
        self.watch_writable: Callable[[bool], None] | None = None
        self._control = bytearray()
        self._arrived = bytearray()
        self._wanted = 0
        self._out = bytearray()
        self._watching = False

    def recv(self, size: int) -> bytes:
        """What there is for paho."""
        if self._control:
            data = bytes(self._control[:size])
            del self._control[:size]
            return data
        if self.ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | bytearray) -> int:
        """Send, or keep until there is room."""
        self.write(data)
        return len(data)

    def close(self) -> None:
        """Send what is left as far as it goes, and close."""
        self.flush()
        if self._watching and self.watch_writable is not None:
            self.watch_writable(False)
        self.ended = True
        self.inner.close()

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self.inner.fileno()

    def setblocking(self, flag: bool) -> None:
        """Pass on."""
        self.inner.setblocking(flag)

    def settimeout(self, seconds: float) -> None:
        """Pass on."""
        self.inner.settimeout(seconds)

    def do_handshake(self) -> None:
        """Pass on, where there is TLS; closed when it fails (paho would leave the socket open)."""
        if isinstance(self.inner, ssl.SSLSocket):
            try:
                self.inner.do_handshake()
            except OSError:
                self.close()
                raise

    @property
    def for_paho(self) -> bool:
        """Whether paho has something to read."""
        return self.ended or bool(self._control)

    def write(self, data: bytes | bytearray) -> None:
        """Send as much as goes at once, the rest when there is room."""
        self._out += data
        if not self._watching:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        try:
            while self._out and not self.ended:
                del self._out[: self.inner.send(self._out)]
        except _AGAIN:
            pass
        except OSError:
            self.ended = True
        if self.ended:
            self._out.clear()
        if self.watch_writable is not None and bool(self._out) != self._watching:
            self._watching = bool(self._out)
            self.watch_writable(self._watching)

    def read(self) -> tuple[list[Inbound], list[int]]:
        """The messages that have arrived, and the packet ids that the broker releases (PUBREL)."""
        try:
            data = self.inner.recv(READ_BYTES)
            while isinstance(self.inner, ssl.SSLSocket) and (more := self.inner.pending()):
                data += self.inner.recv(more)
        except _AGAIN:
            return [], []
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return [], []
        if self._arrived:
            self._arrived += data
            if len(self._arrived) < self._wanted:
                return [], []
            data = bytes(self._arrived)
            self._arrived.clear()
        return self._split(data)

    def _split(self, data: bytes) -> tuple[list[Inbound], list[int]]:
        messages: list[Inbound] = []
        released: list[int] = []
        at, end = 0, len(data)
        self._wanted = 0
        while end - at >= 2:
            size, body = data[at + 1], at + 2
            if size > 127:
                size, body = _length(data, at + 1)
                if not body:
                    break
            stop = body + size
            if stop > end:
                self._wanted = stop - at
                break
            kind = data[at] >> 4
            if kind == _PUBLISH:
                messages.append(self._message(data, data[at], body, stop))
            elif kind == _PUBREL and size >= 2:
                released.append(data[body] << 8 | data[body + 1])
            else:
                self._control += data[at:stop]
            at = stop
        if at < end:
            self._arrived += data[at:]
        return messages, released

    def _message(self, data: bytes, head: int, body: int, stop: int) -> Inbound:
        start = body + 2 + (data[body] << 8 | data[body + 1])
        qos = head >> 1 & 3
        mid = 0
        topic = data[body + 2 : start].decode("utf-8", "replace")
        if qos:
            mid = data[start] << 8 | data[start + 1]
            start += 2
        response_topic = correlation = None
        if self.properties:
            if data[start]:
                found, size = _properties(data[start:stop])
                response_topic = getattr(found, "ResponseTopic", None)
                correlation = getattr(found, "CorrelationData", None)
                start += size
            else:
                start += 1
        if start > stop or qos > 2:
            raise WireBroken("a PUBLISH is malformed")
        return Inbound(
            topic=topic,
            payload=data[start:stop],
            qos=qos,
            mid=mid,
            redelivered=bool(head & 8),
            retained=bool(head & 1),
            response_topic=response_topic,
            correlation=correlation,
        )


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer and the place behind it; place 0 when more must arrive first."""
    value = 0
    for shift in range(0, 28, 7):
        if at >= len(data):
            return 0, 0
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise WireBroken("a packet's length is malformed")


def _properties(data: bytes) -> tuple[Properties, int]:
    found = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it bare
    _, size = found.unpack(data)  # type: ignore[no-untyped-call]  # likewise
    return found, size


class Tap:
    """What paho takes for its TLS context: it puts a Wire around the socket, with TLS where `tls` is given."""

    def __init__(self, tls: ssl.SSLContext | None, *, properties: bool) -> None:
        self.check_hostname = True
        self.wire: Wire | None = None
        self._tls = tls
        self._properties = properties

    def wrap_socket(
        self, sock: socket.socket, server_hostname: str | None = None, *, do_handshake_on_connect: bool = False
    ) -> Wire:
        """Wrap the connected socket."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            sock = self._tls.wrap_socket(
                sock, server_hostname=server_hostname, do_handshake_on_connect=do_handshake_on_connect
            )
        self.wire = Wire(sock, properties=self._properties)
        return self.wire
