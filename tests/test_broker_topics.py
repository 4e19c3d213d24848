"""Topic filters: subscriptions, retained messages and sources agree with the plain rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_adapters.broker.packets import ProtocolViolation
from skerry_adapters.broker.topics import FilterTree, TopicTree, check_filter, check_topic, split_share
from skerry_adapters.sources import matcher

levels = st.sampled_from(["", "a", "b", "$s"])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
filters = (
    st.tuples(st.lists(st.sampled_from(["", "a", "b", "$s", "+"]), min_size=1, max_size=4), st.booleans())
    .map(lambda t: "/".join([*t[0], "#"] if t[1] else t[0]))
    .filter(bool)
)


def matches(pattern: str, topic: str) -> bool:
    """The plain rule (MQTT 5, chapter 4.7): whether the filter takes the topic."""
    if topic[:1] == "$" and pattern[:1] in ("+", "#"):
        return False
    wanted, given = pattern.split("/"), topic.split("/")
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(given) or level not in ("+", given[position]):
            return False
    return len(wanted) == len(given)


@pytest.mark.parametrize(
    ("pattern", "topic", "taken"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("#", "a/b", True),
        ("#", "$SYS/load", False),
        ("+/load", "$SYS/load", False),
        ("$SYS/#", "$SYS/load", True),
        ("+", "/finance", False),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("a/b", "a/B", False),
    ],
)
def test_filters_take_the_topics_of_the_standard(pattern: str, topic: str, *, taken: bool) -> None:
    tree: FilterTree[str, None] = FilterTree()
    tree.put(pattern, "me", None)
    kept: TopicTree[str] = TopicTree()
    kept.put(topic, topic)
    assert matches(pattern, topic) is taken
    assert bool(tree.match(topic)) is taken
    assert bool(matcher([pattern]).fullmatch(topic)) is taken
    assert list(kept.match(pattern)) == ([topic] if taken else [])


@given(st.sets(filters), st.sets(filters), topics)
def test_the_subscription_tree_finds_what_the_rule_takes(put: set[str], removed: set[str], topic: str) -> None:
    tree: FilterTree[str, None] = FilterTree()
    for pattern in put:
        tree.put(pattern, pattern, None)
    for pattern in removed:
        tree.remove(pattern, pattern)
    assert sorted(who for who, _ in tree.match(topic)) == sorted(f for f in put - removed if matches(f, topic))
    assert tree.may_match(topic) or not tree.match(topic)


def test_a_tree_says_by_the_first_level_that_nobody_wants_a_topic() -> None:
    tree: FilterTree[str, None] = FilterTree()
    assert not tree.may_match("telemetry/a")
    tree.put("device/+/+/desired", "me", None)
    assert not tree.may_match("telemetry/a")
    assert tree.may_match("device/a")
    tree.put("+/a", "me", None)
    assert tree.may_match("telemetry/a")


@given(st.sets(filters))
def test_an_emptied_subscription_tree_keeps_no_branches(put: set[str]) -> None:
    tree: FilterTree[str, None] = FilterTree()
    for pattern in put:
        tree.put(pattern, 1, None)  # type: ignore[arg-type]
    for pattern in put:
        tree.remove(pattern, 1)  # type: ignore[arg-type]
    assert not tree._root.children


@given(st.sets(topics), st.sets(topics), filters)
def test_the_retained_tree_finds_what_the_rule_takes(put: set[str], removed: set[str], pattern: str) -> None:
    tree: TopicTree[str] = TopicTree()
    for topic in put:
        tree.put(topic, topic)
    for topic in removed:
        tree.remove(topic)
    assert sorted(tree.match(pattern)) == sorted(t for t in put - removed if matches(pattern, t))
    assert len(tree) == len(put - removed)


@pytest.mark.parametrize(
    "bad", ["", "a#", "#/a", "a/b+", "$share/", "$share/g", "$share/g/", "$share/+/a", "/".join("a" * 200)]
)
def test_broken_filters_are_refused(bad: str) -> None:
    assert check_filter(bad)


@pytest.mark.parametrize("good", ["a", "/", "+", "#", "a/+/b/#", "$share/g/a/#", "$SYS/#", "a//b"])
def test_sound_filters_are_accepted(good: str) -> None:
    assert check_filter(good) is None


def test_a_share_is_its_name_and_a_filter() -> None:
    assert split_share("$share/g/a/#") == ("g", "a/#")
    assert split_share("a/#") == ("", "a/#")


@pytest.mark.parametrize("bad", ["", "a/+", "#", "/" * 200])
def test_broken_topics_are_refused(bad: str) -> None:
    with pytest.raises(ProtocolViolation):
        check_topic(bad)


@given(filters, topics)
def test_sources_take_what_their_filters_take(pattern: str, topic: str) -> None:
    assert bool(matcher([pattern]).fullmatch(topic)) is matches(pattern, topic)
