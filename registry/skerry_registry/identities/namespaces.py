"""Which namespaces a caller may reach at all, whatever policies say: the operator's rules on claims and headers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from skerry import placeholders
from skerry.errors import SkerryError
from skerry.ids import split_id
from skerry.rql.evaluate import like
from skerry.signals import Clock, Command
from skerry_registry.identities.bounded import keep
from skerry_registry.identities.caller import Caller
from skerry_registry.identities.claims import problems_of
from skerry_registry.identities.refusals import NamespaceNotAccessible

TYPES = ("thing", "policy")
KNOWN_MAX = 10_000
"""Namespaces that are remembered of one reach."""


class NamespaceRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule of the settings: whom it speaks of, and which namespaces it opens and closes.

    `conditions`: templates over `jwt:`, `header:` and `time:`; the rule counts where none comes to nothing. `resource_types`:
    thing, policy; both if empty. Patterns know `*` and `?`; an empty `allowed_namespaces` opens all that is not blocked.
    """

    conditions: tuple[str, ...] = ()
    resource_types: tuple[str, ...] = ()
    allowed_namespaces: tuple[str, ...] = ()
    blocked_namespaces: tuple[str, ...] = ()


class Reach:
    """What one caller may reach: namespaces by kind, found out once for each. Equal where the same rules count."""

    __slots__ = ("_known", "_rules")

    def __init__(self, rules: Iterable[_Rule]) -> None:
        """`rules`: those whose conditions hold for the caller."""
        self._rules = tuple(rules)
        self._known: dict[tuple[str, str], bool] = {}

    def __eq__(self, other: object) -> bool:
        """Callers for whom the same rules count reach the same."""
        return isinstance(other, Reach) and self._rules == other._rules

    def __hash__(self) -> int:
        """By the rules that count."""
        return hash(self._rules)

    def covers(self, kind: str, namespace: str) -> bool:
        """Whether things or policies of a namespace may be reached; without a rule that opens it, not."""
        key = (kind, namespace)
        known = self._known.get(key)
        if known is None:
            known = self._decide(kind, namespace)
            keep(self._known, key, known, KNOWN_MAX)
        return known

    def check(self, kind: str, id_: str) -> None:
        """Raise NamespaceNotAccessible unless the entity's namespace may be reached."""
        namespace = split_id(id_)[0]
        if not self.covers(kind, namespace):
            raise NamespaceNotAccessible(namespace=namespace)

    def check_command(self, command: Command) -> None:
        """Raise NamespaceNotAccessible where a command is for, copies or makes beside its thing what may not be reached."""
        self.check(command.kind, command.id)
        value = command.value
        if command.kind != "thing" or command.path or not isinstance(value, dict):
            return
        inline, source = value.get("_policy"), value.get("_copyPolicyFrom")
        if inline is None and source is None:
            return
        named = inline.get("policyId") if isinstance(inline, dict) else None
        for id_ in (value.get("policyId") or named, source):
            if isinstance(id_, str) and ":" in id_ and not id_.startswith("{{"):
                self.check("policy", id_)

    def _decide(self, kind: str, namespace: str) -> bool:
        rules = [rule for rule in self._rules if rule.concerns(kind)]
        if any(block(namespace) for rule in rules for block in rule.blocked):
            return False
        return any(not rule.allowed or any(allow(namespace) for allow in rule.allowed) for rule in rules)


class NamespaceRules:
    """All rules of the settings."""

    def __init__(self, rules: Sequence[NamespaceRule], clock: Clock) -> None:
        """Compile the patterns."""
        self._rules = [_Rule(rule) for rule in rules]
        self._clock = clock

    def __bool__(self) -> bool:
        """Whether there are any; without one everything is open."""
        return bool(self._rules)

    def reach(self, caller: Caller, header: Callable[[str], str | None]) -> Reach | None:
        """What a caller may reach, whose request has these headers (by lower-case name); None: everything."""
        if not self._rules:
            return None
        scopes = {
            "header": lambda name: [value] if (value := header(name.lower())) is not None else [],
            "time": placeholders.time(self._clock()),
            **({} if caller.claims is None else {"jwt": placeholders.json(caller.claims)}),
        }
        return Reach(rule for rule in self._rules if rule.holds(scopes))


class _Rule:
    """A rule made ready."""

    def __init__(self, rule: NamespaceRule) -> None:
        self._conditions = rule.conditions
        self._types = frozenset(rule.resource_types or TYPES)
        self.allowed = [like(text, ignoring_case=False).fullmatch for text in rule.allowed_namespaces]
        self.blocked = [like(text, ignoring_case=False).fullmatch for text in rule.blocked_namespaces]

    def concerns(self, kind: str) -> bool:
        return kind in self._types

    def holds(self, scopes: Mapping[str, placeholders.ValuesOf]) -> bool:
        """Whether every condition comes to something; one that cannot be resolved does not."""
        try:
            return all(placeholders.resolve(condition, scopes) for condition in self._conditions)
        except SkerryError:
            return False


def contradictions(rules: Sequence[NamespaceRule]) -> Iterator[str]:
    """One line for everything that cannot work."""
    for number, rule in enumerate(rules, 1):
        where = f"namespace_access, rule {number}"
        for name in rule.resource_types:
            if name not in TYPES:
                yield f"{where}: there is no resource type '{name}'; possible are {', '.join(TYPES)}."
        for condition in rule.conditions:
            yield from (f"{where}: {problem}" for problem in problems_of(condition, ("jwt", "header", "time")))
        for pattern in (*rule.allowed_namespaces, *rule.blocked_namespaces):
            if ":" in pattern or not pattern:
                yield f"{where}: '{pattern}' is no pattern of a namespace; write org.example.* (children), or org.example."


def headers_of(raw: Iterable[tuple[bytes, bytes]]) -> Callable[[str], str | None]:
    """Headers as they came, by lower-case name; of several with one name the first."""

    def find(name: str) -> str | None:
        wanted = name.encode("latin-1", "replace")
        return next((value.decode("latin-1") for key, value in raw if key.lower() == wanted), None)

    return find
