"""A model or region that becomes slow is named within a minute, though the fleet is not slow."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from exporters.board.facts import Incident, LiveFacts, Notification, Where, covers
from exporters.board.incidents.slow import explained_by_another
from tests.support.exporter_state import NOW_S
from tests.support.live_board import facts_of
from tests.support.live_facts import World, in_world, told, traffic

ALERT = "TokenpulseTtftHigh"
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


def test_a_model_hides_no_other_whose_name_begins_with_its_own(
    configured: Callable[..., Any],
) -> None:
    #  gpt-4o is slow for 200 s, so that the alert of the fleet names it; gpt-4 for 20 s
    first, second = slow(NOW_S - 200, {"model": "haiku"}), slow(NOW_S - 20, {"model": "opus"}, 20)

    def change(one: dict[str, Any]) -> dict[str, Any]:
        model = {"haiku": "gpt-4o", "opus": "gpt-4"}.get(one["model"], one["model"])
        return (first if one["model"] == "haiku" else second)(one) | {"model": model}

    facts = facts_of(configured(), traffic(3, 30, NOW_S - 900, NOW_S, change))
    (alerted,) = (
        one for one in facts.incidents if one.alert == ALERT and one.key.startswith(ALERT)
    )
    assert ": model gpt-4o has " in alerted.words
    assert alerted.where == (("model", "gpt-4o"),)
    (early,) = slow_ones(facts)
    assert early.words.startswith("Model gpt-4: P95 TTFT is ")


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_slowness_is_one_incident_from_its_early_sign_to_its_page(
    configured: Callable[..., Any], is_restarted: bool
) -> None:
    #  NOW_S  model haiku becomes slow  +20 s  early sign  ...  +100 s  the alert of the fleet
    settings = configured()
    events = traffic(3, 30, NOW_S - 900, NOW_S + 100, slow(NOW_S, {"model": "haiku"}))

    async def follow(world: World, times_s: range) -> list[Incident]:
        seen = []
        for at_s in times_s:
            new = [one for one in events if at_s - 10 <= one["ended_at"] / 1_000 < at_s]
            if at_s == times_s[0]:
                new = [one for one in events if one["ended_at"] / 1_000 < at_s]
            await world.writer.write(0, new, at_s)
            seen += told(await world.facts(at_s), ALERT)
        return seen

    times_s = range(NOW_S + 10, NOW_S + 101, 10)
    parts = [times_s[:4], times_s[4:]] if is_restarted else [times_s]
    seen = [one for part in parts for one in in_world(settings, partial(follow, times_s=part))]
    assert seen[0].words.startswith("Model haiku: P95 TTFT is ")
    assert ": model haiku has " in seen[-1].words
    assert {one.id for one in seen} == {seen[0].id}
    assert {one.since_s for one in seen} == {seen[0].since_s}
    # One peak: that of the model, as the fleet's P95 is lower.
    assert [one.peak for one in seen][-1] == max((one.peak or "" for one in seen), key=_seconds)


def _seconds(peak: str) -> float:
    value, unit = peak.removeprefix("P95 TTFT ").split()[:2]
    return float(value) / (1_000 if unit == "ms" else 1)


def test_a_slowness_that_the_alert_of_the_fleet_places_is_named_once(
    configured: Callable[..., Any],
) -> None:
    events = traffic(3, 30, NOW_S - 900, NOW_S, slow(NOW_S - 200, {"model": "haiku"}))
    facts = facts_of(configured(), events)
    assert [one.alert for one in facts.incidents].count("TokenpulseTtftHigh") == 1
    assert slow_ones(facts) == []


CELL = {"model": "opus", "region": "us-east-1"}


def with_few(change: Change) -> Change:
    """Move half of the requests of the cell elsewhere, so that it is too small for the fleet."""

    def moved(one: dict[str, Any]) -> dict[str, Any]:
        is_moved = CELL.items() <= one.items() and int(one["request_id"].split("-")[1]) % 2
        elsewhere = {"region": "eu-west-1"} if is_moved else {}
        return elsewhere | change(one | elsewhere)

    return moved


def test_an_alert_about_a_model_in_one_region_tells_the_share_in_time(
    configured: Callable[..., Any],
) -> None:
    place = CELL
    events = traffic(3, 30, NOW_S - 900, NOW_S, with_few(slow(NOW_S - 200, place)))
    facts = facts_of(configured(), events)
    assert told(facts, ALERT) == []
    (incident,) = told(facts, "TokenpulseModelSlowInRegion")
    assert incident.where == tuple(place.items())
    assert slow_ones(facts) == []
    inside = [
        one["ttft_ms"] < 300
        for one in events
        if one["ended_at"] >= (NOW_S - 295) * 1_000 and place.items() <= one.items()
    ]
    share = float(incident.words.removeprefix("Model opus in region us-east-1: ").split(" %")[0])
    assert share == pytest.approx(100 * sum(inside) / len(inside), abs=2)


def test_the_alerts_of_the_fleet_and_of_its_slow_cell_are_one_incident(
    configured: Callable[..., Any],
) -> None:
    events = traffic(3, 30, NOW_S - 900, NOW_S, slow(NOW_S - 200, CELL))
    facts = facts_of(configured(), events)
    (incident,) = (one for one in facts.incidents if one.group == "slow ttft")
    assert (incident.alert, incident.where) == (ALERT, tuple(CELL.items()))
    # Nor is the alert of the cell listed as one without words.
    assert not any("ModelSlowInRegion" in one.words for one in facts.incidents)


@pytest.mark.parametrize(
    ("fleet", "of_fleet", "of_cell", "left"),
    [
        ("model=opus region=us-east-1", "firing 1", "firing 2", "fleet"),
        ("model=opus region=us-east-1", "firing 2", "firing 1", "fleet"),
        ("model=opus region=us-east-1", "pending 3", "pending 3", "fleet"),
        ("model=opus region=us-east-1", "pending 3", "pending 2", "cell"),
        ("model=opus region=us-east-1", "pending 3", "firing 2", "cell"),
        # A wider place has more than the cell, which fires for itself until the wider one does.
        ("region=us-east-1", "firing 2", "firing 1", "fleet"),
        ("region=us-east-1", "pending 3", "firing 2", "both"),
        # Another place is another fault.
        ("model=opus region=eu-west-1", "firing 1", "firing 2", "both"),
        ("", "firing 1", "firing 2", "both"),
    ],
)
def test_of_two_alerts_about_a_slow_cell_the_one_that_pages_stays(
    fleet: str, of_fleet: str, of_cell: str, left: str
) -> None:
    def alerted(place: str, told: str, objective: str = "ttft-p95") -> Incident:
        state, _, at_s = told.partition(" ")
        return Incident(
            "page",
            place,
            None,
            where=places(place),
            notification=Notification("firing" if state == "firing" else "pending", float(at_s)),
            objective=("default", objective, ""),
        )

    wide, cell = alerted(fleet, of_fleet), alerted("model=opus region=us-east-1", of_cell)
    other = alerted("model=opus region=us-east-1", "firing 0", "tpot-p95")
    explained = list(explained_by_another([wide, other], [cell]))
    assert explained == {"fleet": [cell], "cell": [wide], "both": []}[left]


def places(words: str) -> Where:
    """Return places of `model=a region=eu`."""
    return tuple((pair.split("=")[0], pair.split("=")[1]) for pair in words.split())


@pytest.mark.parametrize("times", [1, 6])
def test_alerts_about_both_latencies_of_a_cell_are_two_incidents(
    configured: Callable[..., Any], times: float
) -> None:
    place = {"model": "opus", "region": "us-east-1"}
    slower = slow(NOW_S - 200, place, times)

    def change(one: dict[str, Any]) -> dict[str, Any]:
        #  200 tokens after the first: 10 ms each, and 100 ms each in the slow cell
        hit = one["ended_at"] >= (NOW_S - 200) * 1_000 and place.items() <= one.items()
        ttft_ms = slower(one)["ttft_ms"]
        duration_ms = ttft_ms + (20_000 if hit else 2_000)
        return {"output_tokens": 201, "ttft_ms": ttft_ms, "duration_ms": duration_ms}

    facts = facts_of(configured(), traffic(3, 30, NOW_S - 900, NOW_S, with_few(change)))
    incidents = {one.group: one for one in told(facts, "TokenpulseModelSlowInRegion")}
    assert incidents.keys() == ({"slow tpot"} if times == 1 else {"slow tpot", "slow ttft"})
    assert "have a time per output token within the target" in incidents["slow tpot"].words
    assert {one.where for one in incidents.values()} == {tuple(place.items())}
    assert len({one.key for one in incidents.values()}) == len(incidents)
    # The alerts name the cell already, so there is no early sign beside them.
    assert slow_ones(facts) == []


def test_an_alert_on_a_cell_hides_no_early_sign_of_its_whole_region(
    configured: Callable[..., Any],
) -> None:
    cell, region = slow(NOW_S - 165, CELL), slow(NOW_S - 20, {"region": "us-east-1"}, 20)

    def change(one: dict[str, Any]) -> dict[str, Any]:
        return (cell if one["model"] == "opus" else region)(one)

    facts = facts_of(configured(), traffic(3, 30, NOW_S - 900, NOW_S, with_few(change)))
    assert told(facts, "TokenpulseModelSlowInRegion")
    (early,) = slow_ones(facts)
    assert early.where == (("region", "us-east-1"),)


def test_an_alert_on_a_region_tells_of_its_cells_too(configured: Callable[..., Any]) -> None:
    #  -250 s  region us-east-1 is slow  -60 s  only opus there is  0 s
    region, cell = {"region": "us-east-1"}, {"model": "opus", "region": "us-east-1"}
    slow_region, slow_cell = slow(NOW_S - 250, region), slow(NOW_S - 250, cell)

    def change(one: dict[str, Any]) -> dict[str, Any]:
        return (slow_region if one["ended_at"] < (NOW_S - 60) * 1_000 else slow_cell)(one)

    facts = facts_of(configured(), traffic(3, 30, NOW_S - 900, NOW_S, change))
    assert told(facts, ALERT)[0].where == tuple(region.items())
    assert slow_ones(facts) == []


@pytest.mark.parametrize(
    ("place", "of", "covered"),
    [
        ("model=a region=eu", "region=eu", True),
        ("region=eu", "model=a region=eu", False),
        ("region=eu", "region=eu region=us", True),
        ("region=eu region=us", "region=eu", False),
        ("model=a region=ap", "region=eu", False),
        ("model=a", "region=eu", False),
        ("region=eu", "", False),
        ("", "region=eu", False),
    ],
)
def test_an_alert_covers_the_places_inside_its_own(place: str, of: str, covered: bool) -> None:
    assert covers(places(of), places(place)) is covered
