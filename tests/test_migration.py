"""Databases of earlier versions: opened, brought up to date one version at a time, and as true as before."""

import sqlite3
from pathlib import Path

import apsw
import pytest

from skerry.signals import Command, Response
from skerry_registry.registry import Registry
from skerry_registry.stores.folder import FolderUnusable
from skerry_registry.stores.opening import open_writer, schema
from skerry_registry.stores.sqlite import SqliteStore

ANNE = ("nginx:anne",)
SECOND = "ALTER TABLE cursors ADD COLUMN since INTEGER NOT NULL DEFAULT 5"
THIRD = "CREATE TABLE feeds (name TEXT PRIMARY KEY) STRICT; INSERT INTO feeds SELECT name FROM cursors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder as the first version left it."""
    connection = sqlite3.connect(tmp_path / "journal.db")
    connection.executescript((Path(__file__).parent / "golden" / "journal-1.sql").read_text("utf-8"))
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    return tmp_path


def ask(verb, path=(), value=None, thing="demo:T1", **more) -> Command:
    return Command(verb=verb, id=thing, subjects=ANNE, path=path, value=value, **more)


async def test_a_journal_of_the_first_version_reads_as_it_was_written_and_goes_on(folder):
    async with Registry(SqliteStore(folder), lambda: 1_800_000_000_000_000, lambda: "id") as registry:
        found = await registry.handle(ask("retrieve", headers={"fields": "attributes,features,_revision,_metadata"}))
        assert isinstance(found, Response)
        assert found.value == {
            "attributes": {"name": "Τ1 – größe", "height": 92.5, "late": True},  # noqa: RUF001 - Greek, on purpose
            "features": {"scada": {"properties": {"power": 1.5, "status": "ok"}}},
            "_revision": 5,
            "_metadata": {"attributes": {"height": {"unit": "m"}}},
        }
        telemetry = {"properties": {"power": 0.5}}
        again = ask("merge", ("features", "scada"), telemetry, observed=1_699_999_999_000_000, digest=8)
        marked = ask("modify", ("attributes", "late"), value=True, digest=99, redelivered=True)
        for repetition in (again, marked):
            assert (await registry.handle(repetition)).revision == 5
        assert (await registry.handle(ask("modify", value={"policyId": "demo:gone"}, thing="demo:gone"))).revision == 3
        assert registry.journal.last == 10
        assert [event.number for event in await anext(registry.journal.follow(0))] == list(range(1, 11))


def test_each_version_is_added_to_what_is_there(folder):
    file = folder / "journal.db"
    with sqlite3.connect(file) as connection:
        connection.execute("INSERT INTO cursors VALUES ('influx', 7)")
    connection.close()
    versions = [*schema()[:1], SECOND]
    open_writer(file, versions).close()
    connection = open_writer(file, [*versions, THIRD])
    assert connection.execute("SELECT * FROM cursors").fetchall() == [("influx", 7, 5)]
    assert connection.execute("SELECT * FROM feeds").fetchall() == [("influx",)]
    assert connection.execute("SELECT count(*) FROM journal").get == 9
    assert connection.pragma("user_version") == 3
    connection.close()


def test_a_version_that_cannot_be_added_leaves_the_last_one_as_it_was(folder):
    file = folder / "journal.db"
    broken = "CREATE TABLE half (name TEXT); INSERT INTO nowhere VALUES (1)"
    with pytest.raises(FolderUnusable, match=r"journal\.db.*nowhere"):
        open_writer(file, [*schema()[:1], SECOND, broken])
    connection = apsw.Connection(str(file))
    assert connection.pragma("user_version") == 2
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").get == 0
    assert connection.execute("SELECT count(*) FROM journal").get == 9
    connection.close()
