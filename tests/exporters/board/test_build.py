"""What the live board says of a state, through the real collector: numbers against the report and a
recount, and in words what is wrong, where, and how it is elsewhere."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from exporters.board.facts import Incident, LiveFacts
from exporters.board.page import tiles
from exporters.reference.customers import Customer
from streams.config.settings import Settings
from streams.events.decoder import ELIGIBLE
from streams.query.report import Question, make_report
from tests.support.checks import not_none
from tests.support.exporter_state import NOW_S, event, some_events, token_of
from tests.support.live_facts import World, in_world, the, told, traffic

MINUTE_S = 60
# The board's window at 22:13:25 is [22:08:30, 22:13:30).
FROM_S, TO_S = NOW_S - 295, NOW_S + 5


def facts_of(settings: Settings, *partitions: Any, now_s: int = NOW_S) -> LiveFacts:
    """The board of a state that holds these events, one list a partition."""

    async def use(world: World) -> LiveFacts:
        for number, events in enumerate(partitions):
            await world.writer.write(number, events, now_s)
        return await world.facts(now_s)

    return in_world(settings, use)


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


# -- numbers ---------------------------------------------------------------------------------------


def test_all_numbers_are_those_of_the_report_over_the_same_stretch(
    configured: Callable[..., Any],
) -> None:
    settings = configured()
    events = some_events(7, 3_000, NOW_S - 900, NOW_S)

    async def use(world: World) -> tuple[LiveFacts, dict[str, Any], dict[str, Any]]:
        await world.writer.write(0, events[::2])
        await world.writer.write(1, events[1::2])
        asked = Question(FROM_S, TO_S, 10, ("model",), TO_S)
        kafka = settings.kafka
        by_model = await make_report(world.client, kafka.group, kafka.topic, asked)
        asked = Question(FROM_S, TO_S, 10, ("region",), TO_S)
        by_region = await make_report(world.client, kafka.group, kafka.topic, asked)
        return await world.facts(), by_model, by_region

    facts, by_model, by_region = in_world(settings, use)
    total = by_model["total"]
    assert (facts.from_s, facts.to_s) == (FROM_S, TO_S)
    assert by_model["from"] == datetime.fromtimestamp(FROM_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert facts.requests == total["requests"] > 500
    assert facts.tokens == total["tokens"]["total"]
    assert facts.cache_hit_ratio.value == total["cache_hit_ratio"]
    assert facts.cache_hit_ratio.samples == total["tokens"]["input"]
    assert facts.availability_ratio.value == total["availability_ratio"]
    assert facts.ttft_p95_s.value == total["ttft_seconds"]["p95"]
    assert facts.ttft_p95_s.samples == total["ttft_seconds"]["count"]
    assert facts.tpot_p95_s.value == total["tpot_seconds"]["p95"]
    # Of the window 295 s are over.
    assert facts.tokens_per_s.value == pytest.approx(total["tokens"]["total"] / 295)
    for report, places in ((by_model, facts.models), (by_region, facts.regions)):
        groups = {"".join(one["key"].values()): one["total"] for one in report["groups"]}
        assert {place.name for place in places} == groups.keys()
        for place in places:
            group = groups[place.name]
            assert place.requests == group["requests"]
            assert place.availability_ratio == group["availability_ratio"]
            assert place.ttft_p95_s == group["ttft_seconds"]["p95"]
            assert place.ttft_samples == group["ttft_seconds"]["count"]
            assert place.tpot_p95_s == group["tpot_seconds"]["p95"]
            assert place.tpot_samples == group["tpot_seconds"]["count"]
            assert place.cache_hit_ratio == group["cache_hit_ratio"]


def minute_by_minute(
    events: list[dict[str, Any]], now_s: int
) -> Iterator[tuple[float | None, float | None, float | None, float | None]]:
    """Availability, cache hit ratio, tokens a second, P95 TTFT of each of the last 60 minutes."""
    last_s = int(now_s) // 60 * 60
    by_minute = defaultdict(list)
    for one in events:
        by_minute[one["ended_at"] // 60_000 * 60].append(one)
    for start_s in range(last_s - 59 * 60, last_s + 1, 60):
        mine = by_minute[start_s]
        real = [one for one in mine if not one.get("probe")]
        eligible = [one for one in mine if one["outcome"] in ELIGIBLE]
        good = [one for one in mine if one["outcome"] == "success"]
        first = sorted(one["ttft_ms"] for one in good if not one.get("probe"))
        tokens = [(one["input_tokens"], one["cached_input_tokens"]) for one in real]
        made = sum(read for read, _ in tokens) + sum(one["output_tokens"] for one in real)
        elapsed_s = min(now_s - start_s, 60)
        yield (
            len(good) / len(eligible) if eligible else None,
            sum(cached for _, cached in tokens) / sum(read for read, _ in tokens) if real else None,
            made / elapsed_s if real and elapsed_s >= 10 else None,
            first[-(-len(first) * 95 // 100) - 1] / 1_000 if first else None,
        )


@pytest.mark.parametrize("at_once", [True, False])
def test_curves_are_a_recount_minute_by_minute_however_they_came_in(
    configured: Callable[..., Any], at_once: bool
) -> None:
    # 22:13:25 | 22:12 | 22:11 | ... | 21:14   60 values; 21:58-22:00 nobody asked
    now_s = NOW_S + 20
    quiet_s = (NOW_S // 3_600 * 3_600) - 120
    events = [
        one
        for one in some_events(11, 2_500, now_s - 3_700, now_s)
        if not quiet_s <= one["ended_at"] / 1_000 < quiet_s + 120
    ]

    async def use(world: World) -> LiveFacts:
        if at_once:
            await world.writer.write(0, events[::2], now_s)
            await world.writer.write(1, events[1::2], now_s)
            return await world.facts(now_s)
        for at in range(0, len(events), 250):
            part = events[at : at + 250]
            at_s = part[-1]["ended_at"] / 1_000
            await world.writer.write(0, part[::2], at_s)
            await world.writer.write(1, part[1::2], at_s)
            await world.facts(at_s)
        return await world.facts(now_s)

    facts = in_world(configured(), use)
    recounted = list(minute_by_minute(events, now_s))
    assert [row[0] for row in recounted].count(None) == 2
    for at, number in enumerate(
        (facts.availability_ratio, facts.cache_hit_ratio, facts.tokens_per_s)
    ):
        assert number.spark == pytest.approx([row[at] for row in recounted])
    for shown, true in zip(facts.ttft_p95_s.spark, (row[3] for row in recounted), strict=True):
        assert (shown is None) == (true is None)
        if shown is not None and true is not None:
            assert true <= shown <= true * (1 + 1 / 128)
    assert len(facts.tpot_p95_s.spark) == 60


def test_a_late_event_changes_the_minute_it_belongs_to(configured: Callable[..., Any]) -> None:
    #  20 min ago  |  now: one second later, an event of 20 min ago comes
    async def use(world: World) -> tuple[LiveFacts, LiveFacts]:
        await world.writer.write(0, traffic(1, 1, NOW_S - 3_600, NOW_S))
        before = await world.facts()
        late = event(NOW_S - 1_200, outcome="server_error")
        await world.writer.write(0, [late, event(NOW_S + 1)], NOW_S + 1)
        return before, await world.facts(NOW_S + 1)

    before, after = (one.availability_ratio.spark for one in in_world(configured(), use))
    assert before[-21] == 1
    assert after[-21] == 60 / 61
    assert after[:-21] == before[:-21]


def test_nothing_counted_yet_is_no_board(configured: Callable[..., Any]) -> None:
    async def use(world: World) -> LiveFacts | None:
        return (await world.collector.collect(NOW_S)).live

    assert in_world(configured(), use) is None


# -- calm ------------------------------------------------------------------------------------------


def test_a_calm_service_says_so_with_numbers_and_nothing_else(
    configured: Callable[..., Any],
) -> None:
    facts = facts_of(configured(), traffic(1, 5, NOW_S - 3_600, NOW_S))
    assert facts.incidents == ()
    assert facts.state == "ok"
    assert facts.headline.startswith(
        "All is well: 100 % of 1,475 requests that count succeeded, P95 TTFT 23"
    )
    assert facts.headline.endswith("cache hit rate 45 %, over the last 5 minutes.")
    assert all(tile.shown in facts.headline for tile in tiles(facts) if tile.key != "tokens")
    for number in (facts.ttft_p95_s, facts.tpot_p95_s, facts.cache_hit_ratio):
        assert number.state == "ok"
    assert facts.availability_ratio.state == facts.tokens_per_s.state == "ok"
    assert (facts.ttft_p95_s.target, facts.cache_hit_ratio.target) == (0.3, 0.4)
    assert [one.state for one in facts.objectives] == ["ok"] * 5
    values = {one.objective: (one.value, one.target) for one in facts.objectives}
    assert values["uptime"] == ("100 %", "at least 99.9 %")
    assert values["tpot-p95"] == ("20.1 ms", "under 50 ms")
    assert values["cache-hit"] == ("45 %", "at least 40 %")
    assert {place.state for place in (*facts.models, *facts.regions)} == {"ok"}
    assert facts.freshness.words.startswith("Up to date: the newest request ended 0.2 s ago; 1 w")
    assert (facts.freshness.state, facts.freshness.complete) == ("ok", True)
    assert (facts.freshness.workers, facts.freshness.lag_records) == (1, 7)


def test_a_handful_of_failures_does_not_shout(configured: Callable[..., Any]) -> None:
    #  9 of 12 requests of the last minute fail: too few to say anything
    events = traffic(1, 0.2, NOW_S - 60, NOW_S, lambda one: {"outcome": "server_error"})[:9]
    events += traffic(2, 0.05, NOW_S - 60, NOW_S)
    facts = facts_of(configured(), sorted(events, key=lambda one: one["ended_at"]))
    assert told(facts, "TokenpulseOutage") == []
    assert [one.alert for one in facts.incidents] == ["TokenpulseObjectiveMissed"]


def test_silence_is_neither_well_nor_a_failure(configured: Callable[..., Any]) -> None:
    async def use(world: World) -> LiveFacts:
        await world.writer.write(0, traffic(1, 5, NOW_S - 7_300, NOW_S - 7_200))
        await world.writer.send_heartbeat(0, NOW_S, highwater=500)
        return await world.facts()

    facts = in_world(configured(), use)
    assert (facts.state, facts.incidents) == ("unknown", ())
    assert facts.headline.startswith(
        "No requests in the last 5 minutes. Up to date: no request has arrived for 2 h; 1 worker."
    )
    assert facts.availability_ratio.value is None
    assert facts.ttft_p95_s.state == facts.availability_ratio.state == "unknown"


# -- outages ---------------------------------------------------------------------------------------


def failing(
    since_s: int, share: float = 1.0, outcome: str = "server_error", **place: Any
) -> Callable[..., Any]:
    chance = random.Random(5)

    def change(one: dict[str, Any]) -> dict[str, str]:
        hit = one["ended_at"] >= since_s * 1_000 and place.items() <= one.items()
        return {"outcome": outcome} if hit and chance.random() < share else {}

    return change


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
    assert first.words == (
        f"{words}{share:.1f} % of {requests} requests failed in the last minute (server_error), "
        "100 % in the last 15 s; elsewhere 0 %."
    )
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
    assert first.words.startswith(f"Region eu-west-1: {share:.1f} % of {requests} requests failed")
    newest, _ = share_failed(events, NOW_S - 15, region="eu-west-1")
    assert f", {newest:.1f} % in the last 15 s;" in first.words
    assert (first.severity, first.alert) == ("page", "TokenpulseErrorBudgetBurn")


def test_an_outage_that_ended_says_that_it_is_over_just_now(configured: Callable[..., Any]) -> None:
    #  fine ... | 30 s of failures | 20 s fine |
    begin_s = NOW_S - 50

    def ended(one: dict[str, Any]) -> dict[str, str]:
        down = begin_s <= one["ended_at"] / 1_000 < NOW_S - 20 and one["region"] == "eu-west-1"
        return {"outcome": "server_error"} if down else {}

    facts = facts_of(configured(), traffic(4, 20, NOW_S - 600, NOW_S, ended))
    assert ", 0 % in the last 15 s; elsewhere 0 %." in facts.incidents[0].words


def test_failures_everywhere_blame_no_place(configured: Callable[..., Any]) -> None:
    change = failing(NOW_S - 40, share=0.3, outcome="overloaded")
    facts = facts_of(configured(), traffic(5, 20, NOW_S - 600, NOW_S, change))
    assert "(overloaded), 3" in facts.incidents[0].words
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


# -- levels ----------------------------------------------------------------------------------------


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


# -- promises --------------------------------------------------------------------------------------


def test_a_budget_that_burns_is_told_before_it_is_gone(configured: Callable[..., Any]) -> None:
    #  2 hours of 1,000 requests a minute would be long: 30 minutes of 20 a second, 1.9 % fail
    change = failing(0, share=0.019)
    facts = facts_of(configured(), traffic(15, 20, NOW_S - 1_800, NOW_S, change))
    words = the_budget(facts).words
    assert words.startswith("Objective uptime burns its error budget at ")
    assert "× the sustainable rate over the last hour (a page above 14.4×), and it is sp" in words
    assert the_budget(facts).severity == "page"
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
