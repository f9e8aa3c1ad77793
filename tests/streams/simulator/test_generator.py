"""Simulated traffic: the same again from the same seed, and calm days that meet the targets."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.events.decoder import EventLimits, decode
from streams.simulator.generator import SimulatedRecord, Timeline, Traffic
from streams.simulator.profile import Profile
from streams.simulator.traffic import Population

DAY_MS = 86_400_000
WEDNESDAY = 1_773_187_200_000  # 2026-03-11T00:00:00Z
NOON = WEDNESDAY + 12 * 3_600_000
RULES = EventLimits(max_event_bytes=262_144, future_tolerance_ms=0, horizon_ms=2 * DAY_MS)


def events_of(records: Iterator[Any] | list[SimulatedRecord]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(record.value) for record in records]


def refusals_of(records: list[SimulatedRecord]) -> list[Any]:
    sent = np.array([record.send_at_ms for record in records], np.int64)
    return decode([record.value for record in records], sent, None, RULES).rejections


def nearest_rank(values: list[float], share: int) -> float:
    return sorted(values)[-(-len(values) * share // 100) - 1]


@cache
def calm_half_hour(seed: int) -> list[SimulatedRecord]:
    traffic = Traffic(Profile.default(events_per_s=25), seed)
    return list(traffic.records(NOON, NOON + 1_800_000))


# Records that come late and twice reach over many slots, so cutting is hardest with them.
STORM = (
    Timeline()
    .with_scenario("late", NOON + 10_000, 30, share=0.3, min_delay="5s", max_delay="45s")
    .with_scenario("duplicates", NOON + 20_000, 40, share=0.3, after="15s")
    .with_scenario("malformed", NOON, 60, share=0.1)
    .with_scenario("flood", NOON + 30_000, 9, {"customer_id": "acct-0003"}, extra_ratio=2.0)
)
SPAN_MS = 100_000


@cache
def storm_in_one_go(events_per_s: int) -> list[SimulatedRecord]:
    traffic = Traffic(Profile.default(events_per_s), 5, STORM)
    return list(traffic.records(NOON, NOON + SPAN_MS))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    def drawn(seed: int) -> list[SimulatedRecord]:
        return list(Traffic(Profile.default(20), seed).records(NOON, NOON + 60_000))

    assert drawn(3) == drawn(3)
    assert not {record.key for record in drawn(3)} & {record.key for record in drawn(4)}


@pytest.mark.parametrize("events_per_s", [20, 300, 1_001])  # slots of 60, 10 and 1 seconds
def test_consecutive_ranges_give_what_one_large_range_gives(events_per_s: int) -> None:
    #  0 ........................................ 100 s
    #  |----|-|--------------|--|----------------|
    whole = storm_in_one_go(events_per_s)
    traffic = Traffic(Profile.default(events_per_s), 5, STORM)
    edges = [NOON, NOON + 7_001, NOON + 7_002, NOON + 61_500, NOON + 90_000, NOON + SPAN_MS]
    pieces = [record for start, end in pairwise(edges) for record in traffic.records(start, end)]
    assert pieces == whole


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, SPAN_MS), min_size=4, max_size=4))
def test_any_range_alone_and_in_any_order_is_that_part_of_the_whole(offsets: list[int]) -> None:
    whole = storm_in_one_go(20)
    traffic = Traffic(Profile.default(20), 5, STORM)
    for first, second in pairwise(offsets):
        start, end = NOON + min(first, second), NOON + max(first, second)
        part = [record for record in whole if start <= record.send_at_ms < end]
        assert list(traffic.records(start, end)) == part


def test_records_come_in_the_order_of_sending_and_none_is_sent_before_its_end() -> None:
    records = storm_in_one_go(300)
    sent = [record.send_at_ms for record in records]
    assert sent == sorted(sent)
    assert sent[0] >= NOON
    assert sent[-1] < NOON + SPAN_MS
    assert all(record.ended_at_ms <= record.send_at_ms for record in records)


def test_every_calm_record_keeps_the_contract_and_is_keyed_by_its_own_request_id() -> None:
    records = calm_half_hour(1)
    assert refusals_of(records) == []
    for record, event in zip(records, events_of(records), strict=True):
        assert record.key.decode() == event["request_id"]
        assert record.ended_at_ms == event["ended_at"]
    assert len({record.key for record in records}) == len(records)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_calm_day_meets_the_default_targets(seed: int) -> None:
    asked = [event for event in events_of(calm_half_hour(seed)) if not event.get("probe")]
    good = [event for event in asked if event["outcome"] == "success"]
    streamed = [event for event in good if event["stream"]]
    ttft = [event["ttft_ms"] for event in streamed]
    tpot = [
        (event["duration_ms"] - event["ttft_ms"]) / (event["output_tokens"] - 1)
        for event in streamed
        if event["output_tokens"] > 1
    ]
    assert 200 < nearest_rank(ttft, 95) < 280
    assert 25 < nearest_rank(tpot, 95) < 45
    cached = sum(event["cached_input_tokens"] for event in good)
    assert 0.45 < cached / sum(event["input_tokens"] for event in good) < 0.55
    eligible = {"success", "server_error", "timeout", "overloaded", "stream_error"}
    assert len(good) / sum(event["outcome"] in eligible for event in asked) > 0.999


def test_outcomes_and_streaming_occur_as_often_as_the_profile_says() -> None:
    events = [
        event
        for seed in (1, 2, 3)
        for event in events_of(calm_half_hour(seed))
        if not event.get("probe")
    ]
    seen = Counter(event["outcome"] for event in events)
    for outcome, ratio in Profile.default().failures:
        expected = ratio * len(events)
        assert abs(seen[outcome] - expected) < 5 * expected**0.5 + 1, outcome
    assert 0.83 < sum(event["stream"] for event in events) / len(events) < 0.87


def test_what_a_request_carries_follows_from_how_it_ended() -> None:
    profile = replace(
        Profile.default(60), failures=tuple((name, 0.1) for name, _ in Profile.default().failures)
    )
    for event in events_of(Traffic(profile, 1).records(NOON, NOON + 300_000)):
        reached = event["outcome"] not in {
            "server_error",
            "overloaded",
            "rate_limited",
            "client_error",
        }
        assert ("input_tokens" in event) == reached
        assert ("output_tokens" in event) == reached
        first_token_seen = reached and event["outcome"] != "timeout" and event["stream"]
        assert ("ttft_ms" in event) == first_token_seen
        if event["outcome"] == "stream_error":
            assert event["stream"]
        if event["outcome"] == "timeout":
            assert event["output_tokens"] == 0
        written = event.get("cache_write_tokens", 0) + event.get("cached_input_tokens", 0)
        assert written <= event.get("input_tokens", 0)
        assert event.get("reasoning_tokens", 0) <= event.get("output_tokens", 0)


def test_the_weekly_mean_is_the_rate_asked_for_and_the_day_has_its_rhythm() -> None:
    hour_ms = DAY_MS // 24
    population = Population(Profile.default(events_per_s=3))
    week = [
        population.expected(start, start + hour_ms)
        for start in range(WEDNESDAY, WEDNESDAY + 7 * DAY_MS, hour_ms)
    ]
    assert sum(week) == pytest.approx(3 * 7 * 86_400)
    wednesday, sunday = week[:24], week[4 * 24 : 5 * 24]
    assert max(wednesday) > 1.4 * min(wednesday)
    assert wednesday.index(max(wednesday)) in range(15, 22)  # afternoon in the Americas
    assert 0.6 < sum(sunday) / sum(wednesday) < 0.8


def test_over_a_day_as_many_requests_are_sent_as_the_rhythm_says() -> None:
    profile = Profile.default(events_per_s=1)
    population = Population(profile)
    records = Traffic(profile, 9).records(WEDNESDAY, WEDNESDAY + DAY_MS)
    asked = [record.ended_at_ms for record in records if b'"probe"' not in record.value]
    for quarter in range(4):
        start = WEDNESDAY + quarter * DAY_MS // 4
        end = start + DAY_MS // 4
        expected = sum(
            population.expected(minute, minute + 60_000) for minute in range(start, end, 60_000)
        )
        sent = sum(start <= ended_at_ms < end for ended_at_ms in asked)
        assert abs(sent - expected) < 4 * expected**0.5


def test_customers_have_a_long_tail_and_each_its_own_way_with_the_cache() -> None:
    events = [event for event in events_of(calm_half_hour(2)) if "customer_id" in event]
    asked = Counter(event["customer_id"] for event in events)
    assert len(asked) > 380
    top_ten = sum(count for _, count in asked.most_common(10))
    assert 0.25 < top_ten / len(events) < 0.45
    ratios = {}
    for customer, _ in asked.most_common(10):
        own = [event for event in events if event["customer_id"] == customer]
        tokens = sum(event.get("input_tokens", 0) for event in own)
        ratios[customer] = sum(event.get("cached_input_tokens", 0) for event in own) / tokens
    assert sum(0.7 <= ratio <= 0.9 for ratio in ratios.values()) >= 4
    assert sum(ratio == 0 for ratio in ratios.values()) == 3


def test_models_differ_in_their_time_per_token_and_only_some_reason() -> None:
    events = [event for event in events_of(calm_half_hour(3)) if not event.get("probe")]
    by_model: dict[str, list[float]] = {}
    for event in events:
        if event["outcome"] == "success" and "ttft_ms" in event and event["output_tokens"] > 1:
            tpot_ms = (event["duration_ms"] - event["ttft_ms"]) / (event["output_tokens"] - 1)
            by_model.setdefault(event["model"], []).append(tpot_ms)
    medians = {model: nearest_rank(values, 50) for model, values in by_model.items()}
    assert len(medians) == 6
    assert all(10 < median < 40 for median in medians.values())
    assert medians["aurora-4-large"] > 2.5 * medians["aurora-4-small"]
    thinking = {event["model"] for event in events if event.get("reasoning_tokens")}
    assert thinking == {"aurora-4-reasoning"}


def test_a_probe_checks_every_model_in_every_region_every_thirty_seconds() -> None:
    probes = [event for event in events_of(calm_half_hour(1)) if event.get("probe")]
    assert all("customer_id" not in probe for probe in probes)
    ends: dict[tuple[str, str], list[int]] = {}
    for probe in probes:
        ends.setdefault((probe["model"], probe["region"]), []).append(probe["ended_at"])
    assert len(ends) == 6 * 4
    for times in ends.values():
        # Sorted: two near the same instant may be overtaken on their way.
        assert {later - earlier for earlier, later in pairwise(sorted(times))} == {30_000}


def test_probes_keep_their_interval_whatever_the_length_of_a_slot() -> None:
    profile = replace(Profile.default(1_001), probe_interval_s=7)  # slots of one second
    traffic = Traffic(profile, 1)
    probes = [
        event for event in events_of(traffic.records(NOON, NOON + 14_600)) if event.get("probe")
    ]
    in_two_turns = [probe for probe in probes if probe["ended_at"] < NOON + 14_000]
    assert Counter(Counter(p["model"] + p["region"] for p in in_two_turns).values()) == {2: 24}


def test_there_is_no_traffic_before_the_epoch_and_none_in_an_empty_range() -> None:
    traffic = Traffic(Profile.default(20), 1)
    assert list(traffic.records(-5_000, 0)) == []
    assert list(traffic.records(NOON, NOON)) == []
    assert list(traffic.records(NOON + 1, NOON)) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"events_per_s": 0}, "events_per_s: got 0; write a number above 0"),
        ({"events_per_s": float("nan")}, "events_per_s: got nan; write a number above 0"),
        ({"customers": 0}, "customers: got 0; write a number above 0"),
        ({"probe_interval_s": 0.2}, "probe_interval_s: got 0.2; write 1 or more"),
        ({"regions": ()}, "regions: got none; name at least one"),
        ({"failures": (("oops", 0.1),)}, "failures: got oops; use server_error, timeout,"),
        ({"failures": (("timeout", 1.1),)}, "failures: got ratios below 0 or above 1 in sum"),
    ],
)
def test_a_profile_that_makes_no_traffic_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=r"; ") as refused:
        replace(Profile.default(), **change)
    assert str(refused.value).startswith(problem)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed: got -1; use 0 or a positive whole number"):
        Traffic(Profile.default(), -1)
