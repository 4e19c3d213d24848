# ruff: noqa: N818 - errors are rows of a table
"""The users of this server: a JSON file of argon2 hashes, and who a name and password make of a caller.

{"ditto": {"hash": "$argon2id$...", "roles": []}, "devops": {"hash": "...", "roles": ["devops"]}}
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
import time
from collections.abc import Hashable, Sequence
from pathlib import Path

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from msgspec import Struct, structs

from skerry.errors import SkerryError
from skerry_registry.aside import aside
from skerry_registry.identities.bounded import keep
from skerry_registry.identities.caller import DEVOPS, Caller
from skerry_registry.identities.kept_file import Stamp, alone, replace, stamp_of
from skerry_registry.identities.throttle import Throttle

__all__ = ["DEVOPS", "Caller", "TooManyRequests", "User", "Users"]

log = logging.getLogger(__name__)

LONGEST_NAME = 128
NAME = re.compile(rf"[^\x00-\x1f\x7f:]{{1,{LONGEST_NAME}}}")
VERIFIED_KEPT = 10_000
REFUSED_KEPT = 1_000
KNOWN_ADDRESSES = 10_000
FAILURES_ALLOWED = 20
FAILURES_OF_MANY = 200
"""Failures of one name from anywhere, or of one address with any name."""
FAILURES_FORGOTTEN = 60.0
WAITING_ALLOWED = 64
WAITING_OF_ADDRESS = 32
VERIFIERS = 2


class UserNameInvalid(SkerryError):
    """A name that HTTP Basic cannot carry."""

    code = "users:name.invalid"
    status = 400
    message = "'{name}' cannot be a user name."
    description = "Use 1 to 128 characters without ':' and control characters."


class PasswordInvalid(SkerryError):
    """An empty password."""

    code = "users:password.invalid"
    status = 400
    message = "A password must not be empty."
    description = "Give one of at least one character."


class UserNotFound(SkerryError):
    """A user who is not in the file."""

    code = "users:user.notfound"
    status = 404
    message = "There is no user '{name}' in {path}."
    description = "`skerry user list` shows who is there; `skerry user add {name}` makes the user."


class UsersUnreadable(SkerryError):
    """A users file that is no such file."""

    code = "users:file.invalid"
    message = "The users file {path} cannot be read: {reason}"
    description = "Mend it, or make a new one with `skerry user add NAME`."


class TooManyRequests(SkerryError):
    """More of something than an honest client needs: failed logins, frames of a session."""

    code = "too.many.requests"
    status = 429
    message = "Too many requests: {reason}."
    description = "Wait a minute and check the user name and password."


class User(Struct, frozen=True, omit_defaults=True):
    """One entry of the file. `subjects` replace the prefixed name where given."""

    hash: str
    roles: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()


class Users:
    """Who may log in. Verified passwords are remembered by a keyed hash, so argon2 is paid once per login, not per request.

    Guesses are throttled: of a name from an address, of a name from addresses where it never logged in, and of such an
    address. A wrong password that comes again is no new guess, and a right password is not throttled where it was right
    before, so a forgotten device or a stranger does not keep the rightful user out.
    """

    def __init__(self, path: Path, *, prefix: str = "nginx:", recheck: float = 0.5) -> None:
        """`prefix` stands before the name in a subject; the file is looked at again every `recheck` seconds."""
        self.path = path
        self.prefix = prefix
        self._recheck = recheck
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)  # OWASP's minimum for argon2id
        self._key = secrets.token_bytes(32)
        self._users: dict[str, User] = {}
        self._stamp: Stamp | None = None
        self._looked = 0.0
        self._verified: dict[bytes, Caller] = {}
        self._refused: dict[bytes, None] = {}
        self._guesses = Throttle(FAILURES_ALLOWED, FAILURES_ALLOWED / FAILURES_FORGOTTEN)
        self._strange = Throttle(FAILURES_OF_MANY, FAILURES_OF_MANY / FAILURES_FORGOTTEN)
        self._homes: dict[tuple[str, str], None] = {}
        self._pending: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._asking: dict[str, int] = {}
        self._gates: dict[bool, asyncio.Semaphore] = {}
        self._decoy = ""

    @classmethod
    def load(cls, path: Path, *, prefix: str = "nginx:", recheck: float = 0.5) -> Users:
        """Read the file; one that is not there means no users. Raises UsersUnreadable."""
        users = cls(path, prefix=prefix, recheck=recheck)
        users._read()
        return users

    def names(self) -> list[str]:
        """Every user's name, sorted."""
        return sorted(self._users)

    def entry(self, name: str) -> User | None:
        """What the file says of a user now (looked at again every so often)."""
        self._look()
        return self._users.get(name)

    def roles(self, name: str) -> tuple[str, ...]:
        """The roles of a user. Raises UserNotFound."""
        if name not in self._users:
            raise UserNotFound(name=name, path=self.path)
        return self._users[name].roles

    def add(self, name: str, password: str, roles: Sequence[str] = (), subjects: Sequence[str] = ()) -> None:
        """Make the user, or replace him (his own subjects stay), and write the file. Raises UserNameInvalid, PasswordInvalid, UsersUnreadable."""
        if not NAME.fullmatch(name):
            raise UserNameInvalid(name=name)
        if not password:
            raise PasswordInvalid
        hashed = self._hasher.hash(password)
        with alone(self.path):
            self._read()
            before = self._users.get(name)
            kept = before.subjects if before and not subjects else tuple(subjects)
            self._write({**self._users, name: User(hashed, tuple(roles), kept)})

    def give_roles(self, name: str, roles: Sequence[str]) -> None:
        """Give the user these roles instead of those before, and write the file. Raises UserNotFound, UsersUnreadable."""
        with alone(self.path):
            self._read()
            self.roles(name)
            self._write({**self._users, name: structs.replace(self._users[name], roles=tuple(roles))})

    def remove(self, name: str) -> None:
        """Forget the user and write the file. Raises UserNotFound, UsersUnreadable."""
        with alone(self.path):
            self._read()
            self.roles(name)
            self._write({other: user for other, user in self._users.items() if other != name})

    async def verify(
        self, name: str, password: str, address: str = "", *, alias: bytes | None = None, bounded: bool = True
    ) -> Caller | None:
        """The caller if the password is the user's, else None; `known` under `alias` too.

        Raises TooManyRequests after many failures, and (`bounded`) where too many others are being verified.
        """
        self._look()
        if len(name) > LONGEST_NAME:
            return None
        key = self.key(f"{name}\0{password}".encode("utf-8", "surrogatepass"))
        if (caller := self._verified.get(key)) is not None:
            self.let_in(name, address)
            if alias is not None:
                keep(self._verified, alias, caller, VERIFIED_KEPT)
            return caller
        if key in self._refused:
            return None
        task = self._pending.get(key) or self._begin(key, name, password, address, bounded=bounded)
        caller = await asyncio.shield(task)
        if alias is not None and caller is not None and self._verified.get(key) is caller:
            keep(self._verified, alias, caller, VERIFIED_KEPT)
        return caller

    def _begin(
        self, key: bytes, name: str, password: str, address: str, *, bounded: bool
    ) -> asyncio.Task[Caller | None]:
        """Have the password verified; an address gets half of the room at most, or a stranger could take all of it."""
        of_address = self._asking.get(address, 0)
        full = sum(self._asking.values()) >= WAITING_ALLOWED or (bool(address) and of_address >= WAITING_OF_ADDRESS)
        if bounded and full:
            raise TooManyRequests(reason="too many logins are being verified at this moment")
        tries = self.guess(name, address)
        task = asyncio.create_task(self._verify(key, name, password, bounded=bounded), name=f"verify {name}")
        self._pending[key] = task
        if bounded:
            self._asking[address] = of_address + 1

        def done(task: asyncio.Task[Caller | None]) -> None:
            self._pending.pop(key, None)
            if not task.cancelled() and task.exception() is None and task.result() is not None:
                self.no_guess(tries)
                self._guesses.forget((name, address))
                keep(self._homes, (name, address), None, KNOWN_ADDRESSES)
            if bounded:
                self._asking[address] -= 1
                if not self._asking[address]:
                    del self._asking[address]

        task.add_done_callback(done)
        return task

    def key(self, secret: bytes) -> bytes:
        """A hash of a secret that means nothing outside this process."""
        return hashlib.blake2b(secret, key=self._key, digest_size=16).digest()

    def known(self, key: bytes, address: str = "") -> Caller | None:
        """The caller remembered under an alias, if the file has not changed since. Raises TooManyRequests."""
        self._look()
        caller = self._verified.get(key)
        if caller is not None:
            self.let_in(caller.name, address)
        return caller

    def let_in(self, name: str, address: str) -> None:
        """A right password that need not be verified: where it never came from it waits as a guess would.

        Or guessing would cost nothing as long as the rightful user is about. Raises TooManyRequests.
        """
        if (name, address) in self._homes:
            return
        for throttle, key in ((self._guesses, (name, address)), (self._strange, ("address", address))):
            if not throttle.take(key):
                raise TooManyRequests(
                    reason="too many logins failed just now", headers={"retry-after": str(throttle.patience)}
                )
            throttle.give_back(key)
        keep(self._homes, (name, address), None, KNOWN_ADDRESSES)

    async def _verify(self, key: bytes, name: str, password: str, *, bounded: bool) -> Caller | None:
        """Edges that bound their logins do not stand in one queue with those that do not."""
        gate = self._gates.setdefault(bounded, asyncio.Semaphore(VERIFIERS))
        async with gate:
            user, stamp = self._users.get(name), self._stamp
            matches = await aside("argon2", lambda: self._matches(user, password))
        if user is None or not matches:
            keep(self._refused, key, None, REFUSED_KEPT)
            return None
        caller = Caller(name, user.subjects or (self.prefix + name,), user.roles)
        if stamp == self._stamp:
            keep(self._verified, key, caller, VERIFIED_KEPT)
        return caller

    def _matches(self, user: User | None, password: str) -> bool:
        """Take as long for a name that is not there as for a wrong password."""
        if user is None and not self._decoy:
            self._decoy = self._hasher.hash(secrets.token_hex())
        try:
            return self._hasher.verify(user.hash if user else self._decoy, password)
        except (VerifyMismatchError, VerificationError, InvalidHashError):
            return False

    def guess(self, name: str, address: str) -> list[tuple[Throttle, Hashable]]:
        """Take a try at a password; what was taken, for `no_guess`. Raises TooManyRequests."""
        wanted: list[tuple[Throttle, Hashable]] = [(self._guesses, (name, address))]
        if (name, address) not in self._homes:
            wanted += [(self._strange, ("name", name)), (self._strange, ("address", address))]
        taken: list[tuple[Throttle, Hashable]] = []
        for throttle, key in wanted:
            if not throttle.take(key):
                self.no_guess(taken)
                wait = str(throttle.patience)
                raise TooManyRequests(reason="too many logins failed just now", headers={"retry-after": wait})
            taken.append((throttle, key))
        return taken

    @staticmethod
    def no_guess(taken: list[tuple[Throttle, Hashable]]) -> None:
        """Give back what a right password did not use up."""
        for throttle, key in taken:
            throttle.give_back(key)

    def _look(self) -> None:
        """Read the file again if it changed; keep the users there were if it cannot be read."""
        now = time.monotonic()
        if now - self._looked < self._recheck:
            return
        self._looked = now
        if stamp_of(self.path) == self._stamp:
            return
        try:
            self._read()
        except UsersUnreadable as error:
            self._stamp = stamp_of(self.path)
            log.error("users file not reloaded", extra={"path": str(self.path), "reason": error.facts["reason"]})  # noqa: TRY400 - the reason is the whole story
        else:
            log.info("users file reloaded", extra={"path": str(self.path), "users": len(self._users)})

    def _read(self) -> None:
        stamp = stamp_of(self.path)
        try:
            users = msgspec.json.decode(self.path.read_bytes(), type=dict[str, User])
        except FileNotFoundError:
            users = {}
        except OSError as error:
            raise UsersUnreadable(path=self.path, reason=error.strerror or type(error).__name__) from error
        except msgspec.MsgspecError as error:
            raise UsersUnreadable(path=self.path, reason=str(error)) from error
        self._take(users, stamp)

    def _write(self, users: dict[str, User]) -> None:
        """Replace the file."""
        replace(self.path, msgspec.json.format(msgspec.json.encode(users), indent=2) + b"\n")
        self._take(users, stamp_of(self.path))

    def _take(self, users: dict[str, User], stamp: Stamp | None) -> None:
        self._users, self._stamp = users, stamp
        self._verified.clear()
        self._refused.clear()
