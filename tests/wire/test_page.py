"""The page at `/` in a real browser, against canned answers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from canned_farm import PAGE, canned, farm
from servers import chromium

FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"

expect.set_options(timeout=30_000)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    path = chromium()
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield running
        await running.close()


async def opened(browser: Browser, port: int, **context: object) -> tuple[Page, list[str], list[str]]:
    """The page, what went wrong in it, and the hosts it asked."""
    page = await browser.new_page(**context)  # type: ignore[arg-type]
    wrong: list[str] = []
    hosts: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: hosts.append(urlsplit(request.url).netloc))
    await page.goto(f"http://127.0.0.1:{port}/")
    return page, wrong, hosts


async def test_the_farm_is_shown_as_map_and_table_and_its_values_change(browser: Browser) -> None:
    with canned(farm(25)) as server:
        page, wrong, hosts = await opened(browser, server.port)
        await expect(page.locator("tbody tr")).to_have_count(25)
        await expect(page.locator(".marker")).to_have_count(26)
        await expect(page.locator("#total-count")).to_have_text("of 25")
        await expect(page.locator("tr[data-id='skerryvore:T07'] td.status")).to_have_text("Fault")
        row = page.locator("tr[data-id='skerryvore:T01']")
        assert await row.locator("th a").get_attribute("href") == "/api/2/things/skerryvore:T01"
        assert "/api/2/timeseries/things/skerryvore:T01/features/scada/properties/power" in (
            await row.locator("td.curve a").get_attribute("href") or ""
        )
        await expect(page.locator(".masts li")).to_contain_text("m/s from west (248°)")
        first = await row.locator("td.wind").inner_text()
        await expect(row.locator("td.wind")).not_to_have_text(first)
        await expect(row.locator(".curve .line")).to_have_attribute("d", re.compile(".{200,}"))
        assert wrong == []
        assert set(hosts) == {f"127.0.0.1:{server.port}"}
        await page.close()


async def test_five_hundred_turbines_are_read_once_and_then_followed_and_have_curves_only_in_view(
    browser: Browser,
) -> None:
    with canned(farm(500)) as server:
        page, wrong, _ = await opened(browser, server.port)
        await expect(page.locator("tbody tr")).to_have_count(500)
        await expect(page.locator(".marker")).to_have_count(501)
        await expect(page.locator("td.curve .line[d*=L]").nth(10)).to_be_attached()
        wind = page.locator("tr[data-id='skerryvore:T01'] td.wind")
        for _ in range(4):
            seen = await wind.inner_text()
            await expect(wind).not_to_have_text(seen)
        asked = [url for url in server.asked if urlsplit(url).path == "/api/2/things"]
        assert sum("_context" in url for url in asked) == 1
        assert len(asked) == 4
        histories = {urlsplit(asked).path for asked in server.asked if "timeseries" in asked}
        assert len(histories) < 60
        assert wrong == []
        await page.close()


async def test_the_last_events_are_told_with_or_without_measurements(browser: Browser) -> None:
    with canned(farm(3)) as server:
        page, wrong, _ = await opened(browser, server.port)
        events = page.locator("#happenings li")
        await expect(events).to_have_count(12)
        await expect(events.first).to_contain_text(re.compile("(T0[123]|M1).*changed.*scada: .*wind"))
        await page.get_by_label("without measurements").check()
        await expect(events).to_have_count(0)
        server.things = farm(4)
        await expect(events).to_have_text([re.compile("T04.*created")])
        await expect(events.locator("a")).to_have_attribute("href", "/api/2/things/skerryvore:T04")
        server.things = farm(3)
        await expect(events.first).to_contain_text(re.compile("skerryvore:T04.*deleted"))
        assert wrong == []
        await page.close()


async def test_the_server_may_go_away_and_come_back(browser: Browser) -> None:
    with canned(farm(5)) as server:
        page, _, _ = await opened(browser, server.port)
        await expect(page.locator("#link-text")).to_have_text("Live")
        await expect(page.locator("#happenings li").nth(5)).to_be_attached()
        server.broken = 503
        await expect(page.locator("#alert")).to_contain_text("The store is away. You see the last known values.")
        await expect(page.locator("tbody tr")).to_have_count(5)
        server.broken = 0
        await expect(page.locator("#alert")).to_be_hidden(timeout=15_000)
        await expect(page.locator("#link-text")).to_have_text("Live")
        assert server.places[0] == ""
        assert int(server.places[-1]) > 5, "it goes on where it was"
        await page.close()


async def test_no_turbines_yet_says_how_to_have_some_and_shows_them_without_a_reload(browser: Browser) -> None:
    with canned([]) as server:
        page, _, _ = await opened(browser, server.port)
        await expect(page.locator("#empty")).to_contain_text("skerry simulate")
        await expect(page.locator("#empty")).to_contain_text("telemetry/demo/T01/scada")
        server.things = farm(3)
        await expect(page.locator("tbody tr")).to_have_count(3)
        await expect(page.locator("#empty")).to_be_hidden()
        server.things = farm(2)
        await expect(page.locator("tbody tr")).to_have_count(2)
        await page.close()


async def test_farms_stand_apart_and_a_turbine_that_says_nothing_is_silent(browser: Browser) -> None:
    with canned(farm(4, "Dhu Heartach") + farm(3, "Muckle Flugga")) as server:
        server.silent.add("muckle flugga:T02")
        page, _, _ = await opened(browser, server.port)
        await expect(page.locator(".farm h2")).to_have_text(["Dhu Heartach", "Muckle Flugga"])
        await expect(page.locator("tr[data-id='muckle flugga:T02'] td.status")).to_have_text("Silent", timeout=20_000)
        await expect(page.locator("#total-attention-names")).to_have_text("Muckle Flugga T02")
        await page.close()


async def test_the_table_is_sorted_found_in_and_narrowed_by_keyboard(browser: Browser) -> None:
    with canned(farm(25)) as server:
        page, _, _ = await opened(browser, server.port)
        await expect(page.locator("tbody tr")).to_have_count(25)
        await page.get_by_role("button", name="Power").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("th.power")).to_have_attribute("aria-sort", "descending")
        await page.get_by_role("button", name="Operating").focus()
        await page.keyboard.press("Space")
        await expect(page.locator("tbody tr")).to_have_count(4)
        await page.keyboard.press("Space")
        await page.get_by_role("searchbox", name="Find").fill("t2")
        await expect(page.locator("tbody tr")).to_have_count(6)
        await page.close()


@pytest.mark.parametrize("width", [360, 820, 1440])
async def test_nothing_hangs_over_the_edge_of_a_screen(browser: Browser, width: int) -> None:
    with canned(farm(25)) as server:
        page, wrong, _ = await opened(
            browser, server.port, viewport={"width": width, "height": 800}, color_scheme="dark"
        )
        await expect(page.locator("tbody tr")).to_have_count(25)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        assert wrong == []
        await page.close()


def test_the_page_names_no_other_host_and_has_no_inline_script() -> None:
    for file in PAGE.iterdir():
        text = file.read_text()
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", ""), file.name
        assert "innerHTML" not in text, file.name
    index = (PAGE / "index.html").read_text()
    assert " on" not in index.replace(" one", "")
    assert "<style" not in index
    assert "style=" not in index


async def until(page: Page, holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something to hold on our side of the wire."""
    for _ in range(int(seconds * 20)):
        if holds():
            return
        await page.wait_for_timeout(50)
    pytest.fail("it never came to hold")
