"""What a policy amounts to: its own entries and those it imports, references resolved, each with where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class EffectiveEntry(Struct, frozen=True):
    """One entry that counts.

    `label` as the resolved view names it; `policy_id` and `origin`: the policy it stands in and its label there;
    `entry`: its subjects, resources and the rest; `sources`: the (policy id, label) of everything that was merged into it,
    itself first.
    """

    label: str
    policy_id: str
    origin: str
    entry: dict[str, Any]
    sources: tuple[tuple[str, str], ...]


class EffectivePolicy(Struct, frozen=True):
    """All entries that count for a policy, and the documents that say so (None: there is no such policy)."""

    policy_id: str
    entries: tuple[EffectiveEntry, ...]
    documents: dict[str, dict[str, Any] | None]


def matches(patterns: Iterable[str], namespace: str) -> bool:
    """Whether a namespace is one of the patterns: itself, or below `a.b.*` (a.b itself is not below); none means all."""
    among = False
    for pattern in patterns:
        among = True
        if namespace.startswith(pattern[:-1]) if pattern.endswith(".*") else namespace == pattern:
            return True
    return not among


def own(policy_id: str, document: Mapping[str, Any]) -> list[EffectiveEntry]:
    """The entries that stand in the document itself."""
    return [
        EffectiveEntry(label, policy_id, label, entry, ((policy_id, label),))
        for label, entry in document.get("entries", {}).items()
    ]
