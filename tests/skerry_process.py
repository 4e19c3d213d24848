"""`skerry serve` as a process of its own, and its other commands beside it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from servers import Process, free_port, skerry_command

LOGIN = {"SKERRY_USER": "ditto", "SKERRY_PASSWORD": "ditto"}


class Skerry:
    """A server with the user ditto, who plays devops too."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.data = data
        self.port = free_port()
        self.environment = {"SKERRY_HTTP_PORT": str(self.port), "SKERRY_DATA_DIR": str(data), **LOGIN}
        self.mqtt_port = free_port()
        given = {**self.environment, "SKERRY_MQTT_PORT": str(self.mqtt_port)}
        self.process = Process([skerry_command(), "serve"], port=self.port, log=folder / "log", environment=given)
        self.url = f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, auth=("ditto", "ditto"), timeout=30)

    def run(self, *words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        """Another command, with the server's settings."""
        return subprocess.run(
            [skerry_command(), *map(str, words)],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **more,
        )


@contextmanager
def skerry_in(folder: Path, data: Path | None = None) -> Iterator[Skerry]:
    """Serve until the block ends; a data folder that is given has its users already."""
    server = Skerry(folder, data or folder / "data")
    if data is None:
        made = server.run("user", "add", "ditto", "--password", "ditto", "--role", "devops")
        assert made.returncode == 0, made.stderr
    try:
        server.process.start()
        yield server
    finally:
        server.process.stop()
