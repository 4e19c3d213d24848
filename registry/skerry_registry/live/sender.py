"""Who sends something, and how streams end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct

from skerry_registry.identities.namespaces import Reach


class Sender(Struct, frozen=True, kw_only=True):
    """Somebody at an edge: the subjects that policies speak of, and what the operator lets him reach (None: everything).

    `origin`: from where, for the audit trail (`http 10.0.0.7`, `ws 10.0.0.7 f3a1`); that of a session is the session's
    own, so that nothing which it causes is sent back to it. `declares`: it has a handshake at which it could declare the
    acknowledgements that it gives; a device over MQTT has none.
    """

    subjects: tuple[str, ...]
    reach: Reach | None = None
    origin: str = ""
    declares: bool = True


Leave: TypeAlias = Callable[[], None]
"""Ends a subscription; calling it twice does nothing more."""
