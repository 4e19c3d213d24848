"""Making a farm's things before their devices speak: Ditto Protocol merges, sent over MQTT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from skerry_adapters.farm.layout import FEATURE
from skerry_adapters.farm.outlet import Outlet

DEFINITIONS = {"turbine": "wind:Turbine:1.0.0", "metmast": "wind:MetMast:1.0.0", "farm": "wind:Farm:1.0.0"}


def make_things(outlet: Outlet, things: Mapping[str, Mapping[str, Any]]) -> bool:
    """Send a merge per thing, which makes it if it is not there and leaves its features alone if it is.

    A thing that is there as it should be is not changed, and keeps its revision. A broker hands one client's messages on
    in order, so telemetry sent afterwards finds the thing. False when stopped.
    """
    for thing_id, attributes in things.items():
        namespace, _, name = thing_id.partition(":")
        envelope = {
            "topic": f"{namespace}/{name}/things/twin/commands/merge",
            "headers": {
                "content-type": "application/merge-patch+json",
                "response-required": False,
                "if-equal": "skip",
            },
            "path": "/",
            "value": {
                "definition": DEFINITIONS[attributes["kind"]],
                "attributes": attributes,
                "features": {FEATURE: {"properties": {}}},
            },
        }
        if not outlet.send(f"ditto/{namespace}/{name}", msgspec.json.encode(envelope)):
            return False
    return True


def telemetry_topic(thing_id: str) -> str:
    """Where the device of a thing publishes its records."""
    return f"telemetry/{thing_id.replace(':', '/', 1)}/{FEATURE}"
