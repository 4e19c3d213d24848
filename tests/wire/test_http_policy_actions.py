"""Token integration over HTTP: a caller with a token lets a subject into a policy, or out again."""

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

NOW = START // 1_000_000
P = "/api/2/policies/a:p"
ACTIVATE, DEACTIVATE = "actions/activateTokenIntegration", "actions/deactivateTokenIntegration"
OWNER: dict[str, Any] = {
    "subjects": {"nginx:ditto": {"type": "t"}},
    "resources": {"policy:/": {"grant": ["READ", "WRITE"], "revoke": []}},
}
BODY = {"announcement": {"beforeExpiry": "5m", "whenDeleted": True, "requestedAcks": {"labels": ["l:l"]}}}


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    with issuer(tmp_path_factory.mktemp("issuer")) as process:
        yield process


def settings_of(login: Issuer) -> Settings:
    return structs.replace(
        Settings(),
        oidc_issuers={"ditto": issuers.Issuer(issuer=login.url)},
        oidc_allow_http=True,
        token_integration_subject="integration:{{policy-entry:label}}:{{jwt:sub}}:{{jwt:aud}}",
    )


def entry(*, read: bool = True, execute: bool = True, label: str = "one") -> dict[str, Any]:
    resources = {}
    if read:
        resources["thing:/attributes"] = {"grant": ["READ"], "revoke": []}
    if execute:
        resources[f"policy:/entries/{label}/actions"] = {"grant": ["EXECUTE"], "revoke": []}
    return {"subjects": {"ditto:user2": {"type": "t"}}, "resources": resources}


def bearer(login: Issuer, **claims: Any) -> dict[str, str]:
    token = login.token({"iat": NOW, "nbf": NOW, "exp": NOW + 3600, **claims})
    return {"authorization": f"Bearer {token}"}


async def test_a_token_lets_in_and_out_where_it_may(tmp_path: Path, login: Issuer):
    entries = {"owner": OWNER, "one": entry(), "two": entry(label="two"), "deaf": entry(execute=False, label="deaf")}
    async with served(tmp_path, settings=settings_of(login)) as server, server.client() as ditto:
        assert (await ditto.put(P, json={"entries": entries})).status_code == 201
        async with server.client(None) as client:
            user = bearer(login, aud=["a", "b"])

            async def subjects(label: str) -> dict[str, Any]:
                found: dict[str, Any] = (await ditto.get(f"{P}/entries/{label}/subjects")).json()
                return {subject: facts for subject, facts in found.items() if subject.startswith("integration:")}

            done = await client.post(f"{P}/entries/one/{ACTIVATE}", json=BODY, headers=user)
            assert (done.status_code, done.content) == (204, b""), done.text
            assert "etag" not in done.headers
            found = await subjects("one")
            assert set(found) == {"integration:one:user2:a", "integration:one:user2:b"}
            assert found["integration:one:user2:a"]["announcement"]["whenDeleted"] is True
            assert found["integration:one:user2:a"]["expiry"] == "2023-11-15T00:00:00Z"  # rounded up to the hour
            assert await subjects("two") == {}
            assert (await client.post(f"{P}/{ACTIVATE}", headers=user)).status_code == 204
            assert set(await subjects("two")) == {"integration:two:user2:a", "integration:two:user2:b"}
            assert "announcement" not in (await subjects("one"))["integration:one:user2:a"]
            assert await subjects("deaf") == {}
            assert (await client.post(f"{P}/entries/one/{DEACTIVATE}", headers=user)).status_code == 204
            assert await subjects("one") == {}
            assert (await client.post(f"{P}/{DEACTIVATE}/", headers=user)).status_code == 204
            assert await subjects("two") == {}
            assert (await client.post(f"{P}/{DEACTIVATE}", headers=user)).status_code == 204


async def test_actions_are_refused_with_ditto_s_codes(tmp_path: Path, login: Issuer):
    entries = {"owner": OWNER, "one": entry(), "blind": entry(read=False, label="blind"), "deaf": entry(execute=False)}
    async with served(tmp_path, settings=settings_of(login)) as server, server.client() as ditto:
        await ditto.put(P, json={"entries": entries})
        async with server.client(None) as client:
            user, stranger = bearer(login), bearer(login, sub="user3")
            for caller, path, status, error in (
                (None, f"{P}/{ACTIVATE}", 400, "policies:action.failed"),
                (None, f"{P}/entries/one/{DEACTIVATE}", 400, "policies:action.failed"),
                (user, f"{P}/entries/deaf/{ACTIVATE}", 403, "policies:action.failed"),
                (stranger, f"{P}/{ACTIVATE}", 403, "policies:action.failed"),
                (stranger, f"{P}/entries/one/{DEACTIVATE}", 403, "policies:action.failed"),
                (user, f"{P}/entries/blind/{ACTIVATE}", 404, "policies:action.failed"),
                (user, "/api/2/policies/a:none/" + ACTIVATE, 404, "policies:policy.notfound"),
                (bearer(login, aud=[]), f"{P}/{ACTIVATE}", 400, "policies:action.failed"),
            ):
                answer = await (ditto if caller is None else client).post(path, headers=caller or {})
                assert (answer.status_code, answer.json()["error"]) == (status, error), (path, answer.text)
            assert (await client.post(f"{P}/entries/blind/{DEACTIVATE}", headers=user)).status_code == 204
            assert (await client.get(f"{P}/{ACTIVATE}", headers=user)).status_code == 405
            assert (await client.post(f"{P}/actions/other", headers=user)).status_code == 404
            broken = await client.post(f"{P}/entries/one/{ACTIVATE}", content=b"{", headers=user)
            assert (broken.status_code, broken.json()["error"]) == (400, "json.invalid")
            wrong = {"announcement": {"beforeExpiry": "soon"}}
            answer = await client.post(f"{P}/entries/one/{ACTIVATE}", json=wrong, headers=user)
            assert (answer.status_code, answer.json()["error"]) == (400, "policies:subjectannouncement.invalid")
