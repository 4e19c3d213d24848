"""Where a farm's turbines stand, and the things that stand for them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from msgspec import Struct

from skerry_adapters.farm.curves import Floats, Turbine

FEATURE = "scada"
UNITS = {
    "power": "kW",
    "wind": "m/s",
    "windDirection": "deg",
    "turbulenceIntensity": "1",
    "rotorSpeed": "rpm",
    "pitch": "deg",
    "yaw": "deg",
    "generatorTemperature": "degC",
    "ambientTemperature": "degC",
}
_METRES_PER_DEGREE = 111_320.0


class Layout(Struct, frozen=True, kw_only=True):
    """A farm of one turbine model: names and positions (m east and north of the farm's corner)."""

    namespace: str
    farm: str
    turbine: Turbine
    names: tuple[str, ...]
    east: Floats
    north: Floats
    latitude: float = 54.0
    longitude: float = 7.6

    def things(self) -> dict[str, dict[str, Any]]:
        """Thing id -> the attributes it is made with."""
        made: dict[str, dict[str, Any]] = {}
        shrink = math.cos(math.radians(self.latitude))
        for name, east, north in zip(self.names, self.east.tolist(), self.north.tolist(), strict=True):
            made[f"{self.namespace}:{name}"] = {
                "kind": "turbine",
                "name": name,
                "farm": self.farm,
                "position": {
                    "x": round(east, 1),
                    "y": round(north, 1),
                    "lat": round(self.latitude + north / _METRES_PER_DEGREE, 6),
                    "lon": round(self.longitude + east / (_METRES_PER_DEGREE * shrink), 6),
                },
                "model": self.turbine.name,
                "ratedPower": self.turbine.rated_power,
                "rotorDiameter": self.turbine.rotor_diameter,
                "hubHeight": self.turbine.hub_height,
                "units": UNITS,
            }
        return made


def names_of(count: int) -> tuple[str, ...]:
    """T01, T02 ..., in as many digits as the last one needs."""
    digits = max(2, len(str(count)))
    return tuple(f"T{number:0{digits}}" for number in range(1, count + 1))


def rows_of(count: int, turbine: Turbine, namespace: str, farm: str, rng: np.random.Generator) -> Layout:
    """Staggered rows, 7 rotor diameters apart, 5 within a row, each turbine a little off its place."""
    width = math.ceil(math.sqrt(count * 1.4))
    row, column = np.divmod(np.arange(count), width)
    off = rng.normal(0.0, 0.25, (2, count))
    spacing = turbine.rotor_diameter
    return Layout(
        namespace=namespace,
        farm=farm,
        turbine=turbine,
        names=names_of(count),
        east=(5.0 * (column + 0.5 * (row % 2)) + off[0]) * spacing,
        north=(7.0 * row + off[1]) * spacing,
    )
