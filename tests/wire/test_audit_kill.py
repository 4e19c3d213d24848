"""A server that is killed keeps every acknowledged change in its audit trail; the command line shows it; real clients are refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from servers import Process, free_port, skerry_command


def server_in(folder: Path) -> tuple[Process, int, int]:
    """`skerry serve` with the users ditto and eve, of whom devops is none."""
    http, mqtt = free_port(), free_port()
    environment = {
        "SKERRY_DATA_DIR": str(folder / "data"),
        "SKERRY_HTTP_PORT": str(http),
        "SKERRY_MQTT_PORT": str(mqtt),
    }
    for name in ("ditto", "eve"):
        command = [skerry_command(), "user", "add", name, "--password", name, "--data-dir", str(folder / "data")]
        subprocess.run(command, check=True, capture_output=True)
    return (
        Process([skerry_command(), "serve"], port=http, log=folder / "log", environment=environment),
        http,
        mqtt,
    )


@pytest.mark.timeout(120)
def test_changes_are_in_the_trail_after_a_kill_each_once(tmp_path: Path) -> None:
    server, port, _ = server_in(tmp_path)
    made = 0
    try:
        for round_ in range(3):
            server.start()
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("ditto", "ditto"), timeout=20) as client:
                for number in range(20):
                    answer = client.put(f"/api/2/things/x:T{round_}-{number}", json={})
                    assert answer.status_code == 201
                    made += 1
            server.kill()
        server.start()
        command = [skerry_command(), "audit", "--json", "--limit", "1000", "--url", f"http://127.0.0.1:{port}"]
        done = subprocess.run(
            [*command, "--user", "ditto", "--password", "ditto"], check=True, capture_output=True, text=True
        )
        found = [json.loads(line) for line in done.stdout.splitlines()]
        things = [one["thingId"] for one in found if one["kind"] == "thing"]
        assert len(things) == len(set(things)) == made
        assert [one["number"] for one in found] == list(range(2 * made, 0, -1))
        assert {(one["subject"], one["origin"]) for one in found} == {("nginx:ditto", "http 127.0.0.1")}
    finally:
        server.stop()


@pytest.mark.timeout(60)
def test_mosquittos_clients_are_told_what_they_may_not(tmp_path: Path) -> None:
    if shutil.which("mosquitto_pub") is None:
        pytest.skip("NOT TESTED, mosquitto_pub missing (package mosquitto-clients)")
    server, port, mqtt = server_in(tmp_path)
    server.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("ditto", "ditto"), timeout=20) as client:
            assert client.put("/api/2/things/x:T1", json={}).status_code == 201

            def publish(user: str) -> str:
                command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(mqtt), "-V", "5", "-q", "1"]
                said = subprocess.run(
                    [*command, "-u", user, "-P", user, "-t", "telemetry/x/T1/scada", "-m", '{"power":1}'],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                return said.stderr

            assert publish("ditto") == ""
            assert "Not authorized" in publish("eve")
            command = [
                "mosquitto_sub",
                "-h",
                "127.0.0.1",
                "-p",
                str(mqtt),
                "-V",
                "5",
                "-W",
                "5",
                "-u",
                "eve",
                "-P",
                "eve",
            ]
            heard = subprocess.run([*command, "-t", "telemetry/#"], capture_output=True, text=True, check=False)
            assert "denied" in heard.stderr
            refused = client.get("/api/2/audit", params={"outcome": "refused"}).json()["items"]
            assert [(one["action"], one["user"], one["path"]) for one in refused] == [
                ("publish", "eve", "telemetry/x/T1/scada")
            ]
    finally:
        server.stop()
