"""The live board in a real browser, over facts made by hand: how it looks, updates and is used."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import bcrypt
import pytest
from aiohttp import web

from exporters.board.facts import Incident, LiveFacts, LiveState, PastIncident
from exporters.board.live import routes
from exporters.board.live.routes import board_routes
from exporters.formatting import unbroken
from exporters.server.web_config import WebConfig, middleware
from tests.support.board_samples import STALE, WELL, WITH_INCIDENTS
from tests.support.browser import Browser, Page
from tokenpulse.local.embedded import free_port

pytestmark = pytest.mark.stack  # needs Chromium

PHONE = {"width": 360, "height": 740, "mobile": True}


class Source:
    """What the exporter knows, as a test sets it."""

    def __init__(self, facts: LiveFacts | None = WELL) -> None:
        self.now = LiveState(facts, None if facts else "Redis does not answer", 1.0)

    def __call__(self) -> LiveState:
        return self.now

    def tell(self, facts: LiveFacts, problem: None = None) -> None:
        self.now = LiveState(facts, problem, self.now.made_at + 1)


@asynccontextmanager
async def served(
    source: Source, under: str = "", users: dict[str, str] | None = None, port: int = 0
) -> AsyncIterator[str]:
    """The board behind a real socket; its address with a slash at the end."""
    guard = [middleware(WebConfig(users=users))] if users else []
    app = web.Application(middlewares=guard)
    app.add_routes(board_routes(source))
    if under:
        inner, app = app, web.Application()
        app.add_subapp(under, inner)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{under}/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def opened(
    facts: LiveFacts | None = WELL, **options: Any
) -> AsyncIterator[tuple[Page, Source]]:
    """A page open on these facts, live; with what tells it of others."""
    source = Source(facts)
    async with served(source) as url, Browser.start() as browser:
        page = await browser.open(url, **options)
        if options.get("script", True):
            await is_live(page)
        yield page, source


async def is_live(page: Page, timeout_s: int = 10) -> None:
    await page.wait_for("document.querySelector('#live').textContent === 'Live'", timeout_s)


def text_of(selector: str) -> str:
    return f"(document.querySelector({json.dumps(selector)})?.textContent ?? '')"


LOOKS: dict[str, dict[str, Any]] = {
    "desktop-light": {},
    "desktop-dark": {"dark": True},
    "phone-light": PHONE,
    "phone-dark": {**PHONE, "dark": True},
}


@pytest.mark.parametrize(
    ("name", "facts"),
    [("well", WELL), ("incident", WITH_INCIDENTS), ("stale", STALE), ("nothing", None)],
)
def test_it_fits_every_screen_and_asks_only_its_own_server(
    name: str, facts: LiveFacts | None
) -> None:
    async def check() -> None:
        async with served(Source(facts)) as url, Browser.start() as browser:
            for look, options in LOOKS.items():
                page = await browser.open(url, **options)
                await is_live(page)
                await page.screenshot(f"board-{name}-{look}.png")
                width = await page.evaluate("document.documentElement.scrollWidth")
                assert width == await page.evaluate("document.documentElement.clientWidth"), look
                assert page.console == []
                assert all(one.startswith(url) for one in page.requests)
                assert len(page.requests) <= 6

    asyncio.run(check())


def test_the_worst_ten_places_fit_on_the_screen_of_an_operator() -> None:
    models = WITH_INCIDENTS.models
    many = (*models, *(replace(models[0], name=f"model-{at}") for at in range(10)))
    past = PastIncident("page", 30 * "word ", None, None, 1.0, 2.0, None, None, None)
    facts = replace(WITH_INCIDENTS, models=many, past_incidents=(past,))

    async def check() -> None:
        async with opened(facts, width=1440, height=900) as (page, _):
            bottoms = await page.evaluate(
                """Object.fromEntries(['#incidents', '#objectives', '#tiles',
                  '#models tbody tr:nth-child(10)', '#regions tbody tr:last-child'].map((place) =>
                  [place, document.querySelector(place).getBoundingClientRect().bottom]))"""
            )
            assert max(bottoms.values()) <= 900, bottoms
            wide = await page.evaluate(
                """[...document.querySelectorAll('#models .scroll, #regions .scroll')].filter(
                  (table) => table.scrollWidth > table.clientWidth).length"""
            )
            assert wide == 0

    asyncio.run(check())


def test_news_come_without_a_reload_and_keep_focus_scroll_and_open_details() -> None:
    async def check() -> None:
        async with opened(WITH_INCIDENTS, **PHONE) as (page, source):
            await page.evaluate(
                """(() => {
                  window.same = document.querySelector('.strip details');
                  same.open = true;
                  const days = document.querySelector('.strip .scroll');
                  days.scrollLeft = 40;
                  days.focus();
                })()"""
            )
            where = "document.activeElement.getBoundingClientRect().top"
            before = await page.evaluate(where)
            changed = replace(
                WITH_INCIDENTS,
                headline="Something else.",
                ttft_p95_s=replace(WITH_INCIDENTS.ttft_p95_s, value=0.412, state="breached"),
                history=tuple(replace(one, scope="all of it") for one in WITH_INCIDENTS.history),
            )
            source.tell(changed)
            await page.wait_for(text_of("#headline") + " === 'Something else.'")
            await page.wait_for(text_of(".strip h3") + ".includes('all of it')")
            assert "412" in await page.evaluate(text_of("#tile-ttft .value"))
            kept = await page.evaluate(
                """[same.isConnected, same.open, document.activeElement.className,
                    document.querySelector('.strip .scroll').scrollLeft, scrollY > 1000]"""
            )
            assert kept == [True, True, "scroll", 40, True]
            # The headline is shorter now; what is read stays where it is on the screen.
            assert abs(await page.evaluate(where) - before) < 2
            assert page.console == []

    asyncio.run(check())


def test_only_troubles_that_begin_or_end_are_announced() -> None:
    first = Incident("page", "Region eu-west-1 fails 41.2 % of its requests.", None, "A")
    later = replace(first, words="Region eu-west-1 fails 48 % of its requests.")
    other = Incident("ticket", "The cache hit rate is 37 %.", None, "B")

    async def check() -> None:
        async with opened(WELL) as (page, source):
            await page.evaluate(
                """(() => {
                  window.told = [];
                  const news = document.querySelector('#news');
                  new MutationObserver(() => told.push(news.textContent))
                    .observe(news, {childList: true});
                })()"""
            )
            for incidents in ((first,), (later,), (other, later), (other,)):
                source.tell(replace(WELL, incidents=incidents))
                words = unbroken("|".join(incident.words for incident in incidents))
                await page.wait_for(
                    "[...document.querySelectorAll('#incidents .words')].map(e => e.textContent)"
                    f".join('|') === {json.dumps(words)}"
                )
            assert await page.evaluate("told") == [
                unbroken(f"New: {first.words}"),
                unbroken(f"New: {other.words}"),
                unbroken(f"Over: {later.words}"),
            ]
            roles = [(node.role, node.properties) for node in await page.accessibility()]
            assert any(role == "status" and of["live"] == "polite" for role, of in roles)

    asyncio.run(check())


def test_it_says_that_it_is_old_when_the_server_is_gone_and_recovers() -> None:
    async def check() -> None:
        port = free_port()
        async with Browser.start() as browser:
            async with served(Source(), port=port) as url:
                page = await browser.open(url)
                await is_live(page)
            await page.wait_for("!document.querySelector('#old').hidden", 30)
            words = await page.evaluate(text_of("#old p"))
            assert "no news from the server since 2026-11-22 12:03:05 UTC." in words
            assert await page.evaluate(text_of("#live")) == "Not live"
            assert await page.evaluate("document.title") == "Old · Tokenpulse"
            await page.screenshot("board-server-gone.png")
            fresh, aged = [
                await page.evaluate(f"getComputedStyle(document.querySelector('{of}')).color")
                for of in (".tile h3", ".tile .num")
            ]
            assert fresh != aged
            source = Source(WITH_INCIDENTS)
            async with served(source, port=port):
                await is_live(page, 30)
                assert await page.evaluate("document.querySelector('#old').hidden")
                await page.wait_for(text_of("#verdict") + " === 'Unhealthy'")
                assert await page.evaluate("document.title") == "Unhealthy · Tokenpulse"

    asyncio.run(check())


def test_it_says_that_it_is_old_when_the_server_falls_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "HEARTBEAT_S", 3_600)

    async def check() -> None:
        async with opened() as (page, source):
            await page.wait_for("!document.querySelector('#old').hidden", 30)
            age = await page.wait_for(text_of("#old-age"))
            assert age.startswith("Silent for 1")
            source.tell(WITH_INCIDENTS)
            await page.wait_for("document.querySelector('#old').hidden")

    asyncio.run(check())


def test_a_page_that_was_refused_the_news_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "CLIENTS_MAX", 0)

    async def check() -> None:
        async with served(Source()) as url, Browser.start() as browser:
            page = await browser.open(url)
            await page.wait_for("!document.querySelector('#old').hidden", 30)
            monkeypatch.setattr(routes, "CLIENTS_MAX", 1)
            await is_live(page, 30)
            assert await page.evaluate("document.querySelector('#old').hidden")

    asyncio.run(check())


def test_without_facts_the_page_says_why_and_fills_once_there_are_some() -> None:
    async def check() -> None:
        async with opened(None) as (page, source):
            assert await page.evaluate(text_of("#headline")) == "No numbers now"
            assert "Redis does not answer" in await page.evaluate(text_of("#status .sub"))
            source.tell(WELL)
            await page.wait_for("document.querySelectorAll('.tile').length === 5")
            assert page.console == []

    asyncio.run(check())


def test_without_javascript_it_shows_all_and_reloads_itself() -> None:
    async def check() -> None:
        async with opened(WITH_INCIDENTS, script=False) as (page, _):
            assert await page.evaluate("document.querySelectorAll('.tile').length") == 5
            assert await page.evaluate("document.querySelectorAll('#incidents li').length") == 4
            assert "Reloads every 10 s" in await page.evaluate(text_of("#live"))
            assert not [url for url in page.requests if url.endswith("events")]
            page.requests.clear()
            page.loaded.clear()
            await asyncio.wait_for(page.loaded.wait(), 30)
            assert page.requests[0].endswith("/"), "it came again by itself"

    asyncio.run(check())


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
            assert seen.pop(0) == "Incidents"
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
                "Incidents", "Objectives", "The fleet, last 5 minutes", "Models", "Regions",
                "Uptime by day",
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


def test_it_works_below_a_path_and_behind_a_password() -> None:
    async def check() -> None:
        password = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
        source = Source()
        async with (
            served(source, "/ops/tokenpulse", {"sre": password}) as url,
            Browser.start() as browser,
        ):
            page = await browser.open(url.replace("http://", "http://sre:secret@"))
            await is_live(page)
            assert await page.evaluate("document.images[0].naturalWidth > 0")
            assert await page.evaluate("document.styleSheets[0].cssRules.length > 50")
            source.tell(WITH_INCIDENTS)
            await page.wait_for(text_of("#verdict") + " === 'Unhealthy'")
            assert page.console == []

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
