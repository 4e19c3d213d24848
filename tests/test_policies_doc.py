"""The examples of docs/policies.md do what it says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from wire.http_server import Served, served

TEXT = (Path(__file__).parent.parent / "docs" / "policies.md").read_text(encoding="utf-8")
FILES = re.findall(r"`([\w.]+\.json)`:\n\n```json\n(.*?)```", TEXT, re.DOTALL)
SESSIONS = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)


def steps() -> list[tuple[str, str]]:
    """Every command with what it prints."""
    found = [re.split(r"^\$ ", session, flags=re.MULTILINE)[1:] for session in SESSIONS]
    return [(step.partition("\n")[0], step.partition("\n")[2]) for session in found for step in session]


async def run(server: Served, command: str, folder: Path) -> str:
    """What the shell prints for a command."""
    skerry = f"{sys.executable} -m skerry_registry"
    command = re.sub(r"(^|\| )skerry ", rf"\1{skerry} ", command).replace("http://localhost:8080", server.url)
    login = {"SKERRY_HTTP_PORT": str(server.port), "SKERRY_LOGIN_USER": "ditto", "SKERRY_LOGIN_PASSWORD": "ditto"}
    process = await asyncio.create_subprocess_shell(
        command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, **login},
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return out.decode()


def read(text: str) -> Any:
    """JSON by its meaning, lines by their words."""
    try:
        return json.loads(text)
    except ValueError:
        return [" ".join(line.split()) for line in text.strip().splitlines()]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples need curl")
async def test_every_example_prints_what_stands_there(tmp_path: Path):
    for name, text in FILES:
        (tmp_path / name).write_text(text, encoding="utf-8")
    async with served(tmp_path) as server:
        assert len(steps()) > 10
        for command, printed in steps():
            assert read(await run(server, command, tmp_path)) == read(printed), command
