"""Alerts that are kept firing after their condition ended: shown, as a person is notified still."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from exporters.board.facts import Incident, LiveFacts, State
from slo.alert_state import AlertState
from tests.support.exporter_state import NOW_S
from tests.support.live_board import FixedRules, facts_under, facts_with
from tests.support.live_facts import World, in_world, traffic

# Its condition ended 100 s ago, and the page stays open for 8 minutes.
KEPT = AlertState(
    "TokenpulseOutage",
    "page",
    {"route": "sre"},
    {"scope": "region", "region": "eu-west-1"},
    0.2,
    NOW_S - 300,
    NOW_S - 280,
    holds=False,
    for_s=20.0,
    ended_at_s=NOW_S - 100,
    keep_firing_s=480.0,
)


def over(facts: LiveFacts) -> list[Incident]:
    return [incident for incident in facts.incidents if incident.is_over]


@pytest.mark.parametrize(
    ("severity", "noun", "notification"),
    [("page", "page", "Paging since 22:08 UTC"), ("ticket", "ticket", "Ticket since 22:08 UTC")],
)
def test_a_kept_alert_is_named_and_the_banner_is_not_green(
    configured: Callable[..., Any], severity: str, noun: str, notification: str
) -> None:
    rules = FixedRules([replace(KEPT, severity=severity)])
    facts = facts_under(configured(), rules, cold=False)
    (incident,) = facts.incidents
    assert incident.words == (
        "Over since 22:11 UTC: TokenpulseOutage (region eu-west-1). "
        f"Its {noun} stays open until 22:19 UTC, in case the fault returns."
    )
    assert (facts.state, facts.notification) == ("at_risk", notification)
    assert facts.headline == incident.words
    # It is no incident of now, so the log of incidents has none.
    assert incident.since_s is None


def test_an_exporter_that_restarts_still_shows_that_a_page_is_open(
    configured: Callable[..., Any],
) -> None:
    def fail(one: dict[str, Any]) -> dict[str, str]:
        return {"outcome": "server_error"} if one["ended_at"] < (NOW_S - 100) * 1_000 else {}

    events = traffic(3, 10, NOW_S - 700, NOW_S, fail)

    async def use(world: World) -> tuple[list[Incident], list[Incident]]:
        at_s = NOW_S - 700
        for until_s in range(NOW_S - 200, NOW_S, 10):
            new = [one for one in events if at_s * 1_000 <= one["ended_at"] < until_s * 1_000]
            await world.writer.write(0, new, until_s)
            at_s, facts = until_s, await world.facts(until_s)
        again = World(world.settings)
        try:
            return over(facts), over(await again.facts(NOW_S - 9))
        finally:
            await again.close()

    before, after = in_world(configured(), use)
    assert before
    assert [(one.key, one.notification) for one in after] == [
        (one.key, one.notification) for one in before
    ]


@pytest.mark.parametrize(
    ("place", "count", "state"),
    [("eu-west-1", 0, "breached"), ("us-east-1", 1, "breached")],
)
def test_a_kept_alert_is_not_repeated_beside_the_incident_of_its_place(
    configured: Callable[..., Any], place: str, count: int, state: State
) -> None:
    series = {"scope": "region", "region": place}
    holds = replace(KEPT, series=series, holds=True, ended_at_s=None)
    facts = facts_under(configured(), FixedRules([holds, KEPT]), cold=False)
    assert len(over(facts)) == count
    assert facts.state == state


def test_an_outage_that_recovers_slowly_is_paging_as_long_as_its_alert_is_kept(
    configured: Callable[..., Any],
) -> None:
    #  eu-west-1:  all fail ....... | 30 % fail: below the condition of the outage alert
    chance = random.Random(5)

    def fail(one: dict[str, Any]) -> dict[str, str]:
        hit = one["region"] == "eu-west-1" and chance.random() < 0.3
        return {"outcome": "server_error"} if hit else {}

    events = traffic(3, 10, NOW_S - 300, NOW_S, fail)
    facts = facts_with(configured(), FixedRules([KEPT]), events)
    (outage,) = [incident for incident in facts.incidents if incident.alert == KEPT.alert]
    assert outage.words.startswith("Region eu-west-1: ")
    assert not outage.is_over
    assert (facts.state, facts.notification) == ("breached", "Paging since 22:08 UTC")


def test_a_fault_elsewhere_is_not_the_outage_whose_alert_is_kept(
    configured: Callable[..., Any],
) -> None:
    #  10 % fail in all regions alike, after the outage of eu-west-1
    chance = random.Random(5)
    fails = {"outcome": "stream_error"}
    events = traffic(3, 10, NOW_S - 300, NOW_S, lambda one: fails if chance.random() < 0.1 else {})
    facts = facts_with(configured(), FixedRules([KEPT]), events)
    new = [incident for incident in facts.incidents if not incident.is_over]
    assert [incident.notification.state for incident in new] == ["expected"]
    assert len(over(facts)) == 1


def test_places_of_one_kept_alert_are_one_line_until_the_last_ends(
    configured: Callable[..., Any],
) -> None:
    series = {"scope": "region", "region": "us-east-1"}
    later = replace(KEPT, series=series, ended_at_s=NOW_S - 40)
    (incident,) = over(facts_under(configured(), FixedRules([KEPT, later]), cold=False))
    assert "TokenpulseOutage (region eu-west-1 and region us-east-1)" in incident.words
    assert "until 22:20 UTC" in incident.words


def test_a_notification_that_is_not_about_the_headline_names_its_alert(
    configured: Callable[..., Any],
) -> None:
    # The region of the headline fails now; the open page is about another one.
    def fail(one: dict[str, Any]) -> dict[str, str]:
        hit = one["region"] == "us-east-1" and one["ended_at"] >= (NOW_S - 20) * 1_000
        return {"outcome": "server_error"} if hit else {}

    events = traffic(3, 10, NOW_S - 300, NOW_S, fail)
    facts = facts_with(configured(), FixedRules([KEPT]), events)
    assert facts.headline.startswith("Region us-east-1: ")
    about = "TokenpulseOutage (region eu-west-1, over)"
    assert facts.notification == f"Paging since 22:08 UTC: {about}"
