# ruff: noqa: N818 - errors are rows of a table
"""The topics of Eclipse Hono's MQTT adapter, whose payloads are envelopes: what devices publish there and subscribe to.

`telemetry` (`t`) and `event` (`e`), alone or with /{tenant}/{device}; commands at command/{tenant}/{device}/req/{id}/{name}
(`c`, `q`), answered on command/{tenant}/{device}/res/{id}/{status} (`c`, `s`). A device is a thing by its id, or left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from skerry.errors import SkerryError
from skerry.ids import check_thing_id
from skerry_adapters.inbound import Aside, Inbound

UPLINKS = frozenset({"telemetry", "t", "event", "e"})
DOWNLINKS = {"command": ("req", "res"), "c": ("q", "s")}
"""The first level of commands, and what stands before their ids when they are sent and answered."""
HONO_ANSWERS = ("command/", "c/")
HONO_TOPICS = (
    *(topic for root in ("telemetry", "t", "event", "e") for topic in (root, f"{root}/+/+")),
    *(f"{root}/+/+/{answer}/+/+" for root, (_, answer) in DOWNLINKS.items()),
)
_ROOTS = UPLINKS | DOWNLINKS.keys()
_STATUSES = range(200, 600)


class HonoAnswerInvalid(SkerryError):
    """An answer to a command that is none."""

    code = "mapping.hono.answer"
    status = 400
    message = "'{topic}' answers no command: {problem}."
    description = "Answer on command///res/<id of the request>/<status>, the status being 200 to 599."


def device_of(levels: Sequence[str]) -> str | None:
    """The thing that is named in a topic's levels; None where there is none, or none that could be a thing."""
    if len(levels) < 3 or levels[0] not in _ROOTS:
        return None
    try:
        check_thing_id(levels[2])
    except SkerryError:
        return None
    return levels[2]


def hono_answer(message: Inbound, subjects: tuple[str, ...]) -> Aside:
    """The answer to a command: an envelope, or any content. Raises HonoAnswerInvalid."""
    levels = message.topic.split("/")
    if len(levels) != 6 or levels[3] != DOWNLINKS[levels[0]][1]:
        raise HonoAnswerInvalid(topic=message.topic, problem="it has not the form of one")
    request, status = levels[4], levels[5]
    if not status.isdecimal() or int(status) not in _STATUSES:
        raise HonoAnswerInvalid(topic=message.topic, problem="its last level is no status")
    return Aside(members=_members(message.payload), subjects=subjects, asks=False, request=request, status=int(status))


def command_topics(thing_id: str, request: str, subject: str) -> list[str]:
    """Where a command for a thing goes: by tenant and id, by its id, and as to the device that is meant anyhow."""
    namespace = thing_id.partition(":")[0]
    name = quote(subject, safe="")
    return [
        f"{root}/{tenant}/{device}/{before}/{request}/{name}"
        for root, (before, _) in DOWNLINKS.items()
        for tenant, device in ((namespace, thing_id), ("", thing_id), ("", ""))
    ]


def is_command(levels: Sequence[str]) -> bool:
    """Whether a topic or filter is below command/{tenant}/{device}/req."""
    return len(levels) > 3 and levels[0] in DOWNLINKS and levels[3] == DOWNLINKS[levels[0]][0]


def is_anybodys(pattern: str) -> bool:
    """Whether a topic or filter is for commands to no named device: each is then given by the rights on what it is about."""
    levels = pattern.split("/")
    return is_command(levels) and levels[1] in {"", "+"} and levels[2] in {"", "+"}


def _members(payload: bytes) -> dict[str, Any]:
    """The envelope that the payload is; empty where it is none."""
    try:
        found = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("topic"), str) and "path" in found else {}
