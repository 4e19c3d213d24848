"""What a reader is told of an event: values leaf by leaf, deletions only where the path may be read, extra fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType, structs

from skerry import fields, headers, things
from skerry.protocol import event_envelope
from skerry.signals import PATCHES
from skerry_policies import policy
from skerry_registry import guarded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeAlias

    from skerry.fields import Selector
    from skerry.signals import Event, Held, Json
    from skerry_policies.enforcer import Permits

    PolicyOf: TypeAlias = Callable[[str], "dict[str, Any] | None"]

NUMBER = "skerry-number"
"""The header of an envelope that carries the event's place in the journal."""
FEATURE_ID = "feature:id"
POLICY = "_policy"

_MEDIA, _PATCH = "application/json", "application/merge-patch+json"
_encode = msgspec.json.Encoder().encode


class Told:
    """One change as one view of it is told; shared by all who have the same view, so do not change it.

    `event`: the event without what may not be read; `value`: its value (of a merge, the patch); `extra`: the extra fields,
    likewise; `held`: the whole thing after the commit (of a change from the journal: as it is now), unfiltered.
    """

    __slots__ = ("_text", "event", "extra", "held")

    def __init__(self, event: Event, value: Json | UnsetType, extra: Json | UnsetType, held: Held) -> None:
        self.event = event if event.value is value else structs.replace(event, value=value)
        self.extra = extra
        self.held = held
        self._text: bytes | None = None

    @property
    def number(self) -> int:
        """Its place in the journal."""
        return self.event.number

    @property
    def value(self) -> Json | UnsetType:
        """What of the new value (of the patch) may be read."""
        return self.event.value

    @property
    def text(self) -> bytes:
        """The envelope as JSON, made once, for those who have declared no acknowledgement that it asks for."""
        if self._text is None:
            self._text = _encode(self.envelope())
        return self._text

    def text_for(self, labels: Collection[str]) -> bytes:
        """The envelope as JSON for a session that has declared these labels: it learns which of them are asked for."""
        return _encode(self.envelope(labels)) if self.asked(labels) else self.text

    def envelope(self, labels: Collection[str] = ()) -> dict[str, Any]:
        """The envelope of the Ditto Protocol, a new one each time. `labels`: of those, the ones that are asked for are told."""
        event = self.event
        envelope = event_envelope(event)
        envelope.pop("metadata", None)  # as Ditto 3.9.6: who wants it asks for the extra field _metadata
        told = envelope["headers"]
        told[NUMBER] = event.number
        told["response-required"] = False
        told["requested-acks"] = self.asked(labels)
        told["entity-revision"] = event.revision
        if "value" in envelope:
            told["content-type"] = _MEDIA if event.action not in PATCHES else _PATCH
        if self.extra is not UNSET:
            envelope["extra"] = self.extra
        return envelope

    def asked(self, labels: Collection[str]) -> list[str]:
        """Which of these acknowledgements the change asks for."""
        text = self.event.headers.get("requested-acks")
        return [] if text is None or not labels else [one for one in headers.requested_acks(text) if one in labels]


def is_told(event: Event) -> bool:
    """Whether an event is a change of a thing as its twin shows it; what came too late only history takes."""
    return event.kind == "thing" and (event.value is not UNSET or event.late is UNSET)


def seen(event: Event, permits: Permits) -> Event | None:
    """The event as far as it may be read: itself, where that is all of it; None where it is nothing."""
    if permits.sees_all:
        return event
    path, value = event.path, event.value
    if value is UNSET:
        if not permits.may_partly("thing", path, "READ"):
            return None
        shown: Json | UnsetType = UNSET
    else:
        patch = event.action in PATCHES
        shown = permits.view_of_patch(path, value) if patch else permits.view_of_new(path, value)
        if shown is UNSET:
            return None
        if not path and isinstance(shown, dict) and "thingId" in value:
            shown = {"thingId": value["thingId"], **shown}
    if shown is value and event.metadata is UNSET:
        return event
    return structs.replace(event, value=shown, metadata=UNSET)


def at_its_end(event: Event, before: Held | None) -> Held | None:
    """A thing as the extra fields of its deletion show it: as it was before, with the revision of its end."""
    if before is None or before.document is None:
        return None
    return structs.replace(before, revision=event.revision, modified=event.timestamp)


def extra_of(
    event: Event, held: Held, permits: Permits, selector: Selector, policy_of: PolicyOf | None = None
) -> Json | UnsetType:
    """The extra fields that are told with an event, as far as they may be read; UNSET where that is nothing.

    Of a thing that is gone there are its id and the revision. `policy_of`: where a policy is found, for `_policy`.
    """
    if held.document is None:
        facts = {"thingId": event.id, "_namespace": event.id.partition(":")[0], "_revision": event.revision}
        return fields.select(facts, selector) or UNSET
    visible = guarded.shown(permits, held)
    if visible is None or visible.document is None:
        return UNSET
    document = things.with_special(visible, visible.document, selector)
    if POLICY in selector and policy_of is not None:
        document = _with_policy(document, policy_of(held.document["policyId"]), permits)
    return fields.select(document, _resolved(selector, event)) or UNSET


def _with_policy(document: dict[str, Any], found: dict[str, Any] | None, permits: Permits) -> dict[str, Any]:
    """The document and, as `_policy`, what may be read of its policy."""
    shown = UNSET if found is None else permits.view((), policy.shown(found), "policy")
    return document if shown is UNSET else {**document, POLICY: shown}


def _resolved(selector: Selector, event: Event) -> Selector:
    """The selector with the features that the event is about in the place of `{{ feature:id }}`."""
    features = selector.get("features")
    if features is None or not any(_is_placeholder(key) for key in features):
        return selector
    found: Selector = {}
    for key, below in features.items():
        for name in _features_of(event) if _is_placeholder(key) else (key,):
            known = found.get(name, UNSET)
            found[name] = below if known is UNSET else _joined(known, below)
    resolved = {**selector, "features": found}
    if not found:
        del resolved["features"]
    return resolved


def _joined(one: Selector | None, other: Selector | None) -> Selector | None:
    """What two selectors show together."""
    if one is None or other is None:
        return None
    return {key: _joined(one.get(key, {}), other.get(key, {})) for key in (*one, *other)}


def _is_placeholder(key: str) -> bool:
    return key.startswith("{{") and key.endswith("}}") and key[2:-2].strip() == FEATURE_ID


def _features_of(event: Event) -> Collection[str]:
    """The ids of the features that an event touches."""
    path, value = event.path, event.value
    if len(path) > 1:
        return (path[1],) if path[0] == "features" else ()
    if not path and isinstance(value, dict):
        value = value.get("features")
    elif path != ("features",):
        return ()
    return value.keys() if isinstance(value, dict) else ()
