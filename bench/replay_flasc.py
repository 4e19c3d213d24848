"""Replay FLASC's artificial farm into a fresh server and compare every sample of history with the file.

    python bench/replay_flasc.py [--data FILE.zip] [--mosquitto] [--turbines 7]

Exits with 1 where a turbine's history differs from the file in number, time or value.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import measure
from skerry_registry.cli.client import Client

DATA = measure.ROOT.parent / "shared" / "data" / "flasc-artificial" / "raw_artificial_data.zip"
SIGNALS = {"pow": "power", "ws": "wind", "wd": "windDirection", "ti": "turbulenceIntensity"}
SPAN = {"from": "2019-01-01T00:00:00Z", "to": "2020-02-01T00:00:00Z"}


def expected(path: Path, name: str, columns: dict[str, str]) -> dict[str, list[tuple[str, float]]]:
    """Property -> its samples in the file, as (time, value)."""
    found: dict[str, list[tuple[str, float]]] = {property_: [] for property_ in columns.values()}
    with zipfile.ZipFile(path) as archive, archive.open(name) as raw:
        for row in csv.DictReader(line.decode() for line in raw):
            moment = row["time"].replace(" ", "T") + "Z"
            for column, property_ in columns.items():
                if row[column] not in {"", "nan"}:
                    found[property_].append((moment, float(row[column])))
    return found


def history(client: Client, thing: str, property_: str) -> list[tuple[str, float]]:
    """Every raw sample of a property, page by page."""
    samples: list[tuple[str, float]] = []
    query = {**SPAN, "limit": "1000"}
    while True:
        address = f"/api/2/timeseries/things/{thing}/features/scada/properties/{property_}?{urlencode(query)}"
        answer = client.get(address)[0][0]
        samples += [(row["t"].replace(".000", ""), row["v"]) for row in answer["data"]]
        if not answer["result"]["hasMore"]:
            return samples
        query["cursor"] = answer["result"]["nextCursor"]


def replay(data: Path, http: int, mqtt: str, folder: Path) -> None:
    """The command itself, as a person would run it."""
    env = {
        **os.environ,
        "SKERRY_HTTP_PORT": str(http),
        "SKERRY_MQTT_URL": mqtt,
        "SKERRY_DATA_DIR": str(folder / "data"),
    }
    config = str(measure.ROOT / "compose" / "ditto-defaults.toml")
    command = [sys.executable, "-m", "skerry_registry", "replay", str(data), "--preset", "flasc", "--speed", "max"]
    began = time.monotonic()
    done = subprocess.run([*command, "--config", config], env=env, check=False, stderr=subprocess.PIPE, text=True)
    print("\n".join(line for line in done.stderr.splitlines() if "records" in line))
    print(f"replay: exit {done.returncode} after {time.monotonic() - began:.1f} s")
    if done.returncode:
        sys.exit(done.returncode)


def compare(client: Client, data: Path, turbines: int) -> bool:
    """Whether history is the file, told thing by thing."""
    same = True
    wanted: dict[str, dict[str, list[tuple[str, float]]]] = {}
    for number in range(turbines):
        columns = {f"{short}_{number:03}": property_ for short, property_ in SIGNALS.items()}
        wanted[f"flasc:T{number:03}"] = expected(data, "demo_dataset_scada_600s.csv", columns)
    mast = {
        "WindSpeed_80m": "wind80m",
        "WindDirection_80m": "windDirection80m",
        "TurbulenceIntensity_80m": "turbulenceIntensity80m",
    }
    wanted["flasc:metmast"] = expected(data, "demo_dataset_metmast_600s.csv", mast)
    for thing, properties in wanted.items():
        for property_, samples in properties.items():
            found = history(client, thing, property_)
            equal = found == samples
            same = same and equal
            mean = sum(value for _, value in found) / max(len(found), 1)
            truth = sum(value for _, value in samples) / len(samples)
            print(
                f"{thing:14} {property_:22} {len(found):>6} samples of {len(samples):>6}, mean {mean:10.4f}, in the file "
                f"{truth:10.4f}  {'equal' if equal else 'DIFFERENT'}"
            )
    return same


def main() -> None:
    """Start, replay, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--mosquitto", action="store_true", help="through a Mosquitto instead of the embedded broker")
    parser.add_argument("--turbines", type=int, default=7, help="how many turbines to compare")
    options = parser.parse_args()
    if not options.data.exists():
        sys.exit(f"NOT RUN, data missing: {options.data}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.mosquitto:
            port, _ = stack.enter_context(measure.mosquitto(folder))
            http, process = stack.enter_context(measure.server(folder, mqtt_url=f"mqtt://127.0.0.1:{port}"))
        else:
            port = measure.free_port()
            http, process = stack.enter_context(measure.server(folder, mqtt_port=port))
        replay(options.data, http, f"mqtt://127.0.0.1:{port}", folder)
        client = Client(f"http://127.0.0.1:{http}", "ditto", "ditto")
        began = time.monotonic()
        same = caught_up(client, began) and compare(client, options.data, options.turbines)
        print(json.dumps({"equal": same, "server": process.pid, "compared_in_s": round(time.monotonic() - began, 1)}))
    sys.exit(0 if same else 1)


def caught_up(client: Client, began: float) -> bool:
    """Wait until the last record is in history (an external broker acknowledges before the server has it)."""
    last = "2020-01-02T01:50:00Z"
    while time.monotonic() - began < 600:
        query = urlencode({"from": last, "to": SPAN["to"], "limit": "1"})
        answer, _ = client.get(f"/api/2/timeseries/things/flasc:metmast/features/scada/properties/wind80m?{query}")
        if answer[0]["data"] and answer[0]["result"].get("upToDate", True):
            print(f"history complete {time.monotonic() - began:.1f} s after the replay")
            return True
        time.sleep(0.2)
    return False


if __name__ == "__main__":
    main()
