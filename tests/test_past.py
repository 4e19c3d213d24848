"""What an entity was at a revision or a time, for those who may read it now."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_door import ANNE, BOB, OWNER, T1, delete, entry, get, merge, put, put_policy, refused, serving
from skerry.signals import Command, Response
from skerry.times import write
from skerry_registry.journal.replay import FAR
from skerry_registry.registry import Registry
from skerry_registry.stores.memory import MemoryStore

GONE = (404, "things:thing.history.notfound")


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with serving(historical_headers=["correlation-id", "ditto-originator"]) as registry:
        yield registry


def at(revision: object, *path: str, who=ANNE, thing: str = T1, **more: str) -> Command:
    """A read of a revision."""
    headers = {"at-historical-revision": str(revision), **{name.replace("_", "-"): text for name, text in more.items()}}
    return get(*path, who=who, thing=thing, **headers)


async def read(registry: Registry, command: Command) -> Response:
    return await registry.handle(command)


async def test_a_thing_is_read_as_it_was(registry):
    await registry.handle(put({"attributes": {"a": 1}}))
    await registry.handle(put(2, "attributes", "a"))
    await registry.handle(merge({"features": {"f": {"properties": {"x": 1}}}}))
    await registry.handle(put({"attributes": {"b": 1}}))
    values = [(await read(registry, at(revision, fields="attributes,features"))).value for revision in range(1, 5)]
    assert values == [
        {"attributes": {"a": 1}},
        {"attributes": {"a": 2}},
        {"attributes": {"a": 2}, "features": {"f": {"properties": {"x": 1}}}},
        {"attributes": {"b": 1}},
    ]
    found = await read(registry, at(2, "attributes", "a"))
    assert (found.value, found.revision) == (2, 2)
    assert (await read(registry, at(2, fields="_revision,_modified,thingId"))).value["_revision"] == 2
    assert (await read(registry, at(2))).etag == '"rev:2"'
    assert await refused(registry, at(2, "features")) == (404, "things:features.notfound")


async def test_a_time_names_what_was_before_it(registry):
    await registry.handle(put({"attributes": {"a": 1}}))
    await registry.handle(put(2, "attributes", "a"))
    times = [(await read(registry, at(revision, fields="_modified"))).value["_modified"] for revision in (1, 2)]
    when = {"at-historical-timestamp": times[1]}
    assert (await read(registry, get("attributes", "a", **when))).value == 1
    later = {"at-historical-timestamp": write(registry.clock())}
    assert (await read(registry, get("attributes", "a", **later))).value == 2
    for beyond in (times[0], "1970-01-01T00:00:00Z", "9999-01-01T00:00:00Z"):
        assert await refused(registry, get(**{"at-historical-timestamp": beyond})) == GONE


@pytest.mark.parametrize("revision", ["-2", "3", "99999999999999999999999"])
async def test_what_never_was_is_not_found(registry, revision):
    await registry.handle(put())
    await registry.handle(put(1, "attributes", "a"))
    assert await refused(registry, at(revision)) == GONE


async def test_revisions_are_counted_back_from_the_newest(registry):
    for value in (1, 2, 3):
        await registry.handle(put({"attributes": {"a": value}}))
    assert [(await read(registry, at(back))).revision for back in (0, -1, -2)] == [3, 2, 1]
    both = get(**{"at-historical-revision": "1", "at-historical-timestamp": "1970-01-01T00:00:00Z"})
    assert await refused(registry, both) == GONE  # the time goes first


@pytest.mark.parametrize(
    "headers",
    [{"at-historical-revision": "one"}, {"at-historical-timestamp": "yesterday"}, {"at-historical-timestamp": ""}],
)
async def test_what_is_no_revision_and_no_time_is_refused(registry, headers):
    await registry.handle(put())
    assert await refused(registry, get(**headers)) == (400, "header.invalid")


async def test_a_deleted_thing_is_not_read_and_its_successor_has_its_history(registry):
    await registry.handle(put({"attributes": {"a": 1}}))
    await registry.handle(delete())
    assert await refused(registry, at(1)) == (404, "things:thing.notfound")
    await registry.handle(put({"policyId": T1}))
    assert (await read(registry, at(1, "attributes", "a"))).value == 1
    assert await refused(registry, at(2)) == GONE
    assert await refused(registry, at(1, thing="demo:none")) == (404, "things:thing.notfound")


async def test_the_rights_are_those_of_now(registry):
    bob = entry(BOB[0], thing={"/attributes/open": "R"})
    await registry.handle(put_policy("demo:P", {"owner": OWNER, "bob": bob}))
    await registry.handle(put({"policyId": "demo:P", "attributes": {"open": 1, "shut": 1}}))
    await registry.handle(put(2, "attributes", "open"))
    assert (await read(registry, at(1, "attributes", who=BOB))).value == {"open": 1}
    assert await refused(registry, at(1, "attributes", "shut", who=BOB)) == (404, "things:attribute.notfound")
    failed = (412, "things:condition.failed")
    assert await refused(registry, at(1, who=BOB, condition="eq(attributes/shut,1)")) == failed
    assert (await read(registry, at(1, condition="eq(attributes/open,1)"))).status == 200
    assert await refused(registry, at(1, condition="eq(attributes/open,2)")) == failed
    await registry.handle(put_policy("demo:P", {"owner": OWNER}))
    assert await refused(registry, at(1, "attributes", who=BOB)) == (404, "things:thing.notfound")
    shown = (await read(registry, at(1, fields="_policy/entries/owner/subjects"))).value
    assert shown["_policy"]["entries"]["owner"]["subjects"] == OWNER["subjects"]


async def test_the_headers_of_the_change_are_told(registry):
    await registry.handle(put({}, headers={"correlation-id": "one", "device": "d"}))
    await registry.handle(put(1, "attributes", "a", headers={"correlation-id": "two"}))
    found = await read(registry, at(1))
    assert json.loads(found.headers["historical-headers"]) == {
        "correlation-id": "one",
        "ditto-originator": ANNE[0],
        "entity-revision": 1,
    }
    assert json.loads((await read(registry, at(2))).headers["historical-headers"])["correlation-id"] == "two"


async def test_a_policy_is_read_as_it_was(registry):
    await registry.handle(put_policy("demo:P", {"owner": OWNER, "bob": entry(BOB[0], thing={"/": "R"})}))
    await registry.handle(put_policy("demo:P", {"owner": OWNER}))

    def policy(revision: int, *path: str, who=ANNE) -> Command:
        headers = {"at-historical-revision": str(revision)}
        return Command(verb="retrieve", kind="policy", id="demo:P", subjects=who, path=path, headers=headers)

    assert set((await read(registry, policy(1, "entries"))).value) == {"owner", "bob"}
    assert set((await read(registry, policy(2, "entries"))).value) == {"owner"}
    assert await refused(registry, policy(3)) == (404, "policies:policy.history.notfound")
    assert await refused(registry, policy(1, who=BOB)) == (404, "policies:policy.notfound")


async def test_past_and_present_are_answered_in_order(registry):
    await registry.handle(put({"attributes": {"a": 1}}))
    answers = await registry.handle_all(
        [put(2, "attributes", "a"), at(1, "attributes", "a"), get("attributes", "a"), at(9)]
    )
    assert [answer.value for answer in answers[1:3]] == [1, 2]
    assert answers[3].code == GONE[1]


async def test_commands_that_go_together_know_only_the_present(registry):
    await registry.handle(put())
    answers = await registry.handle_together([put(1, "attributes", "a"), at(1)])
    assert "header.notsupported" in {getattr(answer, "code", None) for answer in answers}
    assert registry.journal.last == 2
    assert (await registry.rehearse([at(1)]))[0].code == "header.notsupported"


STEPS = st.lists(st.sampled_from(["put", "merge", "remove", "delete", "many", "save", "trim"]), max_size=12)


@given(STEPS)
def test_whatever_is_kept_is_told_truly(steps):
    asyncio.run(_live(steps))


async def _live(steps: list[str]) -> None:
    """Let a thing live through some changes, snapshots and trimming; then every state is told as it was, or not at all."""
    store = MemoryStore()
    async with serving(store) as registry:
        await registry.handle(put())
        states = {1: await store.load("thing", T1)}
        for number, step in enumerate(steps):
            alive = states[max(states)].document is not None
            if step == "save":
                await store.save([states[max(states)]], registry.journal.last)
            elif step == "trim":
                await store.trim(registry.journal.last - number)
            elif not alive:
                await registry.handle(put({"policyId": T1}))
            elif step == "put":
                await registry.handle(put({"attributes": {"a": number}}))
            elif step == "merge":
                await registry.handle(merge({"attributes": {"b": {"c": number}}}))
            elif step == "remove":
                await registry.handle(merge({"attributes": {"a": None}}))
            elif step == "delete":
                await registry.handle(delete())
            else:
                await registry.handle_all([put(count, "attributes", "n") for count in range(FAR)])
            newest = await store.load("thing", T1)
            states[newest.revision] = newest
        told = {revision: await store.past("thing", T1, revision) for revision in states}
        assert all(found is None or found == states[revision] for revision, found in told.items())
        kept = [event.revision for event in await store.read(0, 1_000_000) if event.kind == "thing"]
        assert told[max(states)] == states[max(states)]
        if kept and kept[0] == 1:
            assert None not in told.values()
