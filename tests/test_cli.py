from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread

import pytest
from rich.console import Console
from typer.main import get_command

from servers import free_port
from skerry_adapters.dead_letters import DeadLetters
from skerry_registry.app import Running
from skerry_registry.cli import demo
from skerry_registry.cli.commands import app
from skerry_registry.cli.tables import counted
from skerry_registry.cli.watch import Row, _row, _screen
from skerry_registry.settings import Settings

ROOT = Path(__file__).parents[1]


def skerry(
    *arguments: str, cwd: Path, environ: Mapping[str, str] = {}, text: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skerry_registry", *arguments],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "120", **environ},
        input=text,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        found.append((name,))
        found.extend((name, inner) for inner in getattr(command, "commands", {}))
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_and_option_has_a_help(words: tuple[str, ...]) -> None:
    command = get_command(app)
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    assert command.help
    assert all(getattr(option, "help", None) for option in command.params if not getattr(option, "hidden", False))


@pytest.mark.parametrize("name", ["serve", "demo", "simulate", "replay", "watch", "check"])
def test_the_help_of_a_command_has_an_example(name: str, tmp_path: Path) -> None:
    done = skerry(name, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert re.search(rf"skerry {name} -|skerry {name} raw|skerry {name}\b.*\n", done.stdout)
    assert "Example" in done.stdout


def test_the_help_comes_at_once_because_nothing_heavy_is_imported(tmp_path: Path) -> None:
    code = "import sys; import skerry_registry.cli.commands; print(sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not {"numpy", "litestar", "duckdb", "httptools", "paho", "apsw", "msgspec"} & set(
        re.findall(r"\w+", done.stdout)
    )


def test_a_broken_setting_stops_the_start_by_name_without_a_traceback(tmp_path: Path) -> None:
    began = time.monotonic()
    done = skerry("serve", cwd=tmp_path, environ={"SKERRY_HTTP_PROT": "1"})
    assert done.returncode == 2
    assert "SKERRY_HTTP_PORT" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 15


def test_a_server_without_users_refuses_and_names_the_command_that_makes_one(tmp_path: Path) -> None:
    done = skerry("serve", cwd=tmp_path)
    assert done.returncode == 2
    assert "skerry user add NAME --file data/users.json" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_user_is_added_listed_given_another_password_and_removed(tmp_path: Path) -> None:
    assert (
        skerry("user", "add", "ann", "--password-stdin", "--role", "devops", cwd=tmp_path, text="x\n").returncode == 0
    )
    file = tmp_path / "data" / "users.json"
    before = json.loads(file.read_text())
    assert skerry("user", "add", "ann", "-p", "y", cwd=tmp_path).returncode == 2
    unknown = skerry("user", "add", "bob", "-p", "y", "--role", "devop", cwd=tmp_path)
    assert (unknown.returncode, "'devops'" in unknown.stderr) == (2, True)
    assert skerry("user", "password", "ann", "-p", "y", cwd=tmp_path).returncode == 0
    after = json.loads(file.read_text())
    assert before["ann"]["hash"] != after["ann"]["hash"]
    assert skerry("user", "list", cwd=tmp_path).stdout == "ann\tdevops\n"
    assert skerry("user", "remove", "ann", cwd=tmp_path).returncode == 0
    assert skerry("user", "remove", "ann", cwd=tmp_path).returncode == 2


def test_a_user_gets_other_roles_and_keeps_the_password(tmp_path: Path) -> None:
    skerry("user", "add", "ann", "-p", "x", "--role", "devops", cwd=tmp_path)
    file = tmp_path / "data" / "users.json"
    before = json.loads(file.read_text())["ann"]["hash"]
    said = skerry("user", "role", "ann", "--role", "status", "--role", "mqtt_admin", cwd=tmp_path)
    assert (said.returncode, "ann has status, mqtt_admin" in said.stdout) == (0, True)
    assert json.loads(file.read_text())["ann"] == {"hash": before, "roles": ["status", "mqtt_admin"]}
    assert "has no roles" in skerry("user", "role", "ann", cwd=tmp_path).stdout
    assert json.loads(file.read_text())["ann"] == {"hash": before}
    assert "bob" in skerry("user", "role", "bob", "--role", "status", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    "words", [("user", "add", "ann", "-p", "x"), ("user", "remove", "bob"), ("token", "create", "integration:weather")]
)
def test_the_folder_is_told_where_no_option_names_it_and_that_no_server_was_there(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    skerry("user", "add", "bob", "-p", "x", "--data-dir", "data", cwd=tmp_path)
    said = skerry(*words, cwd=tmp_path)
    assert said.returncode == 0
    assert f"Folder: {folder}; no server has used this folder yet" in said.stderr.replace("\n", " ")
    assert "Folder" not in said.stdout
    (folder / "journal.db").touch()
    again = skerry(*(word.replace("ann", "eve").replace("bob", "ann") for word in words), cwd=tmp_path)
    assert f"Folder: {folder}." in again.stderr
    assert "Folder" not in skerry(*words, "--data-dir", "data", cwd=tmp_path).stderr


@pytest.mark.parametrize(("number", "said"), [(0, "0 things"), (1, "1 thing"), (2, "2 things")])
def test_one_is_said_in_the_singular(number: int, said: str) -> None:
    assert counted(number, "thing", "things") == said


def test_check_tells_what_is_wrong_and_what_is_in_force(tmp_path: Path) -> None:
    good = skerry("check", "--config", str(ROOT / "compose" / "ditto-defaults.toml"), cwd=tmp_path)
    assert good.returncode == 0
    assert "devops, ditto" in good.stdout
    assert "login_password = (secret)" in good.stdout
    environ = {"SKERRY_INFLUX_URL": "http://x", "SKERRY_MQTT_PORT": "8080"}
    bad = skerry("check", cwd=tmp_path, environ=environ)
    assert bad.returncode == 2
    for words in ("users_file: no users", "influx_url (SKERRY_INFLUX_URL) needs influx_token", "both 8080"):
        assert words in bad.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simulate", "--model", "nope"], "iea-3.4"),
        (["simulate", "--speed", "10"], "--duration"),
        (["simulate", "--start", "noon"], "ISO 8601"),
        (["simulate", "--mqtt-url", "http://x"], "mqtt://host:1883"),
        (["replay", "nothere.csv", "--preset", "flasc"], "nothere.csv"),
        (["replay", "x.csv", "--preset", "flask"], "flasc"),
        (["replay", "x.csv", "--signal", "P"], "NAME=PROPERTY"),
        (["replay", "x.csv", "--speed", "fast"], "max"),
        (["dead-letters", "list"], "no server has run there"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = skerry(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_version_errors_and_routes_print_tables(tmp_path: Path) -> None:
    assert skerry("version", cwd=tmp_path).stdout.startswith("skerry ")
    rows = [line.split("\t") for line in skerry("errors", cwd=tmp_path).stdout.splitlines()]
    assert {"settings.invalid", "mqtt.broker.refused"} <= {row[1] for row in rows}
    assert "/api/2/things" in skerry("routes", cwd=tmp_path).stdout


PAGES = {
    "": (
        [
            {
                "thingId": "demo:T01",
                "attributes": {"kind": "turbine", "ratedPower": 3370},
                "features": {
                    "scada": {
                        "properties": {"power": 1685.0, "wind": 8.0, "windDirection": 250.0, "status": "operating"}
                    }
                },
                "_modified": "2026-01-01T00:00:00Z",
            }
        ],
        '<http://elsewhere/api/2/things?page=2>; rel="next"',
    ),
    "2": (
        [
            {
                "thingId": "demo:T02",
                "attributes": {"kind": "turbine"},
                "features": {"scada": {"properties": {"operationNormal": False}}},
            },
            {"thingId": "other:X"},
        ],
        None,
    ),
}


@contextmanager
def answering() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known = self.headers["authorization"] == "Basic ZGl0dG86ZGl0dG8="
            things, link = PAGES["2" if "page=2" in self.path else ""]
            body = json.dumps(things if known else {"message": "Who are you?"}).encode()
            self.send_response(200 if known else 401)
            if link:
                self.send_header("link", link)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_watch_prints_the_farm_once_following_the_pages(tmp_path: Path) -> None:
    with answering() as url:
        done = skerry(
            "watch", "--once", "--url", url, "-u", "ditto", "-p", "ditto", "--namespace", "demo", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        first, second = (next(line for line in done.stdout.splitlines() if name in line) for name in ("T01", "T02"))
        assert "1,685" in first
        assert "operating" in first
        assert "abnormal" in second
        assert "other:X" not in done.stdout
        assert "2 things, 1.7 MW" in done.stdout
        piped = skerry("watch", "--url", url, "-u", "ditto", "-p", "ditto", "--namespace", "demo", cwd=tmp_path)
        assert "2 things" in piped.stdout, "off the terminal one table is all"
        refused = skerry("watch", "--once", "--url", url, cwd=tmp_path)
        assert refused.returncode == 2
        assert "401" in refused.stderr


def test_watch_calls_a_turbine_silent_that_has_told_nothing() -> None:
    def status(**thing: object) -> str:
        return _row({"thingId": "a:b", **thing}, 0.0).status

    assert status(attributes={"kind": "turbine"}) == "silent"
    assert not status(attributes={"kind": "turbine"}, features={"scada": {"properties": {"power": 1.0}}})
    assert status(attributes={"kind": "farm"}) == "farm"


def test_a_hint_names_the_command_as_it_was_called(tmp_path: Path) -> None:
    here = Path(sys.executable).with_name("skerry")
    for path, words in (("/usr/bin:/bin", f"{here} user add"), (f"{here.parent}:/bin", ": skerry user add")):
        done = subprocess.run(
            [here, "serve"], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert words in " ".join(done.stderr.split())


@pytest.mark.parametrize(("count", "first"), [(3, "T01"), (100, "T001"), (5000, "T0001")])
def test_the_screen_of_the_demo_names_a_turbine_that_is_there(count: int, first: str) -> None:
    running = Running(http_url="http://127.0.0.1:8080", mqtt_url="mqtt://127.0.0.1:1883")
    assert f"/things/demo:{first}/features" in demo._screen(running, Settings(), count)


def test_no_dead_letters_are_told_as_such_beside_the_list(tmp_path: Path) -> None:
    letters = DeadLetters(tmp_path)
    assert letters.count() == 0
    letters.close()
    done = skerry("dead-letters", "list", "--data-dir", ".", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "No dead letters.\n")


def test_watch_names_a_server_that_is_away(tmp_path: Path) -> None:
    port = free_port()
    done = skerry("watch", "--once", "--url", f"http://127.0.0.1:{port}", cwd=tmp_path)
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr


@pytest.mark.parametrize("trouble", ["", "8 s old, trying again. " + "No server answers. " * 20])
@pytest.mark.parametrize(("count", "width", "height"), [(3, 80, 24), (60, 80, 24), (500, 240, 60), (0, 80, 24)])
def test_the_screen_of_watch_is_never_taller_than_the_terminal(
    count: int, width: int, height: int, trouble: str
) -> None:
    rows = [
        Row(id=f"demo:T{n:03}", status="operating", power=3370.0, rated=3370.0, wind=12.3, direction=250.0, age=1.0)
        for n in range(count)
    ]
    out = StringIO()
    console = Console(width=width, height=height, file=out)
    console.print(_screen("http://127.0.0.1:8080", rows, trouble, width, height))
    lines = out.getvalue().splitlines()
    assert len(lines) <= height
    assert f"{count} things" in lines[-1]
    assert all(len(line) <= width for line in lines)
    assert "…" not in "".join(lines[1:-1]), "a cell was cut"


def test_watch_shows_all_of_a_farm_of_thirty_turbines_in_a_small_terminal() -> None:
    rows = [
        Row(
            id=f"demo:T{n:02}",
            status="maintenance",
            power=33700.0,
            rated=3370.0,
            wind=12.3,
            direction=250.0,
            age=3599.0,
        )
        for n in range(30)
    ]
    out = StringIO()
    Console(width=80, height=24, file=out).print(_screen("http://127.0.0.1:8080", rows, "", 80, 24))
    assert all(f"T{n:02}" in out.getvalue() for n in range(30))
