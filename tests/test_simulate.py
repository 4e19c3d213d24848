from __future__ import annotations

import json
from itertools import islice

import numpy as np
import pytest

from skerry_adapters.farm.curves import TURBINES
from skerry_adapters.farm.fleet import Fleet
from skerry_adapters.farm.layout import rows_of
from skerry_adapters.farm.link import Link
from skerry_adapters.farm.simulate import Scene, farm_of, steps
from skerry_adapters.farm.wind import Wind

START = 1_767_225_600_000


def sent(scene: Scene, count: int) -> list[bytes]:
    return [sending.record for step in islice(steps(scene, START), count) for sending in step.sendings]


@pytest.mark.parametrize("name", TURBINES)
def test_a_power_curve_is_nothing_below_cut_in_and_above_cut_out_and_rated_between(name: str) -> None:
    turbine = TURBINES[name]
    winds = np.array([0.0, turbine.cut_in - 0.01, turbine.rated_wind, 24.9, 25.0, 25.01, 40.0])
    assert turbine.power(winds).tolist() == [0, 0, turbine.rated_power, turbine.rated_power, turbine.rated_power, 0, 0]
    rising = turbine.power(np.linspace(turbine.cut_in, 25.0, 200))
    assert (np.diff(rising) >= 0).all()


@pytest.mark.parametrize("name", TURBINES)
def test_no_power_curve_takes_more_from_the_wind_than_betz_allows(name: str) -> None:
    turbine = TURBINES[name]
    area = np.pi * turbine.rotor_diameter**2 / 4
    for wind, power in turbine.curve:
        assert power * 1000 < 16 / 27 * 0.5 * 1.225 * area * wind**3


def test_the_same_seed_gives_the_same_records_and_another_seed_others() -> None:
    scene = Scene(turbines=7, seed=3)
    assert sent(scene, 20) == sent(scene, 20)
    assert sent(scene, 20) != sent(Scene(turbines=7, seed=4), 20)


@pytest.mark.parametrize("mean_wind", [2.0, 9.0, 24.0])
def test_every_record_is_physically_possible(mean_wind: float) -> None:
    scene = Scene(turbines=20, seed=5, mean_wind=mean_wind, interval=30.0, faults_per_day=200.0)
    turbine = TURBINES[scene.model]
    for record in map(json.loads, sent(scene, 200)):
        assert 0 <= record["power"] <= turbine.rated_power
        assert record["wind"] >= 0
        assert 0 <= record["windDirection"] <= 360
        assert 0 <= record["yaw"] <= 360
        assert record["rotorSpeed"] == 0 or turbine.slowest <= record["rotorSpeed"] <= turbine.fastest
        if record["status"] != "operating":
            assert (record["power"], record["rotorSpeed"]) == (0, 0)


def test_all_statuses_come_up() -> None:
    calm = sent(Scene(turbines=20, mean_wind=2.0, interval=60.0, faults_per_day=300.0), 100)
    storm = sent(Scene(turbines=20, mean_wind=26.0, interval=60.0, faults_per_day=0.0), 100)
    found = {json.loads(record)["status"] for record in calm + storm}
    assert found == {"operating", "idle", "stopped", "fault", "maintenance"}


def test_a_row_of_turbines_along_the_wind_loses_power_in_its_wakes() -> None:
    rng = np.random.default_rng(1)
    layout = rows_of(49, TURBINES["iea-3.4"], "demo", "farm", rng)
    wind = Wind(layout, rng, mean=8.0, direction=270.0)
    fleet = Fleet(layout, rng, wind=wind, faults_per_day=0.0)
    total = np.zeros(49)
    for number in range(400):
        fleet.step(START + number * 10_000, 10.0)
        total += fleet.power
    front = layout.east < layout.turbine.rotor_diameter * 3
    assert total[front].mean() > 1.1 * total[~front].mean()


def test_a_link_outage_delays_records_and_loses_none() -> None:
    link = Link(10, np.random.default_rng(2), outages_per_day=2000.0, outage=10.0, duplicates=0.05)
    went: list[tuple[int, bytes, str]] = []
    for number in range(300):
        went.extend((one.turbine, one.record, one.how) for one in link.carry([b"%d" % number] * 10, 1.0))
    went.extend((one.turbine, one.record, one.how) for one in link.flush())
    firsts = [(turbine, record) for turbine, record, how in went if how != "duplicate"]
    assert sorted(firsts) == sorted((turbine, b"%d" % number) for turbine in range(10) for number in range(300))
    assert {how for _, _, how in went} == {"onTime", "late", "duplicate"}
    assert {(t, r) for t, r, how in went if how == "duplicate"} <= set(firsts)


def test_history_comes_before_the_start_in_order_and_the_duration_ends_it() -> None:
    moments = [step.moment for step in steps(Scene(turbines=2, history=60.0, duration=3.0), START)]
    assert moments == sorted(moments)
    assert moments == [START - 60_000 + 10_000 * n for n in range(6)] + [START, START + 1000, START + 2000]


def test_the_things_of_a_farm_say_where_and_what_they_are() -> None:
    things = farm_of(Scene(turbines=120)).things()
    assert list(things) == sorted(things)
    assert list(things)[:2] == ["demo:T001", "demo:T002"]
    first = things["demo:T001"]
    assert first["kind"] == "turbine"
    assert first["ratedPower"] == 3370
    assert set(first["position"]) == {"x", "y", "lat", "lon"}
