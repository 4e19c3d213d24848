"""The examples of docs/devices.md do what it says."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import msgspec

from skerry_adapters.inbound import Inbound
from skerry_adapters.mapping import compile_source
from skerry_adapters.sources import DEFAULT_SOURCES, Source

TEXT = (Path(__file__).parent.parent / "docs" / "devices.md").read_text(encoding="utf-8")
NOW = 1_800_000_000_000_000


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def sources() -> dict[str, Source]:
    found = [source for block in blocks("toml") for source in tomllib.loads(block)["sources"]]
    return {source.name: source for source in msgspec.convert(found, list[Source])}


def test_the_farms_example_needs_configuration_only() -> None:
    payload = next(block for block in blocks("json") if '"power"' in block)
    message = Inbound(topic="farm1/T07/scada", payload=payload.encode(), qos=1, mid=1)
    made = compile_source(sources()["farm1"], 256_000)(message, NOW)
    assert (made.id, made.path, made.observed) == ("farm1:T07", ("features", "scada"), 1_700_000_000_000_000)
    assert made.value == {"properties": {"power": 2150.3, "wind": 9.8}}
    assert sources()["farm1"].filters == ("farm1/+/scada",)


def test_the_default_sources_are_written_down_as_they_are() -> None:
    for default in DEFAULT_SOURCES:
        written = sources()[default.name]
        assert written.filters == default.filters
        assert msgspec.structs.replace(written, topics=default.topics) == default


def test_the_gateways_example_maps_as_described() -> None:
    described = re.search(r"`(\{\"unit\".*?\})` on `(.*?)`", TEXT)
    assert described
    message = Inbound(topic=described[2], payload=described[1].encode(), qos=1, mid=1)
    made = compile_source(sources()["gateway"], 256_000)(message, NOW)
    assert (made.id, made.path, made.observed) == ("north:7", ("features", "gear"), 1_700_000_000_000_000)
    assert made.value == {"properties": {"power": 12.5, "temperature": 61.5, "gateway": "G2"}}


def test_the_envelope_of_the_example_is_one() -> None:
    command = next(block for block in blocks("sh") if "commands/create" in block)
    topic, _, payload = shlex.split(command)[-3:]
    made = compile_source(sources()["ditto"], 256_000)(Inbound(topic=topic, payload=payload.encode()), NOW)
    assert (made.verb, made.id, made.path) == ("create", "my.farm:A2", ())


def test_every_member_of_a_source_is_documented() -> None:
    listed = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert listed == set(Source.__struct_fields__)
