# ruff: noqa: N818 - errors are rows of a table
"""Ditto's headers: parsing them, their limits, and which travel on (ditto.md 1.2, 1.10)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from skerry.errors import SkerryError

SIZE_LIMIT = 5_000
"""Bytes of all Ditto headers of one command together."""
TIMEOUT_LIMIT = 60.0
"""Seconds."""


class HeaderInvalid(SkerryError):
    """A header whose value is not of its type."""

    code = "header.invalid"
    status = 400
    message = "The header '{name}' has the value '{value}': {problem}."
    description = "Correct the header, or leave it out."

    def payload(self) -> dict[str, Any]:
        """With the header's name, as Ditto has it."""
        return {**super().payload(), "invalidHeaderKey": self.facts["name"]}


class HeaderNotSupported(SkerryError):
    """A header that would change what the command means, and that Skerry does not know how to follow."""

    code = "header.notsupported"
    status = 400
    message = "The header '{name}' is not supported here."
    description = "Nothing was done, since passing over it would do something else than you ask. Leave it out."


class LiveConditionNotAllowed(SkerryError):
    """A live channel condition on a change."""

    code = "things:live.channelcondition.notallowed"
    status = 405
    message = "The header 'live-channel-condition' is for reading only."
    description = "Leave it out of a command that changes a thing."


class TimeoutInvalid(SkerryError):
    """A timeout that is none."""

    code = "timeout.invalid"
    status = 400
    message = "The timeout '{value}' cannot be followed."
    description = "It reads 10, 10s, 500ms or 1m, and is not negative."


class TimeoutTooLong(SkerryError):
    """A timeout over the limit."""

    code = "gateway:timeout.invalid"
    status = 400
    message = "The timeout '{value}' is longer than {limit:g} seconds."
    description = "Ask for a shorter one."


class HeadersTooLarge(SkerryError):
    """Too many bytes of Ditto headers."""

    code = "headers.too.large"
    status = 431
    message = "The headers have {size} bytes, {limit} are allowed."
    description = "Send fewer or shorter headers."


class AckLabelInvalid(SkerryError):
    """Not a label of an acknowledgement."""

    code = "acknowledgement:label.invalid"
    status = 400
    message = "'{label}' is not a label of an acknowledgement."
    description = "A label has 3 to 100 letters, digits, '-', '_' and ':'."


_DURATION = re.compile(r"(\d{1,18})(ms|s|m)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}
_WHOLE = re.compile(r"[+-]?\d{1,100}", re.ASCII)
_LABEL = re.compile(r"[a-zA-Z0-9\-_:]{3,100}")

UNSUPPORTED = frozenset({"live-channel-condition"})
"""Ditto's headers that change what a command means and that the model does not follow."""

BOOLEANS = frozenset({"allow-policy-lockout", "dry-run", "response-required"})
WORDS = {"channel": ("twin", "live"), "live-channel-timeout-strategy": ("fail", "use-twin")}
"""Headers that may say only these words (Ditto DittoHeaderDefinition)."""
INBOUND = frozenset(
    {
        "accept",
        "allow-policy-lockout",
        "at-historical-revision",
        "at-historical-timestamp",
        "authorization",
        "condition",
        "declared-acks",
        "delete-metadata",
        "divert-expected-response-types",
        "divert-response-to-connection",
        "fields",
        "get-metadata",
        "if-equal",
        "if-match",
        "if-none-match",
        "live-channel-condition",
        "live-channel-timeout-strategy",
        "merge-thing-patch-conditions",
        "policy-view",
        "put-metadata",
    }
)
"""Headers that end with the command."""

_NOT_FOR_EVENTS = INBOUND | {"channel", "location", "response-required", "version"}


def timeout(text: str | None, default: float, most: float | None = None) -> float:
    """The seconds in a timeout header (None: not given). `most`: of a message, that many. Raises TimeoutInvalid, TimeoutTooLong."""
    if text is None:
        return default
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise TimeoutInvalid(value=text)
    seconds = int(found[1]) * _SECONDS[found[2]]
    if most is not None and seconds > most:
        raise TimeoutInvalid(value=text, description=f"An answer to this is waited for {most:g} seconds at most.")
    if most is None and seconds > TIMEOUT_LIMIT:
        raise TimeoutTooLong(value=text, limit=TIMEOUT_LIMIT)
    return seconds


def boolean(headers: Mapping[str, str], name: str, *, default: bool) -> bool:
    """A header that says true or false. Raises HeaderInvalid."""
    text = headers.get(name)
    if text is None:
        return default
    lower = text.strip().lower()
    if lower not in ("true", "false"):
        raise HeaderInvalid(name=name, value=text, problem="it is true or false")
    return lower == "true"


def check_booleans(headers: Mapping[str, str]) -> None:
    """Raise HeaderInvalid for a header that says neither true nor false where one of them is meant."""
    if not BOOLEANS.isdisjoint(headers):
        for name in BOOLEANS:
            boolean(headers, name, default=False)


def check_types(headers: Mapping[str, str]) -> None:
    """Raise HeaderInvalid for a header that says none of the few words it may say, or no number where there must be one."""
    check_booleans(headers)
    revision = headers.get("at-historical-revision")
    if revision is not None and not _WHOLE.fullmatch(revision.strip()):
        raise HeaderInvalid(name="at-historical-revision", value=revision, problem="it is a whole number")
    for name, words in WORDS.items():
        text = headers.get(name)
        if text is not None and text.strip().lower() not in words:
            raise HeaderInvalid(name=name, value=text, problem=f"it is {' or '.join(words)}")


def response_required(headers: Mapping[str, str]) -> bool:
    """Whether the caller wants an answer. Raises HeaderInvalid."""
    return boolean(headers, "response-required", default=True)


def requested_acks(text: str | None) -> tuple[str, ...]:
    """The labels asked for, each once: a JSON array (protocol) or a comma list (HTTP). Raises HeaderInvalid."""
    labels = _labels(text, "requested-acks")
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise HeaderInvalid(name="requested-acks", value=text or "", problem=LABEL_RULE.format(label=label[:100]))
    return tuple(dict.fromkeys(labels))


def declared_acks(text: str | None) -> tuple[str, ...]:
    """The labels that a session wants to give, written likewise. Raises HeaderInvalid, AckLabelInvalid."""
    labels = _labels(text, "declared-acks")
    for label in labels:
        check_label(label)
    return tuple(dict.fromkeys(labels))


def _labels(text: str | None, name: str) -> list[str]:
    """What stands in a list of labels. Raises HeaderInvalid."""
    text = (text or "").strip()
    if not text:
        return []
    if text.startswith("["):
        try:
            return msgspec.json.decode(text, type=list[str])
        except msgspec.MsgspecError as error:
            raise HeaderInvalid(name=name, value=text, problem="it is an array of labels") from error
    return [label.strip() for label in text.split(",")]


LABEL_RULE = "'{label}' is no label: 3 to 100 characters of a-z, A-Z, 0-9, '-', '_', ':'"


def check_label(label: str) -> None:
    """Raise AckLabelInvalid unless it may name an acknowledgement."""
    if not _LABEL.fullmatch(label):
        raise AckLabelInvalid(label=label)


def check_size(headers: Mapping[str, str]) -> None:
    """Raise HeadersTooLarge when the headers of a command are over the limit."""
    size = sum(len(name) + len(value.encode("utf-8", "replace")) for name, value in headers.items())
    if size > SIZE_LIMIT:
        raise HeadersTooLarge(size=size, limit=SIZE_LIMIT)


def check_supported(headers: Mapping[str, str], verb: str) -> None:
    """Raise for a header that would change what the command means and that the model does not follow."""
    if not UNSUPPORTED.isdisjoint(headers):
        name = min(UNSUPPORTED.intersection(headers))
        if "live-channel-condition" in headers and verb != "retrieve":
            raise LiveConditionNotAllowed
        raise HeaderNotSupported(name=name)
    if is_live(headers):
        raise HeaderNotSupported(
            name="channel",
            description="This way leads to the twin alone: leave the header out, or say twin. Live commands go to /api/2/things, "
            "or have a topic of the live channel.",
        )


def is_live(headers: Mapping[str, str]) -> bool:
    """Whether the command is for the live channel."""
    channel = headers.get("channel")
    return channel is not None and channel.strip().lower() == "live"


def for_event(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a command that travel on to its event."""
    return {
        name: value for name, value in headers.items() if name not in _NOT_FOR_EVENTS and not name.startswith("ditto-")
    }


def for_response(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a command that its response repeats."""
    return {name: value for name, value in headers.items() if name not in INBOUND and not name.startswith("ditto-")}
