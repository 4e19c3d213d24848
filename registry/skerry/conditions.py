# ruff: noqa: N818 - errors are rows of a table
"""Conditions in RQL that a command puts on the thing that it is for (ditto.md 1.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from skerry import pointer
from skerry.errors import SkerryError
from skerry.headers import HeaderInvalid
from skerry.rql.evaluate import lookup_in, matches
from skerry.rql.parse import RqlInvalid, parse
from skerry.rql.predicate import Field, Predicate, denying, fields
from skerry.signals import Command, Held, Json, Micros, Path

PATCH = "merge-thing-patch-conditions"
HEADERS = frozenset({"condition", PATCH})


class ConditionFailed(SkerryError):
    """The thing is not as the command wants it."""

    code = "things:condition.failed"
    status = 412
    message = "The thing '{thing_id}' does not satisfy the condition."
    description = "Nothing was done. The condition is: {condition}"


class ConditionInvalid(SkerryError):
    """Not a condition."""

    code = "things:condition.invalid"
    status = 400
    message = "The header '{header}' is no RQL condition: {problem}"
    description = "Near: {near}"
    extras = ("position",)


class Conditions(Struct, frozen=True):
    """What a command asks of its thing: `whole` of all of it, `parts` for what stands at each path of its merge patch."""

    whole: Predicate | None
    parts: dict[Path, Predicate]

    def fields(self) -> set[Field]:
        """Every field that is looked at."""
        whole = fields(self.whole) if self.whole is not None else set()
        return whole.union(*(fields(part) for part in self.parts.values()))


def read(command: Command, now: Micros) -> Conditions | None:
    """The conditions in a command's headers, None where it has none. Raises ConditionInvalid, RqlInvalid, HeaderInvalid."""
    asked = command.headers
    if HEADERS.isdisjoint(asked):
        return None
    condition = asked.get("condition")
    patch = asked.get(PATCH) if command.verb == "merge" else None
    return Conditions(
        whole=_predicate("condition", condition, now) if condition is not None else None,
        parts={} if patch is None else _parts(patch, now),
    )


def _parts(text: str, now: Micros) -> dict[Path, Predicate]:
    """The conditions of parts of a merge patch: a JSON object of pointers and expressions."""
    try:
        found = msgspec.json.decode(text, type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise HeaderInvalid(
            name=PATCH, value=text, problem="it is a JSON object of pointers and RQL expressions"
        ) from error
    return {pointer.parse(path): _predicate(PATCH, condition, now) for path, condition in found.items()}


def _predicate(header: str, text: str, now: Micros) -> Predicate:
    try:
        return denying(parse(text, now))
    except RqlInvalid as error:
        if error.facts["sound"]:
            raise
        raise ConditionInvalid(
            header=header, problem=error.text, near=error.facts["near"], position=error.facts["position"]
        ) from error


def check(conditions: Conditions, held: Held, headers: Mapping[str, str]) -> None:
    """Raise ConditionFailed unless the thing satisfies the condition."""
    if conditions.whole is not None and not matches(conditions.whole, lookup_in(held)):
        raise ConditionFailed(thing_id=held.id, condition=headers["condition"])


def remaining(conditions: Conditions, held: Held, patch: Json) -> Json:
    """The merge patch without the parts whose condition the thing does not satisfy."""
    if not conditions.parts or not isinstance(patch, dict):
        return patch
    value_of = lookup_in(held)
    kept: dict[str, Any] = patch
    for path, condition in conditions.parts.items():
        if path and pointer.get(kept, path) is not UNSET and not matches(condition, value_of):
            kept = pointer.remove(kept, path)
    return kept
