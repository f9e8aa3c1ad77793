"""A model or region that becomes slow is named within a minute, though the fleet is not slow."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from exporters.board.facts import Incident, LiveFacts
from tests.support.exporter_state import NOW_S
from tests.support.live_board import facts_of
from tests.support.live_facts import traffic

Change = Callable[[dict[str, Any]], dict[str, Any]]


def slow(since_s: int, place: dict[str, str], times: float = 6) -> Change:
    def change(one: dict[str, Any]) -> dict[str, Any]:
        hit = one["ended_at"] >= since_s * 1_000 and place.items() <= one.items()
        ttft_ms = one["ttft_ms"] * (times if hit else 1)
        return {"ttft_ms": ttft_ms, "duration_ms": ttft_ms + 2_000}

    return change


def slow_ones(facts: LiveFacts) -> list[Incident]:
    return [one for one in facts.incidents if one.key.startswith("slow")]


@pytest.mark.parametrize(
    ("place", "begin"),
    [
        ({"model": "haiku"}, "Model haiku: P95 TTFT is "),
        ({"region": "eu-west-1"}, "Region eu-west-1: P95 TTFT is "),
        (
            {"model": "opus", "region": "us-east-1"},
            "Model opus in region us-east-1: P95 TTFT is ",
        ),
    ],
)
def test_a_place_that_is_slow_for_twenty_seconds_is_named_with_its_p95(
    configured: Callable[..., Any], place: dict[str, str], begin: str
) -> None:
    events = traffic(3, 30, NOW_S - 900, NOW_S, slow(NOW_S - 20, place))
    facts = facts_of(configured(), events)
    (incident,) = slow_ones(facts)
    assert incident.words.startswith(begin)
    assert ", target under 300 ms; elsewhere 2" in incident.words
    last = [
        one["ttft_ms"]
        for one in events
        if one["ended_at"] >= (NOW_S - 55) * 1_000 and place.items() <= one.items()
    ]
    said = float(incident.words.removeprefix(begin).split(" s ")[0])
    p95_ms = np.percentile(last, 95, method="inverted_cdf")
    assert said == pytest.approx(p95_ms / 1_000, rel=0.02)
    assert (incident.severity, incident.alert) == ("ticket", "TokenpulseTtftHigh")
    assert facts.state in ("at_risk", "breached")
    for dimension, rows in (("model", facts.models), ("region", facts.regions)):
        if place.keys() == {dimension}:
            assert rows[0].name == place[dimension]


def test_a_place_that_is_always_slow_is_none(configured: Callable[..., Any]) -> None:
    events = traffic(3, 30, NOW_S - 900, NOW_S, slow(0, {"model": "haiku"}, times=2.5))
    assert slow_ones(facts_of(configured(), events)) == []


def test_a_model_that_is_always_slow_hides_no_other(configured: Callable[..., Any]) -> None:
    always, new = slow(0, {"model": "haiku"}, 2.5), slow(NOW_S - 20, {"model": "opus"})
    both = traffic(
        3, 30, NOW_S - 900, NOW_S, lambda one: (new if one["model"] == "opus" else always)(one)
    )
    (incident,) = slow_ones(facts_of(configured(), both))
    assert incident.words.startswith("Model opus: P95 TTFT is ")


def test_two_slow_places_are_compared_with_the_rest(configured: Callable[..., Any]) -> None:
    first = slow(NOW_S - 20, {"model": "haiku"}, 20)
    second = slow(NOW_S - 20, {"model": "opus", "region": "us-east-1"}, 4)

    def change(one: dict[str, Any]) -> dict[str, Any]:
        return (first if one["model"] == "haiku" else second)(one)

    incidents = slow_ones(facts_of(configured(), traffic(3, 30, NOW_S - 900, NOW_S, change)))
    assert len(incidents) == 2
    assert all("; elsewhere 2" in one.words and "ms." in one.words for one in incidents)


def test_a_fleet_that_is_slow_everywhere_blames_no_place(configured: Callable[..., Any]) -> None:
    events = traffic(3, 30, NOW_S - 900, NOW_S, slow(NOW_S - 30, {}))
    assert slow_ones(facts_of(configured(), events)) == []


def test_a_slowness_that_the_alert_of_the_fleet_places_is_named_once(
    configured: Callable[..., Any],
) -> None:
    events = traffic(3, 30, NOW_S - 900, NOW_S, slow(NOW_S - 200, {"model": "haiku"}))
    facts = facts_of(configured(), events)
    assert [one.alert for one in facts.incidents].count("TokenpulseTtftHigh") == 1
    assert slow_ones(facts) == []
