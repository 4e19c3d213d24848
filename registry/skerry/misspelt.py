"""Names that nobody asked for, but somebody meant: Ditto passes unknown parameters over, we those that are not like a known one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from skerry.errors import SkerryError

NEAR = 0.75
"""How alike two names must be for one to be taken for the other, misspelt."""


class ParameterMisspelt(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """A parameter whose name is misspelt: passed over, it would let everything through, or leave a gap."""

    code = "parameter.unknown"
    status = 400
    message = "There is no parameter '{name}' here; perhaps {near} is meant."
    description = "Correct its name, or leave it out."


def check_names(given: Iterable[str], known: tuple[str, ...]) -> None:
    """Raises ParameterMisspelt."""
    for name in given:
        if name not in known and (near := difflib.get_close_matches(name, known, 1, NEAR)):
            raise ParameterMisspelt(name=name, near=near[0])
