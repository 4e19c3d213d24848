"""Who gets which message: sessions, subscriptions (plain and shared) and retained messages."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeAlias

from skerry.signals import Clock, Micros
from skerry_adapters.broker import storage as db
from skerry_adapters.broker.packets import Filter, Properties
from skerry_adapters.broker.sessions import Delivery, Hoard, Limits, Message, Session, Subscription
from skerry_adapters.broker.storage import Kept, Storage
from skerry_adapters.broker.topics import SHORT_TOPIC, FilterTree, TopicTree, is_desired, split_share

log = logging.getLogger(__name__)

_REMEMBERED_TOPICS = 10_000
_SHARES = 20
"""The part of the room for retained messages that one device may take, as the number that make up the whole."""


May: TypeAlias = Callable[[Session], bool]
"""Whether a session may get a message, beside what its topic says."""


def _all_may(_: Session) -> bool:
    return True


class Share:
    """A shared subscription: each message goes to one of its members, connected ones first."""

    def __init__(self) -> None:
        """Nobody shares it yet."""
        self.members: dict[Session, Subscription] = {}
        self._turn = 0

    def pick(self, topic: str, may: May) -> tuple[Session, Subscription]:
        """Whose turn it is, of those that may read the topic, as far as that is known."""
        every = list(self.members.items())
        members = [member for member in every if _may_get(member[0], topic) and may(member[0])] or every
        here = [member for member in members if member[0].wire is not None and member[0].wire.writable] or members
        self._turn += 1
        return here[self._turn % len(here)]


class Router:
    """All sessions by (user, client id); client ids of different users do not meet."""

    def __init__(self, storage: Storage, clock: Clock, limits: Limits) -> None:
        """No sessions, no messages."""
        self.sessions: dict[tuple[str, str], Session] = {}
        self.retained: TopicTree[Message] = TopicTree()
        self.dropped = 0
        self._storage = storage
        self._clock = clock
        self._limits = limits
        self._tree: FilterTree[Session | Share, Subscription | None] = FilterTree()
        self._shares: dict[tuple[str, str], Share] = {}
        self._found: dict[str, list[tuple[Session | Share, Subscription | None]]] = {}
        self._hoard = Hoard()
        self._count: Counter[bool] = Counter()
        self._bytes: Counter[bool] = Counter()
        self._owners: dict[str, str] = {}
        self._owned: Counter[str] = Counter()
        self._owned_bytes: Counter[str] = Counter()
        self._complained = False
        self._next = 1

    def load(self, kept: Kept) -> None:
        """Take back what the storage kept; clients that were connected are gone now."""
        now = self._clock()
        for number, user, client_id, expiry, left in kept.sessions:
            session = self._session(number, user, client_id)
            session.expiry = expiry
            session.left = now if left is None else left
            session.keep()
            for pattern, qos, options, identifier in kept.subscriptions.get(number, ()):
                wish = Filter(pattern, qos, bool(options & 1), bool(options & 2), 0)
                self._add(session, Subscription(wish, identifier))
            session.restore(kept.queued.get(number, []), kept.received.get(number, []))
            self._next = max(self._next, number + 1)
        for topic, payload, qos, expires, cell in kept.retained:
            message = Message(topic, payload, qos, True, expires, db.unpack(cell))
            self.retained.put(topic, message)
            self._count[is_desired(topic)] += 1
            self._bytes[is_desired(topic)] += message.size

    def create(self, user: str, client_id: str) -> Session:
        """A fresh session in the place of any old one."""
        old = self.sessions.get((user, client_id))
        if old is not None:
            self.drop(old)
        session = self._session(self._next, user, client_id)
        self._next += 1
        return session

    def drop(self, session: Session) -> None:
        """End a session."""
        if session.dead:
            return
        for pattern in list(session.subscriptions):
            self._remove(session, pattern)
        if session.expiry:
            self._storage.drop_session(session.number)
        session.end()
        self.dropped += session.dropped
        session.dropped = 0
        if self.sessions.get((session.user, session.client_id)) is session:
            del self.sessions[(session.user, session.client_id)]

    def expired(self, now: Micros) -> list[Session]:
        """Sessions whose time is over, or that are too many (the longest absent first)."""
        absent = [s for s in self.sessions.values() if s.left is not None]
        over = [s for s in absent if now - (s.left or 0) >= s.expiry * 1_000_000]
        spare = len(absent) - self._limits.sessions
        return over if len(over) >= spare else sorted(absent, key=lambda s: s.left or 0)[:spare]

    def subscribe(self, session: Session, subscription: Subscription) -> bool:
        """Add or replace a subscription; answers whether it is new."""
        wish = subscription.filter
        new = wish.topic not in session.subscriptions
        self._add(session, subscription)
        if session.expiry:
            options = wish.no_local | wish.as_published << 1
            self._storage.write(
                db.PUT_SUBSCRIPTION, session.number, wish.topic, wish.qos, options, subscription.identifier
            )
        return new

    def unsubscribe(self, session: Session, pattern: str) -> bool:
        """Remove a subscription; answers whether it was there."""
        if pattern not in session.subscriptions:
            return False
        self._remove(session, pattern)
        if session.expiry:
            self._storage.write(db.DROP_SUBSCRIPTION, session.number, pattern)
        return True

    def roots(self, name: str) -> bool:
        """Whether somebody has subscribed to a filter with this very first level."""
        return self._tree.has_root(name)

    def wanted(self, topic: str) -> bool:
        """Whether anybody has subscribed to the topic."""
        return self._tree.may_match(topic) and bool(self._who(topic))

    def _who(self, topic: str) -> list[tuple[Session | Share, Subscription | None]]:
        """Who has subscribed to it."""
        found = self._found.get(topic)
        if found is None:
            found = self._tree.match(topic)
            if len(topic) <= SHORT_TOPIC:
                if len(self._found) >= _REMEMBERED_TOPICS:
                    self._found.clear()
                self._found[topic] = found
        return found

    def plan(self, message: Message, may: May = _all_may) -> list[tuple[Session, Delivery]]:
        """Who gets the message: places are reserved and stored; `admit` each once they are durable. Retains it if asked."""
        if message.retain:
            self._retain(message)
        wanted = self._who(message.topic)
        if not wanted:
            return []
        merged: dict[Session, list[Subscription]] = {}
        for who, what in wanted:
            if isinstance(who, Share):
                session, subscription = who.pick(message.topic, may)
            else:
                assert what is not None
                session, subscription = who, what
            own = subscription.filter.no_local and message.origin is session
            if not own and _may_get(session, message.topic) and may(session):
                merged.setdefault(session, []).append(subscription)
        planned = []
        for session, subscriptions in merged.items():
            qos = min(message.qos, max(s.filter.qos for s in subscriptions))
            retain = message.retain and any(s.filter.as_published for s in subscriptions)
            identifiers = tuple(s.identifier for s in subscriptions if s.identifier)
            delivery = session.reserve(message, qos, retain, identifiers)
            if delivery is not None:
                planned.append((session, delivery))
        return planned

    def greet(self, session: Session, subscription: Subscription) -> None:
        """Send the retained messages that a new subscription takes."""
        identifiers = (subscription.identifier,) if subscription.identifier else ()
        now = self._clock()
        for message in list(self.retained.match(subscription.filter.topic)):
            if message.expires is not None and message.expires <= now:
                self._forget(message.topic)
                continue
            if not _may_get(session, message.topic):
                continue
            delivery = session.reserve(message, min(message.qos, subscription.filter.qos), True, identifiers)
            if delivery is not None:
                session.admit(delivery)

    def message(  # noqa: PLR0917 - a PUBLISH's fields in their order
        self, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties | None, origin: object
    ) -> Message:
        """A message that was just published; its time to live starts now, and hop-by-hop properties stay behind."""
        expires = None
        if properties:
            properties = {
                k: v
                for k, v in properties.items()
                if k not in ("topic_alias", "subscription_identifier", "will_delay_interval")
            }
            interval = properties.pop("message_expiry_interval", None)
            expires = None if interval is None else self._clock() + interval * 1_000_000
        return Message(topic, payload, qos, retain, expires, properties or None, origin)

    @property
    def sessions_dropped(self) -> int:
        """Messages that found no room, of all sessions so far."""
        return self.dropped + sum(session.dropped for session in self.sessions.values())

    def _session(self, number: int, user: str, client_id: str) -> Session:
        """A session in its place."""
        session = Session(
            number, user, client_id, storage=self._storage, clock=self._clock, limits=self._limits, hoard=self._hoard
        )
        self.sessions[(user, client_id)] = session
        return session

    def _add(self, session: Session, subscription: Subscription) -> None:
        """Put a subscription into the tree."""
        pattern = subscription.filter.topic
        session.subscriptions[pattern] = subscription
        name, plain = split_share(pattern)
        if name:
            share = self._shares.setdefault((name, plain), Share())
            share.members[session] = subscription
            self._tree.put(plain, share, None)
        else:
            self._tree.put(plain, session, subscription)
        self._found.clear()

    def _remove(self, session: Session, pattern: str) -> None:
        """Take a subscription out of the tree."""
        del session.subscriptions[pattern]
        name, plain = split_share(pattern)
        who: Session | Share = session
        self._found.clear()
        if name:
            who = self._shares[(name, plain)]
            who.members.pop(session, None)
            if who.members:
                return
            del self._shares[(name, plain)]
        self._tree.remove(plain, who)

    def _retain(self, message: Message) -> None:
        """Keep it for later subscribers; an empty payload clears the topic."""
        if not message.payload:
            self._forget(message.topic)
            return
        old = self.retained.get(message.topic)
        size = message.size - (old.size if old is not None else 0)
        owner = _owner(message)
        ours = is_desired(message.topic)
        limit, most = self._limits.retained, self._limits.retained_bytes
        if ours:
            limit, most = self._limits.desired, self._limits.desired_bytes
        full = self._count[ours] >= limit or (bool(owner) and self._owned[owner] >= limit // _SHARES)
        large = self._bytes[ours] + size > most or (
            bool(owner) and size > 0 and self._owned_bytes[owner] + size > most // _SHARES
        )
        if (old is None and full) or large:
            self.dropped += 1
            if not self._complained:
                self._complained = True
                log.warning("mqtt message not retained", extra={"topic": message.topic, "retained": len(self.retained)})
            return
        self._complained = False
        if old is None and owner:
            self._owned[owner] += 1
            self._owners[message.topic] = owner
        self._owned_bytes[self._owners.get(message.topic, "")] += size
        self.retained.put(message.topic, message)
        self._count[ours] += old is None
        self._bytes[ours] += size
        row = (message.topic, message.payload, message.qos, message.expires, db.pack(message.properties))
        self._storage.write(db.PUT_RETAINED, *row)

    def _forget(self, topic: str) -> None:
        """Retain nothing there."""
        gone = self.retained.remove(topic)
        if gone is not None:
            self._count[is_desired(topic)] -= 1
            self._bytes[is_desired(topic)] -= gone.size
            self._storage.write(db.DROP_RETAINED, topic)
            owner = self._owners.pop(topic, "")
            self._owned_bytes[owner] -= gone.size
            if owner:
                self._owned[owner] -= 1


def _owner(message: Message) -> str:
    """The user whose share of the room the message takes; empty for the server and administrators."""
    session = message.origin
    return session.user if isinstance(session, Session) and not session.verdicts.everything else ""


def _may_get(session: Session, topic: str) -> bool:
    """False where it is known that the client may not read it; an absent client is asked about when it is back."""
    return session.wire is None or session.verdicts.everything or session.wire.may_get(topic) is not False


def admit(planned: Iterable[tuple[Session, Delivery]]) -> None:
    """Let planned deliveries go."""
    for session, delivery in planned:
        session.admit(delivery)
