from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from listener import listening
from servers import Process, free_port, mosquitto, wait_until
from skerry_adapters.farm.outlet import broker_at
from skerry_adapters.farm.replay import Bookmark, Progress, replay
from skerry_adapters.farm.scada import PRESETS, Recording
from skerry_registry.cli.client import Client

ROOT = Path(__file__).parents[2]


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


@contextmanager
def served(folder: Path) -> Iterator[tuple[dict[str, str], Client, Process]]:
    """`skerry serve` with Ditto's accounts; its settings as variables, a client, and the process."""
    http, mqtt = free_port(), free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SKERRY_")}
    environ |= {
        "SKERRY_CONFIG": str(ROOT / "compose" / "ditto-defaults.toml"),
        "SKERRY_DATA_DIR": str(folder / "data"),
        "SKERRY_HTTP_PORT": str(http),
        "SKERRY_MQTT_PORT": str(mqtt),
    }
    server = Process(
        [sys.executable, "-m", "skerry_registry", "serve"], port=http, log=folder / "log", environment=environ
    )
    server.start()
    client = Client(f"http://127.0.0.1:{http}", "ditto", "ditto")
    try:
        yield environ, client, server
    finally:
        client.close()
        server.stop()


def test_the_command_fills_the_history_of_a_server_and_goes_on_after_ctrl_c(tmp_path: Path) -> None:
    recording = recording_of(tmp_path, 3000)
    command = [sys.executable, "-m", "skerry_registry", "replay", str(recording.path), "--preset", "flasc"]
    with served(tmp_path) as (environ, client, _server):
        bookmarks = tmp_path / "data" / "replay"
        with (tmp_path / "first.log").open("wb") as log:
            first = subprocess.Popen([*command, "--speed", "100000"], env=environ, stdout=log, stderr=log)
        wait_until(
            lambda: any('"acknowledged":0' not in file.read_text() for file in bookmarks.glob("*.json")),
            what="the first acknowledgements",
        )
        first.send_signal(signal.SIGINT)
        assert first.wait(15) == 130, (tmp_path / "first.log").read_text()
        second = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == 0, second.stderr
        assert "by an earlier run" in second.stderr
        assert not list(bookmarks.glob("*.json"))
        for turbine, factor in (("T000", 1.0), ("T001", 0.5)):
            query = "from=2019-01-01T00:00:00Z&to=2019-02-01T00:00:00Z&step=31d"
            path = f"/api/2/timeseries/things/flasc:{turbine}/features/scada/properties/power?{query}"
            count, mean = (client.get(f"{path}&agg={agg}")[0][0]["data"][0]["v"] for agg in ("count", "avg"))
            assert (count, mean) == (3000, sum(range(3000)) / 3000 * factor)


def test_a_file_replayed_again_changes_nothing_even_after_the_server_was_killed(tmp_path: Path) -> None:
    recording = recording_of(tmp_path, 200)
    command = [sys.executable, "-m", "skerry_registry", "replay", str(recording.path), "--preset", "flasc", "--restart"]
    with served(tmp_path) as (environ, client, server):

        def told() -> tuple[object, ...]:
            things = client.get("/api/2/things?fields=thingId,_revision")[0]
            query = "from=2019-01-01T00:00:00Z&to=2019-02-01T00:00:00Z&step=31d&agg=count"
            path = f"/api/2/timeseries/things/flasc:T000/features/scada/properties/power?{query}"
            return things, client.get(path)[0][0]["data"]

        for kill in (False, True, False):
            subprocess.run(command, env=environ, capture_output=True, timeout=60, check=True)
            after = told()
            assert after[0] == [{"thingId": name, "_revision": 201} for name in ("flasc:T000", "flasc:T001")]
            assert [row["v"] for row in after[1]] == [200]
            if kill:
                server.kill()
                server.start()
