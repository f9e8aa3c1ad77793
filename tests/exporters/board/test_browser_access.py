"""The live board in a real browser: keyboard, screen reader, reduced motion and print."""

import asyncio

import pytest

from exporters.formatting import unbroken
from tests.support.board_browser import LOOKS, opened
from tests.support.board_samples import WITH_INCIDENTS

pytestmark = pytest.mark.stack  # needs Chromium


def test_a_keyboard_reaches_everything_in_order_and_always_sees_where_it_is() -> None:
    async def check() -> None:
        async with opened(WITH_INCIDENTS) as (page, _):
            await page.press("Tab")
            assert await page.evaluate("document.activeElement.className") == "skip"
            where = await page.evaluate("document.activeElement.getBoundingClientRect().top")
            assert where >= 0, "the skip link is seen when it has the focus"
            await page.press("Enter")
            assert await page.evaluate("document.activeElement.id") == "main"
            seen = []
            for _ in range(80):
                await page.press("Tab")
                name, outline = await page.evaluate(
                    """(() => {
                      const at = document.activeElement;
                      const by = document.getElementById(at.getAttribute('aria-labelledby'));
                      const name =
                        at.getAttribute('aria-label') || (by || at).textContent.trim();
                      const {outlineStyle, outlineWidth} = getComputedStyle(at);
                      const outline = `${outlineWidth} ${outlineStyle}`;
                      return [at === document.body ? '' : name, outline];
                    })()"""
                )
                if not name:
                    break
                seen.append(name)
                assert outline == "3px solid", name
            runbooks = [one.runbook for one in WITH_INCIDENTS.incidents if one.runbook]
            assert seen.pop(0) == "Incidents (4)"
            assert seen[: len(runbooks)] == runbooks
            del seen[: len(runbooks)]
            assert seen[0] == "Objectives, table"
            uptime = [name.startswith("uptime, fleet: 30 days") for name in seen].index(True)
            assert seen[uptime + 1].startswith("30 days: 25 met")
            assert seen[-5:] == [
                "Daily board", "These numbers as JSON", "Metrics", "Readiness", "Health",
            ]  # fmt: skip

    asyncio.run(check())


@pytest.mark.parametrize("look", ["desktop-light", "phone-light"])
def test_a_screen_reader_finds_landmarks_headings_and_tables(look: str) -> None:
    async def check() -> None:
        async with opened(WITH_INCIDENTS, **LOOKS[look]) as (page, _):
            nodes = await page.accessibility()
            roles = [node.role for node in nodes]
            for landmark in ("banner", "main", "contentinfo"):
                assert roles.count(landmark) == 1, landmark
            named = {(node.role, node.name) for node in nodes}
            assert {("navigation", "Boards"), ("navigation", "More")} <= named
            headings = [
                (node.properties["level"], node.name) for node in nodes if node.role == "heading"
            ]
            assert [name for level, name in headings if level == 1] == [
                unbroken(WITH_INCIDENTS.headline)
            ]
            assert [name for level, name in headings if level == 2] == [
                "Incidents (4)", "Objectives (5, the worst first)", "The fleet, last 5 minutes",
                "Models", "Regions", "Availability by day",
            ]  # fmt: skip
            tables = {node.name for node in nodes if node.role == "table"}
            assert {
                "Objectives of the policies in force, the worst first",
                "Models, last 5 minutes, the worst first",
                "Regions, last 5 minutes, the worst first",
            } <= tables
            assert ("rowheader", "eu-west-1") in named
            assert ("columnheader", "State") in named
            pictures = [node.name for node in nodes if node.role == "image"]
            assert any(name.startswith("Last 60 minutes: 225") for name in pictures)
            assert not [name for name in pictures if not name], "every picture has words"

    asyncio.run(check())


def test_nothing_moves_for_those_who_asked_for_that() -> None:
    async def check() -> None:
        async with opened(reduced_motion=True) as (page, _):
            moving = "document.getAnimations().length"
            assert await page.evaluate(moving) == 0
        async with opened() as (page, _):
            assert await page.evaluate(moving) == 1

    asyncio.run(check())


def test_it_prints_black_on_white_also_from_dark_mode() -> None:
    async def check() -> None:
        async with opened(WITH_INCIDENTS, dark=True) as (page, _):
            await page.command("Emulation.setEmulatedMedia", media="print")
            assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == (
                "rgb(255, 255, 255)"
            )
            await page.screenshot("board-print.png")
            words = await page.evaluate(
                "getComputedStyle(document.querySelector('#incidents .words')).display"
            )
            assert words == "block"
            printed = await page.pdf(preferCSSPageSize=True, printBackground=True)
            assert printed.startswith(b"%PDF-")
            assert printed.count(b"/Type /Page\n") <= 3

    asyncio.run(check())
