# ruff: noqa: N818 - errors are rows of a table
"""Topic paths of the Ditto Protocol: `<namespace>/<name>/<group>[/<channel>]/<criterion>[/<action>]` (ditto.md 2.1)."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

from msgspec import Struct

from skerry.errors import SkerryError


class TopicUnknown(SkerryError):
    """A topic that is none."""

    code: ClassVar[str] = "protocoladapter:unknown.topicpath"
    status = 400
    message = "'{topic}' is not a topic of the Ditto Protocol: {problem}"
    description = "A command's topic reads <namespace>/<name>/things/twin/commands/modify."


class ChannelUnknown(TopicUnknown):
    """A channel that is not served where the topic came in."""

    code = "protocoladapter:unknown.channel"


class CommandUnknown(TopicUnknown):
    """A command that is not taken where the topic came in."""

    code = "protocoladapter:unknown.command"


class SignalUnknown(TopicUnknown):
    """A topic of another kind of signal than is awaited here."""

    code = "protocoladapter:unknown.signal"


GROUPS = ("things", "policies", "connections")
CHANNELS = ("twin", "live")
CRITERIA = ("commands", "events", "messages", "search", "streaming", "acks", "announcements", "errors")
COMMANDS = ("create", "retrieve", "modify", "merge", "delete", "migrate", "checkPermissions")
EVENTS = ("created", "modified", "merged", "deleted", "migrated")
ANYTHING = "_"
UNKNOWN = "unknown"


class Topic(Struct, frozen=True, kw_only=True):
    """A topic path, taken apart. `channel`: of things only; `action`: also a message's subject or an ack's label."""

    namespace: str
    name: str
    group: str = "things"
    channel: str | None = "twin"
    criterion: str = "commands"
    action: str | None = None

    @property
    def id(self) -> str | None:
        """The entity's id; None where a placeholder stands for it."""
        return None if ANYTHING in {self.namespace, self.name} else f"{self.namespace}:{self.name}"


SHORT = 600
"""Characters of topics that are worth remembering."""


def parse(text: str) -> Topic:
    """Take a topic apart. Raises a row of TopicUnknown."""
    return _remembered(text) if len(text) <= SHORT else _parse(text)


def _parse(text: str) -> Topic:
    parts = text.split("/")
    if len(parts) < 4 or not parts[1]:
        raise TopicUnknown(topic=text, problem="it has too few segments")
    namespace, name, group, *rest = parts
    if group not in GROUPS:
        raise TopicUnknown(topic=text, problem=f"the group '{group}' is none of {', '.join(GROUPS)}")
    channel = None
    if group == "things":
        channel, *rest = rest
        if channel not in CHANNELS:
            raise TopicUnknown(topic=text, problem=f"the channel '{channel}' is none of {', '.join(CHANNELS)}")
    if not rest or rest[0] not in CRITERIA:
        raise TopicUnknown(topic=text, problem=f"the criterion is none of {', '.join(CRITERIA)}")
    criterion = rest[0]
    action = "/".join(rest[1:]) or None
    if criterion == "commands" and action not in COMMANDS:
        raise TopicUnknown(topic=text, problem=f"the action is none of {', '.join(COMMANDS)}")
    if criterion == "events" and action not in EVENTS:
        raise TopicUnknown(topic=text, problem=f"the action is none of {', '.join(EVENTS)}")
    return Topic(namespace=namespace, name=name, group=group, channel=channel, criterion=criterion, action=action)


_remembered = lru_cache(maxsize=16_384)(_parse)


def write(topic: Topic) -> str:
    """The text of a topic."""
    parts = (topic.namespace, topic.name, topic.group, topic.channel, topic.criterion, topic.action)
    return "/".join(part for part in parts if part is not None)
