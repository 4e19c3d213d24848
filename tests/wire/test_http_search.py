"""Searching, counting and summing up over HTTP."""

import asyncio
import base64
import json
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from msgspec import structs

from skerry.signals import Command
from skerry_registry.identities.namespaces import NamespaceRule
from skerry_registry.settings import Settings
from wire.http_server import Served, served

FORM = {"content-type": "application/x-www-form-urlencoded"}


async def farm(server: Served, count: int = 10, namespace: str = "demo", who: str = "ditto") -> None:
    async with server.client(who) as client:
        for number in range(count):
            body = {
                "definition": "wind:Turbine:1.0.0",
                "attributes": {"n": number, "site": "AB"[number % 2]},
                "features": {"scada": {"properties": {"power": 100.0 * number}}},
            }
            answer = await client.put(f"/api/2/things/{namespace}:T{number:02}", json=body)
            assert answer.status_code == 201


async def found(server: Served, query: str = "", who: str = "ditto") -> list[str]:
    async with server.client(who) as client:
        answer = await client.get(f"/api/2/search/things?fields=thingId&{query}")
        assert answer.status_code == 200, answer.text
        return [thing["thingId"] for thing in answer.json()["items"]]


def names(*numbers: int) -> list[str]:
    return [f"demo:T{number:02}" for number in numbers]


async def test_filters_hold_together_and_the_default_order_is_by_id(tmp_path: Path):
    async with served(tmp_path) as server:
        await farm(server)
        assert await found(server) == names(*range(10))
        assert await found(server, "filter=gt(attributes/n,7)") == names(8, 9)
        assert await found(server, 'filter=gt(attributes/n,3)&filter=eq(attributes/site,"A")&filter=') == names(4, 6, 8)
        assert await found(server, "filter=ge(features/*/properties/power,800)") == names(8, 9)
        assert await found(server, "namespaces=other,demo&filter=lt(attributes/n,1)") == names(0)
        for nowhere in ("other", "a b", ""):
            assert await found(server, f"namespaces={nowhere}") == []


async def test_what_is_acknowledged_is_found_at_once_and_no_longer_where_it_was(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server, 2)
        for number in range(20):
            await client.put("/api/2/things/demo:T01/attributes/n", json=100 + number)
            assert await found(server, f"filter=eq(attributes/n,{100 + number})") == names(1)
            assert await found(server, f"filter=eq(attributes/n,{99 + number})") == []
        persisted = await client.put(
            "/api/2/things/demo:T01/attributes/n", json=7, headers={"requested-acks": "search-persisted"}
        )
        assert persisted.status_code == 204
        await client.delete("/api/2/things/demo:T01")
        assert await found(server) == names(0)


async def test_a_page_has_an_order_a_size_and_a_cursor(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server)
        option = "size(4),sort(+attributes/site,-attributes/n)"
        seen, cursor = [], ""
        while True:
            answer = await client.get(
                "/api/2/search/things", params={"fields": "thingId,attributes/n", "option": option + cursor}
            )
            body = answer.json()
            seen += [thing["attributes"]["n"] for thing in body["items"]]
            if "cursor" not in body:
                break
            cursor = f",cursor({body['cursor']})"
        assert seen == [8, 6, 4, 2, 0, 9, 7, 5, 3, 1]
        assert await found(server, "option=sort(-thingId),size(2)") == names(9, 8)
        assert await found(server, "option=sort(%2BthingId),size(2)") == names(0, 1)
        assert await found(server, "option=sort(+thingId),size(2)") == names(0, 1)


async def test_a_search_looks_at_some_fields_not_at_thousands(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        for filters in (
            [f"or({','.join(f'exists(attributes/a{n})' for n in range(51))})"],
            [f"exists(attributes/a{n})" for n in range(51)],
            [f"eq(attributes/a,{n})" for n in range(4_000)],
        ):
            form = urlencode([("filter", text) for text in filters])
            answer = await client.post("/api/2/search/things/count", content=form, headers=FORM)
            assert (answer.status_code, answer.json()["error"]) == (400, "rql.expression.invalid")


async def test_a_cursor_that_somebody_made_up_is_refused(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server, 2)
        for keys in ([], [[1, "x"]], [[1, {}]], [[2, 5]], [[-5, 1]], [[9, 1]], [[1, 1], [1, 1]]):
            made = json.dumps([["exists(attributes/n)"], "+attributes/n", None, keys, "demo:T01"]).encode()
            cursor = base64.urlsafe_b64encode(zlib.compress(made)).decode().rstrip("=")
            answer = await client.get(f"/api/2/search/things?option=cursor({cursor})")
            assert (answer.status_code, answer.json()["error"]) == (400, "thing-search:search.option.invalid"), keys


async def test_a_cursor_brings_its_search_along_and_fits_no_other(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server)
        first = await client.get(
            "/api/2/search/things",
            params={"filter": "gt(attributes/n,2)", "namespaces": "demo", "option": "size(3),sort(-attributes/n)"},
        )
        cursor = first.json()["cursor"]
        assert await found(server, f"option=cursor({cursor}),size(2)") == names(6, 5)
        for query in (
            f"filter=gt(attributes/n,3)&option=cursor({cursor})",
            f"namespaces=a&option=cursor({cursor})",
            f"option=cursor({cursor}),sort(-thingId)",
            f"option=cursor({cursor}),limit(0,5)",
            f"option=cursor({cursor[:-4]})",
            "option=cursor(x)",
            "option=cursor()",
        ):
            answer = await client.get(f"/api/2/search/things?{query}")
            assert (answer.status_code, answer.json()["error"]) == (400, "thing-search:search.option.invalid"), query


async def test_pages_by_offset_say_where_the_next_begins(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server, 5)
        for option, ids, offset in (("limit(0,2)", (0, 1), 2), ("limit(2,2)", (2, 3), 4), ("limit(4,2)", (4,), -1)):
            body = (await client.get(f"/api/2/search/things?fields=thingId&option={option}")).json()
            assert [thing["thingId"] for thing in body["items"]] == names(*ids)
            assert body["nextPageOffset"] == offset
            assert "cursor" not in body
        assert (await client.get("/api/2/search/things")).json()["nextPageOffset"] == -1
        assert "nextPageOffset" not in (await client.get("/api/2/search/things?option=size(2)")).json()


@pytest.mark.parametrize(
    "option",
    [
        *(
            "size(0)",
            "size(201)",
            "size(2),size(3)",
            "sort(+nonsense)",
        ),
        *("sort(-)", "limit(0,201)", "limit(2000000,1)", "cursor(AAAA)"),
    ],
)
async def test_options_that_cannot_be_followed_are_refused(tmp_path: Path, option: str):
    async with served(tmp_path) as server, server.client() as client:
        answer = await client.get(f"/api/2/search/things?option={quote(option)}")
        assert (answer.status_code, answer.json()["error"]) == (400, "thing-search:search.option.invalid")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("filter=eq(attributes/n)", "rql.expression.invalid"),
        ("filter=nonsense", "rql.expression.invalid"),
        ("filter=eq(thingId,%22a%22)&filter=x", "rql.expression.invalid"),
        ("fields=a(", "json.fieldselector.invalid"),
        *(
            (f"option={text}", "rql.expression.invalid")
            for text in ("size(x)", "size(-1)", "what(1)", "sort()", "sort")
        ),
        *(
            (f"option={text}", "rql.expression.invalid")
            for text in ("sort(thingId)", "limit(1)", "limit(a,b)", "(", "size(1")
        ),
        ("timeout=0", "header.invalid"),
        ("timeout=soon", "timeout.invalid"),
    ],
)
async def test_searches_that_make_no_sense_are_refused(tmp_path: Path, query: str, code: str):
    async with served(tmp_path) as server, server.client() as client:
        answer = await client.get(f"/api/2/search/things?{query}")
        assert (answer.status_code, answer.json()["error"]) == (400, code)


async def test_an_expression_that_is_wrong_is_refused_with_the_place(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        for path in ("search/things", "search/things/count"):
            answer = await client.get(f"/api/2/{path}", params={"filter": "and(eq(thingId,'a'),bogus(b,1))"})
            assert answer.json()["position"] == 21
            assert "bogus" in answer.json()["description"]


async def test_a_form_does_as_a_query(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server)
        form = "filter=gt(attributes%2Fn%2C5)&filter=lt(attributes/n,8)&fields=thingId&option=size(1)"
        body = (await client.post("/api/2/search/things", content=form, headers=FORM)).json()
        assert body["items"] == [{"thingId": "demo:T06"}]
        assert body["cursor"]
        assert (await client.post("/api/2/search/things/count", content=form, headers=FORM)).json() == 2
        wrong = await client.post("/api/2/search/things", json={})
        assert (wrong.status_code, wrong.json()["error"]) == (415, "mediatype.unsupported")


async def test_counts_are_bare_numbers(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server)
        await farm(server, 3, "other")
        for path, number in (
            ("count", 13),
            ("count?filter=ge(attributes/n,2)", 9),
            ("count?namespaces=other", 3),
            ("count/?namespaces=other", 3),
            ("count&namespaces=other", 3),
        ):
            answer = await client.get(f"/api/2/search/things/{path}")
            assert (answer.status_code, answer.text) == (200, str(number)), path


async def test_fields_choose_what_is_shown(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server, 1)

        async def shown(fields: str) -> Any:
            return (await client.get("/api/2/search/things", params={"fields": fields})).json()["items"]

        assert await shown("/policyId,_revision") == [{"policyId": "demo:T00", "_revision": 1}]
        assert await shown("/policyId,/_policy/policyId") == [
            {"policyId": "demo:T00", "_policy": {"policyId": "demo:T00"}}
        ]
        assert await shown("features/scada/properties") == [{"features": {"scada": {"properties": {"power": 0.0}}}}]
        assert set((await client.get("/api/2/search/things")).json()["items"][0]) == {
            "thingId",
            "policyId",
            "definition",
            "attributes",
            "features",
        }


async def test_what_a_caller_may_not_read_is_neither_found_nor_counted_nor_shown(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client, server.client("eve") as eve:
        await farm(server, 3)
        policy = {
            "entries": {
                "owner": {
                    "subjects": {"nginx:ditto": {"type": "x"}},
                    "resources": {
                        "thing:/": {"grant": ["READ", "WRITE"], "revoke": []},
                        "policy:/": {"grant": ["READ", "WRITE"], "revoke": []},
                    },
                },
                "eve": {
                    "subjects": {"nginx:eve": {"type": "x"}},
                    "resources": {"thing:/attributes/site": {"grant": ["READ"], "revoke": []}},
                },
            }
        }
        assert (await client.put("/api/2/policies/demo:T01", json=policy)).status_code in {201, 204}
        assert await found(server, who="eve") == names(1)
        assert await found(server, 'filter=eq(attributes/site,"B")', "eve") == names(1)
        assert await found(server, "filter=eq(attributes/n,1)", "eve") == []
        assert await found(server, "filter=not(eq(attributes/n,5))", "eve") in ([], names(1))
        assert (await eve.get("/api/2/search/things/count")).text == "1"
        shown = (await eve.get("/api/2/search/things")).json()["items"]
        assert shown == [{"thingId": "demo:T01", "attributes": {"site": "B"}}]
        await client.delete("/api/2/policies/demo:T01/entries/eve")
        assert await found(server, who="eve") == []


async def test_unknown_paths_and_methods_below_search_are_told(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        for method, path, status in (
            ("GET", "search/things/none", 404),
            ("GET", "search/things/aggregate", 405),
            ("PUT", "search/things", 405),
            ("DELETE", "search/things/count", 405),
        ):
            assert (await client.request(method, f"/api/2/{path}")).status_code == status
        async with server.client(None) as nobody:
            assert (await nobody.get("/api/2/search/things")).status_code == 401


async def test_things_of_a_filter_are_changed_and_told_row_by_row(tmp_path: Path):
    patch = {"content-type": "application/merge-patch+json"}
    async with served(tmp_path) as server, server.client() as client:
        await farm(server, 6)
        await farm(server, 2, "eve", "eve")
        url = "/api/2/bulk/things?filter=ge(attributes/n,4)"

        async def rows(answer) -> list[Any]:
            assert answer.status_code == 200, answer.text
            return [json.loads(line) for line in answer.text.splitlines()]

        change = json.dumps({"attributes": {"checked": True}})
        tried = await rows(await client.patch(url + "&dry-run=true", content=change, headers=patch))
        assert tried == [
            {"thingId": "demo:T04", "status": 204},
            {"thingId": "demo:T05", "status": 204},
            {"summary": {"matched": 2, "done": 2, "changed": 0, "refused": 0, "dryRun": True}},
        ]
        assert await found(server, "filter=exists(attributes/checked)") == []
        done = await rows(await client.patch(url, content=change, headers=patch))
        assert done[:2] == tried[:2]
        assert await found(server, "filter=eq(attributes/checked,true)") == names(4, 5)
        gone = await rows(await client.delete("/api/2/bulk/things?filter=exists(attributes/checked)"))
        assert [row.get("status") for row in gone] == [204, 204, None]
        assert await found(server) == names(0, 1, 2, 3)
        for answer, status, code in (
            (await client.delete("/api/2/bulk/things"), 400, "bulk:filter.missing"),
            (await client.delete("/api/2/bulk/things?filter=x"), 400, "rql.expression.invalid"),
            (await client.delete(f"{url}&dry_run=true"), 400, "bulk:parameter.unknown"),
            (await client.delete(f"{url}&option=size(1)"), 400, "bulk:parameter.unknown"),
            (await client.patch(url, json={}), 415, "mediatype.unsupported"),
            (await client.get(url), 405, "gateway:method.notallowed"),
        ):
            assert (answer.status_code, answer.json()["error"]) == (status, code)


async def test_more_things_than_a_batch_are_changed_while_the_filter_stops_naming_them(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        rows = b"".join(
            json.dumps(
                {"topic": f"a/{n}/things/twin/commands/create", "path": "/", "value": {"attributes": {"old": 1}}}
            ).encode()
            + b"\n"
            for n in range(230)
        )
        await client.post("/api/2/bulk", content=rows, headers={"content-type": "application/x-ndjson"})
        answer = await client.patch(
            "/api/2/bulk/things?filter=eq(attributes/old,1)",
            content=json.dumps({"attributes": {"old": None}}),
            headers={"content-type": "application/merge-patch+json"},
        )
        summary = json.loads(answer.text.splitlines()[-1])["summary"]
        assert summary == {"matched": 230, "done": 230, "changed": 0, "refused": 0, "dryRun": False}
        assert (await client.get("/api/2/search/things/count?filter=exists(attributes/old)")).text == "0"


async def test_who_may_find_but_not_write_is_told_for_each_thing(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client, server.client("eve") as eve:
        await farm(server, 2)
        await client.put(
            "/api/2/policies/demo:T01/entries/eve",
            json={
                "subjects": {"nginx:eve": {"type": "x"}},
                "resources": {"thing:/": {"grant": ["READ"], "revoke": []}},
            },
        )
        answer = await eve.delete("/api/2/bulk/things?filter=exists(thingId)")
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [lines[0]["thingId"], lines[0]["status"], lines[0]["error"]] == [
            "demo:T01",
            403,
            "things:thing.notdeletable",
        ]
        assert lines[1]["summary"]["refused"] == 1
        assert await found(server) == names(0, 1)


async def test_aggregates_group_things_and_sum_them_up(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server)

        async def groups(**body: Any) -> Any:
            answer = await client.post("/api/2/search/things/aggregate", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        power = "features/scada/properties/power"
        assert await groups(
            groupBy=["attributes/site"],
            aggregates={"power": {"op": "avg", "path": power}, "things": {"op": "count"}},
            sort=["-power"],
        ) == {
            "groups": [
                {"by": {"attributes/site": "B"}, "power": 500.0, "things": 5},
                {"by": {"attributes/site": "A"}, "power": 400.0, "things": 5},
            ]
        }
        assert await groups() == {"groups": [{"by": {}, "count": 10}]}
        assert await groups(groupBy=["attributes/n"], filter="lt(attributes/n,4)", sort=["-attributes/n"], limit=1) == {
            "groups": [{"by": {"attributes/n": 3}, "count": 1}],
            "more": 3,
        }
        assert (await groups(namespaces=["other"], groupBy=["_namespace"])) == {"groups": []}


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"groupBy": "attributes/site"},
        {"groupBy": ["nonsense"]},
        {"aggregates": {"x": {"op": "median"}}},
        {"aggregates": {"x": {"op": "avg"}}},
        {"aggregates": {"x": {"op": "percentile", "path": "attributes/n"}}},
        {"aggregates": {"x": {"op": "avg", "path": "attributes/n", "p": 5}}},
        {"aggregates": {"by": {"op": "count"}}},
        {"sort": ["-what"]},
        {"limit": 0},
        {"what": 1},
    ],
)
async def test_aggregates_that_make_no_sense_are_refused(tmp_path: Path, body: Any):
    async with served(tmp_path) as server, server.client() as client:
        answer = await client.post("/api/2/search/things/aggregate", json=body)
        assert (answer.status_code, answer.json()["error"]) == (400, "thing-search:aggregate.invalid")
        for word, right in (("median", "percentile"), ("unknown field", "groupBy")):
            assert word not in answer.json()["message"] or f", {right}" in answer.json()["message"]


async def test_searches_go_on_while_things_change(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client:
        await farm(server, 5)

        async def change() -> None:
            for number in range(50):
                await client.put("/api/2/things/demo:T00/attributes/n", json=number)

        async def search() -> None:
            for _ in range(50):
                assert await found(server, "filter=ge(attributes/n,0)&option=size(5)") == names(*range(5))

        await asyncio.gather(change(), search())


async def test_closed_namespaces_are_neither_found_nor_counted_nor_changed(tmp_path: Path):
    rule = NamespaceRule(blocked_namespaces=("closed*",))
    settings = structs.replace(Settings(), namespace_access=(rule,))
    async with served(tmp_path, settings=settings) as server, server.client() as client:
        await farm(server, 2)
        hidden = Command(verb="create", id="closed.a:T1", subjects=("nginx:ditto",), value={"attributes": {"n": 0}})
        await server.registry.handle(hidden)
        assert await found(server) == names(0, 1)
        assert await found(server, "namespaces=closed.a,demo&filter=eq(attributes/n,0)") == names(0)
        assert await found(server, "namespaces=closed.a") == []
        assert (await client.get("/api/2/search/things/count")).text == "2"
        assert [thing["thingId"] for thing in (await client.get("/api/2/things?fields=thingId")).json()] == names(0, 1)
        assert (await client.get("/api/2/things?ids=closed.a:T1")).json() == []
        groups = await client.post("/api/2/search/things/aggregate", json={"groupBy": ["_namespace"]})
        assert groups.json() == {"groups": [{"by": {"_namespace": "demo"}, "count": 2}]}
        deleted = await client.delete("/api/2/bulk/things?filter=exists(thingId)")
        assert [json.loads(line).get("thingId") for line in deleted.text.splitlines()] == [*names(0, 1), None]
        row = b'{"topic":"closed.a/T1/things/twin/commands/delete","path":"/"}'
        refused = await client.post("/api/2/bulk", content=row, headers={"content-type": "application/x-ndjson"})
        assert refused.json()["value"]["error"] == "gateway:namespace.notaccessible"


async def test_a_filter_of_changes_needs_read_of_every_field(tmp_path: Path):
    async with served(tmp_path) as server, server.client() as client, server.client("eve") as eve:
        await farm(server, 2)
        entry = {
            "subjects": {"nginx:eve": {"type": "x"}},
            "resources": {
                "thing:/": {"grant": ["READ", "WRITE"], "revoke": []},
                "thing:/attributes/hidden": {"grant": [], "revoke": ["READ"]},
            },
        }
        await client.put("/api/2/policies/demo:T01/entries/eve", json=entry)
        await client.put("/api/2/things/demo:T01/attributes/hidden", json=1)
        assert await found(server, "filter=not(exists(attributes/hidden))", "eve") == names(1)
        assert await found(server, "filter=exists(attributes/hidden)") == names(1)
        for change in (
            await eve.delete("/api/2/bulk/things?filter=not(exists(attributes/hidden))"),
            await eve.patch(
                "/api/2/bulk/things?filter=empty(attributes/hidden)",
                json={"attributes": {"n": 7}},
                headers={"content-type": "application/merge-patch+json"},
            ),
        ):
            lines = [json.loads(line) for line in change.text.splitlines()]
            assert [(line["thingId"], line["status"]) for line in lines[:-1]] == [("demo:T01", 412)]
        assert (await client.get("/api/2/things/demo:T01/attributes/n")).json() == 1


async def test_who_sees_ever_so_many_namespaces_finds_those_that_he_reaches(tmp_path: Path):
    rule = NamespaceRule(blocked_namespaces=("closed*",))
    settings = structs.replace(Settings(), namespace_access=(rule,))
    async with served(tmp_path, settings=settings) as server, server.client() as client:
        await farm(server, 1)
        for start in range(0, 10_001, 1_000):
            commands = [
                Command(verb="create", id=f"closed.n{n}:T", subjects=("nginx:ditto",), value={"policyId": "demo:T00"})
                for n in range(start, start + 1_000)
            ]
            assert not [one for one in await server.registry.handle_all(commands) if isinstance(one, Exception)]
        assert await found(server) == names(0)
        assert (await client.get("/api/2/search/things/count")).text == "1"
