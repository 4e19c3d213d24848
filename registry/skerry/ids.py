# ruff: noqa: N818 - errors are rows of a table
"""Ids of things, policies and features, and definitions: Ditto's rules (ditto.md 1.4)."""

from __future__ import annotations

import re
from functools import lru_cache

from skerry.errors import SkerryError
from skerry.values import check_key

ID_LIMIT = 256

_NAMESPACE = re.compile(r"(?:[a-zA-Z][a-zA-Z0-9_]*(?:[.-][a-zA-Z][a-zA-Z0-9_]*)*)?")
_NAME = re.compile(r"[^\x00-\x1f\x7f-\xff/]+")
_DEFINITION = re.compile(r"[_a-zA-Z0-9\-.]+:[_a-zA-Z0-9\-.]+:[_a-zA-Z0-9\-.]+")
_URL = re.compile(r"https?://[^\s/?#\x00-\x20]+[^\s\x00-\x20]*")


class ThingIdInvalid(SkerryError):
    """Not a thing id."""

    code = "things:id.invalid"
    status = 400
    message = "'{id}' is not a thing id: {problem}"
    description = (
        "An id reads <namespace>:<name>, org.example:T01 for instance, and has at most 256 characters. A namespace is empty or made of "
        "groups that begin with a letter, joined by '.' or '-'; a name has no slash, control character or U+007F to U+00FF."
    )


class PolicyIdInvalid(ThingIdInvalid):
    """Not a policy id."""

    code = "policies:id.invalid"
    message = "'{id}' is not a policy id: {problem}"


class DefinitionInvalid(SkerryError):
    """Not a definition."""

    code = "things:definition.identifier.invalid"
    status = 400
    message = "'{definition}' is not a definition."
    description = (
        "A definition is an http(s) URL or reads <namespace>:<name>:<version>, of letters, digits, '_', '-' and '.'."
    )


def _problem(text: str) -> str | None:
    """What is wrong with an entity id; None when nothing is."""
    if len(text) > ID_LIMIT:
        return f"it has {len(text)} characters, {ID_LIMIT} are allowed"
    namespace, colon, name = text.partition(":")
    if not colon:
        return "it has no colon between namespace and name"
    if not _NAMESPACE.fullmatch(namespace):
        return f"the namespace '{namespace}' is not one"
    if not name:
        return "the name behind the colon is empty"
    if not _NAME.fullmatch(name):
        return "the name has a character that is not allowed"
    return None


@lru_cache(maxsize=65_536)
def check_thing_id(text: str) -> None:
    """Raise ThingIdInvalid unless the text is an id of a thing."""
    if problem := _problem(text):
        raise ThingIdInvalid(id=text, problem=problem)


@lru_cache(maxsize=65_536)
def check_policy_id(text: str) -> None:
    """Raise PolicyIdInvalid unless the text is an id of a policy."""
    if problem := _problem(text):
        raise PolicyIdInvalid(id=text, problem=problem)


def is_namespace(text: str) -> bool:
    """Whether the text is a namespace, of one group or more."""
    return bool(text) and _NAMESPACE.fullmatch(text) is not None


def split_id(text: str) -> tuple[str, str]:
    """(namespace, name) of an id; names may hold further colons."""
    namespace, _, name = text.partition(":")
    return namespace, name


def check_feature_id(text: str) -> None:
    """Raise JsonKeyInvalid unless the text may be a feature's id (`*` may, as Ditto 3.9.6 has it)."""
    check_key(text)


def check_definition(text: str) -> None:
    """Raise DefinitionInvalid unless the text is a URL or <namespace>:<name>:<version>."""
    if not (_URL.fullmatch(text) or _DEFINITION.fullmatch(text)):
        raise DefinitionInvalid(definition=text)
