"""Who may what: the rights of a caller under one policy, compiled once and then asked per message.

Rules of Ditto (ditto.md 3.2): the deepest resource at or above a path decides; at the same depth a revoke beats a grant,
across all entries and all subjects of the caller. Arrays are transparent: paths carry no index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import UNSET, UnsetType

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from skerry.signals import Json, Path

Permission: TypeAlias = Literal["READ", "WRITE", "EXECUTE"]


class _Node:
    """What is said at one path about one permission, and below it."""

    __slots__ = ("below", "effect", "grants_below", "revokes_below")

    def __init__(self) -> None:
        self.effect: bool | None = None
        self.below: dict[str, _Node] = {}
        self.grants_below = False
        self.revokes_below = False

    def settle(self) -> int:
        """Learn what the nodes below say; answers how many nodes there are."""
        nodes = [self]
        for node in nodes:
            nodes.extend(node.below.values())
        for node in reversed(nodes):
            for inner in node.below.values():
                node.grants_below |= inner.grants_below or inner.effect is True
                node.revokes_below |= inner.revokes_below or inner.effect is False
        return len(nodes)


_NOWHERE = _Node()


class Permits:
    """The compiled rights of one caller under one policy."""

    __slots__ = ("_roots", "_whole", "sees_all", "size")

    def __init__(self, rules: Sequence[tuple[str, Path, str, bool]]) -> None:
        """`rules`: (resource type, path, permission, granted), in any order."""
        roots: dict[tuple[str, str], _Node] = {}
        for resource, path, permission, granted in rules:
            node = roots.setdefault((resource, permission), _Node())
            for segment in path:
                node = node.below.setdefault(segment, _Node())
            node.effect = granted and node.effect is not False
        self.size = sum(root.settle() for root in roots.values())
        self._roots = roots
        self._whole = frozenset(key for key, root in roots.items() if root.effect and not root.revokes_below)
        self.sees_all = ("thing", "READ") in self._whole

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

    def view(
        self, path: Path, value: Json, resource: str = "thing", permission: Permission = "READ"
    ) -> Json | UnsetType:
        """What of the value at the path may be read: leaf by leaf; UNSET when that is nothing."""
        if (resource, permission) in self._whole:
            return value
        granted, node = self._find(resource, path, permission)
        return _view(value, granted, node)


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


def compile_permits(document: Mapping[str, Any], subjects: Sequence[str]) -> Permits:
    """The rights of a caller with these subjects under a policy document."""
    rules: list[tuple[str, Path, str, bool]] = []
    for entry in document.get("entries", {}).values():
        if entry["subjects"].keys().isdisjoint(subjects):
            continue
        for key, rights in entry["resources"].items():
            resource, _, pointer = key.partition(":")
            path = tuple(segment.replace("~1", "/").replace("~0", "~") for segment in pointer.split("/") if segment)
            rules.extend((resource, path, permission, True) for permission in rights["grant"])
            rules.extend((resource, path, permission, False) for permission in rights["revoke"])
    return Permits(rules)


class Enforcer:
    """Compiled rights, kept by policy, document and caller; the oldest go when there are too many."""

    def __init__(self, limit: int = 10_000, size_limit: int = 500_000) -> None:
        """`size_limit`: nodes of all compiled rights together; policies of a few rules have a handful each."""
        self._limit = limit
        self._size_limit = size_limit
        self._size = 0
        self._kept: dict[tuple[str, tuple[str, ...]], tuple[Mapping[str, Any], Permits]] = {}

    def permits(self, policy_id: str, document: Mapping[str, Any], subjects: tuple[str, ...]) -> Permits:
        """The rights under this very document (documents are never changed in place, so identity is its version)."""
        kept = self._kept.get((policy_id, subjects))
        if kept is not None and kept[0] is document:
            return kept[1]
        permits = compile_permits(document, subjects)
        if kept is not None:
            self._forget((policy_id, subjects))
        self._size += permits.size
        while self._kept and (len(self._kept) >= self._limit or self._size > self._size_limit):
            self._forget(next(iter(self._kept)))
        self._kept[policy_id, subjects] = (document, permits)
        return permits

    def _forget(self, key: tuple[str, tuple[str, ...]]) -> None:
        """Make room."""
        self._size -= self._kept.pop(key)[1].size
