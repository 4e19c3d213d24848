"""One line of the audit trail."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct

from skerry import pointer, times
from skerry.signals import Event, Micros

Outcome: TypeAlias = Literal["changed", "refused"]


class Record(Struct, kw_only=True):
    """Who did, or was refused, what.

    `action`: created, modified, merged, deleted, migrated of a change; the verb of a refused command; login, publish, subscribe or an
    HTTP method otherwise. `path`: within the entity, or the topic or URL. `policy_revision`: of the policy under which it was
    decided, before the change. `count` like refusals came until `until`. `number`: the event's place in the journal.
    """

    time: Micros
    outcome: Outcome
    action: str
    kind: str = ""
    entity: str = ""
    path: str = ""
    revision: int | None = None
    subject: str = ""
    user: str = ""
    origin: str = ""
    policy: str = ""
    policy_revision: int | None = None
    code: str = ""
    count: int = 1
    until: Micros | None = None
    number: int | None = None
    id: int = 0

    @property
    def likeness(self) -> tuple[Any, ...]:
        """Everything but times and count: refusals that have it in common may be told as one."""
        return (
            *(self.action, self.kind, self.entity, self.path, self.subject, self.user, self.origin),
            *(self.policy, self.policy_revision, self.code),
        )

    def document(self) -> dict[str, Any]:
        """It as JSON, without what is empty."""
        found: dict[str, Any] = {
            "id": self.id,
            "time": times.write(self.time),
            "outcome": self.outcome,
            "action": self.action,
        }
        if self.kind:
            found |= {"kind": self.kind, f"{self.kind}Id": self.entity}
        found |= {
            name: value
            for name, value in (
                ("path", self.path),
                ("revision", self.revision),
                ("subject", self.subject),
                ("user", self.user),
                ("origin", self.origin),
                ("error", self.code),
                ("number", self.number),
            )
            if value not in {None, ""}
        }
        if self.policy:
            found["policy"] = {"policyId": self.policy, "revision": self.policy_revision}
        if self.count > 1:
            found["count"] = self.count
        if self.until is not None:
            found["until"] = times.write(self.until)
        return found


def of_event(event: Event) -> Record:
    """The record of a change; the event says by whom it was made."""
    by = event.by
    assert by is not None
    return Record(
        time=event.timestamp,
        outcome="changed",
        action=event.action,
        kind=event.kind,
        entity=event.id,
        path=pointer.write(event.path) or "/",
        revision=event.revision,
        subject=by.subject,
        origin=by.origin,
        policy=by.policy_id,
        policy_revision=by.policy_revision,
        number=event.number,
    )
