"""Outages as incidents of the live board: where they are, how bad, and since when."""

from collections.abc import Callable
from typing import Any

import pytest

from exporters.board.facts import Notification
from slo.alert_state import AlertState
from streams.events.decoder import ELIGIBLE
from tests.support.exporter_state import NOW_S
from tests.support.live_board import FixedRules, facts_of, facts_with
from tests.support.live_facts import World, failing, in_world, told, traffic


def share_failed(events: list[dict[str, Any]], from_s: int, **place: Any) -> tuple[float, int]:
    """(share in percent, requests) of a place since `from_s`: what a child could count."""
    mine = [
        one
        for one in events
        if one["ended_at"] >= from_s * 1_000
        and place.items() <= one.items()
        and one["outcome"] in ELIGIBLE
    ]
    failed = sum(one["outcome"] != "success" for one in mine)
    return 100 * failed / len(mine), len(mine)


@pytest.mark.parametrize(
    ("place", "words", "alert"),
    [
        ({"region": "eu-west-1"}, "Region eu-west-1: ", "TokenpulseOutage"),
        ({"model": "sonnet"}, "Model sonnet: ", "TokenpulseOutage"),
        # The outage rule looks at the fleet, regions and models; these are less than half of each.
        ({"channel": "bedrock"}, "Channel bedrock: ", "TokenpulseErrorBudgetBurn"),
        (
            {"model": "opus", "region": "us-east-1"},
            "Model opus in region us-east-1: ",
            "TokenpulseErrorBudgetBurn",
        ),
    ],
)
def test_an_outage_is_told_with_its_place_its_share_and_how_it_is_elsewhere(
    configured: Callable[..., Any], place: dict[str, Any], words: str, alert: str
) -> None:
    #  fine ............................ | 40 s of failures |
    #  22:03:25                    22:12:45          22:13:25
    events = traffic(3, 20, NOW_S - 600, NOW_S, failing(NOW_S - 40, **place))
    facts = facts_of(configured(), events[::2], events[1::2])
    first = facts.incidents[0]
    share, requests = share_failed(events, NOW_S - 55, **place)
    _, newest = share_failed(events, NOW_S - 15, **place)
    assert first.words == (
        f"{words}100 % of {newest} requests failed in the last 15 s, {share:.1f} % of {requests} "
        "in the last minute (server_error); elsewhere 0 %."
    )
    # Neither the peak nor the affected share is diluted by the time before the fault.
    assert first.peak == "100 % failed"
    everywhere = share_failed(events, NOW_S - 15)[1]
    assert first.affected_ratio == pytest.approx(newest / everywhere)
    assert (first.severity, first.alert) == ("page", alert)
    outages = [one for one in facts.incidents if one.alert == "TokenpulseOutage"]
    assert len(outages) == (alert == "TokenpulseOutage")
    assert facts.state == "breached"
    assert facts.headline.startswith(first.words)
    named = {"region": facts.regions, "model": facts.models}
    for dimension, name in place.items():
        if dimension in named and len(place) == 1:
            assert named[dimension][0].name == name
            assert named[dimension][0].state == "breached"


def test_five_seconds_of_an_outage_are_enough(configured: Callable[..., Any]) -> None:
    settings = configured()
    events = traffic(4, 50, NOW_S - 600, NOW_S, failing(NOW_S - 5, region="eu-west-1"))
    first = facts_of(settings, events).incidents[0]
    share, requests = share_failed(events, NOW_S - 55, region="eu-west-1")
    assert 5 < share < 15  # of the minute, as the rest of it was fine
    assert f", {share:.1f} % of {requests} in the last minute (" in first.words
    newest, count = share_failed(events, NOW_S - 15, region="eu-west-1")
    begin = f"Region eu-west-1: {newest:.1f} % of {count} requests failed in the last 15 s, "
    assert first.words.startswith(begin)
    assert (first.severity, first.alert) == ("page", "TokenpulseErrorBudgetBurn")


def test_an_outage_that_ended_says_that_it_is_over_just_now(configured: Callable[..., Any]) -> None:
    #  fine ... | 30 s of failures | 20 s fine |
    begin_s = NOW_S - 50

    def ended(one: dict[str, Any]) -> dict[str, str]:
        down = begin_s <= one["ended_at"] / 1_000 < NOW_S - 20 and one["region"] == "eu-west-1"
        return {"outcome": "server_error"} if down else {}

    facts = facts_of(configured(), traffic(4, 20, NOW_S - 600, NOW_S, ended))
    assert facts.incidents[0].words.startswith("Region eu-west-1 recovers: 0 % of ")
    assert facts.incidents[0].peak != "0 % failed"


def test_the_models_are_shown_without_the_region_that_fails(
    configured: Callable[..., Any],
) -> None:
    #  eu-west-1 fails, and a tenth of the requests of haiku in all other regions
    region, model = failing(NOW_S - 60, region="eu-west-1"), failing(0, share=0.1, model="haiku")
    events = traffic(3, 20, NOW_S - 600, NOW_S, lambda one: model(one) | region(one))
    facts = facts_of(configured(), events)
    assert [row.state for row in facts.models] == ["breached"] * 3
    assert all("availability" in row.missed for row in facts.models)
    note = "Availability without region eu-west-1: 1 missed, 2 met."
    assert (facts.models_note, facts.regions_note) == (note, "")


def test_several_regions_that_fail_are_named_as_a_list(configured: Callable[..., Any]) -> None:
    def change(one: dict[str, Any]) -> dict[str, str]:
        is_down = one["region"] != "ap-south-1" and one["ended_at"] >= (NOW_S - 60) * 1_000
        return {"outcome": "server_error"} if is_down else {}

    facts = facts_of(configured(), traffic(3, 20, NOW_S - 600, NOW_S, change))
    first, second = (name for _, name in facts.incidents[0].where)
    assert facts.models_note == f"Availability without regions {first} and {second}: 3 met."


def test_what_fails_now_is_before_what_recovers(configured: Callable[..., Any]) -> None:
    #  eu-west-1  x x x x x x x . . .      of all its requests
    #  haiku      . . . . . . . . x x
    region = failing(NOW_S - 60, region="eu-west-1")
    model = failing(NOW_S - 15, share=0.5, model="haiku")

    def change(one: dict[str, Any]) -> dict[str, str]:
        before: dict[str, str] = region(one) if one["ended_at"] < (NOW_S - 20) * 1_000 else {}
        return before or model(one)

    facts = facts_of(configured(), traffic(4, 60, NOW_S - 600, NOW_S, change))
    first, second = (one.words for one in facts.incidents if one.key.startswith("failures"))
    assert first.startswith("Model haiku: ")
    assert second.startswith("Region eu-west-1 recovers: ")
    assert facts.headline.startswith(first)


@pytest.mark.parametrize("seed", range(3))
def test_a_rate_that_does_not_change_never_recovers(
    configured: Callable[..., Any], seed: int
) -> None:
    change = failing(NOW_S - 600, share=0.04)
    facts = facts_of(configured(), traffic(seed, 40, NOW_S - 600, NOW_S, change))
    (incident,) = (one for one in facts.incidents if one.key.startswith("failures"))
    assert "recovers" not in incident.words


def test_a_recovery_is_said_until_the_failures_have_left_the_minute(
    configured: Callable[..., Any],
) -> None:
    #  eu-west-1: all fail | fine from here on: few failures are left, and prove less and less
    change, end_ms = failing(0, region="eu-west-1"), (NOW_S - 65) * 1_000
    events = traffic(
        4, 8, NOW_S - 600, NOW_S, lambda one: change(one) if one["ended_at"] < end_ms else {}
    )

    async def use(world: World) -> list[str]:
        said, at_s = [], NOW_S - 600
        for until_s in range(NOW_S - 60, NOW_S, 5):
            new = [one for one in events if at_s * 1_000 <= one["ended_at"] < until_s * 1_000]
            await world.writer.write(0, new, until_s)
            at_s = until_s
            said += [
                one.words.split(":")[0]
                for one in (await world.facts(until_s)).incidents
                if one.key.startswith("failures") and not one.is_over
            ]
        return said

    said = in_world(configured(), use)
    assert len(said) >= 8
    recovering = said.index("Region eu-west-1 recovers")
    assert set(said[recovering:]) == {"Region eu-west-1 recovers"}


@pytest.mark.parametrize(
    ("place", "begin"),
    [({"region": "eu-west-1"}, "Streaming in region eu-west-1: "), ({}, "Streaming: ")],
)
def test_broken_streams_of_five_seconds_are_attributed_to_streaming(
    configured: Callable[..., Any], place: dict[str, Any], begin: str
) -> None:
    change = failing(NOW_S - 5, share=0.3, outcome="stream_error", **place)
    facts = facts_of(configured(), traffic(4, 60, NOW_S - 600, NOW_S, change))
    assert facts.incidents[0].words.startswith(begin)


def test_the_last_seconds_are_left_out_if_they_are_like_the_minute(
    configured: Callable[..., Any],
) -> None:
    events = traffic(4, 20, NOW_S - 600, NOW_S, failing(0, region="eu-west-1"))
    words = facts_of(configured(), events).incidents[0].words
    assert words.startswith("Region eu-west-1: 100 % of ")
    assert "in the last 15 s" not in words


def test_failures_everywhere_blame_no_place(configured: Callable[..., Any]) -> None:
    change = failing(NOW_S - 40, share=0.3, outcome="overloaded")
    facts = facts_of(configured(), traffic(5, 20, NOW_S - 600, NOW_S, change))
    assert "(overloaded), in all" in facts.incidents[0].words
    assert facts.incidents[0].words.endswith(" in all regions and models alike.")


def test_two_outages_at_once_are_two_troubles(configured: Callable[..., Any]) -> None:
    region, model = failing(NOW_S - 40, region="eu-west-1"), failing(NOW_S - 40, model="haiku")
    events = traffic(6, 40, NOW_S - 600, NOW_S, lambda one: region(one) | model(one))
    found = [one.words for one in told(facts_of(configured(), events), "TokenpulseOutage")]
    assert len(found) == 2, found
    assert any(words.startswith("Region eu-west-1: ") for words in found), found
    assert any(words.startswith("Model haiku: ") for words in found)


def test_two_regions_down_are_one_trouble_with_two_names(configured: Callable[..., Any]) -> None:
    regions = [failing(NOW_S - 40, region=one) for one in ("eu-west-1", "ap-south-1")]
    events = traffic(8, 40, NOW_S - 600, NOW_S, lambda one: regions[0](one) | regions[1](one))
    (first,) = told(facts_of(configured(), events), "TokenpulseOutage")
    assert first.words.startswith("Regions ")
    assert "eu-west-1" in first.words
    assert "ap-south-1" in first.words


def down(**series: str) -> AlertState:
    """An outage alert that waits to fire."""
    return AlertState("TokenpulseOutage", "page", {}, series, 0.25, NOW_S - 5, None, True, 10)


@pytest.mark.parametrize(
    ("place", "series"),
    [
        ({"model": "opus", "region": "us-east-1"}, {"model": "opus", "region": "us-east-1"}),
        # The alert is about a larger place, or about a part of the place.
        ({"model": "opus", "region": "us-east-1"}, {"scope": "region", "region": "us-east-1"}),
        ({"channel": "bedrock"}, {"scope": "model", "model": "haiku"}),
        ({"region": "us-east-1"}, {"model": "opus", "region": "us-east-1"}),
        ({"region": "us-east-1"}, {"scope": "fleet"}),
    ],
)
def test_an_outage_alert_and_the_place_with_its_failures_are_one_incident(
    configured: Callable[..., Any], place: dict[str, Any], series: dict[str, str]
) -> None:
    events = traffic(3, 20, NOW_S - 600, NOW_S, failing(NOW_S - 40, **place))
    facts = facts_with(configured(), FixedRules([down(**series)]), events)
    (incident,) = (one for one in facts.incidents if one.key.startswith("failures"))
    assert incident.alert == "TokenpulseOutage"
    assert incident.notification == Notification("pending", NOW_S + 5)
    assert set(incident.where) == set(place.items())


def test_every_outage_alert_without_a_place_of_its_own_is_shown(
    configured: Callable[..., Any],
) -> None:
    events = traffic(3, 20, NOW_S - 600, NOW_S, failing(NOW_S - 40, region="eu-west-1"))
    alerts = [down(region=region) for region in ("eu-west-1", "ap-south-1", "us-east-1")]
    facts = facts_with(configured(), FixedRules(alerts), events)
    outages = told(facts, "TokenpulseOutage")
    assert [one.words.split(":")[0] for one in outages] == [
        "Region eu-west-1",
        "Region ap-south-1",
        "Region us-east-1",
    ]
    assert {one.notification.state for one in outages} == {"pending"}
