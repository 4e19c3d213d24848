# ruff: noqa: N818 - errors are rows of a table
"""Questions about rights: who may what and why, and what a change of a policy would change.

Every answer is the asker's own: nothing stands in it of entries, policies or things that he may not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

from msgspec import Meta, Struct

from skerry import things
from skerry.errors import SkerryError
from skerry.ids import split_id
from skerry.rql.predicate import Compare
from skerry.values import JsonInvalid
from skerry_policies import explain, lockout, references
from skerry_policies.document import check as checked_policy
from skerry_policies.effective import EffectiveEntry, EffectivePolicy, matches
from skerry_policies.explain import Explanation, Right
from skerry_registry import checks
from skerry_registry.aside import aside
from skerry_registry.asking import Asker, Asking
from skerry_registry.search.query import Sort

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from skerry.signals import Json
    from skerry_registry.checks import PermissionCheck
    from skerry_registry.registry import Registry
    from skerry_registry.search.query import After
    from skerry_registry.search.search import Search

RULES = 200_000
"""Rules of one policy, counted for each subject, that are told subject by subject."""
SUBJECTS = 500
"""Subjects that one caller may be asked about with."""
IDS = 25
"""Ids of things that one answer names."""
PAGE = 10_000
"""Ids of things that are asked for together."""
BY_ID = Sort(("thingId",))

T = TypeVar("T")
ThingsOf: TypeAlias = Callable[[tuple[str, ...], str], Awaitable[list[str]]]
"""The ids of the things that have a policy, as far as the caller may see them."""


class PolicyTooRich(SkerryError):
    """A policy that says too much to be told subject by subject."""

    code = "policies:policy.toorich"
    status = 413
    message = "The policy has {count} rules, counted for each subject; {limit} can be told subject by subject."
    description = "Ask explain about the subjects that you mean."


class Question(Struct, frozen=True, rename="camel"):
    """What explain is asked. `thing_id`: of which thing of the policy, where entries are for some namespaces only."""

    subjects: Annotated[list[str], Meta(max_length=SUBJECTS)]
    resource: str
    permission: str
    thing_id: str | None = None


class Affected(Struct, frozen=True):
    """Things that something is true of: how many, and the first of them."""

    count: int
    ids: list[str]


class Share(Struct, frozen=True, omit_defaults=True, rename={"besides": "except"}):
    """A permission on a resource and all below it, except where it stays as it was."""

    resource: str
    permission: str
    besides: tuple[str, ...] = ()


class Difference(Struct, frozen=True):
    """What one subject, alone, would gain and lose, and on which things."""

    subject: str
    gains: list[Share]
    loses: list[Share]
    things: Affected


class Simulation(Struct, frozen=True, rename="camel"):
    """What a change of a policy would come to."""

    policy_id: str
    changes: list[Difference]
    things: Affected


class ThingAccess(Struct, frozen=True, rename="camel"):
    """Who may what with a thing."""

    thing_id: str
    policy_id: str
    subjects: list[explain.Access]


class Inquiries:
    """Answers questions about the rights in a registry."""

    def __init__(self, registry: Registry, things_of: ThingsOf) -> None:
        """`things_of` finds the things of a policy."""
        self._registry = registry
        self._things_of = things_of
        self._turn = asyncio.Semaphore(1)

    async def check(self, asker: Asker, asked: Mapping[str, PermissionCheck]) -> dict[str, bool]:
        """As `checks.check`."""
        return await checks.check(self._registry, asker, asked)

    async def explain(self, asker: Asker, policy_id: str, question: Question) -> Explanation:
        """Why somebody may do something under a policy, or not; of others by the entries that the asker may read.

        Raises PolicyNotAccessible, JsonInvalid.
        """
        kind, _ = explain.split(question.resource)
        namespace = None if kind == "policy" else split_id(question.thing_id or policy_id)[0]
        if not question.subjects:
            raise JsonInvalid(at="/subjects", problem="it names nobody")
        asking = Asking(self._registry, asker)
        asked = Right(question.resource, question.permission)
        asked_for_himself = set(question.subjects) <= set(asker.subjects)

        def ask() -> Explanation:
            whole = asking.policy(policy_id)
            if not asked_for_himself:
                whole = _named(whole, asking)
            return explain.explain(
                whole, question.subjects, asked, asking.may_read, namespace=namespace, now=self._registry.clock()
            )

        return await self._registry.memory.known(ask)

    async def simulate(self, asker: Asker, policy_id: str, changed: Json) -> Simulation:
        """Who would gain or lose what, on which things, if the policy were as it is sent.

        Raises PolicyNotAccessible, and what would refuse the change whoever sends it.
        """
        asking = Asking(self._registry, asker)
        before = await self._registry.memory.known(lambda: asking.policy(policy_id))
        document = checked_policy(policy_id, (), changed, self._registry.clock())
        references.check(document)
        lockout.check(document)
        after = await self._registry.memory.known(lambda: self._registry.rights.effective_of(policy_id, document))
        was = await self._registry.memory.known(lambda: _named(before, asking))
        will = await self._registry.memory.known(lambda: _named(after, asking, sent=policy_id))
        _check_size(*was.entries, *will.entries)
        ids = [id_ for id_ in await self._things_of(asker.subjects, policy_id) if asker.reaches("thing", id_)]
        now = self._registry.clock()
        found: dict[tuple[str, tuple[Share, ...], tuple[Share, ...]], list[str]] = {}
        for namespace, affected in _by_namespace(policy_id, ids, (*was.entries, *will.entries)):
            differing: dict[str, tuple[list[Share], list[Share]]] = {}
            for change in await self._aside(partial(explain.simulate, was, will, namespace=namespace, now=now)):
                gains, loses = differing.setdefault(change.subject, ([], []))
                share = Share(change.resource, change.permission, change.besides)
                (gains if change.effect == "gained" else loses).append(share)
            for subject, (gains, loses) in differing.items():
                found.setdefault((subject, tuple(gains), tuple(loses)), []).extend(affected)
        changes = [
            Difference(subject, list(gains), list(loses), Affected(len(affected), affected[:IDS]))
            for (subject, gains, loses), affected in sorted(found.items(), key=lambda item: item[0][0])
        ]
        return Simulation(policy_id, changes, Affected(len(ids), ids[:IDS]))

    async def access(self, asker: Asker, thing_id: str) -> ThingAccess:
        """Every subject with its rights on a thing. Raises ThingNotAccessible, PolicyNotAccessible."""
        asking = Asking(self._registry, asker)

        def ask() -> tuple[dict[str, Json], EffectivePolicy]:
            document = self._registry.memory.held("thing", thing_id).document
            if document is None:
                raise things.ThingNotAccessible(thing_id=thing_id)
            policy_id, namespace = document["policyId"], split_id(thing_id)[0]
            permits = self._registry.rights.permits(None, policy_id, asker.subjects, namespace)
            if permits is None or not permits.may_partly("thing", (), "READ"):
                raise things.ThingNotAccessible(thing_id=thing_id)
            return document, _named(asking.policy(policy_id), asking)

        document, whole = await self._registry.memory.known(ask)
        _check_size(*whole.entries)
        namespace, now = split_id(thing_id)[0], self._registry.clock()
        found = await self._aside(
            partial(explain.access, whole, document, lambda *_: True, namespace=namespace, now=now)
        )
        return ThingAccess(thing_id, whole.policy_id, found)

    async def _aside(self, work: Callable[[], T]) -> T:
        """Have it worked out beside the loop, one thing after the other: there may be many rules."""
        async with self._turn:
            return await aside("rights", work)


def _check_size(*entries: EffectiveEntry) -> None:
    """Raise PolicyTooRich where there are more rules than can be told apart in good time."""
    count = sum(len(entry.entry["subjects"]) * len(entry.entry["resources"]) for entry in entries)
    if count > RULES:
        raise PolicyTooRich(count=count, limit=RULES)


def _named(whole: EffectivePolicy, asking: Asking, sent: str = "") -> EffectivePolicy:
    """What of a policy may be named to the asker; he knows the entries of the policy that he has `sent`, not what they refer to."""

    def known(policy_id: str, label: str) -> bool:
        return policy_id == sent or asking.may_read(policy_id, label)

    kept = [entry for entry in whole.entries if explain.may_name(entry, known)]
    return EffectivePolicy(whole.policy_id, tuple(kept), whole.documents)


def _by_namespace(policy_id: str, ids: list[str], entries: Iterable[EffectiveEntry]) -> Iterable[tuple[str, list[str]]]:
    """Things for which the same entries count, with one of their namespaces; that of the policy is always among them."""
    patterns = [tuple(entry.entry["namespaces"]) for entry in entries if entry.entry.get("namespaces")]
    groups: dict[tuple[bool, ...], tuple[str, list[str]]] = {}
    known: dict[str, list[str]] = {}
    for namespace in (split_id(policy_id)[0], *(split_id(id_)[0] for id_ in ids)):
        if namespace not in known:
            counting = tuple(matches(pattern, namespace) for pattern in patterns)
            known[namespace] = groups.setdefault(counting, (namespace, []))[1]
    for id_ in ids:
        known[split_id(id_)[0]].append(id_)
    return groups.values()


class Holders:
    """Finds the things of a policy by the search."""

    def __init__(self, search: Search) -> None:
        """`search` is over the same registry."""
        self._search = search

    async def things_of(self, subjects: tuple[str, ...], policy_id: str) -> list[str]:
        """The ids, sorted, of the things that the caller sees to have the policy."""
        found: list[str] = []
        after: After | None = None
        while True:
            page = await self._search.find(
                subjects, Compare("eq", ("policyId",), policy_id), sort=(BY_ID,), after=after, size=PAGE
            )
            found.extend(page.ids)
            after = page.next
            if after is None:
                return found
