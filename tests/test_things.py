"""Things: what commands come to."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import UNSET

from skerry import parts, things
from skerry.errors import SkerryError
from thing_door import EMPTY, ID, LIMIT, POWER, SCADA, THING, ask, decide, read, refused, send


@pytest.fixture
def held():
    return send(EMPTY, "modify", (), THING)


@pytest.mark.parametrize("verb", ["create", "modify", "merge"])
def test_a_thing_that_is_not_there_is_created_with_201_and_its_value(verb):
    decision = decide(EMPTY, verb, (), THING | {"_revision": 99, "extra": 1})
    whole = {"thingId": ID, **THING}
    assert (decision.response.status, decision.response.value, decision.response.etag) == (201, whole, '"rev:1"')
    assert (decision.event.action, decision.event.path, decision.event.value, decision.event.revision) == (
        "created",
        (),
        whole,
        1,
    )
    held = things.apply(EMPTY, decision.event)
    assert (held.document, held.revision, held.created, held.modified) == (whole, 1, 1_000_000, 1_000_000)


def test_creating_by_a_patch_leaves_nulls_out():
    held = send(EMPTY, "merge", (), {"policyId": ID, "definition": None, "attributes": {"a": None, "b": 1}})
    assert held.document == {"thingId": ID, "policyId": ID, "attributes": {"b": 1}}


def test_creating_what_exists_is_a_conflict(held):
    assert refused(held, "create", (), THING) == ("things:thing.conflict", 409)


def test_replacing_a_thing_keeps_its_policy_and_its_birth(held):
    decision = decide(held, "modify", (), {"attributes": {"a": 1}})
    assert (decision.response.status, decision.response.value, decision.event.action) == (204, UNSET, "modified")
    after = things.apply(held, decision.event)
    assert after.document == {"thingId": ID, "policyId": ID, "attributes": {"a": 1}}
    assert (after.created, after.modified, after.revision) == (held.created, 2_000_000, 2)


def test_a_deleted_thing_keeps_its_count_of_revisions(held):
    gone = send(held, "delete")
    assert (gone.document, gone.revision) == (None, 2)
    again = send(gone, "modify", (), THING)
    assert (again.revision, again.created) == (3, 3_000_000)


@pytest.mark.parametrize(
    ("path", "value", "status", "action"),
    [
        (("policyId",), "other:policy", 204, "modified"),
        (("definition",), "a:b:c", 204, "modified"),
        (("attributes",), {"a": 1}, 204, "modified"),
        (("attributes", "name"), "x", 204, "modified"),
        (("attributes", "name"), None, 204, "modified"),
        (("attributes", "new", "deep", "er"), [1, {"a": None}], 201, "created"),
        (("features",), {}, 204, "modified"),
        (SCADA, {"properties": {}}, 204, "modified"),
        (("features", "new"), {"properties": {"a": 1}}, 201, "created"),
        (("features", "*"), {}, 201, "created"),
        ((*SCADA, "definition"), ["a:b:d"], 204, "modified"),
        (("features", "bare", "definition"), ["a:b:d", "https://x/y"], 201, "created"),
        ((*SCADA, "properties"), {"a": 1}, 204, "modified"),
        (("features", "bare", "properties"), {"a": 1}, 201, "created"),
        (POWER, 7.5, 204, "modified"),
        ((*SCADA, "properties", "new", "deep"), 7.5, 201, "created"),
        ((*SCADA, "desiredProperties"), {"a": 1}, 201, "created"),
        ((*SCADA, "desiredProperties", "a", "b"), 1, 201, "created"),
    ],
)
def test_putting_answers_201_with_the_value_or_204(held, path, value, status, action):
    decision = decide(held, "modify", path, value)
    assert (decision.response.status, decision.event.action, decision.event.path) == (status, action, path)
    assert decision.response.value == (value if status == 201 else UNSET)
    after = things.apply(held, decision.event)
    answer = read(after, path)
    assert (answer.value, answer.etag) == (value, decision.response.etag)
    assert after.document["thingId"] == ID


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ((), {"attributes": {"name": None, "a": 1}}, {"position": {"x": 1.5}, "a": 1}),
        (("attributes",), {"position": None}, {"name": "T01"}),
        (("attributes", "position"), None, {"name": "T01"}),
        (("attributes", "nothing"), None, THING["attributes"]),
        (("attributes", "new", "deep"), {"a": 1, "b": None}, THING["attributes"] | {"new": {"deep": {"a": 1}}}),
        (("attributes",), {"{{ ~n.*~ }}": None}, {"position": {"x": 1.5}}),
    ],
)
def test_merging_answers_204_always(held, path, value, expected):
    decision = decide(held, "merge", path, value)
    assert (decision.response.status, decision.event.action, decision.event.value) == (204, "merged", value)
    assert things.apply(held, decision.event).document["attributes"] == expected


def test_a_patch_makes_the_feature_that_it_speaks_of(held):
    after = send(held, "merge", ("features", "new", "properties", "a"), 5)
    assert after.document["features"]["new"] == {"properties": {"a": 5}}


def test_a_patch_may_delete_definition_attributes_and_features(held):
    after = send(held, "merge", (), {"definition": None, "attributes": None, "features": None})
    assert after.document == {"thingId": ID, "policyId": ID}


@pytest.mark.parametrize(
    ("path", "row"),
    [
        ((), parts.ThingNotAccessible),
        (("definition",), parts.DefinitionNotFound),
        (("attributes",), parts.AttributesNotFound),
        (("attributes", "a", "b"), parts.AttributeNotFound),
        (("features",), parts.FeaturesNotFound),
        (("features", "f"), parts.FeatureNotFound),
        (("features", "f", "properties", "a"), parts.FeatureNotFound),
        (("features", "bare", "definition"), parts.FeatureDefinitionNotFound),
        (("features", "bare", "properties"), parts.PropertiesNotFound),
        (("features", "bare", "properties", "a"), parts.PropertiesNotFound),
        (("features", "bare", "desiredProperties"), parts.DesiredPropertiesNotFound),
        (("features", "full", "properties", "b"), parts.PropertyNotFound),
        (("features", "full", "desiredProperties", "b"), parts.DesiredPropertyNotFound),
    ],
)
def test_what_is_missing_is_named(path, row):
    document = {"policyId": ID}
    if path and path[0] == "features" and len(path) > 1:
        document["features"] = {"bare": {}, "full": {"properties": {"a": 1}, "desiredProperties": {"a": 1}}}
    held = send(EMPTY, "modify", (), document) if path else send(send(EMPTY, "modify", (), document), "delete")
    for verb in ("retrieve", "delete"):
        with pytest.raises(SkerryError) as error:  # noqa: PT012 - one way or the other
            if verb == "delete":
                decide(held, "delete", path, asked={"if-match": '"x"'})
            else:
                read(held, path, if_match='"x"')
        assert error.type is row
        assert error.value.status == 404
        assert "{" not in error.value.text


def test_nothing_but_creation_works_on_a_thing_that_is_not_there():
    for verb, path, value in [
        ("modify", ("attributes", "a"), 1),
        ("merge", POWER, 1),
        ("delete", (), UNSET),
        ("merge", SCADA, {"properties": {"a": 1}}),
    ]:
        assert refused(EMPTY, verb, path, value) == ("things:thing.notfound", 404)
    assert refused(EMPTY, "merge", SCADA, {"properties": {"a": 1}}, observed=5) == ("things:thing.notfound", 404)


def test_a_put_below_a_feature_needs_the_feature(held):
    for path in (
        ("features", "no", "properties"),
        ("features", "no", "properties", "a"),
        ("features", "no", "definition"),
    ):
        assert refused(held, "modify", path, {"definition": ["a:b:c"]}.get(path[-1], {})) == (
            "things:feature.notfound",
            404,
        )


@pytest.mark.parametrize(
    ("verb", "path", "value", "code"),
    [
        ("modify", (), UNSET, "json.format.invalid"),
        ("modify", (), None, "json.invalid"),
        ("modify", (), [], "json.invalid"),
        ("modify", (), {"thingId": "a:b"}, "things:id.notsettable"),
        ("modify", (), {"policyId": "nonsense"}, "policies:id.invalid"),
        ("modify", (), {"policyId": 5}, "json.invalid"),
        ("modify", (), {"definition": "nonsense"}, "things:definition.identifier.invalid"),
        ("modify", (), {"definition": 5}, "json.invalid"),
        ("modify", (), {"attributes": []}, "json.invalid"),
        ("modify", (), {"attributes": {"a/b": 1}}, "json.key.invalid"),
        ("modify", (), {"attributes": {"a": {"ü": 1}}}, "json.key.invalid"),
        ("modify", (), {"attributes": {"": 1}}, "json.key.invalid"),
        ("modify", (), {"attributes": {"a": float("nan")}}, "json.invalid"),
        ("modify", (), {"attributes": {"a": float("-inf")}}, "json.invalid"),
        ("modify", (), {"attributes": {"a": 2**63}}, "json.invalid"),
        ("modify", (), {"attributes": {"a": {1, 2}}}, "json.invalid"),
        ("modify", (), {"attributes": {"a": "\ud800"}}, "json.invalid"),
        ("modify", (), {"features": []}, "json.invalid"),
        ("modify", (), {"features": {"a/b": {}}}, "json.key.invalid"),
        ("modify", (), {"features": {"f": 5}}, "json.invalid"),
        ("modify", (), {"features": {"f": {"properties": 5}}}, "json.invalid"),
        ("modify", (), {"features": {"f": {"definition": []}}}, "things:feature.definition.empty"),
        ("modify", (), {"features": {"f": {"definition": "a:b:c"}}}, "json.invalid"),
        ("modify", (), {"features": {"f": {"definition": ["x"]}}}, "things:definition.identifier.invalid"),
        ("modify", (*SCADA, "definition"), [], "things:feature.definition.empty"),
        ("modify", (*SCADA, "definition"), [1], "json.invalid"),
        ("modify", ("attributes", "a\n"), 1, "json.key.invalid"),
        ("modify", ("attributes", "a/b"), 1, "json.key.invalid"),
        ("modify", ("nothing",), 1, "signals.commands:path.unknown"),
        ("modify", (*SCADA, "nothing"), 1, "signals.commands:path.unknown"),
        ("modify", (*SCADA, "definition", "0"), "a:b:c", "signals.commands:path.unknown"),
        ("create", ("attributes",), {}, "signals.commands:path.unknown"),
        ("delete", ("thingId",), UNSET, "signals.commands:path.unknown"),
        ("delete", ("policyId",), UNSET, "things:policyId.notdeletable"),
        ("modify", ("policyId",), None, "policies:id.invalid"),
        ("modify", ("policyId",), 7, "policies:id.invalid"),
        ("merge", ("policyId",), None, "things:policyId.notdeletable"),
        ("merge", (), {"policyId": None}, "things:policyId.notdeletable"),
        ("merge", (), {"thingId": None}, "things:id.notdeletable"),
        ("merge", (), {"thingId": "a:b"}, "things:id.notsettable"),
        ("merge", (), {}, "things:merge.invalid"),
        ("merge", (), {"foo": 1, "_revision": 3}, "things:merge.invalid"),
        ("merge", (), None, "things:merge.invalid"),
        ("merge", (), {"{{ ~a.*~ }}": None}, "things:merge.invalid"),
        ("merge", ("attributes",), {"{{ ~(~ }}": None}, "things:merge.invalid"),
        ("merge", SCADA, {"properties": {"a": float("inf")}}, "json.invalid"),
        ("merge", (*SCADA, "properties"), {"a/b": None}, "json.key.invalid"),
    ],
)
def test_what_cannot_stand_in_a_thing_is_400(held, verb, path, value, code):
    assert refused(held, verb, path, value) == (code, 400)


def test_keys_within_arrays_are_free_and_keys_have_256_characters_at_most(held):
    value = {"a": [{"x/y": 1, "": {"ü": 2}}], "k" * 256: 1}
    assert send(held, "modify", ("attributes",), value).document["attributes"] == value
    assert refused(held, "modify", ("attributes",), {"k" * 257: 1}) == ("json.key.invalid", 400)
    assert refused(held, "modify", ("attributes",), {"a": [float("nan")]}) == ("json.invalid", 400)


def test_nesting_has_a_bound_and_never_breaks_the_process(held):
    deep = 1
    for _ in range(90):
        deep = {"a": deep}
    send(held, "modify", ("attributes", "deep"), deep)
    for _ in range(700):
        deep = {"a": [deep]}
    for verb in ("modify", "merge"):
        assert refused(held, verb, ("attributes", "deep"), deep) == ("json.invalid", 400)
        assert refused(held, verb, (), {"attributes": {"a": deep}}) == ("json.invalid", 400)


def test_features_and_attributes_may_be_null_and_are_made_again_below(held):
    held = send(held, "modify", (), {"attributes": None, "features": {"f": None}})
    assert read(held, ("attributes",)).value is None
    held = send(held, "modify", ("attributes", "a"), 1)
    held = send(held, "modify", ("features", "f", "properties"), {"a": 1})
    assert (held.document["attributes"], held.document["features"]) == ({"a": 1}, {"f": {"properties": {"a": 1}}})


def test_unknown_members_of_things_and_features_are_left_out(held):
    held = send(held, "modify", ("features", "f"), {"properties": {}, "other": 1})
    assert held.document["features"]["f"] == {"properties": {}}
    held = send(held, "merge", (), {"other": 1, "features": {"f": {"another": 2}}})
    assert "other" not in held.document
    assert held.document["features"]["f"] == {"properties": {}}


def test_preconditions_are_those_of_the_part(held):
    etag = read(held, POWER).etag
    assert refused(held, "modify", POWER, 5, asked={"if-match": '"rev:1"'}) == ("things:precondition.failed", 412)
    assert decide(held, "modify", POWER, 5, asked={"if-match": etag}).response.status == 204
    assert decide(held, "modify", (), {}, asked={"if-match": '"rev:1"'}).response.status == 204
    assert refused(held, "modify", (), {}, asked={"if-none-match": "*"}) == ("things:precondition.failed", 412)
    assert refused(held, "delete", POWER, asked={"if-match": '"x"'}) == ("things:precondition.failed", 412)
    assert refused(EMPTY, "modify", (), THING, asked={"if-match": "*"}) == ("things:precondition.failed", 412)
    assert refused(EMPTY, "merge", (), THING, asked={"if-match": "*"}) == ("things:precondition.failed", 412)
    assert decide(EMPTY, "modify", (), THING, asked={"if-none-match": "*"}).response.status == 201
    assert refused(held, "modify", ("attributes", "new"), 1, asked={"if-match": "*"}) == (
        "things:precondition.failed",
        412,
    )
    assert refused(held, "merge", SCADA, {"properties": {"a": 1}}, asked={"if-match": '"x"'}, observed=5) == (
        "things:precondition.failed",
        412,
    )


def test_conditions_are_never_passed_over(held):
    for verb, path, value in [("modify", POWER, 1), ("merge", SCADA, {"properties": {}}), ("delete", POWER, UNSET)]:
        assert refused(held, verb, path, value, asked={"condition": "eq(attributes/none,1)"}) == (
            "things:condition.failed",
            412,
        )
        assert refused(held, verb, path, value, asked={"live-channel-condition": "x"}) == (
            "things:live.channelcondition.notallowed",
            405,
        )
    with pytest.raises(SkerryError) as error:
        read(held, **{"live-channel-condition": "eq(a,1)"})
    assert error.value.code == "header.notsupported"


def test_if_equal_skips_what_changes_nothing(held):
    skip = {"if-equal": "skip"}
    assert refused(held, "modify", POWER, 1.0, asked=skip) == ("things:precondition.failed", 412)
    assert refused(held, "modify", (), THING, asked=skip) == ("things:precondition.failed", 412)
    assert refused(held, "merge", SCADA, {"properties": {"wind": 5}}, asked=skip) == ("things:precondition.failed", 412)
    assert decide(held, "modify", POWER, 1, asked=skip).event is not None
    assert decide(held, "modify", POWER, 1.0, asked={"if-equal": "update"}).event is not None
    assert decide(held, "modify", POWER, 1.0, asked={"if-equal": "nonsense"}).event is not None
    assert decide(held, "modify", POWER, 1.0).event is not None
    least = decide(
        held, "merge", SCADA, {"properties": {"wind": 5, "power": 2}}, asked={"if-equal": "skip-minimizing-merge"}
    )
    assert least.event.value == {"properties": {"power": 2}}


def test_events_carry_who_and_what_travels(held):
    event = decide(held, "modify", POWER, 5, asked={"correlation-id": "c", "if-match": "*", "timeout": "5"}).event
    assert event.headers == {"correlation-id": "c", "ditto-originator": "nginx:u", "timeout": "5"}


def test_the_limit_of_size_is_exact_and_holds_on_every_way(held):
    size = len(msgspec.json.encode(held.document))
    room = len(',"a":""')
    for fresh in (held, msgspec.structs.replace(held, size=0, slack=0)):
        assert decide(fresh, "modify", ("attributes", "a"), "x" * 10, limit=size + room + 10).event is not None
        assert refused(fresh, "modify", ("attributes", "a"), "x" * 11, limit=size + room + 10) == (
            "things:thing.toolarge",
            413,
        )
        assert refused(fresh, "merge", ("attributes",), {"a": "x" * 11}, limit=size + room + 10) == (
            "things:thing.toolarge",
            413,
        )
        assert refused(fresh, "merge", SCADA, {"properties": {"a": "x" * 11}}, observed=1, limit=size + room + 10) == (
            "things:thing.toolarge",
            413,
        )
    assert refused(EMPTY, "modify", (), THING, limit=size - 1) == ("things:thing.toolarge", 413)
    assert decide(EMPTY, "modify", (), THING, limit=size).event is not None
    assert decide(held, "delete", POWER, limit=1).event is not None


def test_telemetry_overwriting_itself_is_never_taken_for_growth(held):
    size = len(msgspec.json.encode(held.document))
    for number in range(2_000):
        held = send(
            held,
            "merge",
            SCADA,
            {"properties": {"power": float(number), "text": "x" * 40}},
            observed=number,
            limit=size + 100,
        )
    assert size <= held.size <= size + 100 + 2 * things.SLACK_LIMIT


def test_late_values_go_to_history_and_not_into_the_twin(held):
    held = send(held, "merge", SCADA, {"properties": {"power": 10, "wind": 20}}, observed=100)
    held = send(held, "merge", SCADA, {"properties": {"power": 11}}, observed=200)
    decision = decide(held, "merge", SCADA, {"properties": {"power": 5, "wind": 21, "pitch": 3}}, observed=150)
    event = decision.event
    assert (event.value, event.late, event.observed) == (
        {"properties": {"wind": 21, "pitch": 3}},
        {"properties": {"power": 5}},
        150,
    )
    held = things.apply(held, event)
    assert held.document["features"]["scada"]["properties"] == {"power": 11, "wind": 21, "pitch": 3}
    assert held.observed == {"scada": {"power": 200, "wind": 150, "pitch": 150}}
    event = decide(held, "merge", SCADA, {"properties": {"power": 1}}, observed=1, asked={"correlation-id": "c"}).event
    assert (event.value, event.late) == (UNSET, {"properties": {"power": 1}})
    after = things.apply(held, event)
    assert (after.document, after.observed, after.revision) == (held.document, held.observed, held.revision + 1)


def test_the_same_time_again_is_not_late(held):
    held = send(held, "merge", SCADA, {"properties": {"power": 10}}, observed=100)
    assert decide(held, "merge", SCADA, {"properties": {"power": 11}}, observed=100).event.late is UNSET


def test_telemetry_makes_the_feature(held):
    held = send(held, "merge", ("features", "new"), {"properties": {"a": 1}}, observed=5)
    assert held.document["features"]["new"] == {"properties": {"a": 1}}
    assert held.observed == {"new": {"a": 5}}


def test_times_go_with_their_values_and_stay_when_a_person_writes(held):
    held = send(held, "merge", SCADA, {"properties": {"power": 10, "wind": 20}}, observed=100)
    held = send(held, "merge", ("features", "new"), {"properties": {"a": 1}}, observed=100)
    assert send(held, "modify", POWER, 5).observed == held.observed
    assert send(held, "modify", ("attributes", "a"), 5).observed == held.observed
    assert send(held, "delete", POWER).observed == {"scada": {"wind": 100}, "new": {"a": 100}}
    assert send(held, "delete", ("features", "new")).observed == {"scada": {"power": 100, "wind": 100}}
    assert send(held, "modify", (), {}).observed == {}
    assert send(held, "delete").observed == {}
    assert send(held, "merge", SCADA, {"properties": {"power": None}}, observed=101).observed["scada"] == {"wind": 100}


def test_a_read_shows_special_members_only_when_they_are_named(held):
    assert read(held).value == held.document
    shown = read(held, fields="thingId,_namespace,_revision,_created,_modified,_lifecycle,_metadata,_policy").value
    assert shown == {
        "thingId": ID,
        "_namespace": "demo",
        "_revision": 1,
        "_created": "1970-01-01T00:00:01Z",
        "_modified": "1970-01-01T00:00:01Z",
        "_lifecycle": "ACTIVE",
    }
    visible = held.document | {"_policy": {"policyId": ID}}
    answer = things.retrieve(
        held, visible, ask("retrieve", (), asked={"fields": "_policy", "if-none-match": '"rev:1"'})
    )
    assert answer.value == {"_policy": {"policyId": ID}}
    with pytest.raises(SkerryError) as error:
        things.retrieve(held, visible, ask("retrieve", (), asked={"fields": "_policy", "if-match": '"rev:2"'}))
    assert error.value.status == 412


def test_a_read_shows_only_what_is_visible(held):
    visible = {"thingId": ID, "features": {"scada": {"properties": {"wind": 5}}}}
    assert things.retrieve(held, visible, ask("retrieve")).value == visible
    with pytest.raises(parts.PropertyNotFound):
        things.retrieve(held, visible, ask("retrieve", POWER))
    with pytest.raises(parts.PolicyIdNotFound):
        things.retrieve(held, visible, ask("retrieve", ("policyId",)))


def test_reads_of_parts_take_fields_and_know_304(held):
    assert read(held, ("attributes",), fields="position/x").value == {"position": {"x": 1.5}}
    assert read(held, ("features",), fields="*/properties/wind").value == {"scada": {"properties": {"wind": 5}}}
    with pytest.raises(SkerryError) as error:
        read(held, POWER, if_none_match=read(held, POWER).etag)
    assert (error.value.status, error.value.code) == (304, "things:precondition.notmodified")
    with pytest.raises(SkerryError) as error:
        read(held, (), if_none_match='"rev:1"', fields="thingId")
    assert error.value.status == 304
    with pytest.raises(SkerryError) as error:
        read(held, ("nothing",))
    assert error.value.code == "signals.commands:path.unknown"


def test_the_events_of_one_thing_grow_in_time_even_within_a_tick_of_the_clock_or_when_it_is_set_back(held):
    ticks = [5_000_000, 5_000_000, 5_000_000, 1_000_000]
    times = []
    for tick in ticks:
        event = things.decide(held, ask("merge", SCADA, {"properties": {"power": len(times)}}), tick, LIMIT).event
        held = things.apply(held, event)
        times.append(event.timestamp)
    assert times == [5_000_000, 5_000_001, 5_000_002, 5_000_003]
