"""Running a simulated farm: its things are made, then its turbines publish at their rate, and the truth is written down."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Self

import msgspec
import numpy as np
from msgspec import Struct

from skerry_adapters.farm.curves import TURBINES
from skerry_adapters.farm.fleet import Fleet
from skerry_adapters.farm.layout import Layout, rows_of
from skerry_adapters.farm.link import Link, Sending
from skerry_adapters.farm.making import make_things, telemetry_topic
from skerry_adapters.farm.outlet import Broker, Outlet
from skerry_adapters.farm.wind import Wind

_SLICES = 20


class Scene(Struct, frozen=True, kw_only=True):
    """What is simulated. `interval`: seconds between records; `history`: seconds of past sent first, as fast as it goes.

    `speed`: simulated seconds per real second; `duration`: simulated seconds, None for ever. Rates are per turbine and day.
    """

    turbines: int = 25
    seed: int = 1
    namespace: str = "demo"
    farm: str = "Skerry Bank"
    model: str = "iea-3.4"
    interval: float = 1.0
    duration: float | None = None
    history: float = 0.0
    speed: float = 1.0
    mean_wind: float = 7.5
    wind_direction: float = 250.0
    faults_per_day: float = 2.0
    outages_per_day: float = 2.0
    duplicates: float = 0.001


class Step(Struct, frozen=True):
    """One step of the farm: its moment (epoch ms) and what goes out."""

    moment: int
    sendings: list[Sending]


class Report(Struct, kw_only=True):
    """How far a run has come."""

    sent: Counter[str] = msgspec.field(default_factory=Counter)
    acknowledged: int = 0
    behind: float = 0.0
    connected: bool = True
    reconnects: int = 0
    undelivered: int = 0


def farm_of(scene: Scene) -> Layout:
    """The scene's farm; the same for the same seed."""
    rng = np.random.default_rng([scene.seed, 0])
    return rows_of(scene.turbines, TURBINES[scene.model], scene.namespace, scene.farm, rng)


def steps(scene: Scene, start_ms: int) -> Iterator[Step]:
    """What the farm sends, step by step from `start_ms` on; the same for the same scene and start. No I/O, no clock."""
    layout = farm_of(scene)
    rng = np.random.default_rng([scene.seed, 1])
    wind = Wind(layout, rng, mean=scene.mean_wind, direction=scene.wind_direction)
    fleet = Fleet(layout, rng, wind=wind, faults_per_day=scene.faults_per_day)
    link = Link(
        scene.turbines,
        np.random.default_rng([scene.seed, 2]),
        outages_per_day=scene.outages_per_day,
        outage=60.0,
        duplicates=scene.duplicates,
    )
    past = int(scene.history / _coarse(scene)) if scene.history else 0
    moment = start_ms - int(past * _coarse(scene) * 1000)
    for _ in range(past):
        yield Step(
            moment,
            [Sending(number, record, "onTime") for number, record in enumerate(fleet.step(moment, _coarse(scene)))],
        )
        moment += int(_coarse(scene) * 1000)
    live = None if scene.duration is None else max(1, round(scene.duration / scene.interval))
    done = 0
    while live is None or done < live:
        sendings = list(link.carry(fleet.step(moment, scene.interval), scene.interval))
        done += 1
        if done == live:
            sendings.extend(link.flush())
        yield Step(moment, sendings)
        moment = start_ms + round(done * scene.interval * 1000)


def run(
    scene: Scene,
    broker: Broker,
    *,
    start_ms: int,
    stop: threading.Event,
    truth: Path | None = None,
    show: Callable[[Report], None] = lambda _report: None,
) -> Report:
    """Publish the scene in time until it ends or `stop` is set. Raises BrokerRefused, OSError for the truth file."""
    things = farm_of(scene).things()
    topics = [telemetry_topic(thing_id) for thing_id in things]
    ids = list(things)
    report = Report()
    with Outlet(broker, stop=stop) as outlet, _Truth(truth, ids) as written:
        make_things(outlet, things)
        began = time.monotonic()
        for step in steps(scene, start_ms):
            due = began + (step.moment - start_ms) / 1000.0 / scene.speed
            for part, wait_until in _spread(step.sendings, due, scene.interval / scene.speed):
                if stop.wait(max(0.0, wait_until - time.monotonic())) or not _publish(
                    outlet, part, topics, written, report
                ):
                    break
            _note(report, outlet, made=len(ids))
            report.behind = max(0.0, time.monotonic() - due - scene.interval / scene.speed)
            show(report)
            if stop.is_set():
                break
        outlet.drain(2.0 if stop.is_set() else 30.0)
        _note(report, outlet, made=len(ids))
    return report


def _publish(outlet: Outlet, sendings: Iterable[Sending], topics: list[str], truth: _Truth, report: Report) -> bool:
    for sending in sendings:
        if not outlet.send(topics[sending.turbine], sending.record):
            return False
        report.sent[sending.how] += 1
        truth.write(sending)
    return True


def _note(report: Report, outlet: Outlet, *, made: int) -> None:
    report.acknowledged = max(0, outlet.acknowledged - made)
    report.undelivered = report.sent.total() - report.acknowledged
    report.connected = outlet.connected
    report.reconnects = outlet.reconnects


def _coarse(scene: Scene) -> float:
    """The past is sent in steps of ten seconds, or in the scene's own where they are longer."""
    return max(10.0, scene.interval)


def _spread(sendings: list[Sending], due: float, interval: float) -> Iterator[tuple[list[Sending], float]]:
    """A large farm's records spread over most of the interval, as real turbines do not speak all at once."""
    size = max(50, -(-len(sendings) // _SLICES))
    for start in range(0, len(sendings), size):
        yield sendings[start : start + size], due + 0.8 * interval * start / len(sendings)


class _Truth:
    """The known truth: a line of JSON per message sent, with the thing, how it went out, and the record itself."""

    def __init__(self, path: Path | None, ids: list[str]) -> None:
        self._path = path
        self._heads = [b'{"thing":' + msgspec.json.encode(thing_id) + b',"sent":"' for thing_id in ids]
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._file = self._path.open("wb")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, sending: Sending) -> None:
        """Note one message."""
        if self._file is not None:
            line = b'%b%b","record":%b}\n' % (self._heads[sending.turbine], sending.how.encode(), sending.record)
            self._file.write(line)
