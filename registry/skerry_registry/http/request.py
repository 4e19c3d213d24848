"""One HTTP request as the edge sees it: raw path, headers told apart, query, body with limits."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from litestar.types import Receive, Scope

from skerry.headers import SIZE_LIMIT, HeaderInvalid, HeadersTooLarge, check_types
from skerry.protocol import OURS
from skerry_registry.http.errors import (
    BodyLate,
    BodyTooLarge,
    DuplicateHeader,
    RoomTaken,
    UriTooLong,
)
from skerry_registry.identities.caller import Caller
from skerry_registry.identities.namespaces import Reach
from skerry_registry.patience import within

URI_MAX = 33_792
"""Bytes of path and query; request lines of 32 KiB fit."""
HEADER_MAX = 16_384
HEADERS_MAX = 64
BODY_PATIENCE = 30.0
BODY_SMALL = 8_192
"""What the server itself lets go of between two requests."""

DITTO_HEADERS = {
    name.encode(): name
    for name in (
        "accept",
        "allow-policy-lockout",
        "at-historical-revision",
        "at-historical-timestamp",
        "channel",
        "condition",
        "correlation-id",
        "declared-acks",
        "delete-metadata",
        "dry-run",
        "get-metadata",
        "if-equal",
        "if-match",
        "if-none-match",
        "live-channel-condition",
        "live-channel-timeout-strategy",
        "merge-thing-patch-conditions",
        "policy-view",
        "put-metadata",
        "requested-acks",
        "response-required",
        "timeout",
    )
}
"""What travels on to the registry."""
EDGE_HEADERS = {
    name.encode(): name
    for name in (
        "access-control-request-headers",
        "access-control-request-method",
        "authorization",
        "ce-dataschema",
        "ce-id",
        "ce-source",
        "ce-specversion",
        "ce-type",
        "content-length",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
        "if-modified-since",
        "last-event-id",
        "origin",
        "transfer-encoding",
        "x-correlation-id",
        "x-ditto-pre-authenticated",
        "x-forwarded-proto",
    )
}
"""What the edge reads itself."""
LARGE = {b"cookie"}
"""Headers that are none of a command's, however long; what else is unknown counts as Ditto counts it."""
REPEATABLE = {"accept", "x-forwarded-proto"}
QUERY_HEADERS = {
    "accept",
    "allow-policy-lockout",
    "at-historical-revision",
    "at-historical-timestamp",
    "channel",
    "condition",
    "correlation-id",
    "declared-acks",
    "dry-run",
    "live-channel-condition",
    "live-channel-timeout-strategy",
    "policy-view",
    "requested-acks",
    "response-required",
    "timeout",
}
"""Headers that may come as query parameters (ditto.md 1.2)."""
CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
OF_TRANSPORT = re.compile(
    r"accept.*|access-control-.*|age|cache-control|cdn-.*|cf-.*|connection|content-.*|cookie|date|ditto-.*|dnt|early-data"
    r"|expect.*|forwarded|from|if-.*|keep-alive|max-forwards|origin|pragma|priority|proxy-.*|purpose|range|referer"
    r"|save-data|sec-.*|te|trailer|transfer-encoding|true-client-ip|upgrade.*|user-agent|via|warning|x-amzn-.*|x-api-key"
    r"|x-client-.*|x-cluster-.*|x-csrf.*|x-ditto-.*|x-forwarded.*|x-original.*|x-real-ip|x-request-.*|x-requested-with|x-xsrf.*"
    r"|.*(?:authenti|authoriz|credential|passw|secret|token).*"
)
"""Headers that are between the client, proxies and us, or may be secrets: they do not travel on with a message or an event."""


class Room:
    """How many bytes of bodies may be in memory at a time, of all requests together."""

    def __init__(self, limit: int = 256_000_000) -> None:
        """`limit` is far beyond what honest clients have under way."""
        self.left = limit

    def take(self, size: int) -> None:
        """Take some of it. Raises RoomTaken."""
        if size > self.left:
            raise RoomTaken(headers={"retry-after": "5"})
        self.left -= size

    def give(self, size: int) -> None:
        """Give it back."""
        self.left += size


class Request:
    """A request taken apart once.

    `ditto`: headers for the registry, `edge`: headers for us, `query`: the other parameters, `given`: all as they came. `begun`:
    when an answer began that goes on until somebody ends it, by the performance counter.
    """

    __slots__ = (
        "begun",
        "body_done",
        "caller",
        "client",
        "ditto",
        "edge",
        "given",
        "method",
        "path",
        "query",
        "query_string",
        "raw",
        "reach",
        "receive",
        "room",
        "route",
        "scheme",
    )

    def __init__(self, scope: Scope, receive: Receive, room: Room | None = None) -> None:
        """Take the scope apart; `read_headers` comes next and may refuse."""
        self.room = room or Room()
        self.method: str = scope["method"]  # type: ignore[typeddict-item]
        self.path: bytes = scope["raw_path"]
        self.query_string: bytes = scope["query_string"]
        self.scheme: str = scope["scheme"]
        self.client = str((scope["client"] or ("",))[0])
        self.receive = receive
        self.raw: Any = ()
        self.ditto: dict[str, str] = {}
        self.edge: dict[str, str] = {}
        self.query: dict[str, str] = {}
        self.given: list[tuple[str, str]] = []
        self.caller: Caller | None = None
        self.reach: Reach | None = None
        self.body_done = False
        self.begun: float | None = None
        self.route = "other"

    def read_headers(self, raw: Any) -> None:
        """Sort the headers and parameters. Raises DuplicateHeader, HeadersTooLarge, UriTooLong, HeaderInvalid.

        Every header is looked at before the first refusal, so that CORS and the correlation id are known to the answer.
        """
        self.raw = raw
        refusal = self._sort(raw)
        if "x-correlation-id" in self.edge:
            self.ditto.setdefault("correlation-id", self.edge["x-correlation-id"])
        if len(raw) > HEADERS_MAX:
            refusal = refusal or HeadersTooLarge(
                size=f"{len(raw)} lines of {sum(len(value) for _, value in raw)}", limit=f"{HEADERS_MAX} lines"
            )
        length = len(self.path) + len(self.query_string) + 1
        if length > URI_MAX:
            refusal = refusal or UriTooLong(length=length, limit=URI_MAX)
        elif self.query_string:
            refusal = refusal or self._read_query()
        if self.ditto.get("correlation-id") == "":
            refusal = refusal or HeaderInvalid(name="correlation-id", value="", problem="it is empty")
        if refusal is not None:
            raise refusal
        check_types(self.ditto)

    def _sort(self, raw: Any) -> Exception | None:
        """Put each header where it belongs; the first thing wrong with them."""
        refusal: Exception | None = None
        size = 0
        for key, value in raw:
            known, name = self.ditto, DITTO_HEADERS.get(key)
            if name is None:
                known, name = self.edge, EDGE_HEADERS.get(key)
            if len(value) > HEADER_MAX:
                refusal = refusal or HeadersTooLarge(
                    size=len(value), limit=HEADER_MAX, description=f"Shorten '{key.decode('latin-1')}'."
                )
            elif name is None:
                size += len(key) + len(value) if key not in LARGE else 0
            elif name not in known:
                known[name] = _text(value)
                size += len(value) if known is self.ditto else 0
            elif name not in REPEATABLE:
                refusal = refusal or DuplicateHeader(name=name)
        if size > SIZE_LIMIT:
            refusal = refusal or HeadersTooLarge(size=size, limit=SIZE_LIMIT)
        return refusal

    def _read_query(self) -> Exception | None:
        self.given = parameters_in(self.query_string)
        for name, value in self.given:
            lower = name.lower()
            if lower in QUERY_HEADERS:
                if CONTROLS.search(value):
                    return HeaderInvalid(
                        name=lower, value=CONTROLS.sub("?", value), problem="it has control characters"
                    )
                if self.ditto.setdefault(lower, value) != value:
                    return DuplicateHeader(name=lower)
            elif lower == "x-ditto-pre-authenticated":
                if self.edge.setdefault(lower, value) != value:
                    return DuplicateHeader(name=lower)
            else:
                self.query.setdefault(name, value)
        return None

    def of_sender(self) -> dict[str, str]:
        """The headers that are neither Ditto's nor of the transport: a sender's own, for whoever hears of what he does."""
        found: dict[str, str] = {}
        for key, value in self.raw:
            title = _own(key)
            if title:
                found[title] = _text(value)
        return found

    async def body(self, limit: int) -> bytes:
        """Read the body. Raises BodyTooLarge as soon as it is known to be, ClientGone when it breaks off, BodyLate, RoomTaken."""
        announced = self.edge.get("content-length", "")
        length = int(announced) if announced.isdigit() and "transfer-encoding" not in self.edge else -1
        if length > limit:
            raise BodyTooLarge(limit=limit)
        chunks: list[bytes] = []
        size = taken = 0
        try:
            while True:
                message: Any = await self.receive()
                if message["type"] != "http.request":
                    raise ClientGone
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise BodyTooLarge(limit=limit)
                if size == length or not message.get("more_body"):
                    self.body_done = True
                    return b"".join((*chunks, chunk)) if chunks else chunk
                self.room.take(len(chunk))
                taken += len(chunk)
                chunks.append(chunk)
        finally:
            self.room.give(taken)

    async def body_in_time(self, limit: int) -> bytes:
        """Read the body, waiting for the whole of it no longer than BODY_PATIENCE."""
        try:
            return await within(BODY_PATIENCE, self.body(limit))
        except TimeoutError as error:
            raise BodyLate(seconds=int(BODY_PATIENCE)) from error

    @property
    def body_waits(self) -> bool:
        """Whether the client may still be sending a body of some size that nobody has read (who expects a 100 first, waits)."""
        if self.body_done or "expect" in self.edge:
            return False
        length = self.edge.get("content-length", "0")
        return "transfer-encoding" in self.edge or not length.isdigit() or int(length) > BODY_SMALL

    @property
    def where(self) -> str:
        """From where it comes, as the audit trail has it."""
        return f"http {self.client}"

    @property
    def origin(self) -> str:
        """Scheme and host as the client wrote them (a proxy in front may tell of TLS)."""
        scheme = self.edge.get("x-forwarded-proto", self.scheme)
        return f"{scheme if scheme in {'http', 'https'} else self.scheme}://{self.edge.get('host', 'localhost')}"


def parameters_in(text: bytes) -> list[tuple[str, str]]:
    """The parameters in a query or a form, in order, empty ones too."""
    return parse_qsl(text.decode("latin-1"), keep_blank_values=True, encoding="utf-8", errors="replace")


@lru_cache(maxsize=4_096)
def _own(key: bytes) -> str:
    """The name of a header that travels on; empty for one that does not."""
    title = key.decode("latin-1")
    return (
        "" if key in DITTO_HEADERS or key in EDGE_HEADERS or title in OURS or OF_TRANSPORT.fullmatch(title) else title
    )


class ClientGone(Exception):  # noqa: N818 - a fact, never shown: there is nobody to show it to
    """The client went away before its request was complete."""


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
