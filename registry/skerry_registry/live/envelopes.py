"""The Ditto Protocol at an edge that carries envelopes both ways: WebSocket and MQTT hand them in, replies come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skerry_registry.live.sender import Sender


class Envelopes:
    """Carries envelopes out: twin and live commands, messages, live events, answers, acknowledgements, checkPermissions.

    What opens a stream (search, streaming) is the session's own.
    """

    async def handle(
        self, envelope: bytes | str | dict[str, Any], sender: Sender, defaults: Mapping[str, str]
    ) -> dict[str, Any] | None:
        """The reply, None where none is wanted; an error is a reply too. `defaults`: headers of the session."""
        raise NotImplementedError
