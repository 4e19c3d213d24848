"""Decisions of the model on changes, without telling a writer what he may not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET, structs

from skerry import conditions, metadata, parts, pointer, things
from skerry.preconditions import CONDITIONAL, PreconditionFailed
from skerry_registry.refusals import ThingNotModifiable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from skerry.rql.predicate import Field
    from skerry.signals import Command, Decision, Held, Json, Micros, Path
    from skerry_policies.enforcer import Permits


def decide(permits: Permits, held: Held, command: Command, now: Micros, limit: int) -> Decision:
    """The model's decision on a change, telling nothing of values that the caller may write but not read.

    Nor may it change metadata of what it may not write.
    """
    path, asked = command.path, command.headers
    blind = not permits.may("thing", path, "READ")
    hidden = bool(path) and blind  # the ETag of a whole thing tells no values
    if blind and asked:
        command = _unequalled(command, hidden=hidden)
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


def _unequalled(command: Command, *, hidden: bool) -> Command:
    """The command without what would tell whether it changes anything. Raises PreconditionFailed where it compares."""
    asked = command.headers
    for name in sorted(CONDITIONAL) if hidden else ():
        if asked.get(name, "*").strip() != "*":
            raise _unseen(name, asked)
    return structs.replace(command, headers={name: text for name, text in asked.items() if name != "if-equal"})


def shown(permits: Permits | None, held: Held) -> Held | None:
    """The thing with everything taken out that the caller may not read; None when nothing is left."""
    document = held.document
    if document is None or permits is None:
        return None
    if permits.sees_all:
        return held
    if not permits.may_partly("thing", (), "READ"):
        return None
    visible = permits.view((), document)
    left = dict(visible) if visible is not UNSET else {}
    left["thingId"] = document["thingId"]
    tree = held.metadata
    for path in ((), ("_metadata",)):  # what is said of a value is as secret as the value
        tree = None if tree is None else permits.view(path, tree)
        tree = None if tree is UNSET else tree
    return structs.replace(held, document=left, metadata=tree)


def part_shown(permits: Permits, held: Held, visible: Json, path: Path) -> Json:
    """What is to be shown of the document where a part is asked for: an object of which nothing is left is an empty one.

    Raises the error that says what is missing, that of the part itself where the caller may read nothing of it.
    """
    if not permits.may_partly("thing", path, "READ"):
        raise parts.unreadable(held.id, path)
    if pointer.get(visible, path) is not UNSET:
        return visible
    if type(pointer.get(held.document, path)) is not dict:
        if len(path) > 1 and path[0] == "attributes" and pointer.get(held.document, path[:1]) is UNSET:
            path = path[:1]
        raise parts.missing(held.document, held.id, path)
    return pointer.put(visible, path, {})


def check_readable(permits: Permits, command: Command, now: Micros) -> None:
    """Raise ConditionFailed unless the caller may read all that the conditions of the command look at (ditto.md 1.3)."""
    wanted = conditions.read(command, now) if command.headers else None
    if wanted is not None:
        check_seen(permits, command.id, wanted.fields())


def check_seen(permits: Permits, thing_id: str, fields: Collection[Field]) -> None:
    """Raise ConditionFailed unless the caller may read all the fields that conditions look at."""
    for field in sorted(fields):
        for path in _read(field):
            if not permits.may("thing", path, "READ"):
                raise conditions.ConditionFailed(
                    thing_id=thing_id,
                    description=f"It asks for {pointer.write(field)}: that does not exist, or you may not read it. "
                    f"A condition takes READ on thing:{pointer.write(path)}, revoked nowhere below.",
                )


def check_condition(permits: Permits, held: Held, command: Command, now: Micros) -> None:
    """Raise ConditionFailed unless the condition of a read holds, and may be known to hold."""
    check_readable(permits, command, now)
    wanted = conditions.read(command, now)
    if wanted is not None:
        conditions.check(wanted, held, command.headers)


def holds(permits: Permits, held: Held, command: Command, now: Micros) -> bool:
    """Whether the condition of a read holds, and may be known to hold."""
    try:
        check_condition(permits, held, command, now)
    except conditions.ConditionFailed:
        return False
    return True


def _read(field: Field) -> list[Path]:
    """The resources that a field of a condition is read from: of any feature, all of them; of metadata, the value too."""
    if field[:2] == ("features", "*"):
        return [("features",)]
    return [field, field[1:]] if field[0] == "_metadata" else [field]


def _unseen(header: str, asked: Mapping[str, str]) -> PreconditionFailed:
    """A precondition on what the caller may not read: it never holds, or it would tell what is there."""
    return PreconditionFailed(
        header=header,
        wanted=asked[header],
        description="You may not read all of what is there, so that only * can be compared with it.",
    )
