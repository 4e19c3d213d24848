"""The rows of the table of routes that are about messages, and the words for them."""

from __future__ import annotations

from typing import Any

from skerry_registry.http.route import Route

TAG = "Messages"
PARAMETERS = ("message-timeout", "response-required", "message-acks", "condition", "correlation-id")
ERRORS = (400, 401, 403, 404, 408, 412, 413, 415, 424, 429)
_PLACES = (
    ("/api/2/things/{thingId}", "a thing"),
    ("/api/2/things/{thingId}/features/{featureId}", "a feature"),
)


def _message(path: str, summary: str) -> Route:
    return Route(
        method="POST",
        path=path,
        summary=summary,
        tag=TAG,
        success=(200,),
        parameters=PARAMETERS,
        errors=ERRORS,
        schema="Payload",
        body="Payload",
        body_optional=True,
        media="*/*",
        answer_media="*/*",
    )


MESSAGE_ROUTES = (
    *(_message(place + "/inbox/messages/{subjectPath}", f"Send a message to {what}") for place, what in _PLACES),
    *(_message(place + "/outbox/messages/{subjectPath}", f"Send a message from {what}") for place, what in _PLACES),
    Route(
        method="POST",
        path="/api/2/things/{thingId}/inbox/claim",
        summary="Ask a thing to be given rights on it; takes no right",
        tag=TAG,
        success=(200,),
        parameters=("claim-timeout", *PARAMETERS[1:]),
        errors=tuple(status for status in ERRORS if status != 403),
        schema="Payload",
        body="Payload",
        body_optional=True,
        media="*/*",
        answer_media="*/*",
    ),
)


def _timeout(most: str) -> dict[str, Any]:
    return {
        "name": "timeout",
        "in": "query",
        "description": f"How long to wait for the answer: seconds, or with ms, s, m; 60 s if left out, at most {most}. "
        "0 waits for nothing.",
        "schema": {"type": "string"},
        "example": "10s",
    }


MESSAGE_PARAMETERS: dict[str, dict[str, Any]] = {
    "subjectPath": {
        "in": "path",
        "description": "Subject of the message; slashes may stand in it.",
        "schema": {"type": "string"},
        "required": True,
        "example": "restart",
    },
    "message-timeout": _timeout("60 s"),
    "claim-timeout": _timeout("10 min"),
    "message-acks": {
        "name": "requested-acks",
        "in": "query",
        "description": "Acknowledgements to wait for, separated by commas: live-response (the answer), and labels that listeners "
        "have declared.",
        "schema": {"type": "string"},
        "example": "live-response",
    },
    "channel": {
        "in": "query",
        "description": "live: hand the command to the device and answer with what it answers, instead of the twin.",
        "schema": {"enum": ["twin", "live"], "default": "twin"},
    },
    "live-channel-condition": {
        "in": "query",
        "description": "RQL on the twin: where it holds, the device is asked instead; also as a header.",
        "schema": {"type": "string"},
        "example": "eq(attributes/online,true)",
    },
    "live-channel-timeout-strategy": {
        "in": "query",
        "description": "What to answer where the device does not in time.",
        "schema": {"enum": ["fail", "use-twin"], "default": "fail"},
    },
}

MESSAGE_SCHEMAS: dict[str, Any] = {
    "Payload": {"description": "Anything: what was sent, or what the device answered, of the type that is said."}
}
