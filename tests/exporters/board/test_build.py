"""The facts of the live board: its numbers, and what it reports while all is well."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from exporters.board.facts import LiveFacts
from exporters.board.live.page import tiles
from streams.events.decoder import ELIGIBLE
from streams.query.report import Question, make_report
from tests.support.exporter_state import NOW_S, event, some_events, token_of
from tests.support.live_board import FROM_S, TO_S, facts_of
from tests.support.live_facts import World, in_world, told, traffic
from tests.support.two_clocks import right_clock

# -- who is affected -------------------------------------------------------------------------------


def test_the_customers_with_the_most_failures_of_the_last_minute_are_named(
    configured: Callable[..., Any],
) -> None:
    events = some_events(7, 3_000, NOW_S - 900, NOW_S)
    failed = Counter(
        token_of(one["customer_id"])
        for one in events
        if one["ended_at"] >= (NOW_S - 55) * 1_000
        and one["outcome"] in ELIGIBLE
        and one["outcome"] != "success"
        and not one.get("probe")
    )
    facts = facts_of(configured(), events)
    assert facts.failing_customers == len(failed) > 1
    shown = [(one.customer, one.failed) for one in facts.worst_customers]
    assert dict(shown).items() <= failed.items()
    assert [count for _, count in shown] == sorted(failed.values(), reverse=True)[:3]


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
        return (await world.collector.collect(right_clock(NOW_S))).live

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
    # The list beside it has the age, the workers and the records: they are told once.
    assert facts.freshness.words == "Up to date."
    assert facts.freshness.newest_event_age_s == pytest.approx(0.2)
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
