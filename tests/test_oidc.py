"""Tokens of an issuer that is a process of its own."""

from __future__ import annotations

import asyncio
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import OctKey, RSAKey
from joserfc.jws import JWSRegistry

from issuer import REGISTRY, Issuer, issuer
from skerry.errors import SkerryError
from skerry.signals import Micros
from skerry.values import JsonFieldMissing
from skerry_registry.identities import issuers
from skerry_registry.identities.jwts import Jwts
from skerry_registry.identities.keys import Keys, PublicKey
from skerry_registry.identities.logins import Identities
from skerry_registry.identities.refusals import (
    AuthenticationFailed,
    ConditionFailed,
    IssuerNotSupported,
    JwtAudienceInvalid,
    JwtInvalid,
    KeysUnavailable,
)
from skerry_registry.settings import Settings
from skerry_registry.users import TooManyRequests, Users

NOW = 1_800_000_000
GOOD: dict[str, Any] = {"iat": NOW, "nbf": NOW, "exp": NOW + 3600}


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    with issuer(tmp_path_factory.mktemp("issuer")) as process:
        yield process


def clock() -> Micros:
    return NOW * 1_000_000


def jwts_of(login: Issuer, **more: Any) -> Jwts:
    entry = issuers.Issuer(issuer=login.url, **more)
    return Jwts({"ditto": entry}, clock, allow_http=True, devops_subjects=["ditto:operator"])


async def refused(jwts: Jwts, token: str) -> SkerryError:
    with pytest.raises(SkerryError) as error:
        await jwts.verify(token)
    return error.value


def signed(key: RSAKey | OctKey, header: dict[str, Any], claims: dict[str, Any]) -> str:
    return jws.serialize_compact(header, json.dumps(claims), key, registry=REGISTRY)


def mac_signed(secret: bytes, *parts: dict[str, Any]) -> str:
    """By hand, for joserfc refuses to."""
    texts = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    mac = hmac.digest(secret, b".".join(texts), "sha256")
    return b".".join((*texts, urlsafe_b64encode(mac).rstrip(b"="))).decode()


@pytest.mark.parametrize("kid", ["rsa-1", "ec-1", "okp-1"])
async def test_a_token_makes_its_subject_a_caller_until_it_ends(login: Issuer, kid: str):
    caller = await jwts_of(login).verify(login.token(GOOD, kid=kid))
    assert (caller.name, caller.subjects, caller.kind) == ("ditto:user2", ("ditto:user2",), "jwt")
    assert caller.expires == (NOW + 3600) * 1_000_000
    assert caller.claims is not None
    assert caller.claims["aud"] == ["system-test"]
    assert not caller.roles


async def test_another_algorithm_of_the_same_key_is_taken(login: Issuer):
    assert await jwts_of(login).verify(login.token(GOOD, alg="PS256"))


async def test_a_list_in_a_claim_gives_several_subjects(login: Issuer):
    jwts = jwts_of(
        login, auth_subjects=("{{ jwt:sub }}", "{{ jwt:realm_access/roles }}", "{{ jwt:sub }}@{{ jwt:aud }}")
    )
    claims = {**GOOD, "realm_access": {"roles": ["operator", "reader", "operator"]}, "aud": ["a", "b"]}
    caller = await jwts.verify(login.token(claims))
    assert caller.subjects == ("ditto:user2", "ditto:operator", "ditto:reader", "ditto:user2@a", "ditto:user2@b")
    assert caller.roles == ("devops",)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": NOW - 11}, "expired"),
        ({"nbf": NOW + 12}, "not valid yet"),
        ({"iat": NOW + 12}, "not valid yet"),
        ({"exp": None}, "no exp"),
        ({"sub": []}, "no subject"),
    ],
)
async def test_a_token_out_of_its_time_is_refused(login: Issuer, claims: dict[str, Any], reason: str):
    claims = {name: value for name, value in {**GOOD, **claims}.items() if value is not None}
    error = await refused(jwts_of(login), login.token(claims))
    assert isinstance(error, AuthenticationFailed)
    assert reason in error.text


@pytest.mark.parametrize("claims", [{"exp": NOW - 9}, {"nbf": NOW + 9}, {"iat": NOW + 9.5}, {"exp": NOW + 0.5}])
async def test_clocks_may_differ_by_ten_seconds(login: Issuer, claims: dict[str, Any]):
    assert await jwts_of(login).verify(login.token({**GOOD, **claims}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a.b",
        "a.b.c.d",
        "..",
        "e30.e30",
        "ey!.e30.x",
        "W10.e30.x",
        "e30.bm90IGpzb24.x",
        "e30.e30=.x",
        "x" * 20_000,
        urlsafe_b64encode(b"[" * 9_000).decode() + ".e30.x",
    ],
)
async def test_a_text_that_is_no_token_is_told_so(login: Issuer, text: str):
    assert isinstance(await refused(jwts_of(login), text), JwtInvalid)


async def test_a_token_without_the_name_of_its_key_or_issuer_lacks_a_member(login: Issuer):
    header, claims = {"alg": "HS256"}, {**GOOD, "iss": login.url}
    secret = OctKey.generate_key(256)
    assert isinstance(await refused(jwts_of(login), signed(secret, header, claims)), JsonFieldMissing)
    assert isinstance(await refused(jwts_of(login), signed(secret, {**header, "kid": "x"}, GOOD)), JsonFieldMissing)
    wrong = signed(secret, {**header, "kid": "x"}, {**claims, "iss": ["a"]})
    assert isinstance(await refused(jwts_of(login), wrong), JwtInvalid)
    late = login.token({**GOOD, "exp": "tomorrow"})
    assert isinstance(await refused(jwts_of(login), late), JwtInvalid)


async def test_an_issuer_that_is_not_named_is_not_supported(login: Issuer):
    error = await refused(jwts_of(login), login.token({**GOOD, "iss": "https://elsewhere.example"}))
    assert isinstance(error, IssuerNotSupported)
    assert "https://elsewhere.example" in error.text


async def test_a_public_key_is_no_secret_to_sign_with(login: Issuer):
    jwk = next(key for key in login.get("jwks")["keys"] if key["kid"] == "rsa-1")
    claims = {**GOOD, "iss": login.url, "sub": "user2"}
    for secret in (RSAKey.import_key(jwk).as_pem(private=False), jwk["n"].encode(), json.dumps(jwk).encode()):
        forged = mac_signed(secret, {"alg": "HS256", "kid": "rsa-1"}, claims)
        error = await refused(jwts_of(login), forged)
        assert isinstance(error, AuthenticationFailed)
        assert "HS256" in error.text


async def test_a_token_without_a_signature_is_refused_whatever_it_calls_its_algorithm(login: Issuer):
    _, payload, signature = login.token(GOOD).split(".")
    for algorithm in ("none", "None", "NONE", "", None, 5, ["RS256"], {}, "RS256", "ES256", "HS256"):
        header = urlsafe_b64encode(json.dumps({"alg": algorithm, "kid": "rsa-1"}).encode()).decode().rstrip("=")
        for end in ("", signature, "AAAA"):
            error = await refused(jwts_of(login), f"{header}.{payload}.{end}")
            assert isinstance(error, AuthenticationFailed), (algorithm, end)


async def test_a_changed_claim_breaks_the_signature(login: Issuer):
    header, payload, signature = login.token(GOOD).split(".")
    claims = json.loads(urlsafe_b64decode(payload + "=="))
    claims["sub"] = "user1"
    changed = urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    error = await refused(jwts_of(login), f"{header}.{changed}.{signature}")
    assert isinstance(error, AuthenticationFailed)
    assert "signature" in error.text


async def test_a_key_that_comes_with_the_token_is_not_looked_at(login: Issuer):
    own = RSAKey.generate_key(2048)
    claims = {**GOOD, "iss": login.url, "sub": "user2"}
    for kid, more in (("rsa-1", {"jwk": own.as_dict(private=False)}), ("mine", {"jku": "http://127.0.0.1:1/jwks"})):
        forged = signed(own, {"alg": "RS256", "kid": kid, **more}, claims)
        assert isinstance(await refused(jwts_of(login), forged), AuthenticationFailed)


async def test_a_key_of_another_kind_or_purpose_signs_nothing(login: Issuer):
    jwts = jwts_of(login)
    for kid in ("secret-1", "short-1", "encrypting-1"):
        error = await refused(jwts, login.token(GOOD, kid=kid))
        assert isinstance(error, AuthenticationFailed)
        assert "no key" in error.text
    crossed = login.token(GOOD).split(".")
    header = urlsafe_b64encode(json.dumps({"alg": "RS256", "kid": "ec-1"}).encode()).decode().rstrip("=")
    error = await refused(jwts, ".".join((header, *crossed[1:])))
    assert "does not sign with 'RS256'" in error.text


async def test_a_header_that_must_be_understood_and_is_not_refuses_the_token(login: Issuer):
    header, payload, signature = login.token(GOOD).split(".")
    members = {**json.loads(urlsafe_b64decode(header + "==")), "crit": ["exp"]}
    critical = urlsafe_b64encode(json.dumps(members).encode()).decode().rstrip("=")
    error = await refused(jwts_of(login), f"{critical}.{payload}.{signature}")
    assert isinstance(error, AuthenticationFailed)
    assert "crit" in error.text


async def test_the_audience_must_be_one_of_those_wanted(login: Issuer):
    jwts = jwts_of(login, audience=("skerry", "twin"))
    assert await jwts.verify(login.token({**GOOD, "aud": ["other", "twin"]}))
    assert await jwts.verify(login.token({**GOOD, "aud": "skerry"}))
    for audience in ("other", [], 5, ["twin", 5]):
        error = await refused(jwts, login.token({**GOOD, "aud": audience}))
        assert isinstance(error, JwtAudienceInvalid), audience
    assert "skerry, twin" in error.payload()["description"] or "any text" in error.payload()["description"]


async def test_conditions_on_claims_must_hold(login: Issuer):
    jwts = jwts_of(login, prerequisite_conditions=("{{ jwt:scope | fn:filter('like','*twin*') }}", "{{ jwt:email }}"))
    assert await jwts.verify(login.token({**GOOD, "scope": "openid twin", "email": "a@b"}))
    for claims in ({"scope": "openid", "email": "a@b"}, {"scope": "twin"}, {"scope": "twin", "email": None}):
        assert isinstance(await refused(jwts, login.token({**GOOD, **claims})), ConditionFailed)


async def test_a_claim_that_is_null_makes_no_subject(login: Issuer):
    jwts = jwts_of(login, auth_subjects=("{{ jwt:sub }}", "{{ jwt:email }}", "{{ jwt:groups }}"))
    caller = await jwts.verify(login.token({**GOOD, "email": None, "groups": [None, "crew"]}))
    assert caller.subjects == ("ditto:user2", "ditto:crew")


async def test_keys_are_fetched_once_for_many_tokens_at_once(login: Issuer):
    jwts, before = jwts_of(login), login.asked
    tokens = [login.token({**GOOD, "sub": f"user{number}"}) for number in range(20)]
    callers = await asyncio.gather(*map(jwts.verify, tokens))
    assert len({caller.name for caller in callers}) == 20
    assert login.asked == before + 1


async def test_a_new_key_is_fetched_when_a_token_names_it_and_the_old_one_is_withdrawn(tmp_path: Path):
    seconds = [0.0]
    changes: list[float] = []
    with issuer(tmp_path) as login:
        keys = Keys(login.url, allow_http=True, changed=lambda: changes.append(seconds[0]), clock=lambda: seconds[0])
        assert await keys.find("rsa-1") is not None
        login.rotate()
        assert await keys.find("rsa-2") is None  # too soon after the fetch to believe the name
        asked = login.asked
        for number in range(50):
            assert await keys.find(f"invented-{number}") is None
        assert login.asked == asked
        seconds[0] += 6
        assert await keys.find("rsa-2") is not None
        assert changes == [6]
        assert await keys.find("rsa-1") is None


async def test_old_keys_are_fetched_anew_once_beside_the_requests_that_use_them(login: Issuer):
    seconds = [0.0]
    keys = Keys(login.url, allow_http=True, clock=lambda: seconds[0])
    first = await keys.find("rsa-1")
    seconds[0] += 4000
    before = login.asked
    for _ in range(20):
        assert await keys.find("rsa-1") is first
    assert await keys.find("invented") is None  # which waits for the fetch
    assert login.asked == before + 1


@pytest.mark.parametrize(
    "key",
    [
        5,
        {},
        {"kid": "x"},
        {"kid": "x", "kty": "RSA"},
        {"kid": "x", "kty": "RSA", "n": 5, "e": "AQAB"},
        {"kid": "x", "kty": "RSA", "n": "A" * 342, "e": "AQAB"},
        {"kid": "x", "kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
        {"kid": "x", "kty": "EC", "crv": "RSA", "x": "AAAA", "y": "AAAA"},
        {"kid": "x", "kty": "OKP", "crv": "Ed25519", "x": "!"},
        {"kid": "x", "kty": "oct", "k": "AAAA"},
        {"kid": "x", "kty": ["RSA"]},
        {"kid": "x", "kty": "RSA", "n": "A" * 342, "e": "AQAB", "key_ops": 5},
    ],
)
async def test_a_key_that_makes_no_sense_is_passed_over(key: Any):
    documents = {
        "https://x/.well-known/openid-configuration": {"jwks_uri": "https://x/jwks"},
        "https://x/jwks": {"keys": [key]},
    }
    keys = Keys("https://x", allow_http=False, fetch=lambda address: json.dumps(documents[address]).encode())
    found = await keys.find("x")
    assert found is None or not verifies(found)


def verifies(key: PublicKey) -> bool:
    """Whether the key takes any signature."""
    name = next(iter(key.algorithms))
    return bool(JWSRegistry.algorithms[name].verify(b"text", b"\0" * 256, key.key))


async def test_the_issuer_may_start_after_the_server_and_go_away_again(tmp_path: Path):
    with issuer(tmp_path, started=False) as login:
        seconds = [0.0]
        keys = Keys(login.url, allow_http=True, clock=lambda: seconds[0])
        with pytest.raises(KeysUnavailable) as error:
            await keys.find("rsa-1")
        assert error.value.status == 503
        login.start()
        seconds[0] += 0.1
        with pytest.raises(KeysUnavailable):
            await keys.find("rsa-1")  # it is not asked again at once
        seconds[0] += 0.2
        assert await keys.find("rsa-1") is not None
        login.stop()
        seconds[0] += 4000  # the keys are old, and cannot be had anew
        assert await keys.find("rsa-1") is not None
        await keys.close()
        assert await keys.find("rsa-1") is not None
        await keys.close()


@pytest.mark.parametrize("how", ["nonsense", "flood", "missing", "redirect"])
async def test_an_issuer_that_answers_anything_but_keys_is_not_available(tmp_path: Path, how: str):
    with issuer(tmp_path) as login:
        login.behave(how)
        assert isinstance(await refused(jwts_of(login), login.token(GOOD)), KeysUnavailable)


async def test_plain_http_is_not_spoken_unless_allowed(login: Issuer):
    jwts = Jwts({"ditto": issuers.Issuer(issuer=login.url)}, clock)
    before = login.asked
    assert isinstance(await refused(jwts, login.token(GOOD)), KeysUnavailable)
    assert login.asked == before
    problems = list(issuers.contradictions({"ditto": issuers.Issuer(issuer=login.url)}, allow_http=False))
    assert len(problems) == 1
    assert "plain http" in problems[0]


@pytest.mark.parametrize(
    ("name", "entry", "said"),
    [
        ("a:b", issuers.Issuer(issuer="https://x"), "colon"),
        ("a", issuers.Issuer(), "no issuer"),
        ("a", issuers.Issuer(issuer="ftp://x"), "no address"),
        ("a", issuers.Issuer(issuer="https://x?y=z"), "no address"),
        ("a", issuers.Issuer(issuer="https://x", auth_subjects=()), "nobody could log in"),
        ("a", issuers.Issuer(issuer="https://x", auth_subjects=("{{ jwt:sub",)), "not written"),
        ("a", issuers.Issuer(issuer="https://x", auth_subjects=("{{ thing:id }}",)), "thing:id"),
        ("a", issuers.Issuer(issuer="https://x", prerequisite_conditions=("{{ jwt:a | fn:nothing() }}",)), "function"),
    ],
)
def test_what_cannot_work_is_said_before_the_start(name: str, entry: issuers.Issuer, said: str):
    problems = list(issuers.contradictions({name: entry}, allow_http=False))
    assert len(problems) == 1
    assert said in problems[0]


def test_an_issuer_written_without_scheme_is_meant_with_https():
    names = issuers.by_address({"google": issuers.Issuer(issuers=("accounts.google.com",))})
    assert names == {"accounts.google.com": "google", "https://accounts.google.com": "google"}
    assert (
        issuers.discovery_of("accounts.google.com/") == "https://accounts.google.com/.well-known/openid-configuration"
    )


async def test_a_verified_token_is_remembered_until_it_ends(login: Issuer, tmp_path: Path):

    settings = Settings(
        data_dir=str(tmp_path), oidc_issuers={"ditto": issuers.Issuer(issuer=login.url)}, oidc_allow_http=True
    )
    ends = [clock()]
    async with Identities.of(settings, Users(tmp_path / "none.json"), lambda: ends[0]) as identities:
        given = {"authorization": f"Bearer {login.token(GOOD)}"}
        first = await identities.identify(given)
        assert await identities.identify(given) is first
        assert given["authorization"] not in repr(vars(identities))
        ends[0] += 3_611_000_000
        with pytest.raises(AuthenticationFailed, match="expired"):
            await identities.identify(given)


async def test_a_token_may_be_the_password_of_a_login_that_lasts_as_long_as_the_token(login: Issuer, tmp_path: Path):
    settings = Settings(
        data_dir=str(tmp_path), oidc_issuers={"ditto": issuers.Issuer(issuer=login.url)}, oidc_allow_http=True
    )
    now = [clock()]
    async with Identities.of(settings, Users(tmp_path / "none.json"), lambda: now[0]) as identities:
        session = await identities.verify("any name", login.token(GOOD))
        assert session is not None
        assert session.caller.subjects == ("ditto:user2",)
        assert session.holds()
        now[0] += 3_601_000_000
        assert not session.holds()
        assert await identities.verify("any name", login.token({**GOOD, "iss": "https://elsewhere"})) is None


async def test_a_flood_of_bad_tokens_is_slowed_and_a_known_one_goes_on(login: Issuer, tmp_path: Path):
    settings = Settings(
        data_dir=str(tmp_path), oidc_issuers={"ditto": issuers.Issuer(issuer=login.url)}, oidc_allow_http=True
    )
    async with Identities.of(settings, Users(tmp_path / "none.json"), clock) as identities:
        good = {"authorization": f"Bearer {login.token(GOOD)}"}
        assert await identities.identify(good, None, "10.0.0.1")
        late = {"authorization": f"Bearer {login.token({**GOOD, 'exp': NOW - 60})}"}
        for _ in range(500):
            with pytest.raises(AuthenticationFailed, match="expired"):
                await identities.identify(late, None, "10.0.0.1")
        refusals: list[type[Exception]] = []
        for number in range(10_000):
            try:
                await identities.identify({"authorization": f"Bearer e30.e30.{number}"}, None, "10.0.0.1")
            except SkerryError as error:
                refusals.append(type(error))
                if isinstance(error, TooManyRequests):
                    break
        assert refusals[:199] == [JsonFieldMissing] * 199
        assert refusals[-1] is TooManyRequests
        assert await identities.identify(good, None, "10.0.0.1")
        other = {"authorization": f"Bearer {login.token({**GOOD, 'sub': 'user3'})}"}
        assert await identities.identify(other, None, "10.0.0.2")
