# ruff: noqa: N818 - errors are rows of a table
"""The guard against policies that nobody could change any more (ditto.md 3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skerry.errors import SkerryError
from skerry_policies import imports

if TYPE_CHECKING:
    from skerry.signals import Path


class PolicyLocked(SkerryError):
    """Nobody could ever change the policy again."""

    code = "policies:policy.modificationinvalid"
    status = 403
    message = "The policy '{policy_id}' would leave nobody with WRITE on policy:/."
    description = "Keep at least one subject without expiry in an entry that grants WRITE on policy:/ itself."


class EntryLocked(PolicyLocked):
    """The same, by a change of one entry."""

    code = "policies:entry.modificationinvalid"


_GUARDED = frozenset({"policy", "entries", "entry", "subjects", "subject", "resources", "resource"})


def check(document: dict[str, Any], part: str = "policy", path: Path = ()) -> None:
    """Refuse a document that nobody could change any more after this part was (skipped when it imports others)."""
    if part not in _GUARDED or document.get("imports"):
        return
    entries = [entry.entry for entry in imports.resolve(document["policyId"], document, _nothing).entries]
    writers = {subject for entry in entries if _says(entry, "grant") for subject in _lasting(entry)}
    writers.difference_update(subject for entry in entries if _says(entry, "revoke") for subject in entry["subjects"])
    if not writers:
        row = PolicyLocked if len(path) <= 1 else EntryLocked
        raise row(policy_id=document["policyId"])


def _says(entry: dict[str, Any], effect: str) -> bool:
    """Whether the entry grants or revokes WRITE on exactly policy:/."""
    return "WRITE" in entry["resources"].get("policy:/", {}).get(effect, ())


def _lasting(entry: dict[str, Any]) -> list[str]:
    """The subjects that do not expire."""
    return [subject for subject, facts in entry["subjects"].items() if "expiry" not in facts]


def _nothing(_: str) -> None:
    """The document of a policy that is not looked at."""
