"""`/api/2/policies` and everything below a policy: URL and body to Command, Response to HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote

from msgspec import UNSET

from skerry import placeholders, pointer
from skerry.ids import PolicyIdInvalid, check_policy_id
from skerry.placeholders import PlaceholderUnresolved
from skerry.signals import Command, Json, NewId, Verb
from skerry.values import JsonInvalid
from skerry_policies.actions import ACTIVATE, DEACTIVATE, LABEL, ActionNotPossible, Integration
from skerry_policies.document import PolicyIdNotSettable
from skerry_registry.http.answer import Answer
from skerry_registry.http.errors import RouteNotFound
from skerry_registry.http.exchange import Exchange
from skerry_registry.http.request import Request
from skerry_registry.http.spots import Spot, Spots, id_in, segments
from skerry_registry.http.things import DEFAULT_NAMESPACE

PREFIX = b"/api/2/policies"
VERBS: dict[str, Verb] = {"GET": "retrieve", "PUT": "modify", "DELETE": "delete", "POST": "modify"}
ANY = ("GET", "PUT", "DELETE")
KEPT = ("GET", "PUT")
COLLECTION = ("GET", "POST")
ACTION = ("POST",)
QUESTIONS = frozenset({b"explain", b"simulate"})
ACTIONS = frozenset({ACTIVATE.encode(), DEACTIVATE.encode()})

_OF_ENTRY: dict[bytes, tuple[str, ...]] = {
    b"subjects": KEPT,
    b"resources": KEPT,
    b"importable": KEPT,
    b"namespaces": KEPT,
    b"allowedAdditions": ANY,
    b"references": ANY,
}
_OF_IMPORT = frozenset({b"entries", b"transitiveImports"})

Question = Callable[[Request, str], Awaitable[Answer]]
"""Answers something about a policy, or about all of them (id '')."""


class Policies:
    """Answers requests on policies."""

    def __init__(
        self, exchange: Exchange, new_id: NewId, questions: dict[str, Question], *, integration_subject: str
    ) -> None:
        """`questions` answers the routes that are no commands, by their names: policies, explain, simulate.

        `integration_subject`: the template of the subject that a token lets in.
        """
        self._exchange = exchange
        self._integration_subject = integration_subject
        self._new_id = new_id
        self._questions = questions
        self._spots = Spots(spot_of)

    async def answer(self, request: Request) -> Answer:
        """Answer one request; raises SkerryError."""
        spot = self._spots.named(request)
        if spot.route == "policies" and request.method == "POST":
            return await self._create(request)
        if (question := self._questions.get(spot.route)) is not None:
            return await question(request, spot.id)
        return await self._command(request, spot)

    async def _command(self, request: Request, spot: Spot) -> Answer:
        value: Json = UNSET
        if request.method == "GET":
            if "fields" in request.query and spot.route == "policy":
                request.ditto["fields"] = request.query["fields"]
        elif request.method == "PUT":
            value = await self._exchange.value(request)
        elif request.method == "POST":
            value = await self._integration(request, spot)
        assert request.caller is not None
        command = Command(
            verb=VERBS[request.method],
            kind="policy",
            id=spot.id,
            subjects=request.caller.subjects,
            path=spot.path,
            value=value,
            headers=request.ditto,
            origin=request.where,
        )
        return await self._exchange.carry_out(request, command, request.path)

    async def _integration(self, request: Request, spot: Spot) -> Integration:
        """Whom the caller's token lets in or out. Raises ActionNotPossible, JsonInvalid."""
        caller, action = request.caller, spot.path[-1]
        if caller is None or caller.claims is None:
            raise ActionNotPossible(action=action, policy_id=spot.id, problem="you are not logged in with such a token")
        try:
            subjects = integration_subjects(self._integration_subject, caller.claims)
        except PlaceholderUnresolved as error:
            raise ActionNotPossible(action=action, policy_id=spot.id, problem=error.text) from error
        if not subjects:
            problem = f"your token lacks a claim of {self._integration_subject}"
            raise ActionNotPossible(action=action, policy_id=spot.id, problem=problem)
        if action == DEACTIVATE:
            return Integration(subjects)
        body = await self._exchange.value_if_any(request)
        if body is not None and not isinstance(body, dict):
            raise JsonInvalid(at="/", problem="it is not an object")
        return Integration(subjects, caller.expires, (body or {}).get("announcement", UNSET))

    async def _create(self, request: Request) -> Answer:
        """A policy with an id of our making."""
        value = await self._exchange.value(request)
        policy_id = f"{request.query.get('namespace') or DEFAULT_NAMESPACE}:{self._new_id()}"
        check_policy_id(policy_id)
        if isinstance(value, dict) and "policyId" in value:
            raise PolicyIdNotSettable(
                found=value["policyId"],
                policy_id=policy_id,
                description="The server makes the id here: leave policyId out, or PUT to /api/2/policies/<id>.",
            )
        assert request.caller is not None
        command = Command(
            verb="create",
            kind="policy",
            id=policy_id,
            subjects=request.caller.subjects,
            value=value,
            headers=request.ditto,
            origin=request.where,
        )
        return await self._exchange.carry_out(request, command, PREFIX + b"/" + quote(policy_id, safe=":").encode())


def integration_subjects(template: str, claims: Mapping[str, Json]) -> tuple[str, ...]:
    """The subjects that the template stands for, LABEL left in; none where a claim is missing. Raises PlaceholderUnresolved."""
    scopes: placeholders.Scopes = {
        "jwt": placeholders.json(claims),
        "policy-entry": lambda name: [LABEL] if name == "label" else None,
    }
    return tuple(dict.fromkeys(placeholders.resolve(template, scopes)))


def spot_of(raw: bytes) -> Spot:
    """What the raw path names. Raises RouteNotFound, and what is wrong with ids and pointers."""
    parts = segments(raw, PREFIX)
    if not parts:
        return Spot("", (), COLLECTION, "policies")
    policy_id = policy_id_in(parts[0])
    if len(parts) == 1:
        return Spot(policy_id, (), ANY, "policy")
    found = _route_of(parts[1:])
    if found is None:
        raise RouteNotFound(path=raw.decode("latin-1"))
    route, methods = found
    if route in {"explain", "simulate"}:
        return Spot(policy_id, (), methods, route)
    path = pointer.from_url(raw[len(PREFIX) + 1 + len(parts[0]) :], "policy")
    if route == "import":
        check_policy_id(path[1])
    return Spot(policy_id, path, methods, route)


def policy_id_in(segment: bytes) -> str:
    """The id in a segment of a URL. Raises PolicyIdInvalid."""
    policy_id = id_in(segment, PolicyIdInvalid)
    check_policy_id(policy_id)
    return policy_id


def _route_of(parts: list[bytes]) -> tuple[str, tuple[str, ...]] | None:
    """The class of route below a policy, and its methods; None where there is none."""
    head, count = parts[0], len(parts)
    if parts[-2:-1] == [b"actions"] and parts[-1] in ACTIONS and (count == 2 or (count == 4 and head == b"entries")):
        return "action", ACTION
    if head in QUESTIONS:
        return (head.decode(), ACTION) if count == 1 else None
    if head == b"imports":
        if count <= 2:
            return ("imports" if count == 1 else "import"), ANY
        return (parts[2].decode(), KEPT) if count == 3 and parts[2] in _OF_IMPORT else None
    if head != b"entries":
        return None
    if count <= 2:
        return ("entries", KEPT) if count == 1 else ("entry", ANY)
    part = parts[2]
    methods = _OF_ENTRY.get(part)
    if methods is None:
        return None
    if count == 3:
        return part.decode(), methods
    return (part.decode()[:-1], ANY) if part in {b"subjects", b"resources"} else None
