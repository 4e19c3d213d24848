from __future__ import annotations

import itertools

from msgspec import structs

from skerry.signals import Held
from skerry_registry.heads import Heads


def thing(n: int, size: int) -> Held:
    return Held(kind="thing", id=f"demo:T{n}", revision=1, document={"attributes": {"a": "x" * size}})


def test_small_things_take_a_place_each():
    heads = Heads(10)
    for n in range(30):
        heads.put(thing(n, 100))

    assert len(heads) == 10
    assert heads.find(("thing", "demo:T29")) is not None
    assert heads.find(("thing", "demo:T0")) is None


def test_large_things_take_several():
    heads = Heads(30)
    for n in range(30):
        heads.put(thing(n, 40_000))

    assert len(heads) == 3


def test_a_thing_that_has_grown_is_weighed_again():
    heads = Heads(10)
    entries = [heads.put(thing(n, 100)) for n in range(10)]
    entries[9].held = structs.replace(entries[9].held, size=5 * 4_096)
    heads.shrink(entries[8:])

    assert len(heads) == 5
    assert heads.find(("thing", "demo:T9")) is not None


def test_what_is_pinned_or_not_saved_stays():
    heads = Heads(2)
    heads.put(thing(0, 100)).pins = 1
    heads.put(thing(1, 100)).lagging = True
    for n in range(2, 9):
        heads.put(thing(n, 100))
    heads.shrink([])

    assert {("thing", "demo:T0"), ("thing", "demo:T1")} == {
        key for key in [("thing", f"demo:T{n}") for n in range(9)] if heads.find(key)
    }


def test_what_was_looked_at_since_others_came_outlives_them():
    heads = Heads(4)
    for n in range(4):
        heads.put(thing(n, 100))
    for n in range(4, 10):
        assert heads.find(("thing", "demo:T0")) is not None
        assert heads.find(("thing", "demo:T0")) is not None
        heads.put(thing(n, 100))

    assert [n for n in range(10) if heads.find(("thing", f"demo:T{n}"))] == [0, 7, 8, 9]


def test_what_changes_rest_upon_outlives_what_is_only_looked_at():
    heads, others = Heads(10), itertools.count(100)
    for n in range(6):
        heads.put(thing(n, 100))
    for _round in range(20):
        for n in range(3):
            heads.want(("thing", f"demo:T{n}"))
        for _ in range(6):
            heads.put(thing(next(others), 100))
    assert [heads.find(("thing", f"demo:T{n}")) is not None for n in range(6)] == [True] * 3 + [False] * 3
    assert len(heads) == 10
    for _ in range(30):
        heads.put(thing(next(others), 100))
    assert [heads.find(("thing", f"demo:T{n}")) for n in range(3)] == [None] * 3
    heads.want(("thing", "demo:T0"))
