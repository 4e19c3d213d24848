# ruff: noqa: N818 - errors are rows of a table
"""`skerry mqtt acl`: the rights of a data folder as an ACL file, beside a running server or without one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import typer

from skerry.errors import SkerryError
from skerry_policies.enforcer import Permits
from skerry_registry.heads import Heads
from skerry_registry.rights import Rights
from skerry_registry.runs import Lacking
from skerry_registry.settings import Settings, users_path
from skerry_registry.stores import reader
from skerry_registry.stores.opening import open_reader
from skerry_registry.topic_rules import Guarded, Holder, Rules, write
from skerry_registry.users import Users

if TYPE_CHECKING:
    import apsw

T = TypeVar("T")
PAGE = 500
_NOBODY = Permits(())


class NoJournal(SkerryError):
    """A folder without things."""

    code: ClassVar[str] = "acl.folder.notfound"
    status: ClassVar[int] = 404
    message: ClassVar[str] = "There are no things in {folder}: no server has run there."
    description: ClassVar[str | None] = "Name the server's data folder with --data-dir, or its settings with --config."


def acl(settings: Settings, out: Path | None) -> None:
    """Print the ACL, or write it into a file. Raises NoJournal."""
    text = acl_of(settings)
    if out is None:
        typer.echo(text, nl=False)
        return
    out.write_text(text, encoding="utf-8")
    typer.echo(f"{text.count(chr(10) + 'user ')} users written to {out}.", err=True)


def acl_of(settings: Settings) -> str:
    """The ACL of the users, policies and things that are there now. Raises NoJournal."""
    folder = Path(settings.data_dir)
    file = folder / "journal.db"
    if not file.exists():
        raise NoJournal(folder=folder)
    users = Users.load(users_path(settings), prefix=settings.auth_basic_prefix)
    connection = open_reader(file)
    try:
        held = _Held(connection, settings.namespace_policies)
        things = list(held.things())
        rules = Rules(settings.sources)
        lines = {
            holder.name: rules.of(holder, things, {thing.id: held.permits(thing, holder.subjects) for thing in things})
            for holder in _holders(users)
        }
    finally:
        connection.close()
    notes = [
        "Made by `skerry mqtt acl` from users, policies and things; make it again when one of them changes.",
        "Messages that come in here act as the subjects of their source, so these lines are what tells the publishers apart.",
    ]
    notes += [
        f"Source '{name}' names the things in its payloads: who may publish to it is for you to say."
        for name in rules.unexplained
    ]
    if settings.mqtt_username:
        taken = [f"read {topic}" for source in settings.sources for topic in source.filters]
        lines[settings.mqtt_username] = [*taken, "write device/#", "read device/+/+/desired"]
    else:
        notes.append(
            "Skerry itself needs a login (the setting mqtt_username): read on its sources and device/+/+/desired, write on device/#."
        )
    return write(lines, notes)


def _holders(users: Users) -> Iterator[Holder]:
    """Every user as policies know him."""
    for name in users.names():
        user = users.entry(name)
        if user is not None:
            yield Holder(name, user.subjects or (users.prefix + name,), user.roles)


class _Held:
    """Things and policies of a store, read as they are needed."""

    def __init__(self, connection: apsw.Connection, roots: Mapping[str, Sequence[str]]) -> None:
        self._connection = connection
        self._heads = Heads(1_000_000_000)
        self._rights = Rights(self._heads, lambda: time.time_ns() // 1000, roots)
        self._features: dict[str, set[str]] = {}

    def things(self) -> Iterator[Guarded]:
        """Every thing there is, in the order of the ids."""
        after = ""
        while ids := reader.ids(self._connection, "thing", after, PAGE):
            for held in reader.load(self._connection, [("thing", id_) for id_ in ids]):
                document = held.document
                if document is not None:
                    features = set(document.get("features") or ()) | self._named(document["policyId"])
                    yield Guarded(held.id, tuple(sorted(features)), document["policyId"])
            after = ids[-1]

    def permits(self, thing: Guarded, subjects: tuple[str, ...]) -> Permits:
        """The rights on a thing; none where its policy is missing."""
        namespace = thing.id.partition(":")[0]
        return self._ask(lambda: self._rights.permits(None, thing.policy, subjects, namespace)) or _NOBODY

    def _named(self, policy_id: str) -> set[str]:
        """Features that the entries of a policy speak of."""
        found = self._features.get(policy_id)
        if found is None:
            effective = self._ask(lambda: self._rights.effective(policy_id))
            entries: list[Any] = [] if effective is None else [entry.entry for entry in effective.entries]
            keys = {key for entry in entries for key in entry["resources"]}
            found = self._features[policy_id] = {
                key.split("/")[2] for key in keys if key.startswith("thing:/features/") and key.count("/") >= 2
            } - {""}
        return found

    def _ask(self, question: Callable[[], T]) -> T:
        while True:
            try:
                return question()
            except Lacking as lacking:
                for held in reader.load(self._connection, sorted(lacking.keys)):
                    self._heads.put(held)
