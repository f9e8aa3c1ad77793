"""The latencies of the tier `batch` on the page: in its series, in no percentile of others."""

from collections.abc import Callable
from typing import Any

from tests.support.exporter_state import NOW_S, event, named, samples_of, value, write_state


def test_measured_latencies_of_all_tiers_but_batch_are_those_behind_the_percentiles(
    configured: Callable[..., Any],
) -> None:
    tiers = ["standard"] * 5 + ["priority"] * 3 + ["batch"] * 7
    settings = configured()
    write_state(settings, {0: [event(NOW_S, service_tier=tier) for tier in tiers]})
    samples = samples_of(settings)

    def total(name: str, *tiers: str) -> float:
        return sum(
            count
            for labels, count in named(samples, name).items()
            if ("latency", "ttft") in labels and dict(labels)["service_tier"] in tiers
        )

    for name in ("tokenpulse_latency_measured_total", "tokenpulse_latency_within_target_total"):
        assert total(name, "standard", "priority") == 8
        assert total(name, "batch") == 7
    assert value(samples, "tokenpulse_ttft_samples", scope="fleet", window="5m") == 8
    by_tier = {"scope": "service_tier", "window": "5m"}
    assert value(samples, "tokenpulse_ttft_samples", service_tier="batch", **by_tier) == 7
    assert sum(named(samples, "gen_ai_server_time_to_first_token_seconds_count").values()) == 8
