"""The one door: every command of every edge comes through here, and nothing else writes."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Self, TypeAlias

from skerry import things
from skerry.errors import SkerryError
from skerry_policies.document import TERMS
from skerry_registry.deciding import Deciding
from skerry_registry.deliveries import Deliveries
from skerry_registry.heads import Commit, Entry, Heads
from skerry_registry.journal import Journal, Retention
from skerry_registry.memory import Memory
from skerry_registry.past import Past, is_asked
from skerry_registry.ports import EventNotStorable, RevisionConflict, StoreUnavailable
from skerry_registry.rights import Rights
from skerry_registry.runs import Lacking, NotDone, Run
from skerry_registry.snapshots import Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from skerry.signals import Clock, Command, Micros, NewId, Response
    from skerry_policies.document import Terms
    from skerry_policies.enforcer import Permits
    from skerry_registry.heads import Key
    from skerry_registry.identities.creation import Creation
    from skerry_registry.ports import Store

log = logging.getLogger(__name__)

Settled: TypeAlias = "Callable[[Commit], None]"
"""Told of a commit that is durable: `events`, and in `changes` the entry (its `held` is the new state) of each. Must not raise."""

Refused: TypeAlias = "Callable[[Command, SkerryError], None]"
"""Told of a command that was refused for want of rights, and of the answer. Must not raise."""

SWEEP_SECONDS = 60.0
"""How often old events are looked for."""

FORBIDDEN = 403
HIDDEN = {"things:thing.notfound", "policies:policy.notfound"}
"""Codes that hide from a caller that there is something."""

TRIES = 20
"""How often a command is decided anew because another writer was faster."""


class Registry:
    """Things and policies over one store. Enter to recover and serve, leave to flush and stop.

    Commands are decided at once, one after the other per entity, on top of changes that are still being committed; answers
    are given when everything they rest on is durable. A delivery that was taken in already (same `observed` and `digest`;
    or same `digest` and `redelivered`, without `observed`) is answered with success and changes nothing. `digest` must
    cover the entity's id, the path and the value.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        new_id: NewId,
        *,
        cache_things: int = 50_000,
        cache_text_bytes: int = 256_000_000,
        thing_max_bytes: int = 102_400,
        policy_terms: Terms = TERMS,
        snapshot_seconds: float = 10.0,
        snapshot_events: int = 50_000,
        journal_retention_days: float = 3.0,
        journal_max_bytes: int = 4_000_000_000,
        namespace_policies: Mapping[str, Sequence[str]] | None = None,
        historical_headers: Collection[str] = (),
        creation_rules: Creation | None = None,
    ) -> None:
        """Limits are counts and bytes of JSON; a snapshot lags by at most the given seconds and about so many events."""
        self.journal = Journal(store)
        self.clock = clock
        self.new_id = new_id
        self._store = store
        self._heads = Heads(cache_things)
        self.rights = Rights(self._heads, clock, namespace_policies, limit=2 * cache_things)
        self.past = Past(self, store, historical_headers)
        self._deliveries = Deliveries()
        self._deciding = Deciding(
            self._heads,
            self._deliveries,
            self.rights,
            self._begin,
            thing_limit=thing_max_bytes,
            policy_terms=policy_terms,
            creation_rules=creation_rules,
        )
        self._snapshots = Snapshots(
            store,
            self.journal,
            self._heads.shrink,
            seconds=snapshot_seconds,
            events=snapshot_events,
            entities=max(1_000, cache_things // 4),
        )
        self.memory = Memory(store, self._heads, self._snapshots, text_bytes=cache_text_bytes)
        self.retention = Retention(store, self.journal, clock, days=journal_retention_days, max_bytes=journal_max_bytes)
        self._sweeping: asyncio.Task[None] | None = None
        self._commits: set[asyncio.Task[None]] = set()
        self._claims: dict[Key, asyncio.Future[None]] = {}
        self._settled: list[Settled] = []
        self._refused: list[Refused] = []

    def on_settled(self, note: Settled) -> None:
        """Have every commit told, in order, at the moment it becomes visible and before anybody is answered."""
        self._settled.append(note)

    def on_refused(self, note: Refused) -> None:
        """Have every command told that a policy refuses, also where the answer hides that the entity is there."""
        self._refused.append(note)

    def refuse(self, command: Command, error: SkerryError) -> None:
        """Tell of a refusal that was found elsewhere: of a signal that changes nothing here."""
        for note in self._refused:
            note(command, error)

    async def __aenter__(self) -> Self:
        """Open the store, bring lagging snapshots up to date, start the background work."""
        await self._store.__aenter__()
        try:
            await self.journal.open()
            recovered = await self._store.recover()
            if recovered:
                log.info("snapshots recovered from the journal", extra={"entities": len(recovered)})
                await self._snapshots.save(recovered, self.journal.last)
            self._deliveries.refill(await self._store.deliveries(50_000))
            self._snapshots.start(self.journal.last)
            self._sweeping = asyncio.get_running_loop().create_task(self.retention.run(SWEEP_SECONDS))
        except BaseException:
            await self._store.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Let what is in flight finish, save what lags, close the store."""
        try:
            while waited := [*self._commits, *self.memory.loads]:
                await asyncio.wait(waited)
            if self._sweeping is not None:
                self._sweeping.cancel()
                await asyncio.wait([self._sweeping])
            await self._snapshots.stop()
        finally:
            await self._store.__aexit__(None, None, None)

    async def handle(self, command: Command) -> Response:
        """Carry out one command; raises SkerryError."""
        answer = (await self.handle_all((command,)))[0]
        if isinstance(answer, SkerryError):
            raise answer
        return answer

    async def handle_all(self, commands: Sequence[Command]) -> list[Response | SkerryError]:
        """Carry out many commands, each for itself, sharing commits; the answers stand in the commands' order."""
        if any(is_asked(command) for command in commands if command.verb == "retrieve"):
            return await self.past.handle_all(commands)
        if self._snapshots.full:
            await self._snapshots.wait()
        return await self._carry_out(Run(commands))

    async def handle_together(self, commands: Sequence[Command]) -> list[Response | SkerryError]:
        """Carry out all of the commands in one commit, or none: then some answers are refusals, all others NotDone.

        The loop belongs to them while they are decided, so they had better be a thousand and not a million.
        """
        if self._snapshots.full:
            await self._snapshots.wait()
        return await self._carry_out(Run(commands, way="together"))

    async def rehearse(self, commands: Sequence[Command]) -> list[Response | SkerryError]:
        """What `handle_all` would answer at this moment; nothing is changed."""
        return await self._carry_out(Run(commands, way="rehearsed"))

    async def permits(self, subjects: tuple[str, ...], thing_id: str) -> Permits:
        """The caller's rights on a thing; raises ThingNotAccessible when it may see nothing of it, nor of its history."""
        held = (await self.memory.fetch([("thing", thing_id)]))[0].held
        if held.document is not None:
            policy_id, namespace = held.document["policyId"], thing_id.partition(":")[0]
            permits = await self.memory.known(lambda: self.rights.permits(None, policy_id, subjects, namespace))
            if permits is not None and any(permits.may_partly("thing", (), right) for right in ("READ", "READ_TS")):
                return permits
        raise things.ThingNotAccessible(thing_id=thing_id)

    async def reborn(self, thing_id: str) -> Micros | None:
        """When the thing was made, where another had its id before; else None."""
        held = (await self.memory.fetch([("thing", thing_id)]))[0].held
        return held.created if held.earlier else None

    async def _carry_out(self, run: Run) -> list[Response | SkerryError]:
        """Decide, commit, and decide anew what rested on a commit that failed."""
        await self._decide_all(run)
        again: set[int] = set()
        for commit, indexes in run.depends.items():
            if not commit.done.done():
                await asyncio.shield(commit.done)
            error = commit.error
            if error is None:
                continue
            mine = isinstance(error, SkerryError) and commit.owner is run
            if run.way != "each":
                if mine:
                    run.answers[:] = _blamed(run, error)
                else:
                    again.update(range(len(run.commands)))
            elif isinstance(error, SkerryError) and (mine or _of_one(error, run)):
                await self._fail(run, indexes, error)
            else:
                again.update(indexes)
        run.depends.clear()  # runs and commits know each other: leave no cycles to the garbage collector
        if again:
            await self._try_again(run, sorted(again))
        return run.answers

    async def _fail(self, run: Run, indexes: list[int], error: SkerryError) -> None:
        """Answer with the error; where only one of several commands is to blame for it, the others shall not suffer."""
        apart = _of_one(error, run)
        for index in indexes:
            run.answers[index] = (await self._carry_out(Run([run.commands[index]])))[0] if apart else error

    async def _try_again(self, run: Run, indexes: list[int]) -> None:
        """Carry out once more the commands whose answers rested on states that never came to be."""
        answers: Sequence[Response | SkerryError]
        if run.tries < TRIES:
            commands = [run.commands[index] for index in indexes]
            answers = await self._carry_out(Run(commands, tries=run.tries + 1, way=run.way))
        else:
            answers = [StoreUnavailable(reason="other writers were faster every time.")] * len(indexes)
        for index, answer in zip(indexes, answers, strict=True):
            run.answers[index] = answer

    async def _decide_all(self, run: Run) -> None:
        """Decide every command in order, loading what is not in memory; no later run overtakes on the same entities."""
        claim: asyncio.Future[None] | None = None
        try:
            if self._claims:
                claim = await self._queue_up(run)
            while True:
                lacking = self._decide(run)
                if run.undo is not None:
                    self._take_back(run, again=lacking is not None)
                self._submit(run)
                if lacking is None:
                    return
                if claim is None:
                    claim = self._claim({(c.kind, c.id) for c in run.commands})
                await self._provide(run, lacking)
        except StoreUnavailable as error:
            run.answers.extend([error] * (len(run.commands) - run.next))
        finally:
            if claim is not None:
                claim.set_result(None)
                for key in [key for key, holder in self._claims.items() if holder is claim]:
                    del self._claims[key]
            for entry in run.pinned:
                entry.pins -= 1

    def _claim(self, keys: Iterable[Key]) -> asyncio.Future[None]:
        """Make later runs on these entities wait."""
        claim: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for key in keys:
            self._claims[key] = claim
        return claim

    async def _queue_up(self, run: Run) -> asyncio.Future[None] | None:
        """Wait behind the runs that came first and touch the same entities."""
        keys = {(c.kind, c.id) for c in run.commands}
        ahead = {self._claims[key] for key in keys if key in self._claims}
        if not ahead:
            return None
        claim = self._claim(keys)
        try:
            await asyncio.wait(ahead)
        except BaseException:
            claim.set_result(None)
            raise
        return claim

    def _decide(self, run: Run) -> Lacking | None:
        """Decide commands until all are done or something is lacking."""
        now = self.clock()
        commands, answers, deciding = run.commands, run.answers, self._deciding
        while run.next < len(commands):
            command = commands[run.next]
            try:
                answers.append(deciding.decide(run, command, now))
            except Lacking as lacking:
                return lacking
            except SkerryError as error:
                entry = self._heads.find((command.kind, command.id))
                if entry is not None and command.verb != "retrieve":
                    run.depend(entry.commit)
                answers.append(error.with_traceback(None))
                if self._refused and run.way != "rehearsed" and _is_refusal(error, entry):
                    for note in self._refused:
                        note(command, error)
            run.next += 1
        return None

    def _take_back(self, run: Run, *, again: bool) -> None:
        """Undo a run that must not change anything: a rehearsal, one that was refused in part, one to be decided again."""
        refused = any(isinstance(answer, SkerryError) for answer in run.answers)
        if run.way == "together" and not refused and not again:
            return
        commit = run.take_back()
        if commit is not None:
            self._deliveries.drop(commit)
        if again:
            run.begin_again()
        elif run.way == "together":
            run.answers[:] = [answer if isinstance(answer, SkerryError) else NotDone() for answer in run.answers]

    async def _provide(self, run: Run, lacking: Lacking) -> None:
        """Get what a decision lacks, and with it what the rest of the run will lack as well."""
        rest = run.commands[run.next :]
        if lacking.deliveries:
            marks = {(c.observed, c.digest) for c in rest if c.observed is not None and c.digest is not None}
            unknown = [mark for mark in marks if mark not in run.seen]
            seen = await self._store.seen(unknown)
            run.seen.update((mark, mark in seen) for mark in unknown)
        if lacking.keys:
            wanted = lacking.keys
            if not run.fetched:
                run.fetched = True
                wanted |= {(c.kind, c.id) for c in rest} | set(_policies_of_new(rest))
            entries = await self.memory.fetch(wanted, run)
            documents = [entry.head.document for entry in entries if entry.key[0] == "thing"]
            await self.memory.fetch({("policy", document["policyId"]) for document in documents if document}, run)

    def _begin(self, run: Run) -> Commit:
        """An empty commit."""
        return Commit(run, asyncio.get_running_loop().create_future())

    def _submit(self, run: Run) -> None:
        """Hand the run's commit to the journal."""
        commit, run.commit = run.commit, None
        if commit is not None:
            task = asyncio.get_running_loop().create_task(self._append(commit))
            self._commits.add(task)
            task.add_done_callback(self._commits.discard)

    async def _append(self, commit: Commit) -> None:
        """Make a commit durable and visible, or undo what was built on it."""
        try:
            await self.journal.append(commit.events)
        except Exception as error:
            commit.error = error if isinstance(error, SkerryError | RevisionConflict) else SkerryError()
            commit.drop(stale=isinstance(error, RevisionConflict))
            self._deliveries.drop(commit)
            unknown = error if commit.error is not error else None
            log.warning("commit failed", extra={"events": len(commit.events), "reason": str(error)}, exc_info=unknown)
        else:
            self._snapshots.note(commit.settle(), len(commit.events))
            self._deliveries.settle(commit)
            for note in self._settled:
                note(commit)
        finally:
            commit.done.set_result(None)


def _of_one(error: SkerryError, run: Run) -> bool:
    """Whether one among several commands is to blame."""
    return isinstance(error, EventNotStorable) and len(run.commands) > 1


def _blamed(run: Run, error: Exception) -> list[Response | SkerryError]:
    """The answers when the one commit of all failed: the error to whom it concerns, or to everybody."""
    problem = error if isinstance(error, SkerryError) else SkerryError()
    culprit = problem.facts.get("id") if isinstance(problem, EventNotStorable) else None
    return [problem if culprit in {None, command.id} else NotDone() for command in run.commands]


def _is_refusal(error: SkerryError, entry: Entry | None) -> bool:
    """Whether it is for want of rights: said so, or hidden behind a 404 for an entity that is there."""
    if error.status == FORBIDDEN:
        return True
    return error.code in HIDDEN and entry is not None and entry.held.document is not None


def _policies_of_new(commands: Iterable[Command]) -> Iterator[Key]:
    """The policies that things would have if these commands created them."""
    for command in commands:
        if command.kind == "thing" and not command.path and isinstance(command.value, dict):
            policy_id = command.value.get("policyId", command.id)
            if isinstance(policy_id, str):
                yield "policy", policy_id
