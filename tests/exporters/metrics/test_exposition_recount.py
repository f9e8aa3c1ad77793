"""Windows and totals of an export against a plain recount of the events."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from exporters.server.collector import Collector
from streams.events.decoder import ELIGIBLE, OUTCOMES, REASONS
from streams.store.servers.client import connect
from tests.support.checks import not_none
from tests.support.exporter_state import (
    NOW_S,
    Samples,
    StateWriter,
    event,
    named,
    number,
    parsed,
    samples_of,
    some_events,
    token_of,
    value,
    write_state,
)
from tests.support.two_clocks import right_clock

# Always summed by customer, for the live board.
BY_CUSTOMER = ("5m",)
SPANS_S = {"1m": 60, "5m": 300, "30m": 1_800, "1h": 3_600}


def nearest_rank(values: list[float], ratio: float) -> float:
    return sorted(values)[max(1, math.ceil(round(ratio * len(values), 6))) - 1]


def recount(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Plain numbers of some events."""
    real = [one for one in events if not one.get("probe")]
    eligible = [one for one in events if one["outcome"] in ELIGIBLE]
    good = [one for one in real if one["outcome"] == "success"]
    return {
        "outcomes": Counter(one["outcome"] for one in real),
        "good": sum(one["outcome"] == "success" for one in eligible),
        "eligible": len(eligible),
        "failing": len(
            {
                one["customer_id"]
                for one in real
                if one["outcome"] in ELIGIBLE and one["outcome"] != "success"
            }
        ),
        "input": sum(one["input_tokens"] for one in real),
        "cached": sum(one["cached_input_tokens"] for one in real),
        "output": sum(one["output_tokens"] for one in real),
        "ttft_s": [one["ttft_ms"] / 1_000 for one in good],
    }


def check_window(
    samples: Samples,
    scope_labels: dict[str, str],
    events: list[dict[str, Any]],
) -> None:
    said = recount(events)
    if not events:
        assert value(samples, "tokenpulse_window_input_tokens", **scope_labels) is None
        return
    for outcome in OUTCOMES:
        found = value(samples, "tokenpulse_window_requests", outcome=outcome, **scope_labels)
        assert found == said["outcomes"][outcome]
    for kind, count in (
        ("uncached_input", said["input"] - said["cached"]),
        ("cached_input", said["cached"]),
        ("output", said["output"]),
    ):
        assert value(samples, "tokenpulse_window_tokens", type=kind, **scope_labels) == count
    ratio = value(samples, "tokenpulse_cache_hit_ratio", **scope_labels)
    assert ratio == (said["cached"] / said["input"] if said["input"] else None)
    available = value(samples, "tokenpulse_availability_ratio", **scope_labels)
    assert available == (said["good"] / said["eligible"] if said["eligible"] else None)
    eligible = value(samples, "tokenpulse_window_eligible_requests", **scope_labels)
    assert eligible == said["eligible"]
    if scope_labels["scope"] == "customer":
        return
    if scope_labels["scope"] == "fleet" and scope_labels["window"] in BY_CUSTOMER:
        failing = value(samples, "tokenpulse_window_failing_customers", **scope_labels)
        assert failing == said["failing"]
    ttft_s = said["ttft_s"]
    assert value(samples, "tokenpulse_ttft_samples", **scope_labels) == len(ttft_s)
    for quantile in ("0.5", "0.9", "0.95", "0.99"):
        found = value(samples, "tokenpulse_ttft_seconds", quantile=quantile, **scope_labels)
        if ttft_s:
            truth = nearest_rank(ttft_s, float(quantile))
            assert truth <= not_none(found) <= truth * 1.01
        else:
            assert found is None
    within = value(
        samples,
        "tokenpulse_within_target_ratio",
        latency="ttft",
        target_seconds="0.3",
        **scope_labels,
    )
    assert within == (sum(one <= 0.3 for one in ttft_s) / len(ttft_s) if ttft_s else None)


SERIES = ("model", "region", "channel", "service_tier")

SCOPES_OF_WINDOW = {
    "1m": [(), ("model",), ("region",), ("channel",), ("service_tier",)],
    "5m": [(), ("model",), SERIES],
    "30m": [(), ("model",), ("customer",)],
    "1h": [(), ("region",)],
}


def check_export(
    samples: Samples,
    counted: list[dict[str, Any]],
    at_s: int,
) -> None:
    """Every group of every window, against the events counted so far."""
    for window, span_s in SPANS_S.items():
        from_s = number(samples, "tokenpulse_window_start_timestamp_seconds", window=window)
        to_s = at_s // 10 * 10 + 10
        assert to_s - span_s <= from_s < to_s - span_s + 60
        inside = [one for one in counted if from_s <= one["ended_at"] / 1_000 < to_s]
        for dimensions in SCOPES_OF_WINDOW[window]:
            scope = {(): "fleet", SERIES: "series"}.get(dimensions) or dimensions[0]
            for key in {tuple(one[dimension] for dimension in dimensions) for one in counted}:
                members = [
                    one
                    for one in inside
                    if tuple(one[dimension] for dimension in dimensions) == key
                    and not (scope == "customer" and one.get("probe"))
                ]
                labels = dict(zip(dimensions, key, strict=True))
                check_window(samples, {"scope": scope, "window": window, **labels}, members)


def test_windows_that_roll_on_equal_a_recount_at_every_export(
    configured: Callable[..., Any],
) -> None:
    # Checkpoints of a minute over 80 minutes and three partitions, of which the last is a minute
    # late; an export every ten minutes at first, then after each checkpoint.
    settings = configured(
        windows=["1m", "5m", "30m", "1h"], series_windows=["5m"], customer_windows=["30m"]
    )
    begin_s, minutes = NOW_S - 4_800, 80
    events = some_events(7, 1_600, begin_s, NOW_S)

    def arrived(partition: int, since_s: int, until_s: int) -> list[dict[str, Any]]:
        delay_s = 60 if partition == 2 else 0
        return [
            one
            for one in events[partition::3]
            if since_s <= one["ended_at"] / 1_000 + delay_s < until_s
        ]

    async def run() -> None:
        writer = StateWriter(settings)
        client = connect(settings.redis.url, 5)
        collector = Collector(settings, client, {})
        for minute in range(1, minutes + 1):
            at_s = begin_s + 60 * minute
            for partition in range(3):
                await writer.write(partition, arrived(partition, at_s - 60, at_s))
            if minute % 10 == 0 or minute > 72:
                page = (await collector.collect(right_clock(at_s))).page
                samples = parsed(page.text(openmetrics=False))
                counted = [
                    one | {"customer": token_of(one["customer_id"])}
                    for partition in range(3)
                    for one in arrived(partition, 0, at_s)
                ]
                check_export(samples, counted, at_s)
        await writer.close()
        await client.aclose()

    asyncio.run(run())


def test_totals_equal_a_recount(configured: Callable[..., Any]) -> None:
    settings = configured()
    events = some_events(5, 600, NOW_S - 3_600, NOW_S)
    junk = [b"x", b"", b"[]", event(NOW_S, outcome=None), event(-1)]
    write_state(settings, {0: events[:300], 1: [*events[300:], *junk]})
    samples = samples_of(settings)
    real = [one for one in events if not one.get("probe")]
    for model in ("opus", "sonnet", "haiku"):
        mine = [one for one in real if one["model"] == model and one["region"] == "eu-west-1"]
        key = (model, "eu-west-1", "direct", "standard")
        labels = dict(zip(SERIES, key, strict=True))
        for outcome in OUTCOMES:
            expected = sum(one["outcome"] == outcome for one in mine)
            name = "tokenpulse_requests_total"
            assert value(samples, name, outcome=outcome, **labels) == expected
        reasoning = sum(one["reasoning_tokens"] for one in mine)
        assert value(samples, "tokenpulse_reasoning_tokens_total", **labels) == reasoning
        good = [one["ttft_ms"] for one in mine if one["outcome"] == "success"]
        measured = "tokenpulse_latency_measured_total"
        assert value(samples, measured, latency="ttft", **labels) == len(good)
        within = "tokenpulse_latency_within_target_total"
        assert value(samples, within, latency="ttft", target_seconds="0.3", **labels) == sum(
            one <= 300 for one in good
        )
    all_tokens = sum(named(samples, "tokenpulse_tokens_total").values())
    assert all_tokens == sum(one["input_tokens"] + one["output_tokens"] for one in real)
    probes = sum(named(samples, "tokenpulse_probes_total").values())
    assert probes == len(events) - len(real)
    assert value(samples, "tokenpulse_counted_total") == len(events)
    refused = named(samples, "tokenpulse_refused_total")
    assert len(refused) == len(REASONS)  # those that never occurred stand at 0
    assert sum(refused.values()) == len(junk)
    assert sum(named(samples, "tokenpulse_folded_total").values()) == 0


def test_a_series_without_measurements_has_zeros_and_without_probes_no_probes(
    configured: Callable[..., Any],
) -> None:
    settings = configured()
    write_state(
        settings,
        {
            0: [
                event(NOW_S, model="working"),
                event(NOW_S, model="working", probe=True),
                event(NOW_S, model="failing", outcome="timeout"),
            ]
        },
    )
    samples = samples_of(settings)

    def by_model(name: str) -> dict[str, float]:
        return {
            dict(labels).get("model") or dict(labels)["gen_ai_request_model"]: one
            for labels, one in named(samples, name).items()
            if ("latency", "ttft") in labels or "latency" not in dict(labels)
        }

    assert by_model("tokenpulse_latency_measured_total") == {"failing": 0, "working": 1}
    assert by_model("tokenpulse_latency_within_target_total") == {"failing": 0, "working": 1}
    assert by_model("gen_ai_server_time_to_first_token_seconds_count") == {
        "failing": 0,
        "working": 1,
    }
    assert by_model("tokenpulse_probes_total").keys() == {"working"}


def test_histograms_count_at_or_under_every_edge(configured: Callable[..., Any]) -> None:
    settings = configured(provider_name="acme", operation_name="chat")
    events = some_events(9, 500, NOW_S - 600, NOW_S)
    write_state(settings, {0: events[::2], 1: events[1::2]})
    samples = samples_of(settings)
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "acme",
        "gen_ai_request_model": "opus",
        "region": "us-east-1",
    }
    ttft_s = [
        one["ttft_ms"] / 1_000
        for one in events
        if (one["model"], one["region"]) == ("opus", "us-east-1")
        and one["outcome"] == "success"
        and not one.get("probe")
    ]
    name = "gen_ai_server_time_to_first_token_seconds"
    edges = [dict(found)["le"] for found in named(samples, name + "_bucket")]
    assert {"0.25", "0.5", "0.3", "0.27", "10.0", "+Inf"} <= set(edges)
    for edge in set(edges):
        count = value(samples, name + "_bucket", le=edge, **labels)
        assert count == sum(one <= float(edge) for one in ttft_s), edge
    assert value(samples, name + "_count", **labels) == len(ttft_s)
    assert value(samples, name + "_sum", **labels) == pytest.approx(sum(ttft_s), abs=1e-3)
    # The histogram of the fleet is their sum.
    fleet = "tokenpulse_latency_seconds"
    for edge in set(edges):
        parts = [
            at for found, at in named(samples, name + "_bucket").items() if ("le", edge) in found
        ]
        assert len(parts) > 1
        assert value(samples, fleet + "_bucket", latency="ttft", le=edge) == sum(parts), edge
    assert value(samples, fleet + "_sum", latency="ttft") == pytest.approx(
        sum(named(samples, name + "_sum").values()), abs=1e-6
    )
    assert not any("_created" in found for found, _ in samples)
