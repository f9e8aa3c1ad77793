"""The status page over HTTP: the page, the feed and the JSON documents."""

import asyncio
import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from exporters.status_page.api import DOCUMENTS, document
from exporters.status_page.cache import StatusCache
from exporters.status_page.facts import StatusFacts
from exporters.status_page.feed import rss
from exporters.status_page.html import content_security_policy, status_html

PATH = "/status"
_MAX_AGE_S = 10  # readers come by the thousand in an incident; proxies may keep the page so long
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": f"public, max-age={_MAX_AGE_S}",
}
# Programs on other sites read these documents, as they read those of hosted pages.
_ANY_ORIGIN = {"Access-Control-Allow-Origin": "*"}


def status_routes(cache: StatusCache, root: str = PATH) -> list[web.RouteDef]:
    """Return the routes; `root`: the page's path, "" if it has a port of its own."""

    def answer(
        content_type: str, render: Callable[[StatusFacts], str | bytes], headers: dict[str, str]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            facts = cache.facts()
            if facts is None:
                return web.Response(
                    text="The status cannot be read now.\n",
                    status=503,
                    headers={**_SAFE, "Cache-Control": "no-store", "Retry-After": "5"},
                )
            body = await asyncio.to_thread(render, facts)
            data = body if isinstance(body, bytes) else body.encode()
            return web.Response(
                body=data, headers={**_SAFE, **headers, "Content-Type": content_type}
            )

        return handle

    # Relative to the page, so that it works below any path of a reverse proxy.
    base = f"{root.rpartition('/')[2]}/" if root else ""
    policy = {"Content-Security-Policy": content_security_policy()}
    page = answer("text/html; charset=utf-8", lambda facts: status_html(facts, base), policy)
    feed = answer("application/rss+xml; charset=utf-8", rss, {})
    routes = [web.get(root or "/", page), web.get(f"{root}/history.rss", feed)]
    for name in DOCUMENTS:
        routes.append(
            web.get(
                f"{root}/api/v2/{name}",
                answer("application/json; charset=utf-8", _json_of(name), _ANY_ORIGIN),
            )
        )
    return routes


def _json_of(name: str) -> Callable[[StatusFacts], str]:
    return lambda facts: json.dumps(document(facts, name))
