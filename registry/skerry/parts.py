# ruff: noqa: N818 - errors are rows of a table
"""The parts of a thing: which paths there are, what may stand at each, and what is said when one is missing (ditto.md 1.1, 1.4)."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from skerry import ids, patch, values
from skerry.errors import SkerryError
from skerry.pointer import put, write
from skerry.signals import Json, Path


class PathUnknown(SkerryError):
    """A path that no thing has."""

    code = "signals.commands:path.unknown"
    status = 400
    message = "There is no part {path} that could be {verb}."
    description = "Its parts are /policyId, /definition, /attributes and /features/<id> with /definition, /properties and /desiredProperties."


class ThingIdNotSettable(SkerryError):
    """A body that names another thing."""

    code = "things:id.notsettable"
    status = 400
    message = "The body names the thing '{thing_id}', which is not the one that is asked for."
    description = "The id of a thing cannot be changed: leave thingId out of the body, or repeat it as it is."


class ThingIdNotDeletable(SkerryError):
    """A patch that would delete the id."""

    code = "things:id.notdeletable"
    status = 400
    message = "The thingId of '{thing_id}' cannot be deleted."
    description = "Delete the whole thing, or leave thingId out of the patch."


class PolicyIdNotDeletable(SkerryError):
    """A patch or deletion that would leave a thing without a policy."""

    code = "things:policyId.notdeletable"
    status = 400
    message = "The policyId of '{thing_id}' cannot be deleted."
    description = "Every thing has a policy; put the id of another one instead."


class FeatureDefinitionEmpty(SkerryError):
    """A feature's definition without an identifier."""

    code = "things:feature.definition.empty"
    status = 400
    message = "The definition of the feature '{feature_id}' is empty."
    description = "It is an array of at least one definition; delete it if there is none."


class ThingNotAccessible(SkerryError):
    """No such thing, as far as the caller can know."""

    code = "things:thing.notfound"
    status = 404
    message = "No thing '{thing_id}' is visible to you."
    description = "Either it does not exist or no policy lets you read any part of it."


class PolicyIdNotFound(ThingNotAccessible):
    """No policyId to be seen."""

    code = "things:policyId.notfound"
    message = "The policyId of the thing '{thing_id}' is not visible to you."


class DefinitionNotFound(ThingNotAccessible):
    """No definition."""

    code = "things:definition.notfound"
    message = "The thing '{thing_id}' has no definition, or you may not read it."
    description = "Look at the thing to see what it has."


class AttributesNotFound(DefinitionNotFound):
    """No attributes at all."""

    code = "things:attributes.notfound"
    message = "The thing '{thing_id}' has no attributes, or you may not read them."


class AttributeNotFound(DefinitionNotFound):
    """No such attribute."""

    code = "things:attribute.notfound"
    message = "The thing '{thing_id}' has no attribute {path}, or you may not read it."


class FeaturesNotFound(DefinitionNotFound):
    """No features at all."""

    code = "things:features.notfound"
    message = "The thing '{thing_id}' has no features, or you may not read them."


class FeatureNotFound(DefinitionNotFound):
    """No such feature."""

    code = "things:feature.notfound"
    message = "The thing '{thing_id}' has no feature '{feature_id}', or you may not read it."


class FeatureDefinitionNotFound(DefinitionNotFound):
    """The feature has no definition."""

    code = "things:feature.definition.notfound"
    message = "The feature '{feature_id}' of the thing '{thing_id}' has no definition, or you may not read it."


class PropertiesNotFound(DefinitionNotFound):
    """The feature has no properties at all."""

    code = "things:feature.properties.notfound"
    message = "The feature '{feature_id}' of the thing '{thing_id}' has no properties, or you may not read them."


class PropertyNotFound(DefinitionNotFound):
    """No such property."""

    code = "things:feature.property.notfound"
    message = "The feature '{feature_id}' of the thing '{thing_id}' has no property {path}, or you may not read it."


class DesiredPropertiesNotFound(DefinitionNotFound):
    """The feature has no desired properties at all."""

    code = "things:feature.desiredProperties.notfound"
    message = (
        "The feature '{feature_id}' of the thing '{thing_id}' has no desired properties, or you may not read them."
    )


class DesiredPropertyNotFound(DefinitionNotFound):
    """No such desired property."""

    code = "things:feature.desiredProperty.notfound"
    message = (
        "The feature '{feature_id}' of the thing '{thing_id}' has no desired property {path}, or you may not read it."
    )


_WHOLE = {"policyId": PolicyIdNotFound, "definition": DefinitionNotFound}
_OF_FEATURE: dict[str, tuple[type[ThingNotAccessible], type[ThingNotAccessible]]] = {
    "properties": (PropertiesNotFound, PropertyNotFound),
    "desiredProperties": (DesiredPropertiesNotFound, DesiredPropertyNotFound),
}


def check_path(path: Path, verb: str) -> None:
    """Raise PathUnknown unless things have such a part."""
    length = len(path)
    if not length or path[0] == "attributes":
        return
    if path[0] == "features":
        if length < 3 or path[2] in _OF_FEATURE or (length == 3 and path[2] == "definition"):
            return
    elif length == 1 and path[0] in _WHOLE:
        return
    raise PathUnknown(path=write(path), verb={"modify": "modified", "merge": "merged"}.get(verb, f"{verb}d"))


def missing(document: Json, thing_id: str, path: Path) -> ThingNotAccessible:
    """The error that says what is missing on the way to the path."""
    part = path[0] if path else ""
    if part == "attributes":
        return (AttributesNotFound if len(path) == 1 else AttributeNotFound)(thing_id=thing_id, path=write(path[1:]))
    if part != "features":
        return _WHOLE.get(part, ThingNotAccessible)(thing_id=thing_id)
    if len(path) == 1:
        return FeaturesNotFound(thing_id=thing_id)
    feature = (document.get("features") or {}).get(path[1], UNSET)
    if feature is UNSET or len(path) == 2:
        return FeatureNotFound(thing_id=thing_id, feature_id=path[1])
    if path[2] == "definition":
        return FeatureDefinitionNotFound(thing_id=thing_id, feature_id=path[1])
    whole, single = _OF_FEATURE[path[2]]
    if len(path) == 3 or not isinstance(feature, dict) or path[2] not in feature:
        return whole(thing_id=thing_id, feature_id=path[1])
    return single(thing_id=thing_id, feature_id=path[1], path=write(path[3:]))


def unreadable(thing_id: str, path: Path) -> ThingNotAccessible:
    """The error for a part of which the caller may read nothing, as if all above it were there."""
    return missing(put({}, path, None), thing_id, path)


def checked(thing_id: str, path: Path, value: Json | UnsetType, *, merging: bool) -> Json:
    """The value as it may stand at the path (or as a merge patch for it): members that things do not have are left out.

    Raises a row of status 400 that says what is wrong.
    """
    if value is UNSET:
        raise values.JsonFormatInvalid(problem=values.NO_BODY)
    if len(path) >= values.DEPTH_LIMIT:
        raise values.JsonInvalid(at="/", problem=f"the path is deeper than {values.DEPTH_LIMIT} levels")
    for segment in path:
        values.check_key(segment)
    good = _part(thing_id, path, value, merging=merging)
    if merging:
        patch.check(good)
    return good


def _part(thing_id: str, path: Path, value: Json, *, merging: bool) -> Json:
    """The value checked for the part of the thing that the path names."""
    length = len(path)
    part = path[0] if path else ""
    if part == "features" and length < 4:
        if length == 1:
            return _features(value, merging=merging)
        if length == 2:
            return _feature(path[1], value, merging=merging)
        return _feature_part(path[1], path[2], value)
    if not length:
        return _thing(thing_id, value, merging=merging)
    if part == "policyId":
        if value is None and merging:
            raise PolicyIdNotDeletable(thing_id=thing_id)
        ids.check_policy_id(value if isinstance(value, str) else values.encode(value).decode())
        return value
    if part == "definition":
        return _definition(value)
    if length == 1:
        return _object(value, path)
    values.check(value, length)
    return value


def _thing(thing_id: str, value: Json, *, merging: bool) -> Json:  # noqa: C901 - one branch per member
    """A whole thing, or a patch of one."""
    if not isinstance(value, dict):
        if merging and value is None:
            raise patch.MergeInvalid(problem="null would delete the whole thing")
        raise values.JsonInvalid(at="/", problem=f"a thing is an object, not {values.name(value)}")
    thing: dict[str, Any] = {}
    for key, member in value.items():
        if key == "thingId":
            _check_same(thing_id, member, merging=merging)
            thing[key] = member
        elif key == "policyId":
            if member is not None or merging:
                thing[key] = _policy_id(thing_id, member)
        elif key == "definition":
            thing[key] = _definition(member)
        elif key == "attributes":
            thing[key] = _object(member, (key,))
        elif key == "features":
            thing[key] = _features(member, merging=merging)
        elif merging and member is None and patch.is_pattern(key):
            raise patch.MergeInvalid(problem="a key pattern cannot stand at the root of a thing")
    if merging and not thing:
        raise patch.MergeInvalid(problem="it has none of the members of a thing")
    return thing


def _check_same(thing_id: str, given: Json, *, merging: bool) -> None:
    """Raise unless the thingId in a body is the thing's own."""
    if given is None and merging:
        raise ThingIdNotDeletable(thing_id=thing_id)
    if given != thing_id:
        raise ThingIdNotSettable(thing_id=given)


def _policy_id(thing_id: str, value: Json) -> Json:
    if value is None:
        raise PolicyIdNotDeletable(thing_id=thing_id)
    if not isinstance(value, str):
        raise values.JsonInvalid(at="/policyId", problem=f"it is a text, not {values.name(value)}")
    ids.check_policy_id(value)
    return value


def _definition(value: Json) -> Json:
    if isinstance(value, str):
        ids.check_definition(value)
    elif value is not None:
        raise values.JsonInvalid(at="/definition", problem=f"it is a text, not {values.name(value)}")
    return value


def _object(value: Json, path: Path) -> Json:
    """Free JSON whose root is an object or null."""
    if value is not None and type(value) is not dict:
        raise values.JsonInvalid(at=write(path), problem=f"it is an object, not {values.name(value)}")
    values.check(value, len(path))
    return value


def _features(value: Json, *, merging: bool) -> Json:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise values.JsonInvalid(at="/features", problem=f"it is an object, not {values.name(value)}")
    features: dict[str, Any] = {}
    for feature_id, feature in value.items():
        ids.check_feature_id(feature_id)
        features[feature_id] = _feature(feature_id, feature, merging=merging)
    return features


def _feature(feature_id: str, value: Json, *, merging: bool) -> Json:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise values.JsonInvalid(
            at=write(("features", feature_id)), problem=f"a feature is an object, not {values.name(value)}"
        )
    return {
        key: _feature_part(feature_id, key, member)
        for key, member in value.items()
        if key in _OF_FEATURE or key == "definition" or (merging and member is None and patch.is_pattern(key))
    }


def _feature_part(feature_id: str, part: str, value: Json) -> Json:
    path = ("features", feature_id, part)
    if part != "definition":
        return _object(value, path)
    if value is None:
        return None
    if not isinstance(value, list):
        raise values.JsonInvalid(at=write(path), problem=f"it is an array, not {values.name(value)}")
    if not value:
        raise FeatureDefinitionEmpty(feature_id=feature_id)
    for number, identifier in enumerate(value):
        if not isinstance(identifier, str):
            raise values.JsonInvalid(
                at=write((*path, str(number))), problem=f"it is a text, not {values.name(identifier)}"
            )
        ids.check_definition(identifier)
    return value
