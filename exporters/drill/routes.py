"""The pages of places, incidents and runbooks over HTTP: `/model/<name>?range=1h` and the like.

Login is that of the whole exporter (server/web_config.py). Addresses in a page are relative.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from aiohttp import web

from exporters.board.alerts import CLIENT_ERRORS, CUSTOMER_FLOOD, CUSTOMER_SILENT, RATE_LIMITED
from exporters.board.facts import Incident, LiveFacts, LiveState, PastIncident
from exporters.drill.affected import parts_of
from exporters.drill.current import CurrentWindow
from exporters.drill.history import HistoryCache
from exporters.drill.page import (
    IncidentView,
    PlaceView,
    customers_page,
    incident_page,
    near_names,
    place_page,
    runbook_page,
    shown_name,
)
from exporters.drill.place import (
    ChartTargets,
    Place,
    charts,
    names_of,
    place_history,
)
from exporters.drill.ranges import DEFAULT_RANGE, RANGES, ChartRange
from exporters.drill.runbooks import INDEX, runbook_names
from exporters.drill.slowest import slowest_requests
from exporters.drill.steps import RangeHistory, StepFigures
from exporters.formatting import enumeration
from exporters.place_links import DIMENSION_OF, OTHERS, place_address
from exporters.static_files import SAFE_HEADERS, static_route
from streams.events.fields import OTHER

MARGIN_MIN_S = 300.0  # of the charts of an incident, before and after it
# Alert -> the chart that shows it best, which is the first on the page of its incident.
_CHART_OF = {
    "TokenpulseCacheHitLow": "cache",
    "TokenpulseCachedTokensUnreported": "cache",
    "TokenpulseTtftHigh": "ttft",
    "TokenpulseTpotHigh": "tpot",
    "TokenpulseDurationHigh": "duration",
    "TokenpulseTokenVolumeDrop": "tokens",
    CUSTOMER_FLOOD: "requests",
    CUSTOMER_SILENT: "requests",
    CLIENT_ERRORS: "outcomes",
    RATE_LIMITED: "outcomes",
}
_FRESH = {**SAFE_HEADERS, "Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class DrillSource:
    """The sources of the pages; none of them blocks."""

    live: Callable[[], LiveState]
    current: Callable[[], CurrentWindow | None]
    history: HistoryCache
    name_of: Callable[[str], str]  # token of a customer -> its name
    trace_url: str | None = None  # address of a trace, with `{trace_id}` in it


def drill_routes(source: DrillSource) -> list[web.RouteDef]:
    """Return the routes of the pages, and of their static files."""

    async def show(request: web.Request) -> web.Response:
        kind = request.match_info["kind"]
        # Browsers remove `.` and `..` from a path, so such a name comes as a parameter.
        name = request.match_info.get("name", request.query.get("name", ""))
        place = Place(kind, OTHER if name == OTHERS else name)
        chart_range = RANGES.get(request.query.get("range", DEFAULT_RANGE))
        if chart_range is None:
            return _plain(400, f"range: choose one of {', '.join(RANGES)}")
        base = "../" if "name" in request.match_info else ""
        # Some milliseconds of work, in which this loop answers other requests.
        return await asyncio.to_thread(_answer, source, place, chart_range, base)

    async def customers(request: web.Request) -> web.Response:
        return await asyncio.to_thread(_customers, source)

    async def incident(request: web.Request) -> web.Response:
        return await asyncio.to_thread(_incident, source, request.match_info["id"])

    async def runbook(request: web.Request) -> web.Response:
        name = request.match_info.get("alert", INDEX)
        if name not in (INDEX, *runbook_names()):
            near = near_names(name, runbook_names())
            also = f"; near names: {enumeration(near)}" if near else "; /runbooks/ lists all"
            return _plain(404, f"no runbook {name!r}{also}")
        return web.Response(text=runbook_page(name), content_type="text/html", headers=SAFE_HEADERS)

    async def list_runbooks(request: web.Request) -> web.Response:
        # Relative, as the exporter may be below a path of a reverse proxy.
        raise web.HTTPMovedPermanently("runbooks/")

    kinds = "|".join(DIMENSION_OF)
    return [
        web.get(f"/{{kind:{kinds}}}/{{name}}", show),
        web.get(f"/{{kind:{kinds}}}", show),
        web.get("/customers", customers),
        web.get("/incident/{id}", incident),
        web.get("/runbooks", list_runbooks),
        web.get("/runbooks/", runbook),
        web.get("/runbooks/{alert}", runbook),
        static_route("exporters.drill"),
    ]


def _answer(source: DrillSource, place: Place, chart_range: ChartRange, base: str) -> web.Response:
    history = source.history.history(chart_range)
    current = source.current()
    now = None if current is None else current.row(place.kind, place.name)
    if history is not None and now is None:
        known = names_of(history, place.dimension)
        if place.name not in known:
            return _unknown(place, known, base)
    if place.kind == "customer" and any(not step.is_exact(place.name) for step in _steps(history)):
        source.history.ask(chart_range, place.name)
    of_place = None if history is None else place_history(history, place.where)
    live = source.live()
    targets = _targets(live.facts)
    title = source.name_of(place.name) if place.kind == "customer" else shown_name(place.name)
    view = PlaceView(
        place,
        title,
        live,
        now,
        of_place,
        () if of_place is None else charts(of_place, targets),
        () if history is None else parts_of(history, place.where),
        source.name_of,
        ()
        if history is None
        else slowest_requests(
            history.exemplars, place, history.watermark_s - chart_range.span_s, source.trace_url
        ),
    )
    return web.Response(
        text=place_page(view, chart_range.name, base), content_type="text/html", headers=_FRESH
    )


def _customers(source: DrillSource) -> web.Response:
    current = source.current()
    page = customers_page(
        None if current is None else current.customers(), source.live(), source.name_of
    )
    return web.Response(text=page, content_type="text/html", headers=_FRESH)


def _incident(source: DrillSource, incident_id: str) -> web.Response:
    live = source.live()
    facts = live.facts
    if facts is None:
        return _plain(503, f"no incidents now: {live.problem or 'no event was counted yet'}")
    incidents: tuple[Incident | PastIncident, ...] = (*facts.incidents, *facts.past_incidents)
    # An incident that two exporters saw has no id until one of them has recorded it.
    known = {incident.id: incident for incident in incidents if incident.id}
    incident = known.get(incident_id)
    if incident is None:
        return _plain(404, f"no incident {incident_id!r} in the last 24 hours; / lists all of them")
    view = IncidentView(incident, live, facts.made_at_s, None, (), source.name_of)
    end_s = facts.made_at_s if view.end_s is None else view.end_s
    # Some time before and after, so that the change is in the picture.
    margin_s = max(MARGIN_MIN_S, (end_s - view.start_s) / 4)
    from_s, to_s = view.start_s - margin_s, end_s + margin_s
    chart_range = next(
        (each for each in RANGES.values() if facts.made_at_s - from_s <= each.span_s),
        RANGES["24h"],
    )
    history = source.history.history(chart_range)
    if history is not None:
        places = tuple(pair for pair in incident.where if pair[0] in DIMENSION_OF.values())
        past = place_history(history, places, from_s, to_s)
        view = replace(
            view,
            history=past,
            charts=charts(past, _targets(facts), _CHART_OF.get(incident.alert or "")),
            # Who is affected comes first.
            parts=sorted(
                parts_of(history, places, view.start_s, end_s, is_incident=True),
                key=lambda parts: parts.kind != "customer",
            ),
        )
    return web.Response(text=incident_page(view), content_type="text/html", headers=_FRESH)


def _steps(history: RangeHistory | None) -> Sequence[StepFigures]:
    return () if history is None else history.steps


def _targets(facts: LiveFacts | None) -> ChartTargets:
    if facts is None:
        return ChartTargets()
    return ChartTargets(
        facts.availability_ratio.target, facts.ttft_p95_s.target, facts.tpot_p95_s.target
    )


def _unknown(place: Place, known: list[str], base: str) -> web.Response:
    near = near_names(place.name, known)
    words = f"{place.kind} {place.name!r}: no requests of it were counted"
    if near:
        addresses = enumeration([base + place_address(place.kind, name) for name in near])
        words += f"; near names: {addresses}"
    return _plain(404, words)


def _plain(status: int, words: str) -> web.Response:
    # Plain text, so that a name from the address cannot become markup.
    return web.Response(text=words + "\n", status=status, headers=_FRESH)
