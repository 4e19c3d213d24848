# ruff: noqa: N818 - errors are rows of a table
"""`/api/2/cloudevents`: Ditto Protocol commands in CloudEvents, binary or structured (CloudEvents HTTP binding 1.0)."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from skerry import protocol
from skerry.errors import SkerryError
from skerry.signals import Json
from skerry.values import JsonInvalid, name
from skerry_registry.http import bodies
from skerry_registry.http.answer import Answer
from skerry_registry.http.errors import MediaTypeUnsupported, MethodNotAllowed, RouteNotFound
from skerry_registry.http.exchange import Exchange
from skerry_registry.http.request import Request

PATHS = {b"/api/2/cloudevents", b"/api/2/cloudevents/"}
STRUCTURED = "application/cloudevents"
STRUCTURED_JSON = "application/cloudevents+json"
DATA_TYPES = ("application/json", "application/vnd.eclipse.ditto+json")
REQUIRED = ("id", "source", "specversion", "type")
SCHEME = "ditto:"


class CloudEventUnparsable(SkerryError):
    """A request that is no CloudEvent."""

    code = "cloudevent.unparsable"
    status = 400
    message = "The request is no CloudEvent: {problem}."
    description = "Send ce-id, ce-source, ce-type and ce-specversion 1.0 as headers, or all of it as application/cloudevents+json."


class CloudEventWithoutPayload(SkerryError):
    """A CloudEvent without data."""

    code = "cloudevent.payload.missing"
    status = 400
    message = "The CloudEvent has no data."
    description = "Its data is a command in the form of the Ditto Protocol."


class CloudEventSchemaUnsupported(SkerryError):
    """Data of another schema than Ditto's."""

    code = "cloudevent.dataschema.unsupported"
    status = 400
    message = "The CloudEvent's dataschema '{schema}' is not known here."
    description = "Leave it out, or let it begin with 'ditto:'."


class CloudEvents:
    """Takes CloudEvents in."""

    def __init__(self, exchange: Exchange) -> None:
        """`exchange` carries the commands."""
        self._exchange = exchange

    async def answer(self, request: Request) -> Answer:
        """Answer one request; raises SkerryError."""
        path = request.path
        if path not in PATHS:
            raise RouteNotFound(path=path.decode("latin-1"))
        request.route = "cloudevents"
        if request.method != "POST":
            raise MethodNotAllowed(
                method=request.method, path=path.decode("latin-1"), allow="POST", headers={"allow": "POST"}
            )
        envelope = await self._envelope(request)
        caller = request.caller
        assert caller is not None
        command = protocol.command_from(envelope, caller.subjects, request.where)
        request.ditto.pop("response-required", None)  # 202 tells of a change that is on disk, whatever was wished for
        command = msgspec.structs.replace(command, headers={**command.headers, **request.ditto})
        answer = await self._exchange.carry_out(request, command, path)
        return Answer(202) if answer.status < 400 else answer

    async def _envelope(self, request: Request) -> Json:
        """The envelope in the event's data. Raises the errors of this module, MediaTypeUnsupported, JsonInvalid."""
        given = request.edge.get("content-type", "")
        body = await self._exchange.body(request)
        if given.lower().startswith(STRUCTURED):
            event = _structured(given, body)
        else:
            event = {title.removeprefix("ce-"): text for title, text in request.edge.items() if title.startswith("ce-")}
            event["datacontenttype"] = given
            event["data"] = body
        for member in REQUIRED:
            if not isinstance(event.get(member), str) or not event[member]:
                raise CloudEventUnparsable(problem=f"it has no {member}")
        if event["specversion"] not in {"1.0", "0.3"}:
            raise CloudEventUnparsable(problem=f"its specversion is '{event['specversion']}'")
        if event.get("data") in (None, b"", ""):
            raise CloudEventWithoutPayload
        media = str(event["datacontenttype"] or "").partition(";")[0].strip().lower()
        if media not in DATA_TYPES:
            raise MediaTypeUnsupported(given=media, method=request.method, accepted=", ".join(DATA_TYPES))
        schema = event.get("dataschema")
        if schema is not None and not str(schema).startswith(SCHEME):
            raise CloudEventSchemaUnsupported(schema=schema)
        data = event["data"]
        envelope = bodies.decode(data) if isinstance(data, bytes) else data
        if not isinstance(envelope, dict):
            raise JsonInvalid(at="/", problem=f"the data is {name(envelope)}, and should be an object")
        return envelope


def _structured(given: str, body: bytes) -> dict[str, Any]:
    """The event that is the whole body; JSON is what its data is unless it says otherwise (CloudEvents JSON format 2.4)."""
    if given.partition(";")[0].strip().lower() != STRUCTURED_JSON:
        raise CloudEventUnparsable(problem=f"'{given}' is read only as {STRUCTURED_JSON}")
    event = bodies.decode(body)
    if not isinstance(event, dict):
        raise CloudEventUnparsable(problem=f"the body is {name(event)}")
    event.setdefault("datacontenttype", "application/json")
    if isinstance(coded := event.get("data_base64"), str):
        try:
            event["data"] = base64.b64decode(coded, validate=True)
        except binascii.Error as error:
            raise CloudEventUnparsable(problem="data_base64 is no base64") from error
    return event
