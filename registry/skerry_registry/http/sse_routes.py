"""The rows of the table of routes that are only streams, and the words of the description that are about server-sent events."""

from __future__ import annotations

from typing import Any

from skerry_registry.http.route import Route

_TEXT = {"type": "string"}


def _asked(name: str, description: str, example: Any = None, *, place: str = "query") -> dict[str, Any]:
    facts: dict[str, Any] = {"name": name, "in": place, "description": f"Of a stream: {description}", "schema": _TEXT}
    return facts if example is None else {**facts, "example": example}


STREAM_PARAMETERS: dict[str, dict[str, Any]] = {
    "Last-Event-ID": _asked(
        "Last-Event-ID",
        "the id of the last event that was seen; it goes on behind that. 0: with the first change that is kept. "
        "Also as the parameter last-event-id.",
        place="header",
    ),
    "extraFields": _asked(
        "extraFields",
        "what else of the thing each event shows, as it is then: a field selector.",
        "attributes/location",
    ),
    "streamFilter": _asked(
        "filter", "RQL on what has changed, the extra fields, topic:action and resource:path.", "gt(attributes/a,5)"
    ),
    "from-historical-revision": _asked(
        "from-historical-revision", "the thing's history from this revision on; -3: from the third last.", "1"
    ),
    "to-historical-revision": _asked("to-historical-revision", "the last revision; 0: the newest.", "0"),
    "from-historical-timestamp": _asked(
        "from-historical-timestamp", "the thing's history behind this time: RFC 3339, or relative as now-1h.", "now-1h"
    ),
    "to-historical-timestamp": _asked("to-historical-timestamp", "its end, exclusive.", "now"),
}
ALL_THINGS = ("extraFields", "Last-Event-ID")
"""What the stream of all things takes beside what the list takes."""
BELOW = ("streamFilter", "extraFields", "Last-Event-ID", *(name for name in STREAM_PARAMETERS if "historical" in name))
"""What the stream of a thing, or of a part of one, takes."""


def _messages(path: str, what: str) -> Route:
    return Route(
        method="GET",
        path=path,
        summary=f"Follow {what} as server-sent events",
        tag="Messages",
        parameters=("namespaces", "correlation-id"),
        errors=(400, 401, 406),
        stream=True,
    )


_THING = "/api/2/things/{thingId}"
_FEATURE = _THING + "/features/{featureId}"
STREAM_ROUTES = (
    _messages(_THING + "/inbox/messages", "messages to a thing"),
    _messages(_THING + "/outbox/messages", "messages from a thing"),
    _messages(_FEATURE + "/inbox/messages", "messages to a feature"),
    _messages(_FEATURE + "/outbox/messages", "messages from a feature"),
    _messages(_THING + "/inbox/messages/{subjectPath}", "messages with a subject to a thing"),
    _messages(_THING + "/outbox/messages/{subjectPath}", "messages with a subject from a thing"),
    _messages(_FEATURE + "/inbox/messages/{subjectPath}", "messages with a subject to a feature"),
    _messages(_FEATURE + "/outbox/messages/{subjectPath}", "messages with a subject from a feature"),
)
