from pathlib import Path

import pytest

from servers import executable, influxd, listens, mosquitto


def test_mosquitto_starts_restarts_on_its_port_and_is_gone_afterwards(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as broker:
        assert listens(broker.port)
        broker.kill()
        assert not listens(broker.port)
        broker.start()
        assert listens(broker.port)
    assert not listens(broker.port)


def test_mosquitto_takes_users(tmp_path: Path) -> None:
    with mosquitto(tmp_path, users={"ditto": "ditto"}) as broker:
        assert listens(broker.port)


def test_influxd_is_set_up_and_gone_afterwards(tmp_path: Path) -> None:
    with influxd(tmp_path) as influx:
        assert listens(influx.port)
    assert not listens(influx.port)


def test_a_missing_server_skips_by_name_or_fails_where_it_is_required() -> None:
    nowhere = {"SKERRY_TEST_CHROMIUM": "/nowhere/chromium"}
    with pytest.raises(pytest.skip.Exception, match="chromium"):
        executable("chromium", nowhere)
    with pytest.raises(pytest.fail.Exception, match="SKERRY_TEST_CHROMIUM"):
        executable("chromium", {**nowhere, "SKERRY_TEST_REQUIRE_SERVERS": "mosquitto,chromium"})


async def test_an_asynchronous_test_passes_the_leak_checks() -> None:
    pass
