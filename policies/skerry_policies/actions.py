# ruff: noqa: N818 - errors are rows of a table
"""What is done to a policy's subjects without WRITE: a token lets an integration in or out, time takes subjects away (ditto.md 3.3)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Struct, UnsetType, structs

from skerry import headers, pointer, times
from skerry.errors import SkerryError
from skerry.signals import Command, Decision, Event, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from skerry.signals import Held, Json, Micros, Path
    from skerry_policies.enforcer import Permits

ACTIVATE = "activateTokenIntegration"
DEACTIVATE = "deactivateTokenIntegration"
LABEL = "{{policy-entry:label}}"
"""Stands in the subjects of an action for the label of each entry."""


class ActionNotPossible(SkerryError):
    """An action by somebody who has no token, or whose token lacks what the integration's subject is made of."""

    code = "policies:action.failed"
    status = 400
    message = "The action '{action}' on the policy '{policy_id}' is not possible: {problem}."
    description = (
        "It needs a login with a JSON Web Token that has every claim of the setting token_integration_subject."
    )


class ActionNotAllowed(SkerryError):
    """EXECUTE is missing."""

    code = "policies:action.failed"
    status = 403
    message = "You may not carry out the action '{action}' on the policy '{policy_id}'."
    description = "It takes EXECUTE on policy:/entries/<label>/actions/{action} for at least one entry."


class ActionNotApplicable(SkerryError):
    """No entry fits."""

    code = "policies:action.failed"
    status = 404
    message = "No entry of the policy '{policy_id}' fits the action '{action}'."
    description = "An entry fits that has one of your subjects, and to let in: that grants READ on some thing:/ path."


class Integration(Struct, frozen=True):
    """The value of an action's command: who comes in or goes. `expires`: with the token; LABEL stands for the entry's label."""

    subjects: tuple[str, ...]
    expires: Micros | None = None
    announcement: Json | UnsetType = UNSET


class Expired(Struct, frozen=True):
    """The value of the command that takes away whom time has expired, save some for now: (label, subject).

    Anybody may give it, for time has decided; it comes from nowhere but this process.
    """

    spared: tuple[tuple[str, str], ...] = ()


def action_of(path: Path) -> str | None:
    """The name of the action that a path names; None where it names none."""
    if len(path) in {2, 4} and path[-2] == "actions" and path[-1] in {ACTIVATE, DEACTIVATE}:
        return path[-1]
    return None


def decide(
    held: Held, command: Command, permits: Permits, now: Micros, change: Callable[[Command], Decision]
) -> Decision:
    """Carry out an action for all entries that fit, as one event; `change` decides an ordinary change of the policy.

    Raises the rows above, and what `change` does for a subject that cannot be.
    """
    name, value = action_of(command.path), command.value
    document = held.document
    assert name is not None
    assert document is not None
    if not isinstance(value, Integration):
        raise ActionNotPossible(action=name, policy_id=held.id, problem="it needs a token")
    entries: dict[str, Any] = document["entries"]
    wanted = [command.path[1]] if len(command.path) == 4 else list(entries)
    allowed = [label for label in wanted if permits.may("policy", ("entries", label, "actions", name), "EXECUTE")]
    if not allowed:
        raise ActionNotAllowed(action=name, policy_id=held.id)
    fitting = [label for label in allowed if label in entries and _fits(name, entries[label], command.subjects)]
    if not fitting:
        raise ActionNotApplicable(action=name, policy_id=held.id)
    changed: dict[str, dict[str, Any]] = {}
    touched: list[tuple[str, str]] = []
    for label in fitting:
        subjects = dict(entries[label]["subjects"])
        for template in value.subjects:
            subject = template.replace(LABEL, label)
            if name == ACTIVATE:
                subjects[subject] = _facts(value, now)
            elif subjects.pop(subject, None) is None:
                continue
            touched.append((label, subject))
        changed[label] = subjects
    if not touched:
        return Decision(response=Response(status=204, revision=held.revision))
    path, after = _narrowest(entries, changed, touched)
    inner = Command(
        verb="delete" if after is UNSET else "modify",
        kind="policy",
        id=held.id,
        subjects=command.subjects,
        path=path,
        value=after,
        headers={key: text for key, text in command.headers.items() if key not in {"if-match", "if-none-match"}},
    )
    decision = change(inner)
    revision = decision.response.revision
    return structs.replace(decision, response=Response(status=204, revision=revision))


def expire(held: Held, command: Command, now: Micros) -> Decision:
    """Take away every subject whose time is over, as one event; nothing where there is none."""
    document = held.document
    assert isinstance(command.value, Expired)
    spared = command.value.spared
    ends = () if document is None else expiring(document)
    over = [(label, subject) for label, subject, at in ends if at <= now and (label, subject) not in spared]
    if document is None or not over:
        return Decision(response=Response(status=204, revision=held.revision))
    entries: dict[str, Any] = document["entries"]
    changed: dict[str, dict[str, Any]] = {}
    for label, subject in over:
        subjects = changed.setdefault(label, dict(entries[label]["subjects"]))
        del subjects[subject]
    path, after = _narrowest(entries, changed, over)
    event = Event(
        kind="policy",
        id=held.id,
        action="deleted" if after is UNSET else "modified",
        revision=held.revision + 1,
        timestamp=now,
        path=path,
        value=after,
        headers=headers.for_event(command.headers),
    )
    return Decision(response=Response(status=204, revision=event.revision), event=event)


def expiring(document: dict[str, Any]) -> Iterator[tuple[str, str, Micros]]:
    """Every subject that time will take away: label, subject, when."""
    for label, entry in document.get("entries", {}).items():
        for subject, facts in entry["subjects"].items():
            expiry = facts.get("expiry")
            if isinstance(expiry, str):
                with suppress(ValueError):  # written before expiries were checked
                    yield label, subject, times.parse(expiry)


def _fits(name: str, entry: dict[str, Any], subjects: tuple[str, ...]) -> bool:
    """Whether the entry has one of the caller's subjects and, to let in, lets it read something of things."""
    if entry["subjects"].keys().isdisjoint(subjects):
        return False
    return name == DEACTIVATE or any(
        key.startswith("thing:") and "READ" in rights["grant"] and "READ" not in rights["revoke"]
        for key, rights in entry["resources"].items()
    )


def _facts(value: Integration, now: Micros) -> dict[str, Any]:
    """What stands in the policy of a subject that was let in."""
    facts: dict[str, Any] = {"type": f"added via action <{ACTIVATE}> at <{times.write(now)}>"}
    if value.expires is not None:
        facts["expiry"] = times.write(value.expires)
    if value.announcement is not UNSET:
        facts["announcement"] = value.announcement
    return facts


def _narrowest(
    entries: dict[str, Any], changed: dict[str, dict[str, Any]], touched: list[tuple[str, str]]
) -> tuple[Path, Json | UnsetType]:
    """The path of the smallest part that has all changes, and what it becomes (UNSET: it goes)."""
    if len(touched) == 1:
        label, subject = touched[0]
        return ("entries", label, "subjects", subject), changed[label].get(subject, UNSET)
    if len(changed) == 1:
        (label,) = changed
        return ("entries", label, "subjects"), changed[label]
    after: Any = entries
    for label, subjects in changed.items():
        after = pointer.put(after, (label, "subjects"), subjects)
    return ("entries",), after
