"""The page of an incident: its times, its places, and the charts around it."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from exporters.board.facts import LiveFacts, LiveState
from exporters.drill.history import HistoryCache
from exporters.drill.routes import DrillSource, drill_routes
from streams.config.settings import Settings
from tests.support.drill_pages import chart_values
from tests.support.exporter_state import NOW_S
from tests.support.live_facts import World, in_world, traffic

BEGIN_S, END_S = NOW_S - 60, NOW_S


def failing(**place: str) -> Callable[[dict[str, Any]], dict[str, str]]:
    def change(one: dict[str, Any]) -> dict[str, str]:
        is_down = BEGIN_S <= one["ended_at"] / 1_000 < END_S and place.items() <= one.items()
        return {"outcome": "server_error"} if is_down else {}

    return change


def page_of(
    settings: Settings,
    change: Callable[[dict[str, Any]], dict[str, str]],
    has_ended: bool,
    place: str | None = None,
) -> tuple[LiveFacts, str]:
    """The facts, and the page of the incident about failures, while it lasts or after it.

    `place`: address of the page of a place, which is returned instead.
    """
    events = traffic(4, 10, NOW_S - 600, NOW_S + 180, change)

    async def use(world: World) -> tuple[LiveFacts, str]:
        before = [one for one in events if one["ended_at"] <= NOW_S * 1_000]
        await world.writer.write(0, before, NOW_S)
        for at_s in (NOW_S - 10, NOW_S):
            facts = await world.facts(at_s)
        now_s = NOW_S
        (id_,) = (one.id for one in facts.incidents if one.key.startswith("failures"))
        if has_ended:
            now_s = NOW_S + 180
            await world.writer.write(0, events[len(before) :], now_s)
            facts = await world.facts(now_s)
        history = HistoryCache(settings)
        await history.read(now_s)
        source = DrillSource(lambda: LiveState(facts, None, 1.0), lambda: None, history, str)
        app = web.Application()
        app.add_routes(drill_routes(source))
        async with TestClient(TestServer(app)) as client:
            unknown = await client.get("/incident/zzz")
            assert (unknown.status, unknown.content_type) == (404, "text/plain")
            answer = await client.get(f"/{place or f'incident/{id_}'}")
            assert answer.status == 200
            return facts, await answer.text()

    return in_world(settings, use)


def terms(page: str) -> dict[str, str]:
    """The words of the list of times, by their term."""
    pairs = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)
    return {term: re.sub("<[^>]+>", "", words).replace("\u00a0", " ") for term, words in pairs}


def test_a_page_has_the_times_the_peak_the_places_and_the_runbook(
    configured: Callable[..., Settings],
) -> None:
    facts, page = page_of(configured(), failing(region="eu-west-1"), has_ended=True)
    (past,) = (one for one in facts.past_incidents if one.words.startswith("Region eu-west-1"))
    assert terms(page) == {
        "Start": "2023-11-14 22:13:15 UTC",
        "End": "2023-11-14 22:13:25 UTC",
        "Duration": "10 s",
        "At worst": past.peak,
        "Affected": terms(page)["Affected"],
    }
    assert re.fullmatch(r"3\d(\.\d)? % of the fleet", terms(page)["Affected"])
    assert 'Region <a href="../region/eu-west-1">eu-west-1</a>' in page
    assert '<a href="../runbooks/TokenpulseOutage">' in page
    assert f'data-from="{past.start_s}" data-to="{past.end_s}"' in page


@pytest.mark.parametrize("has_ended", [False, True])
@pytest.mark.parametrize(
    ("place", "is_listed"),
    [
        ("region/eu-west-1", True),
        ("model/opus", True),
        ("region/us-east-1", False),
        ("model/haiku", False),
    ],
)
def test_the_page_of_a_place_lists_the_incidents_there_and_no_others(
    configured: Callable[..., Settings], place: str, is_listed: bool, has_ended: bool
) -> None:
    change = failing(region="eu-west-1", model="opus")
    facts, page = page_of(configured(), change, has_ended, place)
    listed = facts.past_incidents if has_ended else facts.incidents
    (id_,) = (one.id for one in listed if ("region", "eu-west-1") in one.where)
    assert (f'href="../incident/{id_}"' in page) is is_listed


def test_the_charts_cover_the_time_around_it_at_its_place(
    configured: Callable[..., Settings],
) -> None:
    change = failing(region="eu-west-1", model="opus")
    _, page = page_of(configured(), change, has_ended=True)
    availability = chart_values(page)["availability"]["Availability"]
    times = sorted(availability)
    assert NOW_S - 10 - 300 - 30 <= times[0] <= NOW_S - 10 - 300
    assert times[-1] <= NOW_S + 180
    low = [at for at, ratio in availability.items() if ratio == 0]
    assert low  # nothing but failures: requests of other places are left out
    assert all(BEGIN_S - 30 < at < END_S for at in low)
    assert "ttft" not in chart_values(page)  # percentiles of a model in one region are not kept


def test_an_incident_of_the_fleet_has_its_charts_and_no_end(
    configured: Callable[..., Settings],
) -> None:
    _, page = page_of(configured(), failing(), has_ended=False)
    assert terms(page)["End"] == "not yet"
    assert terms(page)["Affected"].startswith("99.")
    assert "The whole fleet" in page
    values = chart_values(page)
    assert any(values["ttft"]["P95"].values())
    assert sum(value or 0 for value in values["requests"]["Requests"].values()) > 2_000


def test_without_numbers_the_page_is_not_there(configured: Callable[..., Settings]) -> None:
    async def ask() -> tuple[int, str]:
        live = LiveState(None, "Redis does not answer", 1.0)
        app = web.Application()
        source = DrillSource(lambda: live, lambda: None, HistoryCache(configured()), str)
        app.add_routes(drill_routes(source))
        async with TestClient(TestServer(app)) as client:
            answer = await client.get("/incident/0123456789ab")
            return answer.status, await answer.text()

    assert asyncio.run(ask()) == (503, "no incidents now: Redis does not answer\n")
