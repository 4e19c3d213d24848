"""checkPermissions: what the caller may, of many things and policies at once, over HTTP and in an envelope."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct

from skerry.ids import check_policy_id, check_thing_id, split_id
from skerry.values import JsonFieldMissing, JsonInvalid
from skerry_policies import explain
from skerry_policies.document import resource_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skerry.signals import Json
    from skerry_policies.enforcer import Permits
    from skerry_registry.asking import Asker
    from skerry_registry.registry import Registry

CHECKS_MAX = 1_000
TYPES = ("thing", "policy", "message")
"""Resource types that may be checked."""
_MISSING = re.compile(r"Object missing required field `(\w+)`")

T = TypeVar("T")


class PermissionCheck(Struct, frozen=True, rename="camel"):
    """One question of checkPermissions."""

    resource: str
    entity_id: str
    has_permissions: list[str]


def read(value: Json, type_: type[T]) -> T:
    """The value as the question that it should be. Raises JsonFieldMissing, JsonInvalid with the place."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        at = place.rstrip("`").replace("[...]", "/*").replace(".", "/") or "/"
        if (found := _MISSING.fullmatch(problem)) is not None:
            raise JsonFieldMissing(name=found[1], at=at) from error
        raise JsonInvalid(at=at, problem=problem[:1].lower() + problem[1:]) from error


def read_checks(value: Json) -> dict[str, PermissionCheck]:
    """The checks in a value, by name. Raises JsonInvalid."""
    checks = read(value, dict[str, PermissionCheck])
    if len(checks) > CHECKS_MAX:
        raise JsonInvalid(at="/", problem=f"it has more than {CHECKS_MAX} checks")
    return checks


async def check(registry: Registry, asker: Asker, checks: Mapping[str, PermissionCheck]) -> dict[str, bool]:
    """Whether the caller has the permissions of each check on its resource and all below; no such entity: false.

    Raises JsonInvalid, PolicyInvalid, PointerInvalid, ThingIdInvalid and PolicyIdInvalid for a check that makes no sense.
    """
    of_things: dict[str, None] = {}
    of_policies: dict[str, None] = {}
    for name, asked in checks.items():
        kind, _ = explain.split(resource_key(f"/{name}/resource", asked.resource))
        if kind not in TYPES:
            raise JsonInvalid(at=f"/{name}/resource", problem=f"'{kind}' is none of {', '.join(TYPES)}")
        if not asked.has_permissions:
            raise JsonInvalid(at=f"/{name}/hasPermissions", problem="it names no permission")
        if kind == "policy":
            check_policy_id(asked.entity_id)
            of_policies[asked.entity_id] = None
        else:
            check_thing_id(asked.entity_id)
            of_things[asked.entity_id] = None
    guards = await _guards(registry, list(of_things))
    await registry.memory.bring("policy", [*of_policies, *(guard for guard in guards.values() if guard)])
    known: dict[tuple[str, str | None], Permits | None] = {}
    answers: dict[str, bool] = {}
    for name, asked in checks.items():
        of_policy = asked.resource.startswith("policy:")
        policy_id = asked.entity_id if of_policy else guards[asked.entity_id]
        if policy_id is None or not asker.reaches("policy" if of_policy else "thing", asked.entity_id):
            answers[name] = False
            continue
        key = (policy_id, None if of_policy else split_id(asked.entity_id)[0])
        if key not in known:
            known[key] = await _permits(registry, asker.subjects, *key)
        answers[name] = explain.holds_all(known[key], resource_key("", asked.resource), asked.has_permissions)
    return answers


async def _permits(
    registry: Registry, subjects: tuple[str, ...], policy_id: str, namespace: str | None
) -> Permits | None:
    """The caller's rights under a policy."""
    return await registry.memory.known(lambda: registry.rights.permits(None, policy_id, subjects, namespace))


async def _guards(registry: Registry, thing_ids: list[str]) -> dict[str, str | None]:
    """The policy id of each thing; None where there is no thing."""
    await registry.memory.bring("thing", thing_ids)
    return await registry.memory.known(lambda: {id_: _guard(registry, id_) for id_ in thing_ids})


def _guard(registry: Registry, thing_id: str) -> str | None:
    document = registry.memory.held("thing", thing_id).document
    return None if document is None else document["policyId"]
