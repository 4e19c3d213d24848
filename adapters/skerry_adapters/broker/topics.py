"""Topic names and filters: their rules (MQTT 5, chapter 4.7), a tree of subscriptions, a tree of retained messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from skerry_adapters.broker.packets import ProtocolViolation, Reason

Who = TypeVar("Who")
What = TypeVar("What")

MAX_LEVELS = 128
LONGEST_TOPIC = 4_096
"""Characters of a topic name or filter; MQTT's own limit, sixteen times that, would let one client fill the memory."""
SHORT_TOPIC = 512
"""Characters of topics that are worth remembering."""
COMMON_TOPIC = 96
"""Bytes of topics that are remembered by the hundred thousand."""


def check_topic(topic: str) -> None:
    """Refuse what cannot be a topic name."""
    if not topic or "+" in topic or "#" in topic:
        raise ProtocolViolation(Reason.TOPIC_NAME_INVALID, "a topic name is empty or has a wildcard in it")
    if topic.count("/") >= MAX_LEVELS:
        raise ProtocolViolation(Reason.TOPIC_NAME_INVALID, f"a topic name has more than {MAX_LEVELS} levels")
    if len(topic) > LONGEST_TOPIC:
        raise ProtocolViolation(Reason.TOPIC_NAME_INVALID, f"a topic name has more than {LONGEST_TOPIC} characters")


def check_filter(topic: str) -> str | None:
    """Why it cannot be a topic filter; None if it can."""
    levels = topic.split("/")
    if not topic:
        return "a topic filter is empty"
    if len(topic) > LONGEST_TOPIC:
        return f"a topic filter has more than {LONGEST_TOPIC} characters"
    if levels[0] == "$share":
        if len(levels) < 3 or not levels[1] or "+" in levels[1] or "#" in levels[1]:
            return "a shared subscription is $share/{name}/{filter}"
        levels = levels[2:]
        if levels == [""]:
            return "a shared subscription is $share/{name}/{filter}"
    if len(levels) > MAX_LEVELS:
        return f"a topic filter has more than {MAX_LEVELS} levels"
    for position, level in enumerate(levels):
        if level not in {"#", "+"} and ("#" in level or "+" in level):
            return "a wildcard must be a whole level"
        if level == "#" and position != len(levels) - 1:
            return "# must be the last level"
    return None


def split_share(topic: str) -> tuple[str, str]:
    """Name of the share ("" without) and the filter proper."""
    if topic.startswith("$share/"):
        _, name, rest = topic.split("/", 2)
        return name, rest
    return "", topic


def is_desired(topic: str) -> bool:
    """Whether the server keeps the desired state of a device there."""
    return topic.startswith("device/") and topic.endswith("/desired") and topic.count("/") == 3


class _Node(Generic[What]):
    """One level of a tree."""

    __slots__ = ("children", "held")

    def __init__(self) -> None:
        self.children: dict[str, _Node[What]] = {}
        self.held: What | None = None


class FilterTree(Generic[Who, What]):
    """Topic filters, each with who holds it and what they asked for."""

    def __init__(self) -> None:
        """An empty tree."""
        self._root: _Node[dict[Who, What]] = _Node()

    def put(self, pattern: str, who: Who, what: What) -> None:
        """`who` holds the filter; replaces what they asked for before."""
        node = self._root
        for level in pattern.split("/"):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        if node.held is None:
            node.held = {}
        node.held[who] = what

    def has_root(self, name: str) -> bool:
        """Whether some filter begins with this level."""
        return name in self._root.children

    def may_match(self, topic: str) -> bool:
        """False where no filter's first level takes the topic's: the quick answer for most topics that nobody wants."""
        roots = self._root.children
        return bool(roots) and (topic.partition("/")[0] in roots or "#" in roots or "+" in roots)

    def remove(self, pattern: str, who: Who) -> None:
        """`who` holds the filter no more; empty branches go."""
        way: list[tuple[_Node[dict[Who, What]], str]] = []
        node = self._root
        for level in pattern.split("/"):
            way.append((node, level))
            child = node.children.get(level)
            if child is None:
                return
            node = child
        if node.held is not None:
            node.held.pop(who, None)
            node.held = node.held or None
        for parent, level in reversed(way):
            child = parent.children[level]
            if child.children or child.held is not None:
                return
            del parent.children[level]

    def match(self, topic: str) -> list[tuple[Who, What]]:  # noqa: C901 - the hot loop, kept in one place
        """Everyone whose filter takes the topic, once per filter."""
        levels = topic.split("/")
        found: list[tuple[Who, What]] = []
        nodes = [self._root]
        hidden = topic[:1] == "$"
        for level in levels:
            below: list[_Node[dict[Who, What]]] = []
            for node in nodes:
                children = node.children
                if not hidden:
                    rest = children.get("#")
                    if rest is not None and rest.held is not None:
                        found.extend(rest.held.items())
                    any_ = children.get("+")
                    if any_ is not None:
                        below.append(any_)
                exact = children.get(level)
                if exact is not None:
                    below.append(exact)
            hidden = False
            nodes = below
            if not nodes:
                return found
        for node in nodes:
            if node.held is not None:
                found.extend(node.held.items())
            rest = node.children.get("#")
            if rest is not None and rest.held is not None:
                found.extend(rest.held.items())
        return found


class TopicTree(Generic[What]):
    """Topics and what each holds; found again by filters."""

    def __init__(self) -> None:
        """An empty tree."""
        self._root: _Node[What] = _Node()
        self._flat: dict[str, What] = {}

    def __len__(self) -> int:
        return len(self._flat)

    def get(self, topic: str) -> What | None:
        """What the topic holds."""
        return self._flat.get(topic)

    def put(self, topic: str, what: What) -> None:
        """Hold it."""
        self._flat[topic] = what
        node = self._root
        for level in topic.split("/"):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        node.held = what

    def remove(self, topic: str) -> What | None:
        """Hold nothing there any more; answers what was held."""
        gone = self._flat.pop(topic, None)
        if gone is None:
            return None
        node = self._root
        way: list[tuple[_Node[What], str]] = []
        for level in topic.split("/"):
            way.append((node, level))
            node = node.children[level]
        node.held = None
        for parent, level in reversed(way):
            child = parent.children[level]
            if child.children or child.held is not None:
                break
            del parent.children[level]
        return gone

    def match(self, pattern: str) -> Iterator[What]:
        """What the topics hold that the filter takes."""
        if "+" not in pattern and "#" not in pattern:
            exact = self._flat.get(pattern)
            if exact is not None:
                yield exact
            return
        levels = pattern.split("/")
        waiting: list[tuple[_Node[What], int]] = [(self._root, 0)]
        while waiting:
            node, depth = waiting.pop()
            if depth == len(levels):
                if node.held is not None:
                    yield node.held
                continue
            level = levels[depth]
            if level == "#":
                if node.held is not None:
                    yield node.held
                waiting.extend((child, depth) for name, child in node.children.items() if depth or name[:1] != "$")
            elif level == "+":
                waiting.extend((child, depth + 1) for name, child in node.children.items() if depth or name[:1] != "$")
            elif level in node.children:
                waiting.append((node.children[level], depth + 1))
