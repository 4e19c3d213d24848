"""What policies cost: decisions, compiling, filtering, memory. `python bench/policies.py`; each figure against its bound."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil

from skerry.signals import Command, Held
from skerry_policies import document, explain, policy
from skerry_policies.enforcer import Permits, rules_of
from skerry_policies.explain import Right
from skerry_registry.heads import Heads
from skerry_registry.refusals import refused_at
from skerry_registry.rights import Rights
from skerry_registry.runs import Run

CALLER = ("nginx:ditto", "group:operators")
FULL = {"grant": ["READ", "WRITE"], "revoke": []}
READ = {"grant": ["READ"], "revoke": []}
REVOKE = {"grant": [], "revoke": ["READ"]}


def entries(count: int, *, distinct: int = 0, unlike: bool = False) -> dict[str, Any]:
    """An administrator, and entries that each say something of one feature to the same caller and to one of their own."""
    found: dict[str, Any] = {
        "admin": {
            "subjects": {"nginx:ditto": {"type": "user"}},
            "resources": {"thing:/": FULL, "policy:/": FULL, "message:/": FULL},
        }
    }
    own = f"of{distinct}" if unlike else ""
    for n in range(1, count):
        found[f"entry{n}"] = {
            "subjects": {f"group:g{distinct}-{n}": {"type": "group"}, "group:operators": {"type": "group"}},
            "resources": {f"thing:/features/f{n}{own}/properties": READ, f"message:/features/f{n}{own}": READ},
        }
    return found


def policy_of(policy_id: str, count: int, *, distinct: int = 0, unlike: bool = False) -> dict[str, Any]:
    """A policy document in its full form, as the registry keeps it."""
    checked: dict[str, Any] = document.check(
        policy_id, (), {"entries": entries(count, distinct=distinct, unlike=unlike)}, 0
    )
    return checked


def heads_with(*documents: dict[str, Any]) -> Heads:
    """A cache that holds policies."""
    heads = Heads(100_000)
    for whole in documents:
        heads.put(Held(kind="policy", id=whole["policyId"], document=whole, revision=1))
    return heads


def timed(work: Callable[[], object], times: int) -> float:
    """Microseconds for one call, the best of five series."""
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(times):
            work()
        best = min(best, (time.perf_counter() - begin) / times)
    return best * 1e6


def tell(what: str, figure: float, unit: str, bound: float | None = None) -> bool:
    """Print a figure; answers whether it keeps its bound."""
    kept = bound is None or figure <= bound
    told = "" if bound is None else f"   (bound {bound:g} {unit}: {'kept' if kept else 'BROKEN'})"
    sys.stdout.write(f"{what:<66} {figure:10.2f} {unit}{told}\n")
    return kept


def decisions() -> bool:
    """A cached decision: finding the caller's rights and asking them."""
    whole = policy_of("bench:p", 20)
    importing: dict[str, Any] = document.check("bench:i", (), {"imports": {"bench:p": {}}, "entries": entries(20)}, 0)
    rights = Rights(heads_with(whole, importing), lambda: 0)
    run = Run(())
    path = ("features", "f3", "properties", "power")

    def ask(policy_id: str, permission: str) -> None:
        permits = rights.permits(run, policy_id, CALLER, "bench")
        assert permits is not None
        permits.may("thing", path, permission)

    partial = ("group:operators",)

    def ask_partly() -> None:
        permits = rights.permits(run, "bench:p", partial, "bench")
        assert permits is not None
        permits.may_partly("thing", path, "READ")

    kept = tell("cached decision, 20 entries, unrestricted", timed(lambda: ask("bench:p", "WRITE"), 20_000), "us", 5)
    kept &= tell("cached decision, 20 entries, partial reader", timed(ask_partly, 20_000), "us", 5)
    kept &= tell("cached decision, 20 entries and 20 imported", timed(lambda: ask("bench:i", "WRITE"), 20_000), "us", 5)
    patch = {f"f{n}": {"properties": {"a": 1.0, "b": 2.0, "c": 3.0}} for n in range(1, 5)}
    command = Command(verb="merge", id="bench:t", subjects=CALLER, path=("features",), value=patch)
    all_of_it = rights.permits(run, "bench:p", CALLER, "bench")
    few: dict[str, Any] = {
        "e": {
            "subjects": {"d:v": {"type": ""}},
            "resources": {f"thing:/features/f{n}/properties": FULL for n in range(1, 20)},
        }
    }
    some_of_it = Permits(rules_of(few.values(), ("d:v",)).rows)
    assert all_of_it is not None
    tell("merge of 4 features: may it, unrestricted", timed(lambda: refused_at(all_of_it, command), 20_000), "us")
    tell("merge of 4 features: may it, by feature", timed(lambda: refused_at(some_of_it, command), 20_000), "us")
    return kept


def compiling() -> bool:
    """From a document to the rights of a caller whom every entry speaks of."""
    whole = policy_of("bench:p", 1_000)
    held = list(whole["entries"].values())
    kept = tell("compile, 1,000 entries", timed(lambda: Permits(rules_of(held, CALLER).rows), 3) / 1e3, "ms", 50)
    sent = {"entries": entries(1_000)}
    terms = document.Terms(limit=10_000_000)
    asked = Command(verb="create", kind="policy", id="bench:p", subjects=CALLER, value=sent)
    new = Held(kind="policy", id="bench:p")
    tell("check and decide a PUT of 1,000 entries", timed(lambda: policy.decide(new, asked, 0, terms), 3) / 1e3, "ms")
    rights = Rights(heads_with(whole), lambda: 0)
    effective = rights.effective("bench:p")
    assert effective is not None
    right = Right("thing:/features/f500/properties/x", "WRITE")
    tell(
        "explain, 1,000 entries (Casbin)",
        timed(lambda: explain.explain(effective, ("group:operators",), right, lambda _, __: True), 3) / 1e3,
        "ms",
    )
    return kept


def filtering() -> bool:
    """A thing with 200 properties for somebody who may read some of them."""
    properties = {f"p{n}": {"value": n * 1.0, "unit": "kW"} for n in range(100)}
    thing = {
        "thingId": "bench:t",
        "policyId": "bench:p",
        "attributes": {f"a{n}": n for n in range(100)},
        "features": {"scada": {"properties": properties}},
    }
    resources: dict[str, Any] = {f"thing:/features/scada/properties/p{n}": READ for n in range(0, 100, 2)}
    resources |= {f"thing:/attributes/a{n}": REVOKE for n in range(0, 100, 5)}
    resources["thing:/attributes"] = READ
    rows = rules_of([{"subjects": {"s:1": {}}, "resources": resources}], ("s:1",)).rows
    permits = Permits(rows)
    return tell(
        "view of a thing with 200 properties, partial reader", timed(lambda: permits.view((), thing), 500), "us", 100
    )


def memory() -> bool:
    """Ten thousand distinct policies of 20 entries with the rights of one caller under each."""
    kept = tell("10,000 distinct policies of 20 entries in memory", grown(unlike=False), "MB", 200)
    gc.collect()
    tell("the same, no two of which name the same resource", grown(unlike=True), "MB")
    return kept


def grown(*, unlike: bool) -> float:
    """Megabytes that they take; `unlike`: every resource is named in one policy only."""
    gc.collect()
    process = psutil.Process()
    begin = process.memory_info().rss
    heads = Heads(100_000)
    rights = Rights(heads, lambda: 0)
    for n in range(10_000):
        whole = policy_of(f"bench:policy-{n}", 20, distinct=n, unlike=unlike)
        heads.put(Held(kind="policy", id=whole["policyId"], document=whole, revision=1))
        rights.permits(None, whole["policyId"], CALLER, "bench")
    gc.collect()
    return (process.memory_info().rss - begin) / 1e6


if __name__ == "__main__":
    results = [part() for part in (memory, decisions, compiling, filtering)]
    sys.exit(0 if all(results) else 1)
