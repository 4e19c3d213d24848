# ruff: noqa: N818 - errors are rows of a table
"""How much is logged by which part, told and changed while the server runs, in Ditto's words."""

from __future__ import annotations

import logging
import re

from skerry.errors import SkerryError

ROOT = "ROOT"
SERVICES = {
    "connectivity": "skerry_adapters",
    "gateway": "skerry_registry.http",
    "policies": "skerry_policies",
    "search": "skerry_registry.search",
    "things": "skerry_registry",
}
"""Ditto's services, and the logger of the part of ours that does their work."""
LEVELS = {
    "off": logging.CRITICAL + 10,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": 5,
    "all": 1,
}
NAME = re.compile(r"[\w.\-]{1,200}", re.ASCII)
DITTO = "org.eclipse.ditto"

log = logging.getLogger(__name__)


class LogLevelInvalid(SkerryError):
    """A level or a logger that logging does not know."""

    code = "devops:loglevel.invalid"
    status = 400
    message = "The {what} '{value}' is none."
    description = "Send a logger's name and one of off, error, warn, info, debug, trace, all."


def told(service: str, *, silent: bool = False) -> list[dict[str, str]]:
    """The loggers of a service and their levels, the root first; with `silent` also those that only inherit one."""
    own = SERVICES[service]
    known = {
        name
        for name, logger in logging.Logger.manager.loggerDict.items()
        if isinstance(logger, logging.Logger) and (silent or logger.level)
    }
    names = sorted(name for name in known | {own} if _belongs(name, service))
    return [{"level": _word(logging.getLogger()), "logger": ROOT}] + [
        {"level": _word(logging.getLogger(name)), "logger": name} for name in names
    ]


def change(service: str, logger: object, level: object) -> None:
    """Set the level of a logger (None: the service's own; Ditto's names stand for ours). Raises LogLevelInvalid."""
    number = LEVELS.get(level.lower()) if isinstance(level, str) else None
    if number is None:
        raise LogLevelInvalid(what="level", value=level)
    if logger is not None and (not isinstance(logger, str) or not NAME.fullmatch(logger)):
        raise LogLevelInvalid(what="logger", value=logger)
    name = SERVICES[service] if logger is None or logger.startswith(DITTO) else logger
    logging.getLogger(None if name == ROOT else name).setLevel(number)
    log.info("log level changed", extra={"logger": name, "to": level})


def _belongs(name: str, service: str) -> bool:
    """Whether a logger is the business of the service and of no other."""
    owners = [own for own in SERVICES.values() if name == own or name.startswith(f"{own}.")]
    if not owners:
        return service == "gateway"
    return max(owners, key=len) == SERVICES[service]


def _word(logger: logging.Logger) -> str:
    """The nearest of Ditto's words for what a logger lets through."""
    number = logger.getEffectiveLevel()
    return next((word for word, least in LEVELS.items() if number >= least), "all")
