"""Backups of a running server: what is acknowledged is in, what fits together stays together, what is damaged is refused."""

import itertools
import json
import shutil
import tarfile
import threading
from pathlib import Path

import duckdb
import pytest

from servers import wait_until
from skerry.signals import Held
from skerry_process import skerry_in
from skerry_registry.journal.replay import replay
from skerry_registry.stores.sqlite import SqliteStore

WRITERS = 4


class Writer(threading.Thread):
    """Counts a thing's attribute up, and knows what was sent and what was acknowledged."""

    def __init__(self, server, number: int) -> None:
        super().__init__(name=f"writer-{number}")
        self.server = server
        self.thing = f"a:W{number}"
        self.sent = self.acknowledged = 0
        self.stop = threading.Event()

    def run(self) -> None:
        with self.server.client() as client:
            for number in itertools.count(1):
                if self.stop.is_set():
                    return
                self.sent = number
                answer = client.put(
                    f"/api/2/things/{self.thing}", json={"features": {"f": {"properties": {"n": number}}}}
                )
                assert answer.status_code in {201, 204}
                self.acknowledged = number


async def states(folder: Path, last: int) -> dict[str, Held]:
    """The things of a restored folder, each made once more from the journal, which must be whole."""
    async with SqliteStore(folder) as store:
        assert await store.last() == last
        events = await store.read(0, last + 1)
        assert [event.number for event in events] == list(range(1, last + 1))
        found = {}
        for id_ in await store.ids("thing", "", 100):
            held = await store.load("thing", id_)
            mine = [event for event in events if (event.kind, event.id) == ("thing", id_)]
            assert replay(Held(kind="thing", id=id_), mine).document == held.document
            found[id_] = held
        return found


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["saved.tar.gz", "saved"])
async def test_a_backup_under_load_has_what_was_acknowledged_before_and_nothing_torn(tmp_path: Path, name: str):
    target, restored = tmp_path / name, tmp_path / "restored"
    with skerry_in(tmp_path) as server:
        writers = [Writer(server, number) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        try:
            wait_until(lambda: all(writer.acknowledged > 20 for writer in writers), what="writes")
            before = [writer.acknowledged for writer in writers]
            done = server.run("backup", target)
            after = [writer.sent for writer in writers]
            wait_until(lambda: all(w.acknowledged > sent for w, sent in zip(writers, after, strict=True)), what="more")
        finally:
            for writer in writers:
                writer.stop.set()
                writer.join()
        assert done.returncode == 0, done.stderr
        back = server.run("restore", target, "--data-dir", restored)
        assert back.returncode == 0, back.stderr
        assert not (server.data / "backup.tmp").exists()
    last = int(back.stderr.rstrip().rpartition(" ")[2])
    with duckdb.connect(str(restored / "series.duckdb")) as series:
        assert series.execute("SELECT upto FROM progress").fetchall()[0][0] <= last
    found = await states(restored, last)
    for writer, least, most in zip(writers, before, after, strict=True):
        document = found[writer.thing].document
        assert document is not None
        assert least <= document["features"]["f"]["properties"]["n"] <= most
    with skerry_in(tmp_path, restored) as again, again.client() as client:
        shown = client.get("/api/2/things/a:W0/features/f/properties/n")
        assert before[0] <= shown.json() <= after[0]
        assert client.get("/api/2/search/things/count").json() == WRITERS
        assert client.put("/api/2/things/a:new", json={}).status_code == 201


@pytest.mark.timeout(120)
def test_what_is_no_whole_backup_is_refused_and_leaves_nothing_behind(tmp_path: Path):
    good, target = tmp_path / "good", tmp_path / "restored"
    with skerry_in(tmp_path) as server, server.client() as client:
        client.put("/api/2/things/a:1", json={})
        assert server.run("backup", good).returncode == 0
        over = server.run("restore", good)
        assert (over.returncode, "is not empty" in over.stderr) == (2, True)
        again = server.run("backup", good)
        assert (again.returncode, "is not empty" in again.stderr) == (2, True)
        saved = server.run("backup", tmp_path / "good.tar")
        assert saved.returncode == 0
    damaged = tmp_path / "damaged"
    for spoil, said in (
        (lambda: (damaged / "journal.db").write_bytes(b"SQLite format 3\0" + bytes(4080)), "is not what was saved"),
        ((damaged / "users.json").unlink, "is missing"),
        (lambda: (damaged / "manifest.json").write_text("{"), "manifest cannot be read"),
        ((damaged / "manifest.json").unlink, "no manifest"),
        (
            lambda: (damaged / "manifest.json").write_text(
                json.dumps({"format": 99, "skerry": "9", "taken": "", "journal": 1, "files": []})
            ),
            "newer",
        ),
    ):
        shutil.rmtree(damaged, ignore_errors=True)
        shutil.copytree(good, damaged)
        spoil()
        refused = server.run("restore", damaged, "--data-dir", target)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr
        assert not target.exists()
    whole = (tmp_path / "good.tar").read_bytes()
    (tmp_path / "short.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.tar").write_bytes(b"nonsense" * 200)
    for archive in ("short.tar", "none.tar"):
        refused = server.run("restore", tmp_path / archive, "--data-dir", target)
        assert refused.returncode == 2, refused.stderr
        assert not target.exists()
    assert sorted(path.name for path in tmp_path.iterdir() if ".part" in path.name) == []


@pytest.mark.timeout(120)
def test_a_server_that_is_not_running_is_backed_up_as_it_lies(tmp_path: Path):
    with skerry_in(tmp_path) as server, server.client() as client:
        client.put("/api/2/things/a:1", json={})
    done = server.run("backup", tmp_path / "cold.tar")
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "cold.tar") as archive:
        assert {"manifest.json", "journal.db", "series.duckdb", "users.json"} <= set(archive.getnames())
    assert server.run("restore", tmp_path / "cold.tar", "--data-dir", tmp_path / "back").returncode == 0
    with skerry_in(tmp_path, tmp_path / "back") as again, again.client() as client:
        assert client.get("/api/2/things/a:1").status_code == 200


@pytest.mark.timeout(120)
def test_nobody_else_on_the_machine_reads_the_users_in_a_backup(tmp_path: Path):
    with skerry_in(tmp_path) as server:
        for name in ("saved.tar.gz", "saved"):
            assert server.run("backup", tmp_path / name).returncode == 0
        assert server.run("restore", tmp_path / "saved.tar.gz", "--data-dir", tmp_path / "again").returncode == 0
    assert (tmp_path / "saved.tar.gz").stat().st_mode & 0o077 == 0
    assert (tmp_path / "saved").stat().st_mode & 0o077 == 0
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "again").glob("*.json")} == {0o600}
    assert all(path.stat().st_mode & 0o007 == 0 for path in (tmp_path / "again").iterdir())


@pytest.mark.timeout(120)
def test_only_operators_take_backups_and_one_at_a_time(tmp_path: Path):
    with skerry_in(tmp_path) as server, server.client() as client:
        assert server.run("user", "add", "eve", "--password", "eve").returncode == 0
        client.put("/api/2/things/a:1", json={})

        def known() -> bool:
            return client.get("/api/2/whoami", auth=("eve", "eve")).status_code == 200

        wait_until(known, what="eve")
        assert client.get("/devops/backup", auth=("eve", "eve")).status_code == 401
        with client.stream("GET", "/devops/backup") as first:
            assert first.headers["content-type"] == "application/x-tar"
            assert client.get("/devops/backup").status_code in {200, 409}
            assert first.read()
        assert client.post("/devops/backup").status_code == 405
