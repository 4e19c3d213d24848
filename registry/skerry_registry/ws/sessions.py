"""The WebSocket sessions of a server: who may open one, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skerry.signals import NewId
    from skerry_registry.identities.logins import Identities
    from skerry_registry.live.streams import Streams
    from skerry_registry.registry import Registry
    from skerry_registry.search.search import Search
    from skerry_registry.settings import Settings
    from skerry_registry.ws.wire import Handshake, Listener, Refusal


class Sessions:
    """Opens sessions at /ws/2."""

    def __init__(
        self,
        registry: Registry,
        identities: Identities,
        settings: Settings,
        *,
        streams: Streams,
        search: Search,
        new_id: NewId,
    ) -> None:
        """`streams`: what sessions subscribe to; `search`: answers their searches."""
        self._registry = registry
        self._identities = identities
        self._settings = settings
        self._streams = streams
        self._search = search
        self._new_id = new_id

    async def open(self, handshake: Handshake) -> Listener | Refusal:
        """A session for somebody who is known, or why there is none."""
        raise NotImplementedError
