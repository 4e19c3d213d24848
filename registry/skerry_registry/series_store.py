"""The series store that the settings name, and what it forgets."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from skerry import times
from skerry.errors import SkerryError
from skerry_adapters.series.ports import SeriesUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from skerry.signals import Clock
    from skerry_adapters.series.ports import Series
    from skerry_registry.settings import Settings
    from skerry_registry.stores.sqlite import SqliteStore

log = logging.getLogger(__name__)

TRIM_EVERY = 3600.0


class SeriesUnusable(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """The series store of the settings cannot be opened."""

    code = "series.unusable"
    message = "The series store cannot be opened: {reason}"
    description = (
        "Correct path, rights or address. A damaged file can be moved away; its samples leave history with it."
    )


@asynccontextmanager
async def opened(settings: Settings, store: SqliteStore) -> AsyncIterator[Series]:
    """The series store of the settings; the libraries of the one that is not used are not loaded."""
    series: Series
    if settings.influx_url is None:
        from skerry_adapters.series.duckdb import DuckSeries  # noqa: PLC0415

        series = DuckSeries(Path(settings.data_dir) / "series.duckdb", memory=settings.series_memory)
    else:
        from skerry_adapters.series.influx import InfluxSeries  # noqa: PLC0415

        async def load() -> int:
            return await store.cursor("influx")

        async def save(number: int) -> None:
            await store.move_cursor("influx", number)

        series = InfluxSeries(
            settings.influx_url,
            settings.influx_token or "",
            settings.influx_org or "",
            settings.influx_bucket or "",
            load_cursor=load,
            save_cursor=save,
        )
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(series)
        except SeriesUnavailable as error:
            raise SeriesUnusable(reason=error.facts.get("reason")) from error
        yield series


async def forget(series: Series, clock: Clock, days: float) -> None:
    """Forget old samples, now and every hour; a store that is away is asked again the next time."""
    while True:
        try:
            await series.trim(clock() - int(days * times.DAY))
        except SeriesUnavailable as error:
            log.warning("no samples forgotten", extra={"reason": error.facts.get("reason")})
        await asyncio.sleep(TRIM_EVERY)
