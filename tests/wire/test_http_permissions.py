"""Questions about rights over HTTP: checkPermissions, explain, why, simulate, access, and the list of policies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from skerry.signals import Command
from skerry_registry.identities.namespaces import NamespaceRule
from skerry_registry.settings import Settings
from wire.http_server import served

ALL = {resource: {"grant": ["READ", "WRITE"], "revoke": []} for resource in ("thing:/", "policy:/", "message:/")}
MERGE = {"content-type": "application/merge-patch+json"}
T = "/api/2/things/a:t"
P = "/api/2/policies/a:p"


def policy(eve: dict[str, list[str]], **more: Any) -> dict[str, Any]:
    """ditto may everything, eve what is said: resource to permissions."""
    resources = {resource: {"grant": grant, "revoke": []} for resource, grant in eve.items()}
    return {
        "entries": {
            "owner": {"subjects": {"nginx:ditto": {"type": "t"}}, "resources": ALL},
            "other": {"subjects": {"nginx:eve": {"type": "t"}}, "resources": resources},
            **more,
        }
    }


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """ditto, and eve, who reads the thing and the policy's own entry 'other', and writes one property."""
    async with served(tmp_path) as server, server.client() as ditto, server.client("eve") as eve:
        rights = {
            "thing:/": ["READ"],
            "thing:/features/f/properties/x": ["WRITE"],
            "policy:/entries/other": ["READ"],
        }
        assert (await ditto.put(P, json=policy(rights))).status_code == 201
        body = {"policyId": "a:p", "attributes": {"a": 1}, "features": {"f": {"properties": {"x": 1, "y": 2}}}}
        made = await ditto.put(T, json=body)
        assert made.status_code == 201, made.text
        yield ditto, eve


def check(resource: str, entity: str, *permissions: str) -> dict[str, Any]:
    return {"resource": resource, "entityId": entity, "hasPermissions": list(permissions)}


async def test_many_questions_are_answered_at_once(clients):
    ditto, eve = clients
    asked = {
        "read": check("thing:/attributes/a", "a:t", "READ"),
        "write": check("thing:/attributes/a", "a:t", "READ", "WRITE"),
        "one": check("thing:/features/f/properties/x", "a:t", "WRITE"),
        "slashless": check("thing:features/f/properties/x", "a:t", "WRITE"),
        "above": check("thing:/features/f", "a:t", "WRITE"),
        "send": check("message:/inbox/messages/x", "a:t", "WRITE"),
        "policy": check("policy:/entries/other", "a:p", "READ"),
        "whole": check("policy:/", "a:p", "READ"),
        "missing": check("thing:/", "a:none", "READ"),
        "nothing": check("policy:/", "a:none", "READ"),
    }
    answer = await eve.post("/api/2/checkPermissions", json=asked)
    assert answer.status_code == 200
    assert [name for name, held in answer.json().items() if held] == ["read", "one", "slashless", "policy"]
    assert list(answer.json()) == list(asked)
    mine = (await ditto.post("/api/2/checkPermissions", json=asked)).json()
    assert [name for name, held in mine.items() if not held] == ["missing", "nothing"]
    many = {f"c{number}": check(f"thing:/attributes/{number}", f"a:t{number % 7}", "READ") for number in range(100)}
    assert set((await eve.post("/api/2/checkPermissions", json=many)).json().values()) == {False}


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ([], "json.invalid"),
        ({"a": 1}, "json.invalid"),
        ({"a": {"resource": "thing:/"}}, "json.field.missing"),
        ({"a": check("car:/", "a:t", "READ")}, "json.invalid"),
        ({"a": check("attributes", "a:t", "READ")}, "json.invalid"),
        ({"a": check("thing:/", "a:t")}, "json.invalid"),
        ({"a": check("thing:/", "t", "READ")}, "things:id.invalid"),
        ({"a": check("policy:/", "t", "READ")}, "policies:id.invalid"),
    ],
)
async def test_questions_that_make_no_sense_are_refused(clients, asked: Any, code: str):
    ditto, _ = clients
    answer = await ditto.post("/api/2/checkPermissions", json=asked)
    assert (answer.status_code, answer.json()["error"]) == (400, code)
    assert (await ditto.get("/api/2/checkPermissions")).status_code == 405


async def test_a_refusal_says_why(clients):
    ditto, eve = clients
    refused = await eve.put(f"{T}/attributes/a", json=2)
    assert refused.status_code == 403
    why = refused.json()["why"]
    assert (why["granted"], why["decidedBy"]) == (False, [])
    assert why["missing"] == [{"resource": "thing:/attributes/a", "permission": "WRITE"}]
    assert why["couldBeGrantedBy"] == []  # only 'owner' could, and eve may not read that entry
    assert (
        await ditto.put(f"{P}/entries/other/resources/policy:/", json={"grant": ["READ"], "revoke": []})
    ).status_code == 201
    why = (await eve.put(f"{T}/attributes/a", json=2)).json()["why"]
    assert why["couldBeGrantedBy"] == [{"policyId": "a:p", "entry": "owner", "subjects": ["nginx:ditto"]}]
    refused = await eve.patch(
        T, json={"attributes": {"b": 1}, "features": {"f": {"properties": {"x": 1}}}}, headers=MERGE
    )
    assert refused.json()["why"]["missing"] == [{"resource": "thing:/attributes/b", "permission": "WRITE"}]
    refused = await eve.put(f"{P}/entries/other", json={"subjects": {}, "resources": {}})
    assert refused.json()["why"]["missing"] == [{"resource": "policy:/entries/other", "permission": "WRITE"}]


async def test_a_thing_that_may_not_have_a_policy_is_told_why(clients):
    ditto, eve = clients
    missing = [{"resource": "thing:/", "permission": "WRITE"}]
    refused = await eve.put("/api/2/things/a:new", json={"policyId": "a:p"})
    assert (refused.status_code, refused.json()["why"]["missing"][0]) == (403, missing[0])
    await ditto.put("/api/2/policies/a:other", json=policy({"policy:/": ["READ"]}))
    assert (await eve.put("/api/2/things/a:own", json={})).status_code == 201
    for path, value in (("/policyId", "a:other"), ("", {"policyId": "a:other"})):
        refused = await eve.put(f"/api/2/things/a:own{path}", json=value)
        assert (refused.status_code, refused.json()["why"]["missing"]) == (403, missing)
        assert [one["policyId"] for one in refused.json()["why"]["couldBeGrantedBy"]] == ["a:other"]


async def test_a_refused_row_of_an_upload_says_why_too(clients):
    _, eve = clients
    row = {"topic": "a/t/things/twin/commands/modify", "path": "/attributes/a", "value": 2, "headers": {}}
    answer = await eve.post(
        "/api/2/bulk", content=json.dumps(row) + "\n", headers={"content-type": "application/x-ndjson"}
    )
    assert answer.json()["value"]["why"]["missing"] == [{"resource": "thing:/attributes/a", "permission": "WRITE"}]


async def test_a_refused_change_by_a_filter_says_why_too(clients):
    _, eve = clients
    answer = await eve.patch("/api/2/bulk/things?filter=exists(thingId)", json={"attributes": {"a": 2}}, headers=MERGE)
    refused = json.loads(answer.text.splitlines()[0])
    missing = [{"resource": "thing:/attributes/a", "permission": "WRITE"}]
    assert (refused["status"], refused["why"]["missing"]) == (403, missing)


async def test_a_refusal_names_the_revoke_that_decided(clients):
    ditto, eve = clients
    rights = {"grant": ["READ", "WRITE"], "revoke": []}
    await ditto.put(f"{P}/entries/other/resources/thing:/", json=rights)
    await ditto.put(f"{P}/entries/other/resources/thing:/attributes", json={"grant": [], "revoke": ["WRITE"]})
    why = (await eve.put(f"{T}/attributes/a", json=2)).json()["why"]
    assert why["decidedBy"] == [
        {
            "policyId": "a:p",
            "entry": "other",
            "resource": "thing:/attributes",
            "effect": "revoke",
            "permission": "WRITE",
            "subject": "nginx:eve",
        }
    ]


async def test_who_may_not_read_the_policy_is_not_told_why(clients):
    ditto, eve = clients
    await ditto.delete(f"{P}/entries/other/resources/policy:/entries/other")
    refused = await eve.put(f"{T}/attributes/a", json=2)
    assert (refused.status_code, "why" in refused.json()) == (403, False)
    asked = {"subjects": ["nginx:eve"], "resource": "thing:/", "permission": "READ"}
    answer = await eve.post(f"{P}/explain", json=asked)
    assert (answer.status_code, answer.json()["error"]) == (404, "policies:policy.notfound")


async def test_a_decision_is_explained(clients):
    ditto, _ = clients
    asked = {"subjects": ["nginx:eve"], "resource": "thing:/attributes/x", "permission": "WRITE"}
    found = (await ditto.post(f"{P}/explain", json=asked)).json()
    assert found["granted"] is False
    assert found["missing"] == [{"resource": "thing:/attributes/x", "permission": "WRITE"}]
    assert [giver["entry"] for giver in found["couldBeGrantedBy"]] == ["owner"]
    found = (await ditto.post(f"{P}/explain", json={**asked, "permission": "READ"})).json()
    assert (found["granted"], found["decidedBy"][0]["entry"], found["missing"]) == (True, "other", [])
    for wrong in ({**asked, "subjects": []}, {"resource": "thing:/"}, [1], {**asked, "subjects": "x"}):
        assert (await ditto.post(f"{P}/explain", json=wrong)).status_code == 400
    for name, value in (("permission", "REED"), ("resource", "thing/attributes"), ("resource", "attributes")):
        answer = await ditto.post(f"{P}/explain", json={**asked, name: value})
        assert (answer.status_code, f"at /{name}:" in answer.json()["message"]) == (400, True)


async def test_what_others_may_by_hidden_entries_stays_hidden(clients):
    ditto, eve = clients
    asked = {"subjects": ["nginx:ditto"], "resource": "thing:/attributes/x", "permission": "WRITE"}
    assert (await ditto.post(f"{P}/explain", json=asked)).json()["granted"] is True
    assert (await eve.post(f"{P}/explain", json=asked)).json()["granted"] is False
    mine = {**asked, "subjects": ["nginx:eve"], "permission": "READ"}
    assert (await eve.post(f"{P}/explain", json=mine)).json()["granted"] is True


async def test_a_change_is_simulated_and_nothing_changes(clients):
    ditto, _ = clients
    before = (await ditto.get(P)).json()
    changed = policy({"thing:/": ["READ", "WRITE"]})
    answer = await ditto.post(f"{P}/simulate", json=changed)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["things"] == {"count": 1, "ids": ["a:t"]}
    (change,) = found["changes"]
    assert change["subject"] == "nginx:eve"
    gained = {"resource": "thing:/", "permission": "WRITE", "except": ["thing:/features/f/properties/x"]}
    assert change["gains"] == [gained]
    assert {"resource": "policy:/entries/other", "permission": "READ"} in change["loses"]
    assert change["things"] == {"count": 1, "ids": ["a:t"]}
    assert (await ditto.get(P)).json() == before
    locked = await ditto.post(f"{P}/simulate", json={"entries": {}})
    assert (locked.status_code, locked.json()["error"]) == (403, "policies:policy.modificationinvalid")
    assert (await ditto.post(f"{P}/simulate", json={"entries": {"x": 1}})).status_code == 400


async def test_a_simulation_tells_nothing_of_policies_that_one_may_only_refer_to(clients):
    ditto, eve = clients
    secret = policy({"thing:/": ["READ"]}, hidden={"subjects": {"x:secret": {"type": "t"}}, "resources": ALL})
    assert (await ditto.put("/api/2/policies/a:secret", json=secret)).status_code == 201
    changed = policy({"policy:/": ["READ"]})
    changed["imports"] = {"a:secret": {}}
    changed["entries"]["spy"] = {
        "subjects": {},
        "resources": {},
        "references": [{"import": "a:secret", "entry": "hidden"}],
    }
    told = await eve.post(f"{P}/simulate", json=changed)
    assert (told.status_code, "x:secret" in told.text) == (200, False)
    assert "x:secret" in (await ditto.post(f"{P}/simulate", json=changed)).text


async def test_a_change_is_told_for_the_things_that_it_is_about(clients):
    ditto, _ = clients
    for namespace in ("b", "c"):
        await ditto.put(f"/api/2/things/{namespace}:t", json={"policyId": "a:p"})
    changed = (await ditto.get(P)).json()
    limited = {"subjects": {"x:new": {"type": "t"}}, "resources": {"thing:/": ALL["thing:/"]}, "namespaces": ["b"]}
    changed["entries"]["limited"] = limited
    (change,) = (await ditto.post(f"{P}/simulate", json=changed)).json()["changes"]
    assert (change["subject"], change["things"]) == ("x:new", {"count": 1, "ids": ["b:t"]})


async def test_the_rights_of_everybody_on_a_thing(clients):
    ditto, eve = clients
    found = (await ditto.get(f"{T}/access")).json()
    assert (found["thingId"], found["policyId"]) == ("a:t", "a:p")
    rights = {one["subject"]: (one["read"], one["write"]) for one in found["subjects"]}
    assert rights == {"nginx:ditto": ("all", "all"), "nginx:eve": ("all", "part")}
    assert [one["subject"] for one in (await eve.get(f"{T}/access")).json()["subjects"]] == ["nginx:eve"]
    assert (await ditto.get("/api/2/things/a:none/access")).json()["error"] == "things:thing.notfound"
    assert (await ditto.put(f"{T}/access", json={})).status_code == 405


async def test_policies_are_listed_and_sought(clients):
    ditto, eve = clients
    for number in range(5):
        body = policy({"thing:/features/f": ["READ"]})
        assert (await ditto.put(f"/api/2/policies/b:{number}", json=body)).status_code == 201
    found = (await ditto.get("/api/2/policies?fields=policyId")).json()
    assert [one["policyId"] for one in found] == ["a:p", "b:0", "b:1", "b:2", "b:3", "b:4"]
    assert [one["policyId"] for one in (await eve.get("/api/2/policies")).json()] == ["a:p"]
    assert (await eve.get("/api/2/policies")).json()[0]["entries"].keys() == {"other"}

    async def ids(query: str) -> list[str]:
        answer = await ditto.get(f"/api/2/policies?{query}")
        assert answer.status_code == 200, answer.text
        return [one["policyId"] for one in answer.json()]

    assert await ids("namespaces=a") == ["a:p"]
    assert await ids("resource=policy:/entries/other") == ["a:p"]
    assert len(await ids("resource=thing:/features")) == 6
    assert await ids("subject=nginx:nobody") == []
    assert len(await ids("subject=*:e*")) == 6
    assert (await ditto.get("/api/2/policies?option=sort(-x)")).status_code == 400


async def test_pages_of_policies_follow_one_another(clients):
    ditto, _ = clients
    for number in range(7):
        await ditto.put(f"/api/2/policies/b:{number}", json=policy({}))
    seen: list[str] = []
    following: str | None = "/api/2/policies?namespaces=b&option=size(3)&fields=policyId"
    while following:
        answer = await ditto.get(following)
        seen.extend(one["policyId"] for one in answer.json())
        following = answer.links.get("next", {}).get("url")
    assert seen == [f"b:{number}" for number in range(7)]


async def test_namespaces_that_the_operator_closes_stay_closed_to_every_question(tmp_path: Path):
    rule = NamespaceRule(allowed_namespaces=("a",))
    async with served(tmp_path, settings=Settings(namespace_access=(rule,))) as server, server.client() as ditto:
        assert (await ditto.put(P, json=policy({}))).status_code == 201
        other = policy({"thing:/": ["READ"]})["entries"]
        for id_ in ("b:p", "a:q"):
            value = {"entries": other}
            made = Command(verb="create", kind="policy", id=id_, subjects=("nginx:ditto",), value=value)
            await server.registry.handle(made)
        assert [one["policyId"] for one in (await ditto.get("/api/2/policies")).json()] == ["a:p", "a:q"]
        asked = {id_: check("policy:/", id_, "READ") for id_ in ("a:p", "b:p")}
        assert (await ditto.post("/api/2/checkPermissions", json=asked)).json() == {"a:p": True, "b:p": False}
        question = {"subjects": ["nginx:eve"], "resource": "thing:/", "permission": "READ"}
        for path in ("/explain", "/simulate"):
            answer = await ditto.post(f"/api/2/policies/b:p{path}", json=question)
            assert (answer.status_code, answer.json()["error"]) == (403, "gateway:namespace.notaccessible")
