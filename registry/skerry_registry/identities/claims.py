"""Templates of the settings, such as `{{ jwt:realm_access/roles }}`: what they come to, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from skerry import placeholders
from skerry.errors import SkerryError
from skerry.signals import Json


def values_of(template: str, claims: Mapping[str, Json]) -> list[str]:
    """Every text of the template, one for each combination of values; none where a claim is missing.

    Raises PlaceholderTooComplex.
    """
    return placeholders.resolve(template, {"jwt": placeholders.json(claims)})


def problems_of(template: str, scopes: Sequence[str]) -> Iterator[str]:
    """What is wrong with a template of the settings."""
    try:
        placeholders.resolve(template, dict.fromkeys(scopes, lambda _: []))
    except SkerryError as error:
        yield f"'{template}': {error.text} {error.payload().get('description', '')}".rstrip()
    if "{" not in template and template.strip().startswith(tuple(f"{scope}:" for scope in scopes)):
        yield f"'{template}' is taken as it stands, for it has no braces; write {{{{ {template.strip()} }}}}."
    if template.count("{{") != template.count("}}"):
        yield f"'{template}' is not written as a placeholder is, such as {{{{ jwt:sub }}}}."
