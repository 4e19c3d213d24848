"""Room on the disk: told before there is none."""

import asyncio
import logging
from pathlib import Path

import pytest

from skerry_registry import disk
from skerry_registry.disk import Room


@pytest.mark.parametrize(
    ("free", "size", "little"),
    [
        (2_000_000_000, 10**12, False),
        (900_000_000, 10**12, True),
        (900_000_000, 10_000_000_000, False),
        (400_000_000, 10_000_000_000, True),
        (0, 10**12, True),
    ],
)
def test_little_is_below_a_gigabyte_or_a_twentieth_of_a_small_disk(free: int, size: int, little: bool) -> None:
    assert Room(free, size).little is little


async def test_a_disk_with_room_is_watched_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(disk.watch(tmp_path, 0.001), 0.05)
    room = disk.room(tmp_path)
    assert 0 < room.free <= room.size
    assert len(caplog.records) == room.little


def test_a_disk_that_does_not_answer_has_no_room(tmp_path: Path) -> None:
    assert disk.room(tmp_path / "gone").little
