# ruff: noqa: N818 - errors are rows of a table
"""What the policy refuses of commands on things, and the words for it (ditto.md 1.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from msgspec import UNSET

from skerry import pointer
from skerry.errors import SkerryError

if TYPE_CHECKING:
    from skerry.signals import Command, Json, Path
    from skerry_policies.enforcer import Permits


class ThingNotModifiable(SkerryError):
    """WRITE is missing on the thing, or on some part that a merge touches."""

    code = "things:thing.notmodifiable"
    status = 403
    message = "You may not change the thing '{thing_id}' at {path}."
    description: ClassVar[str | None] = (
        "It takes WRITE on thing:{path} in the thing's policy, revoked nowhere below. Ask whoever may write policy:/ there."
    )


class ThingNotDeletable(ThingNotModifiable):
    """WRITE is missing on the whole thing."""

    code = "things:thing.notdeletable"
    message = "You may not delete the thing '{thing_id}'."


class PolicyIdNotModifiable(ThingNotModifiable):
    """WRITE is missing on policyId."""

    code = "things:policyId.notmodifiable"


class DefinitionNotModifiable(ThingNotModifiable):
    """WRITE is missing on the definition."""

    code = "things:definition.notmodifiable"


class AttributesNotModifiable(ThingNotModifiable):
    """WRITE is missing on the attributes."""

    code = "things:attributes.notmodifiable"


class AttributeNotModifiable(ThingNotModifiable):
    """WRITE is missing on an attribute."""

    code = "things:attribute.notmodifiable"


class FeaturesNotModifiable(ThingNotModifiable):
    """WRITE is missing on the features."""

    code = "things:features.notmodifiable"


class FeatureNotModifiable(ThingNotModifiable):
    """WRITE is missing on a feature."""

    code = "things:feature.notmodifiable"


class FeatureDefinitionNotModifiable(ThingNotModifiable):
    """WRITE is missing on a feature's definition."""

    code = "things:feature.definition.notmodifiable"


class PropertiesNotModifiable(ThingNotModifiable):
    """WRITE is missing on a feature's properties."""

    code = "things:feature.properties.notmodifiable"


class PropertyNotModifiable(ThingNotModifiable):
    """WRITE is missing on a property."""

    code = "things:feature.property.notmodifiable"


class DesiredPropertiesNotModifiable(ThingNotModifiable):
    """WRITE is missing on a feature's desired properties."""

    code = "things:feature.desiredProperties.notmodifiable"


class DesiredPropertyNotModifiable(ThingNotModifiable):
    """WRITE is missing on a desired property."""

    code = "things:feature.desiredProperty.notmodifiable"


_OF_FEATURE: dict[str, tuple[type[ThingNotModifiable], type[ThingNotModifiable]]] = {
    "definition": (FeatureDefinitionNotModifiable, FeatureDefinitionNotModifiable),
    "properties": (PropertiesNotModifiable, PropertyNotModifiable),
    "desiredProperties": (DesiredPropertiesNotModifiable, DesiredPropertyNotModifiable),
}


def _row(command: Command) -> type[ThingNotModifiable]:
    """The row for the part of the thing that the command is about."""
    path = command.path
    if not path:
        return ThingNotDeletable if command.verb == "delete" else ThingNotModifiable
    if command.verb == "merge":
        return ThingNotModifiable
    part = path[0]
    if part == "attributes":
        return AttributesNotModifiable if len(path) == 1 else AttributeNotModifiable
    if part == "features":
        if len(path) == 1:
            return FeaturesNotModifiable
        whole, single = (
            _OF_FEATURE.get(path[2], (FeatureNotModifiable,) * 2) if len(path) > 2 else (FeatureNotModifiable,) * 2
        )
        return whole if len(path) <= 3 else single
    return {"policyId": PolicyIdNotModifiable, "definition": DefinitionNotModifiable}.get(part, ThingNotModifiable)


def refusal(command: Command, at: Path | None = None) -> ThingNotModifiable:
    """The error that answers a write for which rights are missing, `at` a path; the command's own if not said."""
    return _row(command)(thing_id=command.id, path="/" + "/".join(command.path if at is None else at))


def refused_at(permits: Permits, command: Command, document: Json = UNSET) -> Path | None:
    """Where the caller lacks what it takes to carry out this write on the thing that has the document; None: nowhere.

    It takes unrestricted WRITE at the path, or on every leaf of a merge patch: a null deletes what is there, all of it. A
    value that has to make room for an object on the way is written, too.
    """
    if permits.writes_all:
        return None
    path = command.path
    if permits.may("thing", path, "WRITE"):
        free = not path or permits.may("thing", (), "WRITE") or _has_way(permits, path, document)
        return None if free else path
    if command.verb != "merge" or command.value is UNSET or not _has_way(permits, path, document):
        return path
    return _unmergeable(permits, path, command.value, pointer.get(document, path))


def _has_way(permits: Permits, path: Path, document: Json) -> bool:
    """Whether nothing stands in the way to the path that the caller may not replace."""
    for depth, segment in enumerate(path):
        if document is UNSET:
            return True
        if type(document) is not dict:
            return permits.may("thing", path[:depth], "WRITE")
        document = document.get(segment, UNSET)
    return True


def _unmergeable(permits: Permits, path: Path, patch: Json, found: Json) -> Path | None:
    """The first leaf of the patch that may not be written over what is `found`; a key pattern reaches the whole object around it."""
    if not isinstance(patch, dict) or not patch or not (type(found) is dict or found is UNSET):
        return None if permits.may("thing", path, "WRITE") else path
    if len(patch) > 1 and permits.may("thing", path, "WRITE"):
        return None
    for key, value in patch.items():
        if key.startswith("{{"):
            if not permits.may("thing", path, "WRITE"):
                return path
        else:
            inner = UNSET if found is UNSET else found.get(key, UNSET)
            at = _unmergeable(permits, (*path, key), value, inner)
            if at is not None:
                return at
    return None
