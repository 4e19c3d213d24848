from __future__ import annotations

import threading
import time
from pathlib import Path

from listener import listening
from servers import mosquitto, wait_until
from skerry_adapters.farm.outlet import broker_at
from skerry_adapters.farm.replay import Bookmark, Progress, replay
from skerry_adapters.farm.scada import PRESETS, Recording


def recording_of(folder: Path, rows: int) -> Recording:
    file = folder / "scada.csv"
    lines = [f"2019-01-{1 + n // 144:02} {n // 6 % 24:02}:{n % 6}0:00,{n},{n / 2}" for n in range(rows)]
    file.write_text("\n".join(["time,pow_000,pow_001", *lines, ""]))
    return Recording(file, PRESETS["flasc"], namespace="flasc", farm="F")


def test_every_record_arrives_once_and_in_order(tmp_path: Path) -> None:
    recording = recording_of(tmp_path, 500)
    with mosquitto(tmp_path) as server, listening(server.port) as heard:
        broker = broker_at(server.url)
        bookmark = Bookmark(tmp_path, recording, broker)
        progress = replay(recording, broker, bookmark=bookmark, speed=None, stop=threading.Event())
        assert progress.finished
        assert (progress.rows, progress.acknowledged) == (500, 1000)
        assert progress.per_thing == {"flasc:T000": 500, "flasc:T001": 500}
        assert not bookmark.path.exists()
        wait_until(lambda: len(heard) >= 1002, what="the records")
        assert [payload for _, payload in heard[2:]] == [record.payload for record in recording.records()]


def test_a_stopped_replay_goes_on_where_it_was_acknowledged(tmp_path: Path) -> None:
    recording = recording_of(tmp_path, 4000)
    with mosquitto(tmp_path) as server, listening(server.port) as heard:
        broker = broker_at(server.url)
        bookmark = Bookmark(tmp_path, recording, broker)
        stop = threading.Event()

        def halfway(progress: Progress) -> None:
            if progress.sent > 700:
                stop.set()

        first = replay(recording, broker, bookmark=bookmark, speed=100_000, stop=stop, window=50, show=halfway)
        assert not first.finished
        assert 0 < bookmark.read() == first.acknowledged < 8000
        second = replay(recording, broker, bookmark=bookmark, speed=None, stop=threading.Event())
        assert second.finished
        assert second.resumed == first.acknowledged
        assert second.resumed + second.acknowledged == 8000
        wait_until(lambda: len(heard) >= 8004, what="the records of both runs")
        records = [payload for topic, payload in heard if topic.startswith("telemetry")]
        assert list(dict.fromkeys(records)) == list(dict.fromkeys(record.payload for record in recording.records()))


def test_a_factor_paces_the_records_by_their_times(tmp_path: Path) -> None:
    recording = recording_of(tmp_path, 4)
    with mosquitto(tmp_path) as server:
        broker = broker_at(server.url)
        began = time.monotonic()
        bookmark = Bookmark(tmp_path, recording, broker)
        assert replay(recording, broker, bookmark=bookmark, speed=3600, stop=threading.Event()).finished
        assert 0.45 <= time.monotonic() - began < 5
