"""Ditto's own JavaScript client, locked in `javascript/`, against a running server."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from msgspec import structs

from servers import absent, executable
from skerry_registry.settings import Settings
from wire.http_server import served

SCRIPT = Path(__file__).parent / "javascript"
FETCHING = 120.0


FEW = structs.replace(Settings(), ws_frames_per_second=20)


@pytest.mark.parametrize(
    ("script", "settings"), [("handles.cjs", Settings()), ("session.cjs", Settings()), ("resilience.cjs", FEW)]
)
async def test_dittos_javascript_client_works(tmp_path: Path, script: str, settings: Settings):
    npm, node = executable("npm"), executable("node")
    folder = shutil.copytree(SCRIPT, tmp_path / "client", ignore=shutil.ignore_patterns("node_modules"))
    status, said = await run(folder, npm, "ci", "--no-progress", "--prefer-offline")
    if status:
        absent("npm", f"The client could not be fetched: {said[-300:]}")
    async with served(tmp_path, settings=settings) as server:
        status, said = await run(folder, node, script, SKERRY_TEST_ADDRESS=f"127.0.0.1:{server.port}")
    assert status == 0, said


async def run(folder: Path, *command: str, **environment: str) -> tuple[int, str]:
    """The exit status of a command, and what it said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(FETCHING):
        said, _ = await process.communicate()
    return process.returncode or 0, said.decode(errors="replace")
