"""A thing of its own, asked without a registry: commands to `things`, and what they come to."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from skerry import things
from skerry.errors import SkerryError
from skerry.signals import Command, Held

LIMIT = 100_000
ID = "demo:T01"
EMPTY = Held(kind="thing", id=ID)
THING = {
    "policyId": ID,
    "definition": "wind:Turbine:1.0.0",
    "attributes": {"name": "T01", "position": {"x": 1.5}},
    "features": {"scada": {"definition": ["a:b:c"], "properties": {"power": 1.0, "wind": 5}}, "bare": {}},
}
SCADA = ("features", "scada")
POWER = (*SCADA, "properties", "power")


def ask(verb, path=(), value=UNSET, asked=None, observed=None):
    return Command(
        verb=verb, id=ID, subjects=("nginx:u",), path=path, value=value, headers=asked or {}, observed=observed
    )


def decide(held, *args, limit=LIMIT, **more):
    return things.decide(held, ask(*args, **more), (held.revision + 1) * 1_000_000, limit)


def send(held, *args, **more):
    return things.apply(held, decide(held, *args, **more).event)


def refused(held, *args, **more):
    with pytest.raises(SkerryError) as error:
        decide(held, *args, **more)
    return error.value.code, error.value.status


def read(held, path=(), **asked):
    return things.retrieve(
        held, held.document, ask("retrieve", path, asked={name.replace("_", "-"): text for name, text in asked.items()})
    )
