# ruff: noqa: N818 - errors are rows of a table
"""References between entries: that they lead somewhere, and that nobody takes away what they lead to (ditto.md 3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skerry.errors import SkerryError
from skerry_policies.document import PolicyInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from skerry.signals import Path


class EntryReferenced(SkerryError):
    """Another entry of the same policy refers to what would go."""

    code = "policies:entry.referenceconflict"
    status = 409
    message = "The entry '{label}' of the policy '{policy_id}' is referred to by the entry '{referring}'."
    description = "Remove that reference first."


class ImportReferenced(SkerryError):
    """An entry refers to what would no longer be imported."""

    code = "policies:import.referenceconflict"
    status = 409
    message = "The import of '{imported}' into the policy '{policy_id}' is referred to by the entry '{referring}'."
    description = "Remove that reference first."


def _all(document: Mapping[str, Any]) -> Iterator[tuple[str, str | None, str]]:
    """Every reference of a policy: the referring entry, the imported policy (None: this one), the label there."""
    for label, entry in document.get("entries", {}).items():
        for reference in entry.get("references", ()):
            yield label, reference.get("import"), reference["entry"]


def check(document: Mapping[str, Any]) -> None:
    """Raise PolicyInvalid unless every reference of a policy is sound by itself and leads to an entry or a declared import."""
    entries, imports = document["entries"], document.get("imports", {})
    seen: set[tuple[str, str | None, str]] = set()
    for reference in _all(document):
        label, imported, target = reference
        problem: str | None = None
        if reference in seen:
            problem = f"'{target}' is referred to twice"
        elif imported is not None:
            if imported not in imports:
                problem = f"the policy '{imported}' is not among the imports"
        elif target == label:
            problem = "an entry cannot refer to itself"
        elif target not in entries:
            problem = f"there is no entry '{target}'"
        elif entries[target].get("importable") == "never":
            problem = f"the entry '{target}' is never importable, which forbids references as well"
        if problem is not None:
            raise PolicyInvalid(at=f"/entries/{label}/references", problem=problem)
        seen.add(reference)


def check_kept(policy_id: str, part: str, path: Path, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Raise EntryReferenced or ImportReferenced where a change of the part takes away what entries refer to."""
    if (part == "entry" and path[1] not in after["entries"]) or (
        part == "importable" and after["entries"][path[1]]["importable"] == "never"
    ):
        _check_entry(policy_id, path[1], before)
    elif part.startswith("import"):
        old, new = before.get("imports", {}), after.get("imports", {})
        for label, imported, target in _all(before):
            if imported is None or imported not in old:
                continue
            named = target in old[imported].get("entries", ())
            if imported not in new or (named and target not in new[imported].get("entries", ())):
                raise ImportReferenced(policy_id=policy_id, imported=imported, referring=label)


def _check_entry(policy_id: str, label: str, document: Mapping[str, Any]) -> None:
    """Raise EntryReferenced if another entry refers to this one."""
    for referring, imported, target in _all(document):
        if imported is None and target == label and referring != label:
            raise EntryReferenced(policy_id=policy_id, label=label, referring=referring)
