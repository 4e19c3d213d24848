"""A start that is refused ends within seconds, non-zero, naming path, port or setting, without a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from servers import free_port

ROOT = Path(__file__).resolve().parents[2]


def refused(tmp_path: Path, config: Path | None = None, **settings: str) -> str:
    """What `skerry serve` says when it ends; fails the test when it does not end, or ends well."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("SKERRY_")}
    env |= {
        "SKERRY_DATA_DIR": str(tmp_path / "data"),
        "SKERRY_HTTP_PORT": "0",
        "SKERRY_MQTT_PORT": "0",
        "COLUMNS": "200",
    } | settings
    command = [
        sys.executable,
        "-m",
        "skerry_registry",
        "serve",
        "--config",
        str(config or ROOT / "compose" / "ditto-defaults.toml"),
    ]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=15, check=False)
    said = ended.stdout + ended.stderr
    assert ended.returncode != 0, said
    assert "Traceback" not in said, said
    return said.replace("\n", " ")


@pytest.mark.parametrize("name", ["SKERRY_HTTP_PORT", "SKERRY_MQTT_PORT"])
def test_a_taken_port_is_named(tmp_path: Path, name: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])

        said = refused(tmp_path, **{name: port})

    assert port in said
    assert name in said


def test_a_folder_that_another_server_uses_is_named(tmp_path: Path) -> None:
    from kill import Victim

    first = Victim(tmp_path)
    first.start()
    try:
        said = refused(tmp_path)
        assert first.process is not None

        assert str(tmp_path / "data") in said
        assert str(first.process.pid) in said
    finally:
        first.stop()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    said = refused(tmp_path, SKERRY_DATA_DIR="/proc/skerry")

    assert "/proc/skerry" in said


def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")

    said = refused(tmp_path)

    assert str(tmp_path / "data") in said


def test_a_journal_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "journal.db").write_bytes(b"this is no database" * 1000)

    said = refused(tmp_path)

    assert "journal.db" in said


def test_a_series_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "series.duckdb").write_bytes(b"this is no database" * 1000)

    said = refused(tmp_path)

    assert "series.duckdb" in said


def test_a_misspelt_setting_is_named_with_the_nearest(tmp_path: Path) -> None:
    said = refused(tmp_path, SKERRY_HTP_PORT="1")

    assert "SKERRY_HTP_PORT" in said
    assert "SKERRY_HTTP_PORT" in said


def test_a_broken_settings_file_is_named_with_the_line(tmp_path: Path) -> None:
    config = tmp_path / "skerry.toml"
    config.write_text('[http]\nport = 8080\nhost = "unfinished\n')

    said = refused(tmp_path, config)

    assert "skerry.toml" in said
    assert "line 3" in said


def test_a_host_that_is_not_ours_is_named(tmp_path: Path) -> None:
    said = refused(tmp_path, SKERRY_HTTP_HOST="192.0.2.1", SKERRY_HTTP_PORT=str(free_port()))

    assert "192.0.2.1" in said


def test_nobody_to_log_in_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    config = tmp_path / "skerry.toml"
    config.write_text("")

    said = refused(tmp_path, config)

    assert "skerry user add" in said


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("SKERRY_MQTT_URL", "foo://broker", "mqtt://host:1883"),
        ("SKERRY_MQTT_URL", "mqtt://broker:99999", "mqtt://host:1883"),
        ("SKERRY_MQTT_URL", "mqtt://", "mqtt://host:1883"),
        ("SKERRY_INFLUX_URL", "nonsense", "http://host:8086"),
        ("SKERRY_INFLUX_URL", "http://localhost:8086", "influx_token, influx_org, influx_bucket"),
    ],
)
def test_an_address_that_is_none_or_lacks_its_company_is_named(
    tmp_path: Path, name: str, value: str, right: str
) -> None:
    said = refused(tmp_path, **{name: value})

    assert name in said
    assert right in said
