"""Ditto's rule as a Casbin model: the authority that explains decisions and that the compiled form is held against.

The deepest resource at or above a path decides; at the same depth a revoke beats a grant, over all subjects of the caller.
Casbin's priority effect says the same once every rule's priority is made of its depth and its effect.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import casbin  # type: ignore[import-untyped]  # it ships no types
from msgspec import Struct

from skerry import pointer
from skerry.values import DEPTH_LIMIT
from skerry_policies.enforcer import rules_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from skerry.signals import Micros, Path
    from skerry_policies.effective import EffectiveEntry

MODEL = """
[request_definition]
r = subjects, resource, path, permission

[policy_definition]
p = priority, subject, resource, path, permission, eft, number

[policy_effect]
e = priority(p.eft) || deny

[matchers]
m = r.resource == p.resource && r.permission == p.permission && held(r.subjects, p.subject) && covers(p.path, r.path)
"""


class Line(Struct, frozen=True):
    """One rule for one subject, and the entry that it comes from."""

    subject: str
    resource: str
    path: Path
    permission: str
    granted: bool
    entry: EffectiveEntry

    @property
    def key(self) -> str:
        """The resource key, thing:/features/f."""
        return f"{self.resource}:{pointer.write(self.path)}"


def lines_of(
    entries: Iterable[EffectiveEntry],
    subjects: Sequence[str] | None = None,
    namespace: str | None = None,
    now: Micros | None = None,
) -> list[Line]:
    """The rules of entries, subject by subject (only these subjects, None: all); the rest as `rules_of` has it."""
    lines: list[Line] = []
    for entry in entries:
        holders = entry.entry["subjects"]
        for subject in holders if subjects is None else [one for one in dict.fromkeys(subjects) if one in holders]:
            rows = rules_of((entry.entry,), (subject,), namespace, now).rows
            lines.extend(Line(subject, *row, entry) for row in rows)
    return lines


class Authority:
    """Casbin, asked what the rules say."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        model = casbin.Enforcer.new_model(text=MODEL)
        model["p"]["p"].policy = [_row(line, number) for number, line in enumerate(lines)]
        model.sort_policies_by_priority()
        self._casbin = casbin.Enforcer(model)
        self._casbin.add_function("held", _held)
        self._casbin.add_function("covers", _covers)

    def decide(self, subjects: Sequence[str], resource: str, path: Path, permission: str) -> tuple[bool, Line | None]:
        """Whether the permission holds at the path, and the rule that says so (None: no rule speaks)."""
        granted, row = self._casbin.enforce_ex(tuple(subjects), resource, pointer.write(path), permission)
        return granted, self.lines[int(row[-1])] if row else None

    def below(self, subjects: Sequence[str], resource: str, path: Path, permission: str) -> list[Path]:
        """The paths below this one at which rules speak to the caller, in order."""
        deeper = {
            line.path
            for line in self.lines
            if line.subject in subjects
            and (line.resource, line.permission) == (resource, permission)
            and len(line.path) > len(path)
            and line.path[: len(path)] == path
        }
        return sorted(deeper)

    def may(self, subjects: Sequence[str], resource: str, path: Path, permission: str) -> bool:
        """Granted at the path and at every place below that is spoken of."""
        asked = [path, *self.below(subjects, resource, path, permission)]
        return all(self.decide(subjects, resource, place, permission)[0] for place in asked)

    def may_partly(self, subjects: Sequence[str], resource: str, path: Path, permission: str) -> bool:
        """Granted at the path or at some place below."""
        asked = [path, *self.below(subjects, resource, path, permission)]
        return any(self.decide(subjects, resource, place, permission)[0] for place in asked)


def _row(line: Line, number: int) -> list[str]:
    """A rule as Casbin has it: the smaller the priority, the sooner it decides."""
    priority = 2 * (DEPTH_LIMIT + 1 - len(line.path)) + line.granted
    effect = "allow" if line.granted else "deny"
    where = pointer.write(line.path)
    return [str(priority), line.subject, line.resource, where, line.permission, effect, str(number)]


def _held(subjects: tuple[str, ...], subject: str) -> bool:
    """Whether the rule's subject is one of the caller's."""
    return subject in subjects


@cache
def _end(path: str) -> str:
    """What paths below begin with."""
    return path if path == "/" else f"{path}/"


def _covers(above: str, path: str) -> bool:
    """Whether a rule's path is the asked one or above it."""
    return above == path or path.startswith(_end(above))
