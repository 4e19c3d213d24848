"""What a policy may take over from others: only what its writer may read there (ditto.md 3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skerry_policies import parts
from skerry_policies.imports import ImportInvalid
from skerry_registry.runs import Lacking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from skerry.signals import Command
    from skerry_registry.rights import Rights
    from skerry_registry.runs import Run


def check(rights: Rights, run: Run, command: Command) -> None:
    """Refuse imports and references to what is not there or what the writer may not read; the value is in full form.

    Raises PolicyNotAccessible of the imported policy, ImportInvalid, Lacking.
    """
    value, part = command.value, parts.part_of(command.path)
    if command.verb == "delete":
        return
    imported = _imports(part, command)
    source = _Source(rights, run, command)
    questions: list[Callable[[], None]] = [
        lambda policy_id=policy_id, facts=facts: source.check_import(policy_id, facts)  # type: ignore[misc]
        for policy_id, facts in imported.items()
    ]
    for policy_id, label in _references(_entries(part, value)):
        if part == "policy" and policy_id not in imported:
            raise ImportInvalid(
                imported=policy_id,
                policy_id=command.id,
                problem="a reference leads there, and it is not among the imports",
            )
        questions.append(lambda policy_id=policy_id, label=label: source.check_reference(policy_id, label))  # type: ignore[misc]
    _ask_all(questions)


def _imports(part: str, command: Command) -> Mapping[str, Any]:
    """The imports that a change of this part speaks of."""
    value: Any = command.value
    if part == "policy":
        return dict(value.get("imports", {}))
    if part == "imports":
        return dict(value)
    if part == "import":
        return {command.path[1]: value}
    return {command.path[1]: {"entries": value}} if part == "import entries" else {}


def _entries(part: str, value: Any) -> list[Mapping[str, Any]]:
    """The entries that a change of this part speaks of."""
    if part == "policy":
        return list(value["entries"].values())
    if part == "entries":
        return list(value.values())
    if part == "references":
        return [{"references": value}]
    return [value] if part == "entry" else []


def _ask_all(questions: Iterable[Callable[[], None]]) -> None:
    """Ask everything, so that all that is lacking is known at once."""
    keys: set[Any] = set()
    for ask in questions:
        try:
            ask()
        except Lacking as lacking:
            keys |= lacking.keys
    if keys:
        raise Lacking(keys)


def _references(entries: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """The imported policy and the label of every reference that leads to another policy."""
    for entry in entries:
        for reference in entry.get("references", ()):
            if "import" in reference:
                yield reference["import"], reference["entry"]


class _Source:
    """Other policies, as the writer may see them."""

    def __init__(self, rights: Rights, run: Run, command: Command) -> None:
        self._rights = rights
        self._run = run
        self._command = command

    def check_import(self, policy_id: str, facts: Mapping[str, Any]) -> None:
        """The policy must be there, and all of the entries readable that the import brings or names."""
        found = self._entries(policy_id)
        implicit = [label for label, entry in found.items() if entry.get("importable", "implicit") == "implicit"]
        self._check_readable(policy_id, [*implicit, *facts.get("entries", ())])

    def check_reference(self, policy_id: str, label: str) -> None:
        """The entry must be there, importable and readable."""
        entry = self._entries(policy_id).get(label)
        if entry is None or entry.get("importable") == "never":
            problem = f"a reference leads to its entry '{label}', which is not there or never importable"
            raise ImportInvalid(imported=policy_id, policy_id=self._command.id, problem=problem)
        self._check_readable(policy_id, [label])

    def _entries(self, policy_id: str) -> dict[str, dict[str, Any]]:
        """The effective entries of another policy."""
        whole = self._rights.effective(policy_id, run=self._run)
        if whole is None:
            raise parts.PolicyNotAccessible(policy_id=policy_id)
        return {entry.label: entry.entry for entry in whole.entries}

    def _check_readable(self, policy_id: str, labels: Iterable[str]) -> None:
        permits = self._rights.permits(self._run, policy_id, self._command.subjects)
        if permits is None or not all(permits.may("policy", ("entries", label), "READ") for label in labels):
            raise parts.PolicyNotAccessible(
                policy_id=policy_id,
                description=f"To import from '{policy_id}' it must exist, and you need READ on each of its entries that is imported.",
            )
