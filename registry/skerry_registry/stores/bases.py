"""Which earlier states of entities the embedded store keeps, so that the events since tell every state that followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import json

from skerry_registry.journal.replay import FAR, LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skerry.signals import Held

# The snapshot that is about to be replaced is the newest state that all following events are kept of.
_KEEP = f"""INSERT OR IGNORE INTO bases
  SELECT snapshots.entity, snapshots.revision, snapshots.held ->> 'modified', snapshots.held
  FROM json_each(?) AS saved CROSS JOIN snapshots ON snapshots.entity = saved.value ->> 0
  WHERE snapshots.revision < saved.value ->> 1 AND (
    saved.value ->> 1 - coalesce((SELECT max(revision) FROM bases WHERE bases.entity = snapshots.entity), 0) >= {FAR:d}
    OR saved.value ->> 2 - coalesce((SELECT modified FROM bases WHERE bases.entity = snapshots.entity
         ORDER BY revision DESC LIMIT 1), saved.value ->> 3) >= {LONG:d})"""  # noqa: S608 - numbers of ours
_FORGET = """DELETE FROM bases WHERE rowid IN (
  SELECT bases.rowid FROM journal CROSS JOIN bases
  ON bases.entity = journal.entity AND bases.revision = journal.revision - 1
  WHERE journal.number >= ? AND journal.number < ?)"""

_encode = json.Encoder().encode


def keep(execute: Callable[..., Any], saved: Sequence[tuple[int, Held]]) -> None:
    """Before these states (by entity number) replace the snapshots: keep those snapshots that have become far older."""
    rows = [(entity, held.revision, held.modified, held.created) for entity, held in saved]
    execute(_KEEP, (_encode(rows).decode(),))


def forget(execute: Callable[..., Any], start: int, before: int) -> None:
    """Before the events of these numbers go: drop the states that nothing could be made of without them."""
    execute(_FORGET, (start, before))
