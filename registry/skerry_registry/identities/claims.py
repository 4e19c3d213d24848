"""What a template such as `{{ jwt:realm_access/roles }}` comes to for the claims of a token."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

import msgspec

from skerry.signals import Json

PLACEHOLDER = re.compile(r"\{\{\s*([a-z-]+):([^{}|]+?)\s*(?:\|([^{}]*))?\}\}")
VALUES_MAX = 500
"""Texts that one template may come to."""


def values_of(template: str, claims: Mapping[str, Json]) -> list[str]:
    """Every text of the template, one for each combination of values; none where a claim is missing."""
    parts: list[list[str]] = []
    place = 0
    for match in PLACEHOLDER.finditer(template):
        parts.extend(([template[place : match.start()]], claim(claims, match[2])))
        place = match.end()
    parts.append([template[place:]])
    return ["".join(texts) for texts in itertools.islice(itertools.product(*parts), VALUES_MAX)]


def claim(claims: Mapping[str, Json], path: str) -> list[str]:
    """The values at a path such as `realm_access/roles`, as texts; lists on the way and at the end are gone through."""
    found: list[Json] = [claims]
    for name in path.strip("/").split("/"):
        items = [item for value in found for item in (value if isinstance(value, list) else [value])]
        found = [item[name] for item in items if isinstance(item, dict) and name in item]
    texts = (_text(item) for value in found for item in (value if isinstance(value, list) else [value]))
    return list(dict.fromkeys(texts))


def _text(value: Json) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def problems_of(template: str, prefixes: frozenset[str]) -> Iterator[str]:
    """What is wrong with a template of the settings."""
    rest = PLACEHOLDER.sub("", template)
    if "{{" in rest or "}}" in rest:
        yield f"'{template}' is not written as a placeholder is, such as {{{{ jwt:sub }}}}."
    for match in PLACEHOLDER.finditer(template):
        if match[1] not in prefixes:
            yield f"'{template}' has the placeholder {match[1]}:; possible here: {', '.join(sorted(prefixes))}."
