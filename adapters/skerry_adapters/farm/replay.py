"""Replaying a recording over MQTT: in real time, faster, or as fast as it is acknowledged; going on after a break."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from skerry_adapters.farm.making import make_things, telemetry_topic
from skerry_adapters.farm.outlet import Broker, Outlet
from skerry_adapters.farm.scada import Recording


class Progress(Struct, kw_only=True):
    """How far a replay has come: rows read, records published and acknowledged, and those of an earlier run."""

    rows: int = 0
    sent: int = 0
    acknowledged: int = 0
    resumed: int = 0
    moment: int = 0
    connected: bool = True
    finished: bool = False
    per_thing: dict[str, int] = msgspec.field(default_factory=dict)


class Bookmark:
    """How many records of a recording one broker has acknowledged, kept in a file until the replay is complete."""

    def __init__(self, folder: Path, recording: Recording, broker: Broker) -> None:
        whose = hashlib.sha256()
        stat = recording.path.stat()
        for part in (recording.path.resolve(), stat.st_size, stat.st_mtime_ns, broker.where, *recording.ids):
            whose.update(f"{part}\n".encode())
        self.path = folder / "replay" / f"{recording.path.stem}-{whose.hexdigest()[:12]}.json"

    def read(self) -> int:
        """The records acknowledged before; 0 where nothing readable is kept."""
        try:
            kept = msgspec.json.decode(self.path.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.MsgspecError):
            return 0
        return max(0, kept.get("acknowledged", 0))

    def write(self, acknowledged: int) -> None:
        """Keep it, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode({"acknowledged": acknowledged}))
        fresh.replace(self.path)

    def remove(self) -> None:
        """The replay is complete, or begins anew."""
        self.path.unlink(missing_ok=True)


def replay(
    recording: Recording,
    broker: Broker,
    *,
    bookmark: Bookmark,
    speed: float | None,
    stop: threading.Event,
    window: int = 500,
    show: Callable[[Progress], None] = lambda _progress: None,
) -> Progress:
    """Publish every record in the order of time; `speed` None: as fast as acknowledged. Raises BrokerRefused, OSError.

    A stop keeps the place, and the next call goes on there; records sent twice at the seam are the same records.
    """
    progress = Progress(resumed=bookmark.read(), per_thing=dict.fromkeys(recording.ids, 0))
    topics = [telemetry_topic(thing_id) for thing_id in recording.ids]
    with Outlet(broker, stop=stop, window=window) as outlet:
        make_things(outlet, recording.things)
        made = len(recording.things)
        noted = began = time.monotonic()
        first: int | None = None
        for number, record in enumerate(recording.records()):
            progress.rows, progress.moment = recording.counts.rows, record.moment
            if number < progress.resumed:
                continue
            if speed is not None:
                first = record.moment if first is None else first
                due = began + (record.moment - first) / 1000.0 / speed
                if not _wait(due, stop, lambda: _note(progress, outlet, made, bookmark, show)):
                    break
            if not outlet.send(topics[record.thing], record.payload):
                break
            progress.sent += 1
            progress.per_thing[recording.ids[record.thing]] += 1
            if progress.sent % 256 == 0 and time.monotonic() - noted > 0.2:
                noted = time.monotonic()
                _note(progress, outlet, made, bookmark, show)
            if stop.is_set():
                break
        else:
            progress.finished = _drain(outlet, stop)
        if not progress.finished:
            outlet.drain(2.0)
        progress.rows = recording.counts.rows
        _note(progress, outlet, made, bookmark, show)
    if progress.finished:
        bookmark.remove()
    return progress


def _wait(due: float, stop: threading.Event, note: Callable[[], None]) -> bool:
    while (left := due - time.monotonic()) > 0:
        if stop.wait(min(left, 0.5)):
            return False
        if left > 0.5:
            note()
    return not stop.is_set()


def _drain(outlet: Outlet, stop: threading.Event) -> bool:
    """Wait for the last acknowledgements, however long a broker is away, unless stopped."""
    while not outlet.drain(0.5):
        if stop.is_set():
            return False
    return True


def _note(progress: Progress, outlet: Outlet, made: int, bookmark: Bookmark, show: Callable[[Progress], None]) -> None:
    progress.acknowledged = max(0, outlet.acknowledged - made)
    progress.connected = outlet.connected
    bookmark.write(progress.resumed + progress.acknowledged)
    show(progress)
