"""Published reference turbines: their dimensions and power curves.

IEA 3.4 MW, 10 MW: Bortolotti et al., IEA Wind TCP Task 37, WP2.1 Reference Wind Turbines, NREL/TP-5000-73492, 2019.
IEA 15 MW: Gaertner et al., Definition of the IEA 15-Megawatt Offshore Reference Wind Turbine, NREL/TP-5000-75698, 2020.
NREL 5 MW: Jonkman et al., Definition of a 5-MW Reference Wind Turbine, NREL/TP-500-38060, 2009.
The tables are electrical power; the 10 MW report gives rotor power, here times its drivetrain's efficiency of 0.94.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


class Turbine(Struct, frozen=True, kw_only=True):
    """One reference turbine: power in kW, lengths in m, wind in m/s, rotor speeds in rpm; `curve` is (wind, power)."""

    name: str
    rated_power: float
    rotor_diameter: float
    hub_height: float
    rated_wind: float
    slowest: float
    fastest: float
    curve: tuple[tuple[float, float], ...]
    cut_out: float = 25.0

    @property
    def cut_in(self) -> float:
        """The wind from which it produces."""
        return self.curve[0][0]

    def power(self, wind: Floats) -> Floats:
        """Electrical power in steady wind; nothing below cut-in and above cut-out."""
        winds, powers = np.array(self.curve, dtype=np.float64).T
        return np.where(wind > self.cut_out, 0.0, np.interp(wind, winds, powers, left=0.0))


TURBINES: dict[str, Turbine] = {
    "iea-3.4": Turbine(
        name="IEA 3.4 MW 130 m",
        rated_power=3370,
        rotor_diameter=130,
        hub_height=110,
        rated_wind=9.81,
        slowest=3.8,
        fastest=11.75,
        curve=(
            (3.0, 51.6),
            (3.54, 123.4),
            (4.05, 213.2),
            (4.53, 318.8),
            (4.97, 436.0),
            (5.39, 560.9),
            (5.77, 688.9),
            (6.11, 819.1),
            (6.42, 949.7),
            (6.93, 1193.7),
            (7.54, 1541.7),
            (8.09, 1901.5),
            (8.57, 2263.3),
            (9.2, 2799.3),
            (9.57, 3148.5),
            (9.81, 3370.0),
            (25.0, 3370.0),
        ),
    ),
    "nrel-5": Turbine(
        name="NREL 5 MW 126 m",
        rated_power=5000,
        rotor_diameter=126,
        hub_height=90,
        rated_wind=11.4,
        slowest=6.9,
        fastest=12.1,
        curve=(
            (3.0, 40.5),
            (4.0, 177.7),
            (5.0, 403.9),
            (6.0, 737.6),
            (7.0, 1187.2),
            (8.0, 1771.2),
            (9.0, 2518.6),
            (10.0, 3448.4),
            (11.0, 4562.5),
            (11.4, 5000.0),
            (25.0, 5000.0),
        ),
    ),
    "iea-10": Turbine(
        name="IEA 10 MW 198 m",
        rated_power=10000,
        rotor_diameter=198,
        hub_height=119,
        rated_wind=10.75,
        slowest=6.0,
        fastest=8.68,
        curve=(
            (3.0, 35.6),
            (4.0, 414.1),
            (5.0, 1009.9),
            (6.0, 1855.0),
            (7.0, 2963.0),
            (8.0, 4440.3),
            (9.0, 6330.8),
            (9.5, 7392.1),
            (10.0, 8514.3),
            (10.5, 9691.1),
            (10.75, 10000.0),
            (25.0, 10000.0),
        ),
    ),
    "iea-15": Turbine(
        name="IEA 15 MW 240 m",
        rated_power=15000,
        rotor_diameter=240,
        hub_height=150,
        rated_wind=10.59,
        slowest=5.0,
        fastest=7.56,
        curve=(
            (3.0, 70.0),
            (3.5, 302.0),
            (4.0, 595.1),
            (4.5, 964.9),
            (5.0, 1429.2),
            (6.0, 2656.3),
            (7.0, 4339.3),
            (7.5, 5338.8),
            (8.0, 6481.1),
            (8.5, 7774.6),
            (9.0, 9229.2),
            (9.5, 10855.0),
            (10.0, 12661.3),
            (10.5, 14660.7),
            (10.59, 15000.0),
            (25.0, 15000.0),
        ),
    ),
}
