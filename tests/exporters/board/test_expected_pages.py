"""The board names a failing place, and the page that the burn-rate alerts will send about it."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from exporters.board.facts import Incident, LiveFacts, Notification, Severity
from exporters.board.incidents.notifications import (
    notification_tone,
    notification_words,
    overall_notification,
)
from tests.support.exporter_state import NOW_S
from tests.support.live_facts import World, failing, in_world, traffic

BURN = "TokenpulseErrorBudgetBurn"


def facts_over_time(
    settings: Any, events: Sequence[dict[str, Any]], times_s: Sequence[int]
) -> list[LiveFacts]:
    """Return the facts at these times of a state that counts the events as they end."""

    async def use(world: World) -> list[LiveFacts]:
        seen, from_s = [], 0
        for at_s in times_s:
            new = [one for one in events if from_s <= one["ended_at"] / 1_000 < at_s]
            await world.writer.write(0, new, at_s)
            from_s = at_s
            seen.append(await world.facts(at_s))
        return seen

    return in_world(settings, use)


def the_place(facts: LiveFacts) -> Incident:
    (incident,) = (one for one in facts.incidents if one.key.startswith("failures"))
    return incident


@pytest.mark.parametrize("past_s", [600, 3_700])
def test_a_region_that_fails_in_part_is_told_with_the_page_that_follows(
    configured: Callable[..., Any], past_s: int
) -> None:
    #  NOW_S  every third request of a third of all fails: 111 times the budget of 99.9 %
    #  +466 s  as much is spent as 14.4 times the budget spends in an hour: the page
    def change(one: dict[str, Any]) -> dict[str, Any]:
        number = int(one["request_id"].split("-")[1])
        region = ("eu-west-1", "us-east-1", "ap-south-1")[number % 3]
        fails = number % 9 == 0 and one["ended_at"] >= NOW_S * 1_000
        return {"region": region} | ({"outcome": "server_error"} if fails else {})

    events = traffic(5, 6, NOW_S - past_s, NOW_S + 560, change)
    times_s = range(NOW_S + 60, NOW_S + 561, 20)
    seen = facts_over_time(configured(), events, times_s)
    firing_s = next(
        facts.made_at_s
        for facts in seen
        if any(one.alert == BURN and one.notification.state == "firing" for one in facts.incidents)
    )
    assert firing_s - NOW_S == pytest.approx(466, abs=60)
    states = [the_place(facts).notification.state for facts in seen]
    assert states == sorted(states, key=["expected", "pending", "firing"].index)
    before = seen[: states.count("expected")]
    assert len(before) > 10
    for facts in before:
        place = the_place(facts)
        assert place.where == (("region", "eu-west-1"),)
        assert place.notification.state == "expected"
        # Burn rates are those of the last minute that is over; the share of failures has noise.
        ahead_s = firing_s - facts.made_at_s
        assert place.notification.at_s == pytest.approx(firing_s, abs=60 + 0.25 * ahead_s)
        assert re.fullmatch("Would page in about [0-9]+ (s|min)", facts.notification)
    # Then the early sign and the alert on the budget say the same, and one incident went on.
    last = seen[-1]
    assert the_place(last).notification == Notification("firing", firing_s)
    assert last.notification.startswith("Paging since ")
    assert {the_place(facts).id for facts in seen} == {the_place(last).id}


def test_failures_that_no_page_follows_are_told_with_their_ticket_or_none(
    configured: Callable[..., Any],
) -> None:
    # 40 % of a hundredth fail: four times the budget, which is a ticket after most of a day.
    small = failing(NOW_S - 600, share=0.4, model="small")

    def change(one: dict[str, Any]) -> dict[str, Any]:
        is_small = int(one["request_id"].split("-")[1]) % 100 == 0
        model: dict[str, Any] = {"model": "small"} if is_small else {}
        return {**model, **small(one | model)}

    (facts,) = facts_over_time(configured(), traffic(5, 60, NOW_S - 900, NOW_S, change), [NOW_S])
    place = next((one for one in facts.incidents if one.where == (("model", "small"),)), None)
    assert place is not None
    assert notification_words(place, NOW_S).startswith("Ticket in about ")


def test_failures_that_stop_are_expected_to_page_no_one(configured: Callable[..., Any]) -> None:
    inside = failing(NOW_S, share=0.4, region="eu-west-1")

    def change(one: dict[str, Any]) -> dict[str, Any]:
        return {} if one["ended_at"] >= (NOW_S + 60) * 1_000 else inside(one)

    events = traffic(5, 40, NOW_S - 600, NOW_S + 90, change)
    times_s = range(NOW_S + 10, NOW_S + 86, 5)
    seen = facts_over_time(configured(), events, times_s)
    recovering = [the_place(facts) for facts in seen if the_place(facts).is_recovering]
    assert recovering
    assert {one.notification for one in recovering} == {Notification()}


@pytest.mark.parametrize(
    ("severity", "ahead_s", "words"),
    [
        ("page", 0.4, "Would page in about 10 s"),
        ("page", 44, "Would page in about 50 s"),
        ("page", 320, "Would page in about 6 min"),
        ("page", 1_930, "Would page in about 35 min"),
        ("page", 7_000, "Would page in about 2 h"),
        ("ticket", 32_000, "Ticket in about 9 h"),
        ("ticket", 131_000, "Ticket in about 1 d 13 h"),
    ],
)
def test_an_expected_notification_in_words(severity: Severity, ahead_s: float, words: str) -> None:
    notification = Notification("expected", NOW_S + ahead_s, severity)
    incident = Incident("page", "x", None, notification=notification)
    assert notification_words(incident, NOW_S) == words
    assert notification_tone(incident) == severity
    # A ticket that fires is less urgent than a page, and more than a ticket that is expected.
    ticket = Incident("ticket", "y", None, notification=Notification("firing", NOW_S - 60))
    told = overall_notification([incident, ticket], NOW_S)
    assert told.startswith(words if severity == "page" else "Ticket since ")
