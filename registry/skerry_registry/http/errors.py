# ruff: noqa: N818 - errors are rows of a table
"""What the HTTP edge itself answers with when it refuses a request."""

from __future__ import annotations

from skerry.errors import SkerryError
from skerry_registry.identities.refusals import AuthenticationFailed as AuthenticationFailed  # noqa: PLC0414 - it is one of the edge's too
from skerry_registry.lateness import CommandTimeout as CommandTimeout  # noqa: PLC0414 - it is one of the edge's too
from skerry_registry.live.acks import AcknowledgementTimeout as AcknowledgementTimeout  # noqa: PLC0414 - likewise
from skerry_registry.live.wishes import AnswerNotWanted as AnswerNotWanted  # noqa: PLC0414 - likewise


class DuplicateHeader(SkerryError):
    """One header twice, or a header and a query parameter that disagree."""

    code = "gateway:duplicate.header.field"
    status = 400
    message = "'{name}' is given more than once."
    description = "Send it once: as a header or as a query parameter."


class UriTooLong(SkerryError):
    """A request target longer than the server reads."""

    code = "gateway:uri.toolong"
    status = 414
    message = "The request target has {length} bytes, the limit is {limit}."
    description = "Ask for fewer ids or a shorter selector at a time."


class RouteNotFound(SkerryError):
    """A path that leads nowhere."""

    code = "gateway:path.notfound"
    status = 404
    message = "There is nothing at {path}."
    description = "The paths there are stand in /apidoc and in `skerry routes`."


class WebSocketExpected(SkerryError):
    """A plain request where a WebSocket is opened."""

    code = "gateway:websocket.expected"
    status = 400
    message = "At {path} a WebSocket is opened; this request does not ask for one."
    description = "Use a WebSocket client (ws://…), and see that a proxy in front passes the Upgrade header on."


class ApiVersionNotSupported(SkerryError):
    """An API version other than 2."""

    code = "api.version.notsupported"
    status = 404
    message = "API version {version} is not served here."
    description = "Use /api/2."


class MethodNotAllowed(SkerryError):
    """A verb that the path does not know."""

    code = "gateway:method.notallowed"
    status = 405
    message = "{method} is not possible at {path}."
    description = "Possible here: {allow}."


class NotProvided(SkerryError):
    """A part of Ditto's API that this server does not have."""

    code = "gateway:operation.notprovided"
    status = 501
    message = "{what} are not part of this version of Skerry."
    description = "The request was understood and nothing was done."


class StreamOnly(SkerryError):
    """A GET of messages, which are only told as they are sent."""

    code = "gateway:stream.only"
    status = 406
    message = "Nothing is kept at {path}: messages are told while they are sent."
    description = "Send `Accept: text/event-stream` to follow them, or POST to send one."


class MediaTypeUnsupported(SkerryError):
    """A body of a type that the method does not take."""

    code = "mediatype.unsupported"
    status = 415
    message = "The body has the type '{given}'; {method} takes {accepted} here."
    description = "Set the Content-Type header to one of: {accepted}."


class BodyTooLarge(SkerryError):
    """A body longer than any entity may be."""

    code = "gateway:body.toolarge"
    status = 413
    message = "The body is longer than {limit} bytes."
    description = "Send less at a time. The setting thing_max_bytes raises the limit where it is above 1 MiB."


class BodyLate(SkerryError):
    """A body that did not arrive in time."""

    code = "gateway:body.late"
    status = 408
    message = "The rest of the body did not arrive within {seconds} seconds."
    description = "Nothing was done. Send it again, over a faster connection or in smaller parts."


class RoomTaken(SkerryError):
    """All the memory that bodies may take is taken."""

    code = "gateway:service.unavailable"
    status = 503
    message = "The server is reading as many bodies as it has room for."
    description = "Try again in a few seconds."


class RequestInvalid(SkerryError):
    """A request that is not HTTP as it should be."""

    code = "gateway:request.invalid"
    status = 400
    message = "The request cannot be read: {problem}."
    description = "Nothing was done. Correct it, or see /apidoc for what may be asked."


class ThingsTooLarge(SkerryError):
    """More than one answer carries."""

    code = "things:things.toolarge"
    status = 413
    message = "The things asked for have more than {limit} bytes together."
    description = "Ask for fewer ids at a time, or for fewer fields."


class SearchOptionInvalid(SkerryError):
    """An `option` that cannot be followed."""

    code = "thing-search:search.option.invalid"
    status = 400
    message = "The option '{option}' cannot be followed: {reason}."
    description = (
        "Possible here: size(1..200), sort(+path,-path), cursor(...) from a previous page, or limit(offset,count)."
    )


class ThingNotCreatableLive(SkerryError):
    """A creation on the live channel."""

    code = "things:thing.notcreatable"
    status = 405
    message = "A thing cannot be created on the live channel."
    description = "Leave the parameter channel out, or set it to twin."
