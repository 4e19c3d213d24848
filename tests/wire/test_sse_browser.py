"""A browser's own EventSource, and the page, over the sudden end of the server."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Page, async_playwright, expect

from servers import Process, chromium, free_port

ROOT = Path(__file__).parents[2]
FOLLOW = """() => {
  window.seen = [];
  const events = new EventSource("/api/2/things/demo:T01/attributes/n");
  events.onmessage = (event) => { if (event.data) window.seen.push([Number(event.lastEventId), JSON.parse(event.data)]); };
  return new Promise((done) => { events.onopen = () => done(); });
}"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    environ = {
        "SKERRY_CONFIG": str(ROOT / "compose" / "ditto-defaults.toml"),
        "SKERRY_DATA_DIR": str(tmp_path / "data"),
        "SKERRY_HTTP_PORT": str(free_port()),
        "SKERRY_MQTT_PORT": str(free_port()),
    }
    command = [sys.executable, "-m", "skerry_registry", "serve"]
    port = int(environ["SKERRY_HTTP_PORT"])
    others = {name: value for name, value in os.environ.items() if not name.startswith("SKERRY_")}
    process = Process(command, port=port, log=tmp_path / "log", environment=others | environ)
    process.start()
    yield process
    process.stop()


@pytest.fixture
async def page(server: Process) -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page = await browser.new_page(http_credentials={"username": "ditto", "password": "ditto"})
        await page.goto(f"http://127.0.0.1:{server.port}/")
        yield page
        await browser.close()


@pytest.mark.timeout(180)
async def test_a_browser_misses_nothing_when_the_server_is_killed(server: Process, page: Page) -> None:
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{server.port}/api/2/things/demo:T01", auth=("ditto", "ditto"), timeout=20
    ) as client:

        async def put(numbers: range) -> None:
            for number in numbers:
                answer = await client.put("/attributes/n", json=number)
                assert answer.is_success

        assert (await client.put("", json={"attributes": {"kind": "turbine"}})).status_code == 201
        await expect(page.locator("#others, .farm").first).to_be_attached()
        await page.evaluate(FOLLOW)
        await put(range(10))
        await seen_by(page, 10)
        server.kill()
        await asyncio.to_thread(server.start)
        await put(range(10, 40))
        await seen_by(page, 40)
        await put(range(40, 45))
        await seen_by(page, 45)
        seen = await page.evaluate("window.seen")
        assert [value for _, value in seen] == list(range(45))
        assert [number for number, _ in seen] == sorted(number for number, _ in seen)
        events = page.locator("#happenings li")
        await expect(events.first).to_contain_text("attributes/n: 44", timeout=60_000)
        await expect(events.nth(6)).to_contain_text("attributes/n: 38")
        await expect(page.locator("#link-text")).to_have_text("Live")


async def seen_by(page: Page, count: int, seconds: float = 60) -> None:
    """Wait until so many events were seen."""
    async with asyncio.timeout(seconds):
        while await page.evaluate("window.seen.length") < count:
            await page.wait_for_timeout(50)
