"""Who may open a WebSocket session, and how long it lasts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from issuer import Issuer, issuer
from skerry_registry.identities.issuers import Issuer as IssuerSettings
from skerry_registry.identities.namespaces import NamespaceRule
from skerry_registry.settings import Settings
from wire.http_server import served
from wire.sessions import basic, refused, session

pytestmark = pytest.mark.usefixtures("no_task_left")


def with_issuer(keys: Issuer, **more: Any) -> Settings:
    return structs.replace(
        Settings(), oidc_allow_http=True, oidc_issuers={"ditto": IssuerSettings(issuer=keys.url)}, **more
    )


def lasting(keys: Issuer, seconds: float = 3_600, **claims: Any) -> str:
    # the server's clock in these tests stands still in 2023, but for the times it is asked
    return keys.token({"exp": 1_700_000_000 + seconds, **claims})


async def test_nobody_and_strangers_are_refused_in_json(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        status, error = await refused(server)
        assert (status, error["error"]) == (401, "gateway:authentication.failed")
        status, error = await refused(server, authorization="Basic bm9ib2R5Om5vYm9keQ==")
        assert (status, error["error"]) == (401, "gateway:authentication.failed")
        status, error = await refused(server, authorization="Bearer nonsense")
        assert status in {400, 401}


async def test_other_paths_lead_nowhere(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        assert (await refused(server, "ditto", path="/ws/1"))[1]["error"] == "api.version.notsupported"
        for path in ("/ws", "/ws/2/things", "/websocket", "/api/2/things"):
            assert (await refused(server, "ditto", path=path))[0] == 404, path
        assert (await refused(server, "ditto", path="/ws/2/"))[0] == 101


async def test_a_plain_request_is_told_that_a_websocket_is_opened_there(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as client:
        answer = await client.get("/ws/2")
        assert (answer.status_code, answer.json()["error"]) == (400, "gateway:websocket.expected")
        assert (await client.get("/ws/2/things")).status_code == 404


async def test_headers_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        status, error = await refused(server, "ditto", declared_acks='["no label!"]')
        assert (status, error["error"]) == (400, "acknowledgement:label.invalid")
        status, error = await refused(server, "ditto", path="/ws/2?response-required=perhaps")
        assert (status, error["error"], error["invalidHeaderKey"]) == (400, "header.invalid", "response-required")
        status, error = await refused(server, "ditto", path="/ws/2?timeout=soon")
        assert (status, error["error"]) == (400, "timeout.invalid")


async def test_what_a_browser_remembers_opens_nothing_for_another_site(tmp_path: Path) -> None:
    settings = structs.replace(Settings(), cors_origins="https://friend.example", auth_pre_authenticated=True)
    async with served(tmp_path, settings=settings) as server:
        assert (await refused(server, "ditto", origin="https://evil.example"))[0] == 401
        vouched = {"x_ditto_pre_authenticated": "proxy:somebody"}
        assert (await refused(server, None, origin="https://evil.example", **vouched))[0] == 401
        assert (await refused(server, None, **vouched))[0] == 101
        for origin in ("https://friend.example", server.url):
            assert (await refused(server, "ditto", origin=origin))[0] == 101


async def test_a_refused_handshake_stands_in_the_audit_trail(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client("devops") as operator:
        assert (await refused(server, None, authorization=basic("nobody")))[0] == 401
        found = (await operator.get("/api/2/audit", params={"outcome": "refused"})).json()["items"]
        assert [(record["action"], record["path"], record["user"]) for record in found] == [
            ("login", "/ws/2", "nobody")
        ]


async def test_a_token_comes_as_a_header_or_as_a_parameter(tmp_path: Path) -> None:
    with issuer(tmp_path) as keys:
        async with served(tmp_path, settings=with_issuer(keys)) as server:
            token = lasting(keys)
            async with session(server, None, query=f"?access_token={token}") as socket:
                await socket.start("EVENTS")
            async with session(server, None, authorization=f"Bearer {token}") as socket:
                reply = await socket.command("create", "ns:t1", value={})
                assert reply["headers"]["ditto-originator"] == "ditto:user2"
            status, _ = await refused(server, None, path=f"/ws/2?access_token={token}", authorization=f"Bearer {token}")
            assert status == 401


async def test_a_session_ends_with_its_token(tmp_path: Path) -> None:
    with issuer(tmp_path) as keys:
        async with (
            served(tmp_path, settings=with_issuer(keys)) as server,
            session(server, None, authorization=f"Bearer {lasting(keys, 3)}") as socket,
        ):
            code, reason = await socket.closed()
            assert (code, "expired" in reason) == (1000, True)
            assert socket.aside[-1]["value"]["error"] == "gateway:websocket.session.expired"


async def test_a_new_token_says_how_long_a_session_lasts(tmp_path: Path) -> None:
    with issuer(tmp_path) as keys:
        async with (
            served(tmp_path, settings=with_issuer(keys)) as server,
            session(server, None, authorization=f"Bearer {lasting(keys)}") as socket,
        ):
            await socket.wire.send(f"JWT-TOKEN?jwtToken={lasting(keys, 2)}")
            assert (await socket.closed())[0] == 1000
            assert socket.aside[-1]["value"]["error"] == "gateway:websocket.session.expired"


@pytest.mark.parametrize("what", ["nonsense", "somebody else"])
async def test_a_new_token_that_is_no_good_or_somebody_else_s_ends_the_session(tmp_path: Path, what: str) -> None:
    with issuer(tmp_path) as keys:
        async with (
            served(tmp_path, settings=with_issuer(keys)) as server,
            session(server, None, authorization=f"Bearer {lasting(keys)}") as socket,
        ):
            token = "nonsense" if what == "nonsense" else lasting(keys, sub="user3")
            await socket.wire.send(f"JWT-TOKEN?jwtToken={token}")
            assert (await socket.closed())[0] == 1000
            assert socket.aside[-1]["value"]["error"] == "gateway:websocket.session.closed"


async def test_a_new_token_that_reaches_other_namespaces_ends_the_session(tmp_path: Path) -> None:
    rules = (NamespaceRule(conditions=("{{ jwt:zone }}",)), NamespaceRule(allowed_namespaces=("open",)))
    with issuer(tmp_path) as keys:
        async with (
            served(tmp_path, settings=with_issuer(keys, namespace_access=rules)) as server,
            session(server, None, authorization=f"Bearer {lasting(keys, zone='all')}") as socket,
        ):
            assert (await socket.command("create", "closed:t1", value={}))["status"] == 201
            await socket.wire.send(f"JWT-TOKEN?jwtToken={lasting(keys, 4_000, zone='all')}")
            assert (await socket.command("retrieve", "closed:t1"))["status"] == 200
            await socket.wire.send(f"JWT-TOKEN?jwtToken={lasting(keys)}")
            assert (await socket.closed())[0] == 1000
            error = socket.aside[-1]["value"]
            assert (error["error"], "namespaces" in error["message"]) == ("gateway:websocket.session.closed", True)


async def test_a_closed_namespace_is_closed_in_a_session(tmp_path: Path) -> None:
    rules = (NamespaceRule(conditions=("{{ header:x-zone }}",)), NamespaceRule(allowed_namespaces=("open",)))
    settings = structs.replace(Settings(), namespace_access=rules)
    async with (
        served(tmp_path, settings=settings) as server,
        session(server, x_zone="all") as free,
        session(server) as bound,
    ):
        await bound.start("EVENTS")
        assert (await free.command("create", "closed:t1", value={}))["status"] == 201
        reply = await bound.command("retrieve", "closed:t1")
        assert (reply["status"], reply["value"]["error"]) == (403, "gateway:namespace.notaccessible")
        assert (await free.command("create", "open:t1", value={}))["status"] == 201
        assert (await bound.receive())["topic"] == "open/t1/things/twin/events/created"
        many = {"thingIds": ["closed:t1", "open:t1"]}
        reply = await bound.ask("_/_/things/twin/commands/retrieve", value=many)
        assert [thing["thingId"] for thing in reply["value"]] == ["open:t1"]


async def test_a_label_that_another_session_has_declared_ends_the_second(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as server,
        session(server, declared_acks='["my:label"]'),
        session(server, declared_acks='["my:label"]') as second,
    ):
        assert (await second.closed())[0] == 1000
        error = second.aside[-1]
        assert (error["status"], error["value"]["error"]) == (409, "acknowledgement:label.not.unique")
