"""Every way to log in over HTTP, and what it opens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from issuer import Issuer, issuer
from skerry_registry.identities import issuers
from skerry_registry.settings import Settings
from wire.http_server import START, served

SECOND = 1_000_000
NOW = START // SECOND
GOOD: dict[str, Any] = {"iat": NOW, "nbf": NOW, "exp": NOW + 3600}
THING = "/api/2/things/org.wind:t1"


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    with issuer(tmp_path_factory.mktemp("issuer")) as process:
        yield process


def settings_of(login: Issuer, **more: Any) -> Settings:
    entry = issuers.Issuer(issuer=login.url)
    return structs.replace(Settings(), oidc_issuers={"ditto": entry}, oidc_allow_http=True, **more)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_a_token_creates_a_thing_that_belongs_to_its_subject(tmp_path: Path, login: Issuer):
    async with served(tmp_path, settings=settings_of(login)) as server, server.client(None) as client:
        headers = {"AUTHORIZATION": f"bearer {login.token(GOOD)}"}
        assert (await client.put(THING, json={"attributes": {"a": 1}}, headers=headers)).status_code == 201
        who = await client.get("/api/2/whoami", headers=headers)
        assert who.json() == {"defaultSubject": "ditto:user2", "subjects": ["ditto:user2"]}
        policy = await client.get("/api/2/policies/org.wind:t1", headers=headers)
        assert list(policy.json()["entries"]["DEFAULT"]["subjects"]) == ["ditto:user2"]
        other = await client.get(THING, headers=bearer(login.token({**GOOD, "sub": "user3"})))
        assert other.status_code == 404


@pytest.mark.parametrize(
    ("given", "status", "error"),
    [
        ("Bearer a.b", 400, "jwt:invalid"),
        ("Bearer", 400, "jwt:invalid"),
        ("Bearer eyJ.e30.x", 400, "jwt:invalid"),
        ("Bearer e30.e30.x", 400, "json.field.missing"),
        ("Bearer skerry_aaaaaaaaaa_" + "b" * 43, 401, "gateway:authentication.failed"),
        ("Digest x", 401, "gateway:authentication.failed"),
        ("Basic !!", 401, "gateway:authentication.failed"),
        ("", 401, "gateway:authentication.failed"),
    ],
)
async def test_what_is_no_login_is_refused_with_ditto_s_codes(
    tmp_path: Path, login: Issuer, given: str, status: int, error: str
):
    async with served(tmp_path, settings=settings_of(login)) as server, server.client(None) as client:
        answer = await client.get(THING, headers={"authorization": given})
        assert (answer.status_code, answer.json()["error"]) == (status, error)
        public = await client.get("/health", headers={"authorization": given})
        assert public.status_code == 200


async def test_tokens_that_are_not_good_are_refused_with_ditto_s_codes(tmp_path: Path, login: Issuer):
    wanted = {
        "gateway:authentication.failed": login.token({**GOOD, "exp": NOW - 60}),
        "gateway:jwt.issuer.notsupported": login.token({**GOOD, "iss": "https://elsewhere.example"}),
        "gateway:jwt.condition.failed": login.token({**GOOD, "scope": "none"}),
        "jwt:audience.invalid": login.token({**GOOD, "scope": "twin", "aud": ["x"]}),
    }
    entry = issuers.Issuer(
        issuer=login.url,
        prerequisite_conditions=("{{ jwt:scope | fn:filter('eq','twin') }}",),
        audience=("system-test",),
    )
    settings = structs.replace(settings_of(login), oidc_issuers={"ditto": entry})
    async with served(tmp_path, settings=settings) as server, server.client(None) as client:
        for error, token in wanted.items():
            answer = await client.get(THING, headers=bearer(token))
            assert answer.json()["error"] == error
            assert answer.status_code == (400 if error.startswith("jwt:") else 401)
        challenged = await client.get(THING, headers=bearer(wanted["gateway:authentication.failed"]))
        assert "expired" in challenged.json()["message"]
        assert challenged.headers["www-authenticate"].startswith("Basic realm")


async def test_an_issuer_that_is_down_is_told_apart_from_a_token_that_is_bad(tmp_path: Path):
    with issuer(tmp_path) as login:
        token = login.token(GOOD)
        login.stop()
        async with served(tmp_path, settings=settings_of(login)) as server, server.client(None) as client:
            answer = await client.get(THING, headers=bearer(token))
            assert (answer.status_code, answer.json()["error"]) == (503, "gateway:publickey.provider.unavailable")


async def test_a_token_is_no_parameter_of_plain_requests(tmp_path: Path, login: Issuer):
    token = login.token(GOOD)
    async with served(tmp_path, settings=settings_of(login)) as server, server.client(None) as client:
        assert (await client.get("/api/2/whoami", params={"access_token": token})).status_code == 401
        caller = await server.identities.identify({}, {"access_token": token})
        assert caller is not None
        assert caller.subjects == ("ditto:user2",)
        with pytest.raises(Exception, match="one of them"):
            await server.identities.identify(bearer(token), {"access_token": token})


async def test_a_pre_authenticated_request_has_the_subjects_that_the_proxy_says(tmp_path: Path):
    settings = structs.replace(Settings(), auth_pre_authenticated=True)
    async with served(tmp_path, settings=settings) as server, server.client(None) as client:
        name = "x-ditto-pre-authenticated"
        who = await client.get("/api/2/whoami", headers={name: "nginx:alice, group:blue,,"})
        assert who.json() == {"defaultSubject": "nginx:alice", "subjects": ["nginx:alice", "group:blue"]}
        assert (await client.get("/api/2/whoami", params={name: "nginx:bob"})).json()["subjects"] == ["nginx:bob"]
        both = await client.get("/api/2/whoami", params={name: "nginx:bob"}, headers={name: "nginx:alice"})
        assert (both.status_code, both.json()["error"]) == (400, "gateway:duplicate.header.field")
        for empty in ("", ","):
            assert (await client.get("/api/2/whoami", headers={name: empty})).status_code == 401
        operations = await client.get("/metrics", headers={name: "nginx:devops"})
        assert operations.status_code == 401
        as_devops = await client.get("/metrics", headers={name: "nginx:alice"}, auth=("devops", "devops"))
        assert as_devops.status_code == 200


async def test_the_header_of_a_proxy_counts_for_nothing_where_none_is_trusted(tmp_path: Path):
    async with served(tmp_path) as server, server.client(None) as client:
        for request in (
            {"headers": {"x-ditto-pre-authenticated": "nginx:a"}},
            {"params": {"x-ditto-pre-authenticated": "a:b"}},
        ):
            assert (await client.get("/api/2/whoami", **request)).status_code == 401


async def test_the_password_for_the_status_opens_the_status_only(tmp_path: Path):
    settings = structs.replace(Settings(), auth_status_password="status")
    async with served(tmp_path, settings=settings) as server, server.client(None) as client:
        status, devops, wrong = ("devops", "status"), ("devops", "devops"), ("devops", "other")
        for path in ("/status", "/overall/status", "/status/health", "/stats/things"):
            assert [(await client.get(path, auth=auth)).status_code for auth in (status, devops, wrong)] == [
                200,
                200,
                401,
            ]
            assert (await client.get(path, auth=("ditto", "ditto"))).status_code == 401
        for path in ("/devops/logging", "/metrics", "/api/2/things", "/api/2/connections"):
            assert (await client.get(path, auth=status)).status_code == 401
        assert (await client.get("/devops/logging", auth=devops)).status_code == 200
        assert (await client.get("/api/2/connections", auth=("ditto", "ditto"))).status_code == 401


async def test_subjects_of_tokens_may_operate_where_the_settings_say_so(tmp_path: Path, login: Issuer):
    settings = settings_of(login, auth_devops_subjects=("ditto:root",), auth_status_subjects=("ditto:watch",))
    async with served(tmp_path, settings=settings) as server, server.client(None) as client:
        codes = {}
        for sub in ("root", "watch", "user2"):
            headers = bearer(login.token({**GOOD, "sub": sub}))
            codes[sub] = [
                (await client.get(path, headers=headers)).status_code for path in ("/devops/logging", "/status")
            ]
        assert codes == {"root": [200, 200], "watch": [401, 200], "user2": [401, 401]}


async def test_an_api_token_is_good_until_it_is_revoked(tmp_path: Path):
    async with served(tmp_path) as server, server.client(None) as client:
        token = server.identities.tokens.create(["integration:weather", "group:services"])
        for request in ({"headers": bearer(token)}, {"auth": ("anybody", token)}):
            who = await client.get("/api/2/whoami", **request)
            assert who.json() == {
                "defaultSubject": "integration:weather",
                "subjects": ["integration:weather", "group:services"],
            }
        server.identities.tokens.revoke(token)
        refused = await client.get("/api/2/whoami", headers=bearer(token))
        assert (refused.status_code, refused.json()["error"]) == (401, "gateway:authentication.failed")
        assert (await client.get("/api/2/whoami", auth=("anybody", token))).status_code == 401


async def test_a_token_that_ends_is_refused_from_then_on(tmp_path: Path):
    async with served(tmp_path) as server, server.client(None) as client:
        token = server.identities.tokens.create(["a:b"], expires=START + 10 * SECOND)
        assert (await client.get("/api/2/whoami", headers=bearer(token))).status_code == 200
        while server.identities.clock() < START + 10 * SECOND:
            pass
        assert (await client.get("/api/2/whoami", headers=bearer(token))).status_code == 401
