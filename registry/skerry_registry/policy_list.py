"""The policies that a caller may read, all of them or those that are sought."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Struct, structs

from skerry.rql.evaluate import like

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skerry.signals import Held
    from skerry_registry.asking import Asker
    from skerry_registry.registry import Registry

PAGE = 100
"""Policies that are looked at before others have their turn."""
BEHIND = ";"
"""What sorts right behind the colon of `namespace:name`."""


class Sought(Struct, frozen=True):
    """Which policies are sought: those that name the subject (with * and ?), and that speak of the resource or below."""

    namespaces: tuple[str, ...] = ()
    subject: str = ""
    resource: str = ""


class PolicyList:
    """Lists the policies of a registry."""

    def __init__(self, registry: Registry) -> None:
        """`registry` has the policies."""
        self._registry = registry

    async def find(self, asker: Asker, after: str, limit: int, sought: Sought) -> list[Held]:
        """The policies with ids > `after` that are sought and of which the caller may read anything, by id, filtered."""
        found: list[Held] = []
        for first, stop in _ranges(sought.namespaces):
            place = max(after, first)
            while len(found) < limit and (not stop or place < stop):
                ids = await self._registry.memory.ids("policy", place, PAGE)
                await self._registry.memory.bring("policy", [id_ for id_ in ids if asker.reaches("policy", id_)])
                for id_ in ids:
                    if stop and id_ >= stop:
                        break
                    shown = await self._shown(id_, asker, sought) if asker.reaches("policy", id_) else None
                    if shown is not None:
                        found.append(shown)
                if len(ids) < PAGE:
                    break
                place = ids[-1]
                await asyncio.sleep(0)
        return found[:limit]

    async def _shown(self, policy_id: str, asker: Asker, sought: Sought) -> Held | None:
        """A policy as far as the asker may read it, if that part of it is sought."""
        return await self._registry.memory.known(lambda: self._shown_now(policy_id, asker, sought))

    def _shown_now(self, policy_id: str, asker: Asker, sought: Sought) -> Held | None:
        held = self._registry.memory.held("policy", policy_id)
        if held.document is None or self._speaks_not_of(held.document, asker):
            return None
        permits = self._registry.rights.permits(None, policy_id, asker.subjects)
        if permits is None or not permits.may_partly("policy", (), "READ"):
            return None
        shown = permits.view((), held.document, "policy")
        document = {**({} if shown is UNSET else shown), "policyId": policy_id}
        return structs.replace(held, document=document) if _fits(document, sought) else None

    def _speaks_not_of(self, document: dict[str, Any], asker: Asker) -> bool:
        """Whether the policy, all by itself, has none of the asker's subjects: no rights need be compiled to know that."""
        if self._registry.rights.has_roots or document.get("imports"):
            return False
        entries = document["entries"].values()
        return all(entry["subjects"].keys().isdisjoint(asker.subjects) for entry in entries)


def _ranges(namespaces: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The first id (exclusive) and the last (exclusive, '' for none) of each namespace, in order."""
    if not namespaces:
        yield "", ""
    for namespace in sorted(namespaces, key=lambda name: name + ":"):
        yield namespace + ":", namespace + BEHIND


def _fits(document: dict[str, Any], sought: Sought) -> bool:
    """Whether some entry of what is visible names the subject, and one speaks of the resource or of anything below."""
    entries = [entry for entry in document.get("entries", {}).values() if isinstance(entry, dict)]
    if sought.subject:
        pattern = like(sought.subject, ignoring_case=False)
        if not any(pattern.fullmatch(subject) for entry in entries for subject in entry.get("subjects", {})):
            return False
    if not sought.resource:
        return True
    exact = sought.resource.rstrip("/") if not sought.resource.endswith(":/") else sought.resource[:-1]
    return any(
        key in {sought.resource, exact} or key.startswith(exact + "/")
        for entry in entries
        for key in entry.get("resources", {})
    )
