"""The page at `/` in a real browser, against a real server whose 500 turbines report every second."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import async_playwright, expect

from servers import Process, chromium, free_port

ROOT = Path(__file__).parents[2]
TURBINES = 500


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[int]:
    """A server and its simulator; the HTTP port."""
    chromium()
    http, mqtt = free_port(), free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SKERRY_")}
    environ |= {
        "SKERRY_CONFIG": str(ROOT / "compose" / "ditto-defaults.toml"),
        "SKERRY_DATA_DIR": str(tmp_path / "data"),
        "SKERRY_HTTP_PORT": str(http),
        "SKERRY_MQTT_PORT": str(mqtt),
    }
    command = [sys.executable, "-m", "skerry_registry"]
    server = Process([*command, "serve"], port=http, log=tmp_path / "log", environment=environ)
    server.start()
    simulate = [*command, "simulate", "--turbines", str(TURBINES), "--history", "60", "--quiet"]
    with (tmp_path / "simulate.log").open("wb") as log:
        simulator = subprocess.Popen(simulate, env=environ, stdout=log, stderr=log)
    yield http
    simulator.send_signal(signal.SIGINT)
    simulator.wait(15)
    server.stop()


@pytest.mark.timeout(180)
async def test_a_farm_of_five_hundred_turbines_is_watched_live(farm: int) -> None:
    path = chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page(http_credentials={"username": "ditto", "password": "ditto"})
        wrong: list[str] = []
        asked: list[tuple[float, str]] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append((time.monotonic(), request.url)))
        began = time.monotonic()
        await page.goto(f"http://127.0.0.1:{farm}/")
        await expect(page.locator("tbody tr")).to_have_count(TURBINES, timeout=60_000)
        shown = time.monotonic() - began
        row = page.locator("tbody tr").first
        await expect(row.locator(".curve .line")).to_have_attribute("d", re.compile(".{20,}"), timeout=30_000)
        texts = set()
        began = time.monotonic()
        while len(texts) < 4:
            seen = await row.inner_text()
            texts.add(seen)
            await expect(row).not_to_have_text(seen, timeout=20_000, use_inner_text=True)
        changes = time.monotonic() - began
        requests = len([at for at, _ in asked if at >= began])
        print(f"{shown=:.1f} s, 4 states in {changes:.1f} s, {requests / changes:.1f} requests/s")
        assert wrong == []
        assert {urlsplit(url).netloc for _, url in asked} == {f"127.0.0.1:{farm}"}
        assert requests / changes < 40, "a refresh costs more requests than a page of 500 turbines may make"
        await page.close()
        await browser.close()
