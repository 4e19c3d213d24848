"""What a command comes to: rights, then the model's decision, against the newest state; no waiting in here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, structs

from skerry import headers, migration, parts, things
from skerry.signals import By, Command, Decision, Response
from skerry.substitution import substituted
from skerry_policies import policy
from skerry_policies.parts import PolicyNotAccessible
from skerry_registry import creation, guarded
from skerry_registry.deliveries import is_behind
from skerry_registry.identities.creation import Creation
from skerry_registry.journal.replay import apply
from skerry_registry.past import check_present
from skerry_registry.policy_changes import PolicyChanges
from skerry_registry.refusals import ThingNotModifiable, refusal, refused_at
from skerry_registry.runs import Lacking

if TYPE_CHECKING:
    from collections.abc import Callable

    from skerry.signals import Event, Held, Kind, Micros
    from skerry_policies.document import Terms
    from skerry_policies.enforcer import Permits
    from skerry_registry.deliveries import Deliveries
    from skerry_registry.heads import Commit, Entry, Heads
    from skerry_registry.rights import Rights
    from skerry_registry.runs import Run

log = logging.getLogger(__name__)
POLICY_GONE = "The thing's policy does not exist, or no longer: create it, and the thing can be reached again."


class Deciding:
    """Decisions on the loop, entity by entity, each on top of the one before even while that is being committed."""

    def __init__(
        self,
        heads: Heads,
        deliveries: Deliveries,
        rights: Rights,
        begin: Callable[[Run], Commit],
        *,
        thing_limit: int,
        policy_terms: Terms,
        creation_rules: Creation | None = None,
    ) -> None:
        """`begin` makes an empty commit of a run; `thing_limit` is bytes of JSON; `creation_rules` are the operator's."""
        self._heads = heads
        self._deliveries = deliveries
        self._rights = rights
        self._begin = begin
        self._thing_limit = thing_limit
        self._policies = PolicyChanges(rights, policy_terms, creation_rules)
        self._check_creation = (creation_rules or Creation((), ())).check

    def decide(self, run: Run, command: Command, now: Micros) -> Response:
        """The answer to one command; its event joins the run's commit. Raises SkerryError, or Lacking before any effect."""
        entry = self.find(command.kind, command.id)
        if command.verb == "retrieve":
            check_present(command)
            held = self._visible(run, entry)
            if command.kind == "thing":
                return self._retrieve_thing(run, held, command, now)
            return self._policies.retrieve(run, held, command)
        if command.digest is not None and self._repeats(run, entry, command):
            run.depend(entry.commit)
            return Response(status=204, revision=entry.head.revision)
        held = entry.head
        command = substituted(command, now)
        if command.verb == "migrate":
            return self._migrate_thing(run, entry, command, now)
        if command.kind == "thing":
            if held.document is None:
                return self._create_thing(run, entry, command, now)
            return self._change_thing(run, entry, command, now)
        return self._take(run, entry, command, self._policies.decide(run, held, command, now))

    def find(self, kind: Kind, id: str) -> Entry:  # noqa: A002 - the model's word
        """The entry in memory, or Lacking."""
        entry = self._heads.find((kind, id))
        if entry is None:
            raise Lacking([(kind, id)])
        return entry

    def _visible(self, run: Run, entry: Entry) -> Held:
        """What a read may show: what is durable, or what this very run has changed (its answers wait for the commit)."""
        if entry.key in run.changed:
            run.depend(entry.commit)
            return entry.head
        return entry.held

    def _retrieve_thing(self, run: Run, held: Held, command: Command, now: Micros) -> Response:
        """A thing or a part of it, as far as the caller may see."""
        whole = held.document
        permits = None
        if whole is not None:
            permits = self._rights.permits(run, whole["policyId"], command.subjects, held.id.partition(":")[0])
        if permits is None:
            raise things.ThingNotAccessible(thing_id=command.id)
        if "condition" in command.headers:
            guarded.check_condition(permits, held, command, now)
        visible = guarded.shown(permits, held)
        if visible is None:
            raise parts.unreadable(command.id, command.path)
        document = visible.document
        assert document is not None
        if command.path:
            parts.check_path(command.path, "retrieve")
            document = guarded.part_shown(permits, held, document, command.path)
        if "_policy" in command.headers.get("fields", ""):
            document = self._with_policy(run, held, document, command)
        return things.retrieve(visible, document, command)

    def _with_policy(self, run: Run, held: Held, document: dict[str, Any], command: Command) -> dict[str, Any]:
        """The document and, as `_policy`, what the caller may see of the thing's policy."""
        assert held.document is not None
        policy_id = held.document["policyId"]
        permits = self._rights.permits(run, policy_id, command.subjects)
        found = self._visible(run, self.find("policy", policy_id)).document
        if permits is None or found is None:
            return document
        shown = permits.view((), policy.shown(found), "policy")
        return document if shown is UNSET else {**document, "_policy": shown}

    def _migrate_thing(self, run: Run, entry: Entry, command: Command, now: Micros) -> Response:
        """A thing gets another definition: a merge of all that the migration says, under another name."""
        wanted = migration.read(command.value, now)
        held = entry.head
        if held.document is None:
            raise things.ThingNotAccessible(thing_id=command.id)
        permits = self._rights.permits(run, held.document["policyId"], command.subjects, held.id.partition(":")[0])
        if permits is None or not permits.may("thing", (), "WRITE"):
            raise ThingNotModifiable(thing_id=held.id, path="/")
        guarded.check_seen(permits, held.id, wanted.fields())
        guarded.check_condition(permits, held, command, now)
        patch = migration.patch_of(wanted, held, guarded.shown(permits, held))
        kept = {name: text for name, text in command.headers.items() if name not in migration.NOT_FOR_MERGES}
        merge = structs.replace(command, verb="merge", path=(), value=patch, headers=kept)
        dry = headers.boolean(command.headers, "dry-run", default=False)
        return self._change_thing(
            run, entry, merge, now, lambda decision: migration.decided(decision, held.id, dry=dry)
        )

    def _change_thing(
        self,
        run: Run,
        entry: Entry,
        command: Command,
        now: Micros,
        finish: Callable[[Decision], Decision] | None = None,
    ) -> Response:
        """A write on a thing that exists; `finish` has the last word on what it comes to."""
        held = entry.head
        assert held.document is not None
        policy_id = held.document["policyId"]
        permits = self._rights.permits(run, policy_id, command.subjects, held.id.partition(":")[0])
        if permits is None:
            raise ThingNotModifiable(thing_id=held.id, path="/", description=POLICY_GONE)
        self._heads.want(("policy", policy_id))
        entry.wanted = True
        warning: str | None = None
        value = command.value
        if not command.path and isinstance(value, dict):
            if value.get("_policy") is not None:
                warning = '299 - "The thing has its policy already: _policy is ignored. Change the policy itself."'
            command = _without_special(command, value)
        if command.verb == "merge" and not command.path and not command.value:
            parts.checked(command.id, (), command.value, merging=True)
        guarded.check_readable(permits, command, now)
        at = refused_at(permits, command, held.document)
        if at is not None:
            raise refusal(command, at)
        named = _policy_named(command)
        if named is not None:
            warning = self._check_new_policy(run, held, named, command) or warning
        decision = guarded.decide(permits, held, command, now, self._thing_limit)
        if finish is not None:
            decision = finish(decision)
        response = self._take(run, entry, command, decision)
        if warning is not None:
            log.warning(
                "thing is changed otherwise than was meant, maybe", extra={"thing": held.id, "warning": warning}
            )
            response = structs.replace(response, headers={**response.headers, "warning": warning})
        return response

    def _check_new_policy(self, run: Run, held: Held, policy_id: str, command: Command) -> str | None:
        """Refuse a policy that would lock the caller out; one that does not exist is taken as Ditto does, with a warning."""
        assert held.document is not None
        if policy_id == held.document["policyId"]:
            return None
        permits = self._rights.permits(run, policy_id, command.subjects, held.id.partition(":")[0])
        if permits is None:
            return f'299 - "The policy {policy_id} does not exist: nobody can reach the thing until it is created."'
        if not permits.may_partly("policy", (), "READ"):
            raise PolicyNotAccessible(policy_id=policy_id)
        if not permits.may("thing", (), "WRITE"):
            raise refusal(command)
        return None

    def _create_thing(self, run: Run, entry: Entry, command: Command, now: Micros) -> Response:
        """A thing that is not there: made with its policy in one commit, or not found."""
        value = command.value
        if command.path or command.verb == "delete":
            raise things.ThingNotAccessible(thing_id=command.id)
        if not isinstance(value, dict):
            decision = things.decide(entry.head, command, now, self._thing_limit)
            return self._take(run, entry, command, decision)
        if command.verb == "merge":
            parts.checked(command.id, (), value, merging=True)  # as it was sent: the policyId is put in below
        self._check_creation("thing", command.id, command.subjects, value.get("definition"))

        namespace = command.id.partition(":")[0]

        def permits_of(policy_id: str, within: str | None) -> Permits | None:
            return self._rights.permits(run, policy_id, command.subjects, within)

        birth = creation.plan(command, value, self._head, permits_of)
        made: Decision | None = None
        guard = self.find("policy", birth.policy_id)
        if birth.document is None:
            permits = permits_of(birth.policy_id, namespace)
        else:
            made = self._policies.make(run, guard.head, birth, command, now)
            assert made.event is not None
            assert isinstance(made.event.value, dict)
            permits = self._rights.permits_under(run, birth.policy_id, made.event.value, command.subjects, namespace)
        if permits is None or not permits.may("thing", (), "WRITE"):
            raise ThingNotModifiable(thing_id=command.id, path="/")
        command = _without_special(command, value, policyId=birth.policy_id)
        decision = things.decide(entry.head, command, now, self._thing_limit)
        if made is not None and made.event is not None and decision.event is not None:
            if command.origin:
                made.event.by = self._by(run, command, guard.head, made.event)
            self._add(run, guard, made.event, made.after)
        return self._take(run, entry, command, decision)

    def _head(self, kind: Kind, id: str) -> Held:  # noqa: A002
        """The newest state, in flight or not."""
        return self.find(kind, id).head

    def _take(self, run: Run, entry: Entry, command: Command, decision: Decision) -> Response:
        """Let a decision's event join the commit; without one the answer hangs on what it was decided upon."""
        event = decision.event
        if event is None:
            run.depend(entry.commit)
            return decision.response
        if (command.origin and not is_telemetry(command)) or (event.action == "deleted" and not event.path):
            event.by = self._by(run, command, entry.head, event)
        commit = self._add(run, entry, event, decision.after)
        if command.digest is not None:
            observed = command.observed
            self._deliveries.begin(command.digest if observed is None else (observed, command.digest), commit)
        return decision.response

    def _by(self, run: Run, command: Command, before: Held, event: Event) -> By:
        """Who makes the change, and the policy and revision that let them; revision 0: it is made with this very change."""
        policy_id = event.id
        if event.kind == "thing":
            document = before.document or event.value
            assert isinstance(document, dict)
            policy_id = document["policyId"]
        entry = self._heads.find(("policy", policy_id))
        revision = 0
        if entry is not None:
            revision = (entry.head if entry.key in run.changed else entry.held).revision
        return By(command.subjects[0] if command.subjects else "", command.origin, policy_id, revision)

    def _add(self, run: Run, entry: Entry, event: Event, after: Held | None) -> Commit:
        """Put an event on the entry's head and into the run's commit; `after`: what is held then, if that is known."""
        if after is None:
            after = apply(entry.head, event)
        commit = run.commit
        if commit is None:
            commit = run.commit = self._begin(run)
        if run.undo is not None:
            run.undo.append((entry, entry.head, entry.commit))
        commit.add(entry, event, after)
        run.changed.add(entry.key)
        run.depend(commit)
        return commit

    def _repeats(self, run: Run, entry: Entry, command: Command) -> bool:
        """Whether this very delivery has been taken in before."""
        assert command.digest is not None
        mark: Any
        if command.observed is None:
            if not command.redelivered:
                return False
            mark = command.digest
        else:
            if not is_behind(entry.head, command):
                return False
            mark = (command.observed, command.digest)
        if self._deliveries.knows(mark):
            run.depend(self._deliveries.commit_of(mark))
            return True
        if command.observed is None:
            return False
        known = run.seen.get(mark)
        if known is None:
            raise Lacking(deliveries=True)
        return known


def is_telemetry(command: Command) -> bool:
    """Whether it is what devices send all the time: features over MQTT."""
    path = command.path
    return bool(path) and path[0] == "features" and command.origin.startswith("mqtt")


def _policy_named(command: Command) -> str | None:
    """The policyId that a change of a thing brings."""
    value = command.value
    if not command.path and isinstance(value, dict):
        value = value.get("policyId")
    elif command.path != ("policyId",):
        return None
    return value if isinstance(value, str) else None


def _without_special(command: Command, value: dict[str, Any], **more: Any) -> Command:
    """The command with the members that speak of policies taken out of its value, and `more` put in."""
    if not more and not any(name in value for name in creation.SPECIAL):
        return command
    rest = {name: member for name, member in value.items() if name not in creation.SPECIAL}
    return structs.replace(command, value={**rest, **more})
