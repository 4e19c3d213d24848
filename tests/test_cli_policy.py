"""`skerry policy`: questions about rights on the command line, to a running server."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from wire.http_server import Served, served

RIGHTS: dict[str, Any] = {"grant": ["READ", "WRITE"], "revoke": []}
POLICY = {
    "entries": {
        "owner": {
            "subjects": {"nginx:ditto": {"type": "t"}},
            "resources": {"thing:/": RIGHTS, "policy:/": RIGHTS, "message:/": RIGHTS},
        },
        "guests": {
            "subjects": {"nginx:eve": {"type": "t"}},
            "resources": {"thing:/attributes": {"grant": ["READ"], "revoke": []}},
        },
    }
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as server, server.client() as ditto:
        assert (await ditto.put("/api/2/policies/demo:fleet", json=POLICY)).status_code == 201
        for number in range(2):
            body = {"policyId": "demo:fleet", "attributes": {"a": number}}
            assert (await ditto.put(f"/api/2/things/demo:T{number}", json=body)).status_code == 201
        yield server


async def run(server: Served, *arguments: str, code: int = 0, user: str = "ditto", stdin: bytes = b"") -> str:
    """What the command prints, with nothing on its standard error where it succeeds."""
    login = ("--url", server.url, "--user", user, "--password", user)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "skerry_registry", "policy", *arguments, *login),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(stdin)
    assert process.returncode == code, (out, err)
    return (out + err).decode()


async def test_a_refusal_is_explained_and_tells_by_its_exit_code(server: Served):
    said = await run(server, "explain", "demo:fleet", "write", "thing:/attributes/a", "nginx:eve", code=1)
    assert said.splitlines() == [
        "Not granted: WRITE on thing:/attributes/a.",
        "Missing:",
        "WRITE\tthing:/attributes/a",
        "Could be granted by:",
        "demo:fleet\towner\tnginx:ditto",
    ]
    said = await run(server, "explain", "demo:fleet", "READ", "thing:/attributes", "nginx:eve", "nginx:max")
    assert said.splitlines() == [
        "Granted: READ on thing:/attributes.",
        "Decided by:",
        "demo:fleet\tguests\tgrant\tREAD\tthing:/attributes\tnginx:eve",
    ]
    said = await run(server, "explain", "demo:fleet", "READ", "thing:/", "nginx:eve", "--json", code=1)
    assert json.loads(said)["partly"] is True


async def test_a_change_is_simulated_from_a_file_or_standard_input(server: Served, tmp_path: Path):
    changed: dict[str, Any] = json.loads(json.dumps(POLICY))
    changed["entries"]["guests"]["resources"] = {"message:/": RIGHTS}
    file = tmp_path / "changed.json"
    file.write_text(json.dumps(changed))
    said = (await run(server, "simulate", "demo:fleet", str(file))).splitlines()
    assert "nginx:eve\tloses\tREAD\tthing:/attributes\t2: demo:T0, demo:T1" in said
    assert "nginx:eve\tgains\tWRITE\tmessage:/\t2: demo:T0, demo:T1" in said
    assert await run(server, "simulate", "demo:fleet", "-", stdin=json.dumps(POLICY).encode()) == (
        "Nobody would gain or lose anything.\n"
    )
    assert "cannot be read as a policy" in await run(server, "simulate", "demo:fleet", "-", stdin=b"{", code=2)
    locked = await run(server, "simulate", "demo:fleet", "-", stdin=b'{"entries":{}}', code=2)
    assert ("Keep at least one subject" in locked, "Log in" in locked) == (True, False)
    assert "No such file" in await run(server, "simulate", "demo:fleet", str(tmp_path / "none"), code=2)


async def test_who_may_what_with_a_thing(server: Served):
    said = (await run(server, "access", "demo:T0")).splitlines()
    assert said[:2] == ["demo:T0 has the policy demo:fleet.", "Subject\tReads\tWrites\tRights\tEntries"]
    assert "nginx:eve\tpart\tnone\tthing:/attributes READ\tguests" in said
    assert json.loads(await run(server, "access", "demo:T0", "--json"))["policyId"] == "demo:fleet"
    assert "demo:none" in await run(server, "access", "demo:none", code=2)


async def test_policies_are_listed(server: Served):
    said = await run(server, "list", "--namespace", "demo", "--subject", "nginx:*", "--resource", "thing:/attributes")
    assert said == "demo:fleet\towner, guests\tnginx:ditto, nginx:eve\t\n"
    assert [one["policyId"] for one in json.loads(await run(server, "list", "--json"))] == ["demo:fleet"]
    assert await run(server, "list", user="eve") == ""
