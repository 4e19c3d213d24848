"""Who may publish and subscribe to what: asked of policies, remembered per topic until a policy or a thing changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from msgspec import Struct, field

from skerry.errors import SkerryError
from skerry.ids import check_feature_id, check_thing_id, split_id
from skerry.signals import Path
from skerry_adapters.broker.packets import Reason
from skerry_adapters.broker.topics import SHORT_TOPIC, split_share
from skerry_adapters.downlink import Reading
from skerry_adapters.hono import device_of, is_anybodys, is_command
from skerry_adapters.inbound import Reach
from skerry_adapters.mapping import topic_form
from skerry_adapters.sources import PLACEHOLDER, Source, matcher

if TYPE_CHECKING:
    from skerry_policies.enforcer import Permits

ADMINS = ("devops", "mqtt_admin")
"""Roles that may publish and subscribe to every topic; what they publish is still carried out with their own rights."""
DEVICE = "device"
DITTO = "ditto"
VERDICTS = 200_000
"""Verdicts that are remembered, of all users together; beyond it all are asked for anew."""

PLAIN_VERDICTS = 4_096
"""Verdicts on topics of no thing that are remembered of one user."""
LOGINS = 20_000
"""Users whose verdicts are shared by their connections."""


def _for_ever() -> bool:
    return True


class Login(Struct, frozen=True, eq=False):
    """Who a client is. `valid`: False once the login would not be accepted any more, or would make somebody else of it.

    `reach`: what the operator lets him reach at all; None: everything.
    """

    name: str
    subjects: tuple[str, ...]
    roles: tuple[str, ...] = ()
    valid: Callable[[], bool] = _for_ever
    reach: Reach | None = None


class Refusal(Struct, frozen=True):
    """Something a client was refused: a login, to publish to a topic, or to subscribe to a filter."""

    action: Literal["login", "publish", "subscribe"]
    user: str
    subjects: tuple[str, ...]
    client: str
    address: str
    topic: str = ""


class Verdicts(Struct, eq=False):
    """What one login may do, as far as it has been asked: reasons by topic to publish to, answers by topic to get."""

    subjects: tuple[str, ...] = ()
    everything: bool = False
    reach: Reach | None = None
    publish: dict[str, Reason] = field(default_factory=dict)
    receive: dict[str, bool] = field(default_factory=dict)


class Rights(Protocol):
    """What the broker asks. Answers come from memory; None: `learn` must bring something there first."""

    def verdicts(self, login: Login) -> Verdicts:
        """Where a login's answers are remembered; those with the same subjects share them."""
        ...

    def publish(self, verdicts: Verdicts, topic: str) -> Reason | None:
        """SUCCESS, or why not; asked where `verdicts.publish` does not say."""
        ...

    def subscribe(self, verdicts: Verdicts, pattern: str) -> bool | None:
        """Whether every topic that the filter takes may be received."""
        ...

    def receive(self, verdicts: Verdicts, topic: str) -> bool | None:
        """Whether messages of the topic may be received; asked where `verdicts.receive` does not say."""
        ...

    def reads(self, verdicts: Verdicts, reading: Reading) -> bool | None:
        """Whether that part of a thing, or those messages of it, may be read."""
        ...

    async def learn(self, topics: Iterable[str]) -> None:
        """Bring to memory what answers for these topics and filters need; never raises for want of it."""
        ...


class Open:
    """Everybody may everything, but publish to the topics that begin with $."""

    def verdicts(self, login: Login) -> Verdicts:
        """Nothing to remember."""
        return Verdicts(login.subjects, everything=True)

    def publish(self, verdicts: Verdicts, topic: str) -> Reason | None:
        """Any but $..."""
        return _remember(verdicts.publish, topic, Reason.TOPIC_NAME_INVALID if topic[:1] == "$" else Reason.SUCCESS)

    def subscribe(self, verdicts: Verdicts, pattern: str) -> bool | None:
        """Any."""
        del verdicts, pattern
        return True

    def receive(self, verdicts: Verdicts, topic: str) -> bool | None:
        """Any."""
        del verdicts, topic
        return True

    def reads(self, verdicts: Verdicts, reading: Reading) -> bool | None:
        """Any."""
        del verdicts, reading
        return True

    async def learn(self, topics: Iterable[str]) -> None:
        """Nothing is lacking."""


class NotInMemory(Exception):  # noqa: N818 - a fact for `learn`, never shown
    """The thing or its policy is not in memory."""


class Things(Protocol):
    """The rights on things, as the registry knows them."""

    def permits(self, subjects: tuple[str, ...], thing_id: str) -> Permits | None:
        """The rights of these subjects, from memory; None where there is no such thing. Raises NotInMemory."""
        ...

    def last(self, subjects: tuple[str, ...], thing_id: str) -> bool:
        """Whether what was just answered holds until something changes; False where it ends with time."""
        ...

    async def load(self, thing_ids: Iterable[str]) -> None:
        """Bring things and their policies to memory. Raises SkerryError."""
        ...


class Need(Struct, frozen=True):
    """What publishing to a topic takes: WRITE on some part at or below the path of a thing; without a thing, the registry alone decides.

    `talk`: where whatever may be said of the thing goes, it is also enough to WRITE some of its messages, or to READ all of it.
    """

    thing_id: str = ""
    path: Path = ()
    talk: bool = False

    def met(self, permits: Permits) -> bool:
        """Whether these rights are enough."""
        if permits.may_partly("thing", self.path, "WRITE"):
            return True
        return self.talk and (permits.may_partly("message", (), "WRITE") or permits.may("thing", (), "READ"))


class Topics:
    """What topics and filters stand for, by the sources of the server."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """The first source that takes a topic says what it means, as in the inlet."""
        self._sources = [(matcher(source.filters), _reader(source)) for source in sources]
        self._needs: dict[str, Need | None] = {}

    def need(self, topic: str) -> Need | None:
        """What publishing takes; None: nobody but an administrator may."""
        found = self._needs.get(topic, _NEW)
        if found is _NEW:
            found = next((read(topic) for fits, read in self._sources if fits.fullmatch(topic)), None)
            if len(topic) <= SHORT_TOPIC:
                if len(self._needs) >= VERDICTS:
                    self._needs.clear()
                self._needs[topic] = found
        return found

    def thing_of(self, pattern: str) -> str | None:
        """The one thing of which a topic or filter `device/{namespace}/{name}/...` speaks, or one of Hono's; None for any other."""
        levels = split_share(pattern)[1].split("/")
        if is_command(levels):
            return device_of(levels)
        if levels[0] != DEVICE or len(levels) < 3:
            return None
        return _thing_id(levels[1], levels[2])


_NEW = Need("\0")
_NO_PART = Need()


def _thing_id(namespace: str, name: str) -> str | None:
    """The id, if it is one and no wildcard."""
    if "#" in {namespace, name} or "+" in {namespace, name}:
        return None
    thing_id = f"{namespace}:{name}"
    try:
        check_thing_id(thing_id)
    except SkerryError:
        return None
    return thing_id


def _reader(source: Source) -> Callable[[str], Need | None]:
    """What a topic of the source takes."""
    if source.payload == "ditto":
        return _ditto_need
    pattern = topic_form(source.pattern)
    thing, feature = PLACEHOLDER.split(source.thing), PLACEHOLDER.split(source.feature)

    def read(topic: str) -> Need | None:
        match = pattern.fullmatch(topic)
        if match is None:
            return None
        names = match.groupdict()
        thing_id, feature_id = _filled(thing, names), _filled(feature, names)
        if thing_id is None:
            return _NO_PART
        try:
            check_thing_id(thing_id)
            if feature_id is not None:
                check_feature_id(feature_id)
        except SkerryError:
            return None
        return Need(thing_id, () if feature_id is None else ("features", feature_id))

    return read


def _ditto_need(topic: str) -> Need | None:
    """Below ditto/ the topic names the thing, of Hono's it may; elsewhere only the envelope does, and the registry reads it."""
    levels = topic.split("/", 3)
    if levels[0] != DITTO:
        device = device_of(levels)
        return _NO_PART if device is None else Need(device, talk=True)
    thing_id = _thing_id(levels[1], levels[2]) if len(levels) > 2 else None
    return None if thing_id is None else Need(thing_id, talk=True)


def _filled(template: Sequence[str], names: dict[str, str]) -> str | None:
    """The template filled from the topic; None where the payload has a say."""
    if any(part.startswith("/") for part in template[1::2]):
        return None
    return "".join(names[part] if place % 2 else part for place, part in enumerate(template))


class PolicyRights:
    """The rights of users by the policies of things. Call `forget` and `forget_thing` when one has changed."""

    def __init__(self, topics: Topics, things: Things) -> None:
        """Nothing is known yet."""
        self._topics = topics
        self._things = things
        self._known: dict[tuple[tuple[str, ...], bool, Reach | None], Verdicts] = {}
        self._of_thing: dict[str, list[tuple[dict[str, Reason] | dict[str, bool], str]]] = {}
        self._count = 0

    def verdicts(self, login: Login) -> Verdicts:
        """Shared by all logins with these subjects, this power and this reach."""
        everything = any(role in ADMINS for role in login.roles)
        key = (login.subjects, everything, login.reach)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= LOGINS:
                self._known.clear()
            found = self._known[key] = Verdicts(*key)
        return found

    def forget(self) -> None:
        """A policy has changed, and which others import it is not known here: ask for everything anew."""
        for verdicts, _ in (entry for entries in self._of_thing.values() for entry in entries):
            verdicts.clear()
        self._of_thing.clear()
        self._count = 0

    def forget_thing(self, thing_id: str) -> None:
        """A thing was made, deleted or given another policy."""
        for verdicts, topic in self._of_thing.pop(thing_id, ()):
            verdicts.pop(topic, None)
            self._count -= 1

    def publish(self, verdicts: Verdicts, topic: str) -> Reason | None:
        """WRITE on some part of what the topic stands for; a thing that is not there is left to the registry."""
        if topic[:1] == "$":
            return _remember(verdicts.publish, topic, Reason.TOPIC_NAME_INVALID)
        if verdicts.everything:
            return _remember(verdicts.publish, topic, Reason.SUCCESS)
        need = self._topics.need(topic)
        if need is None:
            return _remember(verdicts.publish, topic, Reason.NOT_AUTHORIZED)
        if not need.thing_id:
            return _remember(verdicts.publish, topic, Reason.SUCCESS)
        if not _within(verdicts, need.thing_id):
            return _remember(verdicts.publish, topic, Reason.NOT_AUTHORIZED)
        try:
            permits = self._things.permits(verdicts.subjects, need.thing_id)
        except NotInMemory:
            return None
        may = permits is None or need.met(permits)
        reason = Reason.SUCCESS if may else Reason.NOT_AUTHORIZED
        if self._things.last(verdicts.subjects, need.thing_id):
            self._note(verdicts.publish, topic, reason, need.thing_id)
        return reason

    def subscribe(self, verdicts: Verdicts, pattern: str) -> bool | None:
        """READ on the whole of the one thing that the filter speaks of."""
        return True if verdicts.everything else self._reads(verdicts, pattern)

    def receive(self, verdicts: Verdicts, topic: str) -> bool | None:
        """The same for one topic, remembered."""
        if verdicts.everything:
            return True
        may = self._reads(verdicts, topic)
        thing_id = self._topics.thing_of(topic)
        if (
            may is not None
            and thing_id is not None
            and topic.startswith(DEVICE)
            and self._things.last(verdicts.subjects, thing_id)
        ):
            self._note(verdicts.receive, topic, may, thing_id)
        return may

    def reads(self, verdicts: Verdicts, reading: Reading) -> bool | None:
        """READ; on things revoked nowhere below."""
        if verdicts.everything:
            return True
        if not _within(verdicts, reading.thing_id):
            return False
        try:
            permits = self._things.permits(verdicts.subjects, reading.thing_id)
        except NotInMemory:
            return None
        if permits is None:
            return False
        may = permits.may if reading.resource == "thing" else permits.holds
        return may(reading.resource, reading.path, "READ")

    async def learn(self, topics: Iterable[str]) -> None:
        """Load the things; where the store is away the registry will say so to whoever publishes."""
        wanted: set[str] = set()
        for topic in topics:
            thing_id = self._topics.thing_of(topic)
            if thing_id is None and "+" not in topic and "#" not in topic:
                need = self._topics.need(topic)
                thing_id = None if need is None else need.thing_id
            if thing_id:
                wanted.add(thing_id)
        try:
            await self._things.load(wanted)
        except SkerryError:
            return

    def _reads(self, verdicts: Verdicts, pattern: str) -> bool | None:
        thing_id = self._topics.thing_of(pattern)
        if thing_id is None and is_anybodys(split_share(pattern)[1]):
            return True
        if thing_id is None or not _within(verdicts, thing_id):
            return False
        try:
            permits = self._things.permits(verdicts.subjects, thing_id)
        except NotInMemory:
            return None
        return permits is not None and permits.may("thing", (), "READ")

    def _note(
        self, verdicts: dict[str, Reason] | dict[str, bool], topic: str, verdict: Reason | bool, thing_id: str
    ) -> None:
        """Remember a verdict that hangs on a thing."""
        if len(topic) > SHORT_TOPIC:
            return
        if self._count >= VERDICTS:
            self.forget()
        self._count += 1
        verdicts[topic] = verdict  # type: ignore[assignment] # each dictionary gets its own sort
        self._of_thing.setdefault(thing_id, []).append((verdicts, topic))


def _within(verdicts: Verdicts, thing_id: str) -> bool:
    """Whether the operator lets the login reach the thing's namespace."""
    return verdicts.reach is None or verdicts.reach.covers("thing", split_id(thing_id)[0])


def _remember(verdicts: dict[str, Reason], topic: str, reason: Reason) -> Reason:
    """Keep a verdict that nothing can change; bounded."""
    if len(topic) <= SHORT_TOPIC:
        if len(verdicts) >= PLAIN_VERDICTS:
            verdicts.clear()
        verdicts[topic] = reason
    return reason
