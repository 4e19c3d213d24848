# ruff: noqa: N818 - errors are rows of a table
"""The parts of a policy: what a path names, and which errors speak of it (ditto.md 1.1, 1.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from skerry import pointer
from skerry.errors import SkerryError
from skerry.parts import PathUnknown

if TYPE_CHECKING:
    from skerry.signals import Path


class PolicyNotAccessible(SkerryError):
    """No such policy, as far as the caller can know."""

    code: ClassVar[str] = "policies:policy.notfound"
    status = 404
    message = "No policy '{policy_id}' is visible to you."
    description = "Either it does not exist or it lets you read no part of it."


class EntryNotAccessible(PolicyNotAccessible):
    """A part of a policy that is not there, or of which the caller may read nothing."""

    code = "policies:entry.notfound"
    message = "The policy '{policy_id}' has nothing at {path} that you may see."
    description = "Look at the whole policy to see what it has."


class SubjectsNotAccessible(EntryNotAccessible):
    """The same of an entry's subjects."""

    code = "policies:subjects.notfound"


class SubjectNotAccessible(EntryNotAccessible):
    """The same of a subject."""

    code = "policies:subject.notfound"


class ResourcesNotAccessible(EntryNotAccessible):
    """The same of an entry's resources."""

    code = "policies:resources.notfound"


class ResourceNotAccessible(EntryNotAccessible):
    """The same of a resource."""

    code = "policies:resource.notfound"


class ImportsNotAccessible(EntryNotAccessible):
    """The same of the imports."""

    code = "policies:imports.notfound"


class ImportNotAccessible(EntryNotAccessible):
    """The same of an import."""

    code = "policies:import.notfound"


class PolicyNotModifiable(SkerryError):
    """The caller may not write the policy."""

    code: ClassVar[str] = "policies:policy.notmodifiable"
    status = 403
    message = "You may not change the policy '{policy_id}' at {path}."
    description = "It takes WRITE on policy:{path} and on everything below."


class EntryNotModifiable(PolicyNotModifiable):
    """The same of an entry."""

    code = "policies:entry.notmodifiable"


class SubjectsNotModifiable(PolicyNotModifiable):
    """The same of an entry's subjects."""

    code = "policies:subjects.notmodifiable"


class SubjectNotModifiable(PolicyNotModifiable):
    """The same of a subject."""

    code = "policies:subject.notmodifiable"


class ResourcesNotModifiable(PolicyNotModifiable):
    """The same of an entry's resources."""

    code = "policies:resources.notmodifiable"


class ResourceNotModifiable(PolicyNotModifiable):
    """The same of a resource."""

    code = "policies:resource.notmodifiable"


class ImportsNotModifiable(PolicyNotModifiable):
    """The same of the imports."""

    code = "policies:imports.notmodifiable"


class ImportNotModifiable(PolicyNotModifiable):
    """The same of an import."""

    code = "policies:import.notmodifiable"


_ROWS: dict[str, tuple[type[PolicyNotAccessible], type[PolicyNotModifiable]]] = {
    "policy": (PolicyNotAccessible, PolicyNotModifiable),
    "entries": (PolicyNotAccessible, PolicyNotModifiable),
    "subjects": (SubjectsNotAccessible, SubjectsNotModifiable),
    "subject": (SubjectNotAccessible, SubjectNotModifiable),
    "resources": (ResourcesNotAccessible, ResourcesNotModifiable),
    "resource": (ResourceNotAccessible, ResourceNotModifiable),
    "imports": (ImportsNotAccessible, ImportsNotModifiable),
    "import": (ImportNotAccessible, ImportNotModifiable),
    "import entries": (ImportNotAccessible, ImportNotModifiable),
    "import transitiveImports": (ImportNotAccessible, ImportNotModifiable),
}

_OF_ENTRY = frozenset({"subjects", "resources", "importable", "namespaces", "allowedAdditions", "references"})
_OF_IMPORT = frozenset({"entries", "transitiveImports"})
_DEEPEST = 4


def unknown(path: Path, verb: str = "addressed") -> PathUnknown:
    """The error for a path at which policies have nothing that could be `verb`."""
    return PathUnknown(
        path=pointer.write(path),
        verb=verb,
        description="Parts of a policy are /entries/<label>/(subjects|resources|importable|namespaces|allowedAdditions|references) and /imports/<policy id>; they are put whole.",
    )


def part_of(path: Path) -> str:
    """What a path names: policy, entries, entry, subjects, subject, imports, import, 'import entries' ... Raises PathUnknown."""
    depth = len(path)
    if depth == 0:
        return "policy"
    if path[0] == "imports":
        if depth <= 2:
            return "imports" if depth == 1 else "import"
        if depth == 3 and path[2] in _OF_IMPORT:
            return f"import {path[2]}"
    elif path[0] == "entries":
        if depth <= 2:
            return "entries" if depth == 1 else "entry"
        if path[2] in _OF_ENTRY:
            if depth == 3:
                return path[2]
            if depth == _DEEPEST and path[2] in {"subjects", "resources"}:
                return path[2][:-1]
    raise unknown(path)


def not_accessible(policy_id: str, path: Path) -> PolicyNotAccessible:
    """The error that says that there is nothing to be seen at the path."""
    row = _ROWS.get(part_of(path), (EntryNotAccessible,))[0]
    return row(policy_id=policy_id, path=pointer.write(path))


def not_modifiable(policy_id: str, path: Path) -> PolicyNotModifiable:
    """The error that answers a change for which rights are missing."""
    row = _ROWS[part_of(path)][1] if part_of(path) in _ROWS else EntryNotModifiable
    return row(policy_id=policy_id, path="/" + "/".join(path))


def resource_path(path: Path) -> Path:
    """The path as rights on `policy:` see it: the slashes of a resource key separate."""
    if len(path) == _DEEPEST and path[2] == "resources":
        return (*path[:3], *(segment for segment in path[3].split("/") if segment))
    return path
