"""The daily board over HTTP: /daily, its other formats, and JSON for programs.

`?date=` selects a day, `?period=` a week or month; the default is the last closed day.
Addresses in the page are relative.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from exporters.daily.cache import BusyError
from exporters.daily.day.facts import PERIODS, DailyFacts, PeriodKind
from exporters.daily.render.data import csv_text, json_text
from exporters.daily.render.html import content_security_policy, html, problem_page
from exporters.daily.render.pdf import pdf
from exporters.daily.render.view import period_of
from streams.errors import RequestError
from streams.store.contract import StoreError

# (YYYY-MM-DD, `today` or `yesterday`; day, week or month) -> its board; None if no event was ever
# counted. Raises BusyError, StoreError, RequestError.
BoardSource = Callable[[str, PeriodKind], Awaitable[DailyFacts | None]]

NOTHING_YET = "Nothing was counted yet: no worker has seen an event."
_AGAIN_S = "5"
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class _Format:
    """One way to show a board."""

    content_type: str
    render: Callable[[DailyFacts], bytes]
    ending: str
    saved: bool = False  # a browser keeps it as a file rather than showing it


_PAGE = _Format("text/html", lambda facts: html(facts, served=True).encode(), "html")
_JSON = _Format("application/json", lambda facts: json_text(facts).encode(), "json")
FORMATS: Mapping[str, _Format] = {
    "/daily": _PAGE,
    "/daily.json": _JSON,
    "/api/v1/daily": _JSON,
    "/daily.csv": _Format("text/csv", lambda facts: csv_text(facts).encode(), "csv", saved=True),
    "/daily.pdf": _Format("application/pdf", pdf, "pdf"),
}


def daily_routes(source: BoardSource) -> list[web.RouteDef]:
    """Return the routes of the board that `source` has."""
    return [web.get(path, _answerer(source, found)) for path, found in FORMATS.items()]


def _answerer(
    source: BoardSource, found: _Format
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            kind = _kind_of(request.query.get("period", "day"))
            facts = await source(request.query.get("date", "yesterday"), kind)
        except RequestError as error:
            return _refusal(found, 404, "No such day", str(error))
        except (BusyError, StoreError) as error:
            return _refusal(found, 503, "No daily board now", str(error))
        if facts is None:
            return _refusal(found, 503, "No daily board yet", NOTHING_YET)
        # In a thread: the PDF takes a tenth of a second, in which no scrape could be answered.
        body = await asyncio.to_thread(found.render, facts)
        headers = dict(_SAFE)
        if found is _PAGE:
            headers["Content-Security-Policy"] = _policy()
        else:
            how = "attachment" if found.saved else "inline"
            name = f"daily-{period_of(facts).label}.{found.ending}"
            headers["Content-Disposition"] = f'{how}; filename="{name}"'
        if found.content_type.startswith("text/"):
            headers["Content-Type"] = f"{found.content_type}; charset=utf-8"
        else:
            headers["Content-Type"] = found.content_type
        return web.Response(body=body, headers=headers)

    return answer


def _kind_of(text: str) -> PeriodKind:
    for kind in PERIODS:
        if text == kind:
            return kind
    raise RequestError(
        f"period: got {text[:40]!r}; write {', '.join(PERIODS[:-1])} or {PERIODS[-1]}"
    )


def _refusal(found: _Format, status: int, title: str, words: str) -> web.Response:
    headers = dict(_SAFE)
    if status == 503:
        headers["Retry-After"] = _AGAIN_S
    # A message may quote the request; no line break of it reaches a header or a log.
    words = " ".join(words.split())
    if found is _PAGE:
        headers["Content-Security-Policy"] = _policy()
        page = problem_page(words, title)
        return web.Response(text=page, status=status, headers=headers, content_type="text/html")
    if found is _JSON:
        return web.json_response({"error": words}, status=status, headers=headers)
    return web.Response(text=f"{words}\n", status=status, headers=headers)


def _policy() -> str:
    return f"{content_security_policy()}; frame-ancestors 'none'"
