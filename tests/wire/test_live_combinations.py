"""Whoever asks and whoever answers: HTTP, WebSocket and MQTT in every combination, on one running server; desired state through a kill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import httpx
import pytest
from msgspec import UNSET, Struct
from msgspec.structs import replace

from broker_dialog import Dialog
from skerry_adapters.broker.packets import Publish
from skerry_process import Skerry, skerry_in
from wire.sessions import Socket, session

ANSWER = {"power": [5, "kW"]}
NO_CONTENT = 204
SORTS = ("MESSAGES", "LIVE-COMMANDS", "LIVE-EVENTS", "EVENTS")
MERGE = "application/merge-patch+json"


class Question(Struct, frozen=True):
    """What is asked: in an envelope by topic and path, over HTTP by method and URL."""

    topic: str
    path: str
    method: str
    url: str
    value: Any = UNSET
    status: int = 222
    type: str = "application/json"


QUESTIONS = {
    "message to a feature": Question(
        "messages/how/much",
        "/features/scada/inbox/messages/how/much",
        "POST",
        "/features/scada/inbox/messages/how/much",
        {"unit": "kW"},
    ),
    "message from a thing": Question(
        "messages/done", "/outbox/messages/done", "POST", "/outbox/messages/done", {"unit": "kW"}
    ),
    "claim": Question("messages/claim", "/inbox/messages/claim", "POST", "/inbox/claim", {"unit": "kW"}),
    "read": Question("commands/retrieve", "/features/scada", "GET", "/features/scada?channel=live", status=200),
    "change": Question(
        "commands/modify", "/attributes/a", "PUT", "/attributes/a?channel=live", {"unit": "kW"}, status=204
    ),
    "merge": Question(
        "commands/merge",
        "/features",
        "PATCH",
        "/features?channel=live",
        {"scada": {"definition": ["a:b:1"]}},
        204,
        MERGE,
    ),
    "deletion": Question("commands/delete", "/attributes/b", "DELETE", "/attributes/b?channel=live", status=204),
}
CHANGE = Question("", "/attributes/changed", "PUT", "/attributes/changed", {"unit": "kW"})
EVENT = Question("events/modified", "/attributes/told", "", "", {"unit": "kW"})
Say: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]
Hear: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Skerry]:
    with skerry_in(tmp_path_factory.mktemp("skerry")) as made, made.client() as client:
        assert client.put("/api/2/things/x:T1", json={"features": {"scada": {}}}).status_code == 201
        yield made


async def connect(server: Skerry, client: str, topic: str) -> Dialog:
    broker: Any = SimpleNamespace(port=server.mqtt_port)
    dialog = await Dialog.open(broker, client, login=False, username="ditto", password=b"ditto")
    assert await dialog.subscribe(topic) == 1
    return dialog


@asynccontextmanager
async def over_mqtt(server: Skerry, client: str, topic: str) -> AsyncIterator[tuple[Say, Hear]]:
    dialog = await connect(server, client, topic)

    async def say(envelope: dict[str, Any]) -> None:
        assert await dialog.publish("ditto/x/T1", json.dumps(envelope).encode()) == 0

    async def hear() -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await dialog.expect(Publish)).payload)
        return found

    try:
        yield say, hear
    finally:
        await dialog.close()


@asynccontextmanager
async def over_websocket(server: Skerry, *, listens: bool, **headers: str) -> AsyncIterator[tuple[Say, Hear]]:
    served: Any = server
    socket: Socket
    async with session(served, **headers) as socket:
        for sort in SORTS if listens else ():
            await socket.start(sort)
        yield socket.send, socket.receive


def envelope(question: Question, **more: Any) -> dict[str, Any]:
    value = {} if question.value is UNSET else {"value": question.value}
    topic = f"x/T1/things/live/{question.topic}" if question.topic else "x/T1/things/twin/commands/modify"
    return {"topic": topic, "path": question.path} | value | more


async def ask_over_http(server: Skerry, question: Question, *labels: str) -> tuple[int, Any]:
    async with httpx.AsyncClient(base_url=server.url, auth=("ditto", "ditto"), timeout=60) as client:
        asked = {"timeout": "50", "requested-acks": ",".join(labels)} if labels else {"timeout": "50"}
        value = {} if question.value is UNSET else {"content": json.dumps(question.value)}
        url = f"/api/2/things/x:T1{question.url}"
        answer = await client.request(question.method, url, headers={"content-type": question.type, **asked}, **value)
        return answer.status_code, answer.json() if answer.content else UNSET


async def ask_in_envelopes(way: Any, question: Question, *labels: str) -> tuple[int, Any]:
    async with way as (say, hear):
        headers = {"correlation-id": "asked", "content-type": question.type, "timeout": "50s"}
        await say(envelope(question, headers=headers | ({"requested-acks": list(labels)} if labels else {})))
        while (answer := await hear())["headers"]["correlation-id"] != "asked" or "status" not in answer:
            continue
        return answer["status"], answer.get("value", UNSET)


def asking(server: Skerry, asker: str, question: Question, *labels: str) -> asyncio.Task[tuple[int, Any]]:
    """Somebody who asks, and what he is answered."""
    if asker == "http":
        return asyncio.create_task(ask_over_http(server, question, *labels))
    way = over_mqtt(server, "asks", "device/x/T1/replies") if asker == "mqtt" else over_websocket(server, listens=False)
    return asyncio.create_task(ask_in_envelopes(way, question, *labels))


@pytest.mark.parametrize("answerer", ["websocket", "mqtt"])
@pytest.mark.parametrize("asker", ["http", "websocket", "mqtt"])
@pytest.mark.parametrize("kind", QUESTIONS)
async def test_a_question_comes_to_its_answer(server: Skerry, kind: str, asker: str, answerer: str) -> None:
    question = QUESTIONS[kind]
    listening = (
        over_mqtt(server, "answers", "device/x/T1/live") if answerer == "mqtt" else over_websocket(server, listens=True)
    )
    async with listening as (say, hear):
        asked = asking(server, asker, question)
        told = await hear()
        assert {name: told[name] for name in envelope(question)} == envelope(question)
        headers = {"correlation-id": told["headers"]["correlation-id"], "content-type": "application/json"}
        given = UNSET if question.status == NO_CONTENT else ANSWER
        await say(envelope(replace(question, value=given), headers=headers, status=question.status))
        assert await asked == (question.status, given)


@pytest.mark.parametrize("giver", ["websocket", "mqtt"])
@pytest.mark.parametrize("asker", ["http", "websocket", "mqtt"])
async def test_an_acknowledgement_of_a_message_comes_with_the_answer(server: Skerry, asker: str, giver: str) -> None:
    question = QUESTIONS["message to a feature"]
    listening = (
        over_mqtt(server, "gives", "device/x/T1/live")
        if giver == "mqtt"
        else over_websocket(server, listens=True, declared_acks='["my:label"]')
    )
    async with listening as (say, hear):
        asked = asking(server, asker, question, "my:label", "live-response")
        headers = {"correlation-id": (await hear())["headers"]["correlation-id"], "content-type": "application/json"}
        await say({"topic": "x/T1/things/live/acks/my:label", "path": "/", "headers": headers, "status": 204})
        await say(envelope(question, headers=headers, status=200, value=ANSWER))
        status, value = await asked
    assert (status, {label: ack["status"] for label, ack in value.items()}) == (
        200,
        {"my:label": 204, "live-response": 200},
    )


@pytest.mark.parametrize("giver", ["websocket", "mqtt"])
@pytest.mark.parametrize("asker", ["http", "websocket", "mqtt"])
async def test_an_acknowledgement_of_a_change_comes_to_who_makes_it(server: Skerry, asker: str, giver: str) -> None:
    given = {"declared_acks": '["my:label"]'} if giver == "websocket" else {}
    async with over_websocket(server, listens=True, **given) as (say, hear), AsyncExitStack() as stack:
        if giver == "mqtt":
            give, _ = await stack.enter_async_context(over_mqtt(server, "gives", "device/x/T1/live"))
        else:
            give = say
        asked = asking(server, asker, CHANGE, "my:label", "twin-persisted")
        told = (await hear())["headers"]
        assert told["requested-acks"] == (["my:label"] if given else [])
        headers = {"correlation-id": told["correlation-id"]}
        await give({"topic": "x/T1/things/twin/acks/my:label", "path": "/", "headers": headers, "status": 202})
        status, value = await asked
    assert (status, value["my:label"]["status"], set(value)) == (200, 202, {"my:label", "twin-persisted"})


@pytest.mark.parametrize("teller", ["websocket", "mqtt"])
async def test_a_live_event_is_told(server: Skerry, teller: str) -> None:
    way = over_mqtt(server, "tells", "device/x/T1/live") if teller == "mqtt" else over_websocket(server, listens=False)
    event = envelope(EVENT, headers={"correlation-id": "e1", "content-type": "application/json"}, revision=7)
    async with over_websocket(server, listens=True) as (_, hear), way as (say, _):
        await say(event)
        told = await hear()
        assert {name: told[name] for name in ("topic", "path", "value", "revision")} == {
            name: event[name] for name in ("topic", "path", "value", "revision")
        }


async def test_desired_state_is_right_after_a_kill(tmp_path: Path) -> None:
    with skerry_in(tmp_path) as server:
        with server.client() as client:
            wanted = "/api/2/things/x:T1/features/scada/desiredProperties"
            assert client.put("/api/2/things/x:T1", json={"features": {"scada": {}}}).status_code == 201
            assert client.put(wanted, json={"power": 1}).status_code == 201
            assert client.put(wanted, json={"power": 2}).status_code == 204
        server.process.kill()
        server.process.start()
        dialog = await connect(server, "device", "device/x/T1/desired")
        while json.loads((await dialog.expect(Publish)).payload)["value"] != {"scada": {"properties": {"power": 2}}}:
            continue
        assert await dialog.publish("telemetry/x/T1/scada", b'{"power":2}') == 0
        while (await dialog.expect(Publish)).payload:
            continue
        await dialog.close()
