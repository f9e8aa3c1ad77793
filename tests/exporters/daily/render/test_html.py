"""The daily board in a browser: two sheets of paper, a phone, the dark, a screen reader."""

import asyncio
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from exporters.daily.render.html import html
from exporters.daily.render.view import view_of
from tests.support.browser import Browser
from tests.support.daily_samples import empty_facts, hostile_facts, some_facts
from tests.support.edition_samples import some_edition

pytestmark = pytest.mark.stack  # needs Chromium

BOARDS = {
    "some": some_facts,
    "hostile": hostile_facts,
    "empty": empty_facts,
    "week": some_edition,
}
PAPERS = {"a4": (8.27, 11.69), "letter": (8.5, 11.0)}
# Contrast of text with what is behind it (WCAG 2.2), for everything that holds text itself.
CONTRAST = """
(() => {
  const light = ([r, g, b]) => [r, g, b]
    .map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const parts = color => color.match(/[\\d.]+/g).map(Number);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const color = parts(getComputedStyle(node).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(one => one.nodeType === 3 && one.data.trim());
    if (!own || node.closest('.hidden, [aria-hidden]')) continue;
    let faded = 1;
    for (let at = node; at; at = at.parentElement) faded *= getComputedStyle(at).opacity;
    const ground = behind(node);
    const ink = parts(getComputedStyle(node).color)
      .slice(0, 3).map((v, at) => v * faded + ground[at] * (1 - faded));
    const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) poor.push(`${node.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return poor;
})()
"""


@pytest.fixture
def address(tmp_path: Path) -> Callable[..., Any]:
    def write(board: str, served: bool = False) -> str:
        file = tmp_path / f"{board}.html"
        file.write_text(html(BOARDS[board](), served=served), encoding="utf-8")
        return file.as_uri()

    return write


def in_browser(use: Callable[..., Any]) -> None:
    async def run() -> None:
        async with Browser.start() as browser:
            await use(browser)

    asyncio.run(run())


@pytest.mark.parametrize("paper", PAPERS)
def test_it_prints_on_two_sheets(address: Callable[..., Any], paper: str) -> None:
    async def use(browser: Browser) -> None:
        for board in BOARDS:
            page = await browser.open(address(board))
            width, height = PAPERS[paper]
            printed = await page.pdf(paperWidth=width, paperHeight=height, printBackground=True)
            sheets = PdfReader(BytesIO(printed)).pages
            assert len(sheets) == (1 if board == "empty" else 2), board
            words = " ".join(" ".join(sheet.extract_text() for sheet in sheets).split())
            assert f"Made {view_of(BOARDS[board]()).made}" in words, board
            if board == "some":
                assert "99.953 %" in words
            # Nothing is pushed over the edge, which Chromium would make everything smaller for.
            await page.command("Emulation.setEmulatedMedia", media="print")
            inside = round((width - 20 / 25.4) * 96)
            await page.command(
                "Emulation.setDeviceMetricsOverride",
                width=inside, height=900, deviceScaleFactor=1, mobile=False,
            )  # fmt: skip
            assert await page.evaluate("document.documentElement.scrollWidth") <= inside, board
            await page.screenshot(f"daily-{board}-{paper}.png")

    in_browser(use)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_asks_for_nothing_complains_of_nothing_and_can_be_read(
    address: Callable[..., Any], dark: bool
) -> None:
    async def use(browser: Browser) -> None:
        for board in BOARDS:
            page = await browser.open(address(board), width=1180, dark=dark)
            assert [one for one in page.requests if not one.startswith("data:")] == [address(board)]
            assert page.console == []
            assert await page.evaluate(CONTRAST) == []
            await page.screenshot(f"daily-{board}-{'dark' if dark else 'light'}.png")

    in_browser(use)


@pytest.mark.parametrize("wide", [320, 380, 800])
def test_nothing_is_pushed_off_a_small_screen(address: Callable[..., Any], wide: int) -> None:
    async def use(browser: Browser) -> None:
        for board in BOARDS:
            page = await browser.open(address(board, served=True), width=wide, mobile=True)
            assert await page.evaluate("document.documentElement.scrollWidth") == wide, board
            await page.screenshot(f"daily-{board}-{wide}.png")

    in_browser(use)


def test_a_screen_reader_meets_tables_with_headers_and_words_for_every_mark(
    address: Callable[..., Any],
) -> None:
    async def use(browser: Browser) -> None:
        for wide in (1180, 380):
            page = await browser.open(address("some", served=True), width=wide, mobile=wide < 800)
            nodes = await page.accessibility()
            told = [(node.role, node.name.replace("\u00a0", " ")) for node in nodes]
            tables = [name for role, name in told if role == "table"]
            assert tables == [
                *("Seven numbers", "Are tokens growing?", "Reliable enough for renewals?"),
                *("Is the cache’s margin good?", "Objectives at risk", "Segments", "31 days"),
            ]
            headers = [name for role, name in told if role == "rowheader"]
            assert "P95 TTFT time to first token" in headers
            assert "State" in headers
            cells = [name for role, name in told if role in ("cell", "gridcell")]
            for words in ("missed under 300 ms", "47 ms slower , worse norm 267 ms"):
                assert [cell for cell in cells if cell.endswith(words)], words
            assert "314 ms, missed" in cells
            images = [name for role, name in told if role == "image"]
            assert any(name.startswith("P95 TTFT over 31 days: lowest 2") for name in images)
            assert len(images) == 5
            assert next(name for role, name in told if role == "heading").startswith("Tuesday")

    in_browser(use)


def test_the_keyboard_reaches_links_the_form_and_what_scrolls(address: Callable[..., Any]) -> None:
    async def use(browser: Browser) -> None:
        page = await browser.open(address("some", served=True), width=380, height=800, mobile=True)
        met = []
        for _ in range(80):
            await page.press("Tab")
            what = "document.activeElement"
            met.append(
                await page.evaluate(
                    f"{what}.href || {what}.ariaLabelledByElements?.[0]?.id || {what}.localName"
                )
            )
        assert any(str(one).endswith("daily?date=2026-11-02") for one in met)
        assert any(str(one).endswith("daily.pdf?date=2026-11-03") for one in met)
        assert {"input", "button", "summary", "month", "growth", "contracts", "risks"} <= set(met)

    in_browser(use)
