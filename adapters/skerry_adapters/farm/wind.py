"""The weather over a farm: a mean wind that swings with the day, gusts, a turning direction, and wakes."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from skerry_adapters.farm.curves import Floats
from skerry_adapters.farm.layout import Layout

Places: TypeAlias = NDArray[np.intp]
DAY = 86_400.0
_WAKE_WIDENS = 0.05
_WAKE_REACHES = 15.0


class Wind:
    """A seeded wind process; `step` moves it on. All its randomness comes from `rng`, in a fixed order."""

    def __init__(self, layout: Layout, rng: np.random.Generator, *, mean: float, direction: float) -> None:
        self._layout = layout
        self._rng = rng
        self._mean = mean
        self._prevailing = direction
        self._swing = rng.normal(0.0, 1.2)
        self._turn = rng.normal(0.0, 10.0)
        self._gust = rng.normal(0.0, 0.1 * mean, len(layout.names))
        self._cold = rng.normal(0.0, 1.0)
        self._downwind, self._apart_east, self._apart_north = _neighbours(layout)
        self.speed = np.full(len(layout.names), float(mean))
        self.direction = direction
        self.turbulence = np.full(len(layout.names), 0.1)
        self.temperature = 10.0

    def step(self, moment: float, dt: float) -> None:
        """Move on by `dt` seconds to `moment` (seconds of epoch time, which tells the hour of the day)."""
        rng = self._rng
        self._swing = _drift(self._swing, 1.2, dt / 1800.0, rng.normal())
        self._turn = _drift(self._turn, 10.0, dt / 3600.0, rng.normal())
        self._cold = _drift(self._cold, 1.0, dt / 7200.0, rng.normal())
        hour = 2.0 * math.pi * (moment % DAY) / DAY
        free = max(0.2, self._mean * (1.0 + 0.12 * math.sin(hour - 1.0)) + self._swing)
        self.direction = (self._prevailing + self._turn + 8.0 * math.sin(hour)) % 360.0
        self.temperature = 10.0 + 4.0 * math.sin(hour - 2.4) + self._cold
        deficit = self._deficit(free)
        mean = free * (1.0 - deficit)
        self.turbulence = 0.07 + 0.12 * deficit + 0.3 / (mean + 3.0)
        keep = math.exp(-dt / 20.0)
        spread = self.turbulence * mean * math.sqrt(1.0 - keep * keep)
        self._gust = self._gust * keep + spread * rng.standard_normal(len(mean))
        self.speed = np.maximum(0.0, mean + self._gust)

    def _deficit(self, free: float) -> Floats:
        """What each turbine loses in the wakes of those upwind (Jensen's model, losses added in squares)."""
        turbine = self._layout.turbine
        thrust = 0.8 if free < turbine.rated_wind else 0.8 * (turbine.rated_wind / free) ** 3
        towards = math.radians(self.direction + 180.0)
        along = self._apart_east * math.sin(towards) + self._apart_north * math.cos(towards)
        across = self._apart_east * math.cos(towards) - self._apart_north * math.sin(towards)
        radius = turbine.rotor_diameter / 2.0
        behind = np.maximum(along, 0.0)
        wide = radius + _WAKE_WIDENS * behind
        lost = (1.0 - math.sqrt(1.0 - thrust)) * (radius / wide) ** 2 * np.exp(-((across / wide) ** 2))
        lost[along <= 0.0] = 0.0
        summed = np.bincount(self._downwind, weights=lost * lost, minlength=len(self._layout.names))
        return np.minimum(np.sqrt(summed), 0.6)


def _drift(value: float, spread: float, share: float, noise: float) -> float:
    """One step of a mean-reverting walk with standard deviation `spread`; `share` is the step over its time scale."""
    keep = math.exp(-share)
    return value * keep + spread * math.sqrt(1.0 - keep * keep) * noise


def _neighbours(layout: Layout) -> tuple[Places, Floats, Floats]:
    """All ordered pairs closer than a wake reaches: who stands behind, how far east and north of the other."""
    reach = _WAKE_REACHES * layout.turbine.rotor_diameter
    ones, others = [], []
    for start in range(0, len(layout.names), 256):
        stop = start + 256
        east = layout.east[None, :] - layout.east[start:stop, None]
        north = layout.north[None, :] - layout.north[start:stop, None]
        near = east * east + north * north < reach * reach
        one, other = np.nonzero(near)
        apart = one + start != other
        ones.append(one[apart] + start)
        others.append(other[apart])
    one, other = np.concatenate(ones), np.concatenate(others)
    return other, layout.east[other] - layout.east[one], layout.north[other] - layout.north[one]
