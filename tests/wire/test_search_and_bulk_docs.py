"""The examples of docs/search.md and docs/bulk.md, run as printed; exports and imports of the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from servers import free_port, skerry_command
from skerry_process import skerry_in

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = re.compile(r"```sh\n(.*?)```(?:\n\n```(?:json|text)\n(.*?)```)?", re.DOTALL)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["search", "bulk"])
def test_the_examples_run_as_printed(tmp_path: Path, name: str):
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    examples = EXAMPLE.findall(text)
    assert len(examples) >= 6
    with skerry_in(tmp_path) as server:
        server.run("user", "add", "devops", "--password", "foobar", "--role", "devops")
        path = f"{Path(skerry_command()).parent}{os.pathsep}{os.environ['PATH']}"
        for command, printed in examples:
            done = subprocess.run(
                ["bash", "-e", "-c", command.replace("localhost:8080", f"127.0.0.1:{server.port}")],
                cwd=tmp_path,
                env={**os.environ, **server.environment, "PATH": path},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout.strip() == printed.strip(), command


def things(count: int) -> bytes:
    rows = [
        {
            "topic": f"a/T{number:04}/things/twin/commands/modify",
            "path": "/",
            "headers": {"put-metadata": [{"key": "/attributes/n/unit", "value": "kW"}]},
            "value": {"attributes": {"n": number}},
        }
        for number in range(count)
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.mark.timeout(120)
def test_an_export_brings_things_policies_and_metadata_back(tmp_path: Path):
    file, raw = tmp_path / "all.ndjson.gz", tmp_path / "raw.ndjson"
    raw.write_bytes(things(1_250))
    fields = "thingId,policyId,attributes,_metadata,_policy"
    with skerry_in(tmp_path) as server, server.client() as client:
        done = server.run("import", raw)
        assert (done.returncode, "1250 things" in done.stderr) == (0, True), done.stderr
        nobody = server.run("import", raw, "--url", f"http://127.0.0.1:{free_port()}", "--restart")
        assert (nobody.returncode, "Trying again" in nobody.stderr) == (2, False)
        before = client.get(f"/api/2/things/a:T1234?fields={fields}").json()
        assert before["_metadata"] == {"attributes": {"n": {"unit": "kW"}}}
        exported = server.run("export", file)
        assert "1250 things and 1250 policies" in exported.stderr
        tried = server.run("import", file, "--on-conflict", "skip", "--dry-run")
        assert (tried.returncode, "2500 skipped, 0 refused" in tried.stderr) == (0, True), tried.stderr
        assert "1 things" not in server.run("import", file, "--on-conflict", "fail").stderr
        client.delete("/api/2/bulk/things?filter=exists(thingId)").read()
        assert client.get("/api/2/search/things/count").json() == 0
        assert server.run("import", file, "--dry-run").returncode == 0
        assert client.get("/api/2/search/things/count").json() == 0
        assert server.run("import", file).returncode == 0
        assert client.get(f"/api/2/things/a:T1234?fields={fields}").json() == before
        shown = server.run("export", "-", "--filter", "lt(attributes/n,2)", "--quiet").stdout.splitlines()
        assert [json.loads(line)["topic"].split("/", 2)[1:] for line in shown] == [
            ["T0000", "policies/commands/modify"],
            ["T0001", "policies/commands/modify"],
            ["T0000", "things/twin/commands/modify"],
            ["T0001", "things/twin/commands/modify"],
        ]


@pytest.mark.timeout(120)
def test_an_import_that_broke_off_goes_on_where_it_stopped(tmp_path: Path):
    raw, mark = tmp_path / "raw.ndjson", tmp_path / "raw.ndjson.import"
    rows = things(1_500).splitlines(keepends=True)
    raw.write_bytes(b"".join([*rows[:1_000], b"nonsense\n", *rows[1_000:]]))
    with skerry_in(tmp_path) as server, server.client() as client:
        broken = server.run("import", raw)
        assert (broken.returncode, "Line 1001" in broken.stderr) == (2, True), broken.stderr
        assert json.loads(mark.read_bytes())["rows"] == 1_000
        stat = raw.stat()
        raw.write_bytes(b"".join([*rows[:1_000], b"        \n", *rows[1_000:]]))
        os.utime(raw, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        done = server.run("import", raw)
        assert (done.returncode, "going on after line 1000" in done.stderr) == (0, True), done.stderr
        assert not mark.exists()
        assert client.get("/api/2/search/things/count?filter=eq(_revision,1)").json() == 1_500
        nobody = server.run("import", raw, "--user", "eve", "--password", "wrong")
        assert (nobody.returncode, "401" in nobody.stderr) == (2, True)
