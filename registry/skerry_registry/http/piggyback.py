# ruff: noqa: N818 - errors are rows of a table
"""Commands that operators hand in through `/devops/piggyback`, answered in Ditto's flat signal form."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from skerry.errors import SkerryError
from skerry.fields import parse, select
from skerry.ids import check_policy_id, check_thing_id
from skerry.signals import Held, Json
from skerry.things import ThingNotAccessible
from skerry.times import DAY
from skerry.values import JsonFieldMissing, JsonInvalid, name
from skerry_policies.parts import PolicyNotAccessible
from skerry_registry import levels
from skerry_registry.http.inside import INSTANCE, Inside, shown

Signal = dict[str, Any]

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": DAY / 1_000_000}
DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?(ms|s|m|h|d)")
KEEPS = "history-retention-duration"
SHORTEST = 1e-9
"""Days: with Ditto 0 keeps nothing, in our settings it keeps everything."""

log = logging.getLogger(__name__)


class PiggybackUnknown(SkerryError):
    """A command that nobody here carries out."""

    code = "json.type.notparsable"
    status = 400
    message = "There is no piggyback command '{type}' here."
    description = "Possible: {possible}. What Ditto does with others, the HTTP API does: see /apidoc."


class Piggyback:
    """Carries out what operators hand in."""

    def __init__(self, inside: Inside) -> None:
        """`inside`: what may be seen and changed."""
        self._inside = inside
        self._carriers: dict[str, Callable[[str, str, Signal], Awaitable[Signal]]] = {
            "common.commands:modifyConfig": self._modify_config,
            "common.commands:retrieveConfig": self._retrieve_config,
            "devops.commands:changeLogLevel": self._change_level,
            "devops.commands:retrieveLoggerConfig": self._retrieve_levels,
            "policies.commands:retrievePolicy": self._policy,
            "policies.sudo.commands:sudoRetrievePolicy": self._policy,
            "status.commands:retrieveHealth": self._health,
            "things.commands:retrieveThing": self._thing,
            "things.sudo.commands:sudoRetrieveThing": self._thing,
        }

    async def carry_out(self, service: str, target: str, command: Signal) -> Signal:
        """The response of a service, errors too: an operator reads in it what became of the command."""
        kind = command.get("type")
        carrier = self._carriers.get(kind) if isinstance(kind, str) else None
        if carrier is None:
            unknown = PiggybackUnknown(type=kind, possible=", ".join(self._carriers))
            return {
                "type": "devops.responses:errorResponse",
                "status": unknown.status,
                "serviceName": service,
                "instance": INSTANCE,
                "payload": unknown.payload(),
            }
        try:
            answer = await carrier(service, target, command)
        except SkerryError as error:
            return error.payload()
        return {"type": str(kind).replace(".commands:", ".responses:"), "status": 200, **answer}

    def history(self) -> Signal:
        """How long history is kept, in the words of Ditto's clean-up."""
        forgetting = self._inside.forgetting
        return {
            "enabled": forgetting.enabled and bool(forgetting.days),
            KEEPS: f"{round(forgetting.days, 5):g}d",
        }

    async def _retrieve_config(self, _: str, target: str, command: Signal) -> Signal:
        path = command.get("path")
        if _is_cleanup(target):
            return {"config": self.history()}
        return {"config": configured(self._inside, path if isinstance(path, str) else "")}

    async def _modify_config(self, _: str, target: str, command: Signal) -> Signal:
        """The configuration as it is afterwards; one with a fault changes nothing (Ditto operating-devops)."""
        config = command.get("config")
        if not isinstance(config, dict):
            raise JsonFieldMissing(name="config", at="/piggybackCommand")
        problem = self._follow(config) if _is_cleanup(target) else "only a persistenceCleanup can change while it runs"
        answer: Signal = {"config": self.history() if _is_cleanup(target) else shown(self._inside.settings)}
        if problem is None:
            log.info("clean-up of history changed", extra=answer["config"])
            return answer
        log.warning("configuration not changed", extra={"target": target, "reason": problem})
        return {**answer, "message": f"Nothing was changed: {problem}."}

    def _follow(self, config: Signal) -> str | None:
        """Change how history is forgotten, or say what is wrong. Ditto's other knobs have nothing to turn here."""
        forgetting = self._inside.forgetting
        enabled, days = config.get("enabled", forgetting.enabled), forgetting.days
        if not isinstance(enabled, bool):
            return f"enabled is {name(enabled)}"
        if KEEPS in config:
            found = _days(config[KEEPS])
            if found is None:
                return f"{KEEPS} is no duration such as 12h or 30d"
            days = max(found, SHORTEST)
        forgetting.enabled, forgetting.days = enabled, days
        return None

    async def _health(self, _: str, target: str, __: Signal) -> Signal:
        if _is_cleanup(target):
            state = "RUNNING" if self._inside.forgetting.enabled else "STOPPED"
            return {"statusInfo": {"status": "UP", "details": [{"INFO": {"state": state}}]}}
        found = self._inside.health()
        return {"statusInfo": {"status": found["status"], "details": [{"INFO": found.get("parts", {})}]}}

    async def _retrieve_levels(self, service: str, _: str, command: Signal) -> Signal:
        return logging_of(service, silent=command.get("includeDisabledLoggers") is True)

    async def _change_level(self, service: str, _: str, command: Signal) -> Signal:
        config = command.get("loggerConfig")
        if not isinstance(config, dict):
            raise JsonFieldMissing(name="loggerConfig", at="/piggybackCommand")
        levels.change(service, config.get("logger"), config.get("level"))
        return {"serviceName": service, "instance": INSTANCE, "successful": True}

    async def _thing(self, _: str, __: str, command: Signal) -> Signal:
        thing_id = _text(command, "thingId")
        check_thing_id(thing_id)
        held = await self._inside.load("thing", thing_id)
        if held.document is None:
            raise ThingNotAccessible(thing_id=thing_id)
        return {"thingId": thing_id, "thing": _selected(held, command, {"thingId": thing_id})}

    async def _policy(self, _: str, __: str, command: Signal) -> Signal:
        policy_id = _text(command, "policyId")
        check_policy_id(policy_id)
        held = await self._inside.load("policy", policy_id)
        if held.document is None:
            raise PolicyNotAccessible(policy_id=policy_id)
        return {"policyId": policy_id, "policy": _selected(held, command, {"policyId": policy_id})}


def configured(inside: Inside, path: str) -> Json:
    """The settings at a dotted path, or in Ditto's manner an object that says that nothing is there."""
    if path.removeprefix("ditto").strip(".") == "info":
        return {"service": {"name": "skerry", "instance-id": INSTANCE}, "env": {}, "vm-args": []}
    found = shown(inside.settings, path)
    return {"error": f"There is no setting '{path}'."} if found is None else found


def logging_of(service: str, *, silent: bool) -> Signal:
    """The log levels of a service, as they stand in an answer."""
    return {"serviceName": service, "instance": INSTANCE, "loggerConfigs": levels.told(service, silent=silent)}


def _selected(held: Held, command: Signal, identity: Signal) -> Signal:
    """The document, or the fields of it that the command selects."""
    document = {**identity, **(held.document or {}), "_revision": held.revision}
    fields = command.get("selectedFields")
    if not isinstance(fields, str):
        del document["_revision"]
        return document
    found: Signal = select(document, parse(fields))
    return found


def _is_cleanup(target: str) -> bool:
    """Whether the target is the part that forgets old events."""
    return target.endswith(("/persistenceCleanup", "/persistenceCleanupProxy"))


def _days(value: Json) -> float | None:
    """The days in a duration as Ditto's configuration has it (a bare number: milliseconds); None if it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value) / 1_000 / SECONDS["d"]
    found = DURATION.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else float(found[1]) * SECONDS[found[2]] / SECONDS["d"]


def _text(command: Signal, member: str) -> str:
    value = command.get(member)
    if value is None:
        raise JsonFieldMissing(name=member, at="/piggybackCommand")
    if not isinstance(value, str):
        raise JsonInvalid(at=f"/piggybackCommand/{member}", problem=f"it is {name(value)}, and should be a text")
    return value
