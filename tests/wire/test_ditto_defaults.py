"""The server that compose/ditto-defaults.toml describes, as a client made for Ditto finds it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from issuer import Issuer, issuer
from servers import Process, free_port, wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def login(tmp_path: Path) -> Iterator[Issuer]:
    with issuer(tmp_path, started=False) as process:
        yield process


@pytest.fixture
def client(tmp_path: Path, login: Issuer) -> Iterator[httpx.Client]:
    """A client of the server, whose issuer has another port than 9900 and is not there yet."""
    http, mqtt = free_port(), free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SKERRY_")}
    environ |= {
        "SKERRY_CONFIG": str(ROOT / "compose" / "ditto-defaults.toml"),
        "SKERRY_DATA_DIR": str(tmp_path / "data"),
        "SKERRY_HTTP_PORT": str(http),
        "SKERRY_MQTT_PORT": str(mqtt),
        "SKERRY_OIDC_ISSUERS": json.dumps({"ditto": {"issuer": login.url}}),
    }
    server = Process(
        [sys.executable, "-m", "skerry_registry", "serve"], port=http, log=tmp_path / "log", environment=environ
    )
    server.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{http}", timeout=20) as client:
        yield client
    server.stop()


def bearer(login: Issuer, user: str) -> dict[str, str]:
    now = int(time.time())
    claims: dict[str, Any] = {
        "sub": user,
        "azp": user,
        "tid": "t",
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "jti": "j",
    }
    return {"authorization": f"Bearer {login.token(claims)}"}


def test_whoever_has_a_token_of_the_issuer_works_at_once_and_the_realms_have_ditto_s_passwords(
    client: httpx.Client, login: Issuer
) -> None:
    login.start()
    user2 = bearer(login, "user2")
    login.stop()
    away = client.get("/api/2/whoami", headers=user2)
    assert (away.status_code, away.json()["error"]) == (503, "gateway:publickey.provider.unavailable")
    login.start()
    user2 = bearer(login, "user2")
    wait_until(lambda: client.get("/api/2/whoami", headers=user2).status_code == 200, what="the issuer's keys")

    thing = "/api/2/things/namespace.default:t1"
    assert client.put(thing, json={"attributes": {"n": 1}}, headers=user2).status_code == 201
    assert client.get(thing, headers=bearer(login, "user3")).status_code == 404
    entry = {
        "subjects": {"ditto:user2": {"type": "generated"}},
        "resources": {
            "policy:/": {"grant": ["READ", "WRITE", "EXECUTE"], "revoke": []},
            "thing:/": {"grant": ["READ"], "revoke": []},
        },
    }
    policy = "/api/2/policies/namespace.default:p1"
    assert client.put(policy, json={"entries": {"owner": entry}}, headers=user2).status_code == 201
    assert client.post(f"{policy}/actions/activateTokenIntegration", headers=user2).status_code == 204
    subjects = client.get(f"{policy}/entries/owner/subjects", headers=user2).json()
    assert set(subjects) == {"ditto:user2", "integration:user2:system-test"}
    assert "expiry" in subjects["integration:user2:system-test"]

    codes = {
        (path, password): client.get(path, auth=("devops", password)).status_code
        for path in ("/devops/logging", "/status")
        for password in ("foobar", "status", "devops")
    }
    assert codes == {
        ("/devops/logging", "foobar"): 200,
        ("/devops/logging", "status"): 401,
        ("/devops/logging", "devops"): 401,
        ("/status", "foobar"): 200,
        ("/status", "status"): 200,
        ("/status", "devops"): 401,
    }
    told = client.get("/api/2/whoami", headers={"x-ditto-pre-authenticated": "nginx:anybody"})
    assert told.json()["defaultSubject"] == "nginx:anybody"
    assert client.get("/api/2/whoami", auth=("ditto", "ditto")).json()["defaultSubject"] == "nginx:ditto"
    config = client.get("/devops/config", auth=("devops", "foobar"))
    assert config.status_code == 200
    assert "status_subjects" in config.text
    assert "status_password" not in config.text
