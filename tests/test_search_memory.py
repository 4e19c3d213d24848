"""What the search index remembers is bounded, and what it forgets is never missed."""

import tracemalloc

from msgspec import structs

from skerry.signals import Event, Held
from skerry_registry.search.columns import WAY, WAYS, Columns
from skerry_registry.search.guards import Guards
from skerry_registry.search.slots import Slots
from skerry_registry.stores.memory import MemoryStore


async def test_what_is_remembered_of_sets_of_properties_is_bounded():
    columns = Columns(Slots(lambda _: None), MemoryStore(), list)
    path = ("features", "scada")
    (column,) = await columns.pin([(*path, "properties", "power")])
    count = WAYS // WAY
    for number in range(count):
        patch = {"properties": {"power": number, f"value{number}": 1}}
        event = Event(kind="thing", id="a:T1", action="merged", revision=number, timestamp=0, path=path, value=patch)
        columns.note(event, Held(kind="thing", id="a:T1", revision=number, document={}), 3)
        assert column.numbers[3] == number
    assert 1_000 < len(columns._concerned) < count


async def test_long_sets_of_properties_and_long_paths_take_no_more_memory_than_short_ones():
    columns = Columns(Slots(lambda _: None), MemoryStore(), list)
    await columns.pin([("features", "scada", "properties", "power")])
    held = Held(kind="thing", id="a:T1", document={})
    tracemalloc.start()
    try:
        for number in range(200):
            patch = {"properties": {f"{number}p{other}": 1 for other in range(2_000)}}
            event = Event(kind="thing", id="a:T1", action="merged", revision=0, timestamp=0, value=patch)
            for path in (("features", "scada"), ("attributes", *(f"{number}p{other}" for other in range(2_000)))):
                columns.note(structs.replace(event, path=path), held, 3)
        assert tracemalloc.get_traced_memory()[0] < WAYS + 2_000_000
    finally:
        tracemalloc.stop()


def test_what_belongs_to_policies_that_are_no_more_is_forgotten():
    guards = Guards(roots=False)
    imports = '{"entries":{},"imports":{"a:Shared":{}}}'
    guards.put("a:Kept", imports)
    kept, stranger = guards.guard("a:Kept", "a"), guards.guard("a:Kept", "b")
    for round_ in range(5):
        for n in range(2_000):
            guards.put(f"a:P{n}", f'{{"entries":{{"{round_}-{n}":{{}}}},"imports":{{"a:Other{n}":{{}}}}}}')
            guards.guard(f"a:P{n}", "c")
        for n in range(2_000):
            guards.put(f"a:P{n}", None)
        assert guards.is_littered
        guards.sweep([kept, stranger])
        assert not guards.is_littered
    assert len(guards.shapes) <= 1_100
    assert len(guards.shape) < 8_192
    for guard, namespace in ((kept, "a"), (stranger, "b")):
        shape = guards.shapes[guards.shape[guard]]
        assert shape is not None
        assert (shape.text, shape.namespace) == (imports, namespace)
    before = guards.stamp
    guards.put("a:Shared", "{}")
    assert guards.stamp != before
