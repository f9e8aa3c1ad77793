"""Attempts, error classes, endings and tiers: what they count for, and older stored states."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.events.fields import ENDINGS, ERROR_CLASSES, OUTCOMES
from streams.state import slices
from streams.state.measures import by_customer_model, by_series, count_within, measures, whole
from streams.state.slices import Aggregate
from streams.state.tables import Table
from tests.support.aggregates import counted
from tests.support.event_samples import EVENT, NOW, raw
from tests.support.oracle import recount
from tests.support.oracle_counts import readable
from tests.support.paths import ROOT

CASE = ROOT.parent / "shared" / "cases" / "07-retries-fallback" / "own-ids.jsonl"
LOGS = st.lists(
    st.fixed_dictionaries(
        {
            "request_id": st.uuids().map(str),
            "ended_at": st.integers(NOW, NOW + 20_000),
            "model": st.sampled_from("mn"),
            "customer_id": st.sampled_from("cd"),
            "outcome": st.none() | st.sampled_from(OUTCOMES),
            "status_code": st.sampled_from([200, 401, 404, 422, 429, 503]),
            "output_tokens": st.integers(0, 9),
            "input_tokens": st.integers(0, 9),
            "ttft_ms": st.integers(1, 300),
            "duration_ms": st.integers(300, 900),
        },
        optional={
            "probe": st.booleans(),
            "stream": st.none() | st.booleans(),
            "final": st.none() | st.booleans(),
            "first_visible_token_ms": st.integers(0, 900),
            "service_tier": st.sampled_from(["standard", "priority", None]),
            "requested_service_tier": st.sampled_from(["standard", "priority", None]),
            "error_class": st.none() | st.sampled_from(ERROR_CLASSES),
            "ending": st.none() | st.sampled_from(ENDINGS),
            "served_from": st.sampled_from(["model", "response_cache"]),
        },
    ).map(lambda event: (event, NOW)),
    max_size=20,
)


def total_of(*events: dict[str, Any]) -> dict[str, Any]:
    aggregate, _, _ = counted([(event, NOW) for event in events])
    return measures(whole(aggregate))


@given(LOGS)
def test_counts_are_those_of_a_recount_and_survive_the_store(log: list[Any]) -> None:
    aggregate, series, customers = counted(log)
    found = readable(Aggregate.unpack(aggregate.pack()), series, customers)
    assert found == recount(log).everything()


def retries() -> list[dict[str, Any]]:
    """Two requests: one is answered by the third attempt at it, the other by its first."""
    failed = {"model": "claude-sonnet", "status_code": 529, "attempt_of": "req-1", "final": False}
    answered = {"status_code": 200, "ttft_ms": 500, "duration_ms": 2_500}
    return [
        {"request_id": "req-1-a", "ended_at": NOW, **failed, "duration_ms": 700},
        {"request_id": "req-1-b", "ended_at": NOW, **failed, "duration_ms": 650},
        {
            "request_id": "req-1-c",
            "ended_at": NOW,
            "model": "gpt-5",
            "attempt_of": "req-1",
            **answered,
            "input_tokens": 1_500,
            "output_tokens": 300,
        },
        {
            "request_id": "req-2",
            "ended_at": NOW,
            "model": "claude-sonnet",
            **answered,
            "input_tokens": 700,
            "output_tokens": 100,
        },
    ]


def test_a_failed_attempt_and_its_fallback_are_one_request_and_one_failure_of_the_provider() -> (
    None
):
    aggregate, series, customers = counted([(event, NOW) for event in retries()])
    total = measures(whole(aggregate))
    assert (total["requests"], total["availability_ratio"]) == (2, 1)
    assert (total["tokens"]["input"], total["tokens"]["output"]) == (2_200, 400)
    assert total["provider"]["attempts"] == 4
    models = by_series(aggregate, series, ["model"])
    provider = {name: measures(group)["provider"] for (name,), group in models.items()}
    assert provider["claude-sonnet"]["availability_ratio"] == pytest.approx(1 / 3)
    assert provider["claude-sonnet"]["attempts"] == 3
    assert provider["gpt-5"]["availability_ratio"] == 1
    ((_, customer),) = by_customer_model(aggregate, customers, ["customer"]).items()
    found = measures(customer)
    assert (found["requests"], found["provider"]["attempts"]) == (2, 4)


@pytest.mark.skipif(not CASE.exists(), reason=f"needs the recorded case {CASE}")
def test_the_recorded_fallback_with_its_attempts_named() -> None:
    events = [json.loads(line) for line in CASE.read_text().splitlines()]
    for event in events[:2]:
        event |= {"attempt_of": "req-1", "final": False}
    aggregate, series, _ = counted([(event, NOW + 10**12) for event in events])
    total = measures(whole(aggregate))
    assert (total["requests"], total["availability_ratio"]) == (2, 1)
    assert (total["tokens"]["input"], total["tokens"]["output"]) == (2_200, 400)
    groups = by_series(aggregate, series, ["model"])
    ratios = {
        name: measures(of)["provider"]["availability_ratio"] for (name,), of in groups.items()
    }
    assert ratios == {"claude-sonnet": pytest.approx(1 / 3), "gpt-5": 1}


def test_an_attempt_that_is_not_final_spends_the_provider_s_tokens() -> None:
    attempt = EVENT | {"final": False, "outcome": "stream_error", "output_tokens": 60}
    total = total_of(EVENT, attempt | {"request_id": "other"})
    assert (total["tokens"]["input"], total["tokens"]["output"]) == (1_000, 101)
    spent = total["provider"]["tokens"]
    assert (spent["input"], spent["output"], spent["total"]) == (2_000, 161, 2_161)
    assert total["known_ratio"] == {"tokens": 1, "cached_input": 1, "ttft": 1}


def test_a_probe_that_is_not_final_counts_for_the_availability_of_the_provider_only() -> None:
    probe = {"probe": True, "final": False, "outcome": "timeout", "request_id": "check"}
    total = total_of(EVENT, EVENT | probe)
    assert (total["requests"], total["availability_ratio"]) == (1, 1)
    provider = total["provider"]
    assert (provider["attempts"], provider["outcomes"]["timeout"]) == (1, 0)
    assert provider["availability_ratio"] == 0.5


def test_a_provider_has_no_part_in_answers_from_a_response_cache() -> None:
    cached = EVENT | {"request_id": "cached", "served_from": "response_cache"}
    failed = EVENT | {"request_id": "failed", "outcome": "timeout", "model": "other"}
    events = [cached, failed, cached | {"request_id": "again", "model": "other"}]
    aggregate, series, customers = counted([(event, NOW) for event in events])
    total = measures(whole(aggregate))
    assert (total["requests"], total["availability_ratio"]) == (3, pytest.approx(2 / 3))
    provider = total["provider"]
    assert (provider["attempts"], provider["outcomes"]["success"]) == (1, 0)
    assert provider["availability_ratio"] == 0
    models = {name: measures(of) for (name,), of in by_series(aggregate, series, ["model"]).items()}
    # Unknown, not 0 or 100 %: the provider of this model was never asked.
    unasked = models[str(EVENT["model"])]
    assert (unasked["availability_ratio"], unasked["provider"]["attempts"]) == (1, 0)
    assert "availability_ratio" not in unasked["provider"]
    ((_, customer),) = by_customer_model(aggregate, customers, ["customer"]).items()
    assert measures(customer)["provider"]["attempts"] == 1


def test_client_errors_are_counted_by_class_and_endings_with_their_tokens() -> None:
    refused = [
        {"request_id": f"r{status}", "ended_at": NOW, "status_code": status}
        for status in (401, 402, 403, 404, 413, 400, 422, 451, 429, 302)
    ]
    cut = EVENT | {"request_id": "cut", "ending": "cut", "output_tokens": 70}
    done = EVENT | {"request_id": "done", "ending": "complete"}
    total = total_of(*refused, cut, done)
    once = ("auth", "payment", "permission", "not_found", "too_large", "policy")
    assert total["client_errors"] == {**dict.fromkeys(once, 1), "invalid": 2}
    assert total["outcomes"]["client_error"] == 9  # a redirect has no class
    assert total["endings"] == {
        "complete": {"requests": 1, "output_tokens": 101},
        "cut": {"requests": 1, "output_tokens": 70},
    }
    assert total["outcomes"]["stream_error"] == 1


def test_a_request_that_was_served_in_another_tier_is_counted_as_changed() -> None:
    tiers = [("priority", "standard"), ("standard", "standard"), (None, "standard"), ("flex", None)]
    events = [
        EVENT | {"request_id": str(at), "requested_service_tier": asked, "service_tier": served}
        for at, (asked, served) in enumerate(tiers)
    ]
    assert total_of(*events)["tier_changed"] == 1


def test_the_first_visible_token_is_a_latency_of_its_own() -> None:
    total = total_of(EVENT | {"first_visible_token_ms": 1_250}, EVENT | {"request_id": "plain"})
    assert total["first_visible_seconds"]["count"] == 1
    assert 1.25 <= total["first_visible_seconds"]["p95"] <= 1.25 * (1 + 1 / 128)
    assert total["ttft_seconds"]["count"] == 2
    assert total["ttft_seconds"]["max"] <= 0.2505 * (1 + 1 / 128)


@pytest.mark.parametrize(("output_tokens", "fast"), [(100, 1), (99, 0)])
def test_output_speed_is_the_tokens_over_the_time_after_the_first(
    output_tokens: int, fast: int
) -> None:
    # 100 tokens in 2 s are 20 ms each; TPOT, over 99 steps, is above it.
    event = EVENT | {"output_tokens": output_tokens, "reasoning_tokens": 0}
    aggregate, _, _ = counted([(event, NOW)])
    assert count_within(whole(aggregate), "output_speed", 20_000) == fast


def as_of_schema_3(aggregate: Aggregate) -> bytes:
    """Write an aggregate as the version before did: a latency of two bits, no counters."""
    packed = msgspec.msgpack.decode(aggregate.pack())
    groups = Table.unpack(packed[1])
    groups = Table((groups.keys >> 3 << 2) | (groups.keys & 3), groups.values)
    keys = aggregate.threshold_counts.keys
    latency, limit_us = (keys >> 37) & 7, keys & ((1 << 37) - 1)
    within = Table(
        (keys >> 40 << 40) | (latency << 38) | limit_us, aggregate.threshold_counts.values
    )
    series = Table(aggregate.series.keys, aggregate.series.values[:, :31])
    return msgspec.msgpack.encode(
        [series.pack(), groups.pack(), packed[2], within.pack(), *packed[4:6]]
    )


def test_a_slice_of_the_schema_before_is_read_with_its_latencies_and_thresholds() -> None:
    log = [
        (EVENT | {"request_id": f"r{at}", "model": f"m{at}", "ttft_ms": 200 + 30 * at}, NOW)
        for at in range(9)
    ]
    aggregate, series, customers = counted(log)
    kept = (aggregate.threshold_counts.keys >> 37) & 7 < 3
    table = aggregate.threshold_counts
    before = replace(aggregate, threshold_counts=Table(table.keys[kept], table.values[kept]))
    read = Aggregate.unpack(as_of_schema_3(before))
    assert len(read.threshold_counts) > 9
    assert readable(read, series, customers) == readable(before, series, customers)
    assert slices.unpack_histograms(as_of_schema_3(before)) == slices.unpack_histograms(
        before.pack()
    )


def test_columns_that_were_stored_survive_one_that_is_appended() -> None:
    aggregate, _, _ = counted([(json.loads(raw()), NOW)])
    narrow = Table(aggregate.series.keys, aggregate.series.values[:, :-1])
    packed = msgspec.msgpack.decode(aggregate.pack())
    read = Aggregate.unpack(msgspec.msgpack.encode([narrow.pack(), *packed[1:]]))
    assert np.array_equal(read.series.values, aggregate.series.values)
    assert read.series.values[0, slices.KNOWN_AT] == 1
