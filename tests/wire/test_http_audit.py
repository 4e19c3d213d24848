"""The audit trail over HTTP: who did or was refused what, for those whom it concerns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from msgspec import structs

from skerry_registry.identities.namespaces import NamespaceRule
from skerry_registry.settings import Settings
from wire.http_server import served

AUDIT = "/api/2/audit"
ALL = {key: {"grant": ["READ", "WRITE"], "revoke": []} for key in ("thing:/", "policy:/")}
OF_EVE = {"entries": {"eve": {"subjects": {"nginx:eve": {"type": ""}}, "resources": ALL}}}


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


async def test_a_namespace_that_is_closed_leaves_a_trace_wherever_it_was_asked_for(tmp_path: Path) -> None:
    rules = (NamespaceRule(allowed_namespaces=("open",), conditions=("{{ header:x-in }}",)),)
    settings = structs.replace(Settings(), namespace_access=rules)
    within = {"x-in": "yes"}
    async with (
        served(tmp_path, settings=settings) as server,
        server.client() as ditto,
        server.client("devops") as devops,
    ):
        assert (await ditto.get("/api/2/things/shut:T1", headers=within)).status_code == 403
        assert (await ditto.post("/api/2/things?namespace=shut", json={}, headers=within)).status_code == 403
        copying = {"_copyPolicyFrom": "shut:P"}
        assert (await ditto.put("/api/2/things/open:T1", json=copying, headers=within)).status_code == 403
        found = await told(devops, outcome="refused")
        assert {one["error"] for one in found} == {"gateway:namespace.notaccessible"}
        assert [one["action"] for one in found] == ["PUT", "POST", "GET"]


async def test_who_takes_an_id_that_was_given_up_is_told_nothing_of_those_before(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as ditto, server.client("eve") as eve:
        for one in ("x:T1", "x:T2"):
            await ditto.put(f"/api/2/things/{one}", json={"attributes": {"secret": 1}})
            await ditto.put(f"/api/2/things/{one}/attributes/secret", json=2)
            await ditto.delete(f"/api/2/things/{one}")
        await ditto.delete("/api/2/policies/x:T1")
        assert (await eve.put("/api/2/things/x:T1", json={})).status_code == 201
        assert (await eve.put("/api/2/things/x:T2", json={"_policy": OF_EVE, "policyId": "x:E"})).status_code == 201
        assert {one["subject"] for one in await told(eve)} == {"nginx:eve"}
        for path in ("things/x:T1", "things/x:T2", "policies/x:T1"):
            then = await eve.get(f"/api/2/{path}", headers={"at-historical-revision": "1"})
            assert then.status_code == 404, path
        await eve.delete("/api/2/things/x:T2")
        assert (await ditto.put("/api/2/things/x:T2", json={"policyId": "x:T2"})).status_code == 201
        before = await ditto.get("/api/2/things/x:T2", headers={"at-historical-revision": "2"})
        assert before.json()["attributes"] == {"secret": 2}
        of_eve = await ditto.get("/api/2/things/x:T2", headers={"at-historical-revision": "4"})
        assert of_eve.status_code == 404


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
