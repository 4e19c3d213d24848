# ruff: noqa: N818 - errors are rows of a table
"""Placeholders and the functions behind them: `{{ jwt:roles | fn:filter('like','dev*') | fn:upper() }}` (ditto.md 4.4)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias
from urllib.parse import quote_plus, unquote_plus

import msgspec
from msgspec import UNSET

from skerry import patterns
from skerry.errors import SkerryError
from skerry.rql import instant
from skerry.rql.evaluate import like
from skerry.signals import Json, Micros

FUNCTIONS_LIMIT = 10
"""Functions in one placeholder."""
VALUES_LIMIT = 1_000
"""Texts that one text with placeholders may come to."""

ValuesOf: TypeAlias = Callable[[str], Sequence[str] | None]
"""The values of a name within one scope: several for an array, none where there is no value, None for an unknown name."""
Scopes: TypeAlias = Mapping[str, ValuesOf]
"""What stands before the colon -> what stands behind it -> values."""


class PlaceholderUnresolved(SkerryError):
    """A placeholder that nothing is known of."""

    code = "placeholder:unresolved"
    status = 400
    message = "The placeholder '{placeholder}' is not known here."
    description = "Known here are: {known}."


class PlaceholderNotResolvable(SkerryError):
    """A placeholder in a payload that none may stand for."""

    code = "placeholder:placeholder.notresolvable"
    status = 400
    message = "The placeholder '{placeholder}' cannot be resolved in a payload."
    description = "In the id of a subject there may be: {known}."


class FunctionUnknown(SkerryError):
    """A function that does not exist."""

    code = "placeholder:function.unknown"
    status = 400
    message = "There is no function '{function}'."
    description = "Functions are: {known}."


class FunctionSignatureInvalid(SkerryError):
    """Other parameters than the function takes."""

    code = "placeholder:function.signature.invalid"
    status = 400
    message = "The function fn:{function} does not take the parameters {parameters}."
    description = "It reads fn:{function}{signature}; texts stand in quotes."


class PlaceholderTooComplex(SkerryError):
    """Too many functions or values."""

    code = "placeholder:function.too.complex"
    status = 400
    message = "The placeholder '{placeholder}' is too complex: {problem}."
    description = "Take it apart, or ask for less."


_PLACE = re.compile(r"\{\{\s*((?:\}[^}]|[^}])*+)\}\}|\$\{([^}]*+)\}", re.DOTALL)
_STAGE = re.compile(r"(?:[^|'\"]++|'(?:\\'|[^'])*+'|\"(?:\\\"|[^\"])*+\")++", re.DOTALL)
_CALL = re.compile(r"fn:([a-z0-9-]+)\((.*)\)", re.DOTALL)
_PARAMETER = re.compile(r"\s*(?:'((?:\\'|[^'])*+)'|\"((?:\\\"|[^\"])*+)\"|([\w-]+:[^,\s]+))\s*(,|\Z)", re.DOTALL)


def has_placeholder(text: str) -> bool:
    """Whether there is something in the text to resolve."""
    return ("{{" in text or "${" in text) and _PLACE.search(text) is not None


def only(text: str) -> str | None:
    """What stands between the braces, where the text is one placeholder and nothing besides."""
    found = _PLACE.fullmatch(text)
    return None if found is None else (found[1] if found[1] is not None else found[2]).strip()


def resolve(text: str, scopes: Scopes) -> list[str]:
    """Every text that `text` stands for, with all placeholders replaced: one without arrays, none where a value is missing.

    Raises PlaceholderUnresolved, FunctionUnknown, FunctionSignatureInvalid, PlaceholderTooComplex.
    """
    if "{{" not in text and "${" not in text:
        return [text]
    texts = [""]
    end, deleted, others = 0, 0, 0
    for found in _PLACE.finditer(text):
        before = text[end : found.start()]
        end = found.end()
        others += bool(before)
        values = evaluate((found[1] if found[1] is not None else found[2]).strip(), scopes)
        if values is None:
            deleted += 1
            values = [""]
        else:
            others += 1
        if len(texts) * len(values) > VALUES_LIMIT:
            raise PlaceholderTooComplex(placeholder=text, problem=f"it has more than {VALUES_LIMIT} values")
        texts = [f"{start}{before}{value}" for start in texts for value in values]
    if deleted and not others and end == len(text):
        return []
    return [f"{start}{text[end:]}" for start in texts]


def evaluate(placeholder: str, scopes: Scopes) -> list[str] | None:
    """What stands between the braces, evaluated: values, none where there is no value, None where fn:delete took it away."""
    raw = _STAGE.findall(placeholder)
    stages = [stage.strip() for stage in raw]
    if not raw or sum(map(len, raw)) + len(raw) - 1 != len(placeholder):
        raise _unresolved(placeholder, scopes)
    if len(stages) > FUNCTIONS_LIMIT + 1:
        raise PlaceholderTooComplex(placeholder=placeholder, problem=f"it has more than {FUNCTIONS_LIMIT} functions")
    values = [] if stages[0].startswith("fn:") else _single(stages.pop(0), scopes)
    for stage in stages:
        call = _CALL.fullmatch(stage)
        function = _FUNCTIONS.get(call[1]) if call is not None else None
        if call is None or function is None:
            raise FunctionUnknown(function=stage, known=", ".join(f"fn:{name}" for name in _FUNCTIONS))
        parameters = _parameters(call[2], scopes)
        if parameters is None or not function.least <= len(parameters) <= function.most:
            raise FunctionSignatureInvalid(function=call[1], parameters=f"({call[2]})", signature=function.signature)
        if function.apply is None:
            return None
        values = function.apply(values, *parameters)
        if len(values) > VALUES_LIMIT:
            raise PlaceholderTooComplex(placeholder=placeholder, problem=f"it has more than {VALUES_LIMIT} values")
    return values


def _single(placeholder: str, scopes: Scopes) -> list[str]:
    """The values of one `scope:name`."""
    scope, colon, name = placeholder.partition(":")
    values_of = scopes.get(scope.strip())
    values = values_of(name.strip()) if values_of is not None and colon else None
    if values is None:
        raise _unresolved(placeholder, scopes)
    return list(values)


def _unresolved(placeholder: str, scopes: Scopes) -> PlaceholderUnresolved:
    return PlaceholderUnresolved(placeholder=placeholder, known=", ".join(f"{scope}:…" for scope in scopes) or "none")


def _parameters(text: str, scopes: Scopes) -> list[list[str]] | None:
    """The values of each parameter in the parentheses of a function; None when they cannot be read."""
    parameters: list[list[str]] = []
    at = 0
    if not text.strip():
        return parameters
    while True:
        found = _PARAMETER.match(text, at)
        if found is None:
            return None
        if found[3] is not None:
            parameters.append(_single(found[3], scopes))
        else:
            parameters.append([found[1] if found[1] is not None else found[2]])
        if not found[4]:
            return parameters
        at = found.end()


def _filter(values: list[str], *parameters: list[str]) -> list[str]:
    """The values that pass; or all or none of them, where another value is looked at."""
    names = [parameter[0] if parameter else "" for parameter in parameters]
    if len(parameters) == 3:
        test = _TESTS.get(names[1], _never)
        kept = any(test(one, other) for one in parameters[0] or [""] for other in parameters[2] or [""])
        return values if kept else []
    if len(parameters) == 2 and names[1] == "exists" and names[0] not in _TESTS:
        return values if any(parameters[0]) else []
    test = _TESTS.get(names[0], _never)
    wanted = parameters[1] if len(parameters) == 2 else ["true"]
    return [value for value in values if any(test(value, other) for other in wanted)]


def _never(value: str, other: str) -> bool:  # noqa: ARG001 - a test like the others
    return False


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "eq": lambda value, other: value == other,
    "ne": lambda value, other: value != other,
    "like": lambda value, other: any(like(way, ignoring_case=False).fullmatch(value) for way in other.split("|")),
    "exists": lambda value, other: bool(value) == (other.lower() == "true"),
}


def _split(values: list[str], separator: list[str]) -> list[str]:
    sign = _first(separator)
    return [part for value in values for part in (value.split(sign) if sign else value) if part]


def _decoded(text: str) -> list[str]:
    """What base64 text says, if it says anything."""
    try:
        return [base64.b64decode(text, validate=True).decode()]
    except (binascii.Error, UnicodeDecodeError):
        return []


def _first(parameter: list[str]) -> str:
    return parameter[0] if parameter else ""


class _Function(msgspec.Struct, frozen=True):
    """A function: what it makes of the values before it, and the parameters that it takes."""

    apply: Callable[..., list[str]] | None
    least: int = 0
    most: int = 0
    signature: str = "()"


def _each(change: Callable[[str], str]) -> _Function:
    """A function of each single value, without parameters."""
    return _Function(lambda values: [change(value) for value in values])


_FUNCTIONS: dict[str, _Function] = {
    "filter": _Function(_filter, 1, 3, "(value?, 'eq|ne|exists|like', 'compared')"),
    "default": _Function(lambda values, other: values or other, 1, 1, "('value')"),
    "substring-before": _Function(
        lambda values, sign: [value.partition(_first(sign))[0] for value in values if _first(sign) in value],
        1,
        1,
        "('sign')",
    ),
    "substring-after": _Function(
        lambda values, sign: [value.partition(_first(sign))[2] for value in values if _first(sign) in value],
        1,
        1,
        "('sign')",
    ),
    "lower": _each(str.lower),
    "upper": _each(str.upper),
    "trim": _each(str.strip),
    "url-encode": _each(quote_plus),
    "url-decode": _each(unquote_plus),
    "base64-encode": _each(lambda value: base64.b64encode(value.encode()).decode()),
    "base64-decode": _Function(lambda values: [text for value in values for text in _decoded(value)]),
    "delete": _Function(None),
    "replace": _Function(
        lambda values, old, new: [value.replace(_first(old), _first(new)) for value in values], 2, 2, "('from', 'to')"
    ),
    "split": _Function(_split, 1, 1, "('separator')"),
    "join": _Function(lambda values, sign: [_first(sign).join(values)] if values else [], 1, 1, "('delimiter')"),
    "format": _Function(
        lambda values, template: patterns.fill(_first(template), values, VALUES_LIMIT), 1, 1, "('{field}#{other}')"
    ),
}


def time(now: Micros) -> ValuesOf:
    """The scope `time`: now, now_epoch_millis, with offset and truncation."""

    def values_of(name: str) -> list[str] | None:
        found = instant.resolve(name, now)
        return None if found is None else [str(found)]

    return values_of


def request(subjects: Sequence[str]) -> ValuesOf:
    """The scope `request`: who asks."""
    return lambda name: list(subjects[:1]) if name == "subjectId" else None


def json(document: Json) -> ValuesOf:
    """A scope whose names are pointers into JSON (`jwt`): arrays give several values, on the way and at the end, null gives none."""
    return lambda name: list(dict.fromkeys(_texts(document, [part for part in name.split("/") if part])))


def _texts(value: Json, path: list[str]) -> list[str]:
    if type(value) is list:
        return [
            text
            for member in value
            for text in (_texts(member, path) if path or member is None else [patterns.text(member)])
        ]
    if not path:
        return [] if value is None else [patterns.text(value)]
    member = value.get(path[0].replace("~1", "/").replace("~0", "~"), UNSET) if type(value) is dict else UNSET
    return [] if member is UNSET else _texts(member, path[1:])
