"""Whoever asks and whoever answers: HTTP, WebSocket and MQTT in every combination, on one running server; desired state through a kill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import httpx
import pytest

from broker_dialog import Dialog
from skerry_adapters.broker.packets import Publish
from skerry_process import Skerry, skerry_in
from wire.sessions import Socket, session

TOPIC = "x/T1/things/live/messages/how/much"
PATH = "/features/scada/inbox/messages/how/much"
QUESTION, ANSWER = {"unit": "kW"}, {"power": [5, "kW"]}
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

    yield say, hear
    await dialog.close()


@asynccontextmanager
async def over_websocket(server: Skerry, *, listens: bool) -> AsyncIterator[tuple[Say, Hear]]:
    served: Any = server
    socket: Socket
    async with session(served) as socket:
        if listens:
            await socket.start("MESSAGES")
        yield socket.send, socket.receive


async def ask_over_http(server: Skerry) -> tuple[int, Any]:
    async with httpx.AsyncClient(base_url=server.url, auth=("ditto", "ditto"), timeout=60) as client:
        url = "/api/2/things/x:T1/features/scada/inbox/messages/how/much?timeout=50"
        answer = await client.post(url, json=QUESTION)
        return answer.status_code, answer.json()


async def ask_in_envelopes(way: Any) -> tuple[int, Any]:
    async with way as (say, hear):
        headers = {"correlation-id": "asked", "content-type": "application/json", "timeout": "50s"}
        await say({"topic": TOPIC, "path": PATH, "headers": headers, "value": QUESTION})
        while (answer := await hear())["headers"]["correlation-id"] != "asked" or "status" not in answer:
            continue
        return answer["status"], answer["value"]


@pytest.mark.parametrize("answerer", ["websocket", "mqtt"])
@pytest.mark.parametrize("asker", ["http", "websocket", "mqtt"])
async def test_a_question_comes_to_its_answer(server: Skerry, asker: str, answerer: str) -> None:
    listening = (
        over_mqtt(server, "answers", "device/x/T1/live") if answerer == "mqtt" else over_websocket(server, listens=True)
    )
    async with listening as (say, hear):
        if asker == "http":
            asking = asyncio.create_task(ask_over_http(server))
        elif asker == "mqtt":
            asking = asyncio.create_task(ask_in_envelopes(over_mqtt(server, "asks", "device/x/T1/replies")))
        else:
            asking = asyncio.create_task(ask_in_envelopes(over_websocket(server, listens=False)))
        told = await hear()
        assert (told["topic"], told["path"], told["value"]) == (TOPIC, PATH, QUESTION)
        headers = {"correlation-id": told["headers"]["correlation-id"], "content-type": "application/json"}
        await say({"topic": TOPIC, "path": PATH, "headers": headers, "status": 222, "value": ANSWER})
        assert await asking == (222, ANSWER)


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
