from __future__ import annotations

import csv
import json
import os
import zipfile
from pathlib import Path

import pytest

from skerry_adapters.farm.outlet import Broker
from skerry_adapters.farm.replay import Bookmark
from skerry_adapters.farm.scada import PRESETS, FileRefused, Recording, wide

SCADA = """wd_truth,ws_truth,ti_truth,time,pow_000,pow_001,ws_000,ws_001,is_operation_normal_000,is_operation_normal_001
93.1,2.18,0.05,2019-01-01 00:00:00,6.4,6.9,2.06,1.89,1,0
104.3,1.71,0.038,2019-01-01 00:10:00,nan,0.0,,1.51,1,1
100.0,1.0,0.1,2019-01-01 00:20:00,5,,x,1.5,1,1
"""
MAST = """time,WindSpeed_80m,WindDirection_80m,TurbulenceIntensity_80m
2019-01-01 00:10:00,2.18,94.1,0.050
2019-01-01 00:20:00,nan,,
"""
REAL = Path(os.environ.get("SKERRY_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def zipped(folder: Path) -> Path:
    file = folder / "farm.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("scada.csv", SCADA)
        archive.writestr("metmast.csv", MAST)
    return file


def flasc(file: Path) -> Recording:
    return Recording(file, PRESETS["flasc"], namespace="flasc", farm="FLASC")


def read(recording: Recording) -> list[tuple[str, dict[str, object]]]:
    return [(recording.ids[record.thing], json.loads(record.payload)) for record in recording.records()]


def test_the_turbines_ids_sort_as_the_file_orders_them_and_the_mast_is_a_thing(tmp_path: Path) -> None:
    recording = flasc(zipped(tmp_path))
    assert [one for one in recording.ids if ":T" in one] == ["flasc:T000", "flasc:T001"]
    assert {one["kind"] for one in recording.things.values()} == {"turbine", "farm", "metmast"}
    assert recording.things["flasc:metmast"]["heights"] == [80]
    assert recording.things["flasc:T000"]["units"] == {"power": "kW", "wind": "m/s"}


def test_every_cell_becomes_a_property_at_its_rows_time_and_empty_ones_do_not(tmp_path: Path) -> None:
    recording = flasc(zipped(tmp_path))
    records = read(recording)
    start = 1_546_300_800_000
    assert records[:3] == [
        ("flasc:T000", {"ts": start, "power": 6.4, "wind": 2.06, "operationNormal": True}),
        ("flasc:T001", {"ts": start, "power": 6.9, "wind": 1.89, "operationNormal": False}),
        ("flasc:farm", {"ts": start, "windDirection": 93.1, "wind": 2.18, "turbulenceIntensity": 0.05}),
    ]
    assert ("flasc:T000", {"ts": start + 600_000, "operationNormal": True}) in records
    assert (
        "flasc:metmast",
        {"ts": start + 600_000, "wind80m": 2.18, "windDirection80m": 94.1, "turbulenceIntensity80m": 0.05},
    ) in records
    assert sum(thing == "flasc:metmast" for thing, _ in records) == 1
    moments = [record["ts"] for _, record in records]
    assert moments == sorted(moments)
    assert recording.counts.empty_cells == 6
    assert (recording.counts.bad_cells, recording.counts.first_bad) == (1, "scada.csv line 4: 'x' is no number")
    assert recording.total() == 5


def test_reading_twice_gives_the_same_records(tmp_path: Path) -> None:
    recording = flasc(zipped(tmp_path))
    assert list(recording.records()) == list(recording.records())


def test_a_pattern_reads_files_without_a_preset(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("when,WT1.P,WT1.V,WT2.P,WT2.V,note\n2020-01-01T00:00:00+01:00,1,2,3,4,5\nnonsense,1,2,3,4,5\n")
    recording = Recording(file, wide("{turbine}.{signal}", {"P": "power"}, "when"), namespace="x", farm="X")
    moment = 1_577_833_200_000
    assert read(recording) == [
        ("x:WT1", {"ts": moment, "power": 1.0}),
        ("x:WT2", {"ts": moment, "power": 3.0}),
        ("x:farm", {"ts": moment, "WT1.V": 2.0, "WT2.V": 4.0, "note": 5.0}),
    ]
    assert (recording.counts.bad_rows, recording.counts.first_bad) == (1, "a.csv line 3: its time is not one")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a,b\n1,2\n", "no column 'time'"),
        (b"time,a\n", "no column fits"),
        (b"time,\xff\xfe\n", "not CSV in UTF-8"),
        (b"", "no column"),
    ],
)
def test_a_file_of_another_kind_is_refused_saying_why(tmp_path: Path, text: bytes, words: str) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(text)
    with pytest.raises(FileRefused, match=words):
        flasc(file)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match=r"nothere\.csv"):
        flasc(tmp_path / "nothere.csv")


def test_a_pattern_without_its_two_placeholders_is_refused() -> None:
    with pytest.raises(FileRefused, match="once each"):
        wide("{signal}", {})


def test_the_bookmark_belongs_to_file_broker_and_things(tmp_path: Path) -> None:
    recording = flasc(zipped(tmp_path))
    one = Bookmark(tmp_path, recording, Broker(host="127.0.0.1", port=1))
    other = Bookmark(tmp_path, recording, Broker(host="127.0.0.1", port=2))
    one.write(7)
    assert (one.read(), other.read()) == (7, 0)
    one.path.write_text("half a fi")
    assert one.read() == 0
    one.remove()
    one.remove()
    assert one.read() == 0


def test_the_flasc_data_gives_every_record_of_every_turbine() -> None:
    file = REAL / "flasc-artificial" / "raw_artificial_data.zip"
    if not file.exists():
        pytest.skip(f"NOT TESTED, data missing: {file}. Set SKERRY_TEST_DATA to the folder of FLASC's artificial data.")
    recording = flasc(file)
    counts = dict.fromkeys(recording.ids, 0)
    powers = {one: [0, 0.0] for one in recording.ids}
    for record in recording.records():
        thing = recording.ids[record.thing]
        counts[thing] += 1
        power = json.loads(record.payload).get("power")
        if power is not None:
            powers[thing][0] += 1
            powers[thing][1] += power
    assert [one for one in recording.ids if one.startswith("flasc:T")] == [f"flasc:T{n:03}" for n in range(7)]
    assert all(counts[f"flasc:T{n:03}"] == 52_698 for n in range(7))
    assert counts["flasc:metmast"] == 46_698 - 6
    with zipfile.ZipFile(file) as archive, archive.open("demo_dataset_scada_600s.csv") as raw:
        rows = list(csv.DictReader(line.decode() for line in raw))
    for number in range(7):
        column = [float(row[f"pow_{number:03}"]) for row in rows if row[f"pow_{number:03}"] not in ("", "nan")]
        assert powers[f"flasc:T{number:03}"] == [len(column), pytest.approx(sum(column))]
