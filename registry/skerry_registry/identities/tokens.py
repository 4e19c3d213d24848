# ruff: noqa: N818 - errors are rows of a table
"""API tokens of devices and services: shown once, kept as hashes in a file, with subjects, an end, and a way to end them now.

A token reads `skerry_<id>_<secret>`. The file: {"<id>": {"hash": "...", "subjects": [...], "created": ..., ...}}.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from skerry.errors import SkerryError
from skerry.signals import Clock, Micros
from skerry_registry.identities.caller import Caller
from skerry_registry.identities.kept_file import Stamp, alone, replace, stamp_of

log = logging.getLogger(__name__)

FORM = re.compile(r"skerry_([a-z0-9]{10})_([A-Za-z0-9_-]{43})")
ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


class TokensUnreadable(SkerryError):
    """A file of tokens that is no such file."""

    code = "tokens:file.invalid"
    message = "The file of tokens {path} cannot be read: {reason}"
    description = "Mend it, or move it away and make new tokens with `skerry token create`."


class ApiTokenNotFound(SkerryError):
    """A token that is not in the file."""

    code = "tokens:token.notfound"
    status = 404
    message = "There is no token '{id}' in {path}."
    description = "`skerry token list` shows which there are."


class ApiTokenInvalid(SkerryError):
    """A token that cannot be made."""

    code = "tokens:token.invalid"
    status = 400
    message = "This token cannot be made: {problem}."
    description = "Name at least one subject such as `integration:weather`, and an end in the future."


class ApiToken(Struct, frozen=True, omit_defaults=True):
    """One entry of the file; times in microseconds, `expires` None for a token without an end."""

    hash: str
    subjects: tuple[str, ...]
    created: Micros
    expires: Micros | None = None
    roles: tuple[str, ...] = ()
    note: str = ""


class ApiTokens:
    """The tokens of a file. Whoever asks gets the newest state: a token revoked by another process is gone at once."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Nothing is read yet; a file that is not there means no tokens."""
        self.path = path
        self._clock = clock
        self._stamp: Stamp | None = None
        self._tokens: dict[str, ApiToken] = {}

    def all(self) -> dict[str, ApiToken]:
        """Every token by its id. Raises TokensUnreadable."""
        self._read()
        return dict(self._tokens)

    def create(
        self, subjects: Sequence[str], *, expires: Micros | None = None, roles: Sequence[str] = (), note: str = ""
    ) -> str:
        """Make a token and write the file; the only time its text is told. Raises ApiTokenInvalid, TokensUnreadable."""
        for subject in subjects:
            if ":" not in subject or any(ord(character) < 32 for character in subject):
                raise ApiTokenInvalid(problem=f"'{subject}' is no subject, issuer:name")
        if not subjects:
            raise ApiTokenInvalid(problem="it has no subjects, so nobody would be asking")
        now = self._clock()
        if expires is not None and expires <= now:
            raise ApiTokenInvalid(problem="it would have ended already")
        id_ = "".join(secrets.choice(ALPHABET) for _ in range(10))
        secret = secrets.token_urlsafe(32)
        token = ApiToken(_hash(secret), tuple(dict.fromkeys(subjects)), now, expires, tuple(roles), note)
        with alone(self.path):
            self._read()
            self._write({**self._tokens, id_: token})
        return f"skerry_{id_}_{secret}"

    def revoke(self, id_: str) -> None:
        """End a token, given by its id or whole, and write the file. Raises ApiTokenNotFound, TokensUnreadable."""
        form = FORM.fullmatch(id_)
        id_ = form[1] if form else id_
        with alone(self.path):
            self._read()
            if id_ not in self._tokens:
                raise ApiTokenNotFound(id=id_, path=self.path)
            self._write({other: token for other, token in self._tokens.items() if other != id_})

    def find(self, text: str) -> Caller | None:
        """Who a token stands for; None for one that is not known, not in force, or no token."""
        form = FORM.fullmatch(text)
        if form is None:
            return None
        self._look()
        token = self._tokens.get(form[1])
        if token is None or not hmac.compare_digest(token.hash, _hash(form[2])) or not self.holds(form[1]):
            return None
        return Caller(f"token:{form[1]}", token.subjects, token.roles, kind="token", expires=token.expires)

    def holds(self, id_: str) -> bool:
        """Whether a token that was found is in force still."""
        self._look()
        token = self._tokens.get(id_)
        return token is not None and (token.expires is None or self._clock() < token.expires)

    def _look(self) -> None:
        """Read the file again if it changed; without a readable one no token is good."""
        if stamp_of(self.path) == self._stamp:
            return
        try:
            self._read()
        except TokensUnreadable as error:
            self._tokens, self._stamp = {}, stamp_of(self.path)
            log.error("tokens file not read", extra={"path": str(self.path), "reason": error.facts["reason"]})  # noqa: TRY400 - the reason is the whole story

    def _read(self) -> None:
        stamp = stamp_of(self.path)
        try:
            tokens = msgspec.json.decode(self.path.read_bytes(), type=dict[str, ApiToken])
        except FileNotFoundError:
            tokens = {}
        except OSError as error:
            raise TokensUnreadable(path=self.path, reason=error.strerror or type(error).__name__) from error
        except msgspec.MsgspecError as error:
            raise TokensUnreadable(path=self.path, reason=str(error)) from error
        self._tokens, self._stamp = tokens, stamp

    def _write(self, tokens: dict[str, ApiToken]) -> None:
        replace(self.path, msgspec.json.format(msgspec.json.encode(tokens), indent=2) + b"\n")
        self._tokens, self._stamp = tokens, stamp_of(self.path)


def _hash(secret: str) -> str:
    """256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()
