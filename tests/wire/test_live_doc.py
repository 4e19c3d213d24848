"""The worked sessions of docs/live.md, run as printed, one after the other; where websocat is missing `tests/websocat.py` plays it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from servers import absent, executable, skerry_command
from skerry_process import Skerry, skerry_in

TEXT = (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"```sh\n(.*?)```(?:\n\n```(?:json|text)\n(.*?)```)?", re.DOTALL)
STAND_IN = Path(__file__).parents[1] / "websocat.py"
CHANGING = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(-\w+)?"), "<id>"),
)
"""What is another on every machine."""


def steady(text: str) -> str:
    """The text without what is another on every machine."""
    for pattern, name in CHANGING:
        text = pattern.sub(name, text)
    return text.strip()


def commands_in(folder: Path) -> str:
    """The path on which the commands are: `websocat` is ours where the machine has none."""
    commands = folder / "bin"
    commands.mkdir()
    if shutil.which("websocat") is None:
        ours = commands / "websocat"
        ours.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n', encoding="utf-8")
        ours.chmod(0o755)
    return os.pathsep.join((str(commands), str(Path(skerry_command()).parent), os.environ["PATH"]))


def here(command: str, server: Skerry) -> str:
    """The command with this server's ports."""
    command = command.replace("localhost:8080", f"127.0.0.1:{server.port}")
    return command.replace("-h localhost ", f"-h 127.0.0.1 -p {server.mqtt_port} ")


@pytest.mark.timeout(300)
def test_the_worked_sessions_run_as_printed(tmp_path: Path) -> None:
    executable("mosquitto")
    if shutil.which("mosquitto_rr") is None or shutil.which("curl") is None:
        absent("mosquitto", "install the packages mosquitto-clients and curl")
    examples = EXAMPLE.findall(TEXT)
    assert len(examples) >= 10
    with skerry_in(tmp_path) as server:
        path = commands_in(tmp_path)
        for command, printed in examples:
            done = subprocess.run(
                ["bash", "-c", here(command, server)],
                cwd=tmp_path,
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
            assert steady(done.stdout) == steady(printed), (command, done.stderr)
