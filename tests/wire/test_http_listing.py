"""`GET` and `POST` on the collection of things."""

import re
from pathlib import Path

import pytest

from skerry_registry.http.listing import named
from skerry_registry.http.request import Request
from skerry_registry.ports import StoreUnavailable
from skerry_registry.users import Caller
from wire.http_server import Served, served

SCOPE = {
    "type": "http",
    "method": "GET",
    "raw_path": b"/api/2/things",
    "scheme": "http",
    "client": None,
}


async def nothing() -> object:
    raise AssertionError


async def farm(server: Served, count: int, namespace: str = "demo") -> None:
    async with server.client() as client:
        for number in range(count):
            answer = await client.put(f"/api/2/things/{namespace}:T{number:02}", json={"attributes": {"n": number}})
            assert answer.status_code == 201


def link(answer, relation: str) -> str | None:
    found = re.search(rf'<([^>]+)>; rel="{relation}"', answer.headers["link"])
    return found[1] if found else None


async def test_things_named_by_ids_come_in_the_order_asked_and_what_is_missing_is_left_out(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server, 3)
        answer = await client.get("/api/2/things?ids=demo:T02,demo:none,demo:T00&fields=thingId,attributes/n")
        assert answer.json() == [
            {"thingId": "demo:T02", "attributes": {"n": 2}},
            {"thingId": "demo:T00", "attributes": {"n": 0}},
        ]


async def test_what_others_own_is_left_out_of_every_list(tmp_path: Path):
    async with served(tmp_path) as server, server.client("eve") as client:
        await farm(server, 3)
        await client.put("/api/2/things/demo:E1", json={})
        assert [thing["thingId"] for thing in (await client.get("/api/2/things?ids=demo:T00,demo:E1")).json()] == [
            "demo:E1"
        ]
        assert [thing["thingId"] for thing in (await client.get("/api/2/things")).json()] == ["demo:E1"]
        assert (await client.get("/api/2/things/demo:T00")).status_code == 404
        assert (await client.delete("/api/2/things/demo:T00")).status_code == 403


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("ids=", "things:id.invalid"),
        ("ids=,", "things:id.invalid"),
        ("ids=x", "things:id.invalid"),
        ("ids=,demo:T00", "things:id.invalid"),
        ("ids=demo:T00&fields=(", "json.fieldselector.invalid"),
        ("ids=demo:none&fields=a(", "json.fieldselector.invalid"),
        ("namespaces=none&fields=a(", "json.fieldselector.invalid"),
        ("ids=demo:T00&timeout=soon", "timeout.invalid"),
        ("ids=demo:T00&timeout=61", "gateway:timeout.invalid"),
        ("timeout=0", "header.invalid"),
    ],
)
async def test_lists_that_make_no_sense_are_refused(tmp_path: Path, query: str, error: str):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server, 1)
        answer = await client.get(f"/api/2/things?{query}")
        assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_lists_show_the_policies_that_are_asked_for(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server, 2)
        wanted = [{"_policy": {"policyId": f"demo:T0{number}"}} for number in range(2)]
        for query in ("ids=demo:T00,demo:T01", "namespaces=demo"):
            answer = await client.get(f"/api/2/things?{query}&fields=_policy/policyId")
            assert answer.json() == wanted


async def test_ids_may_repeat_and_end_with_a_comma(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server, 2)
        answer = await client.get("/api/2/things/?ids=demo:T01,demo:T00,demo:T01,&fields=thingId&timeout=5s")
        assert [thing["thingId"] for thing in answer.json()] == ["demo:T01", "demo:T00", "demo:T01"]


async def test_a_store_that_fails_is_told_and_not_taken_for_things_that_are_missing(tmp_path: Path):
    class Failing:
        async def handle_all(self, commands):
            return [StoreUnavailable(reason="the disk is gone.") for _ in commands]

    request = Request({**SCOPE, "query_string": b"ids=a:b"}, nothing)
    request.read_headers([])
    request.ditto["correlation-id"] = "one"
    request.caller = Caller("ditto", ("nginx:ditto",))
    with pytest.raises(StoreUnavailable):
        await named(Failing(), request)


async def test_following_the_next_links_shows_everything_once_in_order(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server, 7)
        seen, pages = [], 0
        url = "/api/2/things?fields=thingId&option=size(3)"
        while url:
            answer = await client.get(url)
            seen += [thing["thingId"] for thing in answer.json()]
            assert (await client.get(link(answer, "canonical"))).json() == answer.json()
            url = link(answer, "next")
            pages += 1
        assert seen == [f"demo:T{number:02}" for number in range(7)]
        assert pages == 3


async def test_namespaces_narrow_the_list_and_belong_to_its_cursor(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        for namespace in ("a", "a.b", "b"):
            await farm(server, 3, namespace)
        answer = await client.get("/api/2/things?namespaces=b,a&option=size(4)&fields=thingId")
        assert [thing["thingId"] for thing in answer.json()] == ["a:T00", "a:T01", "a:T02", "b:T00"]
        rest = await client.get(link(answer, "next"))
        assert [thing["thingId"] for thing in rest.json()] == ["b:T01", "b:T02"]
        assert link(rest, "next") is None
        cursor = re.search(r"cursor\([^)]*\)", link(answer, "next"))[0]
        other = await client.get(f"/api/2/things?namespaces=a&option={cursor}")
        assert (other.status_code, other.json()["error"]) == (400, "thing-search:search.option.invalid")


@pytest.mark.parametrize("option", ["size(0)", "size(201)", "cursor(x)", "sort(-size)", "sort(-)"])
async def test_options_that_cannot_be_followed_are_refused(tmp_path: Path, option: str):
    async with served(tmp_path) as server, server.client() as client:
        answer = await client.get(f"/api/2/things?option={option}")
        assert (answer.status_code, answer.json()["error"]) == (400, "thing-search:search.option.invalid")


async def test_a_thing_posted_gets_an_id_of_the_servers_making(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        made = await client.post("/api/2/things", json={"attributes": {"a": 1}})
        assert made.status_code == 201
        thing_id = made.json()["thingId"]
        assert thing_id.startswith("org.eclipse.ditto:")
        assert made.headers["location"] == f"{server.url}/api/2/things/{thing_id}"
        assert (await client.get(made.headers["location"])).json() == made.json()
        unnamed = await client.post("/api/2/things?namespace=", json={})
        assert unnamed.json()["thingId"].startswith("org.eclipse.ditto:")
        named = await client.post("/api/2/things?namespace=demo", json={})
        assert named.json()["thingId"].startswith("demo:")
        assert named.json()["policyId"] == named.json()["thingId"]
        for query, body, status, error in (
            ("", {"thingId": "a:b"}, 400, "things:id.notsettable"),
            ("?namespace=1", {}, 400, "things:id.invalid"),
            ("?channel=live", {}, 405, "things:thing.notcreatable"),
        ):
            answer = await client.post(f"/api/2/things{query}", json=body)
            assert (answer.status_code, answer.json()["error"]) == (status, error)


async def test_a_thing_created_by_patch_is_201_and_made_again_after_deletion_needs_its_policy(tmp_path: Path):
    patch = {"content-type": "application/merge-patch+json"}
    async with served(tmp_path) as server, server.client() as client:
        made = await client.patch("/api/2/things/demo:P", json={"attributes": {"a": 1, "b": None}}, headers=patch)
        assert made.status_code == 201
        assert made.json()["attributes"] == {"a": 1}
        assert (await client.delete("/api/2/things/demo:P")).status_code == 204
        assert (await client.get("/api/2/things/demo:P")).status_code == 404
        again = await client.put("/api/2/things/demo:P", json={})
        assert (again.status_code, again.json()["error"]) == (400, "things:thing.notcreatable")
        assert (await client.put("/api/2/things/demo:P", json={"policyId": "demo:P"})).status_code == 201


async def test_metadata_is_put_shown_and_deleted(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await client.put("/api/2/things/demo:M", json={"attributes": {"power": 1}})
        put = await client.put(
            "/api/2/things/demo:M/attributes/power", json=2, headers={"put-metadata": '[{"key":"unit","value":"kW"}]'}
        )
        assert put.status_code == 204
        shown = await client.get("/api/2/things/demo:M?fields=_metadata")
        assert shown.json() == {"_metadata": {"attributes": {"power": {"unit": "kW"}}}}
        told = await client.get("/api/2/things/demo:M/attributes/power", headers={"get-metadata": "unit"})
        assert "kW" in told.headers["ditto-metadata"]
        gone = await client.put("/api/2/things/demo:M/attributes/power", json=3, headers={"delete-metadata": "unit"})
        assert gone.status_code == 204
        assert "kW" not in (await client.get("/api/2/things/demo:M?fields=_metadata")).text
        both = {"put-metadata": "[]", "get-metadata": "unit"}
        answer = await client.put("/api/2/things/demo:M/attributes/power", json=4, headers=both)
        assert (answer.status_code, answer.json()["error"]) == (400, "things:metadata.headersconflict")
