"""The live board in a real browser, over facts made by hand."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from exporters.board.facts import LiveFacts, LiveState
from exporters.board.live.routes import board_routes
from exporters.server.web_config import WebConfig, middleware
from tests.support.board_samples import WELL
from tests.support.browser import Browser, Page

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
