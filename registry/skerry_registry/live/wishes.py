# ruff: noqa: N818 - errors are rows of a table
"""What a caller wants to be told of his command: in which time, by whom acknowledged, answered or not (ditto.md 1.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from skerry import headers
from skerry.acks import LIVE
from skerry.errors import SkerryError
from skerry.headers import HeaderInvalid

TIMEOUT = 10.0
ACKNOWLEDGED = 60.0
"""Seconds that acknowledgements have where nobody says (Ditto 3.9.6)."""
ASKING = frozenset({"timeout", "response-required", "requested-acks"})


class AnswerNotWanted(SkerryError):
    """A question whose answer is not wanted."""

    code = "command.headers.invalid"
    status = 400
    message = "A read cannot have response-required=false: its answer is all there is to it."
    description = "Leave response-required out, or set it to true."


class Wish(NamedTuple):
    """What the caller asked for: seconds to wait, labels (empty: none by name), and whether he wants an answer."""

    timeout: float = TIMEOUT
    labels: tuple[str, ...] = ()
    answer: bool = True


USUAL = Wish()


def wish_of(ditto: Mapping[str, str], *, query: bool, acknowledged: bool = True) -> Wish:
    """Read the wish from the headers. Raises the errors of headers that make no sense (alone or together).

    Not `acknowledged`: what is asked knows no acknowledgements, the labels are checked and that is all.
    """
    if ASKING.isdisjoint(ditto):
        return USUAL
    timeout = headers.timeout(ditto.get("timeout"), TIMEOUT)
    labels = tuple(label for label in headers.requested_acks(ditto.get("requested-acks")) if label != LIVE)
    if query or not acknowledged:
        labels = ()
    if labels and "timeout" not in ditto:
        timeout = ACKNOWLEDGED
    answer = headers.response_required(ditto)
    if query and not answer:
        raise AnswerNotWanted
    if timeout == 0 and (labels or (answer and (query or not acknowledged or "response-required" in ditto))):
        raise HeaderInvalid(
            name="timeout",
            value=ditto.get("timeout", ""),
            problem="a request that waits for an answer or for acknowledgements needs more than 0",
        )
    return Wish(timeout, labels, answer)


def check_answered(wish: Wish) -> None:
    """Raise HeaderInvalid where acknowledgements are asked for and no answer, which a WebSocket could not tell of them."""
    if wish.labels and not wish.answer:
        raise HeaderInvalid(
            name="requested-acks",
            value=",".join(wish.labels),
            problem="a session that asks for acknowledgements must want an answer: they are told in it",
        )
