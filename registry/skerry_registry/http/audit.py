# ruff: noqa: N818 - errors are rows of a table
"""`GET /api/2/audit`: who changed or was refused what, for those who may write the policies concerned."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from skerry.errors import SkerryError
from skerry.signals import Clock, Micros
from skerry_adapters.series.query import QueryInvalid, instant
from skerry_registry.audit.book import Wish
from skerry_registry.audit.readers import Readers
from skerry_registry.http.answer import Answer, of_json
from skerry_registry.http.errors import MethodNotAllowed, RouteNotFound
from skerry_registry.http.request import Request
from skerry_registry.http.route import Route
from skerry_registry.identities.caller import DEVOPS

LIMIT, LIMIT_MAX = 50, 500
OUTCOMES = ("changed", "refused")
PATH = b"/api/2/audit"
NAMES = ("thing", "policy", "subject", "outcome", "from", "to", "after", "limit")


class AuditQueryInvalid(SkerryError):
    """A parameter that cannot be."""

    code = "audit.query.invalid"
    status = 400
    message = "The parameter {name} cannot be '{value}': {reason}."
    description = "GET /api/2/audit?thing=demo:T01&outcome=refused&from=now-1d&limit=50"


class Audit:
    """Answers requests for the trail."""

    def __init__(self, readers: Readers, clock: Clock) -> None:
        """`clock` says what now-1d means."""
        self._readers = readers
        self._clock = clock

    async def answer(self, request: Request) -> Answer:
        """A page, the newest record first; `next` is what `after` has to be for the next one. Raises AuditQueryInvalid."""
        request.route = "audit"
        path = request.path.decode("latin-1")
        if request.path.rstrip(b"/") != PATH:
            raise RouteNotFound(path=path)
        if request.method != "GET":
            raise MethodNotAllowed(method=request.method, path=path, allow="GET", headers={"allow": "GET"})
        wish, limit = read(request.query, self._clock())
        caller = request.caller
        assert caller is not None
        found, more = await self._readers.page(wish, limit, caller.subjects, everything=caller.has(DEVOPS))
        value: dict[str, Any] = {"items": [record.document() for record in found]}
        if more is not None:
            value["next"] = more
        return of_json(200, value)


def read(query: Mapping[str, str], now: Micros) -> tuple[Wish, int]:
    """What is asked for, and how many records. Raises AuditQueryInvalid."""
    for name, value in query.items():
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, 1, 0.5)
            hint = f"did you mean {near[0]}" if near else f"there are {', '.join(NAMES)}"
            raise AuditQueryInvalid(name=name, value=value, reason=f"there is no such parameter; {hint}")
    outcome = query.get("outcome")
    if outcome is not None and outcome not in OUTCOMES:
        raise AuditQueryInvalid(name="outcome", value=outcome, reason=f"it is {' or '.join(OUTCOMES)}")
    wish = Wish(
        thing=query.get("thing"),
        policy=query.get("policy"),
        subject=query.get("subject"),
        outcome=outcome,
        since=_time(query, "from", now),
        before=_time(query, "to", now),
        after=_number(query, "after", 2**62) if "after" in query else None,
    )
    return wish, _number(query, "limit", LIMIT_MAX) if "limit" in query else LIMIT


def _time(query: Mapping[str, str], name: str, now: Micros) -> Micros | None:
    if name not in query:
        return None
    try:
        return instant(name, query[name], now)
    except QueryInvalid as error:
        raise AuditQueryInvalid(name=name, value=query[name], reason=error.facts["reason"]) from error


def _number(query: Mapping[str, str], name: str, most: int) -> int:
    text = query[name]
    if not text.isdecimal() or len(text) > 19 or not 1 <= int(text) <= most:
        raise AuditQueryInvalid(name=name, value=text, reason=f"it is a number from 1 to {most}")
    return int(text)


_TEXT = {"type": "string"}

AUDIT_ROUTES = (
    Route(
        method="GET",
        path="/api/2/audit",
        summary="Who changed or was refused what; of entities whose policy you may write",
        tag="Policies",
        parameters=tuple(f"audit-{name}" for name in NAMES),
        errors=(400, 401, 503),
        schema="AuditPage",
    ),
)


def _asked(name: str, description: str, schema: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema or _TEXT, **more}


AUDIT_PARAMETERS: dict[str, dict[str, Any]] = {
    f"audit-{facts['name']}": facts
    for facts in (
        _asked("thing", "Only of this thing.", example="demo:T01"),
        _asked("policy", "Only what was decided under this policy, and its own changes.", example="demo:T01"),
        _asked("subject", "Only of this subject.", example="nginx:ditto"),
        _asked("outcome", "Only changes, or only refusals.", {"enum": list(OUTCOMES)}),
        _asked("from", "First time, inclusive: RFC 3339, or relative as now-1h.", example="now-1d"),
        _asked("to", "Last time, exclusive.", example="now"),
        _asked("after", "next of the last page.", {"type": "integer", "minimum": 1}),
        _asked(
            "limit", "Records of a page.", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT}
        ),
    )
}

AUDIT_SCHEMAS: dict[str, Any] = {
    "AuditPage": {
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": {"$ref": "#/components/schemas/AuditRecord"}},
            "next": {"type": "integer", "description": "What after has to be for the next page; none on the last."},
        },
        "required": ["items"],
    },
    "AuditRecord": {
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "time": {**_TEXT, "format": "date-time"},
            "outcome": {"enum": list(OUTCOMES)},
            "action": {
                **_TEXT,
                "description": "created, modified, merged, deleted, migrated; of a refusal what was wanted.",
            },
            "kind": {"enum": ["thing", "policy"]},
            "thingId": _TEXT,
            "policyId": _TEXT,
            "path": {**_TEXT, "description": "Within the entity; or the MQTT topic, or the URL."},
            "revision": {"type": "integer", "description": "Of the entity, after the change."},
            "subject": _TEXT,
            "user": {**_TEXT, "description": "The name that was given at a login."},
            "origin": {**_TEXT, "description": "From where: http ADDRESS, or mqtt CLIENT ADDRESS."},
            "error": {**_TEXT, "description": "Code of the refusal."},
            "policy": {
                "type": "object",
                "description": "What decided: the policy and its revision before the change.",
                "properties": {"policyId": _TEXT, "revision": {"type": ["integer", "null"]}},
            },
            "number": {"type": "integer", "description": "The change's place in the journal."},
            "count": {"type": "integer", "description": "So many like refusals, from time until until."},
            "until": {**_TEXT, "format": "date-time"},
        },
        "required": ["id", "time", "outcome", "action"],
    },
}
