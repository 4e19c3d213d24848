"""A small HTTP client of a running server, for the commands that look into one."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from skerry.errors import SkerryError

PATIENCE = 600.0
"""Seconds without a byte of a long answer."""


class ServerAway(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """No server answers there."""

    code: ClassVar[str] = "server.away"
    status: ClassVar[int] = 503
    message: ClassVar[str] = "No server answers at {url}: {reason}."
    description: ClassVar[str | None] = "Start one with `skerry serve` or `skerry demo`, or name another with --url."


class ServerRefused(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """The server answers with an error."""

    code: ClassVar[str] = "server.refused"
    status: ClassVar[int] = 502
    message: ClassVar[str] = "{url} answers {answer}: {text}"
    description: ClassVar[str | None] = (
        "Log in with --user and --password, or the settings login_user and login_password."
    )


class Client:
    """Keeps one connection; opens it anew when it broke."""

    def __init__(self, url: str, user: str | None, password: str | None) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServerAway(url=url, reason="an address reads http://host:port")
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=10)
        self._headers = {"accept": "application/json"}
        self._user = user
        if user is not None:
            login = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
            self._headers["authorization"] = f"Basic {login}"

    @property
    def login(self) -> dict[str, str]:
        """The header that says who asks, if anybody does."""
        return {name: text for name, text in self._headers.items() if name == "authorization"}

    def get(self, path: str) -> tuple[Any, str | None]:
        """The JSON at a path, and the path of the next page. Raises ServerAway, ServerRefused."""
        return self._ask("GET", path, None)

    def post(self, path: str, value: Any) -> Any:
        """What the server answers to a question that changes nothing. Raises ServerAway, ServerRefused."""
        return self._ask("POST", path, msgspec.json.encode(value))[0]

    @contextmanager
    def answer(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[HTTPResponse]:
        """The answer as it comes in, however long that takes; a large one is read piece by piece.

        Raises ServerAway (the connection broke, too), ServerRefused where the answer is an error in JSON.
        """
        self._connection.timeout = PATIENCE
        try:
            self._connection.request(method, path, body, {**self._headers, **(headers or {})})
            answer = self._connection.getresponse()
            self._check(answer)
            yield answer
            answer.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ServerAway(url=self.url, reason=reason) from error
        except BaseException:
            self._connection.close()
            raise

    def _check(self, answer: HTTPResponse) -> None:
        if answer.status >= 400 and answer.getheader("content-type", "").startswith("application/json"):
            raise self._refusal(answer, msgspec.json.decode(answer.read()))

    def _refusal(self, answer: HTTPResponse, value: Any) -> ServerRefused:
        """What the server says, and its advice; who has not logged in is told how instead."""
        said: dict[str, Any] = value if isinstance(value, dict) else {}
        facts: dict[str, Any] = {"url": self.url, "answer": answer.status, "text": said.get("message") or answer.reason}
        if "description" in said and answer.status != 401:
            facts["description"] = said["description"]
        elif "description" in said and self._user is not None:
            facts["description"] = f"The login was {self._user}, with a password. {said['description']}"
        return ServerRefused(**facts)

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[Any, str | None]:
        """Ask, once more over a new connection where the old one broke."""
        headers = self._headers if body is None else {**self._headers, "content-type": "application/json"}
        for attempt in (1, 2):
            try:
                self._connection.request(method, path, body, headers)
                answer = self._connection.getresponse()
                text = answer.read()
                break
            except (OSError, HTTPException) as error:
                self._connection.close()
                if attempt == 2 or isinstance(error, ConnectionRefusedError):
                    raise ServerAway(
                        url=self.url, reason=getattr(error, "strerror", None) or str(error) or type(error).__name__
                    ) from error
        try:
            value = msgspec.json.decode(text) if text else None
        except msgspec.DecodeError:
            value = {"message": "not JSON; is this a Skerry server?"}
            if answer.status < 400:
                raise ServerRefused(url=self.url, answer=answer.status, text=value["message"]) from None
        if answer.status >= 400:
            raise self._refusal(answer, value)
        following = re.search(r'<([^>]+)>\s*;[^,]*rel="?next"?', answer.headers.get("link", ""))
        return value, _local(following[1]) if following else None

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()


def _local(link: str) -> str:
    parts = urlsplit(link)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
