"""The turbines of a farm in the wind: what each one measures at each step."""

from __future__ import annotations

import math

import numpy as np

from skerry_adapters.farm.curves import Floats
from skerry_adapters.farm.layout import Layout
from skerry_adapters.farm.wind import Wind

STATUSES = ("operating", "idle", "stopped", "fault", "maintenance")
_OPERATING, _IDLE, _STOPPED, _FAULT, _MAINTENANCE = range(5)
_REPAIR = 900.0
"""Seconds that a failure lasts, on average."""
_RECORD = (
    '{"ts":%d,"power":%.1f,"wind":%.2f,"windDirection":%.1f,"turbulenceIntensity":%.3f,"rotorSpeed":%.2f,'
    '"pitch":%.2f,"yaw":%.1f,"generatorTemperature":%.1f,"ambientTemperature":%.1f,"status":"%s"}'
)


class Fleet:
    """Turbines with inertia: yaw that lags, generators that warm up, faults that stop one for a while.

    `faults_per_day`: how often a turbine fails, on average.
    """

    def __init__(
        self,
        layout: Layout,
        rng: np.random.Generator,
        *,
        wind: Wind,
        faults_per_day: float,
    ) -> None:
        self._rng = rng
        self._wind = wind
        self._turbine = layout.turbine
        self._fault_rate = faults_per_day / 86_400.0
        count = len(layout.names)
        self._yaw = (wind.direction + rng.normal(0.0, 3.0, count)) % 360.0
        self._yawing = np.zeros(count, dtype=bool)
        self._vane = rng.normal(0.0, 2.0, count)
        self._warm = np.full(count, 45.0)
        self._out = np.zeros(count)
        self._maintained = np.zeros(count, dtype=bool)
        self._felt = wind.speed.copy()
        self.power = np.zeros(count)
        self.status = np.zeros(count, dtype=np.int64)

    def step(self, moment_ms: int, dt: float) -> list[bytes]:
        """Move on by `dt` seconds to `moment_ms`; each turbine's record as JSON, in the layout's order."""
        wind, turbine = self._wind, self._turbine
        wind.step(moment_ms / 1000.0, dt)
        self._fail_and_repair(dt)
        self._felt += (wind.speed - self._felt) * (1.0 - math.exp(-dt / 5.0))
        direction = (wind.direction + self._vane + self._rng.normal(0.0, 1.5, len(self._felt))) % 360.0
        self._follow(direction, dt)
        self.status = np.where(
            self._out > 0.0,
            np.where(self._maintained, _MAINTENANCE, _FAULT),
            np.where(self._felt > turbine.cut_out, _STOPPED, np.where(self._felt < turbine.cut_in, _IDLE, _OPERATING)),
        )
        turns = self.status == _OPERATING
        askew = np.cos(np.radians(_between(direction, self._yaw))) ** 2
        self.power = np.where(turns, np.minimum(turbine.power(self._felt) * askew, turbine.rated_power), 0.0)
        share = np.clip((self._felt - turbine.cut_in) / (turbine.rated_wind - turbine.cut_in), 0.0, 1.0)
        rotor = np.where(turns, turbine.slowest + share * (turbine.fastest - turbine.slowest), 0.0)
        pitch = np.where(turns, _pitch(self._felt, turbine.rated_wind, turbine.cut_out), 85.0)
        self._warm += (wind.temperature + 12.0 + 55.0 * self.power / turbine.rated_power - self._warm) * (
            1.0 - math.exp(-dt / 600.0)
        )
        ambient = round(wind.temperature, 1)
        return [
            (_RECORD % (moment_ms, *values, ambient, STATUSES[status])).encode()
            for *values, status in zip(
                self.power.tolist(),
                wind.speed.tolist(),
                direction.tolist(),
                wind.turbulence.tolist(),
                rotor.tolist(),
                pitch.tolist(),
                self._yaw.tolist(),
                self._warm.tolist(),
                self.status.tolist(),
                strict=True,
            )
        ]

    def _fail_and_repair(self, dt: float) -> None:
        count = len(self._out)
        self._out = np.maximum(self._out - dt, 0.0)
        luck, lasts, kind = self._rng.random(count), self._rng.exponential(_REPAIR, count), self._rng.random(count)
        fails = (self._out == 0.0) & (luck < -math.expm1(-self._fault_rate * dt))
        self._out[fails] = lasts[fails]
        self._maintained[fails] = kind[fails] < 0.2

    def _follow(self, direction: Floats, dt: float) -> None:
        """Yaw starts 8 degrees off the wind and stops within 1; at most 0.4 degrees per second."""
        off = _between(direction, self._yaw)
        self._yawing = np.where(self._yawing, np.abs(off) > 1.0, np.abs(off) > 8.0)
        move = np.clip(off, -0.4 * dt, 0.4 * dt)
        self._yaw = np.where(self._yawing & (self._out == 0.0), self._yaw + move, self._yaw) % 360.0


def _between(one: Floats, other: Floats) -> Floats:
    """The angle from `other` to `one`, -180 to 180."""
    return (one - other + 180.0) % 360.0 - 180.0


def _pitch(wind: Floats, rated: float, cut_out: float) -> Floats:
    """Blades feather above rated wind, up to 23 degrees at cut-out."""
    return 23.0 * np.sqrt(np.clip((wind - rated) / (cut_out - rated), 0.0, 1.0))
