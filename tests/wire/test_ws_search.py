"""Searches over a WebSocket, page by page."""

from wire.http_server import Served, served
from wire.sessions import Socket, session

SEARCH = "_/_/things/twin/search/"


async def things(server: Served, count: int) -> None:
    async with server.client() as client:
        for number in range(count):
            await client.put(f"/api/2/things/demo:s{number:03}", json={"attributes": {"a": number}})


async def found(socket: Socket, value: object = None, **more: object) -> list[list[str]]:
    """The ids of each page of a search."""
    created = await socket.ask(SEARCH + "subscribe", value=value, **more)
    assert created["topic"] == SEARCH + "created", created
    await socket.send(
        {"topic": SEARCH + "request", "path": "/", "headers": {}, "value": {**created["value"], "demand": 100}}
    )
    pages = []
    while (told := await socket.receive())["topic"] == SEARCH + "next":
        pages.append([item["thingId"] for item in told["value"]["items"]])
    assert told["topic"] == SEARCH + "complete", told
    return pages


async def test_a_search_is_told_page_by_page(tmp_path):
    async with served(tmp_path) as server:
        await things(server, 7)
        async with session(server) as socket:
            wish = {"filter": "ge(attributes/a,2)", "options": "size(2),sort(-attributes/a)"}
            assert await found(socket, wish) == [["demo:s006", "demo:s005"], ["demo:s004", "demo:s003"], ["demo:s002"]]
            assert [len(page) for page in await found(socket)] == [7]
            assert await found(socket, {"namespaces": ["other"]}) == []
            assert await found(socket, {"filter": "eq(attributes/a,3)"}, fields="thingId,attributes") == [["demo:s003"]]


async def test_everybody_finds_what_he_may_see(tmp_path):
    async with served(tmp_path) as server:
        await things(server, 3)
        async with session(server, "eve") as eve:
            assert await found(eve) == []
            failed = await eve.ask(SEARCH + "request", value={"subscriptionId": "7", "demand": 1})
            assert failed["topic"] == SEARCH + "failed"
            assert failed["value"]["error"]["error"] == "thing-search:subscription.not.found"
            wrong = await eve.ask(SEARCH + "nothing", value={})
            assert (wrong["topic"], wrong["value"]["error"]) == (
                "unknown/unknown/things/twin/errors",
                "protocoladapter:unknown.topicpath",
            )


async def test_pages_stay_within_a_frame_and_a_large_demand_within_the_bounds_of_a_session(tmp_path):
    async with served(tmp_path) as server:
        async with server.client() as client:
            for number in range(60):
                body = {"attributes": {"text": "x" * 60_000}}
                assert (await client.put(f"/api/2/things/demo:s{number:03}", json=body)).status_code == 201
        async with session(server) as socket:
            for size, pages in ((3, [3] * 20), (25, [4] * 15)):
                taken = await found(socket, {"options": f"size({size})"})
                assert [len(page) for page in taken] == pages
                assert [thing for page in taken for thing in page] == [f"demo:s{number:03}" for number in range(60)]
