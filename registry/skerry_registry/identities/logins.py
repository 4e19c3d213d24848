"""Everybody who may log in, in whatever way: users, API tokens, tokens of OpenID Connect, a proxy that has asked already."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from msgspec import Struct

from skerry.errors import SkerryError
from skerry.signals import Clock
from skerry_registry.identities import jwts
from skerry_registry.identities.bounded import keep
from skerry_registry.identities.caller import DEVOPS, STATUS, Caller
from skerry_registry.identities.jwts import Jwts
from skerry_registry.identities.refusals import AuthenticationFailed, KeysUnavailable
from skerry_registry.identities.throttle import Throttle
from skerry_registry.identities.tokens import ApiTokens
from skerry_registry.settings import Settings, tokens_path
from skerry_registry.users import TooManyRequests, Users

log = logging.getLogger(__name__)

PRE_AUTHENTICATED = "x-ditto-pre-authenticated"
ACCESS_TOKEN = "access_token"  # noqa: S105 - a parameter's name
KNOWN_MAX = 10_000
"""Tokens that are remembered: as many that were verified, and as many that were no good."""
GARBAGE_BURST, GARBAGE_PER_SECOND = 200, 20.0
"""New tokens of one address that are looked at although the ones before were no good; an old one that comes again is not new."""


class Session(Struct, frozen=True):
    """A login that lasts: who it is, and whether it would still be granted."""

    caller: Caller
    holds: Callable[[], bool]


class Identities:
    """Who asks. Enter to use, leave to give up what is being fetched from issuers.

    A login that was verified is remembered under a keyed hash: for a token until it ends or its key is withdrawn, for a
    password until the users change.
    """

    def __init__(
        self,
        users: Users,
        tokens: ApiTokens,
        jwts: Jwts,
        clock: Clock,
        *,
        trust_pre_authenticated: bool = False,
        status_password: str | None = None,
    ) -> None:
        """`status_password`: with it, the user devops may see the status and nothing else."""
        self.users = users
        self.tokens = tokens
        self.jwts = jwts
        self.clock = clock
        self._trust = trust_pre_authenticated
        self._status = status_password
        self._known: dict[bytes, Caller] = {}
        self._refused: dict[bytes, None] = {}
        self._garbage = Throttle(GARBAGE_BURST, GARBAGE_PER_SECOND)

    @classmethod
    def of(cls, settings: Settings, users: Users, clock: Clock) -> Self:
        """Those of the settings."""

        def withdrawn() -> None:
            identities._known.clear()

        identities = cls(
            users,
            ApiTokens(tokens_path(settings), clock),
            Jwts(
                settings.oidc_issuers,
                clock,
                allow_http=settings.oidc_allow_http,
                skew_seconds=settings.oidc_clock_skew,
                devops_subjects=settings.auth_devops_subjects,
                status_subjects=settings.auth_status_subjects,
                changed=withdrawn,
            ),
            clock,
            trust_pre_authenticated=settings.auth_pre_authenticated,
            status_password=settings.auth_status_password,
        )
        return identities

    async def __aenter__(self) -> Self:
        """Nothing is fetched before it is needed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give up what is being fetched."""
        await self.jwts.close()

    async def identify(
        self, headers: Mapping[str, str], query: Mapping[str, str] | None = None, address: str = ""
    ) -> Caller | None:
        """Who asks, by lower-case headers; None for nobody.

        `query`: the parameters, where a token may come in one (`access_token`: the WebSocket's upgrade, for browsers cannot
        set its headers). Raises what `Jwts.verify` does, AuthenticationFailed for a token that is not in force, TooManyRequests.
        """
        if self._trust and (trusted := headers.get(PRE_AUTHENTICATED)):
            subjects = tuple(subject.strip() for subject in trusted.split(",") if subject.strip())
            if subjects:
                return Caller(subjects[0], subjects, kind="pre-authenticated")
        given = headers.get("authorization")
        parameter = None if query is None else query.get(ACCESS_TOKEN)
        if parameter is not None:
            if given is not None and given[:7].lower() == "bearer ":
                raise AuthenticationFailed(reason="a token came as header and as parameter; send one of them")
            given = f"Bearer {parameter}"
        return None if given is None else await self.authorize(given, address)

    async def operator(self, headers: Mapping[str, str], address: str = "") -> Caller | None:
        """Who asks for operations: what a proxy says does not count here. Raises as `identify`."""
        given = headers.get("authorization")
        return None if given is None else await self.authorize(given, address)

    async def observer(self, headers: Mapping[str, str], address: str = "") -> Caller | None:
        """Who asks for the server's status: an operator, or devops with the password for that. Raises as `identify`."""
        given = headers.get("authorization")
        if given is not None and self._status and (caller := self._status_user(given, self._status, address)):
            return caller
        return await self.operator(headers, address)

    async def authorize(self, given: str, address: str = "") -> Caller | None:
        """Who an Authorization header stands for. Raises as `identify`."""
        key = self.users.key(given.encode("utf-8", "surrogatepass"))
        caller = self._known.get(key)
        if caller is not None and caller.expires is not None:
            if self.clock() < caller.expires + self.jwts.skew:
                return caller
            del self._known[key]
        if (caller := self.users.known(key, address)) is not None:
            return caller
        scheme, _, text = given.partition(" ")
        if scheme.lower() == "bearer":
            return await self._bearer(text.strip(), key, address)
        login = _basic(scheme, text)
        if login is None:
            return None
        name, password = login
        if (caller := self.tokens.find(password)) is not None:
            return caller
        return await self.users.verify(name, password, address, alias=key)

    async def verify(self, name: str, password: str, address: str = "") -> Session | None:
        """A login with name and password that lasts, as over MQTT: a user's, or any name with a token for a password."""
        if (caller := self.tokens.find(password)) is not None:
            return self.lasting(caller)
        if jwts.looks_like_one(password):
            try:
                caller = await self._bearer(password, self.users.key(b"Bearer " + password.encode()), address)
            except SkerryError as error:
                log.warning("login refused", extra={"user": name, "reason": error.text})
                return None
            return self.lasting(caller)
        before = self.users.entry(name)
        try:
            verified = await self.users.verify(name, password, address, bounded=False)
        except TooManyRequests as error:
            log.warning("login refused", extra={"user": name, "reason": error.facts["reason"]})
            return None
        return None if verified is None else Session(verified, lambda: self.users.entry(name) == before)

    def lasting(self, caller: Caller) -> Session:
        """A login of this moment as one that lasts: until the token ends or is revoked, or the user becomes another."""
        if caller.kind == "token":
            token, tokens = caller.name.removeprefix("token:"), self.tokens
            return Session(caller, lambda: tokens.holds(token))
        if caller.kind == "jwt":
            ends, clock = caller.expires or 0, self.clock
            return Session(caller, lambda: clock() < ends)
        if caller.kind == "basic":
            users, name = self.users, caller.name
            before = users.entry(name)
            return Session(caller, lambda: users.entry(name) == before)
        return Session(caller, lambda: True)

    async def _bearer(self, token: str, key: bytes, address: str) -> Caller:
        """Who a token stands for: one of our own, or an issuer's."""
        if token.startswith("skerry_"):
            if (caller := self.tokens.find(token)) is None:
                raise AuthenticationFailed(reason="the token is not known, has ended or was revoked")
            return caller
        new = key not in self._refused
        if new and not self._garbage.take(address):
            raise TooManyRequests(reason="too many tokens were no good", headers={"retry-after": "1"})
        try:
            caller = await self.jwts.verify(token)
        except KeysUnavailable:  # which says nothing of the token
            if new:
                self._garbage.give_back(address)
            raise
        except SkerryError:
            keep(self._refused, key, None, KNOWN_MAX)
            raise
        if new:
            self._garbage.give_back(address)
        keep(self._known, key, caller, KNOWN_MAX)
        return caller

    def _status_user(self, given: str, wanted: str, address: str) -> Caller | None:
        """The user devops with the password for the status; a wrong one is a guess at his own as well."""
        scheme, _, text = given.partition(" ")
        login = _basic(scheme, text)
        if login is None or login[0] != DEVOPS:
            return None
        if not hmac.compare_digest(login[1].encode(), wanted.encode()):
            return None
        self.users.let_in(DEVOPS, address)
        return Caller(DEVOPS, (f"{self.users.prefix}{DEVOPS}",), (STATUS,))


def _basic(scheme: str, text: str) -> tuple[str, str] | None:
    """Name and password of HTTP Basic; None for anything else."""
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, password) if colon else None
