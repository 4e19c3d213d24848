"""Changes as readers of server-sent events see them: a part of the thing, with what else was asked for in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType

from skerry import fields, pointer, times
from skerry.errors import SkerryError
from skerry.signals import PATCHES
from skerry_registry.http.answer import encode
from skerry_registry.http.sse import event

if TYPE_CHECKING:
    from skerry.fields import Selector
    from skerry.signals import Json, Path
    from skerry_registry.live.changes import Told

CONTEXT = "_context"
HIDDEN = ("_namespace", "_revision", "_created", "_modified")
"""What is shown of a thing only where it is named, and changes tell (`_created` only one of the whole thing, as in Ditto)."""
SELECTABLE = frozenset(
    {"thingId", "policyId", "definition", "attributes", "features", "_metadata", "_policy", CONTEXT, *HIDDEN}
)


class ThingFieldsInvalid(SkerryError):  # noqa: N818 - errors are rows of a table
    """A selector that names what no thing has."""

    code = "things:field.selection.invalid"
    status = 400
    message = "'{field}' is no field of a thing."
    description = (
        "Fields are thingId, policyId, definition, attributes/…, features/…, _namespace, _revision, _created, _modified, "
        "_metadata/… and, of a change, _context/topic, path, value and headers."
    )


def selector_of(text: str | None) -> Selector | None:
    """The selector in a parameter. Raises FieldSelectorInvalid, ThingFieldsInvalid."""
    if text is None:
        return None
    selector = fields.parse(text)
    for name in selector:
        check(name)
    return selector or None


def check(name: str) -> None:
    """Raise ThingFieldsInvalid where a thing has no such member."""
    if name not in SELECTABLE:
        raise ThingFieldsInvalid(field=name)


class View:
    """What all readers who asked for the same are shown: the selected fields of the change, or the value at a pointer."""

    def __init__(self, selector: Selector | None = None, at: Path = ()) -> None:
        self._selector = selector
        self._at = at
        wanted = set() if selector is None else set(selector)
        self._hidden = tuple(name for name in HIDDEN if name in wanted or name in at[:1])
        self._context = CONTEXT in wanted or CONTEXT in at[:1]
        self._only_context = wanted == {CONTEXT}
        self._last: Told | None = None
        self._chunk: bytes | None = None

    def chunk(self, told: Told) -> bytes | None:
        """The change as an event, made once for all readers; None where it has nothing that was asked for."""
        if told is not self._last:
            shown = self.shown(told)
            self._chunk = None if shown is UNSET else event(encode(shown), id=str(told.number))
            self._last = told
        return self._chunk

    def shown(self, told: Told) -> Json | UnsetType:
        """The change; UNSET where it has nothing that was asked for."""
        thing = _thing(told)
        for name in self._hidden:
            if (value := _hidden(told, name)) is not UNSET:
                thing[name] = value
        if self._context:
            thing[CONTEXT] = _context(told)
        if self._at:
            return pointer.get(thing, self._at)
        if self._selector is None:
            return thing
        found = fields.select(thing, self._selector)
        return UNSET if not found or (found.keys() == {CONTEXT} and not self._only_context) else found


def _thing(told: Told) -> dict[str, Any]:
    """What a change says of its thing: deletions say nothing but its id, as in Ditto."""
    event_ = told.event
    value = told.value
    if event_.action in PATCHES and value is not UNSET:
        value = _without_nulls(value)
    changed = UNSET if value is UNSET else pointer.put({}, event_.path, value)
    thing: dict[str, Any] = {"thingId": event_.id}
    if isinstance(changed, dict):
        thing.update(changed)
    if isinstance(told.extra, dict):
        thing = _joined(thing, told.extra)
    return thing


def _without_nulls(patch: Json) -> Json | UnsetType:
    """What a merge patch sets."""
    if patch is None:
        return UNSET
    if type(patch) is not dict:
        return patch
    return {key: shown for key, value in patch.items() if (shown := _without_nulls(value)) is not UNSET}


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Both objects in one; where they disagree, the first."""
    joined = dict(one)
    for key, value in other.items():
        known = joined.get(key, UNSET)
        if known is UNSET:
            joined[key] = value
        elif type(known) is dict and type(value) is dict:
            joined[key] = _joined(known, value)
    return joined


def _hidden(told: Told, name: str) -> Json | UnsetType:
    if name == "_revision":
        return told.event.revision
    if name == "_modified":
        return times.write(told.event.timestamp)
    if name == "_namespace":
        return told.event.id.partition(":")[0]
    whole = not told.event.path and told.event.action in {"created", "modified"}
    return times.write(told.held.created) if whole and told.held.created else UNSET


def _context(told: Told) -> dict[str, Any]:
    """The envelope around the change; its headers as texts."""
    envelope = told.envelope()
    headers = {
        name: value if isinstance(value, str) else encode(value).decode() for name, value in envelope["headers"].items()
    }
    return {"topic": envelope["topic"], "path": envelope["path"], "value": envelope.get("value"), "headers": headers}
