"""Refusals as records: of commands by policy, of logins and topics at the broker, of requests at the edge of HTTP."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from skerry import pointer
from skerry_registry.audit.record import Record
from skerry_registry.runs import Lacking

if TYPE_CHECKING:
    from skerry.errors import SkerryError
    from skerry.signals import Clock, Command, Kind
    from skerry_adapters.broker import Refusal, Topics
    from skerry_registry.audit.trail import Trail
    from skerry_registry.http.request import Request
    from skerry_registry.registry import Registry

LONGEST = 256
"""Characters of names and paths that strangers choose."""


class Refusals:
    """Makes records of refusals and hands them to the trail."""

    def __init__(self, trail: Trail, registry: Registry, clock: Clock, topics: Topics) -> None:
        """`topics` say of which thing an MQTT topic speaks."""
        self._topics = topics
        self._trail = trail
        self._registry = registry
        self._clock = clock

    def command(self, command: Command, error: SkerryError) -> None:
        """A command that a policy refused."""
        policy, revision = self._policy_of(command.kind, command.id)
        self._note(
            action=command.verb,
            kind=command.kind,
            entity=command.id,
            path=(pointer.write(command.path) or "/")[:LONGEST],
            subject=command.subjects[0] if command.subjects else "",
            origin=command.origin,
            policy=policy,
            policy_revision=revision,
            code=error.code,
        )

    def broker(self, refusal: Refusal) -> None:
        """What the embedded broker refused."""
        thing = ""
        if refusal.action == "publish":
            need = self._topics.need(refusal.topic)
            thing = "" if need is None else need.thing_id
        elif refusal.action == "subscribe":
            thing = self._topics.thing_of(refusal.topic) or ""
        policy, revision = self._policy_of("thing", thing) if thing else ("", None)
        self._note(
            action=refusal.action,
            kind="thing" if thing else "",
            entity=thing,
            policy=policy,
            policy_revision=revision,
            path=refusal.topic[:LONGEST],
            subject=refusal.subjects[0] if refusal.subjects else "",
            user=refusal.user[:LONGEST],
            origin=f"mqtt {refusal.client[:LONGEST]} {refusal.address}",
            code="mqtt:login.failed" if refusal.action == "login" else "mqtt:topic.forbidden",
        )

    def request(self, request: Request, error: SkerryError) -> None:
        """What the edge of HTTP refused before anybody asked a policy: a login, or an operation."""
        caller = request.caller
        self._note(
            action=request.method if caller is not None else "login",
            path=request.path.decode("latin-1")[:LONGEST],
            subject=caller.subjects[0] if caller is not None and caller.subjects else "",
            user=_user_in(request.edge.get("authorization", ""))[:LONGEST],
            origin=request.where,
            code=error.code,
        )

    def _note(self, **facts: str | int | None) -> None:
        self._trail.note(Record(time=self._clock(), outcome="refused", **facts))  # type: ignore[arg-type]

    def _policy_of(self, kind: Kind, entity: str) -> tuple[str, int | None]:
        """The policy that decided, and its revision, as far as memory tells."""
        policy = entity
        try:
            if kind == "thing":
                document = self._registry.memory.held("thing", entity).document
                if document is None:
                    return "", None
                policy = document["policyId"]
            return policy, self._registry.memory.held("policy", policy).revision
        except Lacking:
            return "", None


def _user_in(authorization: str) -> str:
    """The name in a Basic login; a token tells none."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(text.strip()).decode(errors="replace").partition(":")[0]
    except binascii.Error:
        return ""
