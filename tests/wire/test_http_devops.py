"""What operators ask over HTTP: log levels, settings, piggyback commands, status and numbers."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from skerry_registry.settings import Settings
from wire.http_server import Served, served

CLEANUP = "/user/thingsRoot/persistenceCleanup"
FLAT = {"aggregate": False, "is-group-topic": True}


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    settings = Settings(
        influx_url="http://reader:hidden-1@influx:8086", influx_token="hidden-2", mqtt_password="hidden-3"
    )
    async with served(tmp_path, settings=settings) as server:
        yield server


@pytest_asyncio.fixture
async def devops(server: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client("devops") as client:
        yield client


async def hand_in(client: httpx.AsyncClient, command: Any, *, target: str = CLEANUP, headers: Any = FLAT) -> Any:
    body = {"targetActorSelection": target, "headers": headers, "piggybackCommand": command}
    answer = await client.post("/devops/piggyback/things?timeout=30000ms", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    "path", ["/devops/logging", "/devops/config", "/status", "/overall/status/health", "/stats/search"]
)
async def test_only_devops_may_look_inside(server: Served, path: str):
    async with server.client("ditto") as client, server.client(None) as nobody:
        for asked in (await client.get(path), await nobody.get(path)):
            assert asked.status_code == 401
            assert asked.json()["error"] == "gateway:authentication.failed"


async def test_a_log_level_is_told_and_changed_in_dittos_shape(devops: httpx.AsyncClient):
    logger = logging.getLogger("skerry_policies")
    before = logger.level
    try:
        changed = await devops.put("/devops/logging/policies", json={"logger": "skerry_policies", "level": "debug"})
        assert changed.json() == {
            "1": {
                "type": "devops.responses:changeLogLevel",
                "status": 200,
                "serviceName": "policies",
                "instance": "1",
                "successful": True,
            }
        }
        assert logger.level == logging.DEBUG
        told = (await devops.get("/devops/logging")).json()["policies"]["1"]["loggerConfigs"]
        assert {"level": "debug", "logger": "skerry_policies"} in told
        await devops.put("/devops/logging/policies/1", json={"logger": "org.eclipse.ditto", "level": "WARN"})
        assert logger.level == logging.WARNING
        one = (await devops.get("/devops/logging/policies/1")).json()
        assert {"level": "warn", "logger": "skerry_policies"} in one["loggerConfigs"]
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/devops/logging", {"level": "loud"}, 400, "devops:loglevel.invalid"),
        ("/devops/logging", {"level": "info", "logger": "a b"}, 400, "devops:loglevel.invalid"),
        ("/devops/logging", {}, 400, "json.field.missing"),
        ("/devops/logging", [], 400, "json.invalid"),
        ("/devops/logging/nobody", {"level": "info"}, 404, "devops:service.notfound"),
        ("/devops/logging/things/2", {"level": "info"}, 404, "devops:service.notfound"),
        ("/devops/logging/things/1/2", {"level": "info"}, 404, "gateway:path.notfound"),
        ("/devops/config", {}, 405, "gateway:method.notallowed"),
    ],
)
async def test_a_wrong_request_changes_nothing(devops: httpx.AsyncClient, path: str, body: Any, status: int, code: str):
    answer = await devops.put(path, json=body)
    assert (answer.status_code, answer.json()["error"]) == (status, code)


async def test_settings_are_told_without_secrets(devops: httpx.AsyncClient):
    everything = await devops.get("/devops/config")
    assert "hidden" not in everything.text
    config = (await devops.get("/devops/config/gateway/1?path=influx")).json()
    assert config == {
        "type": "common.responses:retrieveConfig",
        "status": 200,
        "config": {"url": "http://influx:8086", "org": None, "bucket": None},
    }
    one = (await devops.get("/devops/config/things?path=thing.max_bytes")).json()
    assert one["things"]["1"]["config"] == 102_400
    assert "error" in (await devops.get("/devops/config/things/1?path=nowhere")).json()["config"]


async def test_the_clean_up_of_history_is_told_and_changed(server: Served, devops: httpx.AsyncClient):
    told = await hand_in(devops, {"type": "common.commands:retrieveConfig"})
    assert told["config"] == {"enabled": True, "history-retention-duration": "3d"}
    changed = await hand_in(
        devops, {"type": "common.commands:modifyConfig", "config": {"history-retention-duration": "12h"}}
    )
    assert changed == {
        "type": "common.responses:modifyConfig",
        "status": 200,
        "config": {"enabled": True, "history-retention-duration": "0.5d"},
    }
    assert server.registry.retention.days == 0.5
    await hand_in(devops, {"type": "common.commands:modifyConfig", "config": {"enabled": False}})
    assert not server.registry.retention.enabled
    health = await hand_in(devops, {"type": "status.commands:retrieveHealth"})
    assert health["statusInfo"]["details"] == [{"INFO": {"state": "STOPPED"}}]


@pytest.mark.parametrize("config", [{"enabled": 1}, {"history-retention-duration": "soon"}])
async def test_a_faulty_configuration_changes_nothing_and_says_so(
    server: Served, devops: httpx.AsyncClient, config: Any
):
    answer = await hand_in(devops, {"type": "common.commands:modifyConfig", "config": config})
    assert answer["status"] == 200
    assert answer["message"].startswith("Nothing was changed")
    assert (server.registry.retention.enabled, server.registry.retention.days) == (True, 3.0)


async def test_things_and_policies_are_read_past_their_policies(server: Served, devops: httpx.AsyncClient):
    async with server.client() as client:
        await client.put("/api/2/things/demo:T01", json={"attributes": {"a": 1}})
    thing = await hand_in(devops, {"type": "things.commands:retrieveThing", "thingId": "demo:T01"})
    assert (thing["type"], thing["status"]) == ("things.responses:retrieveThing", 200)
    assert thing["thing"]["attributes"] == {"a": 1}
    some = await hand_in(
        devops, {"type": "things.commands:retrieveThing", "thingId": "demo:T01", "selectedFields": "_revision"}
    )
    assert some["thing"] == {"_revision": 1}
    policy = await hand_in(devops, {"type": "policies.commands:retrievePolicy", "policyId": "demo:T01"})
    assert set(policy["policy"]["entries"]) == {"DEFAULT"}
    missing = await hand_in(devops, {"type": "things.commands:retrieveThing", "thingId": "demo:none"})
    assert (missing["status"], missing["error"]) == (404, "things:thing.notfound")


async def test_an_unknown_command_is_answered_with_those_that_there_are(devops: httpx.AsyncClient):
    answer = await hand_in(devops, {"type": "namespaces.commands:blockNamespace"})
    assert (answer["type"], answer["status"]) == ("devops.responses:errorResponse", 400)
    assert answer["payload"]["error"] == "json.type.notparsable"
    assert "common.commands:modifyConfig" in answer["payload"]["description"]


async def test_answers_stand_under_service_and_instance_unless_told_otherwise(devops: httpx.AsyncClient):
    command = {"type": "common.commands:retrieveConfig", "path": "http"}
    assert set(await hand_in(devops, command, headers={})) == {"things"}
    body = {"targetActorSelection": "/user", "headers": {}, "piggybackCommand": command}
    everywhere = (await devops.post("/devops/piggyback", json=body)).json()
    assert everywhere["gateway"]["1"]["config"]["host"] == "127.0.0.1"
    assert len(everywhere) == 5


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"headers": {}, "piggybackCommand": {}}, "json.field.missing"),
        ({"targetActorSelection": "/x", "piggybackCommand": {}}, "json.field.missing"),
        ({"targetActorSelection": "/x", "headers": 1, "piggybackCommand": {}}, "json.invalid"),
        ([], "json.invalid"),
    ],
)
async def test_a_piggyback_without_its_members_is_refused(devops: httpx.AsyncClient, body: Any, code: str):
    answer = await devops.post("/devops/piggyback", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, code)


async def test_a_page_of_another_site_cannot_change_levels_in_a_form(devops: httpx.AsyncClient):
    headers = {"origin": "http://elsewhere", "content-type": "text/plain"}
    answer = await devops.put("/devops/logging", content=b'{"level":"debug"}', headers=headers)
    assert answer.status_code == 415


async def test_status_and_numbers_have_dittos_shapes(server: Served, devops: httpx.AsyncClient):
    async with server.client() as client:
        for number in range(3):
            await client.put(f"/api/2/things/demo:T{number}", json={})
    assert (await devops.get("/stats/search")).json() == {"allThingsCount": 3}
    assert (await devops.get("/stats/things")).json() == {"hotThings": 3}
    details = await devops.get("/stats/things/details?namespace=demo&namespace=none")
    assert details.json() == {"thingsNamespacesHotness": {"demo": 3, "none": 0}}
    assert (await devops.get("/status")).json()["things"]["1"]["name"] == "skerry"
    health = (await devops.get("/overall/status/health")).json()
    assert (health["label"], health["status"]) == ("roles", "UP")
    assert health["children"][0]["details"][0]["INFO"]["number"] > 0
    assert "things" in (await devops.get("/status/cluster")).json()["roles"]
