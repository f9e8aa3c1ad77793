"""The page of an incident: its times, its places, and the charts around it."""

import asyncio
import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from exporters.board.facts import Incident, LiveFacts, LiveState
from exporters.drill.history import HistoryCache
from exporters.drill.page import IncidentView
from exporters.drill.routes import DrillSource, drill_routes
from exporters.formatting import rfc3339
from streams.config.settings import Settings
from tests.support.board_samples import WELL
from tests.support.drill_pages import chart_values
from tests.support.exporter_state import NOW_S, StateWriter, token_of
from tests.support.live_facts import World, in_world, traffic

BEGIN_S, END_S = NOW_S - 60, NOW_S
COLD = Incident("page", "The cache fails.", None, "TokenpulseCacheHitLow", since_s=NOW_S - 60.0)


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


def test_the_customers_that_an_incident_hit_are_listed_from_its_start(
    configured: Callable[..., Settings],
) -> None:
    #  acct-0 to acct-4 have failures before it, acct-5 to acct-7 in eu-west-1 during it
    down = failing(region="eu-west-1")

    def change(one: dict[str, Any]) -> dict[str, str]:
        at = int(one["request_id"].partition("-")[2]) % 8
        named = {"customer_id": f"acct-{at}"}
        if at < 5:
            is_early = one["ended_at"] < (NOW_S - 300) * 1_000
            return named | ({"outcome": "server_error"} if is_early else {})
        return named | down(one)

    facts, page = page_of(configured(), change, has_ended=True)
    (past,) = (one for one in facts.past_incidents if ("region", "eu-west-1") in one.where)
    table = page.partition('id="parts-customer"')[2].partition("</section>")[0]
    row = r'<tr data-name="(\w+)">.*?data-label="Failed"><span[^>]*data-value="(\d+)"'
    failed = [(name, int(count)) for name, count in re.findall(row, table, re.DOTALL)]
    assert [count for _, count in failed] == sorted((n for _, n in failed), reverse=True)
    hit = {token_of(f"acct-{at}") for at in (5, 6, 7)}
    assert {name for name, count in failed if count} == hit
    assert "these are their requests in all regions, channels and tiers" in table
    assert page.index("Customers during it") < page.index("Models during it")
    assert '<a href="#parts-customer">3 customers</a> with failures during it' in page
    begin = rfc3339(past.start_s - past.start_s % 10)
    assert f"tokenpulse report --from {begin} --to " in page
    assert " --step 10s --by region</code>" in page


def test_an_outage_that_lasts_has_the_command_that_silences_it(
    configured: Callable[..., Settings],
) -> None:
    _, page = page_of(configured(), failing(region="eu-west-1"), has_ended=False)
    assert "alertname=TokenpulseOutage &#39;region=&#34;eu-west-1&#34;&#39;</code>" in page


@pytest.mark.parametrize("name", ['a"$(id)`id`', "a'b\\", "two words; id\n#", "*"])
def test_a_command_to_copy_passes_the_name_of_a_place_as_one_word(name: str) -> None:
    incident = Incident("page", "x", None, "TokenpulseOutage", where=(("model", name),))
    view = IncidentView(incident, LiveState(WELL, None, 1.0), WELL.made_at_s, None, ())
    printed = ["sh", "-c", f"printf '%s\\0' {view.silence_command}"]
    *_, alert, matcher = subprocess.run(
        printed, capture_output=True, check=True, text=True
    ).stdout.split("\0")[:-1]
    assert alert == "alertname=TokenpulseOutage"
    # Alertmanager reads a quoted value as JSON does, for these characters.
    label, _, value = matcher.partition("=")
    assert (label, json.loads(value)) == ("model", name)


def test_the_chart_of_a_cache_failure_is_the_first(configured: Callable[..., Settings]) -> None:
    facts = replace(WELL, incidents=(replace(COLD, id="cold"),))
    history = HistoryCache(configured())

    async def ask() -> str:
        writer = StateWriter(configured())
        await writer.write(0, traffic(4, 10, NOW_S - 300, NOW_S), NOW_S)
        await writer.close()
        await history.read(NOW_S)
        live = LiveState(replace(facts, made_at_s=NOW_S), None, 1.0)
        app = web.Application()
        app.add_routes(drill_routes(DrillSource(lambda: live, lambda: None, history, str)))
        async with TestClient(TestServer(app)) as client:
            return await (await client.get("/incident/cold")).text()

    assert re.findall(r'id="chart-(\w+)"', asyncio.run(ask()))[:2] == ["cache", "availability"]
