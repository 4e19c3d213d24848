"""Why a policy grants something or does not, who could give it, what a change would change, and who may what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from msgspec import UNSET, Struct, field

from skerry import pointer
from skerry_policies.casbin_rules import Authority, Line, lines_of
from skerry_policies.enforcer import Permits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from skerry.signals import Json, Micros, Path
    from skerry_policies.effective import EffectiveEntry, EffectivePolicy

    Readable: TypeAlias = Callable[[str, str], bool]
    """Whether the asker may read the entry with this label in the policy with this id."""

NAMED = 25
"""How many rules or entries at most are named in each part of an explanation."""
LOOKED_AT = 4 * NAMED
"""Places below the asked one at most of which it is found out who decided there."""


class Rule(Struct, frozen=True, rename="camel"):
    """A rule that decided: the effect is `grant` or `revoke`."""

    policy_id: str
    entry: str
    resource: str
    effect: Literal["grant", "revoke"]
    permission: str
    subject: str


class Right(Struct, frozen=True):
    """A permission on a resource, `thing:/attributes/x`."""

    resource: str
    permission: str


class Giver(Struct, frozen=True, rename="camel"):
    """An entry whose subjects have what is missing."""

    policy_id: str
    entry: str
    subjects: list[str]


class Explanation(Struct, frozen=True, rename="camel"):
    """Why something is granted (at the path, and revoked nowhere below) or not; `partly`: at least somewhere below."""

    granted: bool
    partly: bool
    decided_by: list[Rule]
    missing: list[Right] = field(default_factory=list)
    could_be_granted_by: list[Giver] = field(default_factory=list)


class Change(Struct, frozen=True):
    """What one subject, alone, gains or loses; `besides`: resources below where nothing changes."""

    subject: str
    resource: str
    permission: str
    effect: Literal["gained", "lost"]
    besides: tuple[str, ...] = ()


class Access(Struct, frozen=True):
    """What one subject, alone, may do.

    `permissions`: resource -> what holds there, for every path at which that differs from the path above; `read` and
    `write`: of the thing, all of it, part of it or none.
    """

    subject: str
    permissions: dict[str, list[str]]
    read: Literal["all", "part", "none"]
    write: Literal["all", "part", "none"]
    entries: list[str]


def explain(
    effective: EffectivePolicy,
    subjects: Sequence[str],
    asked: Right,
    readable: Readable,
    *,
    namespace: str | None = None,
    now: Micros | None = None,
) -> Explanation:
    """Why a caller with these subjects has the right or not, naming no entry that the asker may not read.

    `namespace`: of the thing that it is about (None: the policy itself); expired subjects say nothing at `now`.
    """
    resource, path = split(asked.resource)
    permission = asked.permission
    spoken = _spoken(effective.entries, subjects, asked, namespace, now)
    compiled = Permits(_rows(line for lines in spoken.values() for line in lines))
    granted, decider = _decided(spoken, resource, path, permission)
    below = [
        (place, compiled.holds(resource, place, permission))
        for place in sorted(spoken)
        if len(place) > len(path) and place[: len(path)] == path
    ]
    deciders = [decider] if decider is not None else []
    others = [place for place, held in below if held != granted][:LOOKED_AT]
    deciders.extend(rule for place in others if (rule := _decided(spoken, resource, place, permission)[1]) is not None)
    missing = [] if granted else [Right(_key(resource, path), permission)]
    if granted:
        missing.extend(Right(_key(resource, place), permission) for place, held in below if not held)
    whole = not missing
    return Explanation(
        granted=whole,
        partly=granted or any(held for _, held in below),
        decided_by=[_rule(line) for line in deciders if may_name(line.entry, readable)][:NAMED],
        missing=missing[:NAMED],
        could_be_granted_by=[]
        if whole
        else _givers(effective.entries, spoken, asked, readable, namespace=namespace, now=now),
    )


def _spoken(
    entries: Iterable[EffectiveEntry],
    subjects: Sequence[str],
    asked: Right,
    namespace: str | None,
    now: Micros | None,
) -> dict[Path, list[Line]]:
    """What entries say to a caller about one permission, by path: of many rules of one effect at a path the first."""
    resource, _ = split(asked.resource)
    wanted = dict.fromkeys(subjects)
    found: dict[Path, list[Line]] = {}
    for entry in entries:
        holders = entry.entry["subjects"]
        for subject in [one for one in holders if one in wanted] if len(wanted) > len(holders) else wanted:
            lines = lines_of((entry,), (subject,), namespace, now)
            for line in lines:
                if (line.resource, line.permission) == (resource, asked.permission):
                    there = found.setdefault(line.path, [])
                    if all(known.granted != line.granted for known in there):
                        there.append(line)
            if lines:  # its other subjects are told the same
                break
    return found


def _decided(
    spoken: Mapping[Path, Sequence[Line]], resource: str, path: Path, permission: str
) -> tuple[bool, Line | None]:
    """Whether the permission holds at a path, and the rule that says so: as Casbin has it, of the rules at and above it."""
    lines = [line for depth in range(len(path) + 1) for line in spoken.get(path[:depth], ())]
    return Authority(lines).decide([line.subject for line in lines], resource, path, permission)


def split(key: str) -> tuple[str, Path]:
    """Resource type and path of a resource key; a key without a type is one of the thing."""
    resource, colon, path = key.partition(":/")
    if not colon:
        return "thing", pointer.parse(key)
    return resource, tuple(segment for segment in pointer.parse(path) if segment)


def may_name(entry: EffectiveEntry, readable: Readable) -> bool:
    """Whether the asker may read everything that an entry is made of."""
    return all(readable(policy_id, label) for policy_id, label in entry.sources)


def _key(resource: str, path: Path) -> str:
    """The resource key."""
    return f"{resource}:{pointer.write(path)}"


def _rule(line: Line) -> Rule:
    """A rule as it is shown."""
    return Rule(
        policy_id=line.entry.policy_id,
        entry=line.entry.origin,
        resource=line.key,
        effect="grant" if line.granted else "revoke",
        permission=line.permission,
        subject=line.subject,
    )


def _givers(
    entries: Iterable[EffectiveEntry],
    spoken: Mapping[Path, Sequence[Line]],
    asked: Right,
    readable: Readable,
    *,
    namespace: str | None,
    now: Micros | None,
) -> list[Giver]:
    """The entries one of whose subjects would give the caller the right on top of what it has."""
    resource, path = split(asked.resource)
    if any(place[: len(path)] == path and not line.granted for place in spoken for line in spoken[place]):
        return []  # what is revoked there or below, no grant gives back
    rows = _rows(line for depth in range(len(path) + 1) for line in spoken.get(path[:depth], ()))
    givers: list[Giver] = []
    for entry in entries:
        gained = _rows(
            line
            for line in lines_of((entry,), list(entry.entry["subjects"])[:1], namespace, now)
            if (line.resource, line.permission) == (resource, asked.permission)
        )
        if not any(granted for *_, granted in gained) or not may_name(entry, readable):
            continue
        if Permits([*rows, *gained]).may(resource, path, asked.permission):
            givers.append(Giver(policy_id=entry.policy_id, entry=entry.origin, subjects=list(entry.entry["subjects"])))
            if len(givers) == NAMED:
                break
    return givers


def simulate(
    before: EffectivePolicy | None,
    after: EffectivePolicy | None,
    *,
    namespace: str | None = None,
    now: Micros | None = None,
) -> list[Change]:
    """What each subject would gain or lose, each by itself, at the highest paths where it does.

    `namespace`: of the things that it is about (None: every namespace).
    """
    old, new = _by_subject(before, namespace, now), _by_subject(after, namespace, now)
    changes: list[Change] = []
    for subject in sorted(old.keys() | new.keys()):
        was, will = old.get(subject, []), new.get(subject, [])
        held, shall = Permits(_rows(was)), Permits(_rows(will))
        spoken: dict[tuple[str, str], set[Path]] = {}
        for line in (*was, *will):
            spoken.setdefault((line.resource, line.permission), set()).add(line.path)
        for (resource, permission), paths in sorted(spoken.items()):
            for path, gain, besides in _changed(held, shall, resource, permission, sorted(paths)):
                changes.append(
                    Change(
                        subject,
                        _key(resource, path),
                        permission,
                        "gained" if gain else "lost",
                        tuple(_key(resource, place) for place in besides),
                    )
                )
    return changes


def _changed(
    before: Permits, after: Permits, resource: str, permission: str, paths: Sequence[Path]
) -> list[tuple[Path, bool, list[Path]]]:
    """The highest paths where a permission is gained or lost, and the highest below each where nothing changes."""
    found: list[tuple[Path, bool, list[Path]]] = []
    marks: dict[Path, tuple[bool | None, list[Path]]] = {}
    for path in paths:
        then = after.holds(resource, path, permission)
        gain = None if then == before.holds(resource, path, permission) else then
        above = next((marks[path[:n]] for n in range(len(path) - 1, -1, -1) if path[:n] in marks), (None, []))
        if gain == above[0]:
            continue
        besides: list[Path] = []
        marks[path] = (gain, besides)
        if gain is None:
            above[1].append(path)
        else:
            found.append((path, gain, besides))
    return found


def _by_subject(effective: EffectivePolicy | None, namespace: str | None, now: Micros | None) -> dict[str, list[Line]]:
    """The rules of every subject."""
    found: dict[str, list[Line]] = {}
    if effective is not None:
        for line in lines_of(effective.entries, None, namespace, now):
            found.setdefault(line.subject, []).append(line)
    return found


def _rows(lines: Iterable[Line]) -> list[tuple[str, Path, str, bool]]:
    """Rules as the compiled form wants them."""
    return [(line.resource, line.path, line.permission, line.granted) for line in lines]


def access(
    effective: EffectivePolicy,
    document: Mapping[str, Json],
    readable: Readable,
    *,
    namespace: str | None = None,
    now: Micros | None = None,
) -> list[Access]:
    """What every subject may do with the thing whose document this is, by the entries that the asker may read."""
    named = [entry for entry in effective.entries if may_name(entry, readable)]
    whole = dict(document)
    found: list[Access] = []
    by_subject: dict[str, list[Line]] = {}
    for line in lines_of(named, None, namespace, now):
        by_subject.setdefault(line.subject, []).append(line)
    for subject, lines in sorted(by_subject.items()):
        permits = Permits(_rows(lines))
        found.append(
            Access(
                subject=subject,
                permissions=_boundaries(permits, lines),
                read=_share(permits, whole, "READ"),
                write=_share(permits, whole, "WRITE"),
                entries=list(dict.fromkeys(line.entry.label for line in lines)),
            )
        )
    return found


def _share(permits: Permits, document: Json, permission: str) -> Literal["all", "part", "none"]:
    """How much of the document the permission covers."""
    seen = permits.view((), document, "thing", permission)
    if seen is UNSET:
        return "none"
    return "all" if seen == document else "part"


def _boundaries(permits: Permits, lines: Iterable[Line]) -> dict[str, list[str]]:
    """What holds at every path that is spoken of, where it differs from the next such path above."""
    spoken = sorted({(line.resource, line.path) for line in lines})
    permissions = sorted({line.permission for line in lines})
    held: dict[tuple[str, Path], list[str]] = {}
    shown: dict[str, list[str]] = {}
    for resource, path in spoken:
        here = [permission for permission in permissions if permits.holds(resource, path, permission)]
        held[resource, path] = here
        above = next(
            (held[resource, path[:n]] for n in range(len(path) - 1, -1, -1) if (resource, path[:n]) in held), []
        )
        if here != above:
            shown[_key(resource, path)] = here
    return shown


def resolved_view(effective: EffectivePolicy, readable: Readable) -> dict[str, Any]:
    """The policy's document with all entries that count, those of others only as far as the asker may read them there.

    What of the policy's own entries may be seen is left to the caller.
    """
    document = effective.documents[effective.policy_id] or {}
    entries = {
        entry.label: entry.entry
        for entry in effective.entries
        if entry.policy_id == effective.policy_id or readable(entry.policy_id, entry.origin)
    }
    return {**document, "entries": entries}


def holds_all(permits: Permits | None, resource: str, permissions: Iterable[str]) -> bool:
    """Whether the caller has every permission on the resource and all below it, as checkPermissions asks (None: no policy)."""
    if permits is None:
        return False
    kind, path = split(resource)
    return all(permits.may(kind, path, permission) for permission in permissions)
