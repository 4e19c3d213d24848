"""Reasons of refusals, and refusals that go without."""

from typing import Any

from registry_door import ANNE, BOB, OWNER, T1, put, serving
from skerry.signals import Command, Held, Kind
from skerry_registry.ports import StoreUnavailable
from skerry_registry.reasons import Reasons
from skerry_registry.refusals import ThingNotModifiable
from skerry_registry.stores.memory import MemoryStore

READ = {"grant": ["READ"], "revoke": []}
GUEST = {"subjects": {"nginx:bob": {"type": ""}}, "resources": {"thing:/": READ, "policy:/": READ}}


class FailingStore(MemoryStore):
    """A memory store that cannot load what is named to it."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[str] = set()

    async def load(self, kind: Kind, id: str) -> Held:  # noqa: A002 - the port's word
        if id in self.lost:
            raise StoreUnavailable(reason="the disk is gone.")
        return await super().load(kind, id)


def write() -> Command:
    return put(1, "attributes", "a", who=BOB)


def refusal() -> ThingNotModifiable:
    return ThingNotModifiable(thing_id=T1)


def policy(policy_id: str, value: dict[str, Any], *path: str) -> Command:
    return Command(verb="modify", kind="policy", id=policy_id, subjects=ANNE, path=path, value=value)


async def test_a_refusal_says_why():
    async with serving() as registry:
        await registry.handle(put({"_policy": {"entries": {"owner": OWNER, "guests": GUEST}}}))
        error = refusal()
        await Reasons(registry).attach(write(), error)
        assert error.facts["why"].missing


async def test_a_refusal_stays_one_where_the_store_cannot_tell_why():
    store = FailingStore()
    async with serving(store) as registry:
        await registry.handle(policy("demo:shared", {"entries": {"owner": OWNER}}))
        entries = {"owner": OWNER, "guests": GUEST}
        await registry.handle(put({"_policy": {"entries": entries, "imports": {"demo:shared": {}}}}))
    store.lost = {"demo:shared"}
    async with serving(store) as registry:
        error = refusal()
        await Reasons(registry).attach(write(), error)
        assert "why" not in error.facts
        assert error.status == 403
        store.lost = set()
        await Reasons(registry).attach(write(), error)
        assert "why" in error.facts


async def test_a_refusal_stays_one_where_the_imports_of_the_policy_have_no_end():
    async with serving() as registry:
        for n in range(15):
            await registry.handle(policy(f"chain:{n}", {"entries": {"owner": OWNER}}))
        entries = {"owner": OWNER, "guests": GUEST}
        await registry.handle(put({"_policy": {"entries": entries}}))
        await registry.handle(policy(T1, {"transitiveImports": ["chain:1"]}, "imports", "chain:0"))
        for n in range(13):
            facts = {"transitiveImports": [f"chain:{n + 2}"]}
            await registry.handle(policy(f"chain:{n}", facts, "imports", f"chain:{n + 1}"))
        error = refusal()
        await Reasons(registry).attach(write(), error)
        assert (error.status, "why" in error.facts) == (403, False)
