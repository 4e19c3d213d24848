# ruff: noqa: N818 - errors are rows of a table
"""Migrating a thing to another definition: what is asked for, and the merge patch that it comes to (ditto.md 1.1)."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, structs

from skerry import conditions, placeholders, pointer, things, values
from skerry.errors import SkerryError
from skerry.ids import check_definition
from skerry.preconditions import thing_etag
from skerry.rql.evaluate import lookup_in, matches
from skerry.rql.parse import parse
from skerry.rql.predicate import Field, Predicate, fields
from skerry.signals import Decision, Held, Json, Micros, Path, Response

MEMBERS = ("thingId", "policyId", "definition", "attributes", "features")
"""What a payload may change, in the order of a thing's members; the rest is passed over."""
RESOLVED_MAX = 1_000_000
"""Bytes of JSON that all placeholders of a payload may come to."""
_SCOPE = "thing-json"
_SPECIAL: dict[str, Any] = dict.fromkeys(
    ("_namespace", "_revision", "_created", "_modified", "_lifecycle", "_metadata")
)
NOT_FOR_MERGES = frozenset({"dry-run", "if-equal", conditions.PATCH})
"""Headers that mean nothing, or something else, where the patch of a migration is merged."""


class SkeletonFailed(SkerryError):
    """A migration that needs what a Thing Model says."""

    code = "wot:skeleton.generation.failed"
    status = 400
    message = "The thing cannot be migrated to '{definition}': {problem}."
    description = (
        "A migration takes the URL of a Thing Model, and values for what the model asks for in its migrationPayload."
    )


class Migration(Struct, frozen=True):
    """What is asked for: the new definition, a merge patch with placeholders, and conditions of parts of it."""

    definition: str
    payload: dict[str, Json]
    conditions: dict[Path, Predicate]

    def fields(self) -> set[Field]:
        """Every field that the conditions look at."""
        return set().union(*(fields(condition) for condition in self.conditions.values()))


def read(value: Json, now: Micros) -> Migration:
    """The migration in a command's value.

    Raises JsonInvalid, JsonFieldMissing, DefinitionInvalid, SkeletonFailed, RqlInvalid, PointerInvalid.
    """
    if value is UNSET:
        value = {}
    if not isinstance(value, dict):
        raise values.JsonInvalid(at="/", problem=f"a migration is an object, not {values.name(value)}")
    definition = _member(value, "thingDefinitionUrl", str)
    if definition is None:
        raise values.JsonFieldMissing(name="thingDefinitionUrl", at="/")
    payload = _member(value, "migrationPayload", dict) or {}
    values.check_depth(payload)
    asked = _member(value, "patchConditions", dict) or {}
    found = {_path(key): _condition(key, text, now) for key, text in asked.items()}
    filling = _member(value, "initializeMissingPropertiesFromDefaults", bool)
    check_definition(definition)
    if not definition.startswith("http"):
        raise SkeletonFailed(definition=definition, problem="that is not the URL of a Thing Model")
    if filling:
        raise SkeletonFailed(
            definition=definition,
            problem="missing properties cannot be initialized from its defaults, since Thing Models are not read here",
        )
    return Migration(definition, payload, found)


def patch_of(migration: Migration, held: Held, shown: Held | None) -> dict[str, Json]:
    """The merge patch of the whole thing; placeholders stand for what is `shown` of it.

    Raises PlaceholderUnresolved and what else the resolving of placeholders does.
    """
    seen: dict[str, Json] = {}
    if shown is not None and shown.document is not None:
        seen = things.with_special(shown, shown.document, _SPECIAL)
    payload: Json = migration.payload
    if migration.conditions and payload:
        value_of = lookup_in(held)
        for path, condition in migration.conditions.items():
            if pointer.get(payload, path) is not UNSET and not matches(condition, value_of):
                payload = pointer.remove(payload, path) if path else {}
        payload = _filled(payload)
    wanted = {"definition": migration.definition, **_resolved(payload, seen, [0])}
    return {name: wanted[name] for name in MEMBERS if name in wanted}


def decided(decision: Decision, thing_id: str, *, dry: bool) -> Decision:
    """What the merge of the patch comes to, as a migration; a `dry` one changes nothing."""
    event = decision.event
    assert event is not None
    assert isinstance(event.value, dict)
    body = {"thingId": thing_id, "patch": event.value, "mergeStatus": "DRY_RUN" if dry else "APPLIED"}
    if dry:
        return Decision(response=Response(status=202, value=body))
    event.action = "migrated"
    event.value = {"thingId": thing_id, **event.value}
    response = structs.replace(
        decision.response, status=200, value=body, etag=thing_etag(event.revision), revision=event.revision
    )
    return Decision(response=response, event=event)


def _member(value: dict[str, Json], title: str, kind: type[Any]) -> Any:
    """A member of the value; None where it is null or missing. Raises JsonInvalid."""
    found = value.get(title)
    if found is not None and type(found) is not kind:
        raise values.JsonInvalid(at=f"/{title}", problem=f"it is {_NAMES[kind]}, not {values.name(found)}")
    return found


_NAMES: dict[type[Any], str] = {str: "a text", dict: "an object", bool: "true or false"}


def _path(key: str) -> Path:
    """The path in a key of the conditions, thing:/features/f. Raises JsonInvalid, PointerInvalid."""
    resource, colon, path = key.partition(":")
    if not colon or resource != "thing" or not path.startswith("/"):
        raise values.JsonInvalid(at="/patchConditions", problem=f"'{key}' does not read thing:/<path>")
    return pointer.parse(path.removesuffix("/"))


def _condition(key: str, text: Json, now: Micros) -> Predicate:
    if not isinstance(text, str):
        raise values.JsonInvalid(at=f"/patchConditions/{key}", problem=f"it is RQL, not {values.name(text)}")
    return parse(text, now)


def _filled(value: dict[str, Json]) -> dict[str, Json]:
    """The object without objects in it that say nothing."""
    kept = {key: _filled(member) if isinstance(member, dict) else member for key, member in value.items()}
    return {key: member for key, member in kept.items() if member != {}}


def _resolved(value: Json, seen: dict[str, Json], spent: list[int]) -> Json:
    """The value with the placeholders in its texts resolved; `spent` counts what they come to."""
    if isinstance(value, dict):
        return {key: _resolved(member, seen, spent) for key, member in value.items()}
    if isinstance(value, list):
        return [_resolved(member, seen, spent) for member in value]
    if not isinstance(value, str) or not placeholders.has_placeholder(value):
        return value
    found = _stands_for(value, seen)
    spent[0] += len(values.encode(found))
    if spent[0] > RESOLVED_MAX:
        raise placeholders.PlaceholderTooComplex(
            placeholder=value, problem=f"with those before it, it comes to more than {RESOLVED_MAX} bytes"
        )
    return found


def _stands_for(text: str, seen: dict[str, Json]) -> Json:
    """What a text with placeholders means: where it is one pointer and nothing besides, the very value that stands there."""
    name = placeholders.only(text)
    if name is None or "|" in name or not name.startswith(f"{_SCOPE}:"):
        texts = placeholders.resolve(text, {_SCOPE: placeholders.json(seen)})
        if not texts:
            raise _unresolved(text)
        return texts[0]
    parts = [part for part in name.partition(":")[2].strip().split("/") if part]
    found = pointer.get(seen, tuple(part.replace("~1", "/").replace("~0", "~") for part in parts))
    if not parts or found is UNSET:
        raise _unresolved(text)
    return found


def _unresolved(placeholder: str) -> placeholders.PlaceholderUnresolved:
    return placeholders.PlaceholderUnresolved(
        placeholder=placeholder, known=f"{_SCOPE}:<pointer> to something that the thing has and that you may read"
    )
