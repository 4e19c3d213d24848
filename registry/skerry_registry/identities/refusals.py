# ruff: noqa: N818 - errors are rows of a table
"""Why somebody is not let in."""

from __future__ import annotations

from skerry.errors import SkerryError


class AuthenticationFailed(SkerryError):
    """Nobody, or somebody whose password or token is wrong."""

    code = "gateway:authentication.failed"
    status = 401
    message = "You are not logged in as anybody this server knows{reason}."
    description = (
        "Send a user name and password with HTTP Basic, or a token as `Authorization: Bearer`. "
        "`skerry user add NAME` makes a user, `skerry token create` a token."
    )

    def __init__(self, *, reason: str = "", headers: dict[str, str] | None = None, **facts: str) -> None:
        """`reason`: what is wrong with what was sent, where that may be told."""
        super().__init__(headers=headers, reason=f": {reason}" if reason else "", **facts)


class JwtInvalid(SkerryError):
    """A text that is no JSON Web Token."""

    code = "jwt:invalid"
    status = 400
    message = "The JSON Web Token cannot be read: {problem}."
    description = "Send header, payload and signature, each base64url, with dots between: `Authorization: Bearer eyJ…`."


class JwtAudienceInvalid(SkerryError):
    """A token that was made for somebody else."""

    code = "jwt:audience.invalid"
    status = 400
    message = "The token is not meant for this server: {problem}."
    description = "Ask the issuer for a token with one of these audiences: {wanted}."


class IssuerNotSupported(SkerryError):
    """A token of an issuer that the settings do not name."""

    code = "gateway:jwt.issuer.notsupported"
    status = 401
    message = "Tokens of the issuer '{issuer}' are not taken here."
    description = "Use another issuer, or have this one added to the settings: `[oidc.issuers.NAME]` with `issuer`."


class ConditionFailed(SkerryError):
    """A good token that does not fulfil what the settings ask of one."""

    code = "gateway:jwt.condition.failed"
    status = 401
    message = "The token does not fulfil a condition that this server sets for its issuer."
    description = "Ask the issuer for a token with the claims that are needed; the operator knows which."


class KeysUnavailable(SkerryError):
    """An issuer whose keys cannot be had."""

    code = "gateway:publickey.provider.unavailable"
    status = 503
    message = "The token cannot be checked: the keys of the issuer '{issuer}' are not to be had now."
    description = "Try again in a few seconds. The server's log says what is wrong with the issuer."


class NamespaceNotAccessible(SkerryError):
    """A namespace that the settings keep from the caller, whatever policies say."""

    code = "gateway:namespace.notaccessible"
    status = 403
    message = "The namespace '{namespace}' is not accessible to you."
    description = (
        "The operator's rules on namespaces say so, before any policy is asked. Use another, or ask the operator."
    )


class EntityNotCreatable(SkerryError):
    """A thing or policy that the settings do not let the caller create."""

    code = "entity.notcreatable"
    status = 403
    message = "The {kind} '{id}' cannot be created by you{definition}."
    description = "The operator's rules on creation say so. Use another namespace or definition, or ask the operator."
