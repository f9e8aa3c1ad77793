"""The live board in a real browser, over facts made by hand: how it looks and updates."""

import asyncio
import json
from dataclasses import replace

import bcrypt
import pytest

from exporters.board.facts import Incident, LiveFacts, Notification, PastIncident
from exporters.board.live import routes
from exporters.formatting import unbroken
from tests.support.board_browser import LOOKS, PHONE, Source, is_live, opened, served, text_of
from tests.support.board_samples import STALE, WELL, WITH_INCIDENTS
from tests.support.browser import Browser, Page
from tokenpulse.local.embedded import free_port

pytestmark = pytest.mark.stack  # needs Chromium


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
            assert await cut_tables(page) == []

    asyncio.run(check())


def test_three_incidents_are_whole_on_the_screen_of_an_operator() -> None:
    #  with the longest words that faults in the simulated traffic had
    words = (
        "Model aurora-4-code: 44.4 % of 126 requests failed in the last 11 s, 24.2 % of 521 in the "
        "last minute (server_error); elsewhere 0.12 %.",
        "Objective uptime burns its error budget at 14.6× the sustainable rate over the last hour "
        "(a page above 14.4×; 1 h window, 43 min of data): 61.2 % of it is left.",
        "Region eu-west-1 recovers: 6.6 % of 91 requests failed in the last 11 s, 42 % of 396 in "
        "the last minute (server_error); elsewhere 3.6 %.",
    )
    incidents = tuple(
        Incident(
            "page",
            text,
            "TokenpulseErrorBudgetBurn",
            "TokenpulseErrorBudgetBurn",
            notification=Notification("firing", WELL.made_at_s - 100),
            since_s=WELL.made_at_s - 149,
            peak="burned 14.6× too fast",
            affected_ratio=0.162,
            id=f"incident-{at}",
        )
        for at, text in enumerate(words)
    )

    async def check() -> None:
        facts = replace(WITH_INCIDENTS, incidents=incidents)
        async with opened(facts, width=1440, height=900) as (page, _):
            hidden = await page.evaluate(
                """(() => {
                  const list = document.querySelector('.incidents');
                  return list.scrollHeight - list.clientHeight;
                })()"""
            )
            assert hidden == 0

    asyncio.run(check())


async def cut_tables(page: Page) -> list[str]:
    """Return the sections whose table is wider than its place on the page."""
    found: list[str] = await page.evaluate(
        """['objectives', 'models', 'regions'].filter((id) => {
          const place = document.querySelector(`#${id} .scroll`);
          return place.scrollWidth > place.clientWidth;
        })"""
    )
    return found


@pytest.mark.parametrize("width", [1200, 1280, 1410, 1440, 1920])
def test_no_table_is_cut_on_a_screen_of_any_usual_width(width: int) -> None:
    burn = (("5m", 134.25), ("1h", 23.1), ("6h", 12.4), ("3d", 12.6))
    name = "largest-customer"
    rows = tuple(
        replace(row, objective=name, scope="customer Zephyrine Energy", burn=burn)
        for row in WITH_INCIDENTS.objectives
    )

    async def check() -> None:
        facts = replace(WITH_INCIDENTS, objectives=rows)
        async with opened(facts, width=width, height=900) as (page, _):
            assert await cut_tables(page) == []

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
