"""Histories and migrations over a WebSocket."""

from typing import Any

from wire.http_server import served
from wire.sessions import Socket, session

THING = "demo/T1/things/twin/"
MODEL = "https://models.example.org/turbine-2.0.0.tm.jsonld"


async def history(socket: Socket, about: str = THING, **span: Any) -> list[Any]:
    """The events of a span."""
    topic = about + "streaming/"
    created = await socket.ask(topic + "subscribeForPersistedEvents", value=span)
    assert created["topic"] == topic + "created", created
    await socket.send({"topic": topic + "request", "path": "/", "value": {**created["value"], "demand": 1_000}})
    items = []
    while (told := await socket.receive())["topic"] == topic + "next":
        items.append(told["value"]["item"])
    assert told["topic"] == topic + "complete", told
    return items


async def test_the_history_of_a_thing_and_of_its_policy(tmp_path):
    async with served(tmp_path) as server, session(server) as socket:
        await socket.command("create", "demo:T1", value={"attributes": {"a": 0}})
        for value in range(1, 300):
            assert (await socket.command("modify", "demo:T1", "/attributes/a", value=value))["status"] == 204
        events = await history(socket, fromHistoricalRevision=1)
        assert [event["revision"] for event in events] == list(range(1, 301))
        assert [event["value"] for event in events[1:]] == list(range(1, 300))
        assert events[0]["headers"]["historical-headers"] == {}
        last = await history(socket, fromHistoricalRevision=-2)
        assert [event["value"] for event in last] == [298, 299]
        since = await history(socket, fromHistoricalTimestamp=events[9]["timestamp"], toHistoricalRevision=12)
        assert [event["revision"] for event in since] == [11, 12]
        (policy,) = await history(socket, "demo/T1/policies/")
        assert policy["topic"] == "demo/T1/policies/events/created"
        assert "DEFAULT" in policy["value"]["entries"]


async def test_a_history_that_may_not_be_read_is_not_there(tmp_path):
    async with served(tmp_path) as server, session(server) as socket, session(server, "eve") as eve:
        await socket.command("create", "demo:T1", value={})
        created = await eve.ask(THING + "streaming/subscribeForPersistedEvents")
        failed = await eve.ask(THING + "streaming/request", value={**created["value"], "demand": 1})
        assert failed["value"]["error"]["error"] == "things:thing.notfound"


async def test_a_migration_is_answered_and_told(tmp_path):
    async with served(tmp_path) as server, session(server) as socket, session(server) as other:
        await socket.command("create", "demo:T1", value={"attributes": {"a": 1, "b": 1}})
        await other.start("EVENTS")
        value = {"thingDefinitionUrl": MODEL, "migrationPayload": {"attributes": {"a": None}}}
        patch = {"definition": MODEL, "attributes": {"a": None}}
        dry = await socket.command("migrate", "demo:T1", value=value, headers={"dry-run": True})
        assert (dry["status"], dry["value"]) == (202, {"thingId": "demo:T1", "patch": patch, "mergeStatus": "DRY_RUN"})
        answer = await socket.command("migrate", "demo:T1", value=value)
        assert (answer["topic"], answer["path"], answer["status"]) == (THING + "commands/migrate", "/", 200)
        assert answer["value"] == {"thingId": "demo:T1", "patch": patch, "mergeStatus": "APPLIED"}
        event = await other.receive()
        assert (event["topic"], event["path"], event["revision"]) == (THING + "events/migrated", "/", 2)
        assert event["value"] == {"thingId": "demo:T1", **patch}
        assert event["headers"]["content-type"] == "application/merge-patch+json"
        refused = await socket.command("migrate", "demo:T1", value={})
        assert (refused["topic"], refused["value"]["error"]) == (THING + "errors", "json.field.missing")
