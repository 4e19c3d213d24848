"""Decisions of the model on changes, without telling a writer what he may not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET, structs

from skerry import metadata, things
from skerry.preconditions import CONDITIONAL, PreconditionFailed
from skerry_registry.refusals import ThingNotModifiable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skerry.signals import Command, Decision, Held, Micros
    from skerry_policies.enforcer import Permits


def decide(permits: Permits, held: Held, command: Command, now: Micros, limit: int) -> Decision:
    """The model's decision on a change, telling nothing of values that the caller may write but not read.

    Nor may it change metadata of what it may not write.
    """
    path, asked = command.path, command.headers
    hidden = bool(path) and not permits.may("thing", path, "READ")
    if hidden and asked:
        for name in sorted(CONDITIONAL):
            if asked.get(name, "*").strip() != "*":
                raise _unseen(name, asked)
        command = structs.replace(command, headers={name: text for name, text in asked.items() if name != "if-equal"})
    try:
        decision = things.decide(held, command, now, limit)
    except PreconditionFailed as error:
        if hidden:
            raise _unseen(error.facts["header"], asked) from error
        raise
    event = decision.event
    if event is not None and event.metadata is not UNSET and not permits.may("thing", (), "WRITE"):
        for place in metadata.changed(held.metadata or {}, event.metadata or {}):
            if not permits.may("thing", place, "WRITE"):
                raise ThingNotModifiable(thing_id=command.id, path="/" + "/".join(place))
    if hidden and command.verb == "merge":
        return structs.replace(decision, response=structs.replace(decision.response, etag=None))
    return decision


def _unseen(header: str, asked: Mapping[str, str]) -> PreconditionFailed:
    """A precondition on what the caller may not read: it never holds, or it would tell what is there."""
    return PreconditionFailed(
        header=header,
        wanted=asked[header],
        description="You may not read all of what is there, so that only * can be compared with it.",
    )
