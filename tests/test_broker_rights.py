"""What topics stand for, and how verdicts on them are remembered and forgotten."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from skerry_adapters.broker import Login, NotInMemory, PolicyRights, Topics
from skerry_adapters.broker import rights as broker_rights
from skerry_adapters.broker.packets import Reason
from skerry_adapters.broker.rights import Need
from skerry_adapters.sources import DEFAULT_SOURCES, Source
from skerry_policies.enforcer import Permits

YES, NO = Reason.SUCCESS, Reason.NOT_AUTHORIZED
ADA = Login("ada", ("nginx:ada",))


class Things:
    """Things whose rights a test says; `asked` counts."""

    def __init__(self, **permits: Permits | None) -> None:
        self.known: dict[str, Permits | None] = {f"x:{name}": found for name, found in permits.items()}
        self.lasting = True
        self.asked = 0

    def permits(self, _: tuple[str, ...], thing_id: str) -> Permits | None:
        self.asked += 1
        if thing_id not in self.known:
            raise NotInMemory
        return self.known[thing_id]

    def last(self, *_: object) -> bool:
        return self.lasting

    async def load(self, thing_ids: Iterable[str]) -> None:
        self.known.update((thing_id, None) for thing_id in thing_ids if thing_id not in self.known)


def permits(*granted: tuple[tuple[str, ...], str]) -> Permits:
    return Permits([("thing", path, permission, True) for path, permission in granted])


@pytest.mark.parametrize(
    ("topic", "need"),
    [
        ("telemetry/x/T1/scada", Need("x:T1", ("features", "scada"))),
        ("telemetry/x/T1/scada/more", None),
        ("telemetry/x/x:T1", Need("x:T1", talk=True)),
        ("telemetry/x y/T1/scada", None),
        ("ditto/x/T1", Need("x:T1", talk=True)),
        ("ditto/x/T1/a/b", Need("x:T1", talk=True)),
        ("t", Need()),
        ("event/tenant/x:T1", Need("x:T1", talk=True)),
        ("event/tenant/4711", Need()),
        ("command///res/1/200", Need()),
        ("c//x:T1/s/1/200", Need("x:T1", talk=True)),
        ("command///req/1/go", None),
        ("ditto/x", None),
        ("ditto", None),
        ("device/x/T1/go", None),
        ("", None),
        ("farm1/T07/scada", Need("farm1:T07", ("features", "scada"))),
        ("plant/north/report", Need()),
        ("envelopes", Need()),
    ],
)
def test_a_topic_stands_for_what_its_source_makes_of_it(topic: str, need: Need | None) -> None:
    sources = (
        *DEFAULT_SOURCES,
        Source(name="farm1", pattern="farm1/{turbine}/scada", thing="farm1:{turbine}", feature="scada"),
        Source(name="gateway", pattern="plant/{site}/report", thing="{site}:{/unit}", feature="{/part}"),
        Source(name="envelopes", payload="ditto", topics=("envelopes",)),
    )
    topics = Topics(sources)
    assert topics.need(topic) == need
    assert topics.need(topic) == need


@pytest.mark.parametrize(
    ("pattern", "thing"),
    [
        ("device/x/T1/#", "x:T1"),
        ("device/x/T1", "x:T1"),
        ("$share/g/device/x/T1/+", "x:T1"),
        ("device/x/+/#", None),
        ("device/+/T1/#", None),
        ("device/x/#", None),
        ("device/#", None),
        ("+/x/T1/#", None),
        ("#", None),
        ("device//T1", "::"),
    ],
)
def test_a_filter_speaks_of_one_thing_or_of_none(pattern: str, thing: str | None) -> None:
    found = Topics(DEFAULT_SOURCES).thing_of(pattern)
    assert found == (thing if thing != "::" else found)


def test_a_verdict_is_asked_for_once_until_something_changes() -> None:
    things = Things(T1=permits((("features", "a"), "WRITE")), T2=None)
    rights = PolicyRights(Topics(DEFAULT_SOURCES), things)
    mine = rights.verdicts(ADA)
    assert rights.verdicts(Login("else", ADA.subjects)) is mine

    def ask(topic: str) -> Reason | None:
        known = mine.publish.get(topic)
        return rights.publish(mine, topic) if known is None else known

    assert [ask("telemetry/x/T1/a"), ask("telemetry/x/T1/b"), ask("telemetry/x/T2/a")] == [YES, NO, YES]
    assert [ask("telemetry/x/T1/a"), ask("telemetry/x/T1/b"), ask("telemetry/x/T2/a")] == [YES, NO, YES]
    assert things.asked == 3
    things.known["x:T1"] = permits((("features", "b"), "WRITE"))
    rights.forget_thing("x:T2")
    assert ask("telemetry/x/T1/a") is YES
    rights.forget_thing("x:T1")
    assert [ask("telemetry/x/T1/a"), ask("telemetry/x/T1/b")] == [NO, YES]
    things.known["x:T1"] = permits(((), "WRITE"))
    rights.forget()
    assert [ask("telemetry/x/T1/a"), ask("ditto/x/T1")] == [YES, YES]


def test_what_ends_with_time_is_asked_for_each_time() -> None:
    things = Things(T1=permits(((), "WRITE"), ((), "READ")))
    things.lasting = False
    rights = PolicyRights(Topics(DEFAULT_SOURCES), things)
    mine = rights.verdicts(ADA)
    assert rights.publish(mine, "ditto/x/T1") is YES
    assert rights.receive(mine, "device/x/T1/go") is True
    assert (mine.publish, mine.receive) == ({}, {})


async def test_what_is_not_in_memory_is_learned() -> None:
    things = Things()
    rights = PolicyRights(Topics(DEFAULT_SOURCES), things)
    mine = rights.verdicts(ADA)
    assert rights.publish(mine, "telemetry/x/T1/a") is None
    assert rights.subscribe(mine, "device/x/T2/#") is None
    await rights.learn(["telemetry/x/T1/a", "device/x/T2/#", "#", "elsewhere"])
    assert rights.publish(mine, "telemetry/x/T1/a") is YES
    assert rights.subscribe(mine, "device/x/T2/#") is False
    assert rights.subscribe(mine, "#") is False


def test_topics_that_a_user_makes_up_do_not_fill_the_memory() -> None:
    rights = PolicyRights(Topics(DEFAULT_SOURCES), Things())
    mine = rights.verdicts(ADA)
    for number in range(broker_rights.PLAIN_VERDICTS + 10):
        assert rights.publish(mine, f"made/up/{number}") is NO
    assert len(mine.publish) <= broker_rights.PLAIN_VERDICTS


def test_an_administrator_may_everything_but_the_topics_of_brokers() -> None:
    rights = PolicyRights(Topics(DEFAULT_SOURCES), Things())
    boss = rights.verdicts(Login("boss", ADA.subjects, ("mqtt_admin",)))
    assert boss is not rights.verdicts(ADA)
    assert rights.publish(boss, "anything") is YES
    assert rights.publish(boss, "$SYS/x") is Reason.TOPIC_NAME_INVALID
    assert rights.subscribe(boss, "#") is True
