"""A full disk: refused with an error body, nothing lost, cured by room without a restart. Needs the right to mount a tmpfs."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from kill import LOGIN, Victim, get, put_thing
from measure import LeanClient, publish_packet
from servers import MISSING, wait_until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def small_disk(tmp_path: Path):
    """A folder on a disk of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        reason = f"{MISSING}: the right to mount a tmpfs (run the tests as root in a container)"
        if "tmpfs" in os.environ.get("SKERRY_TEST_REQUIRE_SERVERS", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def put(port: int, path: str, body: str) -> tuple[int, bytes]:
    """PUT with Ditto's login."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", path, body, LOGIN)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, text


def fill(ballast: Path) -> None:
    """Leave no byte free."""
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


@pytest.mark.timeout(120)
def test_a_full_disk_refuses_loses_nothing_and_is_cured_by_room(small_disk: Path) -> None:
    victim = Victim(small_disk)
    victim.start()
    try:
        put_thing(victim.http, "kill:T1")
        fill(small_disk / "ballast")
        refused = 0
        kept = 0
        for n in range(400):
            status, body = put(victim.http, "/api/2/things/kill:T1/attributes/n", json.dumps([n] * 200))
            if status in {201, 204}:
                kept = n
                fill(small_disk / "ballast")
                continue
            refused += 1
            assert status in {503, 507}, body
            assert json.loads(body)["status"] == status
            if refused > 5:
                break
        assert refused > 5, "the disk did not fill"
        status, body = get(victim.http, "/api/2/things/kill:T1/attributes/n/0")
        assert (status, json.loads(body)) == (200, kept) or status == 404

        client = LeanClient(victim.mqtt, "full", "ditto", "ditto")
        client.socket.settimeout(60)
        payload = json.dumps({"ts": 1795000000000, "power": 7, "pad": "x" * 3000}).encode()
        answers: list[bytes] = []
        client.socket.sendall(publish_packet("telemetry/kill/T1/scada", payload, 1))
        waiter = threading.Thread(target=lambda: answers.append(client.socket.recv(4)))
        waiter.start()
        waiter.join(1.5)
        assert not answers, "acknowledged on a full disk"

        (small_disk / "ballast").unlink()
        wait_until(
            lambda: put(victim.http, "/api/2/things/kill:T1/attributes/n", "1")[0] in {201, 204},
            what="a change after there is room",
        )
        waiter.join(30)
        assert answers == [b"\x40\x02\x00\x01"]
        client.close()
        assert json.loads(get(victim.http, "/api/2/things/kill:T1/features/scada/properties/power")[1]) == 7
        path = (
            "/api/2/timeseries/things/kill:T1/features/scada/properties/power?from=2020-01-01T00:00:00Z&to=now%2B900d"
        )
        wait_until(
            lambda: [row["v"] for row in json.loads(get(victim.http, path)[1])[0]["data"]] == [7],
            what="the sample in history",
        )
    finally:
        victim.stop()
