"""Nobody may hand a thing over to a policy under which he could not write it any more."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from skerry.errors import SkerryError
from skerry.signals import Command
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore

ANNE = ("nginx:anne",)
T1 = "demo:T1"


def entry(subject: str, resources: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "subjects": {subject: {"type": "test"}},
        "resources": {name: {"grant": grant, "revoke": []} for name, grant in resources.items()},
    }


@pytest.mark.parametrize(
    ("rights", "refusal"),
    [
        ({"policy:/": ["READ", "WRITE"], "thing:/": ["READ"]}, 403),
        ({"policy:/": ["READ", "WRITE"], "thing:/attributes": ["READ", "WRITE"]}, 403),
        ({"thing:/": ["READ", "WRITE"]}, 404),
        ({"policy:/": ["READ"], "thing:/": ["READ", "WRITE"]}, None),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
async def test_a_thing_moves_to_a_policy_that_lets_its_mover_write_it(
    rights: dict[str, list[str]], refusal: int | None, whole: bool
) -> None:
    ticks = count(1_000_000)
    async with Registry(MemoryStore(), lambda: next(ticks), lambda: "id") as registry:
        await registry.handle(Command(verb="modify", id=T1, subjects=ANNE, value={}))
        owner = entry("nginx:owner", {"policy:/": ["READ", "WRITE"], "thing:/": ["READ", "WRITE"]})
        entries = {"owner": owner, "mover": entry("nginx:anne", rights)}
        await registry.handle(
            Command(
                verb="modify", kind="policy", id="demo:other", subjects=("nginx:owner",), value={"entries": entries}
            )
        )
        path, value = ((), {"policyId": "demo:other"}) if whole else (("policyId",), "demo:other")
        move = Command(verb="modify", id=T1, subjects=ANNE, path=path, value=value)

        answer = (await registry.handle_all([move]))[0]

        assert (answer.status if isinstance(answer, SkerryError) else None) == refusal
        thing = (await registry.handle(Command(verb="retrieve", id=T1, subjects=ANNE))).value
        assert thing["policyId"] == ("demo:other" if refusal is None else T1)
