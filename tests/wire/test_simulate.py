from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import pytest

from listener import listening
from servers import free_port, mosquitto, wait_until
from skerry_adapters.farm.outlet import BrokerRefused, Outlet, broker_at
from skerry_adapters.farm.simulate import Scene, run

START = 1_767_225_600_000


def test_what_is_written_as_truth_is_what_was_sent(tmp_path: Path) -> None:
    scene = Scene(turbines=5, interval=0.05, duration=1.0, outages_per_day=40_000.0, duplicates=0.1, history=100.0)
    with mosquitto(tmp_path) as broker, listening(broker.port) as heard:
        truth = tmp_path / "truth.jsonl"
        report = run(scene, broker_at(broker.url), start_ms=START, stop=threading.Event(), truth=truth)
        total = report.sent.total()
        wait_until(lambda: len(heard) >= total + 5, what="everything that was sent")
        lines = [json.loads(line) for line in truth.read_text().splitlines()]
        assert Counter(line["sent"] for line in lines) == report.sent
        assert report.sent["duplicate"] > 0 < report.sent["late"]
        assert report.undelivered == 0
        assert [(topic, json.loads(payload)) for topic, payload in heard[5:]] == [
            (f"telemetry/{line['thing'].replace(':', '/')}/scada", line["record"]) for line in lines
        ]


def test_the_things_are_made_before_their_telemetry(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker, listening(broker.port) as heard:
        run(
            Scene(turbines=3, duration=0.1, interval=0.1), broker_at(broker.url), start_ms=START, stop=threading.Event()
        )
        wait_until(lambda: len(heard) >= 6, what="things and records")
        assert [topic for topic, _ in heard[:3]] == ["ditto/demo/T01", "ditto/demo/T02", "ditto/demo/T03"]
        envelope = json.loads(heard[0][1])
        assert (envelope["topic"], envelope["path"]) == ("demo/T01/things/twin/commands/merge", "/")
        assert envelope["value"]["attributes"]["model"] == "IEA 3.4 MW 130 m"


def test_a_broker_that_goes_and_comes_back_gets_everything(tmp_path: Path) -> None:
    stop = threading.Event()
    with mosquitto(tmp_path) as broker, Outlet(broker_at(broker.url), stop=stop, window=10) as outlet:
        for number in range(10):
            assert outlet.send("t", b"%d" % number)
        assert outlet.drain(10)
        broker.kill()
        wait_until(lambda: not outlet.connected, what="the loss of the connection")
        for number in range(10, 20):
            assert outlet.send("t", b"%d" % number)
        assert outlet.acknowledged == 10
        broker.start()
        assert outlet.drain(20)
        assert (outlet.acknowledged, outlet.reconnects) == (20, 1)


def test_a_stop_ends_the_wait_for_a_broker_that_is_away(tmp_path: Path) -> None:
    stop = threading.Event()
    with mosquitto(tmp_path) as broker, Outlet(broker_at(broker.url), stop=stop, window=1) as outlet:
        assert outlet.send("t", b"1")
        assert outlet.drain(10)
        broker.kill()
        wait_until(lambda: not outlet.connected, what="the loss of the connection")
        assert outlet.send("t", b"2")
        stop.set()
        assert not outlet.send("t", b"3")


def test_a_broker_that_refuses_the_login_is_named(tmp_path: Path) -> None:
    with mosquitto(tmp_path, users={"ditto": "ditto"}) as broker:
        wrong = broker_at(broker.url, "ditto", "wrong")
        with (
            pytest.raises(BrokerRefused, match=f"127.0.0.1:{broker.port} refuses us"),
            Outlet(wrong, stop=threading.Event()),
        ):
            pass
        with Outlet(broker_at(broker.url, "ditto", "ditto"), stop=threading.Event()) as outlet:
            assert outlet.connected


def test_a_broker_that_is_not_there_is_named() -> None:
    stop = threading.Event()
    stop.set()
    port = free_port()
    with (
        pytest.raises(BrokerRefused, match=f"127.0.0.1:{port} does not answer"),
        Outlet(broker_at(f"mqtt://127.0.0.1:{port}"), stop=stop),
    ):
        pass


@pytest.mark.parametrize("url", ["http://x", "mqtt://", "mqtt://h:port", "http://ditto:secret@h"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BrokerRefused, match="cannot be") as refused:
        broker_at(url)
    assert "secret" not in refused.value.text


def test_addresses_are_read_as_the_server_reads_them() -> None:
    assert broker_at("localhost:1884", "ditto", "secret") == broker_at("mqtt://ditto:secret@localhost:1884")
    assert broker_at("ssl://h").port == 8883
