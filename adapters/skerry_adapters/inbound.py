"""A message from a device, on its way from a broker (ours or another) to the one door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from skerry.signals import Command


class Reach(Protocol):
    """What the operator lets somebody reach, whatever policies say. Equal for those who reach the same."""

    def covers(self, kind: str, namespace: str) -> bool:
        """Whether things (policies) of a namespace may be reached."""
        ...

    def check_command(self, command: Command) -> None:
        """Raise a SkerryError unless all that the command is for may be reached."""
        ...


class Inbound(Struct, frozen=True, kw_only=True, gc=False):
    """One PUBLISH as it arrived. `mid`: the packet id (0 at QoS 0); `redelivered`: its DUP flag.

    `subjects` and `client`: whom the device is authenticated as, and its client id; empty on an external broker, which
    hides the publisher. `reach`: what that login may reach at all, None for everything. `origin`: from where it comes, for the audit trail.
    `response_topic` and `correlation`: MQTT 5's, None without.
    """

    topic: str
    payload: bytes
    qos: int = 0
    mid: int = 0
    redelivered: bool = False
    retained: bool = False
    subjects: tuple[str, ...] = ()
    client: str = ""
    reach: Reach | None = None
    origin: str = "mqtt"
    response_topic: str | None = None
    correlation: bytes | None = None


class Aside(Struct, frozen=True, kw_only=True):
    """An envelope that is no plain change of a thing or policy. `asks`: its reply may take a while.

    `desired`: no envelope, but the wish to be told the desired state of this thing. `request`, `status`: it answers a Hono command; what it is about stands then in what was sent, and `members` may be empty.
    """

    members: dict[str, Any]
    subjects: tuple[str, ...]
    asks: bool = True
    desired: str = ""
    request: str = ""
    status: int = 200


Take: TypeAlias = Callable[[Sequence[Inbound]], Awaitable[None]]
"""Deal with the messages, in order. When it returns, each is committed or kept as a dead letter: acknowledge them all.

It does not return before that: while the store is away (full disk) it waits and retries, so acknowledgements are withheld.
"""
