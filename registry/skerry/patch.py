# ruff: noqa: N818 - errors are rows of a table
"""Merge patches: RFC 7396, with Ditto's `{{ ~regex~ }}` keys that delete every member whose key matches."""

from __future__ import annotations

import re
from functools import lru_cache

from skerry.errors import SkerryError
from skerry.signals import Json
from skerry.values import same

PATTERN_LIMIT = 200
"""Characters of a key pattern."""
PATTERNS_LIMIT = 10
"""Key patterns in one patch."""
EFFORT_LIMIT = 1_000_000
"""Steps of matching that one pattern may cost at the worst, over all keys of the object."""

_KEY = re.compile(r"\{\{\s*~(.+)~\s*\}\}", re.DOTALL)
_UNSAFE = re.compile(r"\)[*+?{]|\\[1-9]|\(\?(?!:)")
_CHOICE = re.compile(r"[*+?{|]")
CHOICE_LIMIT = 6
"""Quantifiers and alternatives that one pattern may have: each may multiply the work by the length of a key."""


class MergeInvalid(SkerryError):
    """A patch that cannot be applied."""

    code = "things:merge.invalid"
    status = 400
    message = "The merge patch is not valid: {problem}"
    description = "A merge patch is RFC 7396 JSON (application/merge-patch+json); the key '{{{{ ~regex~ }}}}' with null deletes all matching keys."


def _pattern(key: str) -> tuple[re.Pattern[str], int] | None:
    """The compiled pattern in a key and how many quantifiers it has; None for a plain key. Raises MergeInvalid."""
    return _remembered(key) if len(key) <= 2 * PATTERN_LIMIT else _compiled(key)


def _compiled(key: str) -> tuple[re.Pattern[str], int] | None:
    """`_pattern` of a key that was not met before."""
    found = _KEY.fullmatch(key)
    if not found:
        return None
    text = found[1]
    if len(text) > PATTERN_LIMIT:
        raise MergeInvalid(problem=f"a key pattern has {len(text)} characters, {PATTERN_LIMIT} are allowed")
    if _UNSAFE.search(text):
        raise MergeInvalid(
            problem=f"the key pattern '{text}' repeats a group, refers back or looks around, which could take for ever"
        )
    choices = len(_CHOICE.findall(text.replace("(?:", "(")))
    if choices > CHOICE_LIMIT:
        raise MergeInvalid(
            problem=f"the key pattern '{text}' has more than {CHOICE_LIMIT} repetitions and alternatives"
        )
    try:
        return re.compile(text), choices
    except (re.error, RecursionError, OverflowError) as error:
        raise MergeInvalid(problem=f"the key pattern '{text}' is not a regular expression: {error}") from error


_remembered = lru_cache(maxsize=1_024)(_compiled)


def is_pattern(key: str) -> bool:
    """Whether the key is a pattern when null stands at it. Raises MergeInvalid for a pattern that does not compile."""
    return key.startswith("{{") and _pattern(key) is not None


def matches(key: str, members: dict[str, Json]) -> list[str]:
    """The keys of the object that the pattern matches as a whole. Raises MergeInvalid when that could take too long."""
    found = _pattern(key)
    if found is None:
        return []
    pattern, choices = found
    if sum((len(member) + 1) ** choices for member in members) > EFFORT_LIMIT:
        raise MergeInvalid(
            problem=f"the key pattern '{pattern.pattern}' has too many repetitions for keys as long as these"
        )
    return [member for member in members if pattern.fullmatch(member)]


def merge(target: Json, patch: Json) -> Json:
    """The target after the patch (RFC 7396); what does not change is shared, nothing is changed in place."""
    if type(patch) is not dict:
        return patch
    result: dict[str, Json] = target.copy() if type(target) is dict else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
            if key.startswith("{{"):
                for member in matches(key, result):
                    if patch.get(member) is None:
                        del result[member]
        elif type(value) is dict:
            result[key] = merge(result.get(key), value)
        else:
            result[key] = value
    return result


def check(patch: Json) -> None:
    """Raise MergeInvalid unless the key patterns in the patch are few and safe regular expressions."""
    found = 0
    waiting = [patch]
    while waiting:
        part = waiting.pop()
        if type(part) is not dict:
            continue
        for key, value in part.items():
            if value is None:
                if key.startswith("{{") and _pattern(key) is not None:
                    found += 1
            elif type(value) is dict:
                waiting.append(value)
        if found > PATTERNS_LIMIT:
            raise MergeInvalid(problem=f"it has more than {PATTERNS_LIMIT} key patterns")


def minimize(target: Json, patch: Json) -> Json:
    """The part of a patch that changes the target; an empty object when none does."""
    if type(patch) is not dict or type(target) is not dict:
        return patch
    kept: dict[str, Json] = {}
    for key, value in patch.items():
        if value is None:
            if key in target or (key.startswith("{{") and matches(key, target)):
                kept[key] = value
        elif key not in target:
            kept[key] = value
        elif type(value) is dict and type(target[key]) is dict:
            if below := minimize(target[key], value):
                kept[key] = below
        elif not same(target[key], value):
            kept[key] = value
    return kept
