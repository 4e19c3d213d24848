"""The room that is left on the disk of the data folder, so that it does not fill unnoticed."""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

LITTLE = 1_000_000_000
SHARE = 0.05
LOOK_EVERY = 60.0


class Room(Struct, frozen=True):
    """Bytes that are free, and that the disk has; zeros where it does not answer. `little`: below 1 GB, or 5 % of it."""

    free: int
    size: int

    @property
    def little(self) -> bool:
        """Whether somebody should make room."""
        return not self.size or self.free < min(LITTLE, SHARE * self.size)


def room(folder: Path) -> Room:
    """What is left now for us."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return Room(0, 0)
    return Room(usage.free, usage.total)


async def watch(folder: Path, seconds: float = LOOK_EVERY) -> None:
    """Say when there is little room, and when there is enough again."""
    said = False
    while True:
        left = room(folder)
        if left.little != said:
            said = left.little
            facts = {"folder": str(folder), "free": left.free, "size": left.size}
            if said:
                log.warning("little room on the disk: make some, or keep journal and series shorter", extra=facts)
            else:
                log.info("room on the disk again", extra=facts)
        await asyncio.sleep(seconds)
