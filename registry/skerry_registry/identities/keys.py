"""The public keys of one issuer: fetched when they are needed, kept, fetched again when a token names one that is new."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec
import urllib3
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey
from msgspec import Struct

from skerry.signals import Json
from skerry_registry.aside import aside
from skerry_registry.identities.issuers import discovery_of
from skerry_registry.identities.refusals import KeysUnavailable

log = logging.getLogger(__name__)

DOCUMENT_MAX = 1_048_576
"""Bytes of a document of an issuer."""
CONNECT_SECONDS, READ_SECONDS, FETCH_SECONDS = 3.0, 5.0, 10.0
FRESH_SECONDS = 3600.0
"""How long keys are used without asking whether they are still the issuer's."""
UNKNOWN_SECONDS = 5.0
"""How long after a fetch a key that was not there is not asked for again: strangers invent names of keys."""
BACKOFF_FIRST, BACKOFF_MOST = 0.25, 5.0
RSA_DIGITS = (342, 1366)
"""base64url digits of the modulus of an RSA key: 2,048 to 8,192 bits."""
ALGORITHMS = {
    "RSA": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
    "P-256": {"ES256"},
    "P-384": {"ES384"},
    "P-521": {"ES512"},
    "Ed25519": {"EdDSA", "Ed25519"},
}

Fetch = Callable[[str], bytes]


class Unfetched(Exception):  # noqa: N818 - a fact for the log; the caller gets KeysUnavailable
    """Why a document of the issuer could not be had."""


class PublicKey(Struct, frozen=True, eq=False):
    """A key and the algorithms that its signatures may name."""

    key: RSAKey | ECKey | OKPKey
    algorithms: frozenset[str]


class Keys:
    """The keys of one issuer. Old ones serve on while the issuer is away."""

    def __init__(
        self,
        issuer: str,
        *,
        allow_http: bool,
        changed: Callable[[], None] = lambda: None,
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`changed` is told when a key is gone or is another; `clock` counts seconds."""
        self.issuer = issuer
        self._discovery = discovery_of(issuer)
        self._allow_http = allow_http
        self._changed = changed
        self._fetch = fetch or Web().fetch
        self._clock = clock
        self._keys: dict[str, PublicKey] = {}
        self._have = False
        self._failures = 0
        self._next = 0.0
        self._fetched = 0.0
        self._fetching: asyncio.Task[bool] | None = None

    async def find(self, kid: str) -> PublicKey | None:
        """The key of that id; asks the issuer where it is not known. Raises KeysUnavailable."""
        found = self._keys.get(kid)
        now = self._clock()
        if found is not None:
            if now - self._fetched > FRESH_SECONDS:
                self._begin(now)
            return found
        self._begin(now)
        if self._fetching is not None:
            await asyncio.shield(self._fetching)
            found = self._keys.get(kid)
        if found is None and (not self._have or self._failures):
            raise KeysUnavailable(issuer=self.issuer, headers={"retry-after": "5"})
        return found

    async def close(self) -> None:
        """Give up a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    def _begin(self, now: float) -> None:
        """Ask the issuer, unless that is being done or was done just now."""
        if self._fetching is not None or now < self._next:
            return
        self._fetching = asyncio.create_task(self._refresh(), name=f"keys of {self.issuer}")

    async def _refresh(self) -> bool:
        """Fetch the keys; whether that worked."""
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys = await aside("issuer", self._load)
        except (Unfetched, TimeoutError) as error:
            self._failures += 1
            self._next = self._clock() + min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** min(self._failures - 1, 10))
            reason = str(error) or f"no answer within {FETCH_SECONDS:.0f} s"
            log.warning("keys of an issuer not fetched", extra={"issuer": self.issuer, "reason": reason})
            return False
        else:
            gone = any(not _same(keys.get(kid), key) for kid, key in self._keys.items())
            self._keys, self._have, self._failures = keys, True, 0
            self._fetched = self._clock()
            self._next = self._fetched + UNKNOWN_SECONDS
            log.info("keys of an issuer fetched", extra={"issuer": self.issuer, "keys": len(keys)})
            if gone:
                self._changed()
            return True
        finally:
            self._fetching = None

    def _load(self) -> dict[str, PublicKey]:
        """Ask the issuer where its keys are, and get them; in a thread."""
        about = self._document(self._discovery)
        address = about.get("jwks_uri")
        if not isinstance(address, str):
            raise Unfetched(f"{self._discovery} names no jwks_uri")
        if about.get("issuer", self.issuer) != self.issuer:
            log.warning("issuer calls itself otherwise", extra={"issuer": self.issuer, "itself": about["issuer"]})
        found = self._document(address).get("keys")
        if not isinstance(found, list):
            raise Unfetched(f"{address} has no list of keys")
        return dict(filter(None, map(_read, found)))

    def _document(self, address: str) -> dict[str, Json]:
        if not address.startswith(("https://", "http://") if self._allow_http else "https://"):
            raise Unfetched(f"{address} is not https, and oidc_allow_http is not set")
        try:
            return msgspec.json.decode(self._fetch(address), type=dict[str, Json])
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise Unfetched(f"{address} answers with something that is no JSON object") from error


def _same(one: PublicKey | None, other: PublicKey) -> bool:
    return one is not None and one.algorithms == other.algorithms and one.key.thumbprint() == other.key.thumbprint()


def _read(value: Json) -> tuple[str, PublicKey] | None:
    """A key of the list with its id; None for what verifies no signatures."""
    if not isinstance(value, dict) or not isinstance(kid := value.get("kid"), str):
        return None
    operations = value.get("key_ops", ["verify"])
    if value.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    public = {name: text for name, text in value.items() if name in {"kty", "crv", "n", "e", "x", "y"}}
    try:
        algorithms = _algorithms(public)
        key = JWKRegistry.import_key(public) if algorithms else None
    except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("key of an issuer not understood", extra={"kid": kid, "reason": str(error)})
        return None
    if "alg" in value:
        algorithms &= {value["alg"]} if isinstance(value["alg"], str) else set()
    if not algorithms or not isinstance(key, RSAKey | ECKey | OKPKey):
        return None
    return kid, PublicKey(key, frozenset(algorithms))


def _algorithms(public: dict[str, Json]) -> set[str]:
    """What a key of this kind can sign with; a secret one (HS256), a short or a huge one, nothing."""
    if public.get("kty") == "RSA":
        least, most = RSA_DIGITS
        return ALGORITHMS["RSA"] if least <= len(public["n"].rstrip("=")) <= most else set()
    if public.get("kty") in {"EC", "OKP"}:
        return ALGORITHMS.get(str(public.get("crv")), set())
    return set()


class Web:
    """Documents of issuers over HTTP: no redirects, bounded in time and size."""

    def __init__(self) -> None:
        """Connections are kept for a while."""
        self._pool = urllib3.PoolManager(
            num_pools=4,
            maxsize=1,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            headers={"accept": "application/json", "connection": "close", "user-agent": "skerry"},
        )

    def fetch(self, address: str) -> bytes:
        """The body of a 200. Raises Unfetched."""
        began = time.monotonic()
        try:
            response = self._pool.request("GET", address, preload_content=False, redirect=False)
            try:
                if response.status != 200:
                    raise Unfetched(f"{address} answers with {response.status}")
                body = b""
                while part := response.read1(65_536):
                    body += part
                    if len(body) > DOCUMENT_MAX or time.monotonic() - began > FETCH_SECONDS:
                        raise Unfetched(f"{address} answers with too much or too slowly")
                return body
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Unfetched(f"{address}: {type(error).__name__}: {error}") from error
