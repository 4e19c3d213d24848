"""Changes of things as server-sent events (ditto.md 1.7)."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from wire.events import Reader, reading
from wire.http_server import served

THING = "/api/2/things/demo:T01"
WHOLE = {"attributes": {"a": 1, "b": {"c": 2}}, "features": {"f": {"properties": {"x": 1, "y": 2}}}}
DELETED = "eq(topic:action,'deleted')"
MERGE = {"content-type": "application/merge-patch+json"}


def policy(**resources):
    """ditto may everything, eve what is said."""
    return {
        "entries": {
            "owner": {
                "subjects": {"nginx:ditto": {"type": "user"}},
                "resources": {
                    key: {"grant": ["READ", "WRITE"], "revoke": []} for key in ("thing:/", "policy:/", "message:/")
                },
            },
            "guest": {
                "subjects": {"nginx:eve": {"type": "user"}},
                "resources": {f"thing:/{key}": rights for key, rights in resources.items()},
            },
        }
    }


READ = {"grant": ["READ"], "revoke": []}
HIDE = {"grant": [], "revoke": ["READ"]}


async def test_changes_are_told_as_parts_of_their_thing(tmp_path):
    async with served(tmp_path) as server, server.client() as client, reading(client, "/api/2/things") as events:
        assert events.status == 200
        assert events.response.headers["content-type"] == "text/event-stream"
        await client.put(THING, json=WHOLE)
        assert await events.value() == {"thingId": "demo:T01", "policyId": "demo:T01", **WHOLE}
        await client.put(f"{THING}/attributes/a", json=5)
        assert await events.value() == {"thingId": "demo:T01", "attributes": {"a": 5}}
        await client.delete(f"{THING}/attributes/a")
        assert await events.value() == {"thingId": "demo:T01"}
        patch = {"attributes": {"a": 7, "b": None}, "features": {"f": {"properties": {"x": None, "z": [None, 1]}}}}
        await client.patch(THING, content=json.dumps(patch), headers=MERGE)
        assert await events.value() == {
            "thingId": "demo:T01",
            "attributes": {"a": 7},
            "features": {"f": {"properties": {"z": [None, 1]}}},
        }
        await client.patch(f"{THING}/attributes/a", content="null", headers=MERGE)
        assert await events.value() == {"thingId": "demo:T01"}
        await client.put(f"{THING}/attributes/n", content="null", headers={"content-type": "application/json"})
        assert await events.value() == {"thingId": "demo:T01", "attributes": {"n": None}}
        await client.delete(THING)
        assert await events.value() == {"thingId": "demo:T01"}


async def test_only_the_things_that_are_asked_for_are_told(tmp_path):
    async with (
        served(tmp_path) as server,
        server.client() as client,
        reading(client, "/api/2/things?ids=demo:T02,far.away:T03") as named,
        reading(client, "/api/2/things?namespaces=far.away,other") as near,
        reading(client, "/api/2/things/demo:T02") as one,
    ):
        for id_ in ("demo:T01", "demo:T02", "far.away:T03", "far.away:T04", "demo:T02"):
            await client.put(f"/api/2/things/{id_}", json={})
        assert [(await named.value())["thingId"] for _ in range(3)] == ["demo:T02", "far.away:T03", "demo:T02"]
        assert [(await near.value())["thingId"] for _ in range(2)] == ["far.away:T03", "far.away:T04"]
        assert [(await one.value())["thingId"] for _ in range(2)] == ["demo:T02", "demo:T02"]


async def test_fields_select_what_is_shown_and_drop_what_has_none_of_it(tmp_path):
    async with (
        served(tmp_path) as server,
        server.client() as client,
        reading(client, f"{THING}?fields=attributes/a,_revision") as always,
        reading(client, f"{THING}?fields=attributes/a,features/*/properties/x") as some,
        reading(client, f"{THING}?fields=thingId,_namespace,_created,_modified") as about,
    ):
        await client.put(THING, json=WHOLE)
        assert await always.value() == {"attributes": {"a": 1}, "_revision": 1}
        assert await some.value() == {"attributes": {"a": 1}, "features": {"f": {"properties": {"x": 1}}}}
        first = await about.value()
        assert first == {
            "thingId": "demo:T01",
            "_namespace": "demo",
            "_created": first["_modified"],
            "_modified": first["_modified"],
        }
        await client.put(f"{THING}/attributes/z", json=1)
        await client.put(f"{THING}/features/f/properties/x", json=3)
        assert await always.value() == {"_revision": 2}
        assert await some.value() == {"features": {"f": {"properties": {"x": 3}}}}
        second = await about.value()
        assert second.keys() == {"thingId", "_namespace", "_modified"}
        assert first["_modified"] < second["_modified"]


async def test_context_tells_of_the_change_itself(tmp_path):
    async with (
        served(tmp_path) as server,
        server.client() as client,
        reading(client, f"{THING}?fields=thingId,attributes,_context/topic,_context/path,_context/value") as with_value,
        reading(client, f"{THING}?fields=_context") as alone,
    ):
        await client.put(THING, json={}, headers={"correlation-id": "one"})
        await client.delete(f"{THING}/attributes/a")
        await client.put(f"{THING}/attributes/a", json=5, headers={"correlation-id": "two"})
        topic = "demo/T01/things/twin/events"
        assert (await with_value.value())["_context"]["topic"] == f"{topic}/created"
        assert await with_value.value() == {
            "thingId": "demo:T01",
            "attributes": {"a": 5},
            "_context": {"topic": f"{topic}/created", "path": "/attributes/a", "value": 5},
        }
        assert (await alone.value())["_context"]["headers"]["correlation-id"] == "one"
        context = (await alone.value())["_context"]
        assert context.keys() == {"topic", "path", "value", "headers"}
        assert context["headers"]["correlation-id"] == "two"
        assert all(isinstance(value, str) for value in context["headers"].values())


async def test_extra_fields_stand_in_their_own_places(tmp_path):
    extra = "thingId,policyId,attributes/b,features/f/properties/y,_created,_revision"
    async with (
        served(tmp_path) as server,
        server.client() as client,
        reading(client, f"{THING}?extraFields={extra}") as events,
    ):
        await client.put(THING, json=WHOLE)
        created = (await events.value())["_created"]
        await client.put(f"{THING}/features/f/properties/x", json=9)
        assert await events.value() == {
            "thingId": "demo:T01",
            "policyId": "demo:T01",
            "attributes": {"b": {"c": 2}},
            "features": {"f": {"properties": {"x": 9, "y": 2}}},
            "_created": created,
            "_revision": 2,
        }
        await client.delete(f"{THING}/features/f/properties/y")
        assert (await events.value()).get("features") is None


async def test_below_a_thing_there_are_values_only(tmp_path):
    async with (
        served(tmp_path) as server,
        server.client() as client,
        reading(client, f"{THING}/attributes/a") as leaf,
        reading(client, f"{THING}/attributes") as branch,
        reading(client, f"{THING}/features/f/properties/x%2Fdeep") as deep,
        reading(client, f"{THING}/_revision") as revisions,
    ):
        await client.put(THING, json=WHOLE)
        await client.put(f"{THING}/features/f/properties", json={"x": {"deep": "below"}})
        await client.put(f"{THING}/attributes/a", json=2)
        await client.delete(f"{THING}/attributes/a")
        await client.put(f"{THING}/attributes/a", json={"in": 1})
        assert [await leaf.value() for _ in range(3)] == [1, 2, {"in": 1}]
        assert [await branch.value() for _ in range(3)] == [WHOLE["attributes"], {"a": 2}, {"a": {"in": 1}}]
        assert await deep.value() == "below"
        assert [await revisions.value() for _ in range(5)] == [1, 2, 3, 4, 5]


async def test_a_filter_looks_at_the_change_and_the_extra_fields(tmp_path):
    async with (
        served(tmp_path) as server,
        server.client() as client,
        reading(client, f"/api/2/things?filter={quote('gt(attributes/a,5)')}") as large,
        reading(client, f"/api/2/things?filter={quote(DELETED)}") as gone,
        reading(
            client,
            f"/api/2/things?extraFields=attributes/a&filter={quote('and(gt(attributes/a,5),exists(features/f/properties/x))')}",
        ) as both,
    ):
        await client.put(THING, json=WHOLE)
        await client.put(f"{THING}/attributes/a", json=6)
        await client.put(f"{THING}/features/f/properties/x", json=6)
        await client.delete(THING)
        assert await large.value() == {"thingId": "demo:T01", "attributes": {"a": 6}}
        assert await gone.value() == {"thingId": "demo:T01"}
        assert await both.value() == {
            "thingId": "demo:T01",
            "attributes": {"a": 6},
            "features": {"f": {"properties": {"x": 6}}},
        }


async def test_a_reader_is_told_what_he_may_read_and_no_more(tmp_path):
    rights = policy(**{"attributes": READ, "attributes/secret": HIDE})
    async with (
        served(tmp_path) as server,
        server.client() as owner,
        server.client("eve") as eve,
        reading(eve, "/api/2/things?extraFields=features&fields=thingId,attributes,features,_context/value") as events,
    ):
        await owner.put(THING, json={**WHOLE, "_policy": rights})
        assert await events.value() == {
            "thingId": "demo:T01",
            "attributes": WHOLE["attributes"],
            "_context": {"value": {"thingId": "demo:T01", "attributes": WHOLE["attributes"]}},
        }
        await owner.put(f"{THING}/attributes/secret", json=1)
        await owner.put(f"{THING}/features/f/properties/x", json=2)
        await owner.put(f"{THING}/attributes", json={"secret": 2, "open": 3})
        assert await events.value() == {
            "thingId": "demo:T01",
            "attributes": {"open": 3},
            "_context": {"value": {"open": 3}},
        }
        await owner.delete("/api/2/policies/demo:T01/entries/guest")
        await owner.put(f"{THING}/attributes/open", json=4)
        await owner.put("/api/2/policies/demo:T01/entries/guest", json=rights["entries"]["guest"])
        await owner.put(f"{THING}/attributes/open", json=5)
        assert (await events.value())["attributes"] == {"open": 5}


async def test_a_quiet_stream_has_heartbeats_that_tell_how_far_it_has_come(tmp_path):
    async with (
        served(tmp_path) as server,
        server.client() as client,
        reading(client, "/api/2/things/demo:quiet") as events,
    ):
        await client.put(THING, json=WHOLE)
        last = server.registry.journal.last
        while events.place != str(last):
            await events.beat()
        await events.beat()
        await client.put("/api/2/things/demo:quiet", json={})
        assert (await events.value())["thingId"] == "demo:quiet"


async def test_a_reader_who_comes_back_misses_nothing(tmp_path):
    async with served(tmp_path) as server, server.client() as client:
        async with reading(client, "/api/2/things") as events:
            await client.put(THING, json=WHOLE)
            seen = await events.next()
            assert seen is not None
        for number in range(150):
            await client.put(f"{THING}/attributes/n", json=number)
        async with reading(client, "/api/2/things", headers={"last-event-id": seen.id}) as events:
            numbers = [(await events.value())["attributes"]["n"] for _ in range(150)]
            assert numbers == list(range(150))
            await client.put(f"{THING}/attributes/n", json=-1)
            assert (await events.value())["attributes"] == {"n": -1}
        async with reading(client, f"{THING}/attributes/n?last-event-id=0") as events:
            assert [await events.value() for _ in range(151)] == [*range(150), -1]


async def test_a_reader_who_comes_back_too_late_is_told_so(tmp_path):
    async with served(tmp_path) as server, server.client() as client:
        for number in range(20):
            await client.put(f"{THING}/attributes/n" if number else THING, json={"attributes": {}})
        journal = server.registry.journal
        await journal._store.save([], journal.last)
        await journal._store.trim(10)
        journal._recent.clear()
        for id_, status, code in (
            ("3", 410, "journal.events.forgotten"),
            ("five", 400, "header.invalid"),
            ("-1", 400, "header.invalid"),
            (str(journal.last + 1), 410, "journal.events.unknown"),
        ):
            async with reading(client, "/api/2/things", headers={"last-event-id": id_}) as events:
                error = json.loads(await events.response.aread())
                assert events.status == status
                assert error["error"] == code


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/2/things/nonsense", "things:id.invalid"),
        ("/api/2/things?ids=demo:T01,nonsense", "things:id.invalid"),
        ("/api/2/things?ids=", "things:id.invalid"),
        ("/api/2/things?fields=nonsense", "things:field.selection.invalid"),
        ("/api/2/things?fields=attributes(", "json.fieldselector.invalid"),
        ("/api/2/things?extraFields=nonsense/x", "things:field.selection.invalid"),
        ("/api/2/things?filter=nonsense", "rql.expression.invalid"),
        (f"{THING}/nonsense", "things:field.selection.invalid"),
        (f"{THING}/inbox", "things:field.selection.invalid"),
        (f"{THING}?from-historical-revision=x", "json.format.invalid"),
        (f"{THING}?from-historical-timestamp=x", "json.format.invalid"),
        (f"{THING}?from-historical-revision=1&to-historical-revision=x", "json.format.invalid"),
        (f"{THING}?to-historical-revision=1", "json.format.invalid"),
        ("/api/2/things?filer=eq(attributes/a,1)", "parameter.unknown"),
        ("/api/2/things/demo:T01?field=attributes", "parameter.unknown"),
    ],
)
async def test_what_cannot_be_read_is_refused_before_the_stream_begins(tmp_path, path, code):
    async with served(tmp_path) as server, server.client() as client, reading(client, path) as events:
        error = json.loads(await events.response.aread())
        assert (events.status, error["error"]) == (400, code)


async def test_who_asks_for_json_or_has_no_login_gets_no_stream(tmp_path):
    async with served(tmp_path) as server, server.client() as client, server.client(None) as nobody:
        await client.put(THING, json=WHOLE)
        for accept in ("*/*", "application/json", "text/html,application/xhtml+xml,*/*;q=0.8"):
            assert (await client.get(THING, headers={"accept": accept})).json()["thingId"] == "demo:T01"
        assert (await client.head(THING, headers={"accept": "text/event-stream"})).status_code == 200
        assert (await nobody.get(THING, headers={"accept": "text/event-stream"})).status_code == 401
        for accept in ("text/event-stream", "application/json, text/event-stream;q=0.5", "text/*"):
            async with reading(client, THING, headers={"accept": accept}) as events:
                assert events.response.headers["content-type"] == "text/event-stream"


async def test_streams_are_no_slow_requests(tmp_path):
    async with served(tmp_path) as server, server.client() as client, server.client("devops") as devops:
        async with reading(client, "/api/2/things") as events:
            await events.beat()
            await events.beat()
        while True:
            text = (await devops.get("/metrics")).text
            sums = [
                line
                for line in text.splitlines()
                if line.startswith('skerry_http_seconds_sum{method="GET",route="sse"')
            ]
            if sums:
                break
        assert float(sums[0].split()[-1]) < 1.0


async def test_a_login_that_ends_ends_its_streams(tmp_path):
    async with served(tmp_path) as server, server.client("eve") as eve, reading(eve, "/api/2/things") as events:
        await events.beat()
        server.users.remove("eve")
        assert await events.all() == []


async def test_a_reader_who_takes_nothing_is_let_go(tmp_path):
    async with (
        served(tmp_path) as server,
        server.client() as client,
        reading(client, "/api/2/things") as slow,
        reading(client, f"{THING}/attributes/n") as quick,
    ):
        await client.put(THING, json={})
        text = "x" * 90_000
        for number in range(200):
            await client.put(f"{THING}/attributes/text", json=text)
            await client.put(f"{THING}/attributes/n", json=number)
            assert await quick.value() == number
        assert 0 < await _rest(slow) < 401


async def _rest(events: Reader) -> int:
    """How many events come before the stream ends."""
    count = 0
    try:
        while await events.next() is not None:
            count += 1
    except Exception as error:  # noqa: BLE001 - the connection breaks off, in whatever words
        assert "peer closed" in str(error) or "incomplete" in str(error)  # noqa: PT017
    return count
