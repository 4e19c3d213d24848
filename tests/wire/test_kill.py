"""The server is killed under load, as it is in bench/kill.py by the hundreds."""

from pathlib import Path

import pytest

from kill import run
from servers import executable


@pytest.mark.timeout(180)
def test_no_acknowledged_change_is_lost_or_doubled_by_sigkill(tmp_path: Path) -> None:
    figures = run(tmp_path, kills=4, pause=(0.3, 1.0))

    assert figures["acknowledged"] > 100


@pytest.mark.timeout(180)
def test_what_an_external_broker_had_in_flight_is_neither_lost_nor_doubled_by_sigkill(tmp_path: Path) -> None:
    executable("mosquitto")

    figures = run(tmp_path, kills=3, pause=(0.3, 1.0), external=True)

    assert figures["acknowledged"] > 100
