"""Incidents of objectives on the live board: crossed thresholds and burning error budgets."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exporters.board.facts import Incident, LiveFacts
from exporters.reference.customers import Customer
from tests.support.checks import not_none
from tests.support.exporter_state import NOW_S, token_of
from tests.support.live_board import FROM_S, facts_of
from tests.support.live_facts import World, failing, in_world, the, told, traffic


def test_slow_requests_are_told_with_the_model_that_has_most_of_them(
    configured: Callable[..., Any],
) -> None:
    def slow(one: dict[str, Any]) -> dict[str, int]:
        is_slow = one["ended_at"] >= (NOW_S - 120) * 1_000 and one["model"] == "opus"
        return {"ttft_ms": 900, "duration_ms": 2_900} if is_slow else {}

    events = traffic(9, 20, NOW_S - 600, NOW_S, slow)
    facts = facts_of(configured(), events)
    incident = the(facts, "TokenpulseTtftHigh")
    mine = [one for one in events if one["ended_at"] >= FROM_S * 1_000 and one["model"] == "opus"]
    over = 100 * sum(one["ttft_ms"] > 300 for one in mine) / len(mine)
    assert incident.words == (
        "P95 time to first token is 902 ms over the last 5 minutes, target under 300 ms: model "
        f"opus has 100 % of the slow requests, {over:.1f} % of {len(mine):,} requests there took "
        "over 300 ms; elsewhere 0 %."
    )
    assert (incident.severity, facts.ttft_p95_s.state) == ("page", "breached")
    assert facts.models[0].name == "opus"
    assert told(facts, "TokenpulseTpotHigh") == []


def test_slow_tokens_are_another_trouble_than_a_slow_start(configured: Callable[..., Any]) -> None:
    def slow(one: dict[str, Any]) -> dict[str, int]:
        return {"duration_ms": one["ttft_ms"] + 9_000} if one["region"] == "eu-west-1" else {}

    facts = facts_of(configured(), traffic(9, 10, NOW_S - 300, NOW_S, slow))
    assert "region eu-west-1" in the(facts, "TokenpulseTpotHigh").words
    assert told(facts, "TokenpulseTtftHigh") == []


def test_a_latency_that_is_over_already_is_no_trouble_now(configured: Callable[..., Any]) -> None:
    #  slow for two minutes, then a good minute: the 5 minutes still are over the level
    def slow(one: dict[str, Any]) -> dict[str, int]:
        is_slow = NOW_S - 200 <= one["ended_at"] / 1_000 < NOW_S - 70
        return {"ttft_ms": 900, "duration_ms": 2_900} if is_slow else {}

    facts = facts_of(configured(), traffic(9, 20, NOW_S - 600, NOW_S, slow))
    assert facts.incidents == ()
    assert facts.ttft_p95_s.state == "breached"


def test_a_cache_that_is_missed_is_told_with_the_region_that_misses_it(
    configured: Callable[..., Any],
) -> None:
    def cold(one: dict[str, Any]) -> dict[str, int]:
        return {"cached_input_tokens": 10} if one["region"] == "ap-south-1" else {}

    facts = facts_of(configured(), traffic(10, 5, NOW_S - 3_000, NOW_S, cold))
    incident = the(facts, "TokenpulseCacheHitLow")
    assert incident.severity == "ticket"
    assert incident.words.startswith("Cache hit ratio is 3")
    assert "target at least 40 %: region ap-south-1 reads 1 % of its input from" in incident.words
    assert incident.words.endswith("elsewhere it is 45 %.")
    assert (facts.state, facts.cache_hit_ratio.state) == ("at_risk", "at_risk")


def test_a_cache_far_too_cold_is_a_page(configured: Callable[..., Any]) -> None:
    facts = facts_of(
        configured(),
        traffic(10, 5, NOW_S - 3_000, NOW_S, lambda one: {"cached_input_tokens": 100}),
    )
    incident = the(facts, "TokenpulseCacheHitLow")
    assert (incident.severity, facts.cache_hit_ratio.state) == ("page", "breached")
    assert ":" not in incident.words  # everywhere alike


def test_traffic_that_stops_coming_from_a_region_is_told(configured: Callable[..., Any]) -> None:
    #  all regions ............. | 4 min 55 s: a tenth of one region, 5 % of all others |
    def weight(one: dict[str, Any]) -> float:
        recent = one["ended_at"] >= FROM_S * 1_000
        return 1 if not recent else 0.1 if one["region"] == "eu-west-1" else 0.0

    chance = random.Random(1)
    events = [
        one for one in traffic(12, 4, NOW_S - 3_500, NOW_S) if chance.random() < weight(one)
    ] + traffic(13, 0.05, NOW_S - 5, NOW_S)
    facts = facts_of(configured(), events)
    assert "Token volume over the last 5 minutes fell to" in (
        the(facts, "TokenpulseTokenVolumeDrop").words
    )
    # Now only one region is gone: the fleet as a whole is above the level, so nothing is told.
    assert facts.tokens_per_s.state == "breached"


def test_every_name_of_a_scope_is_judged_by_itself(
    configured: Callable[..., Any], tmp_path: Path
) -> None:
    policy = tmp_path / "models.yaml"
    policy.write_text(
        """
version: 1
name: models
objectives:
  - name: first-token
    scope: {per: model, region: [us-east-1, eu-west-1]}
    indicator: {kind: rolling_percentile, measure: ttft, percentile: 95, window: 5m}
    levels: [{severity: ticket, above: 300ms}]
  - name: caching
    scope: {per: customer}
    indicator: {kind: cache_hit_ratio, window: 5m, min_input_tokens: 1000}
    levels: [{severity: ticket, below: 40%}]
"""
    )

    def change(one: dict[str, Any]) -> dict[str, Any]:
        found = {"customer_id": "hooli", "cached_input_tokens": 100}
        is_slow = one["model"] == "opus" and one["region"] == "us-east-1"
        found = found if one["channel"] == "bedrock" else {}
        return found | ({"ttft_ms": 900, "duration_ms": 2_900} if is_slow else {})

    settings = configured(policies=[str(policy)], customer_windows=["5m"])

    async def use(world: World) -> LiveFacts:
        await world.writer.write(0, traffic(14, 20, NOW_S - 300, NOW_S, change))
        return await world.facts()

    who = {token_of("hooli"): Customer("Hooli Inc", "smb")}
    facts = in_world(settings, use, **who)
    scopes = {(one.objective, one.scope): one.state for one in facts.objectives}
    regions = "region us-east-1 and eu-west-1"
    assert scopes[("first-token", f"{regions}, model opus")] == "breached"
    assert scopes[("first-token", f"{regions}, model haiku")] == "ok"
    assert scopes[("caching", "customer Hooli Inc")] == "breached"
    assert [one.objective for one in facts.objectives[:2]] == ["caching", "first-token"]
    assert "of customer Hooli Inc is 10 %" in the(facts, "TokenpulseCacheHitLow").words
    slow = the(facts, "TokenpulseTtftHigh").words
    assert f"of {regions}, model opus is 902 ms" in slow
    assert "region us-east-1 has 100 % of the slow requests" in slow


def test_a_budget_that_burns_is_told_before_it_is_gone(configured: Callable[..., Any]) -> None:
    #  2 hours of 1,000 requests a minute would be long: 30 minutes of 20 a second, 3.5 % fail. The
    # half hour before the data counts as one without failures: 17.5 times over the hour.
    change = failing(0, share=0.035)
    facts = facts_of(configured(), traffic(15, 20, NOW_S - 1_800, NOW_S, change))
    words = the_budget(facts).words
    assert words.startswith("Objective uptime burns its error budget at ")
    assert "× the sustainable rate over the last hour (a page above 14.4×; " in words
    assert "1 h window, 30 min of data), and it is spent" in words
    assert the_budget(facts).severity == "page"
    assert told(facts, "TokenpulseObjectiveMissed") == []
    (uptime,) = [one for one in facts.objectives if one.kind == "promise"]
    assert uptime.state == "breached"
    assert not_none(uptime.budget_left_ratio) < 0
    assert dict(uptime.burn)["5m"] > 10
    assert [window for window, _ in uptime.burn][:3] == ["5m", "30m", "1h"]


def the_budget(facts: LiveFacts) -> Incident:
    (found,) = [
        one for one in told(facts, "TokenpulseErrorBudgetBurn") if "error budget" in one.words
    ]
    return found


def test_the_days_of_an_availability_promise_are_shown(configured: Callable[..., Any]) -> None:
    day_s = 86_400
    yesterday = failing(0, share=0.5)
    events = traffic(16, 0.5, NOW_S - day_s - 600, NOW_S - day_s, yesterday)
    facts = facts_of(configured(), [*events, *traffic(17, 2, NOW_S - 300, NOW_S)])
    (strip,) = facts.history
    assert (strip.objective, strip.scope, strip.target_ratio) == ("uptime", "fleet", 0.999)
    assert len(strip.days) == 30
    assert [day.state for day in strip.days] == ["unknown"] * 28 + ["breached", "ok"]
    assert [day.running for day in strip.days] == [False] * 29 + [True]
    assert strip.days[-1].date == "2023-11-14"
    good = sum(one["outcome"] == "success" for one in events)
    assert strip.days[-2].attained_ratio == good / len(events)


def test_a_contract_has_its_customers_name_in_the_table_and_in_the_history(
    configured: Callable[..., Any], tmp_path: Path
) -> None:
    policy = tmp_path / "contract.yaml"
    policy.write_text(
        """
version: 1
name: contract
objectives:
  - name: hooli-uptime
    scope: {customer: hooli}
    indicator: {kind: request_ratio}
    target: 99.5%
    period: {calendar: month, zone: UTC}
    severity: ticket
"""
    )

    async def use(world: World) -> LiveFacts:
        events = traffic(18, 5, NOW_S - 300, NOW_S, lambda one: {"customer_id": "hooli"})
        await world.writer.write(0, events)
        return await world.facts()

    who = {token_of("hooli"): Customer("Hooli Inc", "smb")}
    facts = in_world(configured(policies=[str(policy)]), use, **who)
    (objective,), (strip,) = facts.objectives, facts.history
    assert objective.scope == strip.scope == "customer Hooli Inc"
    assert objective.window == "this month"
