"""Which policy guards which thing, and which policies say the same: things under such need be judged once only."""

from __future__ import annotations

import re
from contextlib import suppress
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import Struct, json

from skerry import times
from skerry_registry.search.slots import grown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skerry.signals import Micros

_encode = json.Encoder().encode
_EXPIRY = re.compile(r'"expiry":"([^"]+)"')

LITTER = 1_000
"""What may lie about before it is cleared away."""
NOTHING = 0
"""The shape of guards without a policy."""


class Shape(Struct, frozen=True, eq=False):
    """What policies say alike: `text` without the policy's id.

    `lasting`: the text alone tells the rights, now and later. Else it belongs to one policy and the things of one namespace.
    `mentions`: the policies that it takes something from; `expiries`: when subjects in it expire.
    """

    text: str
    policy_id: str
    namespace: str
    lasting: bool
    mentions: frozenset[str] = frozenset()
    expiries: tuple[Micros, ...] = ()


class Guards:
    """A guard is a policy id together with the namespace of a thing; each has a shape, and a new one when its policy changes.

    `roots`: whether policies rest upon root policies of their namespace.
    """

    def __init__(self, *, roots: bool) -> None:
        self._roots = roots
        self.shape = np.zeros(1_024, np.int32)
        """By guard."""
        self.shapes: list[Shape | None] = [None]
        self.epoch = 0
        """Changes when shapes are numbered anew."""
        self._count = 0
        self._spare: list[int] = []
        self._gone = 0
        self._swept = LITTER
        self._of: dict[tuple[str, str] | str, int] = {}
        self._strangers: dict[str, list[tuple[int, str]]] = {}
        self._shape_of: dict[tuple[str, str, str], int] = {}
        self._mentioned: set[str] = set()
        self._expiries: list[Micros] = []
        self._compacted = LITTER

    @property
    def stamp(self) -> tuple[int, int]:
        """Differs when there are other shapes."""
        return self.epoch, len(self.shapes)

    @property
    def is_littered(self) -> bool:
        """Whether there may be much to `sweep`."""
        return len(self._of) > self._swept or self._gone > LITTER + len(self._of) // 4

    def guard(self, policy_id: str, namespace: str) -> int:
        """The guard of a thing of this namespace under this policy."""
        own = self._own(policy_id)
        if namespace == policy_id.partition(":")[0]:
            return own
        key = (policy_id, namespace)
        guard = self._of.get(key)
        if guard is None:
            guard = self._of[key] = self._new()
            self._strangers.setdefault(policy_id, []).append((guard, namespace))
            shape = self.shapes[self.shape[own]]
            self.shape[guard] = NOTHING if shape is None else self._find(policy_id, shape.text, namespace)
            self._tidy()
        return guard

    def put(self, policy_id: str, text: str | None) -> None:
        """The policy says this now (None: it is gone)."""
        own = self._own(policy_id)
        namespace = policy_id.partition(":")[0]
        if self._roots or policy_id in self._mentioned:
            self.renew()
        self.shape[own] = NOTHING if text is None else self._find(policy_id, text, namespace)
        for guard, stranger in self._strangers.get(policy_id, ()):
            self.shape[guard] = NOTHING if text is None else self._find(policy_id, text, stranger)
        self._gone += text is None
        self._tidy()

    def put_document(self, policy_id: str, document: dict[str, Any] | None) -> None:
        """The same, of a policy as it is held."""
        self.put(policy_id, None if document is None else strip(policy_id, _encode(document).decode()))

    def expire(self, now: Micros) -> None:
        """Have what rests upon subjects that have expired judged anew."""
        expired = False
        while self._expiries and self._expiries[0] <= now:
            heappop(self._expiries)
            expired = True
        if expired:
            self.renew()

    def renew(self) -> None:
        """Have all shapes judged anew whose text alone does not tell the rights."""
        fresh: dict[int, int] = {}
        for key, number in list(self._shape_of.items()):
            shape = self.shapes[number]
            if shape is not None and not shape.lasting:
                fresh[number] = len(self.shapes)
                self._shape_of[key] = len(self.shapes)
                self.shapes.append(shape)
                self.shapes[number] = None
        if fresh:
            into = np.arange(len(self.shapes), dtype=np.int32)
            into[list(fresh)] = list(fresh.values())
            self.shape[: self._count] = into[self.shape[: self._count]]
        self._tidy()

    def sweep(self, used: Iterable[int]) -> None:
        """Forget the guards that no thing has (`used` are those of all things), but for those of policies that there are."""
        kept = set(used)
        for key, guard in list(self._of.items()):
            if guard not in kept and (type(key) is tuple or self.shape[guard] == NOTHING):
                del self._of[key]
                self.shape[guard] = NOTHING
                self._spare.append(guard)
        strangers: dict[str, list[tuple[int, str]]] = {}
        for key, guard in self._of.items():
            if type(key) is tuple:
                strangers.setdefault(key[0], []).append((guard, key[1]))
        self._strangers = strangers
        self._gone = 0
        self._swept = LITTER + 2 * len(self._of)
        self._compacted = 0
        self._tidy()

    def _own(self, policy_id: str) -> int:
        guard = self._of.get(policy_id)
        if guard is None:
            guard = self._of[policy_id] = self._new()
        return guard

    def _new(self) -> int:
        if self._spare:
            return self._spare.pop()
        guard = self._count
        self._count += 1
        if guard >= len(self.shape):
            self.shape = grown(self.shape, 2 * len(self.shape))
        return guard

    def _find(self, policy_id: str, text: str, namespace: str) -> int:
        """The shape of policies that say this."""
        related = '"imports":{"' in text or '"references":[' in text
        lasting = not (self._roots or related or '"expiry":' in text or '"namespaces":[' in text)
        key = (text, "", "") if lasting else (text, policy_id, namespace)
        number = self._shape_of.get(key)
        if number is None:
            number = self._shape_of[key] = len(self.shapes)
            mentions = frozenset(_mentions(json.decode(text))) if related else frozenset[str]()
            expiries = tuple(_expiries(text))
            self.shapes.append(Shape(text, policy_id, namespace, lasting, mentions, expiries))
            self._mentioned |= mentions
            for expiry in expiries:
                heappush(self._expiries, expiry)
        return number

    def _tidy(self) -> None:
        """Forget shapes that no guard has any more, and number the others anew, now and then."""
        if len(self._shape_of) > self._compacted:
            used = set(np.unique(self.shape[: self._count]).tolist())
            for key, number in list(self._shape_of.items()):
                if number not in used:
                    del self._shape_of[key]
                    self.shapes[number] = None
            self._compacted = LITTER + 2 * len(self._shape_of)
        if len(self.shapes) > LITTER + 2 * len(self._shape_of):
            self._renumber()

    def _renumber(self) -> None:
        """Let only the shapes there are have numbers, and remember only what is in them."""
        into = np.zeros(len(self.shapes), np.int32)
        shapes: list[Shape | None] = [None]
        for key, number in self._shape_of.items():
            into[number] = self._shape_of[key] = len(shapes)
            shapes.append(self.shapes[number])
        self.shape[: self._count] = into[self.shape[: self._count]]
        self.shapes = shapes
        self.epoch += 1
        known = [shape for shape in shapes if shape is not None]
        self._mentioned = {policy_id for shape in known for policy_id in shape.mentions}
        self._expiries = sorted({expiry for shape in known for expiry in shape.expiries})


def strip(policy_id: str, text: str) -> str:
    """The text of a policy's document without its id."""
    member = f'"policyId":{_encode(policy_id).decode()}'
    return text.replace(member + ",", "", 1) if member + "," in text else text.replace("," + member, "", 1)


def _expiries(text: str) -> Iterable[Micros]:
    """When the subjects in a policy expire."""
    for found in _EXPIRY.findall(text):
        with suppress(ValueError):
            yield times.parse(found)


def _mentions(document: dict[str, Any]) -> Iterable[str]:
    """The ids of policies that a policy takes something from."""
    imports = document.get("imports") or {}
    yield from imports
    for entry in (document.get("entries") or {}).values():
        for reference in entry.get("references") or ():
            yield from (value for value in reference.values() if isinstance(value, str))
