"""A registry with its intake behind the embedded broker, where policies decide who may what."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from broker_dialog import Dialog, clock
from skerry import times
from skerry.signals import Command
from skerry_adapters.broker import Broker, BrokerDownlink, PolicyRights, Refusal, Topics
from skerry_adapters.dead_letters import DeadLetters
from skerry_adapters.inlet import Inlet
from skerry_adapters.replies import Replies
from skerry_adapters.sources import DEFAULT_SOURCES, Source
from skerry_adapters.talk import Talk
from skerry_policies.document import Terms
from skerry_registry.device_rights import ThingRights, keep_current, logins
from skerry_registry.identities.logins import Identities
from skerry_registry.identities.namespaces import NamespaceRule, NamespaceRules
from skerry_registry.identities.tokens import ApiTokens
from skerry_registry.live.devices import Devices
from skerry_registry.live.envelopes import Envelopes
from skerry_registry.live.streams import Streams
from skerry_registry.reasons import Reasons
from skerry_registry.registry import Registry
from skerry_registry.settings import Settings
from skerry_registry.stores.sqlite import SqliteStore
from skerry_registry.users import Users

ADMIN = ("nginx:admin",)


class Farm:
    """Its parts, and what a test does with them."""

    def __init__(
        self, registry: Registry, broker: Broker, users: Users, letters: DeadLetters, refusals: list[Refusal]
    ) -> None:
        self.registry = registry
        self.broker = broker
        self.users = users
        self.letters = letters
        self.refusals = refusals
        self.tokens: ApiTokens
        self.streams: Streams

    async def policy(self, policy_id: str, **entries: dict[str, str]) -> None:
        """Write a policy: label -> resource -> permissions, for the subject nginx:<label>; `admin` may everything."""
        everything = dict.fromkeys(("thing:/", "policy:/", "message:/"), "READ WRITE")
        document = {
            "entries": {
                label: {
                    "subjects": {f"nginx:{label}": {"type": "user"}},
                    "resources": {
                        resource: {"grant": permissions.split(), "revoke": []}
                        for resource, permissions in resources.items()
                    },
                }
                for label, resources in {"admin": everything, **entries}.items()
            }
        }
        await self.do(Command(verb="modify", kind="policy", id=policy_id, subjects=ADMIN, value=document))

    async def expire(self, policy_id: str, label: str, seconds: float) -> None:
        """Let the subject of an entry end in a while; nobody takes it away then."""
        expiry = times.write(clock() + int(seconds * 1_000_000))
        subject = {"type": "user", "expiry": expiry}
        path = ("entries", label, "subjects", f"nginx:{label}")
        await self.do(Command(verb="modify", kind="policy", id=policy_id, subjects=ADMIN, path=path, value=subject))

    async def thing(self, thing_id: str, policy_id: str, **members: Any) -> None:
        value = {"policyId": policy_id, **members}
        await self.do(Command(verb="modify", id=thing_id, subjects=ADMIN, value=value))

    async def do(self, command: Command) -> Any:
        return (await self.registry.handle(command)).value

    async def read(self, thing_id: str, *path: str) -> Any:
        return await self.do(Command(verb="retrieve", id=thing_id, subjects=ADMIN, path=path))

    async def connect(self, user: str, client: str = "", **fields: Any) -> Dialog:
        """A client of the user, whose password is his name."""
        return await Dialog.open(
            self.broker, client or f"{user}-1", login=False, username=user, password=user.encode(), **fields
        )


@asynccontextmanager
async def farm(
    folder: Path,
    *,
    users: Iterable[str] = ("device", "other"),
    sources: tuple[Source, ...] = DEFAULT_SOURCES,
    namespaces: Sequence[NamespaceRule] = (),
) -> AsyncIterator[Farm]:
    """Serve until the block ends. Besides `users` there is `boss`, who plays mqtt_admin."""
    accounts = Users.load(folder / "users.json", recheck=0)
    for name in users:
        if name not in accounts.names():
            accounts.add(name, name)
    accounts.add("boss", "boss", ["mqtt_admin"])
    ids = (f"id-{number}" for number in itertools.count(1))
    refusals: list[Refusal] = []
    with closing(DeadLetters(folder)) as letters:
        async with Registry(
            SqliteStore(folder), clock, lambda: next(ids), policy_terms=Terms(expiry_granularity=1)
        ) as registry:
            identities = Identities.of(Settings(data_dir=str(folder)), accounts, clock)
            rights = PolicyRights(Topics(sources), ThingRights(registry))
            keep_current(registry, rights)
            inlet = Inlet(sources, registry.handle_all, letters, clock, explain=Reasons(registry).attach)
            broker = Broker(
                "127.0.0.1",
                0,
                take=inlet.take,
                authenticate=logins(identities, NamespaceRules(namespaces, clock)),
                rights=rights,
                note=refusals.append,
                clock=clock,
                folder=folder,
            )
            streams = Streams.of(registry)
            downlink = BrokerDownlink(broker)
            devices = Devices(registry, streams, Envelopes(registry, streams), downlink)
            async with Talk(devices, Replies(downlink), lambda: next(ids)) as talk, broker:
                inlet.attach(talk)
                leave = devices.listen()
                following = asyncio.create_task(streams.desired.run(downlink))
                made = Farm(registry, broker, accounts, letters, refusals)
                made.tokens, made.streams = identities.tokens, streams
                try:
                    yield made
                finally:
                    leave()
                    following.cancel()
                    await asyncio.wait({following})
