"""Sources: what the settings may say, and what they are told when they say something else."""

from __future__ import annotations

import msgspec
import pytest

from skerry_adapters.sources import DEFAULT_SOURCES, Source, matcher


def test_the_default_sources_take_envelopes_and_telemetry() -> None:
    ditto, telemetry, hono = DEFAULT_SOURCES
    assert (ditto.filters, ditto.payload) == (("ditto/#",), "ditto")
    assert (telemetry.filters, telemetry.pattern) == (
        ("telemetry/+/+/+",),
        "telemetry/{namespace}/{name}/{feature}",
    )
    assert {"t", "e", "telemetry", "event", "t/+/+", "command/+/+/res/+/+", "c/+/+/s/+/+"} < set(hono.filters)


def test_topics_follow_from_the_pattern() -> None:
    source = Source(name="farm1", pattern="farm1/WT-{turbine}/scada", thing="farm1:{turbine}", feature="scada")
    assert source.filters == ("farm1/+/scada",)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "it has no name"),
        ({"topics": ("a/b",)}, "telemetry needs pattern"),
        (
            {"pattern": "farm1/{turbine}/scada", "thing": "farm1:{turbin}", "feature": "scada"},
            "thing uses '{turbin}', which pattern does not have; did you mean {turbine}?",
        ),
        ({"pattern": "farm1/{turbine}/scada"}, "set thing to what pattern has ({turbine})"),
        (
            {"pattern": "x/{n}", "thing": "x:{n}", "feature": "f", "topics": ("x/+/+",)},
            "no topic of the filter 'x/+/+' can have the form of pattern 'x/{n}'",
        ),
        ({"pattern": "x/{n}/{n}", "thing": "x:{n}", "feature": "f"}, "'{n}' twice"),
        ({"pattern": "x/+", "thing": "x:y", "feature": "f"}, "may not hold +, # or a lone brace"),
        ({"pattern": "x/{n}", "thing": "turbine", "feature": "f"}, "thing 'turbine' has no namespace"),
        ({"pattern": "x/{n}", "thing": "x:{n}", "feature": "f", "time": "ts"}, "write '/ts'"),
        (
            {"pattern": "x/{n}", "thing": "x:{n}", "feature": "f", "properties": {"a/b": "/a"}},
            "'a/b' cannot be the name of a property",
        ),
        ({"payload": "ditto"}, "topics is empty"),
        ({"payload": "ditto", "topics": ("a#",)}, "in the topic filter 'a#'"),
        ({"payload": "ditto", "topics": ("a/#",), "time": "/t"}, "time has no meaning for Ditto envelopes"),
        ({"payload": "ditto", "topics": ("a/#",), "subjects": ()}, "subjects is empty"),
    ],
)
def test_a_source_that_cannot_work_is_refused_with_its_name_and_the_cure(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match="source '") as caught:
        Source(**{"name": "s", **fields})  # type: ignore[arg-type]  # fields of several types
    assert said in str(caught.value)
    assert fields.get("name", "s") in str(caught.value)


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="patern"):
        msgspec.convert({"name": "s", "patern": "x/{n}"}, Source)


@pytest.mark.parametrize(
    ("topic", "filters", "fits"),
    [
        ("a/b/c", ("a/+/c",), True),
        ("a/b/c/d", ("a/+/c",), False),
        ("a", ("a/#",), True),
        ("a/b/c", ("a/#",), True),
        ("ab", ("a/#",), False),
        ("a//c", ("a/+/c",), True),
        ("x/y", ("#",), True),
        ("$SYS/y", ("#",), False),
        ("$SYS/y", ("$SYS/#",), True),
        ("/a", ("+/+",), True),
        ("a/b\nc", ("a/+",), True),
        ("a/b", ("$share/group/a/+",), True),
        ("c", ("a", "b/#", "c"), True),
        ("a.b", ("a+b",), False),
    ],
)
def test_topic_filters_match_as_mqtt_says(topic: str, filters: tuple[str, ...], fits: bool) -> None:
    assert bool(matcher(filters).fullmatch(topic)) is fits
