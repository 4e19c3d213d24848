"""Policies over HTTP: every path below a policy, its methods, codes, headers and bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from wire.http_server import Served, served

P = "/api/2/policies/a:p"
ALL = {"thing:/": {"grant": ["READ", "WRITE"], "revoke": []}, "policy:/": {"grant": ["READ", "WRITE"], "revoke": []}}
OWNER = {"subjects": {"nginx:ditto": {"type": "t"}}, "resources": ALL, "importable": "implicit"}
SOME = {"subjects": {"nginx:eve": {"type": "t"}}, "resources": {"thing:/attributes": {"grant": ["READ"], "revoke": []}}}
BODY: dict[str, Any] = {"entries": {"owner": OWNER, "some": SOME}}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with served(tmp_path) as server:
        yield server


@pytest.fixture
async def ditto(server: Served) -> AsyncIterator[httpx.AsyncClient]:
    """ditto, who has made the policy a:p."""
    async with server.client() as client:
        made = await client.put(P, json=BODY)
        assert made.status_code == 201, made.text
        yield client


async def test_a_policy_is_made_read_replaced_and_deleted(server: Served):
    async with server.client() as ditto:
        made = await ditto.put(P, json=BODY)
        assert (made.status_code, made.json()["policyId"]) == (201, "a:p")
        assert made.headers["location"] == f"{server.url}{P}"
        assert made.headers["etag"] == '"rev:1"'
        read = await ditto.get(P)
        assert (read.status_code, read.json(), read.headers["etag"]) == (200, made.json(), '"rev:1"')
        assert (await ditto.get(P, headers={"if-none-match": '"rev:1"'})).status_code == 304
        assert (await ditto.get(P + "?fields=policyId")).json() == {"policyId": "a:p"}
        again = await ditto.put(P, json=BODY)
        assert (again.status_code, again.content, again.headers["etag"]) == (204, b"", '"rev:2"')
        assert (await ditto.put(P, json=BODY, headers={"if-match": '"rev:1"'})).json()[
            "error"
        ] == "policies:precondition.failed"
        assert (await ditto.delete(P)).status_code == 204
        gone = await ditto.get(P)
        assert (gone.status_code, gone.json()["error"]) == (404, "policies:policy.notfound")


async def test_a_policy_may_get_an_id_of_the_server_s(server: Served):
    async with server.client() as ditto:
        made = await ditto.post("/api/2/policies", json=BODY)
        policy_id = made.json()["policyId"]
        assert made.status_code == 201
        assert policy_id.startswith("org.eclipse.ditto:")
        assert made.headers["location"] == f"{server.url}/api/2/policies/{policy_id}"
        assert (await ditto.get(f"/api/2/policies/{policy_id}")).status_code == 200
        other = await ditto.post("/api/2/policies?namespace=farm", json=BODY)
        assert other.json()["policyId"].startswith("farm:")
        named = await ditto.post("/api/2/policies", json={"policyId": "a:p", **BODY})
        assert (named.status_code, named.json()["error"]) == (400, "policies:id.notsettable")


PARTS: list[tuple[str, Any, bool]] = [
    ("/entries/some", SOME, True),
    ("/entries/some/subjects", {"nginx:max": {"type": "t"}}, False),
    ("/entries/some/subjects/nginx:eve", {"type": "other"}, True),
    ("/entries/some/resources", {"thing:/": {"grant": ["READ"], "revoke": []}}, False),
    ("/entries/some/resources/thing:/attributes", {"grant": ["WRITE"], "revoke": []}, True),
    ("/entries/owner/resources/thing:/", {"grant": ["READ"], "revoke": []}, True),
]


@pytest.mark.parametrize(("path", "value", "deletable"), PARTS)
async def test_a_part_is_read_replaced_deleted_and_made_again(ditto, server, path: str, value: Any, deletable: bool):
    assert (await ditto.get(P + path)).status_code == 200
    put = await ditto.put(P + path, json=value)
    assert (put.status_code, put.content) == (204, b""), put.text
    read = await ditto.get(P + path)
    shown = {key: member for key, member in read.json().items() if key != "importable"}
    assert (shown, read.headers["etag"][:6]) == (value, '"hash:')
    patched = await ditto.patch(P + path, json=value, headers={"content-type": "application/merge-patch+json"})
    assert patched.status_code == 405
    deleted = await ditto.delete(P + path)
    if not deletable:
        assert deleted.status_code == 405
        return
    assert deleted.status_code == 204
    assert (await ditto.get(P + path)).status_code == 404
    assert (await ditto.delete(P + path)).status_code == 404
    made = await ditto.put(P + path, json=value)
    assert made.status_code == 201, made.text
    assert made.headers["location"] == server.url + P + path
    assert {key: member for key, member in made.json().items() if key != "importable"} == value


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/entries/none", "policies:entry.notfound"),
        ("/entries/some/subjects/nginx:none", "policies:subject.notfound"),
        ("/entries/some/resources/thing:/none", "policies:resource.notfound"),
        ("/imports/a:none", "policies:import.notfound"),
    ],
)
async def test_what_is_not_there_has_its_own_code(ditto, path: str, code: str):
    for method in ("GET", "DELETE"):
        answer = await ditto.request(method, P + path)
        assert (answer.status_code, answer.json()["error"]) == (404, code)


async def test_paths_and_ids_that_are_none(ditto):
    for path in ("/nothing", "/entries/some/nothing", "/imports/a:b/nothing", "/explain/x", "//entries"):
        answer = await ditto.get(P + path)
        assert answer.status_code == 404, path
    wrong = await ditto.get("/api/2/policies/nocolon")
    assert (wrong.status_code, wrong.json()["error"]) == (400, "policies:id.invalid")


async def test_a_part_s_own_rights_are_asked(server, ditto):
    async with server.client("eve") as eve:
        assert (await eve.get(P)).status_code == 404
        refused = await eve.put(P + "/entries/some", json=SOME)
        assert refused.status_code == 403
        assert "why" not in refused.json()


async def test_the_waiting_of_things_holds_for_policies(ditto):
    answer = await ditto.put(P, json=BODY, headers={"response-required": "false"})
    assert answer.status_code == 202
    answer = await ditto.put(P, json=BODY, headers={"requested-acks": "nobody-gives-it"})
    assert answer.status_code == 204  # policies know no acknowledgements
    answer = await ditto.put(P, json=BODY, headers={"timeout": "soon"})
    assert answer.json()["error"] == "timeout.invalid"


async def test_a_policy_is_shown_as_it_is_enforced(server, ditto):
    own = {"subjects": {"nginx:ditto": {"type": "t"}}, "resources": {}, "references": [{"entry": "some"}]}
    shared = {"owner": OWNER, "role": SOME, "secret": {**SOME, "importable": "explicit"}}
    assert (await ditto.put("/api/2/policies/a:shared", json={"entries": shared})).status_code == 201
    for path, value in (("/imports/a:shared", {}), ("/entries/own", own)):
        assert (await ditto.put(P + path, json=value)).status_code == 201
    etag = {"if-none-match": (await ditto.get(P)).headers["etag"]}
    for view in ("resolved", " RESOLVED "):
        shown = await ditto.get(P, params={"policy-view": view}, headers=etag)
        assert (shown.status_code, "etag" in shown.headers) == (200, False)
    entries = shown.json()["entries"]
    assert set(entries) == {"owner", "some", "own", "imported-a:shared-owner", "imported-a:shared-role"}
    assert set(entries["own"]["subjects"]) == {"nginx:ditto", "nginx:eve"}
    assert entries["own"]["resources"] == SOME["resources"]
    assert (await ditto.get(P + "?policy-view=resolved&fields=policyId,imports")).json().keys() == {
        "policyId",
        "imports",
    }
    assert set((await ditto.get(P + "?policy-view=original")).json()["entries"]) == {"owner", "some", "own"}
    wrong = await ditto.get(P + "?policy-view=other")
    assert (wrong.status_code, wrong.json()["error"]) == (400, "policies:view.invalid")
    assert (await ditto.get(P + "/entries/own?policy-view=resolved")).json()["references"] == own["references"]


async def test_entries_of_others_are_shown_only_to_who_may_read_them_there(server, ditto):
    hidden = {"owner": OWNER, "role": SOME}
    await ditto.put("/api/2/policies/a:shared", json={"entries": hidden})
    await ditto.put(P + "/imports/a:shared", json={})
    reader = {"subjects": {"nginx:eve": {"type": "t"}}, "resources": {"policy:/": {"grant": ["READ"], "revoke": []}}}
    await ditto.put(P + "/entries/reader", json=reader)
    async with server.client("eve") as eve:
        shown = (await eve.get(P + "?policy-view=resolved")).json()
        assert set(shown["entries"]) == {"owner", "some", "reader"}


async def test_what_an_entry_says_of_imports_and_namespaces(ditto):
    for path, before, value in (
        ("/entries/some/importable", "implicit", "never"),
        ("/entries/some/namespaces", None, ["a", "a.b.*"]),
        ("/entries/some/allowedAdditions", [], ["subjects"]),
    ):
        read = await ditto.get(P + path)
        assert (
            (read.status_code, read.json()) == (200, before) if before is not None else read.status_code in {200, 404}
        )
        put = await ditto.put(P + path, json=value)
        assert (put.status_code, put.content) == (204, b""), put.text
        read = await ditto.get(P + path)
        assert (read.status_code, read.json()) == (200, value)
        tagged = path.endswith("Additions")  # the other two have no ETag, and no precondition sees them
        assert ("etag" in read.headers) is tagged
        unchanged = await ditto.get(P + path, headers={"if-none-match": "*"})
        assert unchanged.status_code == (304 if tagged else 200)
        assert (await ditto.put(P + path, json=value, headers={"if-match": "*"})).status_code == (
            204 if tagged else 412
        )
    assert (await ditto.delete(P + "/entries/some/allowedAdditions")).status_code == 204
    for path in ("/entries/some/importable", "/entries/some/namespaces"):
        assert (await ditto.delete(P + path)).status_code == 405
    for path, wrong in (("importable", "sometimes"), ("namespaces", "a"), ("allowedAdditions", ["importable"])):
        answer = await ditto.put(f"{P}/entries/some/{path}", json=wrong)
        assert answer.status_code == 400, answer.text


async def test_imports_are_made_changed_and_taken_away(server, ditto):
    await ditto.put("/api/2/policies/a:shared", json={"entries": {"owner": OWNER, "role": SOME}})
    imported = P + "/imports/a:shared"
    assert (await ditto.get(P + "/imports")).json() == {}
    for there in ({"if-none-match": "*"}, {"if-equal": "skip"}):
        assert (await ditto.put(P + "/imports", json={}, headers=there)).status_code == 412
    made = await ditto.put(imported, json={"entries": []})
    assert (made.status_code, made.json(), made.headers["location"]) == (201, {"entries": []}, server.url + imported)
    assert (await ditto.put(imported, json={"entries": ["role"]})).status_code == 204
    assert (await ditto.get(imported)).json() == {"entries": ["role"]}
    assert (await ditto.get(imported + "/entries")).json() == ["role"]
    assert (await ditto.put(imported + "/entries", json=["owner"])).status_code == 204
    assert (await ditto.get(imported + "/transitiveImports")).json() == []
    assert (await ditto.put(imported + "/transitiveImports", json=["a:other"])).status_code == 204
    assert (await ditto.get(imported + "/transitiveImports")).json() == ["a:other"]
    assert (await ditto.put(P + "/imports", json={"a:shared": {}})).status_code == 204
    entry = {"subjects": {}, "resources": {}, "references": [{"import": "a:shared", "entry": "role"}]}
    assert (await ditto.put(P + "/entries/own", json=entry)).status_code == 201
    refused = await ditto.delete(imported)
    assert (refused.status_code, refused.json()["error"]) == (409, "policies:import.referenceconflict")
    references = P + "/entries/own/references"
    assert (await ditto.get(references)).json() == entry["references"]
    assert (await ditto.delete(references)).status_code == 204
    assert (await ditto.get(references)).json() == []
    assert (await ditto.put(references, json=[{"entry": "some"}])).status_code == 201
    assert (await ditto.put(references, json=[{"entry": "owner"}])).status_code == 204
    refused = await ditto.delete(P + "/entries/owner")
    assert (refused.status_code, refused.json()["error"]) == (409, "policies:entry.referenceconflict")
    assert (await ditto.delete(imported)).status_code == 204
    assert (await ditto.delete(P + "/imports")).status_code == 204
    missing = await ditto.put(P + "/imports/a:none", json={})
    assert (missing.status_code, missing.json()["error"]) == (404, "policies:policy.notfound")
    wrong = await ditto.put(P + "/imports/none", json={})
    assert (wrong.status_code, wrong.json()["error"]) == (400, "policies:id.invalid")


async def test_a_change_that_changes_nothing_can_be_skipped(ditto):
    for path in ("", "/entries", "/entries/some", "/entries/some/subjects", "/entries/some/importable"):
        value = (await ditto.get(P + path)).json()
        skipped = await ditto.put(P + path, json=value, headers={"if-equal": "skip"})
        assert (skipped.status_code, skipped.json()["error"]) == (412, "policies:precondition.failed"), path
        assert (await ditto.put(P + path, json=value, headers={"if-equal": "update"})).status_code == 204
    other = {"nginx:max": {"type": "t"}}
    assert (await ditto.put(P + "/entries/some/subjects", json=other, headers={"if-equal": "skip"})).status_code == 204
