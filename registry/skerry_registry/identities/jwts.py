"""JSON Web Tokens: taken apart with suspicion, verified with the issuer's key, made a caller."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence

import msgspec
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry
from msgspec import Struct

from skerry.signals import Clock, Json
from skerry.values import JsonFieldMissing
from skerry_registry.identities.caller import DEVOPS, STATUS, Caller
from skerry_registry.identities.issuers import Issuer, audiences, by_address
from skerry_registry.identities.keys import Fetch, Keys, PublicKey
from skerry_registry.identities.refusals import AuthenticationFailed, IssuerNotSupported, JwtInvalid

SECOND = 1_000_000
TOKEN_MAX = 16_384
PARTS = re.compile(r"[A-Za-z0-9_-]+")
NUMBER_MAX = 10**12
"""Seconds; a later end than that is a mistake, not a date."""


class Jwt(Struct, frozen=True):
    """A token taken apart; nothing of it is believed yet."""

    text: str
    header: dict[str, Json]
    claims: dict[str, Json]


def looks_like_one(token: str) -> bool:
    """Whether a password could be a token rather than a password."""
    return token.startswith("eyJ") and token.count(".") == 2


def read(text: str) -> Jwt:
    """Take a token apart. Raises JwtInvalid."""
    if len(text) > TOKEN_MAX:
        raise JwtInvalid(problem=f"it is longer than {TOKEN_MAX} characters")
    parts = text.split(".")
    if len(parts) != 3:
        raise JwtInvalid(problem=f"it has {len(parts)} parts, not three")
    return Jwt(text, _object(parts[0], "header"), _object(parts[1], "payload"))


def _object(part: str, what: str) -> dict[str, Json]:
    if not PARTS.fullmatch(part):
        raise JwtInvalid(problem=f"its {what} is not base64url")
    try:
        return msgspec.json.decode(urlsafe_b64decode(part + "=" * (-len(part) % 4)), type=dict[str, Json])
    except binascii.Error as error:
        raise JwtInvalid(problem=f"its {what} is not base64url") from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise JwtInvalid(problem=f"its {what} is no JSON object") from error


class Jwts:
    """Verifies the tokens of all issuers of the settings."""

    def __init__(
        self,
        issuers: Mapping[str, Issuer],
        clock: Clock,
        *,
        allow_http: bool = False,
        skew_seconds: int = 10,
        devops_subjects: Sequence[str] = (),
        status_subjects: Sequence[str] = (),
        changed: Callable[[], None] = lambda: None,
        fetch: Fetch | None = None,
    ) -> None:
        """`changed` is told when a key is withdrawn: what was verified with it must be verified again."""
        self.skew = skew_seconds * SECOND
        self._issuers = issuers
        self._names = by_address(issuers)
        self._clock = clock
        self._roles = ((DEVOPS, frozenset(devops_subjects)), (STATUS, frozenset(status_subjects)))
        self._keys = {
            address: Keys(address, allow_http=allow_http, changed=changed, fetch=fetch) for address in self._names
        }

    async def close(self) -> None:
        """Give up what is being fetched."""
        for keys in self._keys.values():
            await keys.close()

    async def verify(self, text: str) -> Caller:
        """Who a token stands for.

        Raises JwtInvalid, JsonFieldMissing, IssuerNotSupported, KeysUnavailable, AuthenticationFailed,
        JwtAudienceInvalid, ConditionFailed.
        """
        jwt = read(text)
        address, kid = _texts(jwt.claims, "iss", "payload"), _texts(jwt.header, "kid", "header")
        name = self._names.get(address)
        if name is None:
            raise IssuerNotSupported(issuer=address)
        self._check_header(jwt.header)
        key = await self._keys[address].find(kid)
        if key is None:
            raise AuthenticationFailed(reason=f"the issuer has no key '{kid}'")
        algorithm = jwt.header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in key.algorithms:
            raise AuthenticationFailed(reason=f"the issuer's key does not sign with '{algorithm}'")
        if not _signed(jwt.text, algorithm, key):
            raise AuthenticationFailed(reason="the signature of the token is not the issuer's")
        return self._caller(name, jwt.claims)

    @staticmethod
    def _check_header(header: dict[str, Json]) -> None:
        """Refuse what would change the meaning of the signature; keys in the token (jwk, jku, x5u) are not looked at."""
        for member in ("crit", "b64"):
            if member in header:
                raise AuthenticationFailed(reason=f"the token's header has '{member}', which is not understood here")

    def _caller(self, name: str, claims: dict[str, Json]) -> Caller:
        """The caller of a verified token."""
        now, skew = self._clock(), self.skew
        expires, begins, issued = (_seconds(claims, claim) for claim in ("exp", "nbf", "iat"))
        if expires is None:
            raise AuthenticationFailed(reason="the token has no exp, so it would never end")
        if now >= expires + skew:
            raise AuthenticationFailed(reason="the token has expired")
        if (begins is not None and now < begins - skew) or (issued is not None and now < issued - skew):
            raise AuthenticationFailed(reason="the token is not valid yet; compare the clocks of issuer and server")
        issuer = self._issuers[name]
        audiences(claims)
        issuer.check(claims)
        subjects = issuer.subjects(name, claims)
        if not subjects:
            raise AuthenticationFailed(reason="the token's claims make no subject")
        roles = tuple(role for role, named in self._roles if not named.isdisjoint(subjects))
        return Caller(subjects[0], subjects, roles, kind="jwt", claims=claims, expires=expires)


def _signed(text: str, algorithm: str, key: PublicKey) -> bool:
    """Whether the signature is the key's; the algorithm is one that the key allows."""
    signed, _, signature = text.rpartition(".")
    if not PARTS.fullmatch(signature):
        return False
    try:
        raw = urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        return JWSRegistry.algorithms[algorithm].verify(signed.encode(), raw, key.key)
    except (JoseError, ValueError):
        return False


def _texts(members: dict[str, Json], name: str, where: str) -> str:
    value = members.get(name)
    if value is None:
        raise JsonFieldMissing(name=name, at=f"the token's {where}")
    if not isinstance(value, str):
        raise JwtInvalid(problem=f"{name} in its {where} is no text")
    return value


def _seconds(claims: dict[str, Json], name: str) -> int | None:
    """A time of the claims in microseconds."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -NUMBER_MAX < value < NUMBER_MAX:
        raise JwtInvalid(problem=f"its claim {name} is no time in seconds")
    return int(value * SECOND)
