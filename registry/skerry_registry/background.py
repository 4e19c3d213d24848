"""Work that goes on beside everything else, for as long as a block lasts."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

log = logging.getLogger(__name__)


@asynccontextmanager
async def in_background(name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run until the block is left; an end before that is logged, for somebody must come."""
    task = asyncio.create_task(work, name=name)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work ended", extra={"work": name}, exc_info=error)

    task.add_done_callback(ended)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
