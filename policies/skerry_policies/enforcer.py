"""Who may what: the rights of a caller under one policy, compiled once and then asked per message.

Rules of Ditto (ditto.md 3.2): the deepest resource at or above a path decides; at the same depth a revoke beats a grant,
across all entries and all subjects of the caller. Arrays are transparent: paths carry no index.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import UNSET, Struct, UnsetType

from skerry import times
from skerry.patch import matches as matches_of_pattern
from skerry_policies.effective import matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from skerry.signals import Json, Micros, Path

Permission: TypeAlias = str
"""READ, WRITE, EXECUTE, READ_TS."""


_NONE: dict[str, _Node] = {}
"""What is below a node that has nothing below: one for all of them."""


class _Node:
    """What is said at one path about one permission, and below it."""

    __slots__ = ("below", "effect", "grants_below", "revokes_below")

    def __init__(self) -> None:
        self.effect: bool | None = None
        self.below: dict[str, _Node] = _NONE
        self.grants_below = False
        self.revokes_below = False

    def settle(self, same: dict[tuple[bool | None, tuple[tuple[str, int], ...]], _Node]) -> None:
        """Learn what the nodes below say; those that say the `same` as others become one."""
        nodes = [self]
        for node in nodes:
            nodes.extend(node.below.values())
        for node in reversed(nodes):
            below = node.below
            for segment, found in below.items():
                says = (found.effect, tuple([(key, id(deeper)) for key, deeper in found.below.items()]))
                inner = below[segment] = same.setdefault(says, found)
                node.grants_below |= inner.grants_below or inner.effect is True
                node.revokes_below |= inner.revokes_below or inner.effect is False


_NOWHERE = _Node()


class Permits:
    """The compiled rights of one caller under one policy."""

    __slots__ = ("_roots", "_whole", "sees_all", "size", "writes_all")

    def __init__(self, rules: Sequence[tuple[str, Path, str, bool]]) -> None:
        """`rules`: (resource type, path, permission, granted), in any order."""
        roots: dict[tuple[str, str], _Node] = {}
        for resource, path, permission, granted in rules:
            node = roots.setdefault((resource, permission), _Node())
            for segment in path:
                if node.below is _NONE:
                    node.below = {}
                node = node.below.setdefault(segment, _Node())
            node.effect = granted and node.effect is not False
        same: dict[tuple[bool | None, tuple[tuple[str, int], ...]], _Node] = {}
        for root in roots.values():
            root.settle(same)
        self.size = len(roots) + len(same) + sum(len(node.below) for node in (*roots.values(), *same.values()))
        self._roots = roots
        self._whole = frozenset(key for key, root in roots.items() if root.effect and not root.revokes_below)
        self.sees_all = ("thing", "READ") in self._whole
        self.writes_all = ("thing", "WRITE") in self._whole

    def _find(self, resource: str, path: Path, permission: str) -> tuple[bool, _Node]:
        """Whether the permission holds at the path, and what is said below it."""
        node = self._roots.get((resource, permission), _NOWHERE)
        granted = node.effect is True
        for segment in path:
            below = node.below.get(segment)
            if below is None:
                return granted, _NOWHERE
            node = below
            if node.effect is not None:
                granted = node.effect
        return granted, node

    def holds(self, resource: str, path: Path, permission: Permission) -> bool:
        """Granted at the path itself, whatever is said below it."""
        return self._find(resource, path, permission)[0]

    def said(self, resource: str, path: Path, permission: Permission) -> bool | None:
        """Granted (True) or revoked at the path, by the deepest rule at or above it; None where there is none."""
        node = self._roots.get((resource, permission), _NOWHERE)
        effect = node.effect
        for segment in path:
            node = node.below.get(segment, _NOWHERE)
            if node.effect is not None:
                effect = node.effect
        return effect

    def may(self, resource: str, path: Path, permission: Permission) -> bool:
        """Granted at the path and revoked nowhere below it."""
        if (resource, permission) in self._whole:
            return True
        granted, node = self._find(resource, path, permission)
        return granted and not node.revokes_below

    def may_partly(self, resource: str, path: Path, permission: Permission) -> bool:
        """Granted at the path, or somewhere below it."""
        if (resource, permission) in self._whole:
            return True
        granted, node = self._find(resource, path, permission)
        return granted or node.grants_below

    def grants(self, resource: str, permission: Permission) -> list[Path]:
        """The paths at which the permission begins: granted there, and by nothing above."""
        found: list[Path] = []
        waiting: list[tuple[Path, _Node]] = [((), self._roots.get((resource, permission), _NOWHERE))]
        for path, node in waiting:
            if node.effect:
                found.append(path)
            elif node.grants_below:
                waiting.extend(((*path, segment), below) for segment, below in node.below.items())
        return found

    def view(
        self, path: Path, value: Json, resource: str = "thing", permission: Permission = "READ"
    ) -> Json | UnsetType:
        """What of the value at the path may be read: leaf by leaf; UNSET when that is nothing."""
        if (resource, permission) in self._whole:
            return value
        granted, node = self._find(resource, path, permission)
        return _view(value, granted, node)

    def view_of_new(self, path: Path, value: Json) -> Json | UnsetType:
        """What of a thing's new value at the path may be told: as `view`, and a null wherever something below may be read."""
        if self.sees_all:
            return value
        granted, node = self._find("thing", path, "READ")
        return _told(value, granted, node, patch=False)

    def view_of_patch(self, path: Path, value: Json) -> Json | UnsetType:
        """What of a merge patch for a thing at the path may be told; UNSET where it changes nothing that may be read.

        A null, which deletes, is told wherever something below may be read; one at a key pattern that is not readable
        itself at the readable keys that it matches.
        """
        if self.sees_all:
            return value
        granted, node = self._find("thing", path, "READ")
        return _told(value, granted, node, patch=True)


def _told(value: Json, granted: bool, node: _Node, *, patch: bool) -> Json | UnsetType:
    """The part of a new value, or of a patch, that may be told; as `_view` otherwise."""
    if granted and not node.revokes_below:
        return value
    if not granted and not node.grants_below:
        return UNSET
    if value is None or type(value) is not dict:
        return value if value is None else _view(value, granted, node)
    shown: dict[str, Any] = {}
    for key, member in value.items():
        below = node.below.get(key)
        if below is not None:
            part = _told(member, granted if below.effect is None else below.effect, below, patch=patch)
        elif granted:
            part = member
        else:
            part = UNSET
            if patch and member is None and key.startswith("{{"):
                shown.update(dict.fromkeys(_matched(key, value, node)))
        if part is not UNSET:
            shown[key] = part
    if shown or (granted and not (patch and value)):
        return shown
    return UNSET


def _matched(pattern: str, patch: dict[str, Any], node: _Node) -> list[str]:
    """The keys below a node at or below which something is granted, and that a key pattern deletes."""
    readable: dict[str, Any] = {key: None for key, below in node.below.items() if below.effect or below.grants_below}
    return [key for key in matches_of_pattern(pattern, readable) if patch.get(key) is None]


def _view(value: Json, granted: bool, node: _Node) -> Json | UnsetType:
    """The readable part of a value whose path's right is `granted` and below which `node` speaks."""
    if granted and not node.revokes_below:
        return value
    if not granted and not node.grants_below:
        return UNSET
    if isinstance(value, dict):
        shown: dict[str, Any] = {}
        for key, member in value.items():
            below = node.below.get(key)
            if below is None:
                part = member if granted else UNSET
            else:
                part = _view(member, granted if below.effect is None else below.effect, below)
            if part is not UNSET:
                shown[key] = part
        return shown if shown or granted else UNSET
    if isinstance(value, list):
        parts = [_view(member, granted, node) for member in value]
        kept = [part for part in parts if part is not UNSET]
        return kept if kept or granted else UNSET
    return value if granted else UNSET


class Rules(Struct, frozen=True):
    """What entries say about one caller: `rows` of (resource type, path, permission, granted), and for whom and how long.

    `everywhere`: the same in every namespace; `until`: when a subject of the caller's expires (None: never).
    """

    rows: list[tuple[str, Path, str, bool]]
    everywhere: bool
    until: Micros | None


def rules_of(
    entries: Iterable[Mapping[str, Any]],
    subjects: Sequence[str],
    namespace: str | None = None,
    now: Micros | None = None,
) -> Rules:
    """The rules of entries for a caller with these subjects, on things of a namespace (None: on policies, where all count).

    Subjects that have expired by `now` say nothing (None: none has).
    """
    rows: list[tuple[str, Path, str, bool]] = []
    everywhere = True
    until: Micros | None = None
    for entry in entries:
        holders = entry["subjects"]
        if holders.keys().isdisjoint(subjects):
            continue
        held, ends = _holding(holders, subjects, now)
        if ends is not None and (until is None or ends < until):
            until = ends
        if not held:
            continue
        patterns = entry.get("namespaces")
        if patterns:
            everywhere = False
            if namespace is not None and not matches(patterns, namespace):
                continue
        for key, rights in entry["resources"].items():
            resource, path = parse_key(key)
            rows.extend((resource, path, permission, True) for permission in rights["grant"])
            rows.extend((resource, path, permission, False) for permission in rights["revoke"])
    return Rules(rows, everywhere, until)


def _holding(holders: Mapping[str, Any], subjects: Sequence[str], now: Micros | None) -> tuple[bool, Micros | None]:
    """Whether one of the caller's subjects is among an entry's at this time, and when the next of them expires."""
    held = False
    until: Micros | None = None
    for subject in subjects:
        facts = holders.get(subject)
        if facts is None:
            continue
        expiry = facts.get("expiry")
        if expiry is None or now is None:
            held = True
            continue
        ends = times.parse(expiry)
        if ends > now:
            held = True
            until = ends if until is None or ends < until else until
    return held, until


@lru_cache(maxsize=16_384)
def parse_key(key: str) -> tuple[str, Path]:
    """The resource type and path of a resource key, thing:/features/f."""
    resource, _, pointer = key.partition(":")
    if "~" in pointer:
        return resource, tuple(s.replace("~1", "/").replace("~0", "~") for s in pointer.split("/") if s)
    return resource, tuple(segment for segment in pointer.split("/") if segment)


def compile_permits(document: Mapping[str, Any], subjects: Sequence[str]) -> Permits:
    """The rights of a caller with these subjects under the entries of a document, in every namespace, for ever."""
    return Permits(rules_of(document.get("entries", {}).values(), subjects).rows)
