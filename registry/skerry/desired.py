"""Desired state: what of a thing's desired properties its reported properties do not show yet, as a merge patch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, UnsetType

from skerry.signals import Event, Json
from skerry.values import same


def delta(desired: Mapping[str, Json], reported: Mapping[str, Json]) -> dict[str, Json]:
    """The merge patch that makes what is reported show what is desired; empty when it does.

    Objects are compared member by member, everything else as a whole. Members that are reported and not desired stay as
    they are; a desired `null` is a member that shall not be there.
    """
    patch: dict[str, Json] = {}
    for name, wanted in desired.items():
        found = _difference(wanted, reported.get(name))
        if found is not UNSET:
            patch[name] = found
    return patch


def open_features(document: Mapping[str, Any] | None) -> dict[str, Json]:
    """The same of a whole thing, as a merge patch of its `features`: `{"scada": {"properties": {"power": 5}}}`."""
    features = None if document is None else document.get("features")
    if not features:
        return {}
    found: dict[str, Json] = {}
    for feature_id, feature in features.items():
        desired = feature.get("desiredProperties") if feature else None
        if desired:
            patch = delta(desired, feature.get("properties") or {})
            if patch:
                found[feature_id] = {"properties": patch}
    return found


def may_desire(event: Event) -> bool:
    """Whether an event may bring desired properties to where there were none; quick to say no, without a look at the thing."""
    path = event.path
    if len(path) == 2:
        return type(event.value) is not dict or "desiredProperties" in event.value
    return len(path) < 2 or path[2] == "desiredProperties"


def may_open(event: Event, document: Mapping[str, Any] | None) -> bool:
    """Whether an event that led to the document may have opened a difference where there was none; quick to say no."""
    path = event.path
    if path and path[0] != "features":
        return False
    features = None if document is None else document.get("features")
    if not features:
        return False
    touched = (features.get(path[1]),) if len(path) > 1 else features.values()
    return any(feature and "desiredProperties" in feature for feature in touched)


def _difference(wanted: Json, found: Json) -> Json | UnsetType:
    """The patch for one member; UNSET where there is no difference."""
    if wanted is None:
        return UNSET if found is None else None
    if not isinstance(wanted, dict):
        return UNSET if same(wanted, found) else wanted
    if isinstance(found, dict):
        return delta(wanted, found) or UNSET
    return delta(wanted, {})
