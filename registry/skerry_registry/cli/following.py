"""A WebSocket client that keeps following: it comes back when the connection breaks, and goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
from msgspec import Struct
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from skerry_registry.cli.client import Client, ServerAway, ServerRefused

FORGOTTEN, FAILING = 410, 500
NUMBER = "skerry-number"
OPENING, CLOSING = 10.0, 1.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
LARGEST = 16_000_000
"""Bytes of one message that we take."""


class Wish(Struct, frozen=True, kw_only=True):
    """What to be told: changes of the twins (`filter` in RQL, `extra` fields), and messages. `after`: a number of the journal."""

    namespaces: str | None = None
    filter: str | None = None
    extra: str | None = None
    messages: bool = False
    after: int | None = None


class Following:
    """What a server tells of, one envelope after the other, as long as somebody asks for the next."""

    def __init__(self, client: Client, wish: Wish, trouble: Callable[[str], None]) -> None:
        """`trouble` is told what is wrong, and an empty text when it is over."""
        self._client = client
        self._wish = wish
        self._trouble = trouble
        self._number = wish.after
        self._early: list[str] = []

    def envelopes(self, tick: float | None = None) -> Iterator[tuple[str, dict[str, Any]] | None]:
        """Each envelope as text and decoded; None when there was none for `tick` seconds.

        Raises ServerAway where the server cannot be reached at first, ServerRefused where it does not want to.
        """
        pause, before = FIRST_PAUSE, False
        while True:
            try:
                with self._open() as socket:
                    if self._number is None:
                        self._number = self._newest()
                    self._begin(socket)
                    pause, before = FIRST_PAUSE, True
                    self._trouble("")
                    yield from self._read(socket, tick)
            except (OSError, TimeoutError, ConnectionClosed, ServerAway) as error:
                if not before:
                    raise _away(self._client.url, error) from error
                self._trouble(f"{_broken(self._client.url, error)} Trying again.")
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)
            if tick is not None:
                yield None

    def _newest(self) -> int | None:
        """The number to go on from should the connection break before anything was told; None where the server has none."""
        try:
            return int(self._client.get("/api/2/feed?after=latest")[0]["next"])
        except (ServerRefused, KeyError, TypeError, ValueError):
            return None

    @contextmanager
    def _open(self) -> Iterator[ClientConnection]:
        try:
            socket = connect(
                _address(self._client.url),
                additional_headers=self._client.login,
                open_timeout=OPENING,
                close_timeout=CLOSING,
                max_size=LARGEST,
                proxy=None,
                compression=None,
            )
        except InvalidStatus as error:
            raise _refusal(self._client.url, error) from error
        except InvalidHandshake as error:
            raise ServerAway(url=self._client.url, reason=str(error)) from error
        with socket:
            yield socket

    def _begin(self, socket: ClientConnection) -> None:
        """Ask for everything that is wanted; what the journal has forgotten is told, and left out."""
        self._early.clear()
        if self._wish.messages:
            self._ask(socket, "START-SEND-MESSAGES", {"namespaces": self._wish.namespaces})
        try:
            self._ask(socket, "START-SEND-EVENTS", self._events())
        except _Forgotten as error:
            self._trouble(f"{error} Going on from now; what happened before is missing here.")
            self._number = None
            self._ask(socket, "START-SEND-EVENTS", self._events())

    def _events(self) -> dict[str, object]:
        wish = self._wish
        return {
            "namespaces": wish.namespaces,
            "filter": wish.filter,
            "extraFields": wish.extra,
            "resume-from": self._number,
        }

    def _ask(self, socket: ClientConnection, control: str, wanted: dict[str, object]) -> None:
        query = urlencode({name: value for name, value in wanted.items() if value not in (None, "")})
        socket.send(f"{control}?{query}" if query else control)
        while (text := str(socket.recv(timeout=OPENING))) != f"{control}:ACK":
            envelope = _decoded(text)
            if not _is_error(envelope):
                self._early.append(text)
            elif envelope.get("status") == FORGOTTEN:
                raise _Forgotten(_said(envelope))
            else:
                raise _told(self._client.url, envelope)

    def _read(self, socket: ClientConnection, tick: float | None) -> Iterator[tuple[str, dict[str, Any]] | None]:
        while True:
            try:
                text = self._early.pop(0) if self._early else str(socket.recv(timeout=tick))
            except TimeoutError:
                yield None
                continue
            envelope = _decoded(text)
            if _is_error(envelope):
                self._trouble(_said(envelope))
                continue
            number = (envelope.get("headers") or {}).get(NUMBER)
            yield text, envelope
            if isinstance(number, int):
                self._number = number


class _Forgotten(Exception):  # noqa: N818 - not an error that leaves this module
    """The journal does not reach back that far."""


def _address(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(("wss" if parts.scheme == "https" else "ws", parts.netloc, parts.path + "/ws/2", "", ""))


def _decoded(text: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_error(envelope: dict[str, Any]) -> bool:
    return str(envelope.get("topic", "")).endswith("/errors")


def _said(envelope: dict[str, Any]) -> str:
    value = envelope.get("value")
    return str(value.get("message", "") if isinstance(value, dict) else value)


def _told(url: str, envelope: dict[str, Any]) -> ServerRefused:
    """What the server says in an error envelope."""
    value = envelope.get("value")
    advice = value.get("description") if isinstance(value, dict) else None
    facts = {} if advice is None else {"description": advice}
    return ServerRefused(url=url, answer=envelope.get("status"), text=_said(envelope), **facts)


def _refusal(url: str, error: InvalidStatus) -> ServerRefused | ServerAway:
    """What the server says instead of opening a session; one that fails may do better later."""
    answer = error.response
    said = _decoded((answer.body or b"").decode(errors="replace")).get("message") or answer.reason_phrase
    if answer.status_code >= FAILING:
        return ServerAway(url=url, reason=said)
    return ServerRefused(url=url, answer=answer.status_code, text=said)


def _broken(url: str, error: Exception) -> str:
    """Why it does not go on for the moment."""
    if not isinstance(error, ConnectionClosed):
        return _away(url, error).text
    said = error.rcvd.reason if error.rcvd is not None else ""
    return f"The connection to {url} has ended{f' ({said})' if said else ''}."


def _away(url: str, error: Exception) -> ServerAway:
    if isinstance(error, ServerAway):
        return error
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ServerAway(url=url, reason=reason)
