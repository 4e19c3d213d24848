"""RQL: what is read, what is refused and where, and what a predicate says of a thing."""

from __future__ import annotations

import string
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.rql.evaluate import RqlTooWide, like, lookup_in, matches
from skerry.rql.parse import DEPTH_LIMIT, SIZE_LIMIT, RqlInvalid, parse, write
from skerry.rql.predicate import And, Compare, Empty, Exists, In, Not, Or, Predicate, fields
from skerry.signals import Held
from skerry.times import parse as read_time

NOW = read_time("2026-11-21T14:43:14.123456Z")
X = ("attributes", "x")


@pytest.mark.parametrize(
    ("text", "predicate"),
    [
        ("eq(attributes/x,5)", Compare("eq", X, 5)),
        ("eq(/attributes/x,-5.25)", Compare("eq", X, -5.25)),
        ("ne(attributes/x,null)", Compare("ne", X, None)),
        ("gt(_revision,7)", Compare("gt", ("_revision",), 7)),
        ("like(thingId,'org.*')", Compare("like", ("thingId",), "org.*")),
        (r'eq(attributes/x,"a\"b\n\u00e4")', Compare("eq", X, 'a"b\nä')),
        (r"eq(attributes/x,'a\'b')", Compare("eq", X, "a'b")),
        (r'eq(attributes/x,"\ud83d\ude00")', Compare("eq", X, "😀")),
        ("eq(attributes/x,'!#$%&()*+,/:;=?@[]{|} äaZ0')", Compare("eq", X, "!#$%&()*+,/:;=?@[]{|} äaZ0")),
        ("in(policyId,'a:b',1,true)", In(("policyId",), ("a:b", 1, True))),
        ("exists(features/f)", Exists(("features", "f"))),
        ("exists(features/f/properties)", Exists(("features", "f", "properties"))),
        ("empty(features/*/properties/x)", Empty(("features", "*", "properties", "x"))),
        ("eq(features/f/definition,'a:b:1')", Compare("eq", ("features", "f", "definition"), "a:b:1")),
        ("eq(features/f/desiredProperties/a/b,1)", Compare("eq", ("features", "f", "desiredProperties", "a", "b"), 1)),
        ("eq(_metadata/attributes/x/unit,'m')", Compare("eq", ("_metadata", "attributes", "x", "unit"), "m")),
        ("eq(namespace,'n')", Compare("eq", ("_namespace",), "n")),
        ("eq(attributes/a~1b~0c,1)", Compare("eq", ("attributes", "a/b~c"), 1)),
        (r"eq(attributes/a\u002cb,1)", Compare("eq", ("attributes", "a,b"), 1)),
        ("eq(attributes/my key,1)", Compare("eq", ("attributes", "my key"), 1)),
        (
            " and( exists(attributes/x) , not( eq( attributes/x , 1 ) ) ) ",
            And((Exists(X), Not(Compare("eq", X, 1)))),
        ),
        ("or(exists(attributes/x))", Or((Exists(X),))),
    ],
)
def test_an_expression_is_read(text: str, predicate: Predicate) -> None:
    assert parse(text, NOW) == predicate
    assert parse(write(predicate), NOW) == predicate


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("", 1, "an operator is expected"),
        ("ASDF(username,123)", 1, "an operator is expected"),
        ("or(ASDF(username,123))", 4, "an operator is expected"),
        ("eq/(thingId,'a')", 3, "'(' is expected"),
        ("eq(thingId;'a')", 4, "there is no field"),
        ("eq(thingId,)", 12, "needs a value"),
        ("eq(thingId,foo:bar)", 12, "needs a value"),
        ("eq(attributes/x,5", 18, "')' is expected: eq takes one value"),
        ("eq(attributes/x,5))", 19, "complete"),
        ("eq(attributes/x,1,2)", 18, "eq takes one value"),
        ("eq(attributes/x,-0)", 17, "no number"),
        ("eq(attributes/x,012)", 17, "no number"),
        ("eq(attributes/x,12.7.8)", 17, "no number"),
        ("eq(attributes/x,127.)", 17, "no number"),
        ("eq(attributes/x,12356143287134097863590813406135981332472031847)", 17, "64 bits"),
        ("eq(attributes/x,1e999)", 17, "too large"),
        ('eq(attributes/x,"abc"")', 22, "')' is expected"),
        ("eq(attributes/x,'abc)", 17, "no end"),
        (r"eq(attributes/x,'\ud83d')", 17, "surrogate"),
        ("eq(attributes/x,time:later)", 17, "is no time"),
        ("eq(attributes/x,time:now-5q)", 17, "is no time"),
        ("not(exists(attributes/x),exists(attributes/y))", 25, "not takes one term"),
        ("and()", 5, "an operator is expected"),
        ("and(eq(attributes/x,1), )", 25, "an operator is expected"),
        ("exists('attributes/x')", 8, "there is no field"),
        ('exists("attributes/x")', 8, "a field is expected"),
        ("exists(attributes/x,'a')", 20, "exists takes one field"),
        ("eq(attributes,1)", 4, "there is no field 'attributes'"),
        ("eq(attributes/a//b,1)", 4, "empty segment"),
        ("eq(features/f,1)", 4, "there is no field"),
        ("eq(features/f/other/x,1)", 4, "there is no field"),
        ("eq(topic:action,'created')", 4, "there is no field"),
        ("like(attributes/x, 5)", 20, "like takes a text"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_place(text: str, position: int, problem: str) -> None:
    with pytest.raises(RqlInvalid) as caught:
        parse(text, NOW)
    payload = caught.value.payload()
    assert payload["status"] == 400
    assert payload["error"] == "rql.expression.invalid"
    assert payload["position"] == position
    assert problem in payload["message"]
    assert "▸" in payload["description"]


@pytest.mark.parametrize(
    ("time", "value"),
    [
        ("now", "2026-11-21T14:43:14.123456Z"),
        ("now-5m", "2026-11-21T14:38:14.123456Z"),
        ("now+1h", "2026-11-21T15:43:14.123456Z"),
        ("now-500ms", "2026-11-21T14:43:13.623456Z"),
        ("now-10", "2026-11-21T14:43:04.123456Z"),
        ("now[h]", "2026-11-21T14:00:00.000000Z"),
        ("now-1d[d]", "2026-11-20T00:00:00.000000Z"),
        ("now[w]", "2026-11-16T00:00:00.000000Z"),
        ("now[mo]", "2026-11-01T00:00:00.000000Z"),
        ("now[y]", "2026-01-01T00:00:00.000000Z"),
        ("now-2w[ms]", "2026-11-07T14:43:14.123000Z"),
        ("now_epoch_millis", 1795272194123),
        ("now_epoch_millis-1s", 1795272193123),
    ],
)
def test_a_time_is_resolved(time: str, value: str | int) -> None:
    assert parse(f"lt(_modified,time:{time})", NOW) == Compare("lt", ("_modified",), value)


def test_the_time_is_that_of_each_reading() -> None:
    assert parse("lt(_modified,time:now)", NOW) != parse("lt(_modified,time:now)", NOW + 1)


def test_placeholders_of_a_scope_may_be_fields() -> None:
    assert parse("eq(topic:action,'created')", NOW, ("topic",)) == Compare("eq", ("topic:action",), "created")


def test_neither_depth_nor_size_exhausts_anything() -> None:
    deep = DEPTH_LIMIT
    assert isinstance(parse("not(" * deep + "exists(thingId)" + ")" * deep, NOW), Not)
    with pytest.raises(RqlInvalid, match="nested deeper"):
        parse("not(" * 10_000 + "exists(thingId)" + ")" * 10_000, NOW)
    with pytest.raises(RqlInvalid, match="characters"):
        parse("exists(attributes/" + "x" * SIZE_LIMIT + ")", NOW)


def test_fields_are_all_that_it_looks_at() -> None:
    text = "and(eq(attributes/x,1),or(exists(thingId),not(in(policyId,'a'))))"
    assert fields(parse(text, NOW)) == {X, ("thingId",), ("policyId",)}


_segments = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
_fields = st.one_of(
    st.sampled_from([("thingId",), ("policyId",), ("_namespace",), ("_revision",), ("_created",)]),
    st.lists(_segments, min_size=1, max_size=3).map(lambda segments: ("attributes", *segments)),
    st.tuples(_segments, _segments).map(lambda pair: ("features", pair[0], "properties", pair[1])),
)
_scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
_terms = st.one_of(
    st.builds(Compare, st.sampled_from(["eq", "ne", "gt", "ge", "lt", "le"]), _fields, _scalars),
    st.builds(Compare, st.sampled_from(["like", "ilike"]), _fields, st.text(string.printable, max_size=12)),
    st.builds(In, _fields, st.lists(_scalars, min_size=1, max_size=3).map(tuple)),
    st.builds(Exists, _fields),
    st.builds(Empty, _fields),
)
_predicates: st.SearchStrategy[Any] = st.recursive(
    _terms,
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=8,
)


@given(_predicates)
def test_what_is_written_is_read_back(predicate: Predicate) -> None:
    assert parse(write(predicate), NOW) == predicate


@given(st.text(string.ascii_letters + "(),'\"\\/:-. 0123456789", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text, NOW)
    except RqlInvalid as error:
        position = error.payload()["position"]
    else:
        position = 1
        assert parse(write(found), NOW) == found
    assert 1 <= position <= len(text) + 1


THING = Held(
    kind="thing",
    id="wind:t1",
    revision=7,
    created=NOW - 1_000_000,
    modified=NOW,
    document={
        "thingId": "wind:t1",
        "policyId": "wind:p",
        "definition": "wind:turbine:1.0.0",
        "attributes": {
            "name": "Alpha",
            "size": 3,
            "ratio": 0.5,
            "on": True,
            "off": False,
            "gone": None,
            "tags": ["red", "blue", 7],
            "nested": [[1, 2], [3]],
            "blades": [{"n": 1, "ok": True}, {"n": 2}],
            "none": [],
            "void": {},
            "blank": "",
            "zero": 0,
        },
        "features": {
            "rotor": {"properties": {"rpm": 12.5}, "definition": ["a:b:1"]},
            "scada": {"properties": {"rpm": 3, "state": ""}, "desiredProperties": {"rpm": 4}},
        },
    },
    metadata={"attributes": {"size": {"unit": "m"}}},
)


@pytest.mark.parametrize(
    "text",
    [
        "eq(thingId,'wind:t1')",
        "eq(policyId,'wind:p')",
        "eq(_namespace,'wind')",
        "eq(definition,'wind:turbine:1.0.0')",
        "eq(_revision,7)",
        "ge(_modified,time:now)",
        "lt(_created,time:now)",
        "eq(_metadata/attributes/size/unit,'m')",
        "exists(_metadata)",
        "eq(attributes/size,3.0)",
        "gt(attributes/ratio,0)",
        "lt(attributes/name,'Beta')",
        "eq(attributes/on,true)",
        "eq(attributes/gone,null)",
        "exists(attributes/gone)",
        "ne(attributes/name,'Beta')",
        "ne(attributes/size,'3')",
        "eq(attributes/tags,'blue')",
        "eq(attributes/tags,7)",
        "gt(attributes/tags,6)",
        "eq(attributes/nested,3)",
        "eq(attributes/blades/n,2)",
        "exists(attributes/blades/ok)",
        "like(attributes/tags,'re?')",
        "in(attributes/tags,'green','red')",
        "in(attributes/size,'3',3.0)",
        "in(attributes/gone,1,null)",
        "exists(attributes/none)",
        "empty(attributes/none)",
        "empty(attributes/void)",
        "empty(attributes/blank)",
        "empty(attributes/gone)",
        "empty(attributes/missing)",
        "not(empty(attributes/zero))",
        "not(empty(attributes/off))",
        "like(attributes/name,'Al*')",
        "like(attributes/name,'*ph*')",
        "like(attributes/name,'A?pha')",
        "like(attributes/name,'*')",
        "ilike(attributes/name,'ALPH*')",
        "eq(features/rotor/properties/rpm,12.5)",
        "eq(features/*/properties/rpm,3)",
        "ne(features/*/properties/state,'x')",
        "eq(features/rotor/definition,'a:b:1')",
        "exists(features/*/desiredProperties)",
        "exists(features/*)",
        "exists(features/rotor)",
        "empty(features/*/properties/state)",
        "empty(features/*/desiredProperties)",
        "eq(features/scada/desiredProperties/rpm,4)",
        "not(not(exists(thingId)))",
        "or(eq(attributes/size,4),eq(attributes/size,3))",
    ],
)
def test_a_predicate_holds(text: str) -> None:
    assert matches(parse(text, NOW), lookup_in(THING))


@pytest.mark.parametrize(
    "text",
    [
        "eq(attributes/missing,null)",
        "ne(attributes/missing,1)",
        "ne(attributes/tags,'red')",
        "ne(attributes/gone,null)",
        "eq(attributes/size,'3')",
        "eq(attributes/on,1)",
        "eq(attributes/zero,false)",
        "ge(attributes/on,false)",
        "ge(attributes/gone,null)",
        "gt(attributes/name,5)",
        "eq(attributes/void,'x')",
        "eq(attributes/none,null)",
        "like(attributes/name,'lph')",
        "like(attributes/name,'alpha')",
        "like(attributes/size,'3')",
        "like(attributes/name,'Alpha?')",
        "exists(attributes/missing)",
        "exists(attributes/name/deeper)",
        "exists(attributes/blades/missing)",
        "exists(_metadata/attributes/name)",
        "exists(features/none)",
        "eq(features/*/properties/rpm,4)",
        "ne(features/*/properties/missing,4)",
        "not(exists(features/*/properties/rpm))",
        "and(exists(thingId),exists(attributes/missing))",
        "in(attributes/size,1,2,'3')",
        "in(attributes/on,1,'true')",
        "in(attributes/zero,false,null)",
        "in(attributes/void,1)",
    ],
)
def test_a_predicate_does_not_hold(text: str) -> None:
    assert not matches(parse(text, NOW), lookup_in(THING))


def test_a_thing_without_features_has_no_empty_ones() -> None:
    bare = Held(kind="thing", id="a:b", document={"thingId": "a:b", "policyId": "a:b"})
    assert not matches(parse("empty(features/*/properties/x)", NOW), lookup_in(bare))
    assert matches(parse("empty(features/*)", NOW), lookup_in(bare))
    assert not matches(parse("exists(_metadata)", NOW), lookup_in(bare))


def _plainly(pattern: str, text: str) -> bool:
    """`like` as a table over prefixes of the two."""
    row = [True] + [False] * len(text)
    for sign in pattern:
        before, row = row, [sign == "*" and row[0]]
        for place, letter in enumerate(text, 1):
            row.append(before[place] or row[-1] if sign == "*" else before[place - 1] and sign in {"?", letter})
    return row[-1]


@given(st.text("ab*?", max_size=9), st.text("ab\n.", max_size=9))
def test_like_is_what_its_wildcards_say(pattern: str, text: str) -> None:
    assert like(pattern, ignoring_case=False).fullmatch(text) == _plainly(pattern, text)


def test_no_pattern_takes_long() -> None:
    assert not like("*a" * 500 + "*b", ignoring_case=True).fullmatch("a" * 5_000)
    text = "a" * 1_000_000
    for ignoring_case in (False, True):
        before = process_time()
        assert not like(f"*{'a' * 500_000}b*", ignoring_case=ignoring_case).fullmatch(text)
        assert process_time() - before < 2, "about as long as the text, not as the text times the pattern"


def test_a_pattern_with_question_marks_is_short_between_asterisks() -> None:
    with pytest.raises(RqlInvalid, match="question marks"):
        parse(f"like(attributes/x,'*{'?a' * 100}*')", NOW)
    assert parse(f"like(attributes/x,'{'?' * 1_000}*{'a' * 1_000}')", NOW)


def test_case_is_passed_over_in_any_alphabet() -> None:
    assert like("*STRASSE?", ignoring_case=True).fullmatch("Alte Strasse5")
    assert like("ä?é", ignoring_case=True).fullmatch("ÄÖÉ")
    assert not like("ß", ignoring_case=True).fullmatch("ss")


def test_long_texts_count_for_more() -> None:
    long = Held(kind="thing", id="a:b", document={"attributes": {"a": "x" * 100_000}})
    one = "like(attributes/a,'*y*')"
    assert not matches(parse(f"or({','.join([one] * 10)})", NOW), lookup_in(long))
    with pytest.raises(RqlTooWide):
        matches(parse(f"or({','.join([one] * 100)})", NOW), lookup_in(long))


def test_no_expression_looks_at_everything_again_and_again() -> None:
    long = Held(kind="thing", id="a:b", document={"attributes": {"a": [list(range(100))] * 200}})
    one = "in(attributes/a,-1,-2)"
    assert not matches(parse(f"or({one},{one})", NOW), lookup_in(long))
    with pytest.raises(RqlTooWide):
        matches(parse(f"or({','.join([one] * 20)})", NOW), lookup_in(long))
