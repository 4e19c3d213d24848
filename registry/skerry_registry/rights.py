"""Who may what, by the policies in memory: their sets resolved, compiled once and kept while they stay the same."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, Any

from skerry.ids import PolicyIdInvalid, check_policy_id, is_namespace, split_id
from skerry_policies import imports
from skerry_policies.effective import EffectivePolicy, matches
from skerry_policies.enforcer import Permits, rules_of
from skerry_registry.runs import Lacking

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from skerry.signals import Clock, Micros, Path
    from skerry_registry.heads import Heads, Key
    from skerry_registry.runs import Run


ALIKE = 1_000
"""Sets of rules for which the compiled form is shared among policies, so long as they are of"""
ALIKE_ROWS = 64
"""rules at most."""

_REFERENCES = methodcaller("get", "references")


_NOTHING = Permits(())


class _Kept:
    """Compiled rights, what they rest upon and how long they hold. `plain`: on one document, everywhere and for ever."""

    __slots__ = ("document", "documents", "permits", "plain", "size", "until")

    def __init__(
        self,
        document: dict[str, Any],
        permits: Permits,
        documents: Mapping[str, dict[str, Any] | None] | None,
        until: Micros | None,
        *,
        plain: bool,
        size: int,
    ) -> None:
        self.document = document
        self.size = size
        self.permits = permits
        self.documents = documents
        self.until = until
        self.plain = plain


class _Failed:
    """A policy whose imports have no end, the documents that say so, and what is told of it."""

    __slots__ = ("documents", "facts")

    def __init__(self, documents: dict[str, dict[str, Any] | None], facts: dict[str, Any]) -> None:
        self.documents = documents
        self.facts = facts


class Rights:
    """The rights under policies that are in memory; bounded, the oldest go when there are too many."""

    def __init__(
        self,
        heads: Heads,
        clock: Clock,
        roots: Mapping[str, Sequence[str]] | None = None,
        *,
        limit: int = 40_000,
        size_limit: int = 500_000,
    ) -> None:
        """`roots`: namespace pattern -> root policies; `size_limit`: nodes of all compiled rights together, and entries of all sets."""
        self._heads = heads
        self._clock = clock
        self._roots = _by_precedence(roots or {})
        self._limit = limit
        self._size_limit = size_limit
        self._size = 0
        self._kept: dict[tuple[Any, ...], _Kept] = {}
        self._sets: dict[str, EffectivePolicy | _Failed] = {}
        self._set_size = 0
        self._alike: dict[tuple[tuple[str, Path, str, bool], ...], Permits] = {}

    @property
    def has_roots(self) -> bool:
        """Whether there are root policies of namespaces."""
        return bool(self._roots)

    def permits(
        self, run: Run | None, policy_id: str, subjects: tuple[str, ...], namespace: str | None = None
    ) -> Permits | None:
        """The caller's rights under a policy on things of a namespace (None: on the policy); None: no such policy.

        Raises Lacking for policies that are not in memory. Imports without end give nobody any right; where a command is
        decided, in a run, they raise ImportInvalid.
        """
        document = self._visible(run, policy_id)
        if document is None:
            return None
        kept = self._kept.get((policy_id, subjects))
        if kept is not None and kept.document is document and kept.plain:
            return kept.permits
        try:
            return self.permits_under(run, policy_id, document, subjects, namespace)
        except imports.ImportInvalid:
            if run is None:  # one of many that are looked at: nobody may anything by it
                return _NOTHING
            raise

    def permits_under(
        self,
        run: Run | None,
        policy_id: str,
        document: dict[str, Any],
        subjects: tuple[str, ...],
        namespace: str | None = None,
    ) -> Permits:
        """The same under a document that the policy has or may get."""
        kept = self._kept.get((policy_id, subjects))
        if kept is not None and kept.document is document and kept.plain:
            return kept.permits
        now = self._clock()
        key = (policy_id, subjects, namespace)
        kept = self._kept.get(key)
        if kept is not None and kept.document is document and (kept.until is None or now < kept.until):
            others = kept.documents
            if others is None or all(
                self._visible(run, other) is found for other, found in others.items() if other != policy_id
            ):
                return kept.permits
        roots = self._roots_of(policy_id)
        documents: Mapping[str, dict[str, Any] | None] | None = None
        if roots or document.get("imports") or any(map(_REFERENCES, document["entries"].values())):
            whole = self._resolve(run, policy_id, document, roots)
            rules = rules_of([entry.entry for entry in whole.entries], subjects, namespace, now)
            documents = whole.documents
        else:
            self._forget_set(policy_id)
            rules = rules_of(document["entries"].values(), subjects, namespace, now)
        plain = documents is None and rules.everywhere and rules.until is None
        permits, size = self._compile(rules.rows)
        self._keep(key[:2] if plain else key, _Kept(document, permits, documents, rules.until, plain=plain, size=size))
        return permits

    def _compile(self, rows: list[tuple[str, Path, str, bool]]) -> tuple[Permits, int]:
        """Rights by their rules, and how much memory they take: next to none where many callers have the very same."""
        if len(rows) > ALIKE_ROWS:
            permits = Permits(rows)
            return permits, permits.size
        key = tuple(rows)
        known = self._alike.get(key)
        if known is not None:
            return known, 1
        if len(self._alike) >= ALIKE:
            self._alike.clear()
        permits = self._alike[key] = Permits(rows)
        return permits, permits.size

    def lasts(self, policy_id: str, subjects: tuple[str, ...], namespace: str | None = None) -> bool:
        """Whether the rights that `permits` has just answered hold until a policy changes: no subject of theirs expires."""
        kept = (self._kept.get((policy_id, subjects)), self._kept.get((policy_id, subjects, namespace)))
        return all(one is None or one.until is None for one in kept)

    def effective(self, policy_id: str, namespace: str | None = None, run: Run | None = None) -> EffectivePolicy | None:
        """All entries that count under a policy on things of a namespace (None: whatever their namespaces).

        None: no such policy. Raises as `permits` does.
        """
        document = self._visible(run, policy_id)
        if document is None:
            return None
        whole = self.effective_of(policy_id, document, run)
        if namespace is None:
            return whole
        kept = [entry for entry in whole.entries if matches(entry.entry.get("namespaces") or (), namespace)]
        return EffectivePolicy(policy_id, tuple(kept), whole.documents)

    def effective_of(self, policy_id: str, document: dict[str, Any], run: Run | None = None) -> EffectivePolicy:
        """The same of a document that the policy has or may get, in every namespace."""
        return self._resolve(run, policy_id, document, self._roots_of(policy_id))

    def _visible(self, run: Run | None, policy_id: str) -> dict[str, Any] | None:
        """The document that counts: the durable one, or what this very run has made of it."""
        key: Key = ("policy", policy_id)
        entry = self._heads.find(key)
        if entry is None:
            raise Lacking([key])
        held = entry.held
        if held.revision == 0 or (run is not None and key in run.changed):
            held = entry.head
        return held.document

    def _resolve(
        self, run: Run | None, policy_id: str, document: dict[str, Any], roots: Sequence[str]
    ) -> EffectivePolicy:
        """The policy's set, or that it has none, from memory while all of its documents are the same."""
        known = self._sets.get(policy_id)
        if known is not None and known.documents[policy_id] is document:
            others = ((other, found) for other, found in known.documents.items() if other != policy_id)
            if all(self._visible(run, other) is found for other, found in others):
                if isinstance(known, _Failed):
                    raise imports.ImportInvalid(**known.facts)
                return known
        lacking: set[Key] = set()
        loaded: dict[str, dict[str, Any] | None] = {policy_id: document}

        def load(wanted: str) -> dict[str, Any] | None:
            try:
                loaded[wanted] = self._visible(run, wanted)
            except Lacking as missing:
                lacking.update(missing.keys)
                return None
            return loaded[wanted]

        try:
            whole = imports.resolve(policy_id, document, load, roots)
        except imports.ImportInvalid as error:  # what was not in memory could only have added to it
            self._keep_set(policy_id, _Failed(loaded, dict(error.facts)))
            raise
        if lacking:
            raise Lacking(lacking)
        self._keep_set(policy_id, whole)
        return whole

    def _forget_set(self, policy_id: str) -> None:
        """Give up a policy's set."""
        gone = self._sets.pop(policy_id, None)
        if gone is not None:
            self._set_size -= _size_of(gone)

    def _roots_of(self, policy_id: str) -> tuple[str, ...]:
        """The root policies of a policy's namespace, the closest pattern first."""
        if not self._roots:
            return ()
        namespace, _ = split_id(policy_id)
        found = (
            root for pattern, roots in self._roots if pattern == "*" or matches((pattern,), namespace) for root in roots
        )
        return tuple(dict.fromkeys(root for root in found if root != policy_id))

    def _keep_set(self, policy_id: str, whole: EffectivePolicy | _Failed) -> None:
        """Remember a policy's set, and make room: one that imports much is large."""
        self._forget_set(policy_id)
        self._set_size += _size_of(whole)
        while self._sets and (len(self._sets) >= self._limit or self._set_size > self._size_limit):
            self._forget_set(next(iter(self._sets)))
        self._sets[policy_id] = whole

    def _keep(self, key: tuple[Any, ...], kept: _Kept) -> None:
        """Take compiled rights in, and make room."""
        for old in {key, key[:2]}:
            if old in self._kept:
                self._forget(old)
        self._size += kept.size
        while self._kept and (len(self._kept) >= self._limit or self._size > self._size_limit):
            self._forget(next(iter(self._kept)))
        self._kept[key] = kept

    def _forget(self, key: tuple[Any, ...]) -> None:
        """Give up compiled rights."""
        self._size -= self._kept.pop(key).size


def _size_of(whole: EffectivePolicy | _Failed) -> int:
    """What it counts for in the room for sets: its entries, or where there are none its documents."""
    return len(whole.documents if isinstance(whole, _Failed) else whole.entries)


def _by_precedence(roots: Mapping[str, Sequence[str]]) -> list[tuple[str, Sequence[str]]]:
    """Patterns and their policies: exact namespaces first, then the longest, `*` last."""

    def rank(pattern: str) -> tuple[bool, int]:
        return (not pattern.endswith("*"), len(pattern))

    return sorted(roots.items(), key=lambda item: rank(item[0]), reverse=True)


def contradictions(roots: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What is wrong with the operator's root policies, a line each."""
    for pattern, policies in roots.items():
        if pattern != "*" and not is_namespace(pattern.removesuffix(".*")):
            yield f"namespace_policies: '{pattern}' is no namespace; write org.example, org.example.* or *."
        for policy_id in policies:
            try:
                check_policy_id(policy_id)
            except PolicyIdInvalid as error:
                yield f"namespace_policies of '{pattern}': {error.text}"
