"""The audit trail over HTTP: who did or was refused what, for those whom it concerns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from wire.http_server import served

AUDIT = "/api/2/audit"


async def told(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get(AUDIT, params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_changes_and_refusals_are_told_to_whom_they_concern(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as server,
        server.client() as ditto,
        server.client("eve") as eve,
        server.client("devops") as devops,
    ):
        await ditto.put("/api/2/things/x:T1", json={"attributes": {"a": 1}})
        assert (await eve.put("/api/2/things/x:T1/attributes/a", json=2)).status_code == 403
        assert (await eve.get("/api/2/things/x:T1")).status_code == 404
        assert (await eve.put("/api/2/policies/x:T1/entries/E", json={})).status_code >= 400
        assert (await eve.get("/devops/config")).status_code in {401, 403}
        found = await told(ditto, outcome="refused")
        assert [(one["action"], one["subject"], one["origin"]) for one in found[-2:]] == [
            ("retrieve", "nginx:eve", "http 127.0.0.1"),
            ("modify", "nginx:eve", "http 127.0.0.1"),
        ]
        assert {one["kind"] for one in await told(ditto, outcome="changed")} == {"thing", "policy"}
        assert await told(eve) == []
        wrong = httpx.AsyncClient(base_url=server.url, auth=("ditto", "wrong"))
        async with wrong:
            assert (await wrong.get("/api/2/things/x:T1")).status_code == 401
        login = (await told(devops, limit=1))[0]
        assert (login["action"], login["user"], login["error"]) == (
            "login",
            "ditto",
            "gateway:authentication.failed",
        )
        assert "wrong" not in str(await told(devops))
        assert len(await told(devops)) > len(await told(ditto))


async def test_pages_follow_each_other(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as ditto:
        for number in range(4):
            await ditto.put("/api/2/things/x:T1/attributes/a" if number else "/api/2/things/x:T1", json={"n": number})
        first = (await ditto.get(AUDIT, params={"limit": 3})).json()
        second = (await ditto.get(AUDIT, params={"limit": 3, "after": first["next"]})).json()
        assert [one["id"] for one in (*first["items"], *second["items"])] == [5, 4, 3, 2, 1]
        assert "next" not in second


async def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as ditto, server.client(None) as nobody:
        assert (await nobody.get(AUDIT)).status_code == 401
        assert (await ditto.get(AUDIT, params={"limit": 0})).json()["error"] == "audit.query.invalid"
        assert (await ditto.post(AUDIT)).status_code == 405
        assert (await ditto.get(AUDIT + "/x")).status_code == 404
