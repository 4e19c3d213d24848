# ruff: noqa: N818 - errors are rows of a table
"""Policies that take over entries of others: imports, references and namespace root policies (ditto.md 3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct, field, structs

from skerry.errors import SkerryError
from skerry_policies import effective
from skerry_policies.effective import EffectiveEntry, EffectivePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Load: TypeAlias = Callable[[str], dict[str, Any] | None]

DEPTH = 10
"""How many imports of imports are followed."""

LIMIT = 10
"""Imports that a policy may have."""

EFFORT = 20_000
"""Imports that are followed and entries that they bring, counted on each way: ways branch, and multiply with every import."""


class ImportInvalid(SkerryError):
    """An import that makes no sense, or a chain of them that has no end."""

    code = "policies:import.invalid"
    status = 400
    message = "The import of '{imported}' into the policy '{policy_id}' is not valid: {problem}"
    description = (
        'An import reads {{"<policy id>": {{"entries": ["<label>"], "transitiveImports": ["<policy id>"]}}}}; '
        "a chain of transitive imports is at most 10 policies long and has no cycle."
    )


def resolve(policy_id: str, document: dict[str, Any], load: Load, roots: Sequence[str] = ()) -> EffectivePolicy:
    """Everything that counts for a policy. `load` finds other policies' documents; `roots`: of its namespace, in order.

    Raises ImportInvalid for a chain of imports that is too long, and what `load` raises.
    """
    documents: dict[str, dict[str, Any] | None] = {policy_id: document}

    def remembering(wanted: str) -> dict[str, Any] | None:
        if wanted not in documents:
            documents[wanted] = load(wanted)
        return documents[wanted]

    whole = _Chain(remembering)
    entries = whole.entries(policy_id, document)
    for root in roots:
        found = remembering(root) if root != policy_id else None
        if found is not None:
            through_root = structs.replace(whole, direct=(policy_id, root))
            entries.extend(
                structs.replace(entry, label=f"nsimported-{root}-{entry.label}")
                for entry in through_root.entries(root, found)
                if entry.entry.get("importable", "implicit") == "implicit"
            )
    return EffectivePolicy(policy_id, tuple(_first_of_each(entries)), documents)


class _Effort(Struct):
    """What was followed and brought so far, on all ways together."""

    spent: int = 0


class _Chain(Struct, frozen=True):
    """The imports followed so far: how many transitive ones, to which policies, and which import they began with.

    `direct` (policy, imported) is all that a refusal names: whoever asks need not know what lies behind it.
    """

    load: Load
    depth: int = 0
    visited: frozenset[str] = frozenset()
    effort: _Effort = field(default_factory=_Effort)
    direct: tuple[str, str] | None = None

    def entries(
        self, policy_id: str, document: dict[str, Any], only: Sequence[str] | None = None
    ) -> list[EffectiveEntry]:
        """A policy's entries with those it imports (`only` from these policies), references resolved."""
        entries = effective.own(policy_id, document)
        for imported, facts in document.get("imports", {}).items():
            if only is None or imported in only:
                found = self.load(imported)
                if found is not None:
                    entries.extend(self._imported(policy_id, imported, found, facts or {}))
        return _with_references(document, entries)

    def _imported(
        self, policy_id: str, imported: str, document: dict[str, Any], facts: Mapping[str, Any]
    ) -> Iterable[EffectiveEntry]:
        """What an import brings, under new labels."""
        direct = self.direct or (policy_id, imported)
        through = facts.get("transitiveImports") or ()
        if through and self.depth >= DEPTH:
            raise _invalid(direct, "the chain of transitive imports that begins with it is too long")
        fresh = frozenset(through) - self.visited
        further = _Chain(self.load, self.depth + 1, self.visited | fresh, self.effort, direct)
        wanted = facts.get("entries") or ()
        found = further.entries(imported, document, tuple(fresh))
        self.effort.spent += 1 + len(found)
        if self.effort.spent > EFFORT:
            raise _invalid(direct, "with all that is imported through it, it brings too much")
        for entry in found:
            importable = entry.entry.get("importable", "implicit")
            if importable == "implicit" or (importable == "explicit" and entry.label in wanted):
                kept = {key: value for key, value in entry.entry.items() if key != "references"}
                yield structs.replace(entry, label=f"imported-{imported}-{entry.label}", entry=kept)


def _invalid(direct: tuple[str, str], problem: str) -> ImportInvalid:
    policy_id, imported = direct
    return ImportInvalid(imported=imported, policy_id=policy_id, problem=problem)


def _first_of_each(entries: Iterable[EffectiveEntry]) -> Iterable[EffectiveEntry]:
    """The first entry of each label."""
    found: dict[str, EffectiveEntry] = {}
    for entry in entries:
        found.setdefault(entry.label, entry)
    return found.values()


def _with_references(document: Mapping[str, Any], entries: list[EffectiveEntry]) -> list[EffectiveEntry]:
    """The entries with what the policy's own ones refer to merged in; references do not chain."""
    if not any(entry.get("references") for entry in document.get("entries", {}).values()):
        return entries
    known = {entry.label: entry for entry in entries}
    own = document["entries"]
    return [
        _merged(entry, known) if entry.label in own and entry.entry.get("references") else entry for entry in entries
    ]


def _merged(entry: EffectiveEntry, known: Mapping[str, EffectiveEntry]) -> EffectiveEntry:
    """One entry with what it refers to; its own additions only as far as every target allows them."""
    subjects: dict[str, Any] = {}
    resources: dict[str, Any] = {}
    namespaces: dict[str, None] = {}
    allowed: set[str] | None = None
    sources = list(entry.sources)
    for reference in entry.entry["references"]:
        imported, label = reference.get("import"), reference.get("entry")
        target = known.get(label if imported is None else f"imported-{imported}-{label}")
        if target is None or target.entry.get("importable") == "never":
            continue
        _merge_into(target.entry, subjects, resources, namespaces)
        sources.extend(target.sources)
        limit = target.entry.get("allowedAdditions")
        if limit is not None:
            allowed = set(limit) if allowed is None else allowed & set(limit)
    own = entry.entry
    added: dict[str, Any] = {
        name: own.get(name) or empty
        for name, empty in (("subjects", {}), ("resources", {}), ("namespaces", []))
        if allowed is None or name in allowed
    }
    _merge_into(added, subjects, resources, namespaces)
    merged = {**own, "subjects": subjects, "resources": resources}
    merged.pop("namespaces", None)
    if namespaces:
        merged["namespaces"] = list(namespaces)
    if allowed is not None:
        merged["allowedAdditions"] = sorted(allowed)
    return structs.replace(entry, entry=merged, sources=tuple(dict.fromkeys(sources)))


def _merge_into(
    entry: Mapping[str, Any], subjects: dict[str, Any], resources: dict[str, Any], namespaces: dict[str, None]
) -> None:
    """Add an entry's subjects (the first of each id stays), rights and namespaces to what is gathered."""
    for subject, facts in (entry.get("subjects") or {}).items():
        subjects.setdefault(subject, facts)
    for key, rights in (entry.get("resources") or {}).items():
        before = resources.get(key, {"grant": [], "revoke": []})
        resources[key] = {
            effect: list(dict.fromkeys([*before[effect], *rights.get(effect, ())])) for effect in ("grant", "revoke")
        }
    namespaces.update(dict.fromkeys(entry.get("namespaces") or ()))
