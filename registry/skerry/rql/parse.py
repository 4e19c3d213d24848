# ruff: noqa: N818 - errors are rows of a table
"""RQL text read into a predicate, and written again (ditto.md 1.8; grammar: Ditto's RqlPredicateParser)."""

from __future__ import annotations

import re
from collections.abc import Collection
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import NoReturn, cast, get_args

import msgspec

from skerry.errors import SkerryError
from skerry.rql import instant
from skerry.rql.predicate import And, Compare, Empty, Exists, Field, In, Not, Operator, Or, Predicate, Scalar
from skerry.signals import Micros

SIZE_LIMIT = 65_536
"""Characters of an expression."""
DEPTH_LIMIT = 64
"""Levels of and, or and not."""
PATTERN_LIMIT = 100
"""Characters of a pattern between two asterisks, with question marks among them: each is tried at each place of a text."""
SHORT = 1_000
"""Characters of expressions that are worth remembering."""


class RqlInvalid(SkerryError):
    """Not an RQL expression; the fact `sound` says that it is one, of fields or values that make no sense."""

    code = "rql.expression.invalid"
    status = 400
    message = "The RQL expression is not valid at character {position}: {problem}."
    description = "Near: {near}"
    extras = ("position",)


_BLANKS = " \n\r\t\f"
_BLANK = frozenset(_BLANKS)
_WORD = re.compile(r"[A-Za-z_]+")
_FIELD = re.compile(r'(?:[^,)"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*')
_NUMBER = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?(?![0-9.])")
_TEXT = {
    '"': re.compile(r'"((?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*)"'),
    "'": re.compile(r"'((?:[^'\\]|\\(?:['\\/bfnrt]|u[0-9a-fA-F]{4}))*)'"),
}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HALVES = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")
_LONE = re.compile(r"[\ud800-\udfff]")
_TIME = re.compile(r'time:([^,)"\\ ]*)')
_WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None}

_COMPARE = frozenset(get_args(Operator))
_JOIN: dict[str, type[And | Or | Not]] = {"and": And, "or": Or, "not": Not}
_SIMPLE: dict[str, Field] = {
    "namespace": ("_namespace",),
    **{
        name: (name,)
        for name in (
            "thingId",
            "policyId",
            "definition",
            "_namespace",
            "_revision",
            "_created",
            "_modified",
            "_metadata",
        )
    },
}


def parse(text: str, now: Micros, scopes: Collection[str] = ()) -> Predicate:
    """The predicate in a text, `time:now` resolved. Raises RqlInvalid.

    `scopes`: prefixes of placeholders that may stand as fields ("topic" lets `topic:action` be one).
    """
    if not scopes and len(text) <= SHORT and "time:" not in text:
        return _remembered(text)
    return _Reading(text, now, scopes).predicate()


@lru_cache(maxsize=1_024)
def _remembered(text: str) -> Predicate:
    """What a text without time says."""
    return _Reading(text, 0, ()).predicate()


class _Reading:
    """One pass over one text."""

    def __init__(self, text: str, now: Micros, scopes: Collection[str]) -> None:
        self.text = text
        self.at = 0
        self.now = now
        self.scopes = scopes
        self.strange: tuple[str, int] | None = None

    def predicate(self) -> Predicate:
        """The whole text; without recursion, so that no nesting exhausts the stack."""
        if len(self.text) > SIZE_LIMIT:
            self.fail(f"it has {len(self.text)} characters, {SIZE_LIMIT} are allowed", 0)
        open_: list[tuple[str, list[Predicate]]] = []
        while True:
            word, at = self.word()
            if word in _JOIN:
                if len(open_) == DEPTH_LIMIT:
                    self.fail(f"it is nested deeper than {DEPTH_LIMIT} levels", at)
                self.expect("(")
                open_.append((word, []))
                continue
            done = self.term(word)
            while open_:
                joined, terms = open_[-1]
                terms.append(done)
                if joined != "not" and self.take(","):
                    break
                self.expect(")", "not takes one term" if joined == "not" else "")
                open_.pop()
                done = Not(terms[0]) if joined == "not" else (And if joined == "and" else Or)(tuple(terms))
            else:
                if self.space() < len(self.text):
                    self.fail("the expression is complete, yet more follows", self.at)
                if self.strange is not None:
                    self.fail(*self.strange, sound=True)
                return done

    def word(self) -> tuple[str, int]:
        """The name of an operator and where it stands."""
        at = self.space()
        found = _WORD.match(self.text, at)
        name = found[0] if found else ""
        if name not in _COMPARE and name not in _JOIN and name not in {"in", "exists", "empty"}:
            self.fail(
                "an operator is expected (eq, ne, gt, ge, lt, le, in, like, ilike, exists, empty, and, or, not)", at
            )
        self.at = at + len(name)
        return name, at

    def term(self, word: str) -> Predicate:
        """What stands in the parentheses of an operator that looks at a field."""
        self.expect("(")
        if word in {"exists", "empty"}:
            field = self.field(alone=True)
            self.expect(")", f"{word} takes one field")
            return Exists(field) if word == "exists" else Empty(field)
        field = self.field(alone=False)
        self.expect(",", f"{word} takes a field and a value")
        at = self.space()
        values = [self.value(word)]
        while word == "in" and self.take(","):
            values.append(self.value(word))
        self.expect(")", "" if word == "in" else f"{word} takes one value")
        if word == "in":
            return In(field, tuple(values))
        value = values[0]
        if word in {"like", "ilike"} and not isinstance(value, str):
            self.fail(f"{word} takes a text in quotes", at, sound=True)
        if word in {"like", "ilike"} and any(_is_slow(part) for part in str(value).split("*")):
            self.fail(
                f"a pattern has at most {PATTERN_LIMIT} characters between two asterisks where question marks are "
                "among them",
                at,
                sound=True,
            )
        return Compare(cast("Operator", word), field, value)

    def field(self, *, alone: bool) -> Field:
        """A field; `alone`: nothing is compared with it, so that it may be an object."""
        at = self.space()
        found = _FIELD.match(self.text, at)
        assert found is not None
        self.at = found.end()
        name = found[0].rstrip(_BLANKS)
        if "\\" in name:
            name = self.unescaped(name, at)
        name = name.removeprefix("/")
        simple = _SIMPLE.get(name)
        if simple is not None:
            return simple
        if not name:
            self.fail("a field is expected", at)
        if name.partition(":")[0] in self.scopes:
            return (name,)
        path = name.removesuffix("/").split("/")
        if "~" in name:
            path = [segment.replace("~1", "/").replace("~0", "~") for segment in path]
        if "" in path:
            self.fail(f"the field '{name}' has an empty segment", at)
        if not _is_field(path, alone=alone) and self.strange is None:
            problem = (
                f"there is no field '{name}' that could be {'looked for' if alone else 'compared'}; fields are thingId, policyId, "
                "definition, _namespace, _revision, _created, _modified, _metadata/…, attributes/… and "
                "features/<id>/properties/…, desiredProperties/… or definition"
            )
            self.strange = problem, at
        return tuple(path)

    def value(self, word: str) -> Scalar:
        """A literal."""
        text, at = self.text, self.space()
        first = text[at : at + 1]
        if first in _TEXT:
            found = _TEXT[first].match(text, at)
            if found is None:
                self.fail("the text has no end, or a backslash in it that escapes nothing", at)
            self.at = found.end()
            return self.unescaped(found[1], at) if "\\" in found[1] else found[1]
        if first.isdigit() or first in {"+", "-"}:
            return self.number(at)
        if text.startswith("time:", at):
            found = _TIME.match(text, at)
            assert found is not None
            time = instant.resolve(found[1], self.now)
            if time is None:
                self.fail(f"'time:{found[1]}' is no time; it reads {instant.FORM}", at)
            self.at = found.end()
            return time
        found = _WORD.match(text, at)
        if found is None or found[0] not in _WORDS:
            self.fail(f"{word} needs a value: a number, a text in quotes, true, false, null or time:now", at)
        self.at = found.end()
        return _WORDS[found[0]]

    def number(self, at: int) -> int | float:
        """A number of 64 bits."""
        found = _NUMBER.match(self.text, at)
        if found is None or found[0] == "-0":
            self.fail("this is no number as RQL writes them: 5, -5, 5.25", at)
        self.at = found.end()
        if found[1] is None and found[2] is None:
            whole = int(found[0]) if len(found[0]) < 24 else 1 << 64
            if not -0x8000_0000_0000_0000 <= whole <= 0x7FFF_FFFF_FFFF_FFFF:
                self.fail("a whole number needs more than 64 bits", at)
            return whole
        number = float(found[0])
        if not isfinite(number):
            self.fail("the number is too large", at)
        return number

    def unescaped(self, text: str, at: int) -> str:
        """A text with its escapes resolved."""
        plain = _ESCAPE.sub(lambda e: chr(int(e[1], 16)) if e[1] else _ESCAPED.get(e[2], e[2]), text)
        plain = _HALVES.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), plain)
        if _LONE.search(plain):
            self.fail("a text holds half of a surrogate pair", at)
        return plain

    def space(self) -> int:
        """Pass over white space; answers where that ends."""
        text, at = self.text, self.at
        while text[at : at + 1] in _BLANK:
            at += 1
        self.at = at
        return at

    def take(self, sign: str) -> bool:
        """Whether the sign comes next; it is passed over."""
        found = self.text.startswith(sign, self.space())
        self.at += found
        return found

    def expect(self, sign: str, why: str = "") -> None:
        """Pass over the sign, or fail."""
        if not self.take(sign):
            self.fail(f"'{sign}' is expected" + (f": {why}" if why else ""), self.at)

    def fail(self, problem: str, at: int, *, sound: bool = False) -> NoReturn:
        """Say what is wrong and where: first of all a field that there is not, which is likelier the mistake."""
        if self.strange is not None:
            problem, at = self.strange
        before, after = self.text[max(0, at - 30) : at], self.text[at : at + 30]
        raise RqlInvalid(position=at + 1, problem=problem, near=f"{before} ▸{after or ' (the end)'}", sound=sound)


def _is_slow(part: str) -> bool:
    """Whether looking for a part of a pattern takes its length times that of the text."""
    return len(part) > PATTERN_LIMIT and "?" in part and not set(part) <= {"?"}


def _is_field(path: list[str], *, alone: bool) -> bool:
    """Whether a thing can have something there that can be compared (or, `alone`, looked for)."""
    length = len(path)
    if path[0] in {"attributes", "_metadata"}:
        return length > 1
    if path[0] != "features" or length < 2:
        return False
    if length == 2:
        return alone
    if path[2] == "definition":
        return length == 3
    return path[2] in {"properties", "desiredProperties"} and (alone or length > 3)


def write(predicate: Predicate) -> str:
    """The text of a predicate: `parse(write(p), now) == p`."""
    if isinstance(predicate, And | Or):
        return f"{type(predicate).__name__.lower()}({','.join(write(term) for term in predicate.terms)})"
    if isinstance(predicate, Not):
        return f"not({write(predicate.term)})"
    field = _write_field(predicate.field)
    if isinstance(predicate, Compare):
        return f"{predicate.operator}({field},{_write_value(predicate.value)})"
    if isinstance(predicate, In):
        return f"in({field},{','.join(_write_value(value) for value in predicate.values)})"
    return f"{'exists' if isinstance(predicate, Exists) else 'empty'}({field})"


_AWKWARD = re.compile(r'[,)"\\\s]')


def _write_field(field: Field) -> str:
    text = "/".join(segment.replace("~", "~0").replace("/", "~1") for segment in field) if len(field) > 1 else field[0]
    return _AWKWARD.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _write_value(value: Scalar) -> str:
    if isinstance(value, float):
        text = format(Decimal(repr(value)), "f")
        return text if "." in text else f"{text}.0"
    return msgspec.json.encode(value).decode()
