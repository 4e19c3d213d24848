"""The caller: what a login makes of whoever asks."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from skerry.signals import Json, Micros

DEVOPS = "devops"
STATUS = "status"

Kind = Literal["basic", "pre-authenticated", "jwt", "token"]


class Caller(Struct, frozen=True):
    """Who asks: the subjects that policies speak of (the first is the default one), and the roles that guard operations.

    `kind`: how the caller logged in. `claims`: of a JSON Web Token, None for every other login. `expires`: when a token
    ends, in microseconds; None where nothing ends.
    """

    name: str
    subjects: tuple[str, ...]
    roles: tuple[str, ...] = ()
    kind: Kind = "basic"
    claims: dict[str, Json] | None = None
    expires: Micros | None = None

    def has(self, role: str) -> bool:
        """Say whether the caller plays the role."""
        return role in self.roles
