# ruff: noqa: N818 - errors are rows of a table
"""Reads of what an entity was: at a revision, or at a time (ditto.md 5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from msgspec import UNSET, structs

from skerry import things, times, values
from skerry.errors import SkerryError
from skerry.headers import HeaderInvalid, HeaderNotSupported
from skerry_policies import policy
from skerry_policies.enforcer import compile_permits
from skerry_policies.parts import PolicyNotAccessible
from skerry_registry import guarded

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from skerry.signals import Clock, Command, Event, Held, Kind, Micros, Response
    from skerry_policies.enforcer import Permits
    from skerry_registry.memory import Memory
    from skerry_registry.ports import Store
    from skerry_registry.rights import Rights

HEADERS = frozenset({"at-historical-revision", "at-historical-timestamp"})
TOLD = "historical-headers"
"""The header that tells of the headers of an earlier change."""


class ThingHistoryNotFound(SkerryError):
    """What a thing was then is not known."""

    code = "things:thing.history.notfound"
    status = 404
    message = "The thing '{id}' is not known as it was at {when}."
    description = "Either it was not there, or that is longer ago than the journal is kept (journal_retention_days)."


class PolicyHistoryNotFound(ThingHistoryNotFound):
    """What a policy was then is not known."""

    code = "policies:policy.history.notfound"
    message = "The policy '{id}' is not known as it was at {when}."


class Present(Protocol):
    """The registry, as far as the past depends on it."""

    @property
    def clock(self) -> Clock:
        """What time it is."""
        ...

    @property
    def memory(self) -> Memory:
        """What entities are now."""
        ...

    @property
    def rights(self) -> Rights:
        """Who may what."""
        ...

    async def handle_all(self, commands: Sequence[Command]) -> list[Response | SkerryError]:
        """Carry out commands of the present."""
        ...


def is_asked(command: Command) -> bool:
    """Whether the command reads the past."""
    return command.verb == "retrieve" and bool(command.headers) and not HEADERS.isdisjoint(command.headers)


def check_present(command: Command) -> None:
    """Raise HeaderNotSupported for a read of the past where only the present is at hand: among commands that go together."""
    if is_asked(command):
        raise HeaderNotSupported(
            name=min(HEADERS.intersection(command.headers)),
            description="Earlier states are read one by one, not together with changes.",
        )


class Past:
    """Answers reads of the past, under the rights of the present."""

    def __init__(self, present: Present, store: Store, persisted: Collection[str]) -> None:
        """`persisted`: the headers of a change that are told with the state that it led to."""
        self._present = present
        self._store = store
        self._persisted = frozenset(persisted)

    async def handle_all(self, commands: Sequence[Command]) -> list[Response | SkerryError]:
        """The answers to many commands, in their order, some of which read the past."""
        answers: list[Response | SkerryError] = []
        for command in commands:
            try:
                answers.append(await self._answer(command))
            except SkerryError as error:
                answers.append(error)
        return answers

    async def events(self, kind: Kind, id: str, first: int, last: int) -> list[Event]:  # noqa: A002
        """The kept events of one entity with revisions first..last, in order, with what is told of their headers."""
        events = await self._store.history(kind, id, first, last)
        return [structs.replace(event, headers={TOLD: self._told_of(event)}) for event in events]

    async def revision_at(self, kind: Kind, id: str, time: Micros) -> int:  # noqa: A002
        """The newest revision from before a time; where all kept events are later, the revision before the oldest of them."""
        return await self._store.revision_at(kind, id, time)

    async def state(self, kind: Kind, id: str, revision: int) -> Held | None:  # noqa: A002
        """What the entity was, whoever may know it; None where that is not known any more."""
        return await self._store.past(kind, id, revision) if revision > 0 else None

    def _told_of(self, event: Event) -> str:
        return values.encode({name: text for name, text in event.headers.items() if name in self._persisted}).decode()

    async def _answer(self, command: Command) -> Response | SkerryError:
        if not is_asked(command):
            return (await self._present.handle_all((command,)))[0]
        revision, time = _revision(command), _time(command)
        now = self._present.clock()
        held = await self._held(command.kind, command.id)
        document = held.document
        if document is None:
            raise _not_accessible(command)
        permits = await self._permits(command, document)
        if permits is None or not permits.may_partly(command.kind, (), "READ"):
            raise _not_accessible(command)
        if revision is not None and revision <= 0:
            revision += held.revision
        if revision == held.revision:
            rest = {name: text for name, text in command.headers.items() if name not in HEADERS}
            answer = (await self._present.handle_all((structs.replace(command, headers=rest),)))[0]
            return answer if isinstance(answer, SkerryError) else await self._told(answer, held)
        was = await self._was(held, revision, time, now)
        if was is not None and was.document is not None and was.created < held.created:
            was = await self._of_before(was, was.document, command)
        if was is None or was.document is None:
            raise _gone(command)
        if command.kind == "policy":
            response = policy.retrieve(was, permits, command)
        else:
            response = await self._thing(was, document["policyId"], permits, command, now)
        return await self._told(response, was)

    async def _told(self, response: Response, was: Held) -> Response:
        """The answer with what is told of the change that led to the state."""
        told = values.encode({**await self._headers(was), "entity-revision": was.revision}).decode()
        return structs.replace(response, headers={**response.headers, TOLD: told})

    async def _held(self, kind: Kind, id: str) -> Held:  # noqa: A002
        """What the entity is now."""
        await self._present.memory.bring(kind, [id])
        return await self._present.memory.known(lambda: self._present.memory.held(kind, id))

    async def _permits(self, command: Command, document: dict[str, Any]) -> Permits | None:
        """The caller's rights as they are now."""
        present, subjects = self._present, command.subjects
        if command.kind == "policy":
            return await present.memory.known(lambda: present.rights.permits(None, command.id, subjects))
        namespace = command.id.partition(":")[0]
        return await present.memory.known(
            lambda: present.rights.permits(None, document["policyId"], subjects, namespace)
        )

    async def _was(self, held: Held, revision: int | None, time: Micros, now: Micros) -> Held | None:
        """The state that is asked for, None where it is not known."""
        if revision is not None:
            return await self._store.past(held.kind, held.id, revision) if 0 < revision < held.revision else None
        if time > now:
            return None
        found = await self._store.past(held.kind, held.id, await self._store.revision_at(held.kind, held.id, time))
        return found if found is not None and found.modified < time else None

    async def _of_before(self, was: Held, document: dict[str, Any], command: Command) -> Held | None:
        """A state from before the entity was deleted and made anew, maybe by somebody else: as its own policy lets it be read."""
        if command.kind == "policy":
            return was if compile_permits(document, command.subjects).may("policy", (), "READ") else None
        guard = await self._held("policy", document["policyId"])
        if guard.document is None or guard.created > was.modified:
            return None
        return guarded.shown(await self._permits(command, document), was)

    async def _thing(self, was: Held, policy_id: str, permits: Permits, command: Command, now: Micros) -> Response:
        """What a thing was, as far as the caller may see such a thing now."""
        guarded.check_condition(permits, was, command, now)
        visible = guarded.shown(permits, was)
        if visible is None or visible.document is None:
            raise _not_accessible(command)
        document: Any = visible.document
        if command.path:
            document = guarded.part_shown(permits, was, document, command.path)
        elif "_policy" in command.headers.get("fields", ""):
            guard = (await self._held("policy", policy_id)).document
            shown = UNSET if guard is None else permits.view((), policy.shown(guard), "policy")
            document = document if shown is UNSET else {**document, "_policy": shown}
        return things.retrieve(visible, document, command)

    async def _headers(self, was: Held) -> dict[str, str]:
        """The headers of the change that led to a state, as far as they are told."""
        if not self._persisted:
            return {}
        events = await self._store.history(was.kind, was.id, was.revision, was.revision)
        return {name: text for event in events for name, text in event.headers.items() if name in self._persisted}


def _revision(command: Command) -> int | None:
    """The revision that is asked for (0: the newest, -1: the one before), None where it is a time, which goes first.

    Raises HeaderInvalid.
    """
    text = command.headers.get("at-historical-revision")
    if text is None or "at-historical-timestamp" in command.headers:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise HeaderInvalid(name="at-historical-revision", value=text, problem="it is a whole number") from error


def _time(command: Command) -> Micros:
    """The time that is asked for. Raises HeaderInvalid."""
    text = command.headers.get("at-historical-timestamp")
    if text is None:
        return 0
    try:
        return times.parse(text.strip())
    except (ValueError, OverflowError) as error:
        problem = "it is an instant such as 2026-11-21T14:43:14Z"
        raise HeaderInvalid(name="at-historical-timestamp", value=text, problem=problem) from error


def _not_accessible(command: Command) -> SkerryError:
    if command.kind == "thing":
        return things.ThingNotAccessible(thing_id=command.id)
    return PolicyNotAccessible(policy_id=command.id)


def _gone(command: Command) -> ThingHistoryNotFound:
    time = command.headers.get("at-historical-timestamp")
    when = f"revision {command.headers['at-historical-revision']}" if time is None else time
    row = ThingHistoryNotFound if command.kind == "thing" else PolicyHistoryNotFound
    return row(id=command.id, when=when)
