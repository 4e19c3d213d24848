"""`simulate` and `replay` in the terminal: progress, Ctrl-C, summary."""

from __future__ import annotations

import _thread
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlencode

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from skerry import times
from skerry.errors import SkerryError
from skerry_adapters.farm import replay as replaying
from skerry_adapters.farm import simulate as simulating
from skerry_adapters.farm.curves import TURBINES
from skerry_adapters.farm.scada import PRESETS, Preset, Recording, wide
from skerry_registry.cli.given import broker_of, client_of
from skerry_registry.settings import Settings

_PARENT_DEATH = 1
_LOOK_AFTER = 5.0


class OptionInvalid(SkerryError):  # noqa: N818 - a row of the error table, named as it reads
    """An option that makes no sense."""

    code: ClassVar[str] = "option.invalid"
    status: ClassVar[int] = 400
    message: ClassVar[str] = "The option {option} cannot be {value}: {reason}."
    description: ClassVar[str | None] = None


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C ends at once.

    A thread of its own sets it: the one that is interrupted may be waiting for the event, and hold its lock.
    """
    stop = threading.Event()

    def on_signal(number: int, _frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        _thread.start_new_thread(stop.set, ())

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def simulate(
    scene: simulating.Scene,
    settings: Settings,
    *,
    start: str | None,
    truth: Path | None,
    quiet: bool,
    parent: int | None,
) -> None:
    """Run the scene; exits with 1 where records were left undelivered."""
    if scene.model not in TURBINES:
        raise OptionInvalid(option="--model", value=scene.model, reason=f"there are {', '.join(TURBINES)}")
    start_ms = _start(scene, start)
    broker = broker_of(settings)
    if parent is not None:
        die_with(parent)
    console = Console(stderr=True)
    with stopping() as stop, console.status(f"Connecting to {broker.where} …") if not quiet else _silence() as status:
        present = Presence(settings, list(simulating.farm_of(scene).things()), console)

        def show(report: simulating.Report) -> None:
            present()
            if status is not None:
                status.update(_sentence(scene, report))

        report = simulating.run(scene, broker, start_ms=start_ms, stop=stop, truth=truth, show=show)
    sent = report.sent
    console.print(
        f"{scene.turbines} turbines sent {sent.total():,} records to {broker.where}: {sent['onTime']:,} on time, "
        f"{sent['late']:,} late, {sent['duplicate']:,} duplicates; {report.acknowledged:,} acknowledged, "
        f"{report.reconnects} reconnects." + (f" Truth: {truth}" if truth else ""),
        highlight=False,
        soft_wrap=True,
    )
    if report.undelivered:
        console.print(f"{report.undelivered:,} records were not acknowledged.", style="red")
        sys.exit(1)


class Presence:
    """Looks once, a few seconds after the start, whether the server has made the things; says so where it has not."""

    def __init__(self, settings: Settings, ids: Sequence[str], console: Console) -> None:
        self._settings = settings
        self._ids = sorted({ids[0], ids[-1]})
        self._console = console
        self._due = time.monotonic() + _LOOK_AFTER

    def __call__(self) -> None:
        """Look, when it is time; without a login, or a server within reach of HTTP, there is nothing to be seen."""
        if time.monotonic() < self._due or self._settings.login_user is None:
            return
        self._due = float("inf")
        client = client_of(self._settings)
        try:
            found = {
                thing["thingId"] for thing in client.get(f"/api/2/things?{urlencode({'ids': ','.join(self._ids)})}")[0]
            }
        except SkerryError:
            return
        finally:
            client.close()
        for thing_id in self._ids:
            if thing_id not in found:
                self._console.print(
                    f"{thing_id} is not at {client.url}: does the server take in ditto/# from this broker, and may "
                    f"{self._settings.login_user} read it? `skerry dead-letters list` may tell.",
                    style="yellow",
                    soft_wrap=True,
                    highlight=False,
                )


def preset_of(name: str | None, pattern: str, signals: list[str], time_column: str) -> Preset:
    """The preset of a name, or of a pattern. Raises OptionInvalid, FileRefused."""
    if name is not None:
        if name not in PRESETS:
            raise OptionInvalid(option="--preset", value=name, reason=f"there are {', '.join(PRESETS)}")
        return PRESETS[name]
    renamed: dict[str, str] = {}
    for text in signals:
        signal_name, equals, property_ = text.partition("=")
        if not (equals and signal_name and property_):
            raise OptionInvalid(option="--signal", value=text, reason="it reads NAME=PROPERTY")
        renamed[signal_name] = property_
    return wide(pattern, renamed, time_column)


def replay(
    file: Path,
    preset: Preset,
    settings: Settings,
    *,
    speed: str,
    namespace: str | None,
    farm: str | None,
    restart: bool,
    window: int,
) -> None:
    """Replay a file; exits with 130 where it was stopped, keeping the place."""
    factor = _factor(speed)
    recording = Recording(
        file, preset, namespace=namespace or ("scada" if preset.name == "wide" else preset.name), farm=farm or file.stem
    )
    broker = broker_of(settings)
    bookmark = replaying.Bookmark(Path(settings.data_dir), recording, broker)
    if restart:
        bookmark.remove()
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows  {task.fields[rate]:>7,.0f} records/s"),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=4,
    )
    began = time.monotonic()
    console.print(
        f"{file.name}: {_named(recording.ids)}, to {broker.where}",
        highlight=False,
        soft_wrap=True,
    )
    present = Presence(settings, recording.ids, console)
    with stopping() as stop, bar:
        task = bar.add_task("replay", total=recording.total(), rate=0.0)

        def show(progress: replaying.Progress) -> None:
            present()
            away = "" if progress.connected else " [red]broker away[/]"
            shown = datetime.fromtimestamp(progress.moment / 1000, UTC)
            bar.update(
                task,
                completed=progress.rows,
                rate=progress.acknowledged / max(time.monotonic() - began, 0.001),
                description=f"{shown:%Y-%m-%d %H:%M}{away}",
            )

        progress = replaying.replay(
            recording, broker, bookmark=bookmark, speed=factor, stop=stop, window=window, show=show
        )
    _summary(console, recording, progress, time.monotonic() - began)
    if not progress.finished:
        console.print("Stopped; the same command goes on here, --restart begins anew.", style="yellow")
        sys.exit(130)


def die_with(parent: int) -> None:
    """Have the system send us SIGTERM when our parent dies (Linux), and leave if it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH, int(signal.SIGTERM))
    if os.getppid() != parent:
        sys.exit(1)


def _named(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{len(ids)} things, {ids[0]} … {ids[-1]}"


@contextmanager
def _silence() -> Iterator[None]:
    yield None


def _sentence(scene: simulating.Scene, report: simulating.Report) -> str:
    away = "" if report.connected else "  [red]broker away, waiting[/]"
    behind = f"  [yellow]{report.behind:.0f} s behind[/]" if report.behind > 1 else ""
    return f"{scene.turbines} turbines, {report.sent.total():,} records sent, {report.acknowledged:,} acknowledged{behind}{away}"


def _start(scene: simulating.Scene, start: str | None) -> int:
    if start is not None:
        try:
            return times.parse(start) // 1000
        except ValueError as error:
            raise OptionInvalid(option="--start", value=start, reason="it is no ISO 8601 time") from error
    if scene.speed <= 1:
        return int(time.time() * 1000)
    if scene.duration is None:
        raise OptionInvalid(
            option="--speed", value=scene.speed, reason="faster than time it needs --duration or --start"
        )
    return int((time.time() - scene.duration * (1 - 1 / scene.speed)) * 1000)


def _factor(speed: str) -> float | None:
    if speed == "max":
        return None
    try:
        factor = float(speed)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise OptionInvalid(option="--speed", value=speed, reason="it is max or a number above 0")
    return factor


def _summary(console: Console, recording: Recording, progress: replaying.Progress, seconds: float) -> None:
    counts = recording.counts
    console.print(
        f"{progress.rows:,} rows read; {progress.acknowledged:,} records acknowledged in {seconds:.1f} s"
        f" ({progress.acknowledged / max(seconds, 0.001):,.0f}/s)"
        + (f", {progress.resumed:,} by an earlier run" if progress.resumed else "")
        + f"; {counts.empty_cells:,} empty cells.",
        highlight=False,
        soft_wrap=True,
    )
    for thing_id, sent in progress.per_thing.items():
        console.print(f"  {thing_id}  {sent:,} records", highlight=False)
    if counts.first_bad:
        console.print(
            f"{counts.bad_cells:,} cells and {counts.bad_rows:,} rows could not be read; the first: {counts.first_bad}",
            style="yellow",
            soft_wrap=True,
        )
    ignored = [f"{table.name}: {', '.join(table.ignored)}" for table in recording.tables if table.ignored]
    if ignored:
        console.print(f"Columns left out: {'; '.join(ignored)}", style="yellow", soft_wrap=True)
