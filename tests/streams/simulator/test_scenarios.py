"""Scenarios: each moves its own measure, in its time and filter, and no other."""

from collections import Counter
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest

from streams.events.columns import Rejection
from streams.events.decoder import EventLimits, decode
from streams.simulator.generator import (
    MALFORMATIONS,
    SimulatedRecord,
    Timeline,
    Traffic,
)
from tests.support.scenario_traffic import END, NOON, PROFILE, RATE, START

SPAN_MS = 600_000
RULES = EventLimits(max_event_bytes=262_144, future_tolerance_ms=0, horizon_ms=86_400_000)


def records_under(timeline: Timeline) -> list[SimulatedRecord]:
    return list(Traffic(PROFILE, 11, timeline).records(NOON, NOON + SPAN_MS))


@cache
def calm_records() -> list[SimulatedRecord]:
    return records_under(Timeline())


@cache
def calm_events() -> dict[bytes, dict[str, Any]]:
    return {record.key: msgspec.json.decode(record.value) for record in calm_records()}


def under(
    kind: str, where: dict[str, str] | None = None, **parameters: Any
) -> list[SimulatedRecord]:
    """Records of ten minutes with one scenario in the fourth to sixth."""
    return records_under(Timeline().with_scenario(kind, START, 180, where, **parameters))


def events_by_key(records: list[SimulatedRecord]) -> dict[bytes, dict[str, Any]]:
    return {record.key: msgspec.json.decode(record.value) for record in records}


def matches(event: dict[str, Any], where: dict[str, str]) -> bool:
    named = all(event.get(field) == name for field, name in where.items())
    return named and START <= event["ended_at"] < END


def differing(calm: dict[str, Any], event: dict[str, Any]) -> set[str]:
    return {field for field in calm.keys() | event.keys() if calm.get(field) != event.get(field)}


TOKENS = {
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
}
REFUSAL = TOKENS | {"outcome", "ttft_ms", "duration_ms"}


@pytest.mark.parametrize(
    ("kind", "where", "parameters", "measures"),
    [
        ("outage", {"region": "eu-west-1"}, {}, REFUSAL),
        ("latency", {"model": "aurora-4-small"}, {}, {"ttft_ms", "duration_ms"}),
        ("latency", {"model": "aurora-4-code"}, {"tpot_factor": 2.0}, {"ttft_ms", "duration_ms"}),
        ("cache_failure", {}, {}, {"cached_input_tokens", "cache_write_tokens"}),
        ("unreported_cache", {}, {}, {"cached_input_tokens", "cache_write_tokens"}),
        (
            "stream_errors",
            {"channel": "bedrock"},
            {},
            {"outcome", "output_tokens", "reasoning_tokens", "duration_ms"},
        ),
        ("overload", {"service_tier": "standard", "region": "us-east-1"}, {}, REFUSAL),
        ("outage", {"customer_id": "acct-0001"}, {"error_share": 0.5}, REFUSAL),
    ],
)
def test_a_scenario_moves_its_measures_within_filter_and_time_and_nothing_outside(
    kind: str, where: dict[str, str], parameters: dict[str, float], measures: set[str]
) -> None:
    records = under(kind, where, **parameters)
    assert [record.key for record in records] == [record.key for record in calm_records()]
    moved = set()
    for calm, record in zip(calm_records(), records, strict=True):
        assert (calm.ended_at_ms, calm.send_at_ms) == (record.ended_at_ms, record.send_at_ms)
        if calm.value != record.value:
            event = msgspec.json.decode(record.value)
            assert matches(event, where)
            moved |= differing(calm_events()[record.key], event)
    assert moved == measures


def test_in_a_full_outage_nothing_in_the_region_succeeds_not_even_a_probe() -> None:
    where = {"region": "us-west-2"}
    inside = [e for e in events_by_key(under("outage", where)).values() if matches(e, where)]
    assert {event["outcome"] for event in inside} == {"server_error"}
    assert any(event.get("probe") for event in inside)


def test_a_partial_outage_fails_the_share_asked_for() -> None:
    events = events_by_key(under("outage", {}, error_share=0.25)).values()
    inside = [event for event in events if matches(event, {})]
    failed = sum(event["outcome"] == "server_error" for event in inside)
    assert abs(failed / len(inside) - 0.25) < 0.02


def test_a_latency_regression_stretches_both_latencies_by_its_factors() -> None:
    events = events_by_key(under("latency", {}, ttft_factor=2.5, tpot_factor=3.0))
    looked_at = 0
    for key, event in events.items():
        calm = calm_events()[key]
        if matches(event, {}) and "ttft_ms" in event:
            looked_at += 1
            assert event["ttft_ms"] == pytest.approx(2.5 * calm["ttft_ms"], abs=0.002)
            writing_ms = calm["duration_ms"] - calm["ttft_ms"]
            now_ms = event["duration_ms"] - event["ttft_ms"]
            assert now_ms == pytest.approx(3.0 * writing_ms, abs=0.01)
    assert looked_at > 3_000


def test_latencies_stretched_beyond_a_day_stay_within_the_contract() -> None:
    timeline = Timeline()
    for _ in range(3):
        timeline = timeline.with_scenario(
            "latency", START, 180, ttft_factor=100.0, tpot_factor=100.0
        )
    assert rejections(records_under(timeline)) == []


def test_a_cache_failure_keeps_the_share_asked_for_and_writes_the_rest_again() -> None:
    events = events_by_key(under("cache_failure", {}, kept_share=0.25))
    for key, event in events.items():
        calm = calm_events()[key]
        if matches(event, {}) and "cached_input_tokens" in event:
            assert event["cached_input_tokens"] == calm["cached_input_tokens"] // 4
            for token_use in (calm, event):
                token_use.setdefault("cache_write_tokens", 0)
            before = calm["cached_input_tokens"] + calm["cache_write_tokens"]
            assert event["cached_input_tokens"] + event["cache_write_tokens"] == before


def test_an_unreported_cache_leaves_its_tokens_out_of_the_share_asked_for() -> None:
    # A cache failure in the same requests changes tokens that are not in the records.
    timeline = Timeline().with_scenario("unreported_cache", START, 180, {}, share=0.4)
    events = events_by_key(records_under(timeline.with_scenario("cache_failure", START, 180, {})))
    reporting = [
        key
        for key, calm in calm_events().items()
        if matches(calm, {}) and "cached_input_tokens" in calm
    ]
    silent = [key for key in reporting if "cached_input_tokens" not in events[key]]
    assert abs(len(silent) / len(reporting) - 0.4) < 0.02
    assert not any("cache_write_tokens" in events[key] for key in silent)


def test_stream_errors_hit_the_share_asked_for_of_streamed_successes_only() -> None:
    events = events_by_key(under("stream_errors", {}, share=0.4))
    could_break = [
        key
        for key, calm in calm_events().items()
        if matches(calm, {}) and calm["stream"] and calm["outcome"] == "success"
    ]
    broken = [key for key in could_break if events[key]["outcome"] == "stream_error"]
    assert abs(len(broken) / len(could_break) - 0.4) < 0.02
    for key in broken:
        calm, event = calm_events()[key], events[key]
        assert 1 <= event["output_tokens"] <= calm["output_tokens"]
        assert event["ttft_ms"] == calm["ttft_ms"] <= event["duration_ms"] <= calm["duration_ms"]


def test_an_overload_turns_a_share_away_and_slows_the_rest() -> None:
    events = events_by_key(under("overload", {}, share=0.3, ttft_factor=4.0))
    inside = {key: event for key, event in events.items() if matches(event, {})}
    turned_away = sum(event["outcome"] == "overloaded" for event in inside.values())
    assert abs(turned_away / len(inside) - 0.3) < 0.02
    for key, event in inside.items():
        if "ttft_ms" in event:
            expected = pytest.approx(4 * calm_events()[key]["ttft_ms"], abs=0.003)
            assert event["ttft_ms"] == expected


def test_a_flood_adds_requests_of_one_customer_and_changes_none() -> None:
    where = {"customer_id": "acct-0042", "model": "aurora-4-small"}
    records = under("flood", where, extra_ratio=0.5, rate_limited_share=0.4)
    calm_keys = calm_events().keys()
    assert [record for record in records if record.key in calm_keys] == calm_records()
    extra = [msgspec.json.decode(record.value) for record in records if record.key not in calm_keys]
    assert all(matches(event, where) for event in extra)
    expected = 0.5 * RATE * 180
    assert abs(len(extra) - expected) < 5 * expected**0.5
    limited = sum(event["outcome"] == "rate_limited" for event in extra)
    assert abs(limited / len(extra) - 0.4) < 0.04


def test_duplicates_are_the_same_bytes_sent_once_more_after_the_delay() -> None:
    where = {"region": "eu-west-1"}
    records = under("duplicates", where, share=0.5, after="20s")
    first: dict[bytes | None, SimulatedRecord] = {}
    copies = []
    for record in records:
        if first.setdefault(record.key, record) is not record:
            copies.append(record)
    assert list(first.values()) == calm_records()
    for copy in copies:
        original = first[copy.key]
        assert (copy.value, copy.ended_at_ms) == (original.value, original.ended_at_ms)
        assert copy.send_at_ms == original.send_at_ms + 20_000
        assert matches(msgspec.json.decode(copy.value), where)
    could = sum(matches(event, where) for event in calm_events().values())
    assert abs(len(copies) / could - 0.5) < 0.05


def test_late_records_are_the_same_records_sent_later() -> None:
    records = under("late", {"channel": "vertex"}, share=0.6, min_delay="1m", max_delay="3m")
    assert Counter((r.key, r.value) for r in records) == Counter(
        (r.key, r.value) for r in calm_records()
    )
    late = [record for record in records if record.send_at_ms - record.ended_at_ms > 1_000]
    for record in late:
        assert 60_000 <= record.send_at_ms - record.ended_at_ms <= 180_000
        assert matches(msgspec.json.decode(record.value), {"channel": "vertex"})
    could = sum(matches(event, {"channel": "vertex"}) for event in calm_events().values())
    assert abs(len(late) / could - 0.6) < 0.05


def rejections(records: list[SimulatedRecord]) -> list[Rejection]:
    sent = np.array([record.send_at_ms for record in records], np.int64)
    return decode([record.value for record in records], sent, None, RULES).rejections


def test_malformed_records_are_refused_and_no_other() -> None:
    records = under("malformed", {"channel": "bedrock"}, share=0.3)
    broken = {
        index
        for index, (record, calm) in enumerate(zip(records, calm_records(), strict=True))
        if record.value != calm.value
    }
    assert {rejection.position for rejection in rejections(records)} == broken
    could = [
        index
        for index, calm in enumerate(calm_records())
        if matches(calm_events()[calm.key], {"channel": "bedrock"})
    ]
    assert broken <= set(could)
    assert abs(len(broken) / len(could) - 0.3) < 0.04


# Every way in which a record can be broken, and what a decoder says about it.
REASONS = {
    "a required field is missing": "missing_field",
    "not an object": "bad_type",
    "true for a time": "bad_type",
    "text for a time": "bad_type",
    "a negative time": "out_of_range",
    "an empty request id": "out_of_range",
    "a list for a request id": "bad_type",
    "neither outcome nor status": "missing_field",
    "an unknown outcome": "out_of_range",
    "an end in the far future": "from_the_future",
    "cut off": "not_json",
    "not UTF-8": "not_json",
    "nested too deeply": "too_deep",
    "empty": "empty",
}


@pytest.mark.parametrize("way", MALFORMATIONS)
def test_each_way_to_break_a_record_breaks_one_rule_of_the_contract(way: str) -> None:
    for record in calm_records()[:300]:
        value = msgspec.json.encode(MALFORMATIONS[way](msgspec.json.decode(record.value)))
        sent = np.array([record.send_at_ms], np.int64)
        refused = decode([value], sent, None, RULES).rejections
        assert [rejection.reason for rejection in refused] == [REASONS[way]]


def test_scenarios_act_together_and_a_later_one_leaves_earlier_decisions_alone() -> None:
    outage = Timeline().with_scenario(
        "outage", START, 180, {"region": "us-east-1"}, error_share=0.5
    )
    both = outage.with_scenario("flood", START, 60, {"customer_id": "acct-0001"})
    alone = {record.key: record for record in records_under(outage)}
    together = {record.key: record for record in records_under(both)}
    # The outage also fails requests of the flood; those of calm traffic fare as before.
    assert {key: together[key] for key in alone} == alone
    assert len(together) > len(alone)


def test_two_scenarios_at_once_draw_their_lots_independently() -> None:
    twice = Timeline()
    for _ in range(2):
        twice = twice.with_scenario("outage", START, 180, error_share=0.5)
    events = events_by_key(records_under(twice)).values()
    inside = [event for event in events if matches(event, {})]
    failed = sum(event["outcome"] == "server_error" for event in inside)
    assert abs(failed / len(inside) - 0.75) < 0.03


def test_a_scenario_switched_on_later_leaves_everything_before_it_as_it_was() -> None:
    traffic = Traffic(PROFILE, 11)
    before = list(traffic.records(NOON, START + 5_000))
    switched = traffic.with_timeline(
        traffic.timeline.with_scenario("outage", START + 5_000, 60, {"region": "us-east-1"})
    )
    after = list(switched.records(START + 5_000, NOON + SPAN_MS))
    assert [record.key for record in before + after] == [record.key for record in calm_records()]
    changed = {r.key for r, calm in zip(before + after, calm_records(), strict=True) if r != calm}
    assert len(changed) > 300
    assert all(START + 5_000 <= calm_events()[key]["ended_at"] < START + 65_000 for key in changed)
