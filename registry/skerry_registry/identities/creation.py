"""Who may create which things and policies, before any policy is asked: the operator's lists of grants and revokes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from skerry.ids import split_id
from skerry.rql.evaluate import like
from skerry.signals import Json
from skerry_registry.identities.refusals import EntityNotCreatable

TYPES = ("thing", "policy")


class CreationRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of a list; what is empty matches everything. Patterns know `*` and `?`.

    `thing_definitions`: of things only; the empty text stands for a thing without one.
    """

    resource_types: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    auth_subjects: tuple[str, ...] = ()
    thing_definitions: tuple[str, ...] = ()


class Creation:
    """Both lists: an entity may be created where an entry grants it and none revokes it."""

    def __init__(self, grant: Sequence[CreationRule], revoke: Sequence[CreationRule]) -> None:
        """Without a list of grants everything is granted."""
        self._grant = [_Entry(rule) for rule in grant or (CreationRule(),)]
        self._revoke = [_Entry(rule) for rule in revoke]

    @classmethod
    def of(cls, grant: Sequence[CreationRule], revoke: Sequence[CreationRule]) -> Creation | None:
        """The lists of the settings; None where they restrict nothing."""
        return cls(grant, revoke) if grant or revoke else None

    def check(self, kind: str, id_: str, subjects: Sequence[str], definition: Json = None) -> None:
        """Raise EntityNotCreatable unless these subjects may create the entity."""
        asked = (kind, split_id(id_)[0], subjects, definition if isinstance(definition, str) else None)
        if not any(entry.matches(*asked) for entry in self._grant) or any(e.matches(*asked) for e in self._revoke):
            with_ = f" with the definition '{definition}'" if isinstance(definition, str) else ""
            raise EntityNotCreatable(kind=kind, id=id_, definition=with_)


class _Entry:
    """An entry made ready."""

    def __init__(self, rule: CreationRule) -> None:
        self._types = frozenset(rule.resource_types or TYPES)
        self._namespaces = _patterns(rule.namespaces)
        self._subjects = _patterns(rule.auth_subjects)
        self._definitions = _patterns(tuple(text for text in rule.thing_definitions if text))
        self._undefined = "" in rule.thing_definitions
        self._defined = bool(rule.thing_definitions)

    def matches(self, kind: str, namespace: str, subjects: Sequence[str], definition: str | None) -> bool:
        return (
            kind in self._types
            and _any(self._namespaces, (namespace,))
            and _any(self._subjects, subjects)
            and (kind != "thing" or not self._defined or self._takes(definition))
        )

    def _takes(self, definition: str | None) -> bool:
        if definition is None:
            return self._undefined
        return bool(self._definitions) and _any(self._definitions, (definition,))


def _patterns(texts: Sequence[str]) -> list[Callable[[str], Any]]:
    return [like(text, ignoring_case=False).fullmatch for text in texts]


def _any(patterns: Sequence[Callable[[str], Any]], values: Sequence[str]) -> bool:
    """Whether a value matches a pattern; no patterns match everything."""
    return not patterns or any(pattern(value) for pattern in patterns for value in values)


def contradictions(name: str, rules: Sequence[CreationRule]) -> Iterator[str]:
    """One line for everything that cannot work."""
    for number, rule in enumerate(rules, 1):
        for kind in rule.resource_types:
            if kind not in TYPES:
                yield f"{name}, entry {number}: there is no resource type '{kind}'; possible are {', '.join(TYPES)}."
        if rule.thing_definitions and set(rule.resource_types) != {"thing"}:
            yield f"{name}, entry {number}: thing_definitions say nothing of policies; set resource_types = ['thing']."
