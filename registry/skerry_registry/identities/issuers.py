"""Issuers of OpenID Connect as the settings name them: whose tokens are taken, and which subjects their claims make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from msgspec import Struct

from skerry.signals import Json
from skerry_registry.identities.claims import problems_of, values_of
from skerry_registry.identities.refusals import ConditionFailed, JwtAudienceInvalid

SUBJECTS_MAX = 500
"""Subjects that one token may stand for."""


class Issuer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the settings. `issuer` or `issuers`: the `iss` of tokens, the address of the discovery document.

    `auth_subjects`: templates of the subjects; the entry's name and a colon are put before them. `audience`: one of these
    must be in `aud`, where any are given. `prerequisite_conditions`: templates that must not come to nothing.
    """

    issuer: str = ""
    issuers: tuple[str, ...] = ()
    auth_subjects: tuple[str, ...] = ("{{ jwt:sub }}",)
    audience: tuple[str, ...] = ()
    prerequisite_conditions: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every `iss` that is meant."""
        return (self.issuer, *self.issuers) if self.issuer else self.issuers

    def check(self, claims: dict[str, Json]) -> None:
        """Raise JwtAudienceInvalid or ConditionFailed unless the claims are those of a token for us."""
        given = audiences(claims)
        if self.audience and not set(given) & set(self.audience):
            shown = ", ".join(given) or "nobody"
            raise JwtAudienceInvalid(problem=f"its audience is {shown}", wanted=", ".join(self.audience))
        for condition in self.prerequisite_conditions:
            if not values_of(condition, claims):
                raise ConditionFailed

    def subjects(self, name: str, claims: dict[str, Json]) -> tuple[str, ...]:
        """The subjects that the claims make, without repetition."""
        found: dict[str, None] = {}
        for template in self.auth_subjects:
            for value in values_of(template, claims):
                if value and len(found) < SUBJECTS_MAX:
                    found[f"{name}:{value}"] = None
        return tuple(found)


def audiences(claims: Mapping[str, Json]) -> list[str]:
    """The `aud` claim as a list. Raises JwtAudienceInvalid."""
    given = claims.get("aud", [])
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or not all(isinstance(value, str) for value in given):
        raise JwtAudienceInvalid(problem="its claim aud is neither a text nor a list of texts", wanted="any text")
    return given


def by_address(issuers: Mapping[str, Issuer]) -> dict[str, str]:
    """`iss` of a token -> name of its issuer. One written without scheme is meant with https, and as it is written."""
    found: dict[str, str] = {}
    for name, issuer in issuers.items():
        for address in issuer.addresses:
            found.setdefault(address, name)
            if "://" not in address:
                found.setdefault(f"https://{address}", name)
    return found


def discovery_of(address: str) -> str:
    """Where an issuer tells about itself."""
    base = address if "://" in address else f"https://{address}"
    return base.rstrip("/") + "/.well-known/openid-configuration"


def contradictions(
    issuers: Mapping[str, Issuer], *, allow_http: bool, reserved: Mapping[str, str] = MappingProxyType({})
) -> Iterator[str]:
    """One line for everything that cannot work. `reserved`: what begins the subjects of others -> who they are."""
    owner: dict[str, str] = {}
    for name, issuer in issuers.items():
        where = f"oidc_issuers, {name}"
        if ":" in name or not name.strip():
            yield f"{where}: the name stands before the subjects, name:sub, and may not be empty or hold a colon."
        if name in reserved:
            yield (
                f"{where}: its subjects would begin as those of {reserved[name]} do, so its tokens could pass for them; "
                "give it another name, such as keycloak."
            )
        if not issuer.addresses:
            yield f'{where}: there is no issuer; write issuer = "https://login.example.org/realms/wind".'
        if not issuer.auth_subjects:
            yield f'{where}: auth_subjects is empty, so nobody could log in; leave it out for "{{{{ jwt:sub }}}}".'
        for address in issuer.addresses:
            if owner.setdefault(address, name) != name:
                yield f"{where}: {address} is also an issuer of {owner[address]}; keep it in one."
            yield from (f"{where}: {problem}" for problem in _address_problems(address, allow_http=allow_http))
        for template in (*issuer.auth_subjects, *issuer.prerequisite_conditions):
            yield from (f"{where}: {problem}" for problem in problems_of(template, ("jwt",)))


def _address_problems(address: str, *, allow_http: bool) -> Iterator[str]:
    try:
        parts = urlsplit(address if "://" in address else f"https://{address}")
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        yield f"'{address}' is no address of an issuer; write https://host/path."
    elif parts.scheme == "http" and not allow_http:
        yield f"'{address}' is plain http, where anybody between could forge keys; use https, or set oidc_allow_http."
