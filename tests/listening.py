"""Somebody who listens to changes and takes down what he is told."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from skerry_registry.live.changes import Told


class Listener:
    """Takes everything, and has room at once."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    def take(self, told: Told) -> None:
        self.told.append(told)

    async def room(self) -> None:
        return None

    @property
    def numbers(self) -> list[int]:
        return [told.number for told in self.told]

    @property
    def changes(self) -> list[Any]:
        """Action, path and (where there is one) value of each, and forget them."""
        told, self.told = self.told, []
        return [
            (one.event.action, "/" + "/".join(one.event.path), *([] if one.value is UNSET else [one.value]))
            for one in told
        ]

    @property
    def envelopes(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(told.text) for told in self.told]
