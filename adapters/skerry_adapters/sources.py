"""Sources: which MQTT messages are taken in, and how a message becomes a change of a thing."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Topic filters and what their messages mean."""

    name: str
    topics: tuple[str, ...]
    payload: Literal["ditto", "telemetry"]
    qos: Literal[0, 1, 2] = 1
    subjects: tuple[str, ...] = ("nginx:ditto",)


DEFAULT_SOURCES: tuple[Source, ...] = (
    Source(name="ditto", topics=("ditto/#",), payload="ditto"),
    Source(name="telemetry", topics=("telemetry/+/+/+",), payload="telemetry"),
)
