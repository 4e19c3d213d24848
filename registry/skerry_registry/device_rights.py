"""What the embedded broker asks of the registry and of the users: rights on things from memory, and who logs in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skerry.errors import SkerryError
from skerry_adapters.broker import Login, NotInMemory
from skerry_policies.enforcer import Permits
from skerry_registry.runs import Lacking

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skerry_adapters.broker import Authenticate, PolicyRights
    from skerry_registry.heads import Commit
    from skerry_registry.identities.logins import Identities
    from skerry_registry.identities.namespaces import NamespaceRules
    from skerry_registry.registry import Registry

_NOBODY = Permits(())


class ThingRights:
    """The rights on things as the registry holds them in memory."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def permits(self, subjects: tuple[str, ...], thing_id: str) -> Permits | None:
        """The rights of these subjects; None where there is no such thing. Raises NotInMemory."""
        registry = self._registry
        try:
            held = registry.memory.held("thing", thing_id)
            if held.document is None:
                return None
            namespace = thing_id.partition(":")[0]
            return registry.rights.permits(None, held.document["policyId"], subjects, namespace) or _NOBODY
        except Lacking:
            raise NotInMemory from None
        except SkerryError:  # imports without end: nobody may, as over HTTP
            return _NOBODY

    def last(self, subjects: tuple[str, ...], thing_id: str) -> bool:
        """Whether the rights just answered end only with a change of a policy, not with time."""
        document = self._registry.memory.held("thing", thing_id).document
        namespace = thing_id.partition(":")[0]
        return document is None or self._registry.rights.lasts(document["policyId"], subjects, namespace)

    async def load(self, thing_ids: Iterable[str]) -> None:
        """Bring things and their policies to memory. Raises SkerryError."""
        wanted = list(thing_ids)
        await self._registry.memory.bring("thing", wanted)
        await self._registry.memory.bring("policy", {id_ for id_ in map(self._policy_of, wanted) if id_ is not None})
        for thing_id in wanted:
            await self._registry.memory.known(lambda id_=thing_id: self._settled(id_))  # type: ignore[misc]

    def _policy_of(self, thing_id: str) -> str | None:
        """The thing's policy, if there is room for the thing in memory."""
        try:
            document = self._registry.memory.held("thing", thing_id).document
        except Lacking:
            return None
        return None if document is None else str(document["policyId"])

    def _settled(self, thing_id: str) -> None:
        """Raises Lacking while a policy is missing from memory."""
        document = self._registry.memory.held("thing", thing_id).document
        if document is not None:
            self._registry.rights.permits(None, document["policyId"], (), thing_id.partition(":")[0])


def keep_current(registry: Registry, rights: PolicyRights) -> None:
    """Have every change of a policy, and of which policy a thing has, change the broker's verdicts at once."""

    def settled(commit: Commit) -> None:
        for event in commit.events:
            if event.kind == "policy":
                rights.forget()
            elif not event.path or event.path[0] == "policyId":
                rights.forget_thing(event.id)

    registry.on_settled(settled)


def logins(identities: Identities, namespaces: NamespaceRules) -> Authenticate:
    """Logins at the broker; one is over when it would not be granted any more, as when a token was revoked.

    `namespaces` says what each may reach; there are no headers to ask, and the time is that of the login.
    """

    async def authenticate(name: str, password: str, address: str) -> Login | None:
        session = await identities.verify(name, password, address)
        if session is None:
            return None
        caller = session.caller
        reach = namespaces.reach(caller, lambda _: None)
        return Login(caller.name, caller.subjects, caller.roles, session.holds, reach)

    return authenticate
