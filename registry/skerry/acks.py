"""Acknowledgements together: the labels a server gives itself, and what many of them say as one (ditto.md 1.6, 2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET

from skerry.protocol import Ack, headers_shown
from skerry.signals import Json

PERSISTED = "twin-persisted"
SEARCH = "search-persisted"
LIVE = "live-response"
OURS = frozenset({PERSISTED, SEARCH, LIVE})
"""Labels that nobody but the server may give."""
WEAK = "ditto-weak-ack"


def combined(acks: Mapping[str, Ack]) -> int:
    """The status of all: that of a single one, or 200 if all say success and else 424."""
    if len(acks) == 1:
        return next(iter(acks.values())).status
    return 200 if all(200 <= ack.status < 300 for ack in acks.values()) else 424


def shown(acks: Mapping[str, Ack]) -> dict[str, Any]:
    """Label to status, payload and headers, as they stand in an aggregated answer."""
    return {label: _entry(ack) for label, ack in acks.items()}


def statuses(acks: Mapping[str, Ack]) -> dict[str, Any]:
    """Label to status alone, for who wants no answer."""
    return {label: {"status": ack.status} for label, ack in acks.items()}


def _entry(ack: Ack) -> dict[str, Json]:
    entry: dict[str, Json] = {"status": ack.status}
    if ack.value is not UNSET:
        entry["payload"] = ack.value
    headers = entry["headers"] = headers_shown(ack.headers)
    if ack.label == PERSISTED and "entity-revision" in headers:
        headers["entity-revision"] = int(headers["entity-revision"])
    return entry
